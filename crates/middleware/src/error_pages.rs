//! Contents of one's own for errors.

use bytes::Bytes;
use hearth_http_core::{
    Body, HeaderValue, Middleware, Next, Request, Response, StatusCode, header,
};

/// Gives errors a page.
///
/// Only the plain text that stands for "no content" is replaced: an error that a handler explains itself, as
/// JSON or as a page, stays as it is. The status stays in any case.
#[derive(Debug, Clone, Default)]
pub struct ErrorPages {
    pages: Vec<(Which, HeaderValue, Bytes)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// 4 for 4xx, 5 for 5xx.
    Class(u16),
    Status(StatusCode),
}

impl ErrorPages {
    /// No pages yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The page of one status; wins over that of its class.
    #[must_use]
    pub fn page(mut self, status: StatusCode, content_type: HeaderValue, page: Bytes) -> Self {
        self.pages.insert(0, (Which::Status(status), content_type, page));
        self
    }

    /// The page of all client errors, 4xx.
    #[must_use]
    pub fn client_errors(self, content_type: HeaderValue, page: Bytes) -> Self {
        self.class(4, content_type, page)
    }

    /// The page of all server errors, 5xx.
    #[must_use]
    pub fn server_errors(self, content_type: HeaderValue, page: Bytes) -> Self {
        self.class(5, content_type, page)
    }

    fn class(mut self, class: u16, content_type: HeaderValue, page: Bytes) -> Self {
        self.pages.push((Which::Class(class), content_type, page));
        self
    }

    fn find(&self, status: StatusCode) -> Option<(&HeaderValue, &Bytes)> {
        let class = status.as_u16() / 100;
        self.pages
            .iter()
            .find(|(which, ..)| *which == Which::Status(status) || *which == Which::Class(class))
            .map(|(_, content_type, page)| (content_type, page))
    }
}

impl Middleware for ErrorPages {
    async fn handle(&self, req: Request, next: Next<'_>) -> Response {
        let mut response = next.run(req).await;
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return response;
        }
        let Some((content_type, page)) = self.find(status) else { return response };
        if !is_bare(&mut response) {
            return response;
        }
        response.headers_mut().remove(&header::CONTENT_ENCODING);
        response
            .with_header(header::CONTENT_TYPE, content_type.clone())
            .with_body(Body::Bytes(page.clone()))
    }
}

/// Whether the content is empty, or no more than the status in words.
fn is_bare(response: &mut Response) -> bool {
    let status = response.status();
    // A page of the handler's own is prepared, or longer than this.
    if response.as_prepared().is_some() || response.body_len().is_none_or(|len| len > 64) {
        return false;
    }
    let mut words = Response::status_text(status);
    let content = response.body_mut().as_bytes();
    content
        .is_some_and(|content| content.is_empty() || words.body_mut().as_bytes() == Some(content))
}
