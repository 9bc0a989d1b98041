//! The side of who wants to be seen.

use std::{collections::BTreeMap, net::IpAddr, net::SocketAddr, time::Duration};

use hearth_http_client::{Client, ClientOptions, ClientRequest, ConnectTo, InvalidPem};

use super::{PATH, Sight, listen::causes, proof};
use crate::doctor::facts::Seen;

/// Asks a probe to look at this machine.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Whose certificates count.
    pub client: Client,
    /// What this machine's proofs are made with.
    pub secret: [u8; 32],
}

/// The probe did not say anything.
#[derive(Debug, thiserror::Error)]
#[error("the probe does not answer: {0}")]
pub struct AskError(String);

impl Asker {
    /// Where the probe sees this machine, and what it meets at each of these ports.
    ///
    /// # Errors
    /// [`AskError`].
    ///
    /// # Cancel safety
    /// Nothing is changed by dropping the future.
    pub async fn ask(
        &self,
        probe: &str,
        domain: &str,
        ports: &[u16],
    ) -> Result<(IpAddr, BTreeMap<u16, Seen>), AskError> {
        let nonce = nonce();
        let ports: String = ports.iter().map(|port| format!("&port={port}")).collect();
        let probe = probe.trim_end_matches('/');
        let url = format!("{probe}/?domain={domain}&nonce={nonce}{ports}");
        let failed = |error: &dyn std::error::Error| AskError(causes(error));
        let request = ClientRequest::get(&url).map_err(|error| failed(&error))?;
        let response = self.client.send(request.with_timeout(PATIENCE)).await;
        let response = response.map_err(|error| failed(&error))?;
        if response.status() != hearth_http_core::StatusCode::OK {
            return Err(AskError(format!("status {}", response.status())));
        }
        let text = response.text(SIGHT_BYTES_MAX).await.map_err(|error| failed(&error))?;
        let sight: Sight = serde_json::from_str(&text).map_err(|error| failed(&error))?;
        Ok((sight.address, self.judge(sight, &nonce)))
    }

    fn judge(&self, sight: Sight, nonce: &str) -> BTreeMap<u16, Seen> {
        let wanted = proof(&self.secret, nonce);
        let seen = sight.ports.into_iter().map(|(port, sight)| {
            let error = sight.error.unwrap_or_default();
            let seen = match sight.answer {
                Some(answer) if answer == wanted => Seen::Here,
                Some(_) => Seen::Another,
                None if sight.is_open => Seen::Unknown,
                None => Seen::Failed(clean(&error)),
            };
            (port, seen)
        });
        let mut seen: BTreeMap<_, _> = seen.collect();
        // A TLS port whose certificate the probe does not trust yet proves nothing by itself, but beside one that
        // did, at the same address, it is this machine's.
        if seen.values().any(|seen| *seen == Seen::Here) {
            let unproven = seen.values_mut().filter(|seen| **seen == Seen::Unknown);
            unproven.for_each(|seen| *seen = Seen::Here);
        }
        seen
    }

    /// Tries an address from this machine: whether the router leads its public address back inside.
    pub async fn look(&self, address: SocketAddr, domain: &str) -> Seen {
        let nonce = nonce();
        match check_directly(&self.client, address, domain, &nonce).await {
            Ok(answer) if answer == proof(&self.secret, &nonce) => Seen::Here,
            Ok(_) => Seen::Another,
            Err(error) => Seen::Failed(clean(&error)),
        }
    }
}

/// What an address answers to a nonce.
///
/// # Errors
/// Why it answers nothing.
pub async fn check_directly(
    client: &Client,
    address: SocketAddr,
    domain: &str,
    nonce: &str,
) -> Result<String, String> {
    let url = format!("http://{domain}:{}{PATH}{nonce}", address.port());
    let request = ClientRequest::get(&url).map_err(|error| causes(&error))?;
    let request = request.with_connect_to(ConnectTo::Address(address)).with_timeout(LOOK_PATIENCE);
    let response = client.send(request).await.map_err(|error| causes(&error))?;
    response.text(SIGHT_BYTES_MAX).await.map_err(|error| causes(&error))
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

fn nonce() -> String {
    let mut bytes = [0_u8; 16];
    // Without random numbers the nonce is a known one; the secret still is not.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What others wrote, fit for a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '?' } else { char }).take(200).collect()
}

/// A probe tries each port twice.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_PATIENCE: Duration = Duration::from_secs(3);
const SIGHT_BYTES_MAX: u64 = 16 * 1024;
