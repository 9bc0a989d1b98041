//! Who answers a request, and who stands around it.

use std::{future::Future, sync::Arc};

use crate::{Request, Response, ResponseFuture};

/// Answers a request.
pub trait Handler: Send + Sync + 'static {
    /// Every request ends in a response: errors have become one by the time they get here.
    ///
    /// # Cancel safety
    /// The future is dropped when the peer goes away or a time limit passes; it must leave
    /// nothing half done at an await point.
    fn call(&self, req: Request) -> impl Future<Output = Response> + Send;
}

/// Stands around a handler: sees the request before it and the response behind it.
pub trait Middleware: Send + Sync + 'static {
    /// First in the list is outermost. Not calling `next` answers early.
    fn handle(&self, req: Request, next: Next<'_>) -> impl Future<Output = Response> + Send;
}

trait ErasedHandler: Send + Sync {
    fn call_erased(&self, req: Request) -> ResponseFuture<'_>;
}

impl<H: Handler> ErasedHandler for H {
    fn call_erased(&self, req: Request) -> ResponseFuture<'_> {
        ResponseFuture::new(self.call(req))
    }
}

trait ErasedMiddleware: Send + Sync {
    fn handle_erased<'a>(&'a self, req: Request, next: Next<'a>) -> ResponseFuture<'a>;
}

impl<M: Middleware> ErasedMiddleware for M {
    fn handle_erased<'a>(&'a self, req: Request, next: Next<'a>) -> ResponseFuture<'a> {
        ResponseFuture::new(self.handle(req, next))
    }
}

/// A handler whose type was erased; cheap to clone.
#[derive(Clone)]
pub struct BoxHandler(Arc<dyn ErasedHandler>);

impl BoxHandler {
    /// Erases the type of `handler`.
    pub fn new(handler: impl Handler) -> Self {
        Self(Arc::new(handler))
    }

    /// Calls it.
    pub fn call(&self, req: Request) -> ResponseFuture<'_> {
        self.0.call_erased(req)
    }
}

impl Handler for BoxHandler {
    fn call(&self, req: Request) -> impl Future<Output = Response> + Send {
        self.0.call_erased(req)
    }
}

impl<H: Handler> Handler for Arc<H> {
    fn call(&self, req: Request) -> impl Future<Output = Response> + Send {
        H::call(self, req)
    }
}

/// A middleware whose type was erased; cheap to clone.
#[derive(Clone)]
pub struct BoxMiddleware(Arc<dyn ErasedMiddleware>);

impl BoxMiddleware {
    /// Erases the type of `middleware`.
    pub fn new(middleware: impl Middleware) -> Self {
        Self(Arc::new(middleware))
    }
}

/// What remains behind a middleware.
pub struct Next<'a> {
    rest: &'a [BoxMiddleware],
    end: &'a BoxHandler,
}

impl<'a> Next<'a> {
    /// Calls what remains.
    pub fn run(self, req: Request) -> ResponseFuture<'a> {
        match self.rest.split_first() {
            Some((first, rest)) => first.0.handle_erased(req, Next { rest, end: self.end }),
            None => self.end.call(req),
        }
    }
}

/// A handler with middleware around it; the first is outermost.
#[derive(Clone)]
pub struct Chain {
    middleware: Arc<[BoxMiddleware]>,
    handler: BoxHandler,
}

impl Chain {
    /// Puts `middleware` around `handler`.
    pub fn new(middleware: impl IntoIterator<Item = BoxMiddleware>, handler: BoxHandler) -> Self {
        Self { middleware: middleware.into_iter().collect(), handler }
    }

    /// Calls the outermost.
    pub fn run(&self, req: Request) -> ResponseFuture<'_> {
        Next { rest: &self.middleware, end: &self.handler }.run(req)
    }
}

impl Handler for Chain {
    fn call(&self, req: Request) -> impl Future<Output = Response> + Send {
        self.run(req)
    }
}

/// A handler from a function: `handler_fn(async |req| Response::text("hi"))`.
pub fn handler_fn<F, Fut>(function: F) -> impl Handler
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response> + Send,
{
    FnHandler(function)
}

struct FnHandler<F>(F);

impl<F, Fut> Handler for FnHandler<F>
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response> + Send,
{
    fn call(&self, req: Request) -> impl Future<Output = Response> + Send {
        (self.0)(req)
    }
}

impl std::fmt::Debug for BoxHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoxHandler")
    }
}

impl std::fmt::Debug for BoxMiddleware {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoxMiddleware")
    }
}

impl std::fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Next")
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chain")
    }
}
