//! Where a redirect leads, and what must not go along (RFC 9110 §15.4).

use hearth_http_core::Body;
use http::{HeaderName, Method, StatusCode, header};

use crate::{
    ClientError, ClientRequest, ClientResponse, ConnectTo, ErrorKind,
    request::{Content, RequestParts},
};

/// A request and the redirects that it may still follow.
pub(crate) struct Redirects {
    request: RequestParts,
    content: Content,
    count: u32,
    count_max: u32,
}

impl Redirects {
    pub(crate) fn new(request: ClientRequest, count_max: u32) -> Self {
        let content = Content::from(request.body);
        Self { request: request.parts, content, count: 0, count_max }
    }

    /// The request to be sent now.
    pub(crate) fn current(&mut self) -> (&RequestParts, &mut Content) {
        (&self.request, &mut self.content)
    }

    /// Turns the request into the one that `response` asks for. False where the response is for the
    /// caller: no redirect, none wanted, or content that cannot be sent again.
    pub(crate) fn follow(&mut self, response: &ClientResponse) -> Result<bool, ClientError> {
        let status = response.status();
        let Some(location) = response.headers().get(&header::LOCATION) else { return Ok(false) };
        if self.count_max == 0 || !is_redirect(status) {
            return Ok(false);
        }
        let turns_to_get = turns_to_get(status, &self.request.method);
        if !turns_to_get && !self.content.is_there() {
            return Ok(false);
        }
        let from = self.request.target.clone();
        let refuse = |what| Err(ClientError::new(ErrorKind::Redirect, what).at(from.authority()));
        if self.count == self.count_max {
            return refuse("too many redirects");
        }
        self.count += 1;
        let target = self.request.target.resolve(location.as_bytes()).map_err(|error| {
            let what = "the redirect's location is malformed";
            ClientError::new(ErrorKind::Redirect, what).caused_by(error).at(from.authority())
        })?;
        if self.request.target.is_tls && !target.is_tls {
            return refuse("a redirect from https to http");
        }
        if turns_to_get {
            self.request.method = Method::GET;
            self.content = Content::from(Body::Empty);
            for name in CONTENT_FIELDS {
                self.request.headers.remove(name);
            }
        }
        if !self.request.target.is_same_origin(&target) {
            for name in ORIGIN_FIELDS {
                self.request.headers.remove(name);
            }
            let is_family = |to: &ConnectTo| matches!(to, ConnectTo::Ipv4 | ConnectTo::Ipv6);
            let settings = &mut self.request.settings;
            settings.connect_to = settings.connect_to.take().filter(is_family);
        }
        self.request.target = target;
        Ok(true)
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// RFC 9110 §15.4.4 says so for 303; for 301 and 302 everybody does it with POST.
fn turns_to_get(status: StatusCode, method: &Method) -> bool {
    match status.as_u16() {
        303 => method != Method::GET && method != Method::HEAD,
        301 | 302 => method == Method::POST,
        _ => false,
    }
}

/// They speak of content that is no longer there.
const CONTENT_FIELDS: [&HeaderName; 6] = [
    &header::CONTENT_ENCODING,
    &header::CONTENT_LANGUAGE,
    &header::CONTENT_LOCATION,
    &header::CONTENT_RANGE,
    &header::CONTENT_TYPE,
    &header::TRAILER,
];
/// They are meant for one origin only: who asks, and under which name.
const ORIGIN_FIELDS: [&HeaderName; 4] =
    [&header::AUTHORIZATION, &header::COOKIE, &header::HOST, &header::PROXY_AUTHORIZATION];
