//! What the time means for a connection. No clock in here: `now` comes in, what is due goes out.

use std::time::{Duration, Instant};

use crate::Limits;

/// What has to be done because time passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The connection is old enough to end after its current streams.
    Age,
    /// The time that was left for an orderly end is over.
    Close,
    /// No stream for too long.
    Idle,
    /// It is not certain that the peer is still there.
    Ping,
    /// It is not.
    PingLost,
    /// A frame, or a header block, has begun and does not end.
    SlowFrame,
    /// Look at every stream.
    Sweep,
    /// The peer takes no output.
    WriteStall,
}

/// What a connection looks like at the end of a turn of work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    /// Streams that are being answered.
    pub(super) live: usize,
    /// Requests so far.
    pub(super) requests: u64,
    /// The frame that has begun and not ended.
    pub(super) inside: Option<u64>,
    /// Bytes that came.
    pub(super) received: u64,
    /// Bytes that went.
    pub(super) sent: u64,
    /// Whether output waits for the peer.
    pub(super) has_output: bool,
    /// Whether the end was announced.
    pub(super) is_ending: bool,
}

/// The deadlines of one connection.
#[derive(Debug)]
pub(super) struct Timers {
    first_request: Duration,
    idle: Duration,
    head: Duration,
    write_stall: Duration,
    /// How often streams are looked at: no deadline of theirs is nearer than this when it begins.
    sweep: Duration,
    began: Instant,
    age_at: Option<Instant>,
    close_at: Option<Instant>,
    /// After which request, and when that is too long ago.
    idle_at: Option<(u64, Instant)>,
    inside: Option<(u64, Instant)>,
    output: Option<(u64, Instant)>,
    received: (u64, Instant),
    ping: Option<Instant>,
    sweep_at: Option<Instant>,
    may_ping: bool,
}

impl Timers {
    pub(super) fn new(limits: &Limits, connection: u64, now: Instant) -> Self {
        let stalls = limits.body_stall_timeout.min(limits.write_stall_timeout).min(SWEEP_MAX);
        let sweep = limits.handler_timeout.map_or(stalls, |handler| handler.min(stalls));
        Self {
            first_request: limits.first_request_timeout,
            idle: limits.idle_timeout,
            // What comes in parts here is a frame or a header block, which nobody types.
            head: limits.head_timeout.min(limits.head_rate_grace),
            write_stall: limits.write_stall_timeout,
            sweep,
            began: now,
            age_at: now.checked_add(jitter(limits.connection_age_max, connection)),
            close_at: None,
            idle_at: None,
            inside: None,
            output: None,
            received: (0, now),
            ping: None,
            sweep_at: None,
            may_ping: false,
        }
    }

    /// Notes what a turn of work left behind.
    pub(super) fn observe(&mut self, sight: Sight, now: Instant) {
        let Sight { live, requests, received, sent, is_ending, .. } = sight;
        if received != self.received.0 {
            self.received = (received, now);
            self.ping = None;
        }
        self.may_ping = live > 0 && !is_ending;
        self.idle_at = match self.idle_at {
            _ if live > 0 || is_ending => None,
            Some((known, at)) if known == requests => Some((known, at)),
            _ if requests == 0 => self.began.checked_add(self.first_request).map(|at| (0, at)),
            _ => now.checked_add(self.idle).map(|at| (requests, at)),
        };
        self.sweep_at = match self.sweep_at {
            _ if live == 0 => None,
            Some(at) => Some(at),
            None => now.checked_add(self.sweep),
        };
        self.inside = sight.inside.map(|number| match self.inside {
            Some((known, since)) if known == number => (known, since),
            _ => (number, now),
        });
        self.output = sight.has_output.then_some(match self.output {
            Some((known, since)) if known == sent => (known, since),
            _ => (sent, now),
        });
    }

    /// The connection is to be closed after this long.
    pub(super) fn close_after(&mut self, wait: Duration, now: Instant) {
        self.close_at = now.checked_add(wait);
    }

    /// There is work again before the end.
    pub(super) fn close_later(&mut self) {
        self.close_at = None;
    }

    /// The nearest stream's deadline, found by looking at all.
    pub(super) fn set_sweep(&mut self, at: Option<Instant>) {
        self.sweep_at = at;
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Instant> {
        let after = |since: Option<Instant>, wait| since.and_then(|since| since.checked_add(wait));
        let ping = match self.ping {
            Some(sent) => after(Some(sent), PING_ANSWER),
            None => after(self.may_ping.then_some(self.received.1), PING_AFTER),
        };
        [
            self.age_at,
            self.close_at,
            self.idle_at.map(|(_, at)| at),
            after(self.inside.map(|(_, since)| since), self.head),
            after(self.output.map(|(_, since)| since), self.write_stall),
            ping,
            self.sweep_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What is due; to be asked until there is nothing more.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        let passed = |since: Option<Instant>, wait: Duration| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= wait)
        };
        let reached = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if reached(self.close_at) {
            self.close_at = None;
            Some(Due::Close)
        } else if passed(self.output.map(|(_, since)| since), self.write_stall) {
            self.output = None;
            Some(Due::WriteStall)
        } else if passed(self.inside.map(|(_, since)| since), self.head) {
            self.inside = None;
            Some(Due::SlowFrame)
        } else if passed(self.ping, PING_ANSWER) {
            self.ping = None;
            self.may_ping = false;
            Some(Due::PingLost)
        } else if reached(self.idle_at.map(|(_, at)| at)) {
            self.idle_at = None;
            Some(Due::Idle)
        } else if reached(self.age_at) {
            self.age_at = None;
            Some(Due::Age)
        } else if self.ping.is_none() && self.may_ping && passed(Some(self.received.1), PING_AFTER)
        {
            self.ping = Some(now);
            Some(Due::Ping)
        } else if reached(self.sweep_at) {
            self.sweep_at = None;
            Some(Due::Sweep)
        } else {
            None
        }
    }
}

/// ±10 %, so that connections that began together do not end together.
fn jitter(age: Duration, connection: u64) -> Duration {
    // Any mixing will do that spreads neighbouring numbers.
    let spread = connection.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    age.mul_f64(0.9 + 0.2 * (spread as f64 / f64::from(u32::MAX)))
}

/// The shortest patience that a stream can need, unless a limit is shorter.
const SWEEP_MAX: Duration = Duration::from_secs(1);
/// Over what time the pace of an upload is averaged.
pub(super) const RATE_WINDOW: Duration = Duration::from_secs(5);
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Sight = Sight {
        live: 0,
        requests: 1,
        inside: None,
        received: 0,
        sent: 0,
        has_output: false,
        is_ending: false,
    };

    /// What becomes due, and after how many seconds, if nothing changes from `sight`.
    fn schedule(sight: Sight, until: u64) -> Vec<(u64, Due)> {
        let start = Instant::now();
        let mut timers = Timers::new(&Limits::default(), 0, start);
        timers.observe(sight, start);
        let mut all = Vec::new();
        while let Some(at) = timers.next() {
            let seconds = at.duration_since(start).as_secs();
            if seconds > until {
                break;
            }
            while let Some(due) = timers.due(at) {
                all.push((seconds, due));
            }
            if all.len() > 20 {
                break;
            }
        }
        all
    }

    #[test]
    fn what_is_due_when() {
        assert_eq!(schedule(QUIET, 600), [(75, Due::Idle)]);
        assert_eq!(schedule(Sight { requests: 0, ..QUIET }, 600), [(30, Due::Idle)]);
        assert_eq!(schedule(Sight { is_ending: true, ..QUIET }, 600), []);
        assert_eq!(schedule(QUIET, 4000), [(75, Due::Idle), (3240, Due::Age)]);
        let live = Sight { live: 1, ..QUIET };
        let want = [(1, Due::Sweep), (30, Due::Ping), (40, Due::PingLost)];
        assert_eq!(schedule(live, 60), want);
    }

    #[test]
    fn a_connection_ages_by_an_hour_more_or_less() {
        for connection in 0..1000 {
            let age = jitter(Duration::from_secs(3600), connection).as_secs();
            assert!((3240..=3960).contains(&age), "{age}");
        }
    }

    #[test]
    fn slow_frames_and_stalled_output() {
        let sight = Sight { inside: Some(3), has_output: true, ..QUIET };
        assert_eq!(schedule(sight, 60), [(10, Due::SlowFrame), (30, Due::WriteStall)]);
    }

    #[test]
    fn progress_puts_a_deadline_off() {
        let start = Instant::now();
        let mut timers = Timers::new(&Limits::default(), 0, start);
        for second in 0..100 {
            let now = start + Duration::from_secs(second);
            assert_eq!(timers.due(now), None, "after {second} s");
            let busy = Sight { inside: Some(second), sent: second, has_output: true, ..QUIET };
            timers.observe(Sight { is_ending: true, ..busy }, now);
        }
    }
}
