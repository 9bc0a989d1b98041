//! The side of the probe.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hearth_http_client::{Client, ClientRequest, ConnectTo};
use hearth_http_core::{Handler, HeaderValue, Request, Response, StatusCode, header};
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};

use super::{PATH, PortSight, Sight};

/// Answers those who want to be looked at.
#[derive(Debug)]
pub struct Prober {
    client: Client,
    busy: Semaphore,
}

impl Prober {
    /// `client` says whose certificates count.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, busy: Semaphore::new(LOOKS_MAX) }
    }

    async fn look(&self, address: IpAddr, wish: &Wish) -> Sight {
        let mut ports = BTreeMap::new();
        for port in &wish.ports {
            ports.insert(*port, self.look_at(SocketAddr::new(address, *port), wish).await);
        }
        Sight { address, ports }
    }

    async fn look_at(&self, address: SocketAddr, wish: &Wish) -> PortSight {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                return PortSight { error: Some(error.to_string()), ..PortSight::default() };
            }
            Err(_) => {
                let error = Some("no answer, not even a refusal".to_owned());
                return PortSight { error, ..PortSight::default() };
            }
        }
        // A port of HTTPS says nothing of use to HTTP, and the other way round.
        let schemes = if address.port() == 443 { ["https", "http"] } else { ["http", "https"] };
        let mut sight = PortSight { is_open: true, ..PortSight::default() };
        for scheme in schemes {
            match self.fetch(scheme, address, wish).await {
                Ok(answer) => {
                    return PortSight { is_open: true, answer: Some(answer), error: None };
                }
                Err(error) => sight.error = Some(error),
            }
        }
        sight
    }

    async fn fetch(
        &self,
        scheme: &str,
        address: SocketAddr,
        wish: &Wish,
    ) -> Result<String, String> {
        let Wish { domain, nonce, .. } = wish;
        let url = format!("{scheme}://{domain}:{}{PATH}{nonce}", address.port());
        let request = ClientRequest::get(&url).map_err(|error| error.to_string())?;
        let request = request.with_connect_to(ConnectTo::Address(address));
        let response = self.client.send(request.with_timeout(FETCH_TIMEOUT)).await;
        let response = response.map_err(|error| causes(&error))?;
        let status = response.status();
        // So servers answer who speaks HTTP to a port of HTTPS.
        if status == StatusCode::BAD_REQUEST {
            return Err("what answers there did not understand HTTP".to_owned());
        }
        if status != StatusCode::OK {
            return Ok(format!("status {status}"));
        }
        response.text(ANSWER_BYTES_MAX).await.map_err(|error| causes(&error))
    }
}

impl Handler for Prober {
    async fn call(&self, req: Request) -> Response {
        let Some(peer) = req.connection().peer.map(|peer| peer.ip().to_canonical()) else {
            return Response::status_text(StatusCode::NOT_FOUND);
        };
        let Some(wish) = (req.path() == "/").then(|| Wish::parse(req.query()?)).flatten() else {
            return Response::status_text(StatusCode::NOT_FOUND);
        };
        let Ok(_permit) = self.busy.try_acquire() else {
            return Response::status_text(StatusCode::SERVICE_UNAVAILABLE);
        };
        let sight = self.look(peer, &wish).await;
        let json = serde_json::to_vec(&sight).unwrap_or_default();
        Response::new(json)
            .with_header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
    }
}

/// What a client wants.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    domain: String,
    nonce: String,
    ports: Vec<u16>,
}

impl Wish {
    fn parse(query: &str) -> Option<Self> {
        let mut wish = Self { domain: String::new(), nonce: String::new(), ports: Vec::new() };
        for pair in query.split('&') {
            match pair.split_once('=')? {
                ("domain", domain) if is_domain(domain) => domain.clone_into(&mut wish.domain),
                ("nonce", nonce) if is_nonce(nonce) => nonce.clone_into(&mut wish.nonce),
                ("port", port) if wish.ports.len() < PORTS_MAX => {
                    wish.ports.push(port.parse().ok()?);
                }
                _ => return None,
            }
        }
        let is_whole = !wish.domain.is_empty() && !wish.nonce.is_empty() && !wish.ports.is_empty();
        is_whole.then_some(wish)
    }
}

/// Whether a text is a nonce: 16 to 64 letters and digits.
#[must_use]
pub fn is_nonce(text: &str) -> bool {
    (16..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_domain(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=253).contains(&text.len()) && text.bytes().all(is_fine)
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

const CONNECT_TIMEOUT: Duration = Duration::from_millis(2500);
const FETCH_TIMEOUT: Duration = Duration::from_secs(4);
const ANSWER_BYTES_MAX: u64 = 1024;
/// Ports that one question may name.
const PORTS_MAX: usize = 4;
/// Questions that are answered at once.
const LOOKS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes() {
        let nonce = "0123456789abcdef";
        let wish = Wish::parse(&format!("domain=a.example&nonce={nonce}&port=80&port=443"));
        let wanted =
            Wish { domain: "a.example".to_owned(), nonce: nonce.to_owned(), ports: vec![80, 443] };
        assert_eq!(wish, Some(wanted));
        for query in [
            "",
            "domain=a.example&port=80",
            "domain=a.example&nonce=short&port=80",
            "domain=a.example&nonce=0123456789abcdef",
            "domain=a.example/x&nonce=0123456789abcdef&port=80",
            "domain=a.example&nonce=0123456789abcdef&port=65536",
            "domain=a.example&nonce=0123456789abcdef&port=1&port=2&port=3&port=4&port=5",
            "domain=a.example&nonce=0123456789abcdef&port=80&address=192.0.2.1",
        ] {
            assert_eq!(Wish::parse(query), None, "{query}");
        }
    }
}
