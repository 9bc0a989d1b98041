//! How the configuration's words become questions to the world outside: who tells the public address, and who looks
//! at this machine. What the answers are worth is decided in `hearth_netsvc`.

mod ask;
mod front;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use hearth_http_client::{Client, ClientOptions, InvalidPem};
use hearth_netsvc::{
    address::{
        AddressError, AddressOptions, AddressSource, DnsWhoami, ExternalAddress, Family, HttpsEcho,
        Nat, StunServer,
    },
    dns::{DnsClient, DnsOptions},
};

pub use self::{
    ask::{Asker, Door, look},
    front::Front,
};
use crate::plan::network::Network;

/// Why a text is no token for a probe. Who wrote it must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token is one line of {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} letters, digits and signs, without spaces"
)]
pub struct InvalidToken;

/// Whether a probe can be told this, and nobody guesses it.
///
/// # Errors
/// [`InvalidToken`] says what it has to be.
pub fn check_token(text: &str) -> Result<(), InvalidToken> {
    let is_long = (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len());
    let is_token = is_long && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_token.then_some(()).ok_or(InvalidToken)
}

/// The public IPv4 address, by the sources of the configuration and by what the router says, and what stands between.
///
/// # Errors
/// [`AddressError`] where sources of two kinds do not agree.
///
/// # Cancel safety
/// Nothing is changed by dropping the future.
pub async fn public_v4(
    network: &Network,
    router: Option<Ipv4Addr>,
) -> Result<(Ipv4Addr, Nat), AddressError> {
    let mut options = AddressOptions::new(sources(network));
    // Some routers that have no address outside say 0.0.0.0.
    options.router = router.filter(|address| !address.is_unspecified());
    let ExternalAddress { address, nat, answers, .. } =
        ExternalAddress::find(Family::V4, &options).await?;
    match address {
        IpAddr::V4(address) => Ok((address, nat)),
        IpAddr::V6(_) => Err(AddressError::NoAnswer { answers }),
    }
}

/// Those of the configuration; where it names none, those that are known to stay, of every kind.
fn sources(network: &Network) -> Vec<Arc<dyn AddressSource>> {
    fn shared(source: impl AddressSource) -> Arc<dyn AddressSource> {
        Arc::new(source)
    }
    let stun = match &network.stun {
        Some(servers) => servers.iter().map(|server| StunServer::new(server)).collect(),
        None => StunServer::well_known(),
    };
    let mut all: Vec<_> = stun.into_iter().take(SOURCES_MAX).map(shared).collect();
    // Roots were read, and a client made of them, when the configuration was checked.
    if let Ok(client) = client(network.echo_roots.as_deref()) {
        let echoes = match &network.echo {
            Some(urls) => {
                urls.iter().filter_map(|url| HttpsEcho::new(client.clone(), url)).collect()
            }
            None => HttpsEcho::well_known(&client),
        };
        all.extend(echoes.into_iter().take(SOURCES_MAX).map(shared));
    }
    // Whoever names sources does not want others to be asked.
    if network.stun.is_none() && network.echo.is_none() {
        let dns = DnsClient::new(DnsOptions::from_system());
        all.extend(DnsWhoami::well_known(&dns).into_iter().map(shared));
    }
    all
}

/// A client that trusts these roots; `None`: the public authorities.
///
/// # Errors
/// [`InvalidPem`].
pub fn client(roots: Option<&[u8]>) -> Result<Client, InvalidPem> {
    let mut options = ClientOptions::default();
    options.timeouts.connect = Duration::from_secs(5);
    options.tls = match roots {
        Some(pem) => options.tls.with_root_pem(pem)?,
        None => options.tls.with_webpki_roots(),
    };
    // Neither half of the options can fail: they are what this crate was built with.
    Ok(Client::new(options).expect("roots that were parsed make a client"))
}

/// An error with what lies below it, in one line.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// More of one kind say nothing new.
const SOURCES_MAX: usize = 8;
/// Short ones could be tried out.
const TOKEN_BYTES_MIN: usize = 16;
/// It is a field of each question.
const TOKEN_BYTES_MAX: usize = 256;
