//! From a request to its handler.

use std::{
    collections::HashMap,
    future::{Future, ready},
    ops::Range,
    panic::Location,
    sync::Arc,
};

use hearth_http_core::{
    Handler, Head, HeadBuilder, Method, PathParams, Request, Response, ResponseFuture,
};

use crate::{
    PathError, PathPolicy, PathTree, RouterBuilder,
    canonical::{self, Canonical},
    host::{HostMatch, Hosts},
    leaf::{Answer, Endpoint, How, Leaf},
    pattern::Pattern,
    tree::{Silent, Trace},
};

/// Routes requests by host, path and method. Immutable and cheap to clone; made by [`RouterBuilder`].
#[derive(Debug, Clone)]
pub struct Router {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    /// The default site first.
    pub(crate) sites: Vec<Site>,
    pub(crate) hosts: Hosts,
    pub(crate) path_policy: PathPolicy,
    pub(crate) routes: Vec<RouteInfo>,
    /// Canonical patterns, one for each route.
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) names: HashMap<Box<str>, usize>,
}

/// The routes of one host.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) host: Option<Box<str>>,
    pub(crate) tree: PathTree<Leaf>,
    /// Types of the middleware around the whole site, outermost first.
    pub(crate) middleware: Box<[&'static str]>,
    pub(crate) fallback: Fallback,
    pub(crate) bad_path: Answer,
    /// To `OPTIONS *`.
    pub(crate) asterisk: Answer,
}

/// What answers where no route matches.
#[derive(Debug)]
pub(crate) enum Fallback {
    Custom(Endpoint),
    NotFound(Answer),
}

/// A route of a built router.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RouteInfo {
    /// The host pattern; `None` for the default site.
    pub host: Option<Box<str>>,
    /// The methods; empty for every method that no other route of the pattern answers.
    pub methods: Box<[Method]>,
    /// The pattern, with the prefixes of its groups.
    pub pattern: Box<str>,
    /// The name, for `url_for`.
    pub name: Option<Box<str>>,
    /// The types of the middleware around it, outermost first.
    pub middleware: Box<[&'static str]>,
    /// Where in the program it was added.
    pub at: &'static Location<'static>,
}

/// What is to be done with a request.
pub(crate) struct Routed<'r> {
    pub(crate) site: &'r Site,
    pub(crate) decision: Decision<'r>,
    pub(crate) params: Option<PathParams>,
    /// The head with the canonical path, where that differs from what was sent.
    pub(crate) rewritten: Option<Box<Head>>,
}

pub(crate) enum Decision<'r> {
    Endpoint(&'r Endpoint),
    /// OPTIONS of a path that has no route for it.
    Options(&'r Answer),
    NotAllowed(&'r Answer),
    NotFound(&'r Fallback),
    BadPath(PathError, &'r Answer),
}

impl Router {
    /// Begins a router.
    pub fn builder() -> RouterBuilder {
        RouterBuilder::new()
    }

    /// Finds the handler and calls it. Routing itself is done when this returns.
    pub fn dispatch(&self, mut req: Request) -> ResponseFuture<'_> {
        let routed = self.inner.route(req.head(), &mut Silent);
        if let Some(head) = routed.rewritten {
            req.set_head(*head);
        }
        // A router within another: the parameters are those of the innermost.
        match routed.params {
            Some(params) => req.set_params(params),
            None if !req.params().is_empty() => req.set_params(PathParams::default()),
            None => {}
        }
        match routed.decision {
            Decision::Endpoint(endpoint) => endpoint.chain.run(req),
            Decision::NotFound(Fallback::Custom(endpoint)) => endpoint.chain.run(req),
            Decision::Options(answer)
            | Decision::NotAllowed(answer)
            | Decision::NotFound(Fallback::NotFound(answer))
            | Decision::BadPath(_, answer) => answer.give(req),
        }
    }

    /// The host pattern of the site that requests for `host` go to, which is given without a port; `None` for
    /// the default site. For decisions that come before any request, such as those by TLS server name.
    #[must_use]
    pub fn site_host(&self, host: &[u8]) -> Option<&str> {
        let found = self.inner.hosts.find(host);
        self.inner.site(found.as_ref()).host.as_deref()
    }

    /// The routes, in the order in which they were added.
    pub fn routes(&self) -> impl ExactSizeIterator<Item = &RouteInfo> {
        self.inner.routes.iter()
    }
}

impl Handler for Router {
    fn call(&self, req: Request) -> impl Future<Output = Response> + Send {
        self.dispatch(req)
    }
}

impl Inner {
    /// The one matcher: `dispatch` and `explain` both come here.
    pub(crate) fn route(&self, head: &Head, trace: &mut impl Trace) -> Routed<'_> {
        let host = self.host(head);
        let site = self.site(host.as_ref());
        let path = head.path_bytes();
        if path.first() == Some(&b'/') && !canonical::is_suspect(path) {
            return site.route(host.as_ref(), head, path, trace);
        }
        if path == b"*" && *head.method() == Method::OPTIONS {
            return Routed::without_params(site, Decision::Options(&site.asterisk));
        }
        self.route_suspect(site, host.as_ref(), head, trace)
    }

    /// Paths with an escape, a dot segment or a repeated slash.
    #[cold]
    fn route_suspect<'r>(
        &self,
        site: &'r Site,
        host: Option<&HostMatch>,
        head: &Head,
        trace: &mut impl Trace,
    ) -> Routed<'r> {
        let refuse = |error| Routed::without_params(site, Decision::BadPath(error, &site.bad_path));
        match canonical::canonicalise(head.path(), self.path_policy) {
            Ok(Canonical::Same) => site.route(host, head, head.path_bytes(), trace),
            Ok(Canonical::Case(text)) => site.route(host, head, &text, trace),
            Ok(Canonical::Changed(text)) => match rewrite(head, &text) {
                Some(head) => {
                    let routed = site.route(host, &head, head.path_bytes(), trace);
                    Routed { rewritten: Some(Box::new(head)), ..routed }
                }
                None => refuse(PathError::BadEscape),
            },
            Err(error) => refuse(error),
        }
    }

    fn host(&self, head: &Head) -> Option<HostMatch> {
        if self.hosts.is_empty() {
            return None;
        }
        self.hosts.find(head.host_bytes()?)
    }

    fn site(&self, host: Option<&HostMatch>) -> &Site {
        let place = host.map_or(0, |host| host.site as usize);
        self.sites.get(place).expect("sites are numbered as they are listed, and one is there")
    }
}

impl Site {
    fn route(
        &self,
        host: Option<&HostMatch>,
        head: &Head,
        path: &[u8],
        trace: &mut impl Trace,
    ) -> Routed<'_> {
        let Some(found) = self.tree.find_traced(path, trace) else {
            return Routed::without_params(self, Decision::NotFound(&self.fallback));
        };
        let leaf = found.value();
        let Some(endpoint) = leaf.endpoint(head.method()) else {
            let decision = if *head.method() == Method::OPTIONS {
                Decision::Options(&leaf.options)
            } else {
                Decision::NotAllowed(&leaf.not_allowed)
            };
            return Routed::without_params(self, decision);
        };
        let params = endpoint.names.as_ref().map(|names| {
            let offset = head.path_start();
            let shift = |range: Range<usize>| range.start + offset..range.end + offset;
            let tail = (endpoint.how == How::EmptyTail).then(|| shift(path.len()..path.len()));
            let ranges = found.ranges().map(shift).chain(tail);
            match host {
                None => PathParams::new(Arc::clone(names), ranges),
                Some(host) => {
                    let wide = |range: &Range<u16>| range.start.into()..range.end.into();
                    PathParams::with_host(Arc::clone(names), host.params.iter().map(wide), ranges)
                }
            }
        });
        Routed { site: self, decision: Decision::Endpoint(endpoint), params, rewritten: None }
    }
}

impl<'r> Routed<'r> {
    fn without_params(site: &'r Site, decision: Decision<'r>) -> Self {
        Self { site, decision, params: None, rewritten: None }
    }
}

impl Answer {
    fn give(&self, req: Request) -> ResponseFuture<'_> {
        match &self.chain {
            Some(chain) => chain.run(req),
            // A shared response, so that it costs no allocation.
            None => ResponseFuture::new(ready(Response::prepared(self.prepared.clone()))),
        }
    }
}

/// The head with another path, in origin-form. `None` if it became too large.
fn rewrite(head: &Head, path: &[u8]) -> Option<Head> {
    let path = std::str::from_utf8(path).ok()?;
    let target = match head.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut builder =
        HeadBuilder::new(head.method().clone(), &target, head.version(), Default::default());
    for (name, value) in head.fields() {
        builder = builder.field(name, value);
    }
    if let Some(authority) = head.authority() {
        builder = builder.authority(authority);
    }
    if let Some(protocol) = head.protocol() {
        builder = builder.protocol(protocol);
    }
    builder.build().ok()
}
