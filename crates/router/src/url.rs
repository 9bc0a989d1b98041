//! From a route's name to a URL.

use std::fmt::{Display, Write as _};

use crate::{
    Router,
    pattern::{Param, Segment},
};

/// Why there is no URL. The author of the call must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// The value does not fit the constraint, or is empty.
    #[error("`{value}` does not fit `{segment}` of the route `{route}`")]
    Unfit {
        /// The name of the route.
        route: Box<str>,
        /// The segment of the pattern.
        segment: Box<str>,
        /// The value.
        value: Box<str>,
    },
    /// A parameter without a value.
    #[error("the route `{route}` needs a value for `{param}`")]
    MissingParam {
        /// The name of the route.
        route: Box<str>,
        /// The parameter.
        param: Box<str>,
    },
    /// A value without a parameter.
    #[error("the route `{route}` has no parameter `{param}`")]
    UnknownParam {
        /// The name of the route.
        route: Box<str>,
        /// The parameter.
        param: Box<str>,
    },
    /// No route has this name.
    #[error("no route is called `{route}`")]
    UnknownRoute {
        /// The name.
        route: Box<str>,
    },
}

impl Router {
    /// The path of the route `name`, with these values for its parameters, percent-encoded.
    ///
    /// # Errors
    /// [`UrlError`] where there is no such route, a value is missing, unknown or would not be matched again.
    pub fn url_for(&self, name: &str, params: &[(&str, &dyn Display)]) -> Result<String, UrlError> {
        let unknown = || UrlError::UnknownRoute { route: name.into() };
        let number = *self.inner.names.get(name).ok_or_else(unknown)?;
        let pattern = self.inner.patterns.get(number).ok_or_else(unknown)?;
        if let Some((param, _)) =
            params.iter().find(|(given, _)| !pattern.names().any(|n| n == *given))
        {
            return Err(UrlError::UnknownParam { route: name.into(), param: (*param).into() });
        }
        let mut url = String::new();
        for segment in pattern.segments() {
            url.push('/');
            let Some(param) = segment.name() else {
                // Without a name it is literal.
                write!(url, "{segment}").expect("strings take all text");
                continue;
            };
            let value = params.iter().find(|(given, _)| *given == param).map(|(_, value)| value);
            let value = value
                .ok_or_else(|| UrlError::MissingParam { route: name.into(), param: param.into() })?
                .to_string();
            let text = encode(segment, &value).ok_or_else(|| UrlError::Unfit {
                route: name.into(),
                segment: segment.to_string().into(),
                value: value.as_str().into(),
            })?;
            url.push_str(&text);
        }
        Ok(url)
    }
}

/// The text of a segment with this value; `None` where the route would not match it, or not so.
fn encode(segment: &Segment, value: &str) -> Option<String> {
    match segment {
        Segment::Static(text) => Some(text.to_string()),
        Segment::Param(Param { prefix, suffix, constraint, .. }) => {
            let encoded = percent_encoding::utf8_percent_encode(value, SEGMENT).to_string();
            let fits =
                constraint.as_ref().is_none_or(|constraint| constraint.accepts(encoded.as_bytes()));
            let text = format!("{prefix}{encoded}{suffix}");
            let dots = text == "." || text == "..";
            (fits && !encoded.is_empty() && !value.contains('\0') && !dots).then_some(text)
        }
        Segment::CatchAll { .. } => {
            let ambiguous = |(at, part): (usize, &str)| {
                let last = at == value.matches('/').count();
                part == "." || part == ".." || (part.is_empty() && !last)
            };
            let bad = value.contains('\0') || value.split('/').enumerate().any(ambiguous);
            let encode = |part| percent_encoding::utf8_percent_encode(part, SEGMENT).to_string();
            (!bad).then(|| value.split('/').map(encode).collect::<Vec<_>>().join("/"))
        }
    }
}

/// All but the unreserved characters of RFC 3986 and those that mean nothing within a segment.
const SEGMENT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');
