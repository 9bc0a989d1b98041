//! The standard middleware, each behind a feature of its own.
//!
//! Each is a [`Middleware`](hearth_http_core::Middleware): it sees the request before the handler and the
//! response behind it, and is put around a handler by a [`Chain`](hearth_http_core::Chain) or a router.
//! Not here: files (`hearth-static-files`), authentication (`hearth-auth`), the access log (`hearth-telemetry`).
//!
//! | feature | type | what it does |
//! |---|---|---|
//! | `compress` | `Compress` | gzip, brotli, zstd, deflate by `Accept-Encoding` |
//! | `decompress` | `Decompress` | request bodies in these codings, bounded |
//! | `error-pages` | `ErrorPages` | contents of one's own for 4xx and 5xx |
//! | `headers` | `ResponseHeaders` | sets, adds, removes response fields |
//! | `limits` | `BodyLimit`, `ConcurrencyLimit` | bounds on request bodies and on requests at once |
//! | `redirect` | `Redirects`, `HttpsOnly` | from one path, or one scheme, to another |
//! | `request-id` | `AssignRequestId` | an id for every request, made or passed on |
//! | `security-headers` | `SecurityHeaders` | HSTS, CSP, framing, referrer, sniffing |
//! | `timeout` | `Timeout` | an answer within a time |
#![forbid(unsafe_code)]

#[cfg(feature = "compress")]
mod compress;
#[cfg(feature = "decompress")]
mod decompress;
#[cfg(feature = "error-pages")]
mod error_pages;
#[cfg(feature = "headers")]
mod headers;
#[cfg(feature = "limits")]
mod limits;
#[cfg(feature = "redirect")]
mod redirect;
#[cfg(feature = "request-id")]
mod request_id;
#[cfg(feature = "security-headers")]
mod security_headers;
#[cfg(feature = "timeout")]
mod timeout;

#[cfg(feature = "compress")]
pub use crate::compress::{Compress, Levels};
#[cfg(feature = "decompress")]
pub use crate::decompress::Decompress;
#[cfg(feature = "error-pages")]
pub use crate::error_pages::ErrorPages;
#[cfg(feature = "headers")]
pub use crate::headers::{FramingField, ResponseHeaders};
#[cfg(feature = "limits")]
pub use crate::limits::{BodyLimit, ConcurrencyLimit};
#[cfg(feature = "redirect")]
pub use crate::redirect::{HttpsOnly, InvalidRedirect, Redirects};
#[cfg(feature = "request-id")]
pub use crate::request_id::{AssignRequestId, RequestId};
#[cfg(feature = "security-headers")]
pub use crate::security_headers::{InvalidPolicy, SecurityHeaders, StrictTransport};
#[cfg(feature = "timeout")]
pub use crate::timeout::Timeout;

#[doc = include_str!("../README.md")]
#[cfg(all(doctest, feature = "headers", feature = "timeout"))]
struct ReadmeDoctests;
