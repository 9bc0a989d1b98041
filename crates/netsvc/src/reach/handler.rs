//! The side that connects back.

use std::{
    error::Error as _,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hearth_http_client::{Client, ClientError, ClientRequest, ConnectTo, ErrorKind, TimeoutKind};
use hearth_http_core::{Handler, Request, Response};
use http::{HeaderValue, Method, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, time::Instant};

use super::{Reach, challenge::is_challenge_path, rate::RateLimit};
use crate::gateway::is_public;

/// Options of a [`ProbeHandler`]. Start from [`new`](Self::new) and change fields.
#[derive(Clone)]
#[non_exhaustive]
pub struct ProbeOptions {
    /// Makes the connections back. It should trust the authorities that sites use.
    pub client: Client,
    /// Who knows it may have names looked at that lead elsewhere than to itself. Default `None`:
    /// nobody may.
    pub token: Option<String>,
    /// Whether only who knows the token may ask at all. Default false.
    pub needs_token: bool,
    /// Whether addresses that are not of the internet may be looked at. Default false.
    pub allows_local: bool,
    /// How many questions a household may ask at once; one more each 10 s. Default 10.
    pub burst: u32,
    /// How many connections back there may be at once. Default 32.
    pub checks_max: usize,
    /// How long a connection back may take. Default 8 s.
    pub timeout: Duration,
}

/// Answers `POST` requests whose JSON content is `{"url": …, "expect": …}` with what a connection to
/// that URL meets: `{"outcome": "open", "seen_from": "11.0.0.1"}`.
///
/// The URL's path must be that of a [`Challenge`](super::Challenge), and its host must be the address that
/// the question comes from, or a name; then the connection goes to the address that the
/// question comes from, whatever the name resolves to. A `Bearer` token, where one is set, lifts that.
pub struct ProbeHandler {
    options: ProbeOptions,
    rate: Mutex<RateLimit>,
    checks: Arc<Semaphore>,
}

/// A question, as far as it was understood.
struct Question {
    url: String,
    host: String,
    port: u16,
    expect: String,
}

impl ProbeOptions {
    /// Connects back by this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            token: None,
            needs_token: false,
            allows_local: false,
            burst: 10,
            checks_max: 32,
            timeout: Duration::from_secs(8),
        }
    }
}

impl ProbeHandler {
    /// A handler with these options.
    #[must_use]
    pub fn new(options: ProbeOptions) -> Self {
        let rate = RateLimit::new(options.burst, Duration::from_secs(10));
        let checks = Arc::new(Semaphore::new(options.checks_max));
        Self { options, rate: Mutex::new(rate), checks }
    }

    async fn answer(&self, req: &mut Request) -> Result<Value, Response> {
        if *req.method() != Method::POST {
            let allow = HeaderValue::from_static("POST");
            return Err(Response::status_text(StatusCode::METHOD_NOT_ALLOWED)
                .with_header(header::ALLOW, allow));
        }
        let peer = req.connection().peer.map(|peer| peer.ip().to_canonical());
        let Some(peer) = peer else {
            return Err(refuse(StatusCode::FORBIDDEN, "who asks is unknown"));
        };
        let is_known = self.knows_token(req);
        if self.options.needs_token && !is_known {
            return Err(refuse(StatusCode::FORBIDDEN, "this probe needs its token"));
        }
        if let Err(wait) = self.rate.lock().take(peer, Instant::now()) {
            let seconds = HeaderValue::from(wait.as_secs().max(1));
            return Err(refuse(StatusCode::TOO_MANY_REQUESTS, "too many questions")
                .with_header(header::RETRY_AFTER, seconds));
        }
        let content = req.take_body().collect(QUESTION_BYTES_MAX).await;
        let content = content.map_err(|_| refuse(StatusCode::BAD_REQUEST, "no content"))?;
        let question = Question::parse(&content)
            .map_err(|what| refuse(StatusCode::UNPROCESSABLE_ENTITY, what))?;
        let to = self.destination(&question, peer, is_known).await;
        let to = to.map_err(|what| refuse(StatusCode::FORBIDDEN, what))?;
        let Ok(_permit) = self.checks.try_acquire() else {
            return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "too many checks at once"));
        };
        let client = &self.options.client;
        let reach = fetch(client, &question.url, &question.expect, to, self.options.timeout).await;
        tracing::debug!(%peer, %to, %reach, "looked back at who asked");
        Ok(json!({ "outcome": reach.as_str(), "seen_from": peer.to_string() }))
    }

    /// Compared without regard to where the first difference is.
    fn knows_token(&self, req: &Request) -> bool {
        let Some(token) = &self.options.token else { return false };
        let given = req.header_str("authorization").and_then(|value| value.strip_prefix("Bearer "));
        given.is_some_and(|given| {
            let differences = given.bytes().zip(token.bytes()).map(|(a, b)| a ^ b);
            given.len() == token.len() && differences.fold(0, |all, one| all | one) == 0
        })
    }

    /// Where to connect: to who asks, or with the token to where the URL leads.
    async fn destination(
        &self,
        question: &Question,
        peer: IpAddr,
        is_known: bool,
    ) -> Result<SocketAddr, &'static str> {
        let literal: Option<IpAddr> = question.host.parse().ok();
        let address = match literal {
            Some(address) if address.to_canonical() == peer || is_known => address.to_canonical(),
            Some(_) => return Err("the URL leads to another address than the one that asks"),
            None if !is_known => peer,
            None => {
                let host = (question.host.as_str(), question.port);
                let mut found =
                    tokio::net::lookup_host(host).await.map_err(|_| "the name does not resolve")?;
                found.next().ok_or("the name does not resolve")?.ip().to_canonical()
            }
        };
        if !self.options.allows_local && !is_public(address) {
            return Err("the address is not one of the internet");
        }
        Ok(SocketAddr::new(address, question.port))
    }
}

impl Handler for ProbeHandler {
    async fn call(&self, mut req: Request) -> Response {
        match self.answer(&mut req).await {
            Ok(answer) => {
                let json = HeaderValue::from_static("application/json");
                Response::new(answer.to_string()).with_header(header::CONTENT_TYPE, json)
            }
            Err(response) => response,
        }
    }
}

impl Question {
    fn parse(content: &[u8]) -> Result<Self, &'static str> {
        let value: Value = serde_json::from_slice(content).map_err(|_| "the content is no JSON")?;
        let text = |name| value.get(name).and_then(Value::as_str);
        let url = text("url").ok_or("`url` is missing")?;
        let expect = text("expect").ok_or("`expect` is missing")?;
        let (scheme, rest) = url.split_once("://").ok_or("`url` is no URL")?;
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return Err("`url` is neither http nor https"),
        };
        let (authority, path) = rest.split_once('/').ok_or("`url` has no path")?;
        if !is_challenge_path(&format!("/{path}")) {
            return Err("`url` does not lead to a challenge");
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| "`url` has no valid port")?)
            }
            _ => (authority, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || port == 0 {
            return Err("`url` has no valid host");
        }
        Ok(Self { url: url.to_owned(), host: host.to_owned(), port, expect: expect.to_owned() })
    }
}

/// Fetches `url` at `to` and says what was met there.
pub(super) async fn fetch(
    client: &Client,
    url: &str,
    expect: &str,
    to: SocketAddr,
    timeout: Duration,
) -> Reach {
    let Ok(request) = ClientRequest::get(url) else { return Reach::Unknown };
    let request =
        request.with_connect_to(ConnectTo::Address(to)).with_timeout(timeout).with_redirects_max(0);
    let response = match client.send(request).await {
        Ok(response) => response,
        Err(error) => return met(&error),
    };
    let is_ok = response.status() == StatusCode::OK;
    match response.text(CONTENT_BYTES_MAX).await {
        Ok(text) if is_ok && text.trim_ascii() == expect => Reach::Open,
        _ => Reach::Other,
    }
}

/// What a failed request says about the port.
fn met(error: &ClientError) -> Reach {
    match error.kind() {
        ErrorKind::Connect => {
            let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
            match cause.map(io::Error::kind) {
                Some(io::ErrorKind::ConnectionRefused) => Reach::Closed,
                // Routers on the way say so; filtered all the same.
                Some(
                    io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::TimedOut,
                ) => Reach::Silent,
                _ => Reach::Unknown,
            }
        }
        ErrorKind::Timeout(TimeoutKind::Connect | TimeoutKind::Total) => Reach::Silent,
        ErrorKind::Tls | ErrorKind::Timeout(TimeoutKind::Tls) => Reach::Tls,
        ErrorKind::Closed | ErrorKind::Protocol | ErrorKind::TooLarge | ErrorKind::Timeout(_) => {
            Reach::Other
        }
        _ => Reach::Unknown,
    }
}

fn refuse(status: StatusCode, what: &'static str) -> Response {
    Response::text(what).with_status(status)
}

const QUESTION_BYTES_MAX: u64 = 4096;
const CONTENT_BYTES_MAX: u64 = 1024;
