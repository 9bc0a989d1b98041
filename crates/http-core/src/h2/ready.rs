//! Which parts of a connection have to be polled again.
//!
//! All streams live in one task. Each has a waker of its own that sets a bit, so that a wake-up polls
//! one stream and not all; the wakers are kept with their places and made only once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::{Wake, Waker},
};

use parking_lot::Mutex;

/// The bits, and the task behind them.
pub(super) struct Ready {
    bits: Box<[AtomicU64]>,
    /// While the connection is being polled, a bit is enough: it looks at all of them before it ends.
    polling: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Ready {
    pub(super) fn new(len: usize) -> Arc<Self> {
        let bits = std::iter::repeat_with(AtomicU64::default).take(len.div_ceil(64)).collect();
        Arc::new(Self { bits, polling: AtomicBool::new(false), task: Mutex::new(None) })
    }

    /// How many parts there can be.
    pub(super) fn capacity(&self) -> usize {
        self.bits.len() * 64
    }

    /// A waker that sets the bit `index`.
    pub(super) fn waker(self: &Arc<Self>, index: usize) -> Waker {
        Waker::from(Arc::new(Bell { ready: Arc::clone(self), index }))
    }

    /// From now on bits are enough; `task` is woken after [`end`](Self::end).
    pub(super) fn begin(&self, task: &Waker) {
        self.polling.store(true, SeqCst);
        let mut known = self.task.lock();
        if !known.as_ref().is_some_and(|known| known.will_wake(task)) {
            *known = Some(task.clone());
        }
    }

    /// From now on the task is woken. False if a bit is set, so that the work must go on.
    pub(super) fn end(&self) -> bool {
        self.polling.store(false, SeqCst);
        // A bell sets its bit before it looks at `polling`, so one of the two sees the other.
        if self.is_quiet() {
            return true;
        }
        self.polling.store(true, SeqCst);
        false
    }

    /// Whether no bit is set.
    pub(super) fn is_quiet(&self) -> bool {
        self.bits.iter().all(|word| word.load(SeqCst) == 0)
    }

    pub(super) fn set(&self, index: usize) {
        if let Some(word) = self.bits.get(index / 64) {
            word.fetch_or(1 << (index % 64), SeqCst);
        }
    }

    /// Takes the bits of one word of 64, the lowest of which is `word * 64`.
    pub(super) fn take_word(&self, word: usize) -> Option<u64> {
        let word = self.bits.get(word)?;
        Some(if word.load(SeqCst) == 0 { 0 } else { word.swap(0, SeqCst) })
    }
}

struct Bell {
    ready: Arc<Ready>,
    index: usize,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.set(self.index);
        if !self.ready.polling.load(SeqCst) {
            let task = self.ready.task.lock().clone();
            if let Some(task) = task {
                task.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn bells_wake_the_task_only_between_polls() {
        let count = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&count));
        let ready = Ready::new(100);
        assert_eq!(ready.capacity(), 128);
        let bell = ready.waker(70);
        ready.begin(&task);
        bell.wake_by_ref();
        assert_eq!(count.0.load(SeqCst), 0);
        assert!(!ready.end(), "the bit keeps the work going");
        assert_eq!(ready.take_word(1), Some(1 << 6));
        assert!(ready.end());
        bell.wake_by_ref();
        assert_eq!(count.0.load(SeqCst), 1);
        assert_eq!(ready.take_word(1), Some(1 << 6));
        assert_eq!(ready.take_word(2), None);
    }
}
