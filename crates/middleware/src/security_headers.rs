//! Response fields that tell browsers to be careful.

use std::time::Duration;

use hearth_http_core::{HeaderName, HeaderValue, Middleware, Next, Request, Response, header};

/// Fields that tell browsers to be careful, where the handler did not set them itself.
///
/// By default `x-content-type-options: nosniff`, `x-frame-options: SAMEORIGIN`,
/// `referrer-policy: strict-origin-when-cross-origin` and `x-xss-protection: 0` (the filter that it turns off was
/// itself a way in).
#[derive(Debug, Clone)]
pub struct SecurityHeaders {
    always: Vec<(HeaderName, HeaderValue)>,
    /// Sent over TLS only: RFC 6797 §7.2.
    strict_transport: Option<HeaderValue>,
}

/// For how long a browser that has seen the site over TLS refuses to reach it otherwise (RFC 6797).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrictTransport {
    /// Counted from each response, in whole seconds. Zero ends what was said before.
    pub max_age: Duration,
    /// Also every host beneath this one.
    pub subdomains: bool,
    /// Browsers may have it built in, which is asked for at <https://hstspreload.org> and hard to take back.
    pub preload: bool,
}

impl StrictTransport {
    fn value(self) -> Option<HeaderValue> {
        let subdomains = if self.subdomains { "; includeSubDomains" } else { "" };
        let preload = if self.preload { "; preload" } else { "" };
        HeaderValue::try_from(format!("max-age={}{subdomains}{preload}", self.max_age.as_secs()))
            .ok()
    }
}

/// A policy cannot be sent in a header field. The operator has to act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} has a character that no header field may have")]
pub struct InvalidPolicy(String);

impl SecurityHeaders {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        let fixed = HeaderValue::from_static;
        let always = vec![
            (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
            (header::X_FRAME_OPTIONS, fixed("SAMEORIGIN")),
            (header::REFERRER_POLICY, fixed("strict-origin-when-cross-origin")),
            (header::X_XSS_PROTECTION, fixed("0")),
        ];
        Self { always, strict_transport: None }
    }

    /// None of them, for those who want a single one.
    #[must_use]
    pub const fn none() -> Self {
        Self { always: Vec::new(), strict_transport: None }
    }

    /// Who may frame the pages: `DENY` or `SAMEORIGIN`; `None` sends nothing.
    #[must_use]
    pub fn frame_options(self, value: Option<HeaderValue>) -> Self {
        self.replace(&header::X_FRAME_OPTIONS, value)
    }

    /// What `Referer` says to others; `None` sends nothing.
    #[must_use]
    pub fn referrer_policy(self, value: Option<HeaderValue>) -> Self {
        self.replace(&header::REFERRER_POLICY, value)
    }

    /// The `content-security-policy`. None by default: there is none that fits every site.
    ///
    /// # Errors
    /// [`InvalidPolicy`]: no header field can hold it.
    pub fn content_security_policy(self, policy: &str) -> Result<Self, InvalidPolicy> {
        let value = HeaderValue::try_from(policy).map_err(|_| InvalidPolicy(policy.to_owned()))?;
        Ok(self.replace(&header::CONTENT_SECURITY_POLICY, Some(value)))
    }

    /// `strict-transport-security`, over TLS only. Off by default: a browser that has seen it refuses plain HTTP
    /// for that long.
    #[must_use]
    pub fn strict_transport(mut self, policy: StrictTransport) -> Self {
        self.strict_transport = policy.value();
        self
    }

    fn replace(mut self, name: &HeaderName, value: Option<HeaderValue>) -> Self {
        self.always.retain(|(known, _)| known != name);
        self.always.extend(value.map(|value| (name.clone(), value)));
        self
    }
}

impl Default for SecurityHeaders {
    fn default() -> Self {
        Self::new()
    }
}

impl Middleware for SecurityHeaders {
    async fn handle(&self, req: Request, next: Next<'_>) -> Response {
        let encrypted = req.connection().tls.is_some();
        let mut response = next.run(req).await;
        for (name, value) in &self.always {
            if !response.headers().contains(name) {
                response.headers_mut().append(name.clone(), value.clone());
            }
        }
        if let Some(value) = self.strict_transport.as_ref().filter(|_| encrypted)
            && !response.headers().contains(&header::STRICT_TRANSPORT_SECURITY)
        {
            response.headers_mut().append(header::STRICT_TRANSPORT_SECURITY, value.clone());
        }
        response
    }
}
