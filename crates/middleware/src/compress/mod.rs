//! Compression of responses on the fly.

use std::io;

use hearth_http_core::{
    AcceptEncoding, Body, BodyStream, Coding, ContentEncoder, FileBody, Head, HeaderName,
    HeaderValue, Headers, Method, Middleware, Next, Request, Response, StatusCode, header,
};

mod encoder;
mod stream;
mod types;

pub use encoder::Levels;
use types::Types;

/// Compresses responses by `Accept-Encoding`: zstd, brotli, gzip or deflate.
///
/// Compressed is what gains by it: media types that are text or alike, of at least 512 bytes or of unknown
/// length. Left alone are responses that are encoded already, parts (206), those with `cache-control:
/// no-transform`, and event streams, where an encoder for each client would be held for hours. A strong entity
/// tag becomes weak, `vary: accept-encoding` is added, `accept-ranges` is removed.
///
/// Content of up to 256 KiB is encoded in one go and keeps a length. More than that, and what has no length, is
/// encoded 32 KiB at a time, so that no worker is held up, and flushed whenever its source pauses.
///
/// Nothing is kept: each response is encoded anew. For files that do not change between requests it also is a
/// [`ContentEncoder`], whose results `hearth-static-files` keeps.
///
/// # Security
/// Do not compress a page that holds both a secret and text that a stranger can choose: its length tells how
/// alike they are (BREACH).
#[derive(Debug, Clone)]
pub struct Compress {
    levels: Levels,
    bytes_min: u64,
    codings: Vec<Coding>,
    types: Types,
}

/// What a request says about codings, kept while the handler consumes the request.
struct Wish {
    accept: AcceptEncoding,
    is_head: bool,
    /// Present if the client holds a version already: needed to give it back its own form of the tag.
    conditional: Option<Head>,
}

impl Compress {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            levels: Levels::default(),
            bytes_min: 512,
            codings: vec![Coding::Zstd, Coding::Brotli, Coding::Gzip, Coding::Deflate],
            types: Types::default(),
        }
    }

    /// How hard each encoder tries.
    #[must_use]
    pub fn levels(mut self, levels: Levels) -> Self {
        self.levels = levels;
        self
    }

    /// Smaller content is sent as it is. Default 512 bytes: less fits into a packet either way.
    #[must_use]
    pub fn bytes_min(mut self, bytes: u64) -> Self {
        self.bytes_min = bytes;
        self
    }

    /// The codings that are offered; of those that a client likes equally, the first is used. Default zstd,
    /// brotli, gzip, deflate.
    #[must_use]
    pub fn codings(mut self, codings: impl IntoIterator<Item = Coding>) -> Self {
        self.codings = codings.into_iter().filter(|coding| *coding != Coding::Identity).collect();
        self
    }

    /// The media types that are compressed, in place of the defaults: `text/html`, `text/*`, `*+json`.
    #[must_use]
    pub fn types<S: Into<String>>(mut self, types: impl IntoIterator<Item = S>) -> Self {
        self.types = Types::new(types.into_iter().map(Into::into));
        self
    }

    fn apply(&self, mut response: Response, wish: &Wish) -> Response {
        if response.status() == StatusCode::NOT_MODIFIED {
            return self.not_modified(response, wish);
        }
        let length = response.body_len();
        // A client that refuses identity gets an encoding however small the gain.
        let bytes_min = if wish.accept.weight(Coding::Identity) == 0 { 1 } else { self.bytes_min };
        if length.is_some_and(|length| length < bytes_min) || !self.may_compress(&response) {
            return response;
        }
        // What a cache must know even where this client gets the content as it is.
        if !varies(response.headers()) {
            response.headers_mut().append(header::VARY, ACCEPT_ENCODING_VALUE);
        }
        match self.choose(wish.accept) {
            Some(coding) => self.encode(response, coding, length, wish.is_head),
            None => response,
        }
    }

    fn choose(&self, accept: AcceptEncoding) -> Option<Coding> {
        let offered = self.codings.iter().copied().chain([Coding::Identity]);
        accept.choose(offered).filter(|coding| *coding != Coding::Identity)
    }

    fn may_compress(&self, response: &Response) -> bool {
        let headers = response.headers();
        let partial = response.status() == StatusCode::PARTIAL_CONTENT
            || headers.contains(&header::CONTENT_RANGE);
        let upgrades = response.status().is_informational();
        !partial
            && !upgrades
            && !headers.contains(&header::CONTENT_ENCODING)
            && headers
                .get(&header::CONTENT_TYPE)
                .is_some_and(|value| self.types.contains(value.as_bytes()))
            && !headers
                .get_all(&header::CACHE_CONTROL)
                .any(|value| has_member(value.as_bytes(), b"no-transform"))
    }

    fn encode(
        &self,
        mut response: Response,
        coding: Coding,
        length: Option<u64>,
        is_head: bool,
    ) -> Response {
        let body = if is_head {
            // Content of unknown length, none of which is sent.
            Body::stream(Unsent)
        } else if length.is_some_and(|length| length <= ONE_GO_MAX) {
            match self.encode_at_once(&mut response, coding) {
                Ok(Some(body)) => body,
                Ok(None) => return response,
                Err(error) => {
                    tracing::warn!(%error, "a file to be compressed cannot be read");
                    return Response::status_text(StatusCode::INTERNAL_SERVER_ERROR);
                }
            }
        } else {
            match stream::encode(response.take_body(), coding, self.levels) {
                Ok(body) => body,
                Err(body) => return response.with_body(body),
            }
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        headers.remove(&header::ACCEPT_RANGES);
        weaken(headers);
        response.with_body(body)
    }

    /// The encoded content; `None` where encoding does not make it smaller, or is not possible at once.
    fn encode_at_once(&self, response: &mut Response, coding: Coding) -> io::Result<Option<Body>> {
        let levels = self.levels;
        if let Some(prepared) = response.as_prepared() {
            return Ok(encoder::at_once(coding, levels, prepared.body()).map(Body::Owned));
        }
        if let Some(bytes) = response.body_mut().as_bytes() {
            return Ok(encoder::at_once(coding, levels, bytes).map(Body::Owned));
        }
        if let Body::File(file) = response.body_mut() {
            let FileBody { file, offset, len } = &*file;
            let encoded = encoder::file_at_once(coding, levels, file, *offset, *len)?;
            return Ok(encoded.map(Body::Owned));
        }
        let body = response.take_body();
        Ok(Some(stream::encode(body, coding, levels).unwrap_or_else(|body| body)))
    }

    /// A 304 names the entity tag of the response that it stands for (RFC 9110 §15.4.5): the weak form, if that
    /// is what the client was given.
    fn not_modified(&self, mut response: Response, wish: &Wish) -> Response {
        let Some(head) = &wish.conditional else { return response };
        let Some(tag) = response.headers().get(&header::ETAG) else { return response };
        let weak = [b"W/", tag.as_bytes()].concat();
        let held = head
            .header_all("if-none-match")
            .any(|value| value.windows(weak.len()).any(|window| window == weak));
        if held && self.choose(wish.accept).is_some() {
            weaken(response.headers_mut());
        }
        response
    }
}

impl Default for Compress {
    fn default() -> Self {
        Self::new()
    }
}

impl Middleware for Compress {
    async fn handle(&self, req: Request, next: Next<'_>) -> Response {
        let wish = Wish::of(&req);
        self.apply(next.run(req).await, &wish)
    }
}

impl ContentEncoder for Compress {
    fn codings(&self, content_type: &[u8]) -> &[Coding] {
        if self.types.contains(content_type) { &self.codings } else { &[] }
    }

    fn encode(&self, coding: Coding, content: &[u8]) -> Option<Vec<u8>> {
        if (content.len() as u64) < self.bytes_min {
            return None;
        }
        encoder::at_once(coding, self.levels, content)
    }
}

impl Wish {
    fn of(req: &Request) -> Self {
        let head = req.head();
        Self {
            accept: AcceptEncoding::parse(head.header_all("accept-encoding")),
            is_head: *req.method() == Method::HEAD,
            conditional: head.header("if-none-match").is_some().then(|| head.clone()),
        }
    }
}

/// The body of a response to HEAD whose length is not known.
struct Unsent;

impl BodyStream for Unsent {
    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, hearth_http_core::BodyError>>>
    {
        std::task::Poll::Ready(None)
    }
}

/// RFC 9110 §8.8.1: the encoded bytes are not those that the strong tag names.
fn weaken(headers: &mut Headers) {
    let Some(tag) = headers.get(&header::ETAG) else { return };
    if tag.as_bytes().starts_with(b"W/") {
        return;
    }
    match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        Ok(weak) => headers.insert(header::ETAG, weak),
        Err(_) => {
            headers.remove(&header::ETAG);
        }
    }
}

fn varies(headers: &Headers) -> bool {
    headers.get_all(&header::VARY).any(|value| {
        let value = value.as_bytes();
        has_member(value, ACCEPT_ENCODING.as_str().as_bytes()) || has_member(value, b"*")
    })
}

/// Whether a comma-separated list has this member, whatever its case.
fn has_member(list: &[u8], member: &[u8]) -> bool {
    list.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(member))
}

const ACCEPT_ENCODING: HeaderName = header::ACCEPT_ENCODING;
const ACCEPT_ENCODING_VALUE: HeaderValue = HeaderValue::from_static("accept-encoding");
/// Larger content is encoded piece by piece.
const ONE_GO_MAX: u64 = 256 * 1024;
