//! Sends requests in the clear to TLS.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use hearth_http_core::{HeaderValue, Middleware, Next, Request, Response, StatusCode, header};

/// The port on which TLS is spoken; known when the listener is bound, which is after the routes are built.
#[derive(Debug, Clone, Default)]
pub struct HttpsPort(Arc<AtomicU16>);

impl HttpsPort {
    pub(crate) fn set(&self, port: u16) {
        self.0.store(port, Ordering::Relaxed);
    }

    fn get(&self) -> u16 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Answers requests in the clear with a redirect to the same target over TLS.
#[derive(Debug)]
pub(super) struct ToHttps(pub(super) HttpsPort);

impl Middleware for ToHttps {
    async fn handle(&self, req: Request, next: Next<'_>) -> Response {
        if req.connection().tls.is_some() {
            return next.run(req).await;
        }
        // A site answers only requests that name its host; one of all hosts may see none (HTTP/1.0).
        let Some(host) = req.head().host().filter(|host| !host.is_empty()) else {
            return Response::status_text(StatusCode::BAD_REQUEST);
        };
        let target = location(host, self.0.get(), req.path(), req.query());
        match HeaderValue::try_from(target) {
            Ok(location) => Response::status_only(StatusCode::PERMANENT_REDIRECT)
                .with_header(header::LOCATION, location),
            Err(_) => Response::status_text(StatusCode::BAD_REQUEST),
        }
    }
}

fn location(host: &str, port: u16, path: &str, query: Option<&str>) -> String {
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let path = if path.starts_with('/') { path } else { "/" };
    let (mark, query) = query.map_or(("", ""), |query| ("?", query));
    format!("https://{host}{port}{path}{mark}{query}")
}

#[cfg(test)]
mod tests {
    use super::location;

    #[test]
    fn locations() {
        assert_eq!(location("a.test", 443, "/b", None), "https://a.test/b");
        assert_eq!(location("[::1]", 8443, "/", Some("c=d")), "https://[::1]:8443/?c=d");
        assert_eq!(location("a.test", 443, "*", None), "https://a.test/");
    }
}
