//! From declared routes to the router: groups are flattened, slash aliases added, conflicts found.

use std::{collections::HashMap, panic::Location, sync::Arc};

use hearth_http_core::{BoxHandler, Method};

use crate::{
    BuildError, PathPolicy, PatternError, Problem, Route, Router, RouterBuilder, SlashPolicy,
    builder::{Entry, HostEntry, trim_slash},
    host::HostPattern,
    leaf::How,
    pattern::Pattern,
    route::{Kind, Methods, Named},
};

mod finish;

pub(crate) fn compile(builder: RouterBuilder) -> Result<Router, BuildError> {
    let path_policy = builder.path_policy.map_or(PathPolicy::Clean, |(policy, _)| policy);
    let mut compiler = Compiler::default();
    compiler.sites.push(SitePlan::new(None, builder.middleware.clone()));
    let top = Scope { path_policy, ..Scope::default() };
    compiler.collect(RouterBuilder { path_policy: None, ..builder }, &top);
    compiler.finish(path_policy)
}

/// What surrounds a builder.
#[derive(Debug, Clone, Default)]
struct Scope {
    site: usize,
    /// The host as it is written here: its parameters may have other names elsewhere.
    host: Option<HostPattern>,
    /// Within `other_hosts`.
    is_apart: bool,
    prefix: String,
    middleware: Vec<Arc<Named>>,
    slash: SlashPolicy,
    path_policy: PathPolicy,
}

#[derive(Debug, Default)]
struct Compiler {
    problems: Vec<Problem>,
    sites: Vec<SitePlan>,
    /// Sites by the shape of their host.
    site_places: HashMap<String, usize>,
    routes: Vec<Flat>,
}

/// A route with everything that its groups give it.
#[derive(Debug)]
struct Flat {
    site: usize,
    host: Option<Box<str>>,
    pattern: Pattern,
    route: Route,
    middleware: Vec<Arc<Named>>,
    slash: SlashPolicy,
    names: Option<Arc<[Box<str>]>>,
}

#[derive(Debug)]
struct SitePlan {
    host: Option<HostPattern>,
    middleware: Vec<Arc<Named>>,
    fallback: Option<FallbackPlan>,
    leaves: Vec<LeafPlan>,
    /// Leaves by the shape of their pattern.
    leaf_places: HashMap<String, usize>,
}

#[derive(Debug)]
struct FallbackPlan {
    handler: BoxHandler,
    /// Whether sites without one of their own have this.
    is_shared: bool,
    middleware: Vec<Arc<Named>>,
    at: &'static Location<'static>,
}

/// The endpoints of one pattern: route, method (`None`: any), and why.
#[derive(Debug)]
struct LeafPlan {
    pattern: Pattern,
    endpoints: Vec<(Option<Method>, usize, How)>,
}

impl SitePlan {
    fn new(host: Option<HostPattern>, middleware: Vec<Arc<Named>>) -> Self {
        Self { host, middleware, fallback: None, leaves: Vec::new(), leaf_places: HashMap::new() }
    }

    fn leaf(&mut self, pattern: &Pattern) -> &mut LeafPlan {
        let place = *self.leaf_places.entry(pattern.shape()).or_insert(self.leaves.len());
        if place == self.leaves.len() {
            self.leaves.push(LeafPlan { pattern: pattern.clone(), endpoints: Vec::new() });
        }
        self.leaves.get_mut(place).expect("leaves are numbered as they are listed")
    }
}

impl LeafPlan {
    fn taken_by(&self, method: Option<&Method>) -> Option<usize> {
        let same = |(known, ..): &&(Option<Method>, usize, How)| known.as_ref() == method;
        self.endpoints.iter().find(same).map(|(_, route, _)| *route)
    }
}

impl Compiler {
    fn collect(&mut self, builder: RouterBuilder, around: &Scope) {
        let mut scope = around.clone();
        scope.middleware.extend(builder.middleware.iter().cloned());
        scope.slash = builder.slash.unwrap_or(scope.slash);
        if let Some((_, at)) = builder.path_policy {
            self.problems.push(Problem::PathPolicyInside { at });
        }
        for entry in builder.entries {
            match entry {
                Entry::Route(route) => self.add(route, &scope),
                Entry::Nest { prefix, routes, at } => {
                    self.check_prefix(&scope.prefix, &prefix, at);
                    let prefix = format!("{}{}", scope.prefix, trim_slash(&prefix));
                    self.collect(routes, &Scope { prefix, ..scope.clone() });
                }
            }
        }
        if let Some((handler, at)) = builder.fallback {
            self.add_fallback(handler, at, &scope);
        }
        for entry in builder.hosts {
            self.add_host(entry, &scope);
        }
    }

    fn check_prefix(&mut self, outer: &str, prefix: &str, at: &'static Location<'static>) {
        if !prefix.is_empty() && !prefix.starts_with('/') {
            let pattern = format!("{outer}{prefix}").into();
            self.problems.push(Problem::Pattern {
                pattern,
                at,
                error: PatternError::NoLeadingSlash,
            });
        }
    }

    fn add_fallback(&mut self, handler: BoxHandler, at: &'static Location<'static>, scope: &Scope) {
        if !scope.prefix.is_empty() {
            let mut route = Route::any("/{*path}", handler).of_kind(Kind::Mount);
            route.at = at;
            self.add(route, scope);
            return;
        }
        let Some(site) = self.sites.get_mut(scope.site) else { return };
        if let Some(first) = &site.fallback {
            self.problems.push(Problem::TwoFallbacks { first_at: first.at, second_at: at });
            return;
        }
        let (is_shared, middleware) = (!scope.is_apart, scope.middleware.clone());
        site.fallback = Some(FallbackPlan { handler, is_shared, middleware, at });
    }

    fn add_host(&mut self, entry: HostEntry, scope: &Scope) {
        let HostEntry { host, routes, at } = entry;
        let shown = host.as_deref().unwrap_or("the other hosts");
        if !scope.prefix.is_empty() {
            let (host, prefix) = (shown.into(), scope.prefix.clone().into());
            self.problems.push(Problem::HostUnderPrefix { host, prefix, at });
            return;
        }
        let Some(host) = host else {
            if let Some(site) = self.sites.first_mut() {
                site.middleware.extend(routes.middleware.iter().cloned());
            }
            self.collect(routes, &Scope { site: 0, is_apart: true, ..scope.clone() });
            return;
        };
        let pattern = match HostPattern::parse(&host) {
            Ok(pattern) => pattern,
            Err(error) => {
                self.problems.push(Problem::Host { host: host.into(), at, error });
                return;
            }
        };
        // The same host twice is one site, so that modules can add to it.
        let next = self.sites.len();
        let site = *self.site_places.entry(pattern.shape()).or_insert(next);
        if site == next {
            let mut middleware = scope.middleware.clone();
            middleware.extend(routes.middleware.iter().cloned());
            self.sites.push(SitePlan::new(Some(pattern.clone()), middleware));
        }
        self.collect(routes, &Scope { site, host: Some(pattern), ..scope.clone() });
    }

    fn add(&mut self, route: Route, scope: &Scope) {
        let text = join(&scope.prefix, &route.pattern);
        let pattern = Pattern::parse(&text).and_then(|mut pattern| {
            if !route.pattern.is_empty() && !route.pattern.starts_with('/') {
                return Err(PatternError::NoLeadingSlash);
            }
            pattern.canonicalise(scope.path_policy)?;
            Ok(pattern)
        });
        let pattern = match pattern {
            Ok(pattern) => pattern,
            Err(error) => {
                let problem = Problem::Pattern { pattern: text.into(), at: route.at, error };
                self.problems.push(problem);
                return;
            }
        };
        let names = self.names(&pattern, &route, scope.host.as_ref());
        self.check_route(&pattern, &route, names.as_deref());
        let mut middleware = scope.middleware.clone();
        middleware.extend(route.middleware.iter().cloned());
        let (site, slash) = (scope.site, scope.slash);
        let host = scope.host.as_ref().map(|host| host.as_str().into());
        let number = self.routes.len();
        self.place(number, site, &pattern, &route);
        self.routes.push(Flat { site, host, pattern, route, middleware, slash, names });
    }

    /// Names of host and path parameters.
    fn names(
        &mut self,
        pattern: &Pattern,
        route: &Route,
        host: Option<&HostPattern>,
    ) -> Option<Arc<[Box<str>]>> {
        let mut names: Vec<Box<str>> = Vec::new();
        names.extend(host.into_iter().flat_map(HostPattern::names).map(Into::into));
        for name in pattern.names() {
            if let Some(host) = host.filter(|host| host.names().any(|known| known == name)) {
                self.problems.push(Problem::ParamInHostAndPath {
                    pattern: pattern.as_str().into(),
                    name: name.into(),
                    host: host.as_str().into(),
                    at: route.at,
                });
            }
            names.push(name.into());
        }
        (!names.is_empty()).then(|| names.into())
    }

    fn check_route(&mut self, pattern: &Pattern, route: &Route, names: Option<&[Box<str>]>) {
        let at = route.at;
        let pattern: Box<str> = pattern.as_str().into();
        if route.methods == Methods::These(Vec::new()) {
            self.problems.push(Problem::NoMethod { pattern: pattern.clone(), at });
        }
        let Kind::Redirect(target) = &route.kind else { return };
        let text: Box<str> = target.as_str().into();
        if !target.is_anchored() {
            let (pattern, target) = (pattern.clone(), text.clone());
            self.problems.push(Problem::RedirectTarget { pattern, target, at });
        }
        for name in target.names() {
            if !names.unwrap_or_default().iter().any(|known| **known == *name) {
                let (pattern, target) = (pattern.clone(), text.clone());
                self.problems.push(Problem::RedirectParam {
                    pattern,
                    target,
                    name: name.into(),
                    at,
                });
            }
        }
    }

    /// Puts a route into the leaf of its pattern.
    fn place(&mut self, number: usize, site: usize, pattern: &Pattern, route: &Route) {
        let Some(site) = self.sites.get_mut(site) else { return };
        let host = site.host.as_ref().map(|host| host.as_str().into());
        let leaf = site.leaf(pattern);
        for method in route.methods.each() {
            match leaf.taken_by(method.as_ref()) {
                None => leaf.endpoints.push((method, number, How::Direct)),
                Some(first) => {
                    let Some(first) = self.routes.get(first) else { continue };
                    self.problems.push(Problem::Conflict {
                        method: method.as_ref().map_or("ANY", Method::as_str).into(),
                        host: host.clone(),
                        first: first.pattern.as_str().into(),
                        first_at: first.route.at,
                        second: pattern.as_str().into(),
                        second_at: route.at,
                    });
                }
            }
        }
    }
}

/// The pattern of a route within a group: `/` and the empty pattern are the prefix itself.
fn join(prefix: &str, pattern: &str) -> String {
    match pattern {
        "/" if !prefix.is_empty() => prefix.to_owned(),
        _ => format!("{prefix}{pattern}"),
    }
}
