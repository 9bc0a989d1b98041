//! Witnesses of our address.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    time::Duration,
};

use hearth_http_client::{Client, ClientRequest, ConnectTo};

use super::stun::BindingRequest;
use crate::{
    dns::{Class, DnsClient, Name},
    portmap::udp::{self, NoAnswer, Schedule},
};

/// A kind of witness. Those of one kind count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SourceKind {
    /// A name server that answers with the address that asks.
    Dns,
    /// A web server that answers with the address that asks.
    Https,
    /// The router itself.
    Router,
    /// A STUN server.
    Stun,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Why a witness told nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It could not be asked: no such name, no way there, refused.
    #[error("it cannot be asked: {0}")]
    Failed(String),
    /// It answered, but not with an address.
    #[error("its answer is no address: {0}")]
    Nonsense(&'static str),
    /// It did not answer in time.
    #[error("it did not answer in time")]
    Timeout,
}

/// What [`AddressSource::ask`] returns.
pub type SourceFuture<'a> = Pin<Box<dyn Future<Output = Result<IpAddr, SourceError>> + Send + 'a>>;

/// A witness of our address.
pub trait AddressSource: Send + Sync + 'static {
    /// Its kind.
    fn kind(&self) -> SourceKind;
    /// Its name, for people.
    fn name(&self) -> String;
    /// Asks, over connections of this family.
    fn ask(&self, family: Family) -> SourceFuture<'_>;
}

/// A STUN server (RFC 8489), over UDP.
#[derive(Debug, Clone)]
pub struct StunServer {
    /// Host and port.
    server: String,
}

/// A web server that answers with nothing but the address that asks.
#[derive(Clone)]
pub struct HttpsEcho {
    client: Client,
    url: String,
}

/// A name server that answers with the address that asks.
#[derive(Debug, Clone)]
pub struct DnsWhoami {
    client: DnsClient,
    server: SocketAddr,
    name: Name,
    class: Class,
}

/// A witness made of a closure.
pub struct TellsAddress<F> {
    kind: SourceKind,
    name: String,
    tell: F,
}

impl StunServer {
    /// A server by host and port; 3478 where there is no port.
    #[must_use]
    pub fn new(server: &str) -> Self {
        let has_port = match server.rsplit_once(':') {
            Some((host, port)) => {
                !port.ends_with(']') && (!host.contains(':') || host.ends_with(']'))
            }
            None => false,
        };
        let server = if has_port { server.to_owned() } else { format!("{server}:3478") };
        Self { server }
    }

    /// Servers of separate operators that are known to stay.
    #[must_use]
    pub fn well_known() -> Vec<Self> {
        ["stun.cloudflare.com:3478", "stun.l.google.com:19302"].map(Self::new).into()
    }

    async fn binding(&self, family: Family) -> Result<IpAddr, SourceError> {
        let failed = |error: std::io::Error| SourceError::Failed(error.to_string());
        let mut found = tokio::net::lookup_host(&*self.server).await.map_err(failed)?;
        let server = found.find(|address| address.is_ipv4() == (family == Family::V4));
        let server =
            server.ok_or_else(|| SourceError::Failed("no address of the family".into()))?;
        let any = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let request = BindingRequest::random();
        // RFC 8489 §6.2.1 begins with 500 ms and doubles.
        let schedule =
            Schedule { first: Duration::from_millis(500), total: Duration::from_secs(10) };
        let accept = |datagram: &[u8]| request.parse_response(datagram);
        match udp::exchange(server, any, &request.encode(), schedule, accept).await {
            Ok(address) => Ok(address.ip()),
            Err(NoAnswer::Io(error)) => Err(failed(error)),
            Err(NoAnswer::Refused) => Err(SourceError::Failed("nobody listens there".into())),
            Err(NoAnswer::Timeout) => Err(SourceError::Timeout),
        }
    }
}

impl AddressSource for StunServer {
    fn kind(&self) -> SourceKind {
        SourceKind::Stun
    }

    fn name(&self) -> String {
        self.server.clone()
    }

    fn ask(&self, family: Family) -> SourceFuture<'_> {
        Box::pin(self.binding(family))
    }
}

impl HttpsEcho {
    /// A server by URL, asked by `client`, which must trust its certificate. `None` for a URL without
    /// TLS: anybody on the way could answer in its place.
    #[must_use]
    pub fn new(client: Client, url: &str) -> Option<Self> {
        let is_safe = url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"));
        is_safe.then(|| Self { client, url: url.to_owned() })
    }

    /// Servers of separate operators that are known to stay.
    #[must_use]
    pub fn well_known(client: &Client) -> Vec<Self> {
        let urls = ["https://api64.ipify.org/", "https://icanhazip.com/", "https://ident.me/"];
        urls.into_iter().filter_map(|url| Self::new(client.clone(), url)).collect()
    }

    async fn fetch(&self, family: Family) -> Result<IpAddr, SourceError> {
        let failed = |error: hearth_http_client::ClientError| {
            // The client's text names the origin only; what is below tells more.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            SourceError::Failed(
                cause.map_or(error.to_string(), |cause| format!("{error}: {cause}")),
            )
        };
        let connect_to = match family {
            Family::V4 => ConnectTo::Ipv4,
            Family::V6 => ConnectTo::Ipv6,
        };
        let request = ClientRequest::get(&self.url).map_err(failed)?;
        // Whoever stands elsewhere is another witness than the one that was chosen.
        let request = request.with_connect_to(connect_to).with_redirects_max(0);
        let response = self.client.send(request).await.map_err(failed)?;
        if response.status() != 200 {
            return Err(SourceError::Nonsense("the status is not 200"));
        }
        let text = response.text(ECHO_BYTES_MAX).await.map_err(failed)?;
        parse_echo(&text)
    }
}

/// An address and white space around it: whoever sends more is not what we took it for.
fn parse_echo(text: &str) -> Result<IpAddr, SourceError> {
    text.trim_ascii().parse().map_err(|_| SourceError::Nonsense("the content is no address"))
}

impl AddressSource for HttpsEcho {
    fn kind(&self) -> SourceKind {
        SourceKind::Https
    }

    fn name(&self) -> String {
        self.url.clone()
    }

    fn ask(&self, family: Family) -> SourceFuture<'_> {
        Box::pin(self.fetch(family))
    }
}

impl DnsWhoami {
    /// Asks `server` for a text of `name`, see [`DnsClient::whoami`].
    #[must_use]
    pub fn new(client: DnsClient, server: SocketAddr, name: Name, class: Class) -> Self {
        Self { client, server, name, class }
    }

    /// Name servers of separate operators that are known to stay, over IPv4.
    #[must_use]
    pub fn well_known(client: &DnsClient) -> Vec<Self> {
        let known = [
            ([1, 1, 1, 1], "whoami.cloudflare", Class::Chaos),
            ([216, 239, 32, 10], "o-o.myaddr.l.google.com", Class::Internet),
        ];
        let source = |(server, name, class): ([u8; 4], &str, Class)| {
            let name = name.parse().ok()?;
            Some(Self::new(client.clone(), SocketAddr::from((server, 53)), name, class))
        };
        known.into_iter().filter_map(source).collect()
    }
}

impl AddressSource for DnsWhoami {
    fn kind(&self) -> SourceKind {
        SourceKind::Dns
    }

    fn name(&self) -> String {
        format!("{} at {}", self.name, self.server.ip())
    }

    fn ask(&self, family: Family) -> SourceFuture<'_> {
        Box::pin(async move {
            if self.server.is_ipv4() != (family == Family::V4) {
                return Err(SourceError::Failed("the server is of another family".into()));
            }
            let answer = self.client.whoami(self.server, &self.name, self.class).await;
            answer.map_err(|error| SourceError::Failed(error.to_string()))
        })
    }
}

impl<F, Fut> TellsAddress<F>
where
    F: Fn(Family) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<IpAddr, SourceError>> + Send + 'static,
{
    /// A witness that answers what `tell` answers.
    pub fn new(kind: SourceKind, name: impl Into<String>, tell: F) -> Self {
        Self { kind, name: name.into(), tell }
    }
}

impl<F, Fut> AddressSource for TellsAddress<F>
where
    F: Fn(Family) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<IpAddr, SourceError>> + Send + 'static,
{
    fn kind(&self) -> SourceKind {
        self.kind
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn ask(&self, family: Family) -> SourceFuture<'_> {
        Box::pin((self.tell)(family))
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "DNS",
            Self::Https => "HTTPS",
            Self::Router => "the router",
            Self::Stun => "STUN",
        })
    }
}

/// The longest address is 45 bytes.
const ECHO_BYTES_MAX: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echoes() {
        assert_eq!(parse_echo(" 11.0.0.1\n"), Ok("11.0.0.1".parse().unwrap()));
        assert_eq!(parse_echo("2a00::1"), Ok("2a00::1".parse().unwrap()));
        for text in ["", "11.0.0.1 11.0.0.2", "<p>11.0.0.1</p>", "11.0.0.1:80", "011.0.0.1"] {
            assert!(parse_echo(text).is_err(), "{text}");
        }
    }

    #[test]
    fn stun_servers() {
        let check = |server: &str, want: &str| assert_eq!(StunServer::new(server).server, want);
        check("stun.example", "stun.example:3478");
        check("stun.example:19302", "stun.example:19302");
        check("[2a00::1]:99", "[2a00::1]:99");
        check("[2a00::1]", "[2a00::1]:3478");
    }
}
