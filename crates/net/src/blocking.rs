//! Threads for work that blocks: files, databases, hashing of passwords.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// A thread without work ends after this.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A bounded number of threads with a bounded queue; cheap to clone.
///
/// Threads start when they are needed, sleep on a condition variable while there is no work, and
/// end when there was none for ten seconds. After the last clone is dropped, what is queued is
/// still done.
#[derive(Debug, Clone)]
pub struct BlockingPool {
    handle: Arc<Handle>,
}

/// Why [`BlockingPool::run`] gives no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockingError {
    /// The queue is full: the work was not accepted. The peer should be told to come back later.
    #[error("the queue for blocking work is full ({queued} waiting)")]
    Full {
        /// How many wait.
        queued: usize,
    },
    /// The work panicked: a bug in it. The thread lives on.
    #[error("the blocking work panicked")]
    Panicked,
    /// No thread could be started: the environment has to be looked at.
    #[error("no thread can be started for blocking work")]
    NoThread,
}

type Job = Box<dyn FnOnce() + Send>;

/// Ends the threads when the last clone of the pool is dropped.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    threads_max: usize,
    queue_max: usize,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    /// Threads that have no job: they wait, wake or start.
    idle: usize,
    closed: bool,
}

impl BlockingPool {
    /// A pool of at most `threads_max` threads, with room for `queue_max` jobs beside those that
    /// are being done.
    #[must_use]
    pub fn new(threads_max: usize, queue_max: usize) -> Self {
        let shared = Shared {
            threads_max: threads_max.max(1),
            queue_max,
            state: Mutex::default(),
            work: Condvar::new(),
        };
        Self { handle: Arc::new(Handle { shared: Arc::new(shared) }) }
    }

    /// Does `work` on a thread of the pool.
    ///
    /// # Errors
    /// [`BlockingError::Full`] at once, without waiting, if the queue is full.
    ///
    /// # Cancel safety
    /// If the future is dropped, work that has not begun is not done; work that has begun goes on,
    /// and its result is dropped.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        let (sender, receiver) = oneshot::channel();
        self.handle.shared.submit(Box::new(move || {
            if !sender.is_closed() {
                let _nobody_waits = sender.send(catch_unwind(AssertUnwindSafe(work)));
            }
        }))?;
        match receiver.await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) | Err(_) => Err(BlockingError::Panicked),
        }
    }

    /// How many jobs wait for a thread.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.handle.shared.state.lock().queue.len()
    }

    /// How many threads there are now.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.handle.shared.state.lock().threads
    }
}

impl Default for BlockingPool {
    /// Four threads per core and room for 1,024 jobs.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(4 * cores, 1024)
    }
}

impl Shared {
    fn submit(self: &Arc<Self>, job: Job) -> Result<(), BlockingError> {
        let mut state = self.state.lock();
        let startable = self.threads_max - state.threads;
        if state.queue.len() >= self.queue_max + state.idle + startable {
            return Err(BlockingError::Full { queued: state.queue.len() });
        }
        state.queue.push_back(job);
        if state.queue.len() <= state.idle {
            self.work.notify_one();
        } else if startable > 0 {
            state.threads += 1;
            state.idle += 1;
            if self.start_thread().is_err() {
                state.threads -= 1;
                state.idle -= 1;
                if state.threads == 0 {
                    state.queue.pop_back();
                    return Err(BlockingError::NoThread);
                }
            }
        }
        Ok(())
    }

    fn start_thread(self: &Arc<Self>) -> std::io::Result<()> {
        let shared = self.clone();
        let builder = std::thread::Builder::new().name("hearth-blocking".into());
        builder.spawn(move || shared.work()).map(drop)
    }

    /// What a thread does; it was counted as idle.
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            while let Some(job) = state.queue.pop_front() {
                state.idle -= 1;
                drop(state);
                // What panics is caught in the job itself, so that the caller learns of it.
                job();
                state = self.state.lock();
                state.idle += 1;
            }
            if state.closed || self.work.wait_for(&mut state, KEEP_ALIVE).timed_out() {
                // Once more, for what came at the very moment at which the time was up.
                if state.queue.is_empty() {
                    break;
                }
            }
        }
        state.idle -= 1;
        state.threads -= 1;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.closed = true;
        self.shared.work.notify_all();
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("queued", &self.queue.len())
            .field("threads", &self.threads)
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Work that ends when the sender is used or dropped, and tells when it begins.
    fn gate() -> (impl FnOnce() + Send + 'static, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (begun, has_begun) = mpsc::channel();
        let (open, opened) = mpsc::channel();
        let work = move || {
            begun.send(()).expect("the test waits");
            let _ = opened.recv();
        };
        (work, has_begun, open)
    }

    #[tokio::test]
    async fn gives_results_and_reports_panics() {
        let pool = BlockingPool::new(2, 10);
        assert_eq!(pool.run(|| 6 * 7).await, Ok(42));
        let panicked: Result<(), _> = pool.run(|| panic!("for a test")).await;
        assert_eq!(panicked, Err(BlockingError::Panicked));
        assert_eq!(pool.run(|| 1).await, Ok(1), "the thread lives on");
    }

    #[tokio::test]
    async fn threads_and_queue_are_bounded() {
        let pool = BlockingPool::new(2, 3);
        let mut gates = Vec::new();
        for _ in 0..2 {
            let (work, has_begun, open) = gate();
            let running = pool.clone();
            let task = tokio::spawn(async move { running.run(work).await });
            tokio::task::yield_now().await;
            has_begun.recv().expect("begins at once");
            gates.push((task, open));
        }
        let queued: Vec<_> = (0..3)
            .map(|number| {
                let pool = pool.clone();
                tokio::spawn(async move { pool.run(move || number).await })
            })
            .collect();
        while pool.queued() < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(|| ()).await, Err(BlockingError::Full { queued: 3 }));
        assert_eq!(pool.threads(), 2);
        for (task, open) in gates {
            drop(open);
            task.await.expect("no panic").expect("done");
        }
        for (number, task) in queued.into_iter().enumerate() {
            assert_eq!(task.await.expect("no panic"), Ok(number));
        }
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_not_begun() {
        let pool = BlockingPool::new(1, 3);
        let (work, has_begun, open) = gate();
        let running = pool.clone();
        let task = tokio::spawn(async move { running.run(work).await });
        tokio::task::yield_now().await;
        has_begun.recv().expect("begins at once");
        let given_up = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(|| panic!("must not be done")).await }
        });
        while pool.queued() < 1 {
            tokio::task::yield_now().await;
        }
        given_up.abort();
        assert!(given_up.await.expect_err("aborted").is_cancelled());
        drop(open);
        task.await.expect("no panic").expect("done");
        assert_eq!(pool.run(|| 1).await, Ok(1));
    }

    #[test]
    fn the_last_clone_ends_the_threads() {
        let pool = BlockingPool::new(4, 10);
        let shared = pool.handle.shared.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async { pool.run(|| ()).await }).expect("done");
        drop(pool);
        while shared.state.lock().threads > 0 {
            std::thread::yield_now();
        }
    }
}
