//! Reports workers that something blocks.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::worker::Worker;

/// Looks after the workers on a thread of its own, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    stop: Arc<(Mutex<bool>, Condvar)>,
}

/// What is known of a worker.
struct Patient {
    worker: Arc<Worker>,
    /// Its last signs of life.
    signs: (u64, u64),
    since: Instant,
    was_roused: bool,
    was_reported: bool,
}

impl Watchdog {
    pub(crate) fn start(workers: Vec<Arc<Worker>>, threshold: Duration) -> std::io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopped = stop.clone();
        let mut patients: Vec<_> = workers.into_iter().map(Patient::new).collect();
        // Often enough that a stall is noticed soon after it is one.
        let interval = (threshold / 3).max(Duration::from_millis(5));
        std::thread::Builder::new().name("hearth-watchdog".into()).spawn(move || {
            let (stopped, changed) = &*stopped;
            let mut stopped = stopped.lock();
            while !*stopped {
                let now = Instant::now();
                for patient in &mut patients {
                    patient.examine(now, threshold);
                }
                changed.wait_for(&mut stopped, interval);
            }
        })?;
        Ok(Self { stop })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
    }
}

impl Patient {
    fn new(worker: Arc<Worker>) -> Self {
        let since = Instant::now();
        Self { worker, signs: (0, 0), since, was_roused: false, was_reported: false }
    }

    fn examine(&mut self, now: Instant, threshold: Duration) {
        let (is_busy, turns) = self.worker.pulse.read();
        let signs = (turns, self.worker.wheel.beats());
        let silent_for = now.duration_since(self.since);
        let worker = self.worker.number;
        if !is_busy || signs != self.signs {
            if self.was_reported {
                let blocked_ms = silent_for.as_millis();
                tracing::warn!(worker, blocked_ms, "the worker goes on");
            }
            self.signs = signs;
            self.since = now;
            self.was_roused = false;
            self.was_reported = false;
            return;
        }
        if !self.was_roused && silent_for >= threshold / 3 {
            // It may be at work without ever being idle, and its clock asleep: then it will tick.
            self.worker.wheel.rouse();
            self.was_roused = true;
        }
        if !self.was_reported && silent_for > threshold {
            self.was_reported = true;
            self.worker.counters.stalls.increment();
            tracing::warn!(
                worker,
                blocked_ms = silent_for.as_millis(),
                open = self.worker.counters.open.load(),
                "the worker does nothing: a handler blocks its thread, and with it every \
                 connection of the worker; blocking work belongs on a BlockingPool"
            );
        }
    }
}
