//! Routing: from host, path and method to a handler.
//!
//! [`PathTree`] maps path patterns to values and knows nothing of HTTP; [`Router`] is built on it and
//! is a [`Handler`](hearth_http_core::Handler). A look-up does not allocate.
//! Not here: request parsing (`hearth-http-core`), sockets (`hearth-net`), typed extraction beyond
//! parameters (`hearth-app`).
//!
//! ```
//! use hearth_http_core::{Request, Response};
//! use hearth_router::{RequestExt, Router};
//!
//! async fn user(req: Request) -> Response {
//!     match req.parse_param::<u64>("id") {
//!         Ok(id) => Response::text(format!("user {id}")),
//!         Err(error) => error.into(),
//!     }
//! }
//! let router = Router::builder().get("/users/{id:uint}", user).build()?;
//! # Ok::<(), hearth_router::BuildError>(())
//! ```
//!
//! # Patterns
//! | written | matches |
//! |---|---|
//! | `/users` | that text |
//! | `/users/{id}` | one segment that is not empty |
//! | `/users/{id:int}` | one that fits: `uint`, `int`, `uuid`, `hex`, `alpha`, `alnum`, `len(4)`, `len(2,5)`, `regex(…)` |
//! | `/v{n:uint}/{name}.json` | a value with literal text around it |
//! | `/files/{*path}` | everything beneath, `/files/` included |
//! | `/{{x}}` | the text `{x}` |
//!
//! At each segment literal text wins, then parameters with literal text around them (more text
//! first), then constrained ones (in the order of the table), then plain ones, then catch-alls. The
//! order in which routes are added matters only between different regular expressions or lengths.
//!
//! # Features
//! - `regex` (on): the `regex(…)` constraint.
//! - `testing`: generator and oracle for fuzzing; outside semver.
#![forbid(unsafe_code)]

mod builder;
mod canonical;
mod compile;
mod constraint;
mod error;
mod explain;
mod host;
mod leaf;
mod params;
mod pattern;
mod redirect;
mod route;
mod router;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tree;
mod url;

pub use crate::{
    builder::RouterBuilder,
    canonical::{PathError, PathPolicy},
    error::{BuildError, Problem},
    explain::{Explanation, Step, StepOutcome, Verdict},
    host::HostError,
    params::{ParamError, RequestExt},
    pattern::{Pattern, PatternError},
    redirect::Redirect,
    route::{IntoHandler, IsFunction, IsHandler, Route, SlashPolicy},
    router::{RouteInfo, Router},
    tree::{InsertError, Match, PathTree, PathTreeBuilder},
    url::UrlError,
};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
