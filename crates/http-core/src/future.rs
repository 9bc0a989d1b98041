//! The future of a response whose type was erased.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use crate::Response;

/// The future that an erased handler returns.
pub struct ResponseFuture<'a>(Pin<Box<dyn Future<Output = Response> + Send + 'a>>);

impl<'a> ResponseFuture<'a> {
    /// Erases the type of `future`.
    pub fn new(future: impl Future<Output = Response> + Send + 'a) -> Self {
        Self(Box::pin(future))
    }
}

impl Future for ResponseFuture<'_> {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        self.0.as_mut().poll(cx)
    }
}

impl std::fmt::Debug for ResponseFuture<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseFuture")
    }
}
