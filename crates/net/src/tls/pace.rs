//! Handshakes take turns with everything else.
//!
//! The server's part of a handshake takes about as long as a hundred small answers. When a flood of clients
//! says hello at once, all of them are ready at once, and whoever asks for something on an established
//! connection would wait behind them all. So only so many handshakes work between two looks of the event
//! loop at its sockets; the others queue, first come first served.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The turns of one worker.
#[derive(Debug)]
pub(crate) struct Pacer {
    per_turn: usize,
    /// The event loop has waited for events since the last look at this: nobody was held up.
    has_rested: AtomicBool,
    queue: Mutex<Queue>,
    /// Somebody waits.
    wanted: Notify,
}

#[derive(Debug)]
struct Queue {
    /// How many may work in this turn yet.
    left: usize,
    /// Tickets below this may work.
    called: u64,
    /// Those that wait; the first has the ticket `called`.
    waiting: VecDeque<Waker>,
}

/// One handshake's place.
#[derive(Debug)]
pub(crate) struct Turn {
    pacer: Arc<Pacer>,
    ticket: Option<u64>,
}

impl Pacer {
    /// Lets so many handshakes work in a turn, one at least.
    pub(crate) fn new(per_turn: usize) -> Arc<Self> {
        let per_turn = per_turn.max(1);
        let queue = Queue { left: per_turn, called: 0, waiting: VecDeque::new() };
        Arc::new(Self {
            per_turn,
            has_rested: AtomicBool::new(false),
            queue: Mutex::new(queue),
            wanted: Notify::new(),
        })
    }

    /// The event loop has waited for events.
    pub(crate) fn rest(&self) {
        self.has_rested.store(true, Ordering::Relaxed);
    }

    pub(crate) fn turn(self: &Arc<Self>) -> Turn {
        Turn { pacer: self.clone(), ticket: None }
    }

    /// Calls those that wait, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            self.wanted.notified().await;
            loop {
                // tokio wakes who yields after it has looked at the sockets, behind who became ready there.
                tokio::task::yield_now().await;
                let called = self.call();
                if called.is_empty() {
                    break;
                }
                called.into_iter().for_each(Waker::wake);
            }
        }
    }

    /// Begins a turn; answers who may work in it.
    fn call(&self) -> Vec<Waker> {
        let mut queue = self.queue.lock();
        let count = queue.waiting.len().min(self.per_turn);
        queue.called += count as u64;
        queue.left = self.per_turn - count;
        queue.waiting.drain(..count).collect()
    }
}

impl Turn {
    /// Ready when this handshake may do its work; the next work needs another turn.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let pacer = &self.pacer;
        let mut queue = pacer.queue.lock();
        match self.ticket {
            Some(ticket) if ticket < queue.called => self.ticket = None,
            Some(ticket) => {
                let place = usize::try_from(ticket - queue.called).unwrap_or(usize::MAX);
                if let Some(waker) = queue.waiting.get_mut(place) {
                    waker.clone_from(cx.waker());
                }
                return Poll::Pending;
            }
            None => {
                if queue.waiting.is_empty() && pacer.has_rested.swap(false, Ordering::Relaxed) {
                    queue.left = pacer.per_turn;
                }
                if queue.left == 0 {
                    self.ticket = Some(queue.called + queue.waiting.len() as u64);
                    queue.waiting.push_back(cx.waker().clone());
                    pacer.wanted.notify_one();
                    return Poll::Pending;
                }
                queue.left -= 1;
            }
        }
        Poll::Ready(())
    }
}

/// As [`Turn::poll`], for who may have no turns.
pub(super) fn poll_turn(turn: &mut Option<Turn>, cx: &mut Context<'_>) -> Poll<()> {
    if let Some(turn) = turn {
        ready!(turn.poll(cx));
    }
    Poll::Ready(())
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicU64, Ordering::Relaxed},
    };

    use super::*;

    /// Whoever comes first works first, and others are answered between two turns.
    #[tokio::test]
    async fn works_in_turns() {
        let pacer = Pacer::new(3);
        tokio::spawn(pacer.clone().run());
        let worked: Arc<Mutex<Vec<usize>>> = Arc::default();
        let others = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> = (0..20)
            .map(|number| {
                let (mut turn, worked) = (pacer.turn(), worked.clone());
                tokio::spawn(async move {
                    poll_fn(|cx| turn.poll(cx)).await;
                    worked.lock().push(number);
                })
            })
            .collect();
        let (counted, seen) = (others.clone(), worked.clone());
        let other = tokio::spawn(async move {
            let mut before = 0;
            while before < 20 {
                tokio::task::yield_now().await;
                let now = seen.lock().len();
                assert!(now - before <= 3 + 3, "{} worked in one turn", now - before);
                before = now;
                counted.fetch_add(1, Relaxed);
            }
        });
        for task in tasks {
            task.await.expect("no panic");
        }
        other.await.expect("no panic");
        assert_eq!(*worked.lock(), (0..20).collect::<Vec<_>>());
        assert!(others.load(Relaxed) >= 4, "{others:?}");
    }

    /// Those that give up hold nobody up.
    #[tokio::test]
    async fn who_leaves_is_passed_over() {
        let pacer = Pacer::new(1);
        tokio::spawn(pacer.clone().run());
        let mut first = pacer.turn();
        poll_fn(|cx| first.poll(cx)).await;
        for _ in 0..100 {
            let mut leaves = pacer.turn();
            let polled = poll_fn(|cx| Poll::Ready(leaves.poll(cx))).await;
            assert!(polled.is_pending());
        }
        let mut last = pacer.turn();
        poll_fn(|cx| last.poll(cx)).await;
        assert!(pacer.queue.lock().waiting.is_empty());
    }
}
