//! How instant-acme reaches an authority: over our own client.

use std::{
    collections::HashMap,
    error::Error as _,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hearth_http_client::{
    Client, ClientError, ClientOptions, ClientRequest, ErrorKind, TlsOptions,
};
use hearth_http_core::Headers;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body::Body as _;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use parking_lot::Mutex;
use serde::Deserialize;

use crate::{
    attention::{Code, Failure, FailureKind},
    authority::{Authority, Roots},
};

/// The largest answer that is read: a chain of certificates is a few kilobytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// How long a directory is believed.
const DIRECTORY_AGE_MAX: Duration = Duration::from_secs(3600);
const USER_AGENT: &str = concat!("hearth-tls-acme/", env!("CARGO_PKG_VERSION"));

/// Connections to authorities; cheap to clone.
#[derive(Clone)]
pub(crate) struct Transport {
    inner: Arc<Inner>,
}

struct Inner {
    authority: String,
    directory: String,
    client: Client,
    cached: Mutex<Option<(Instant, Bytes)>>,
}

/// The transport of one operation: remembers what instant-acme does not hand out.
#[derive(Clone)]
pub(crate) struct Session {
    transport: Transport,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    retry_after: Option<Duration>,
    answer: Option<Bytes>,
    next_page: Option<String>,
    failure: Option<Failure>,
}

/// What a directory says (RFC 8555 §7.1.1, RFC 9773 §4.1).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Directory {
    pub(crate) new_order: String,
    pub(crate) renewal_info: Option<String>,
    pub(crate) meta: DirectoryMeta,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DirectoryMeta {
    pub(crate) profiles: HashMap<String, String>,
    pub(crate) external_account_required: bool,
    pub(crate) caa_identities: Vec<String>,
}

impl Transport {
    /// A transport to `directory`, which belongs to `authority`.
    pub(crate) fn new(authority: &Authority, directory: &str) -> Result<Self, Failure> {
        let subject = authority.name.clone();
        let untrusted = |error: &dyn fmt::Display| {
            let sentence = format!("The CA file of the authority cannot be used: {error}.");
            Failure::of(FailureKind::Permanent, Code::Untrusted, subject.clone(), sentence)
        };
        let tls = match &authority.roots {
            Roots::Public => TlsOptions::default().with_webpki_roots(),
            Roots::Pem(pem) => {
                TlsOptions::default().with_root_pem(pem).map_err(|error| untrusted(&error))?
            }
            Roots::File(path) => {
                let pem = std::fs::read(path).map_err(|error| {
                    untrusted(&format_args!("{} cannot be read ({error})", path.display()))
                })?;
                TlsOptions::default().with_root_pem(&pem).map_err(|error| untrusted(&error))?
            }
        };
        let mut options = ClientOptions::default();
        options.tls = tls;
        options.timeouts.total = Some(authority.timeout);
        options.timeouts.response_head = authority.timeout;
        // Authorities drop idle connections soon, and a POST must not meet a dead one.
        options.pool.idle_timeout = Duration::from_secs(5);
        options.user_agent = Some(HeaderValue::from_static(USER_AGENT));
        let client = Client::new(options).map_err(|error| untrusted(&error))?;
        Ok(Self {
            inner: Arc::new(Inner {
                authority: authority.name.clone(),
                directory: directory.to_owned(),
                client,
                cached: Mutex::new(None),
            }),
        })
    }

    pub(crate) fn session(&self) -> Session {
        Session { transport: self.clone(), seen: Arc::default() }
    }

    /// The directory, at most an hour old.
    pub(crate) async fn directory(&self) -> Result<Directory, Failure> {
        let bytes = match self.fresh_directory() {
            Some(bytes) => bytes,
            None => self.get(&self.inner.directory).await?.0,
        };
        let directory: Directory = serde_json::from_slice(&bytes).map_err(|_| self.garbage())?;
        if directory.new_order.is_empty() {
            return Err(self.garbage());
        }
        *self.inner.cached.lock() = Some((Instant::now(), bytes));
        Ok(directory)
    }

    /// A plain GET; answers content and `retry-after`.
    pub(crate) async fn get(&self, url: &str) -> Result<(Bytes, Option<Duration>), Failure> {
        let request = ClientRequest::get(url).map_err(|error| self.failed(&error))?;
        let response =
            self.inner.client.send(request).await.map_err(|error| self.failed(&error))?;
        let (status, retry_after) = (response.status(), response.retry_after());
        let bytes = response.bytes(ANSWER_BYTES_MAX).await.map_err(|error| self.failed(&error))?;
        if status.is_success() {
            return Ok((bytes, retry_after));
        }
        // For a page that is only read, 503 is how some say that it is read too often.
        let is_limit = status == StatusCode::SERVICE_UNAVAILABLE;
        Err(self.refused(status, is_limit, retry_after))
    }

    fn fresh_directory(&self) -> Option<Bytes> {
        let cached = self.inner.cached.lock();
        let (at, bytes) = cached.as_ref()?;
        (at.elapsed() < DIRECTORY_AGE_MAX).then(|| bytes.clone())
    }

    pub(crate) fn garbage(&self) -> Failure {
        let sentence = format!("What {} answers is not ACME.", self.inner.directory);
        Failure::of(FailureKind::Authority, Code::Garbage, &self.inner.authority, sentence)
    }

    /// What a status means that comes without a problem document.
    fn refused(
        &self,
        status: StatusCode,
        is_limit: bool,
        retry_after: Option<Duration>,
    ) -> Failure {
        let is_limit = is_limit || status == StatusCode::TOO_MANY_REQUESTS;
        let mut failure = if is_limit || status.is_server_error() {
            let (kind, code) = match is_limit {
                true => (FailureKind::RateLimited, Code::RateLimited),
                false => (FailureKind::Authority, Code::ServerError),
            };
            let sentence = format!("The authority answers {status}.");
            Failure::of(kind, code, &self.inner.authority, sentence)
        } else {
            self.garbage()
        };
        failure.retry_after = retry_after;
        failure
    }

    /// What a failed exchange means.
    fn failed(&self, error: &ClientError) -> Failure {
        let code = match error.kind() {
            ErrorKind::Tls => Code::Untrusted,
            ErrorKind::Protocol
            | ErrorKind::TooLarge
            | ErrorKind::Redirect
            | ErrorKind::Request => Code::Garbage,
            _ => Code::Unreachable,
        };
        let mut sentence = format!("The authority cannot be reached: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            sentence.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        sentence.push('.');
        Failure::of(FailureKind::Authority, code, &self.inner.authority, sentence)
    }

    async fn exchange(
        &self,
        request: Request<BodyWrapper<Bytes>>,
        seen: &Mutex<Seen>,
    ) -> Result<BytesResponse, Failure> {
        let (parts, mut body) = request.into_parts();
        let is_directory =
            parts.method == Method::GET && parts.uri.to_string() == self.inner.directory;
        if is_directory && let Some(bytes) = self.fresh_directory() {
            return Ok(answer(http::Response::new(()).into_parts().0, bytes));
        }
        // The body is in memory, so it is there at once.
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let content = frame.and_then(|frame| frame.ok()?.into_data().ok()).unwrap_or_default();
        let is_known = |order: &str| parts.uri == *order;
        let makes_order = match self.fresh_directory() {
            Some(bytes) => serde_json::from_slice::<Directory>(&bytes)
                .is_ok_and(|directory| is_known(&directory.new_order)),
            None => true,
        };
        let mut request = ClientRequest::new(parts.method, &parts.uri.to_string())
            .map_err(|error| self.failed(&error))?
            .with_body(content);
        for (name, value) in &parts.headers {
            if name != header::USER_AGENT {
                request = request.with_header(name.clone(), value.clone());
            }
        }
        // A nonce is good for one request, so everything may be sent again but what makes an order.
        let request = if makes_order { request } else { request.with_idempotent(true) };
        let response =
            self.inner.client.send(request).await.map_err(|error| self.failed(&error))?;
        let retry_after = response.retry_after();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes(ANSWER_BYTES_MAX).await.map_err(|error| self.failed(&error))?;
        if is_directory && status.is_success() {
            *self.inner.cached.lock() = Some((Instant::now(), bytes.clone()));
        }
        let is_problem = headers
            .get(&header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/problem+json"));
        if !status.is_success() && !is_problem {
            // instant-acme would complain about the JSON; what matters is who answers, and when to come back.
            return Err(self.refused(status, false, retry_after));
        }
        {
            let mut seen = seen.lock();
            seen.retry_after = retry_after;
            seen.answer = Some(bytes.clone());
            seen.next_page = next_page(&headers);
        }
        let mut head = http::Response::new(());
        *head.status_mut() = status;
        *head.headers_mut() = headers.into();
        Ok(answer(head.into_parts().0, bytes))
    }
}

impl Session {
    /// What the authority said last about when to come back.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.seen.lock().retry_after
    }

    /// The content of the last answer.
    pub(crate) fn answer(&self) -> Option<Bytes> {
        self.seen.lock().answer.clone()
    }

    /// Where the list of the last answer goes on.
    pub(crate) fn next_page(&self) -> Option<String> {
        self.seen.lock().next_page.clone()
    }

    /// What failed beneath instant-acme, if that was it.
    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.seen.lock().failure.take()
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }
}

impl HttpClient for Session {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            this.transport.exchange(request, &this.seen).await.map_err(|failure| {
                this.seen.lock().failure = Some(failure);
                Error::Str("the exchange with the authority failed")
            })
        })
    }
}

/// The target of `link: <...>;rel="next"` (RFC 8288).
fn next_page(headers: &Headers) -> Option<String> {
    let links = headers.iter().filter(|(name, _)| *name == header::LINK);
    links.filter_map(|(_, value)| std::str::from_utf8(value.as_bytes()).ok()).find_map(|link| {
        let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        (rest.contains("rel=\"next\"") || rest.contains("rel=next")).then(|| target.to_owned())
    })
}

fn answer(parts: http::response::Parts, bytes: Bytes) -> BytesResponse {
    BytesResponse { parts, body: Box::new(bytes) }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("directory", &self.inner.directory)
            .finish_non_exhaustive()
    }
}
