//! Futures of erased type in recycled memory: `Box<dyn Future>` without the allocator.
//!
//! Every erased handler, every middleware and every active connection needs one for the time of a
//! request. The memory comes from free lists of the thread, in six sizes, so that a request
//! allocates nothing once its connection's thread is warm. Why this is unsafe code and not
//! `Box::pin`: `docs/adr/0002-response-future-slot.md`.
#![allow(unsafe_code)]

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    cell::RefCell,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    ptr::NonNull,
    task::{Context, Poll},
};

/// An owned, pinned future of erased type.
pub(crate) struct Slot<'a, T> {
    /// Valid, initialised and exclusively ours from construction to drop; its memory came from
    /// [`take_block`] with the layout of the value.
    future: NonNull<dyn Future<Output = T> + Send + 'a>,
    owns: PhantomData<Box<dyn Future<Output = T> + Send + 'a>>,
}

// SAFETY: `Slot::new` admits only `Send` futures and nobody else has a pointer to ours; blocks are
// plain memory and may be freed on any thread.
unsafe impl<T> Send for Slot<'_, T> {}

impl<'a, T> Slot<'a, T> {
    /// Moves `future` into recycled memory.
    pub(crate) fn new<F: Future<Output = T> + Send + 'a>(future: F) -> Self {
        let block = take_block(Layout::new::<F>()).cast::<F>();
        // SAFETY: `take_block` gives memory that fits the size and alignment of `F` and that
        // nobody else uses.
        unsafe { block.write(future) };
        let future: NonNull<dyn Future<Output = T> + Send + 'a> = block;
        Self { future, owns: PhantomData }
    }
}

impl<T> Future for Slot<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // SAFETY: the pointer is valid and ours alone (see the field), `&mut self` makes the access
        // exclusive. Pinning holds: the value never leaves its block before it is dropped there.
        unsafe { Pin::new_unchecked(self.future.as_mut()) }.poll(cx)
    }
}

impl<T> Drop for Slot<'_, T> {
    fn drop(&mut self) {
        // SAFETY: the value is still initialised: only this function ends its life.
        let layout = Layout::for_value(unsafe { self.future.as_ref() });
        let block = Block { memory: self.future.cast(), layout };
        // SAFETY: as above; `drop` runs once, so the value is dropped once. If it panics, `block`
        // still gives the memory back.
        unsafe { self.future.drop_in_place() };
        drop(block);
    }
}

/// Memory on its way back to the free list.
struct Block {
    memory: NonNull<u8>,
    layout: Layout,
}

impl Drop for Block {
    fn drop(&mut self) {
        give_block(self.memory, self.layout);
    }
}

/// Free blocks of this thread, one list for each size.
struct FreeLists([RefCell<Vec<NonNull<u8>>>; CLASSES]);

impl Drop for FreeLists {
    fn drop(&mut self) {
        for (class, list) in self.0.iter_mut().enumerate() {
            for block in list.get_mut().drain(..) {
                // SAFETY: blocks on a list came from `alloc` with the layout of their class, and
                // whoever put them there gave them up.
                unsafe { dealloc(block.as_ptr(), class_layout(class)) };
            }
        }
    }
}

thread_local! {
    static FREE: FreeLists =
        const { FreeLists([const { RefCell::new(Vec::new()) }; CLASSES]) };
}

/// Memory for a value of this layout; may be larger.
fn take_block(layout: Layout) -> NonNull<u8> {
    // Empty lists, and lists that are gone because the thread is ending, answer the same.
    let free = class_of(layout)
        .and_then(|class| FREE.try_with(|lists| lists.0.get(class)?.borrow_mut().pop()).ok()?);
    if let Some(block) = free {
        return block;
    }
    let layout = block_layout(layout);
    // SAFETY: `block_layout` never has the size zero.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Takes memory back that [`take_block`] gave for this very layout.
fn give_block(block: NonNull<u8>, layout: Layout) {
    let kept = class_of(layout).is_some_and(|class| {
        let keep = |lists: &FreeLists| {
            let mut list = lists.0.get(class)?.try_borrow_mut().ok()?;
            (list.len() < FREE_MAX).then(|| list.push(block))
        };
        FREE.try_with(keep).ok().flatten().is_some()
    });
    if !kept {
        // SAFETY: `take_block` allocated every block for this layout with `block_layout`.
        unsafe { dealloc(block.as_ptr(), block_layout(layout)) };
    }
}

/// The layout of the block for a value of this layout: that of its class, or its own. Never empty.
fn block_layout(layout: Layout) -> Layout {
    match class_of(layout) {
        Some(class) => class_layout(class),
        // Only a value of strict alignment can be empty here; the allocator wants some size.
        None => Layout::from_size_align(layout.size().max(1), layout.align()).unwrap_or(layout),
    }
}

/// Which size class holds values of this layout; `None` where only the allocator does.
fn class_of(layout: Layout) -> Option<usize> {
    if layout.align() > ALIGN || layout.size() > SIZE_MIN << (CLASSES - 1) {
        return None;
    }
    let size = layout.size().max(SIZE_MIN).next_power_of_two();
    Some((size.trailing_zeros() - SIZE_MIN.trailing_zeros()) as usize)
}

const fn class_layout(class: usize) -> Layout {
    match Layout::from_size_align(SIZE_MIN << class, ALIGN) {
        Ok(layout) => layout,
        Err(_) => unreachable!(),
    }
}

/// 128, 256, 512, 1024, 2048 and 4096 bytes; larger futures go to the allocator.
const CLASSES: usize = 6;
const SIZE_MIN: usize = 128;
const ALIGN: usize = 16;
/// Free blocks kept of each size: at most 1 MiB of a thread's memory in all.
const FREE_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Waker,
    };

    use super::*;

    struct CountsDrops(Arc<AtomicUsize>);

    impl Drop for CountsDrops {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll<T>(slot: &mut Slot<'_, T>) -> Poll<T> {
        Pin::new(slot).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn free(class: usize) -> usize {
        FREE.with(|lists| lists.0[class].borrow().len())
    }

    #[test]
    fn values_come_out_and_are_dropped_once() {
        let drops = Arc::new(AtomicUsize::new(0));
        let guard = CountsDrops(drops.clone());
        let mut slot = Slot::new(async move {
            let _guard = guard;
            tokio::task::yield_now().await;
            7
        });
        // Without a runtime `yield_now` is ready at its second poll.
        while poll(&mut slot).is_pending() {}
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        drop(slot);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_unfinished_future_is_dropped_with_its_slot() {
        let drops = Arc::new(AtomicUsize::new(0));
        let guard = CountsDrops(drops.clone());
        let mut slot = Slot::new(async move {
            let _guard = guard;
            pending::<()>().await;
        });
        assert!(poll(&mut slot).is_pending());
        drop(slot);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn blocks_are_reused_by_size() {
        let before = free(1);
        drop(Slot::new(async { std::hint::black_box([0_u8; 200]).len() }));
        for size in [0_usize, 1, 127, 128, 129, 4096, 4097] {
            let layout = Layout::from_size_align(size, 8).unwrap();
            let class = class_of(layout);
            assert_eq!(class.is_none(), size > 4096, "{size}");
            if let Some(class) = class {
                assert!(class_layout(class).size() >= size.max(1));
            }
        }
        let mut big = [0_u8; 200];
        let slot = Slot::new(async move {
            big[0] = 1;
            tokio::task::yield_now().await;
            big.len()
        });
        drop(slot);
        assert!(free(1) > before);
    }

    #[test]
    fn large_and_strictly_aligned_futures_work() {
        #[repr(align(64))]
        struct Aligned(u8);
        let value = Aligned(3);
        let mut slot = Slot::new(async move {
            let value = &value;
            assert_eq!(std::ptr::from_ref(value).addr() % 64, 0);
            value.0
        });
        assert_eq!(poll(&mut slot), Poll::Ready(3));
        let large = [1_u8; 10_000];
        let mut slot = Slot::new(async move { large.iter().map(|&b| usize::from(b)).sum() });
        assert_eq!(poll(&mut slot), Poll::Ready(10_000_usize));
        let mut small = Slot::new(ready(()));
        assert_eq!(poll(&mut small), Poll::Ready(()));
        #[repr(align(64))]
        struct Empty;
        impl Future for Empty {
            type Output = usize;
            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<usize> {
                Poll::Ready(std::ptr::from_ref(&*self).addr() % 64)
            }
        }
        assert_eq!(poll(&mut Slot::new(Empty)), Poll::Ready(0));
    }

    #[test]
    fn panics_leak_nothing() {
        struct PanicsInDrop;
        impl Drop for PanicsInDrop {
            fn drop(&mut self) {
                panic!("drop");
            }
        }
        impl Future for PanicsInDrop {
            type Output = ();
            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
                panic!("poll")
            }
        }
        let mut slot = Slot::new(PanicsInDrop);
        assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut slot))).is_err());
        let before = free(0);
        assert!(catch_unwind(AssertUnwindSafe(|| drop(slot))).is_err());
        assert_eq!(free(0), before + 1);
    }

    #[test]
    fn slots_may_end_on_another_thread() {
        let slot = Slot::new(async { 5 });
        let other = std::thread::spawn(move || {
            let mut slot = slot;
            poll(&mut slot)
        });
        assert_eq!(other.join().unwrap(), Poll::Ready(5));
    }

    #[test]
    fn borrowed_data_stays_usable() {
        let text = String::from("borrowed");
        let mut slot = Slot::new(async { text.as_str().len() });
        assert_eq!(poll(&mut slot), Poll::Ready(8));
    }
}
