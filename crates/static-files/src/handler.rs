//! Answers requests with files.

use std::{
    hash::{BuildHasher, RandomState},
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hearth_http_core::{
    AcceptEncoding, Coding, Handler, HeaderValue, Method, Request, Response, StatusCode, header,
};
use smallvec::SmallVec;

use crate::{
    builder::Builder,
    cache::{Cache, Local},
    clock::Clock,
    conditional::{self, Asks, Verdict},
    listing, media, multipart,
    page::{Choice, Opened, Page, Presentation, Variant},
    path::{self, Refusal},
    range::{self, Selection},
    root::{OpenError, Root},
};

/// Serves the files beneath one directory; cheap to clone.
///
/// The path is the route's parameter `path` where there is one (mounted behind a catch-all), otherwise the
/// request's. GET and HEAD are answered, other methods with 405.
///
/// # Blocking
/// Opening and reading a file that is not kept in memory happens on the calling thread, as in other servers:
/// microseconds on a local disk, but a network file system that hangs stalls the thread.
#[derive(Debug, Clone)]
pub struct StaticFiles(Arc<Site>);

#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) root: Root,
    pub(crate) cache: Cache,
    pub(crate) clock: Clock,
    pub(crate) presentation: Presentation,
    pub(crate) options: Options,
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) hidden_files: bool,
    pub(crate) index: Vec<String>,
    pub(crate) listing: bool,
    pub(crate) fallback: Option<String>,
    pub(crate) not_found_page: Option<String>,
    pub(crate) siblings: &'static [(Coding, &'static str)],
    pub(crate) check_interval: u64,
}

/// Why a path has no page.
#[derive(Debug)]
enum Miss {
    /// It is a directory, and its path lacks the slash.
    Directory,
    Denied,
    Failed,
    NotFound,
}

/// What a path leads to.
struct Found {
    path: String,
    opened: SmallVec<[Opened; 4]>,
}

impl StaticFiles {
    /// Serves the files beneath `root`.
    pub fn builder(root: impl AsRef<Path>) -> Builder {
        Builder::new(root.as_ref())
    }

    pub(crate) fn new(site: Site) -> Self {
        Self(Arc::new(site))
    }

    /// The response, or `None` where no file, index, listing or fallback answers for the path: for a caller
    /// that has something else to try. `None` too for methods other than GET and HEAD.
    #[must_use]
    pub fn find(&self, req: &Request) -> Option<Response> {
        if !is_read(req.method()) {
            return None;
        }
        self.0.respond(req).ok()
    }

    /// The response. Does not wait for anything but the disk.
    #[must_use]
    pub fn respond(&self, req: &Request) -> Response {
        if !is_read(req.method()) {
            let response = match *req.method() {
                // As the router answers for a route of its own.
                Method::OPTIONS => Response::status_only(StatusCode::NO_CONTENT),
                _ => Response::status_text(StatusCode::METHOD_NOT_ALLOWED),
            };
            return response
                .with_header(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
        }
        self.0.respond(req).unwrap_or_else(|status| self.0.refuse(req, status))
    }
}

impl Handler for StaticFiles {
    fn call(&self, req: Request) -> impl Future<Output = Response> + Send {
        std::future::ready(self.respond(&req))
    }
}

impl Site {
    fn respond(&self, req: &Request) -> Result<Response, StatusCode> {
        let raw = req.param("path").unwrap_or(req.path());
        let mut buffer = path::Buffer::new();
        let key = path::key(raw, &mut buffer).map_err(|refusal| refused(raw, refusal))?;
        let asks = Asks::of(req.head());
        let now = self.clock.now();
        if let Some(response) = self.hit(key, req, asks, now) {
            return Ok(response);
        }
        path::check(key, self.options.hidden_files).map_err(|refusal| refused(raw, refusal))?;
        match self.page(key, key, StatusCode::OK, now) {
            Ok(page) => Ok(self.first_answer(key, page, req, asks)),
            Err(Miss::Directory) => Ok(redirect(req)),
            Err(Miss::Denied) => Err(StatusCode::FORBIDDEN),
            Err(Miss::Failed) => Err(StatusCode::INTERNAL_SERVER_ERROR),
            Err(Miss::NotFound) => self.respond_otherwise(key, req, asks, now),
        }
    }

    /// There is no file: a listing, or the fallback.
    fn respond_otherwise(
        &self,
        key: &str,
        req: &Request,
        asks: Asks,
        now: u64,
    ) -> Result<Response, StatusCode> {
        if self.options.listing
            && (key.is_empty() || key.ends_with('/'))
            && let Ok((directory, metadata)) = self.root.find(key)
            && metadata.is_dir()
        {
            let hidden = self.options.hidden_files;
            return Ok(listing::list(&self.root, &directory, key, req.path(), hidden));
        }
        let Some(fallback) = &self.options.fallback else { return Err(StatusCode::NOT_FOUND) };
        let (content_type, is_known) = media::content_type(key, &self.presentation.media_types);
        if is_known && !content_type.as_bytes().starts_with(b"text/html") {
            return Err(StatusCode::NOT_FOUND);
        }
        if let Some(response) = self.hit(fallback, req, asks, now) {
            return Ok(response);
        }
        match self.page(fallback, fallback, StatusCode::OK, now) {
            Ok(page) => Ok(self.first_answer(fallback, page, req, asks)),
            Err(_) => Err(StatusCode::NOT_FOUND),
        }
    }

    /// A response for an error; the operator's own page where it is 404 and there is one.
    fn refuse(&self, req: &Request, status: StatusCode) -> Response {
        let Some(name) = self.options.not_found_page.as_deref() else {
            return Response::status_text(status);
        };
        if status != StatusCode::NOT_FOUND {
            return Response::status_text(status);
        }
        // NUL keeps it apart from the page that the file itself answers with.
        let mut key = path::Buffer::from_slice(b"\0");
        key.extend_from_slice(name.as_bytes());
        let Ok(key) = std::str::from_utf8(&key) else { return Response::status_text(status) };
        let now = self.clock.now();
        // Preconditions and ranges are about what was asked for, which is not this.
        let asks = Asks { encoding: Asks::of(req.head()).encoding, ..Asks::default() };
        if let Some(response) = self.hit(key, req, asks, now) {
            return response;
        }
        match self.page(key, name, status, now) {
            Ok(page) => self.first_answer(key, page, req, asks),
            Err(_) => {
                tracing::warn!(page = name, "the page for status 404 cannot be opened");
                Response::status_text(status)
            }
        }
    }

    /// The answer of a page that this thread has at hand, if no part of it must be made first.
    fn hit(&self, key: &str, req: &Request, asks: Asks, now: u64) -> Option<Response> {
        let answer = |local: &Local| match choose(&local.page, req, asks) {
            Choice::Variant(index) => Some(answer(local, index, req, asks)),
            Choice::Offer(_) => None,
        };
        self.cache.hit(key, now, answer).flatten()
    }

    fn first_answer(&self, key: &str, page: Arc<Page>, req: &Request, asks: Asks) -> Response {
        let page = match choose(&page, req, asks) {
            Choice::Variant(_) => page,
            Choice::Offer(coding) => self.encoded(key, page, coding),
        };
        let index = match choose(&page, req, asks) {
            Choice::Variant(index) => index,
            Choice::Offer(_) => page.identity(),
        };
        let local = Local::new(page);
        let response = answer(&local, index, req, asks);
        self.cache.keep(key, local);
        response
    }

    /// The page with one more variant. Threads that want the same at once each make it; the last is kept.
    fn encoded(&self, key: &str, page: Arc<Page>, coding: Coding) -> Arc<Page> {
        match page.with_encoded(coding, &self.presentation) {
            Ok(encoded) => {
                let encoded = Arc::new(encoded);
                self.cache.insert(key, &encoded, self.clock.now());
                encoded
            }
            Err(error) => {
                tracing::error!(path = %page.path, %error, "the file cannot be read");
                page
            }
        }
    }

    /// The page of `key`: from the store if the disk still agrees, otherwise loaded from `path`.
    fn page(&self, key: &str, path: &str, status: StatusCode, now: u64) -> Result<Arc<Page>, Miss> {
        let stored = self.cache.stored(key);
        if let Some(page) = &stored {
            // Whoever claims the check does it; the others go on with what they have.
            if self.cache.is_fresh(page, now) || !self.cache.claim(page, now) {
                return Ok(Arc::clone(page));
            }
        }
        self.root.refresh(now, self.options.check_interval);
        let found = match (self.open(path), &stored) {
            (Ok(found), _) => found,
            // Out of file descriptors, or a disk that fails: what is in memory is better than nothing.
            (Err(OpenError::Failed(error)), Some(page)) => {
                tracing::error!(path, %error, "the file cannot be checked");
                return Ok(Arc::clone(page));
            }
            (Err(error), stored) => {
                if stored.is_some() {
                    tracing::debug!(path, %error, "the file is gone");
                    self.cache.remove(key);
                }
                return Err(Miss::from_open(path, error));
            }
        };
        let Some(found) = found else {
            self.cache.remove(key);
            return Err(Miss::Directory);
        };
        if let Some(page) = stored {
            if page.is_current(&found.path, &found.opened) {
                return Ok(page);
            }
            if page.was_overwritten(&found.opened) {
                tracing::warn!(
                    path,
                    "the file was changed in place: responses under way were cut or mixed; \
                     write to a new file and rename it"
                );
            }
        }
        let Found { path, opened } = found;
        let page = Page::load(&path, status, opened, &self.presentation, now).map_err(|error| {
            tracing::error!(%path, %error, "the file cannot be read");
            Miss::Failed
        })?;
        let page = Arc::new(page);
        self.cache.insert(key, &page, now);
        Ok(page)
    }

    /// The file that `path` leads to and its precompressed siblings; `None` for a directory without its slash.
    fn open(&self, path: &str) -> Result<Option<Found>, OpenError> {
        if !path.is_empty() && !path.ends_with('/') {
            let (file, metadata) = self.root.find(path)?;
            if metadata.is_dir() {
                return Ok(None);
            }
            let identity = Opened { coding: Coding::Identity, file, metadata };
            return Ok(Some(self.with_siblings(path.to_owned(), identity)));
        }
        for name in &self.options.index {
            let path = format!("{path}{name}");
            match self.root.find(&path) {
                Ok((file, metadata)) if metadata.is_file() => {
                    let identity = Opened { coding: Coding::Identity, file, metadata };
                    return Ok(Some(self.with_siblings(path, identity)));
                }
                Ok(_) | Err(OpenError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Err(OpenError::NotFound)
    }

    fn with_siblings(&self, path: String, identity: Opened) -> Found {
        let mut opened = SmallVec::new();
        for &(coding, suffix) in self.options.siblings {
            // One that cannot be opened is as good as none.
            if let Ok((file, metadata)) = self.root.find(&format!("{path}{suffix}"))
                && metadata.is_file()
            {
                opened.push(Opened { coding, file, metadata });
            }
        }
        opened.push(identity);
        Found { path, opened }
    }
}

impl Miss {
    fn from_open(path: &str, error: OpenError) -> Self {
        match error {
            OpenError::NotFound => Self::NotFound,
            OpenError::Denied(error) => {
                tracing::debug!(path, %error, "the file may not be read by the server");
                Self::Denied
            }
            OpenError::Failed(error) => {
                tracing::error!(path, %error, "the file cannot be opened");
                Self::Failed
            }
        }
    }
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn refused(raw: &str, refusal: Refusal) -> StatusCode {
    tracing::debug!(path = raw, reason = %refusal, "the path is refused");
    if refusal.is_malformed() { StatusCode::BAD_REQUEST } else { StatusCode::NOT_FOUND }
}

/// Which variant of a page a request asks for.
fn choose(page: &Page, req: &Request, asks: Asks) -> Choice {
    if asks.encoding && page.is_negotiated() {
        page.choose(AcceptEncoding::parse(req.head().header_all("accept-encoding")))
    } else {
        Choice::Variant(page.identity())
    }
}

/// The response that a variant gives to a request: RFC 9110 §13.2.2, then ranges.
fn answer(local: &Local, index: usize, req: &Request, asks: Asks) -> Response {
    let page = &*local.page;
    let (Some(variant), Some(ready)) = (page.variants.get(index), local.ready.get(index)) else {
        return Response::status_text(StatusCode::INTERNAL_SERVER_ERROR);
    };
    if page.status == StatusCode::OK {
        if asks.conditional() {
            match conditional::evaluate(req.head(), asks, variant.validators()) {
                Verdict::Failed => return Response::status_text(StatusCode::PRECONDITION_FAILED),
                Verdict::NotModified => return Response::prepared(Arc::clone(&ready.not_modified)),
                Verdict::Proceed => {}
            }
        }
        // RFC 9110 §14.2: ranges are defined for GET only.
        if asks.range
            && *req.method() == Method::GET
            && let Some(response) = answer_ranges(variant, req, asks)
        {
            return response;
        }
    }
    match &ready.full {
        Some(prepared) => Response::prepared(Arc::clone(prepared)),
        None => {
            let mut response = Response::new(variant.source.slice(0..variant.len));
            *response.headers_mut() = variant.headers.clone();
            if page.status == StatusCode::OK { response } else { response.with_status(page.status) }
        }
    }
}

/// 206 or 416; `None` where the whole representation is the answer.
fn answer_ranges(variant: &Variant, req: &Request, asks: Asks) -> Option<Response> {
    let mut fields = req.head().header_all("range");
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    if !conditional::range_applies(req.head(), asks, variant.validators()) {
        return None;
    }
    match range::select(field, variant.len) {
        Selection::Whole => None,
        Selection::Unsatisfiable => {
            let unsatisfied = format!("bytes */{}", variant.len);
            Some(
                Response::status_text(StatusCode::RANGE_NOT_SATISFIABLE)
                    .with_header(header::CONTENT_RANGE, HeaderValue::try_from(unsatisfied).ok()?),
            )
        }
        Selection::Parts(parts) => match parts.as_slice() {
            [range] => single_range(variant, range.clone()),
            parts => Some(multiple_ranges(variant, parts)),
        },
    }
}

fn single_range(variant: &Variant, range: Range<u64>) -> Option<Response> {
    let at = format!("bytes {}-{}/{}", range.start, range.end - 1, variant.len);
    let mut response = Response::new(variant.source.slice(range));
    *response.headers_mut() = variant.headers.clone();
    response.set_status(StatusCode::PARTIAL_CONTENT);
    Some(response.with_header(header::CONTENT_RANGE, HeaderValue::try_from(at).ok()?))
}

fn multiple_ranges(variant: &Variant, parts: &[Range<u64>]) -> Response {
    let (body, content_type) = multipart::byteranges(
        &variant.source,
        parts,
        variant.len,
        &variant.content_type,
        &boundary(),
    );
    let mut response = Response::new(body);
    *response.headers_mut() = variant.headers.clone();
    response.set_status(StatusCode::PARTIAL_CONTENT);
    response.with_header(header::CONTENT_TYPE, content_type)
}

/// Text that content cannot foresee, so that it cannot hold it.
fn boundary() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let hash = |salt: u8| RandomState::new().hash_one((count, salt));
    format!("{:016x}{:016x}", hash(0), hash(1))
}

/// To the same path with a slash.
fn redirect(req: &Request) -> Response {
    // Two slashes at the beginning would name another host (RFC 3986 §4.2).
    let path = req.path().trim_start_matches('/');
    let query = req.query().map(|query| format!("?{query}")).unwrap_or_default();
    match HeaderValue::try_from(format!("/{path}/{query}")) {
        Ok(location) => Response::status_text(StatusCode::MOVED_PERMANENTLY)
            .with_header(header::LOCATION, location),
        Err(_) => Response::status_text(StatusCode::BAD_REQUEST),
    }
}
