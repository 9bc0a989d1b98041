//! One route as it is declared.

use std::{any::Any, future::Future, panic::Location, sync::Arc};

use hearth_http_core::{
    BoxHandler, BoxMiddleware, Handler, Method, Middleware, Request, Response, handler_fn,
};

/// What becomes of a path that differs from a route by a slash at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SlashPolicy {
    /// It is another path.
    #[default]
    Strict,
    /// The route answers both.
    Match,
    /// 308 to the spelling of the route.
    Redirect308,
}

/// A route: methods, pattern, handler, and what else is known of it.
///
/// `builder.get(pattern, handler)` adds one in short; this is the long form, for routes with a
/// name or with middleware of their own.
///
/// ```
/// use hearth_http_core::{Request, Response};
/// use hearth_router::{Route, Router};
///
/// async fn show(req: Request) -> Response {
///     Response::text(req.param("id").unwrap_or_default().to_owned())
/// }
/// let router = Router::builder().route(Route::get("/users/{id}", show).name("user")).build()?;
/// assert_eq!(router.url_for("user", &[("id", &7)])?, "/users/7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a route does nothing until it is given to a builder"]
pub struct Route {
    pub(crate) methods: Methods,
    pub(crate) pattern: String,
    pub(crate) handler: BoxHandler,
    pub(crate) name: Option<Box<str>>,
    pub(crate) middleware: Vec<Arc<Named>>,
    pub(crate) at: &'static Location<'static>,
    pub(crate) kind: Kind,
}

/// Which methods a route answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Methods {
    Any,
    These(Vec<Method>),
}

/// What a route is for, beyond its pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// Takes the mount point itself too.
    Mount,
    /// Where it leads; checked at build.
    Redirect(crate::redirect::Target),
}

/// A middleware, and the name of its type for introspection.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) middleware: BoxMiddleware,
    pub(crate) name: &'static str,
}

/// What can answer a route: a [`Handler`], or a function `async fn(Request) -> Response`.
pub trait IntoHandler<Kind> {
    /// Erases the type.
    fn into_handler(self) -> BoxHandler;
}

impl<H: Handler> IntoHandler<IsHandler> for H {
    fn into_handler(self) -> BoxHandler {
        // A second box around a boxed handler would cost a second allocation per request.
        match (&self as &dyn Any).downcast_ref::<BoxHandler>() {
            Some(boxed) => boxed.clone(),
            None => BoxHandler::new(self),
        }
    }
}

impl<F, Fut> IntoHandler<IsFunction> for F
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response> + Send,
{
    fn into_handler(self) -> BoxHandler {
        BoxHandler::new(handler_fn(self))
    }
}

/// Tells handlers from functions; never made.
#[derive(Debug)]
pub enum IsHandler {}

/// Tells functions from handlers; never made.
#[derive(Debug)]
pub enum IsFunction {}

impl Route {
    /// A route for these methods.
    #[track_caller]
    pub fn new<K>(
        methods: &[Method],
        pattern: impl Into<String>,
        handler: impl IntoHandler<K>,
    ) -> Self {
        Self::with_methods(Methods::These(methods.to_vec()), pattern.into(), handler.into_handler())
    }

    /// A route for every method that no other route of the pattern answers.
    #[track_caller]
    pub fn any<K>(pattern: impl Into<String>, handler: impl IntoHandler<K>) -> Self {
        Self::with_methods(Methods::Any, pattern.into(), handler.into_handler())
    }

    /// A route for GET, and for HEAD unless another route answers that.
    #[track_caller]
    pub fn get<K>(pattern: impl Into<String>, handler: impl IntoHandler<K>) -> Self {
        Self::new(&[Method::GET], pattern, handler)
    }

    /// A route for POST.
    #[track_caller]
    pub fn post<K>(pattern: impl Into<String>, handler: impl IntoHandler<K>) -> Self {
        Self::new(&[Method::POST], pattern, handler)
    }

    /// A route for PUT.
    #[track_caller]
    pub fn put<K>(pattern: impl Into<String>, handler: impl IntoHandler<K>) -> Self {
        Self::new(&[Method::PUT], pattern, handler)
    }

    /// A route for PATCH.
    #[track_caller]
    pub fn patch<K>(pattern: impl Into<String>, handler: impl IntoHandler<K>) -> Self {
        Self::new(&[Method::PATCH], pattern, handler)
    }

    /// A route for DELETE.
    #[track_caller]
    pub fn delete<K>(pattern: impl Into<String>, handler: impl IntoHandler<K>) -> Self {
        Self::new(&[Method::DELETE], pattern, handler)
    }

    /// Names the route, for `url_for`.
    pub fn name(mut self, name: impl Into<Box<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Puts middleware around this route only, inside that of its groups. First in the list is outermost.
    pub fn with(mut self, middleware: impl Middleware) -> Self {
        self.middleware.push(Named::new(middleware));
        self
    }

    #[track_caller]
    pub(crate) fn with_methods(methods: Methods, pattern: String, handler: BoxHandler) -> Self {
        Self {
            methods,
            pattern,
            handler,
            name: None,
            middleware: Vec::new(),
            at: Location::caller(),
            kind: Kind::Plain,
        }
    }

    pub(crate) fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }
}

impl Named {
    pub(crate) fn new<M: Middleware>(middleware: M) -> Arc<Self> {
        let name = std::any::type_name::<M>();
        Arc::new(Self { middleware: BoxMiddleware::new(middleware), name })
    }
}
