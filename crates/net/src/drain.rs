//! The end of a server, stage by stage.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::worker::Progress;

/// How a drain went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Connections that were open when it began.
    pub open: u64,
    /// Of these, how many were in the middle of something after idle ones had gone.
    pub active: u64,
    /// How many were cut off at the end.
    pub aborted: u64,
    /// Workers that did not end, because something blocks their thread.
    pub stuck_workers: usize,
    /// How long it took.
    pub duration: Duration,
}

/// A drain in progress.
#[derive(Debug)]
pub(crate) struct Drain {
    /// Workers that were told to drain.
    pub(crate) workers: usize,
    /// The time that they have.
    pub(crate) time: Duration,
    /// What they tell.
    pub(crate) progress: Receiver<Progress>,
}

/// Workers that have their time, plus this, and have not ended are stuck.
const PATIENCE: Duration = Duration::from_secs(1);

/// Follows a drain to its end, then calls `finish` with whether a worker is stuck.
///
/// On a thread of its own, so that the caller needs no runtime with timers, and that the drain goes
/// on when the caller gives up.
pub(crate) async fn conduct(
    drain: Drain,
    finish: impl FnOnce(bool) + Send + 'static,
) -> DrainReport {
    let (sender, receiver) = oneshot::channel();
    let follow = move || {
        let report = drain.follow();
        finish(report.stuck_workers > 0);
        let _gave_up = sender.send(report);
    };
    if std::thread::Builder::new().name("hearth-drain".into()).spawn(follow).is_err() {
        tracing::error!("cannot start a thread to follow the drain; it goes on unobserved");
        return DrainReport::default();
    }
    receiver.await.unwrap_or_default()
}

impl Drain {
    fn follow(&self) -> DrainReport {
        let begin = Instant::now();
        let mut report = DrainReport::default();
        let (mut stopped, mut settled, mut ended) = (0, 0, 0);
        while ended < self.workers {
            let left = (self.time + PATIENCE).saturating_sub(begin.elapsed());
            match self.progress.recv_timeout(left) {
                Ok(Progress::Stopped { open }) => {
                    stopped += 1;
                    report.open += open;
                    if stopped == self.workers {
                        tracing::info!(open = report.open, "drain: no more connections accepted");
                    }
                }
                Ok(Progress::Settled { open }) => {
                    settled += 1;
                    report.active += open;
                    if settled == self.workers && report.active > 0 {
                        let active = report.active;
                        tracing::info!(active, "drain: idle connections closed, others finish");
                    }
                }
                Ok(Progress::Ended { aborted }) => {
                    ended += 1;
                    report.aborted += aborted;
                }
                Err(RecvTimeoutError::Timeout) => {
                    report.stuck_workers = self.workers - ended;
                    break;
                }
                // Somebody else drained before us.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        report.duration = begin.elapsed();
        let DrainReport { open, aborted, stuck_workers, duration, .. } = report;
        let milliseconds = duration.as_millis();
        if stuck_workers > 0 {
            tracing::error!(
                stuck_workers,
                aborted,
                milliseconds,
                "drain: something blocks workers"
            );
        } else if aborted > 0 {
            tracing::warn!(open, aborted, milliseconds, "drain: the rest was cut off");
        } else {
            tracing::info!(open, milliseconds, "drain: every connection ended in order");
        }
        report
    }
}
