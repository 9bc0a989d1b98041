//! The bounded way from the threads that serve to the thread that writes.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::Thread,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;

use crate::{clock::Stamp, thread::thread_index};

/// Lines that wait for the writer.
///
/// Each thread appends to a shard of its own, so the lock is all but never contended, and the writer
/// takes a shard's whole buffer in exchange for an empty one: no copy, no allocation, and one
/// wake-up of the writer per flush interval, however many lines come.
#[derive(Debug)]
pub(crate) struct Queue {
    shards: Box<[Shard]>,
    shard_bytes_max: usize,
    flush_interval: Duration,
    dropped: AtomicU64,
    has_lines: AtomicBool,
    is_urgent: AtomicBool,
    must_reopen: AtomicBool,
    must_stop: AtomicBool,
    writer: OnceLock<Thread>,
}

/// Aligned to two cache lines, so that neighbours do not slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    lines: Vec<u8>,
    stamp: Stamp,
}

/// What the writer has to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) must_reopen: bool,
    pub(crate) must_stop: bool,
}

impl Queue {
    pub(crate) fn new(shards: usize, shard_bytes_max: usize, flush_interval: Duration) -> Self {
        Self {
            shards: (0..shards.max(1)).map(|_| Shard::default()).collect(),
            shard_bytes_max,
            flush_interval,
            dropped: AtomicU64::new(0),
            has_lines: AtomicBool::new(false),
            is_urgent: AtomicBool::new(false),
            must_reopen: AtomicBool::new(false),
            must_stop: AtomicBool::new(false),
            writer: OnceLock::new(),
        }
    }

    /// Appends the line that `write` makes, newline included; false where it had to be dropped.
    pub(crate) fn push(&self, write: impl FnOnce(&mut Vec<u8>, &Stamp)) -> bool {
        let Some(shard) = self.shards.get(thread_index() % self.shards.len()) else { return false };
        let mut pending = shard.0.lock();
        let before = pending.lines.len();
        if before < self.shard_bytes_max {
            let Pending { lines, stamp } = &mut *pending;
            stamp.set(SystemTime::now());
            write(lines, stamp);
        }
        let after = pending.lines.len();
        let fits = before < self.shard_bytes_max && after <= self.shard_bytes_max;
        if !fits {
            pending.lines.truncate(before);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        drop(pending);
        // Both flags are only read in the common case: a shared cache line that nobody writes is free.
        let is_urgent = !fits || after > self.shard_bytes_max / 2;
        if is_urgent && !self.is_urgent.load(Ordering::Acquire) {
            self.is_urgent.store(true, Ordering::Release);
            self.has_lines.store(true, Ordering::Release);
            self.wake();
        } else if !self.has_lines.load(Ordering::Acquire)
            && !self.has_lines.swap(true, Ordering::AcqRel)
        {
            self.wake();
        }
        fits
    }

    /// Lines dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn ask_reopen(&self) {
        self.must_reopen.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn ask_stop(&self) {
        self.must_stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Makes the calling thread the one that is woken.
    pub(crate) fn set_writer(&self, thread: Thread) {
        let _ = self.writer.set(thread);
    }

    /// Sleeps until there is something to do. Only the writer calls it.
    pub(crate) fn wait(&self) -> Work {
        while !self.has_lines.load(Ordering::Acquire) && !self.is_ordered() {
            std::thread::park();
        }
        let until = Instant::now() + self.flush_interval;
        while !self.is_urgent.load(Ordering::Acquire) && !self.is_ordered() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::park_timeout(left);
        }
        // Cleared before the shards are emptied: a line that comes later sets them again.
        self.has_lines.store(false, Ordering::Release);
        self.is_urgent.store(false, Ordering::Release);
        Work {
            must_reopen: self.must_reopen.swap(false, Ordering::AcqRel),
            must_stop: self.must_stop.load(Ordering::Acquire),
        }
    }

    /// Hands each shard's lines to `take`; `spare` is an empty buffer that the shards keep using.
    pub(crate) fn drain(&self, spare: &mut Vec<u8>, mut take: impl FnMut(&[u8])) {
        for shard in &self.shards {
            std::mem::swap(&mut shard.0.lock().lines, spare);
            if !spare.is_empty() {
                take(spare);
                spare.clear();
            }
        }
    }

    fn is_ordered(&self) -> bool {
        self.must_stop.load(Ordering::Acquire) || self.must_reopen.load(Ordering::Acquire)
    }

    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(queue: &Queue) -> Vec<u8> {
        let mut all = Vec::new();
        queue.drain(&mut Vec::new(), |lines| all.extend_from_slice(lines));
        all
    }

    #[test]
    fn drops_what_does_not_fit_and_counts_it() {
        let queue = Queue::new(1, 8, Duration::ZERO);
        assert!(queue.push(|out, _| out.extend_from_slice(b"1234\n")));
        assert!(!queue.push(|out, _| out.extend_from_slice(b"5678\n")));
        assert!(queue.push(|out, _| out.extend_from_slice(b"9\n")));
        assert_eq!(queue.dropped(), 1);
        assert_eq!(drained(&queue), b"1234\n9\n");
        assert!(queue.push(|out, _| out.extend_from_slice(b"again\n")));
        assert_eq!(drained(&queue), b"again\n");
    }

    #[test]
    fn every_line_of_every_thread_arrives_whole() {
        let queue = Queue::new(3, 1 << 20, Duration::from_millis(1));
        let all = std::thread::scope(|scope| {
            let queue = &queue;
            let writer = scope.spawn(move || {
                queue.set_writer(std::thread::current());
                let mut all = Vec::new();
                let mut spare = Vec::new();
                loop {
                    let work = queue.wait();
                    queue.drain(&mut spare, |lines| all.extend_from_slice(lines));
                    if work.must_stop {
                        return all;
                    }
                }
            });
            let makers: Vec<_> = (0..5)
                .map(|maker| {
                    scope.spawn(move || {
                        for line in 0..1000 {
                            let text = format!("{maker} {line}\n");
                            assert!(queue.push(|out, _| out.extend_from_slice(text.as_bytes())));
                        }
                    })
                })
                .collect();
            for maker in makers {
                maker.join().unwrap();
            }
            queue.ask_stop();
            writer.join().unwrap()
        });
        let text = String::from_utf8(all).unwrap();
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), 5000);
    }
}
