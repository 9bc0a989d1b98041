//! A few threads for what may block, and a way to wait for them without blocking.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

const THREADS_MAX: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

/// Threads start when they are first needed and end with the pool.
#[derive(Debug)]
pub(crate) struct Pool {
    send: Mutex<Option<mpsc::Sender<Job>>>,
    receive: Arc<Mutex<mpsc::Receiver<Job>>>,
    threads: AtomicUsize,
    busy: Arc<AtomicUsize>,
}

impl Pool {
    pub(crate) fn new() -> Self {
        let (send, receive) = mpsc::channel();
        Self {
            send: Mutex::new(Some(send)),
            receive: Arc::new(Mutex::new(receive)),
            threads: AtomicUsize::new(0),
            busy: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Runs `work` on the pool. Dropping the future does not stop the work; its result is dropped.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Job1<T> {
        let slot: Arc<Slot<T>> = Arc::new(Slot { state: Mutex::new((None, None)) });
        let fill = Arc::clone(&slot);
        let busy = Arc::clone(&self.busy);
        let job: Job = Box::new(move || {
            let result = work();
            busy.fetch_sub(1, Ordering::Relaxed);
            let mut state = fill.state.lock();
            state.0 = Some(result);
            let waker: Option<Waker> = state.1.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        let queued = self.busy.fetch_add(1, Ordering::Relaxed);
        if queued >= self.threads.load(Ordering::Relaxed) {
            self.start_thread();
        }
        let sent = self.send.lock().as_ref().map(|send| send.send(job));
        debug_assert!(sent.is_some_and(|r| r.is_ok()), "the pool lives as long as the store");
        Job1(slot)
    }

    fn start_thread(&self) {
        if self.threads.fetch_add(1, Ordering::Relaxed) >= THREADS_MAX {
            self.threads.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let receive = Arc::clone(&self.receive);
        let started = std::thread::Builder::new().name("jsonstore-pool".into()).spawn(move || {
            loop {
                let job = receive.lock().recv();
                match job {
                    Ok(job) => job(),
                    Err(_) => return,
                }
            }
        });
        if started.is_err() {
            self.threads.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
struct Slot<T> {
    state: Mutex<(Option<T>, Option<Waker>)>,
}

/// The result of a job to come.
#[derive(Debug)]
pub(crate) struct Job1<T>(Arc<Slot<T>>);

impl<T> Future for Job1<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.state.lock();
        match state.0.take() {
            Some(result) => Poll::Ready(result),
            None => {
                state.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
