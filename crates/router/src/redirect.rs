//! Redirects as handlers.

use hearth_http_core::{Handler, HeaderValue, Request, Response, StatusCode, header};

/// Answers with a redirect. `{name}` in the target stands for a path or host parameter, in the
/// spelling of the request; the query of the request is kept.
///
/// ```
/// use hearth_router::{Redirect, Router};
///
/// let router = Router::builder()
///     .redirect("/blog/{slug}", Redirect::permanent("/articles/{slug}"))
///     .redirect("/home", Redirect::temporary("https://example.com/"))
///     .build()?;
/// # Ok::<(), hearth_router::BuildError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Redirect {
    status: StatusCode,
    target: Target,
}

/// Where a redirect leads: literal text and parameters by turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    text: Box<str>,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    Param(Box<str>),
}

impl Redirect {
    /// 308: for good, with the same method and content.
    #[must_use]
    pub fn permanent(target: impl AsRef<str>) -> Self {
        Self::with_status(StatusCode::PERMANENT_REDIRECT, target)
    }

    /// 307: for now, with the same method and content.
    #[must_use]
    pub fn temporary(target: impl AsRef<str>) -> Self {
        Self::with_status(StatusCode::TEMPORARY_REDIRECT, target)
    }

    /// 303: the answer to a form, to be fetched with GET.
    #[must_use]
    pub fn see_other(target: impl AsRef<str>) -> Self {
        Self::with_status(StatusCode::SEE_OTHER, target)
    }

    /// A redirect with this status, for instance 301 or 302 for old clients.
    #[must_use]
    pub fn with_status(status: StatusCode, target: impl AsRef<str>) -> Self {
        Self { status, target: Target::parse(target.as_ref()) }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }
}

impl Handler for Redirect {
    fn call(&self, req: Request) -> impl Future<Output = Response> + Send {
        std::future::ready(to(self.status, &self.target.fill(&req)))
    }
}

impl Target {
    /// A brace without its other half is literal.
    fn parse(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let Some((name, behind)) = behind.split_once('}') else { break };
            pieces.push(Piece::Literal(before.into()));
            pieces.push(Piece::Param(name.strip_prefix('*').unwrap_or(name).into()));
            rest = behind;
        }
        pieces.push(Piece::Literal(rest.into()));
        Self { text: text.into(), pieces }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Parameters that it takes.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(_) => None,
            Piece::Param(name) => Some(&**name),
        })
    }

    /// Whether the author, and not the request, says to which site it leads.
    pub(crate) fn is_anchored(&self) -> bool {
        ["/", "http://", "https://"].iter().any(|start| self.text.starts_with(start))
    }

    fn fill(&self, req: &Request) -> String {
        let mut filled = String::with_capacity(self.text.len() + 64);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => filled.push_str(text),
                Piece::Param(name) => filled.push_str(req.param(name).unwrap_or_default()),
            }
        }
        if !self.text.starts_with("//") {
            filled = same_site(&filled);
        }
        if let Some(query) = req.query() {
            filled.push(if filled.contains('?') { '&' } else { '?' });
            filled.push_str(query);
        }
        filled
    }
}

/// A redirect to the spelling of the path that a route has: with the slash at its end, or without.
pub(crate) fn to_slash_twin(req: &Request) -> Response {
    let path = req.path();
    let twin = match path.strip_suffix('/') {
        Some(without) => same_site(without),
        None => same_site(path) + "/",
    };
    let target = match req.query() {
        Some(query) => format!("{twin}?{query}"),
        None => twin,
    };
    to(StatusCode::PERMANENT_REDIRECT, &target)
}

/// `//host` and `/\host` would lead a browser to another site, so one slash remains.
fn same_site(target: &str) -> String {
    match target.strip_prefix('/') {
        Some(rest) => format!("/{}", rest.trim_start_matches(['/', '\\'])),
        None => target.to_owned(),
    }
}

fn to(status: StatusCode, target: &str) -> Response {
    // A backslash is a slash to browsers; the rest is what a field value cannot carry.
    let encoded = percent_encoding::utf8_percent_encode(target, LOCATION).to_string();
    match HeaderValue::try_from(encoded) {
        Ok(location) => Response::status_only(status).with_header(header::LOCATION, location),
        Err(_) => Response::status_only(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

const LOCATION: &percent_encoding::AsciiSet =
    &percent_encoding::CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'`');
