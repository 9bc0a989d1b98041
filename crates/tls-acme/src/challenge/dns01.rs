//! DNS-01: TXT records (RFC 8555 §8.4).

use std::{fmt, future::Future, pin::Pin, time::Duration};

/// What a [`DnsSolver`] answers with.
pub type SolverFuture<'a> = Pin<Box<dyn Future<Output = Result<(), SolverError>> + Send + 'a>>;

/// Sets TXT records at a name service.
///
/// `name` is the full name of the record without a dot at its end, `_acme-challenge.example.com`. Where
/// it is a CNAME (RFC 8555 delegates so), the record goes to where that points. A name may need two values
/// at once, for a domain and its wildcard, so [`present`](Self::present) adds and
/// [`cleanup`](Self::cleanup) removes one value.
pub trait DnsSolver: fmt::Debug + Send + Sync + 'static {
    /// Adds the value. That it is there already is no error.
    fn present<'a>(&'a self, name: &'a str, value: &'a str) -> SolverFuture<'a>;

    /// Waits until every authoritative server shows the value.
    fn wait<'a>(&'a self, name: &'a str, value: &'a str) -> SolverFuture<'a>;

    /// Removes the value. That it is gone already is no error.
    fn cleanup<'a>(&'a self, name: &'a str, value: &'a str) -> SolverFuture<'a>;
}

/// A TXT record could not be set.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
#[non_exhaustive]
pub struct SolverError {
    /// What happened, for the operator.
    pub text: String,
    /// Whether somebody must change something first, such as a password.
    pub is_permanent: bool,
    /// How long the provider wants us to wait.
    pub retry_after: Option<Duration>,
}

impl SolverError {
    /// May pass.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_permanent: false, retry_after: None }
    }

    /// Will not pass by itself.
    pub fn permanent(text: impl Into<String>) -> Self {
        Self { is_permanent: true, ..Self::new(text) }
    }

    /// Tells when the provider wants to be asked again.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}
