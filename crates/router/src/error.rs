//! Why a router is not built: everything that is wrong, at once.

use std::{fmt, panic::Location};

use crate::{HostError, PatternError};

/// Everything that keeps a router from being built. The author of the routes must act.
#[derive(Debug)]
pub struct BuildError {
    problems: Vec<Problem>,
}

/// One thing that is wrong, and where it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Two routes answer the same requests.
    #[error(
        "{method} `{second}` ({second_at}) matches the same paths as `{first}` ({first_at}){}",
        on_host(.host)
    )]
    Conflict {
        /// The method that both answer, `ANY` for a route of every method.
        method: Box<str>,
        /// The host of both; `None` for the default.
        host: Option<Box<str>>,
        /// The pattern that was added first.
        first: Box<str>,
        /// Where it was added.
        first_at: &'static Location<'static>,
        /// The pattern that was added later.
        second: Box<str>,
        /// Where it was added.
        second_at: &'static Location<'static>,
    },
    /// Two routes have one name.
    #[error("the name `{name}` is given to `{second}` ({second_at}) and to `{first}` ({first_at})")]
    DuplicateName {
        /// The name.
        name: Box<str>,
        /// The pattern that has it.
        first: Box<str>,
        /// Where it was added.
        first_at: &'static Location<'static>,
        /// The pattern that wants it too.
        second: Box<str>,
        /// Where it was added.
        second_at: &'static Location<'static>,
    },
    /// A host pattern is malformed.
    #[error("host `{host}` ({at}): {error}")]
    Host {
        /// The pattern.
        host: Box<str>,
        /// Where it was added.
        at: &'static Location<'static>,
        /// What is wrong with it.
        error: HostError,
    },
    /// Hosts are chosen before paths.
    #[error("host `{host}` ({at}) stands under the prefix `{prefix}`: move it out, to the top")]
    HostUnderPrefix {
        /// The host.
        host: Box<str>,
        /// The prefix it stands under.
        prefix: Box<str>,
        /// Where it was added.
        at: &'static Location<'static>,
    },
    /// A route without a method can never be reached.
    #[error("route `{pattern}` ({at}) has no method")]
    NoMethod {
        /// The pattern.
        pattern: Box<str>,
        /// Where it was added.
        at: &'static Location<'static>,
    },
    /// A parameter stands in the host and in the path.
    #[error("route `{pattern}` ({at}): the parameter `{name}` stands in its host `{host}` too")]
    ParamInHostAndPath {
        /// The pattern.
        pattern: Box<str>,
        /// The parameter.
        name: Box<str>,
        /// The host pattern.
        host: Box<str>,
        /// Where it was added.
        at: &'static Location<'static>,
    },
    /// A path pattern is malformed.
    #[error("route `{pattern}` ({at}): {error}")]
    Pattern {
        /// The pattern, prefixes included.
        pattern: Box<str>,
        /// Where it was added.
        at: &'static Location<'static>,
        /// What is wrong with it.
        error: PatternError,
    },
    /// The setting belongs to the whole router.
    #[error("the path policy ({at}) is set inside a group or host: set it once, at the top")]
    PathPolicyInside {
        /// Where it was set.
        at: &'static Location<'static>,
    },
    /// A redirect names a parameter that its route does not have.
    #[error("redirect `{pattern}` ({at}): `{target}` uses `{{{name}}}`, which the pattern lacks")]
    RedirectParam {
        /// The pattern.
        pattern: Box<str>,
        /// Where the redirect leads.
        target: Box<str>,
        /// The parameter.
        name: Box<str>,
        /// Where it was added.
        at: &'static Location<'static>,
    },
    /// A redirect whose site is chosen by the request.
    #[error(
        "redirect `{pattern}` ({at}): `{target}` begins with neither `/` nor `http://` nor \
         `https://`, so that a request could choose the site it leads to"
    )]
    RedirectTarget {
        /// The pattern.
        pattern: Box<str>,
        /// Where the redirect leads.
        target: Box<str>,
        /// Where it was added.
        at: &'static Location<'static>,
    },
    /// One place has two fallbacks.
    #[error("a fallback ({second_at}) where there is one ({first_at})")]
    TwoFallbacks {
        /// Where the first was set.
        first_at: &'static Location<'static>,
        /// Where the other was set.
        second_at: &'static Location<'static>,
    },
}

impl BuildError {
    pub(crate) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Everything that is wrong, in the order in which the routes were added.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, plural) =
            (self.problems.len(), if self.problems.len() == 1 { "" } else { "s" });
        write!(f, "{count} problem{plural} in the routes")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for BuildError {}

fn on_host(host: &Option<Box<str>>) -> String {
    host.as_ref().map_or_else(String::new, |host| format!(" on host `{host}`"))
}
