//! The future of a response whose type was erased.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use crate::{Response, slot::Slot};

/// The future that an erased handler returns.
///
/// It lives in memory that the thread recycles: making one allocates nothing in the long run.
pub struct ResponseFuture<'a>(Slot<'a, Response>);

impl<'a> ResponseFuture<'a> {
    /// Erases the type of `future`.
    pub fn new(future: impl Future<Output = Response> + Send + 'a) -> Self {
        Self(Slot::new(future))
    }
}

impl Future for ResponseFuture<'_> {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl std::fmt::Debug for ResponseFuture<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseFuture")
    }
}
