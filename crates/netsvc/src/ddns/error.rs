//! What a service answers other than "done", and who can do something about it.

use std::{error::Error, fmt, time::Duration};

/// A service did not do what it was asked.
///
/// The text names the service and what it said, never an address that was asked for: such URLs hold
/// secrets.
#[derive(Debug)]
pub struct ProviderError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ProviderErrorKind,
    provider: &'static str,
    detail: String,
    retry_after: Option<Duration>,
    was_sent: bool,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProviderErrorKind {
    /// The service takes us for an abuser and has locked the name (`abuse`).
    Abuse,
    /// User, password, token or key is wrong, or may not do this (`badauth`).
    BadAuth,
    /// The service has a failure of its own (`911`, `dnserr`, 5xx).
    Busy,
    /// This machine's clock is wrong.
    ClockWrong,
    /// The answer is none that the service gives: a login page, a proxy, half an answer.
    Garbled,
    /// The account does not have this name (`nohost`).
    NoHost,
    /// The account must be paid for this (`!donator`).
    NotDonator,
    /// The name is not a full name to the service (`notfqdn`).
    NotFqdn,
    /// Too many requests (429).
    RateLimited,
    /// The service understood and refused, for the reason it gives.
    Refused,
    /// The service cannot do this at all.
    Unsupported,
    /// The service cannot be reached.
    Unreachable,
}

/// Whose move it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Actor {
    /// Whoever configures this machine.
    Operator,
    /// The network, or time.
    Environment,
    /// Whoever runs the service.
    Service,
}

/// Whether asking again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Ask again after a while.
    Later,
    /// Do not ask for this name again until the configuration changes.
    StopHost,
    /// Do not ask this account for anything until the configuration changes.
    StopAccount,
}

impl ProviderError {
    /// An error of a service. `detail` must hold no secret.
    pub fn new(provider: &'static str, kind: ProviderErrorKind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let (retry_after, source) = (None, None);
        Self(Box::new(Inner { kind, provider, detail, retry_after, was_sent: true, source }))
    }

    /// Adds how long the service wants to be left alone.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.0.retry_after = retry_after;
        self
    }

    /// Adds what lies below.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Notes that the service cannot have seen the request, so that it may be sent again soon.
    #[must_use]
    pub fn with_unsent(mut self) -> Self {
        self.0.was_sent = false;
        self
    }

    /// Whether the service may have seen the request.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        self.0.was_sent
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> ProviderErrorKind {
        self.0.kind
    }

    /// The service's name, as in configurations.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        self.0.provider
    }

    /// What the service said.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// How long the service wants to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The same error again, for another name that it concerns as well.
    pub(crate) fn copy(&self) -> Self {
        let mut copy = Self::new(self.0.provider, self.0.kind, self.0.detail.clone());
        copy.0.was_sent = self.0.was_sent;
        copy.with_retry_after(self.0.retry_after)
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.provider, self.0.kind.title())?;
        match self.0.detail.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", self.0.detail),
        }
    }
}

impl Error for ProviderError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl ProviderErrorKind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::Abuse,
        Self::BadAuth,
        Self::Busy,
        Self::ClockWrong,
        Self::Garbled,
        Self::NoHost,
        Self::NotDonator,
        Self::NotFqdn,
        Self::RateLimited,
        Self::Refused,
        Self::Unsupported,
        Self::Unreachable,
    ];

    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().0
    }

    /// What is wrong, in a few words.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().1
    }

    /// What whoever must act can do.
    #[must_use]
    pub const fn fix(self) -> &'static str {
        self.row().2
    }

    /// Whose move it is.
    #[must_use]
    pub const fn actor(self) -> Actor {
        match self {
            Self::Busy | Self::Garbled => Actor::Service,
            Self::RateLimited | Self::Unreachable => Actor::Environment,
            _ => Actor::Operator,
        }
    }

    /// Whether asking again can help.
    #[must_use]
    pub const fn remedy(self) -> Remedy {
        match self {
            Self::Abuse | Self::BadAuth | Self::NotDonator => Remedy::StopAccount,
            Self::NoHost | Self::NotFqdn | Self::Unsupported => Remedy::StopHost,
            Self::Busy
            | Self::ClockWrong
            | Self::Garbled
            | Self::RateLimited
            | Self::Refused
            | Self::Unreachable => Remedy::Later,
        }
    }

    const fn row(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Abuse => (
                "H-DNS-001",
                "the service has locked the name because of too many updates",
                "unlock the name on the service's web site, find what else updates it, then: hearth \
                 ddns update --force",
            ),
            Self::BadAuth => (
                "H-DNS-002",
                "the service refuses user, password, token or key",
                "correct the credentials; services often want a token of its own for updates, with \
                 the right to change this zone",
            ),
            Self::NotDonator => (
                "H-DNS-003",
                "the service offers this to paying accounts only",
                "turn the feature off (often: IPv6, or several names), or upgrade the account",
            ),
            Self::NoHost => (
                "H-DNS-004",
                "the account at the service does not have this name",
                "create the name on the service's web site, then: hearth ddns update --force; or \
                 correct its spelling or zone here",
            ),
            Self::NotFqdn => (
                "H-DNS-005",
                "the service does not take this for a full name",
                "write the full name, such as home.example.com",
            ),
            Self::Refused => {
                ("H-DNS-006", "the service refuses the change", "do what its answer asks for")
            }
            Self::Busy => (
                "H-DNS-007",
                "the service has a failure of its own",
                "nothing: it is asked again after 10 minutes or more",
            ),
            Self::RateLimited => (
                "H-DNS-008",
                "the service wants fewer requests",
                "nothing, if it does not last: find what else uses the account",
            ),
            Self::Unreachable => (
                "H-DNS-009",
                "the service cannot be reached",
                "check this machine's network, its resolver and any firewall towards the service",
            ),
            Self::Garbled => (
                "H-DNS-010",
                "the answer is not one that the service gives",
                "look for a proxy or login page in between; check the address of the service",
            ),
            Self::ClockWrong => (
                "H-DNS-011",
                "this machine's clock is wrong",
                "set the clock, and let a time service keep it (timedatectl set-ntp true)",
            ),
            Self::Unsupported => (
                "H-DNS-012",
                "the service cannot do this",
                "turn the address family off for this name, or use another service",
            ),
        }
    }
}
