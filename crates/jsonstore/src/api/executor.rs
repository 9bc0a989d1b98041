//! Running a future on the calling thread.

use std::{
    cell::Cell,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
};

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static WAKER: Waker = Waker::from(Arc::new(Unpark(std::thread::current())));
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future of this crate to its end on the calling thread.
///
/// Inside, the store uses the thread itself: it reads from the disk in place, and a commit that is
/// alone writes and syncs its own group, which spares two thread switches. Do not call it from an
/// async task; there, `.await` is right.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let _depth = Enter::new();
    let mut future = pin!(future);
    WAKER.with(|waker| {
        let mut context = Context::from_waker(waker);
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(value) => return value,
                Poll::Pending => std::thread::park(),
            }
        }
    })
}

/// Runs `poll` as `block_on` does, for a simulation that polls by itself.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn inline<T>(poll: impl FnOnce() -> T) -> T {
    let _depth = Enter::new();
    poll()
}

/// True inside `block_on`: the thread may block.
pub(crate) fn may_block() -> bool {
    DEPTH.get() > 0
}

struct Enter;

impl Enter {
    fn new() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for Enter {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}
