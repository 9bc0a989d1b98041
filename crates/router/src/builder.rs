//! Declaring routes.

use std::{panic::Location, sync::Arc};

use hearth_http_core::{BoxHandler, Method, Middleware};

use crate::{
    BuildError, PathPolicy, Redirect, Route, Router, SlashPolicy,
    route::{IntoHandler, Kind, Methods, Named},
};

/// Routes, groups of them, hosts and what stands around them; [`build`](Self::build) compiles it all.
///
/// The order of calls does not matter: middleware, slash policy and fallback hold for every route
/// of the builder they are set on, and for the groups within.
///
/// ```
/// use hearth_http_core::{Request, Response};
/// use hearth_router::Router;
///
/// async fn hello(_req: Request) -> Response {
///     Response::text("hello")
/// }
/// let router = Router::builder()
///     .get("/", hello)
///     .group("/api", |api| api.get("/users", hello).post("/users", hello))
///     .host("{tenant}.example.com", |site| site.get("/", hello))
///     .build()?;
/// assert_eq!(router.routes().count(), 4);
/// # Ok::<(), hearth_router::BuildError>(())
/// ```
#[derive(Debug)]
#[must_use = "routes do nothing until they are built"]
pub struct RouterBuilder {
    pub(crate) entries: Vec<Entry>,
    pub(crate) middleware: Vec<Arc<Named>>,
    pub(crate) slash: Option<SlashPolicy>,
    pub(crate) fallback: Option<(BoxHandler, &'static Location<'static>)>,
    pub(crate) path_policy: Option<(PathPolicy, &'static Location<'static>)>,
    pub(crate) hosts: Vec<HostEntry>,
}

#[derive(Debug)]
pub(crate) enum Entry {
    Route(Route),
    Nest { prefix: String, routes: RouterBuilder, at: &'static Location<'static> },
}

#[derive(Debug)]
pub(crate) struct HostEntry {
    /// `None` for the hosts that no site is for.
    pub(crate) host: Option<String>,
    pub(crate) routes: RouterBuilder,
    pub(crate) at: &'static Location<'static>,
}

impl RouterBuilder {
    /// No routes.
    // Not inlined: up to 1.96 the compiler takes two equal values that are given to closures in one
    // function for one (rust-lang/rust#155241), and the second builder would be the first, freed.
    #[inline(never)]
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            middleware: Vec::new(),
            slash: None,
            fallback: None,
            path_policy: None,
            hosts: Vec::new(),
        }
    }

    /// Adds a route.
    pub fn route(mut self, route: Route) -> Self {
        self.entries.push(Entry::Route(route));
        self
    }

    /// Adds many routes.
    pub fn routes(mut self, routes: impl IntoIterator<Item = Route>) -> Self {
        self.entries.extend(routes.into_iter().map(Entry::Route));
        self
    }

    /// Adds a route for these methods.
    #[track_caller]
    pub fn on<K>(
        self,
        methods: &[Method],
        pattern: impl Into<String>,
        handler: impl IntoHandler<K>,
    ) -> Self {
        self.route(Route::new(methods, pattern, handler))
    }

    /// Adds a route for every method that no other route of the pattern answers.
    #[track_caller]
    pub fn any<K>(self, pattern: impl Into<String>, handler: impl IntoHandler<K>) -> Self {
        self.route(Route::any(pattern, handler))
    }

    /// Adds a route for GET, and for HEAD unless another route answers that.
    #[track_caller]
    pub fn get<K>(self, pattern: impl Into<String>, handler: impl IntoHandler<K>) -> Self {
        self.route(Route::get(pattern, handler))
    }

    /// Adds a route for POST.
    #[track_caller]
    pub fn post<K>(self, pattern: impl Into<String>, handler: impl IntoHandler<K>) -> Self {
        self.route(Route::post(pattern, handler))
    }

    /// Adds a route for PUT.
    #[track_caller]
    pub fn put<K>(self, pattern: impl Into<String>, handler: impl IntoHandler<K>) -> Self {
        self.route(Route::put(pattern, handler))
    }

    /// Adds a route for PATCH.
    #[track_caller]
    pub fn patch<K>(self, pattern: impl Into<String>, handler: impl IntoHandler<K>) -> Self {
        self.route(Route::patch(pattern, handler))
    }

    /// Adds a route for DELETE.
    #[track_caller]
    pub fn delete<K>(self, pattern: impl Into<String>, handler: impl IntoHandler<K>) -> Self {
        self.route(Route::delete(pattern, handler))
    }

    /// Gives everything at and beneath `prefix` to one handler: files, a proxy, another program.
    ///
    /// The handler sees the whole path; what follows the prefix and its slash is the parameter `path`, which is
    /// empty at the prefix itself.
    #[track_caller]
    pub fn mount<K>(self, prefix: &str, handler: impl IntoHandler<K>) -> Self {
        let pattern = format!("{}/{{*path}}", trim_slash(prefix));
        let route = Route::with_methods(Methods::Any, pattern, handler.into_handler());
        self.route(route.of_kind(Kind::Mount))
    }

    /// Adds a redirect for every method. `{name}` in the target stands for a parameter of the pattern; the query
    /// of the request is kept.
    #[track_caller]
    pub fn redirect(self, pattern: impl Into<String>, redirect: Redirect) -> Self {
        let kind = Kind::Redirect(redirect.target().clone());
        let handler = BoxHandler::new(redirect);
        self.route(Route::with_methods(Methods::Any, pattern.into(), handler).of_kind(kind))
    }

    /// Adds routes under a prefix, with middleware, slash policy and fallback of their own.
    #[track_caller]
    pub fn group(self, prefix: impl Into<String>, routes: impl FnOnce(Self) -> Self) -> Self {
        self.nest(prefix, routes(Self::new()))
    }

    /// Adds the routes of another builder under a prefix.
    #[track_caller]
    pub fn nest(mut self, prefix: impl Into<String>, routes: Self) -> Self {
        let entry = Entry::Nest { prefix: prefix.into(), routes, at: Location::caller() };
        self.entries.push(entry);
        self
    }

    /// Adds the routes of another builder as they are.
    #[track_caller]
    pub fn merge(self, routes: Self) -> Self {
        self.nest("", routes)
    }

    /// Adds a site: routes for one host (`example.com`, `[::1]`), for every name beneath one
    /// (`*.example.com`), or for each label in a place (`{tenant}.example.com`).
    ///
    /// Routes outside any site are for the hosts that no site is for.
    #[track_caller]
    pub fn host(mut self, host: impl Into<String>, routes: impl FnOnce(Self) -> Self) -> Self {
        let routes = routes(Self::new());
        self.hosts.push(HostEntry { host: Some(host.into()), routes, at: Location::caller() });
        self
    }

    /// Adds a site for the hosts that no other is for. Unlike what is set on the builder itself, its middleware
    /// and its fallback are its own: no other site has them.
    #[track_caller]
    pub fn other_hosts(mut self, routes: impl FnOnce(Self) -> Self) -> Self {
        let routes = routes(Self::new());
        self.hosts.push(HostEntry { host: None, routes, at: Location::caller() });
        self
    }

    /// Puts middleware around every route, group and site of this builder, whatever the order of calls, and around
    /// the answers that the router itself gives there. First in the list is outermost.
    pub fn with(mut self, middleware: impl Middleware) -> Self {
        self.middleware.push(Named::new(middleware));
        self
    }

    /// What becomes of a path that differs from a route by a slash at its end. Default: that of the builder
    /// around this one, at the top [`SlashPolicy::Strict`].
    pub fn slash(mut self, policy: SlashPolicy) -> Self {
        self.slash = Some(policy);
        self
    }

    /// What becomes of repeated slashes and dot segments in request paths. Default: [`PathPolicy::Clean`].
    #[track_caller]
    pub fn path_policy(mut self, policy: PathPolicy) -> Self {
        self.path_policy = Some((policy, Location::caller()));
        self
    }

    /// Answers what no route matches: at the top everything else, in every site that has no fallback of its own, too;
    /// in a site everything else there, in a group what lies beneath its prefix. Default: 404.
    #[track_caller]
    pub fn fallback<K>(mut self, handler: impl IntoHandler<K>) -> Self {
        self.fallback = Some((handler.into_handler(), Location::caller()));
        self
    }

    /// Compiles the routes.
    ///
    /// # Errors
    /// [`BuildError`] lists everything that is wrong, with patterns and source lines.
    pub fn build(self) -> Result<Router, BuildError> {
        crate::compile::compile(self)
    }
}

impl Default for RouterBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl Extend<Route> for RouterBuilder {
    fn extend<I: IntoIterator<Item = Route>>(&mut self, routes: I) {
        self.entries.extend(routes.into_iter().map(Entry::Route));
    }
}

pub(crate) fn trim_slash(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}
