//! Reading parameters: decoded, or as another type.

use std::{any::type_name, borrow::Cow, str::FromStr};

use hearth_http_core::{Request, Response, StatusCode};

/// Parameters of a request beyond their raw text, which is [`Request::param`].
///
/// ```
/// use hearth_http_core::{Request, Response};
/// use hearth_router::{ParamError, RequestExt};
///
/// async fn show(req: Request) -> Response {
///     let id = match req.parse_param::<u64>("id") {
///         Ok(id) => id,
///         Err(error) => return error.into(),
///     };
///     Response::text(format!("user {id}"))
/// }
/// ```
pub trait RequestExt {
    /// The parameter `name` without its percent-encoding; borrowed where there is none.
    ///
    /// # Errors
    /// [`ParamError`] where the route has no such parameter, or it is not UTF-8.
    fn decoded_param(&self, name: &str) -> Result<Cow<'_, str>, ParamError>;

    /// The parameter `name`, decoded, as another type.
    ///
    /// # Errors
    /// [`ParamError`] where the route has no such parameter, or its text is no `T`.
    fn parse_param<T: FromStr>(&self, name: &str) -> Result<T, ParamError> {
        let text = self.decoded_param(name)?;
        let invalid = |_| ParamError::Invalid { name: name.into(), expected: type_name::<T>() };
        text.parse().map_err(invalid)
    }
}

impl RequestExt for Request {
    fn decoded_param(&self, name: &str) -> Result<Cow<'_, str>, ParamError> {
        let raw = self.param(name).ok_or_else(|| ParamError::Missing { name: name.into() })?;
        decode(raw).ok_or_else(|| ParamError::Invalid { name: name.into(), expected: "UTF-8" })
    }
}

/// Why a parameter cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamError {
    /// The peer sent something else than what is expected.
    #[error("the path parameter `{name}` is no {expected}")]
    Invalid {
        /// The parameter.
        name: Box<str>,
        /// The type.
        expected: &'static str,
    },
    /// The handler asks for a parameter that its route does not have: a mistake in the program.
    #[error("the route has no parameter `{name}`")]
    Missing {
        /// The parameter.
        name: Box<str>,
    },
}

impl ParamError {
    /// What to answer: 404 for a text that names nothing, 500 for a mistake in the program.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } => StatusCode::NOT_FOUND,
            Self::Missing { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The text without its escapes; `None` if that is not UTF-8.
fn decode(raw: &str) -> Option<Cow<'_, str>> {
    if memchr::memchr(b'%', raw.as_bytes()).is_none() {
        return Some(Cow::Borrowed(raw));
    }
    // One allocation, since the result is shorter.
    let mut decoded = Vec::with_capacity(raw.len());
    decoded.extend(percent_encoding::percent_decode_str(raw));
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

impl From<ParamError> for Response {
    fn from(error: ParamError) -> Self {
        Self::status_text(error.status())
    }
}
