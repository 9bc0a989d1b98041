//! Why a request meets the route that it meets, told by the matcher that serves it.

use std::{fmt, ops::Range};

use hearth_http_core::{Head, Method};

use crate::{
    PathError, RouteInfo, Router,
    leaf::{Endpoint, How},
    router::{Decision, Fallback, Routed, Site},
    tree::{Choice, Fit, Trace, Tried},
};

/// What a router does with a request, and why.
///
/// `Display` writes it for people.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Explanation {
    /// The method.
    pub method: Method,
    /// The host that was asked for, without its port.
    pub host: Option<String>,
    /// The host pattern of the site; `None` for the default site.
    pub site: Option<String>,
    /// The path as it was sent.
    pub path: String,
    /// The path that was matched, where it is spelled otherwise.
    pub canonical: Option<String>,
    /// What was tried, in order.
    pub steps: Vec<Step>,
    /// What came of it.
    pub verdict: Verdict,
    /// The route that answers.
    pub route: Option<RouteInfo>,
    /// Names and raw values of the parameters.
    pub params: Vec<(String, String)>,
    /// The types of the middleware around the answer, outermost first.
    pub middleware: Vec<&'static str>,
    /// A path that would be answered, where this one is not for want of, or because of, a slash at its end.
    pub slash_twin: Option<String>,
}

/// One decision on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The pattern so far, with what was tried at its end.
    pub pattern: String,
    /// The segment of the path that it was tried on.
    pub segment: String,
    /// How it went.
    pub outcome: StepOutcome,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepOutcome {
    /// The literal text around the parameter is missing.
    AffixMissing,
    /// The constraint refuses the value.
    ConstraintRefuses,
    /// A parameter is never empty.
    Empty,
    /// It fits.
    Fits,
    /// No literal segment is called so.
    NoLiteral,
    /// The path ends here, and no route does.
    NothingEndsHere,
    /// The path and a route end here.
    RouteEndsHere,
}

/// What a router does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// 400: the path is malformed.
    BadPath(PathError),
    /// The fallback answers, because no route matches the path.
    Fallback,
    /// 405: routes match the path, but none the method.
    MethodNotAllowed {
        /// The `Allow` field.
        allow: String,
    },
    /// 404: no route matches the path.
    NotFound,
    /// The router answers OPTIONS itself.
    Options {
        /// The `Allow` field.
        allow: String,
    },
    /// A route answers.
    Route,
    /// A route matches but for a slash, which does not matter.
    RouteBySlash,
    /// 308 to the spelling of the route, which differs by a slash.
    SlashRedirect,
}

impl Router {
    /// Tells what [`dispatch`](Self::dispatch) does with a request of this head, and why.
    #[must_use]
    pub fn explain(&self, head: &Head) -> Explanation {
        let mut record = Record::default();
        let routed = self.inner.route(head, &mut record);
        let matched = routed.rewritten.as_deref().unwrap_or(head);
        let canonical = if record.path.is_empty() { matched.path() } else { &record.path };
        let (verdict, endpoint, middleware) = verdict(&routed);
        let number = endpoint.and_then(|endpoint| endpoint.route);
        let route = number.and_then(|number| self.inner.routes.get(number)).cloned();
        Explanation {
            method: head.method().clone(),
            host: head.host().map(str::to_owned),
            site: routed.site.host.as_deref().map(str::to_owned),
            path: head.path().to_owned(),
            canonical: (canonical != head.path()).then(|| canonical.to_owned()),
            steps: record.steps(routed.site),
            slash_twin: slash_twin(routed.site, canonical, &verdict),
            verdict,
            params: params(&routed, matched),
            middleware: route.as_ref().map_or(middleware, |route| route.middleware.to_vec()),
            route,
        }
    }
}

/// Verdict, endpoint, and the middleware around an answer of the router itself.
fn verdict<'r>(routed: &Routed<'r>) -> (Verdict, Option<&'r Endpoint>, Vec<&'static str>) {
    let of_site = || routed.site.middleware.to_vec();
    match &routed.decision {
        Decision::Endpoint(endpoint) => {
            let verdict = match endpoint.how {
                How::Direct | How::EmptyTail => Verdict::Route,
                How::SlashMatch => Verdict::RouteBySlash,
                How::SlashRedirect => Verdict::SlashRedirect,
            };
            (verdict, Some(endpoint), Vec::new())
        }
        Decision::Options(answer) => {
            (Verdict::Options { allow: answer.allow.to_string() }, None, answer.middleware.to_vec())
        }
        Decision::NotAllowed(answer) => {
            let verdict = Verdict::MethodNotAllowed { allow: answer.allow.to_string() };
            (verdict, None, answer.middleware.to_vec())
        }
        Decision::NotFound(Fallback::Custom(_)) => (Verdict::Fallback, None, of_site()),
        Decision::NotFound(Fallback::NotFound(_)) => (Verdict::NotFound, None, of_site()),
        Decision::BadPath(error, _) => (Verdict::BadPath(*error), None, of_site()),
    }
}

fn params(routed: &Routed<'_>, head: &Head) -> Vec<(String, String)> {
    let Some(params) = &routed.params else { return Vec::new() };
    let text = |all: Option<&str>, name: &str, range: Range<usize>| {
        (name.to_owned(), all.and_then(|all| all.get(range)).unwrap_or_default().to_owned())
    };
    let host = params.host_iter().map(|(name, range)| text(head.authority(), name, range));
    let path = params.iter().map(|(name, range)| text(Some(head.target()), name, range));
    host.chain(path).collect()
}

fn slash_twin(site: &Site, path: &str, verdict: &Verdict) -> Option<String> {
    if !matches!(verdict, Verdict::NotFound | Verdict::Fallback) {
        return None;
    }
    let twin = path.strip_suffix('/').map_or_else(|| format!("{path}/"), str::to_owned);
    site.tree.find(&twin).is_some().then_some(twin)
}

/// Writes down what the matcher tries.
#[derive(Debug, Default)]
struct Record {
    path: String,
    tried: Vec<Tried>,
}

impl Trace for Record {
    fn begin(&mut self, path: &[u8]) {
        self.path = String::from_utf8_lossy(path).into_owned();
    }

    fn tried(&mut self, tried: Tried) {
        self.tried.push(tried);
    }
}

impl Record {
    fn steps(&self, site: &Site) -> Vec<Step> {
        self.tried.iter().map(|tried| self.step(site, tried)).collect()
    }

    fn step(&self, site: &Site, tried: &Tried) -> Step {
        let tree = &site.tree;
        let (segment, rest) = (
            self.path.get(tried.start..tried.end).unwrap_or_default(),
            self.path.get(tried.start..).unwrap_or_default(),
        );
        let before = tree.describe(tried.node);
        let (pattern, segment) = match tried.choice {
            Choice::Static => (format!("{before}/{segment}"), segment),
            Choice::Special(place) => {
                let param = tree.describe_special(tried.node, place).unwrap_or_default();
                (format!("{before}/{param}"), segment)
            }
            Choice::Plain => (tree.describe_plain(tried.node), segment),
            Choice::CatchAll => (tree.describe_catch_all(tried.node), rest),
            Choice::End => (before, segment),
        };
        let outcome = match (tried.fit, tried.choice) {
            (Fit::Yes, Choice::End) => StepOutcome::RouteEndsHere,
            (Fit::Yes, _) => StepOutcome::Fits,
            (Fit::NoSuchText, _) => StepOutcome::NoLiteral,
            (Fit::Empty, _) => StepOutcome::Empty,
            (Fit::Affix, _) => StepOutcome::AffixMissing,
            (Fit::Constraint, _) => StepOutcome::ConstraintRefuses,
            (Fit::NothingEndsHere, _) => StepOutcome::NothingEndsHere,
        };
        Step { pattern, segment: segment.to_owned(), outcome }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.method, self.path)?;
        let host = self.host.as_deref().unwrap_or("(none)");
        match &self.site {
            Some(site) => writeln!(f, "  host    {host}: site `{site}`")?,
            None => writeln!(f, "  host    {host}: the default site")?,
        }
        if let Some(canonical) = &self.canonical {
            writeln!(f, "  path    matched as {canonical}")?;
        }
        for step in &self.steps {
            writeln!(f, "  try     {step}")?;
        }
        writeln!(f, "  result  {}", self.verdict)?;
        if let Some(route) = &self.route {
            writeln!(f, "  route   {route}")?;
        }
        for (name, value) in &self.params {
            writeln!(f, "  param   {name} = {value:?}")?;
        }
        for name in &self.middleware {
            writeln!(f, "  through {name}")?;
        }
        match &self.slash_twin {
            Some(twin) => writeln!(f, "  hint    {twin} has a route: see the slash policy"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pattern, segment, outcome } = self;
        match outcome {
            StepOutcome::AffixMissing => {
                write!(f, "{pattern}: `{segment}` lacks the text around the parameter")
            }
            StepOutcome::ConstraintRefuses => {
                write!(f, "{pattern}: the constraint refuses `{segment}`")
            }
            StepOutcome::Empty => write!(f, "{pattern}: a parameter is never empty"),
            StepOutcome::Fits => write!(f, "{pattern}: fits `{segment}`"),
            StepOutcome::NoLiteral => write!(f, "{pattern}: no route has this text here"),
            StepOutcome::NothingEndsHere => write!(f, "{pattern}: routes go on, none ends here"),
            StepOutcome::RouteEndsHere => write!(f, "{pattern}: a route ends here"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadPath(error) => write!(f, "400: {error}"),
            Self::Fallback => f.write_str("no route matches: the fallback answers"),
            Self::MethodNotAllowed { allow } => write!(f, "405: the path allows {allow}"),
            Self::NotFound => f.write_str("404: no route matches"),
            Self::Options { allow } => write!(f, "204: OPTIONS is answered with Allow: {allow}"),
            Self::Route => f.write_str("a route answers"),
            Self::RouteBySlash => f.write_str("a route answers, the slash at the end set aside"),
            Self::SlashRedirect => f.write_str("308 to the route's spelling of the slash"),
        }
    }
}

impl fmt::Display for RouteInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        let methods = if methods.is_empty() { "ANY".to_owned() } else { methods.join(",") };
        write!(f, "{methods} {}{}", self.host.as_deref().unwrap_or_default(), self.pattern)?;
        if let Some(name) = &self.name {
            write!(f, " `{name}`")?;
        }
        write!(f, " ({})", self.at)
    }
}
