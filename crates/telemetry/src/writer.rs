//! The thread that writes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use crate::{
    output::{OpenError, Output, Target},
    queue::Queue,
    sink::{Disk, Files, Sink, Trouble},
};

/// Owns the thread that writes a log. Dropping it writes what waits and ends the thread.
#[derive(Debug)]
pub struct WriterGuard {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

/// What became of a log's lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterStats {
    /// Lines dropped because the queue was full.
    pub dropped_lines: u64,
    /// Times that writing, rotating or reopening began to fail.
    pub troubles: u64,
}

#[derive(Debug, Default)]
struct Counters {
    troubles: AtomicU64,
}

/// Who hears of trouble: the program log, unless it is itself the one in trouble.
pub(crate) type Report = fn(&str);

impl WriterGuard {
    pub(crate) fn start(output: &Output, report: Report) -> Result<(Arc<Queue>, Self), OpenError> {
        let open_error = |source| OpenError { target: output.target.clone(), source };
        let sink = Sink::open(Disk, output.target.clone(), output.rotation.clone());
        let sink = sink.map_err(open_error)?;
        let queue = Arc::new(Queue::new(
            output.shard_count(),
            output.shard_bytes_max(),
            output.flush_interval,
        ));
        let counters = Arc::new(Counters::default());
        let writer = Writer {
            queue: queue.clone(),
            counters: counters.clone(),
            sink,
            target: output.target.clone(),
            report,
            reported_drops: 0,
        };
        let thread = std::thread::Builder::new().name("log-writer".into());
        let thread = thread.spawn(move || writer.run()).map_err(open_error)?;
        queue.set_writer(thread.thread().clone());
        // Lines cannot have come before the queue is handed out, so no wake-up was lost.
        Ok((queue.clone(), Self { queue, counters, thread: Some(thread) }))
    }

    /// Opens the file under its name anew, as after `mv access.log access.log.old`. Returns at once.
    pub fn reopen(&self) {
        self.queue.ask_reopen();
    }

    /// What became of the lines.
    #[must_use]
    pub fn stats(&self) -> WriterStats {
        WriterStats {
            dropped_lines: self.queue.dropped(),
            troubles: self.counters.troubles.load(Ordering::Relaxed),
        }
    }
}

impl Drop for WriterGuard {
    fn drop(&mut self) {
        self.queue.ask_stop();
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has nothing left to write.
            let _ = thread.join();
        }
    }
}

struct Writer<F: Files> {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    sink: Sink<F>,
    target: Target,
    report: Report,
    reported_drops: u64,
}

impl<F: Files> Writer<F> {
    fn run(mut self) {
        let mut spare = Vec::new();
        let queue = self.queue.clone();
        loop {
            let work = queue.wait();
            // Lines from before the order belong into the old file.
            queue.drain(&mut spare, |lines| self.write(lines));
            if work.must_reopen {
                self.with_sink(Sink::reopen);
            }
            self.report_drops();
            if work.must_stop {
                return;
            }
        }
    }

    fn write(&mut self, lines: &[u8]) {
        self.with_sink(|sink, report| sink.write_lines(lines, report));
    }

    fn with_sink(&mut self, act: impl FnOnce(&mut Sink<F>, &mut dyn FnMut(Trouble))) {
        let Self { sink, target, report, counters, .. } = self;
        act(sink, &mut |trouble| {
            if !matches!(trouble, Trouble::Recovered { .. }) {
                counters.troubles.fetch_add(1, Ordering::Relaxed);
            }
            report(&describe(&trouble, target));
        });
    }

    fn report_drops(&mut self) {
        let dropped = self.queue.dropped();
        if dropped > self.reported_drops {
            let target = &self.target;
            let count = dropped - self.reported_drops;
            (self.report)(&format!(
                "{count} lines were dropped because the log `{target}` did not keep up; \
                 serving goes on"
            ));
            self.reported_drops = dropped;
        }
    }
}

fn describe(trouble: &Trouble, target: &Target) -> String {
    match trouble {
        Trouble::CannotWrite(error) => format!(
            "cannot write to the log `{target}`: {error}; serving goes on without it until writing \
             works again"
        ),
        Trouble::CannotRotate(error) => {
            format!("cannot put the log `{target}` aside: {error}; it grows beyond its limit")
        }
        Trouble::CannotReopen(error) => {
            format!("cannot open the log `{target}` again: {error}; the old file stays in use")
        }
        Trouble::Recovered { lines } => {
            format!("the log `{target}` can be written again; {lines} lines were lost")
        }
    }
}
