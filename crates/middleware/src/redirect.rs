//! Redirects by configuration.

use hearth_http_core::{HeaderValue, Middleware, Next, Request, Response, StatusCode, header};

/// Sends requests for some paths elsewhere; the first rule that matches wins.
#[derive(Debug, Clone, Default)]
pub struct Redirects {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    from: Box<str>,
    /// Whether `from` stands for everything that begins with it.
    is_prefix: bool,
    to: Box<str>,
    status: StatusCode,
}

/// Why a redirect cannot be. The operator has to act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRedirect {
    /// The source is no path, or has a `*` that is not at its end.
    #[error("a redirect goes from a path such as /old or /old/*, not from {0:?}")]
    From(String),
    /// The status is no redirect's.
    #[error("a redirect's status is 301, 302, 303, 307 or 308, not {0}")]
    Status(StatusCode),
    /// The target cannot be sent, or has a `*` that stands for nothing.
    #[error(
        "a redirect goes to a path or an address, with a * only where the source has one, not to {0:?}"
    )]
    To(String),
    /// The target matches the source again.
    #[error("the redirect from {0:?} leads to itself")]
    Loop(String),
}

impl Redirects {
    /// No redirects yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule: from `/old` or `/old/*` to a path or an address, in which `*` stands for what the source's `*`
    /// stood for. The query is passed on unless the target has one of its own.
    ///
    /// # Errors
    /// [`InvalidRedirect`] names the part that is wrong.
    pub fn rule(
        mut self,
        from: &str,
        to: &str,
        status: StatusCode,
    ) -> Result<Self, InvalidRedirect> {
        let (prefix, is_prefix) = match from.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (from, false),
        };
        if !prefix.starts_with('/') || prefix.contains(['*', '?', '#']) {
            return Err(InvalidRedirect::From(from.to_owned()));
        }
        if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Err(InvalidRedirect::Status(status));
        }
        let stars = to.matches('*').count();
        let visible = !to.is_empty() && to.bytes().all(|byte| matches!(byte, 0x21..=0x7e));
        if !visible || stars > usize::from(is_prefix) {
            return Err(InvalidRedirect::To(to.to_owned()));
        }
        let path = to.split(['?', '#']).next().unwrap_or_default();
        let is_loop = if is_prefix { path.starts_with(prefix) } else { path == prefix };
        if is_loop {
            return Err(InvalidRedirect::Loop(from.to_owned()));
        }
        self.rules.push(Rule { from: prefix.into(), is_prefix, to: to.into(), status });
        Ok(self)
    }

    fn find(&self, req: &Request) -> Option<Response> {
        let path = req.path();
        let (rule, rest) = self.rules.iter().find_map(|rule| {
            let rest = path.strip_prefix(&*rule.from)?;
            (rule.is_prefix || rest.is_empty()).then_some((rule, rest))
        })?;
        let mut location = rule.to.replacen('*', rest, 1);
        if let Some(query) = req.query()
            && !rule.to.contains('?')
        {
            location.push('?');
            location.push_str(query);
        }
        redirect(&location, rule.status)
    }
}

impl Middleware for Redirects {
    async fn handle(&self, req: Request, next: Next<'_>) -> Response {
        match self.find(&req) {
            Some(response) => response,
            None => next.run(req).await,
        }
    }
}

/// Sends requests that came unencrypted to the same address with `https`.
#[derive(Debug, Clone, Copy)]
pub struct HttpsOnly {
    port: u16,
}

impl HttpsOnly {
    /// To `https` on its own port.
    #[must_use]
    pub fn new() -> Self {
        Self { port: 443 }
    }

    /// To `https` on this port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }
}

impl Default for HttpsOnly {
    fn default() -> Self {
        Self::new()
    }
}

impl Middleware for HttpsOnly {
    async fn handle(&self, req: Request, next: Next<'_>) -> Response {
        if req.connection().tls.is_some() {
            return next.run(req).await;
        }
        let Some(host) = req.head().host().filter(|host| !host.is_empty()) else {
            return Response::status_text(StatusCode::BAD_REQUEST);
        };
        let port = if self.port == 443 { String::new() } else { format!(":{}", self.port) };
        let query = req.query().map(|query| format!("?{query}")).unwrap_or_default();
        // 308 keeps the method: a form that was sent to the wrong scheme is sent again, not lost.
        redirect(
            &format!("https://{host}{port}{}{query}", req.path()),
            StatusCode::PERMANENT_REDIRECT,
        )
        .unwrap_or_else(|| Response::status_text(StatusCode::BAD_REQUEST))
    }
}

fn redirect(location: &str, status: StatusCode) -> Option<Response> {
    // Two slashes at the beginning, or what browsers take for them, would name another host (RFC 3986 §4.2).
    let folded;
    let location = if location.starts_with('/') {
        folded = format!("/{}", location.trim_start_matches(['/', '\\']));
        &folded
    } else {
        location
    };
    let location = HeaderValue::try_from(location).ok()?;
    Some(Response::status_text(status).with_header(header::LOCATION, location))
}
