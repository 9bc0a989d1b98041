//! Which thread this is, so that threads can keep out of each other's way.

use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering},
};

/// A small number of the calling thread.
pub(crate) fn thread_index() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static INDEX: Cell<usize> = const { Cell::new(usize::MAX) });
    // A thread that is being torn down has no such number any more and shares the first shard.
    let index = INDEX.try_with(|index| {
        if index.get() == usize::MAX {
            index.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        index.get()
    });
    index.unwrap_or(0)
}
