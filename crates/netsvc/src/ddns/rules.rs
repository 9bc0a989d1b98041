//! When an update is sent. Pure: times and states go in, decisions come out.
//!
//! The point is to send nothing needless. Services lock names whose addresses are sent again and
//! again, and then the name is lost for days.

use std::{net::IpAddr, time::Duration};

use super::{
    ProviderError, ProviderErrorKind,
    state::{AccountState, RecordState},
};

/// How often, and how long to wait. The defaults are what services ask for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rules {
    /// Between looks at whether something is due. Default 120 s.
    pub check_interval: Duration,
    /// By how many percent that is varied, so that not all machines ask at once. Default 10.
    pub jitter_percent: u32,
    /// Between two updates of a record, at least; some services want more. Default 30 s.
    pub interval_min: Duration,
    /// After a failure; doubled with each further one. Default 600 s.
    pub error_interval: Duration,
    /// Up to this. Default 1 h.
    pub error_interval_max: Duration,
    /// After a failure to even reach the service; doubled up to `error_interval`. Default 60 s.
    pub unsent_interval: Duration,
    /// `Retry-After` is believed up to this. Default 24 h.
    pub retry_after_max: Duration,
    /// After this the same address is sent again, so that the name is not taken for dead. Each record
    /// adds up to a fifth of it, so that they are not all due at once. Default 25 days.
    pub refresh_interval: Duration,
    /// For so long after an update the name servers may still show what was before. Default 600 s.
    pub settle_time: Duration,
    /// For so long after an update the name servers are watched. Default 1 h.
    pub watch_time: Duration,
    /// More changes of the address than this within `flap_window` are to and fro. Default 2.
    pub flap_count: usize,
    /// Default 1 h.
    pub flap_window: Duration,
    /// An address that changes to and fro must stay for at most so long to count. Default 30 min.
    pub hold_time_max: Duration,
    /// Whether private addresses are published. Default false.
    pub allows_private: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            check_interval: Duration::from_secs(120),
            jitter_percent: 10,
            interval_min: Duration::from_secs(30),
            error_interval: Duration::from_secs(600),
            error_interval_max: Duration::from_secs(3600),
            unsent_interval: Duration::from_secs(60),
            retry_after_max: Duration::from_secs(86_400),
            refresh_interval: Duration::from_secs(25 * 86_400),
            settle_time: Duration::from_secs(600),
            watch_time: Duration::from_secs(3600),
            flap_count: 2,
            flap_window: Duration::from_secs(3600),
            hold_time_max: Duration::from_secs(1800),
            allows_private: false,
        }
    }
}

/// What is to be done about a record, before anybody has been asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: the service has the address.
    Current,
    /// The address must settle first.
    Hold { until: u64 },
    /// Ask the name servers: they may have it already.
    LookUp,
    /// Send the same once more.
    Refresh,
    /// Nothing, until somebody acts.
    Stopped,
    /// An update is due, but not yet.
    Wait { until: u64 },
}

impl Rules {
    /// Notes an address that was seen, and says what is to be done about its record.
    pub(crate) fn step(
        &self,
        record: &mut RecordState,
        account: &AccountState,
        address: IpAddr,
        now: u64,
    ) -> Step {
        self.note(record, address, now);
        if record.is_stopped || account.stopped.is_some() {
            return Step::Stopped;
        }
        let is_sent = record.sent == Some(address);
        if is_sent && now < record.refresh_at {
            return Step::Current;
        }
        let settled_at = record.seen_at + self.hold_time(record.changes.len());
        if now < settled_at {
            return Step::Hold { until: settled_at };
        }
        let not_before = record.not_before.max(account.not_before);
        if now < not_before {
            return Step::Wait { until: not_before };
        }
        if is_sent { Step::Refresh } else { Step::LookUp }
    }

    /// Whether a record waits for its address to settle.
    pub(crate) fn is_held(&self, record: &RecordState, now: u64) -> bool {
        now < record.seen_at + self.hold_time(record.changes.len())
    }

    /// Whether what the name servers show makes an update needless.
    ///
    /// `shown` is `None` where they do not answer: then our own memory alone decides.
    pub(crate) fn is_shown_already(
        &self,
        record: &RecordState,
        address: IpAddr,
        shown: Option<&[IpAddr]>,
        now: u64,
    ) -> bool {
        // Shortly after an update they may show what was before it. Whoever believed them when an
        // address has come back would leave the name with the one in between.
        let is_believed =
            record.sent.is_none() || now >= record.sent_at + seconds(self.settle_time);
        is_believed && shown == Some(&[address])
    }

    /// Notes that the service has an address.
    pub(crate) fn done(&self, record: &mut RecordState, key: &str, address: IpAddr, now: u64) {
        // Spread by name, so that one plan's records are not refreshed in one burst.
        let spread = key.bytes().fold(0_u64, |hash, byte| hash * 31 % 9973 + u64::from(byte)) % 100;
        let refresh = seconds(self.refresh_interval);
        record.sent = Some(address);
        record.sent_at = now;
        record.refresh_at = now + refresh + refresh / 5 * spread / 100;
        record.failure_count = 0;
        record.trouble = None;
        record.is_shown = None;
    }

    /// When a record that failed may be tried again.
    pub(crate) fn retry_at(&self, failure_count: u32, error: &ProviderError, now: u64) -> u64 {
        let (first, most) = match error.was_sent() {
            true => (self.error_interval, self.error_interval_max),
            false => (self.unsent_interval, self.error_interval),
        };
        let doublings = failure_count.saturating_sub(1).min(16);
        let own = first.saturating_mul(1 << doublings).min(most);
        let asked = error.retry_after().unwrap_or_default().min(self.retry_after_max);
        now + seconds(own.max(asked))
    }

    /// Whether an error of one name means that the account's others must wait, too.
    pub(crate) fn concerns_account(error: &ProviderError) -> bool {
        use ProviderErrorKind as Kind;
        let is_about_all = matches!(
            error.kind(),
            Kind::Busy | Kind::RateLimited | Kind::Unreachable | Kind::ClockWrong | Kind::Garbled
        );
        is_about_all || error.retry_after().is_some()
    }

    fn note(&self, record: &mut RecordState, address: IpAddr, now: u64) {
        let window = seconds(self.flap_window);
        record.changes.retain(|at| at + window > now);
        if record.seen != Some(address) {
            if record.seen.is_some() && record.changes.len() < CHANGES_MAX {
                record.changes.push(now);
            }
            record.seen = Some(address);
            record.seen_at = now;
        }
    }

    /// How long an address must stay after so many changes: not at all at first, then twice as long
    /// with each.
    fn hold_time(&self, change_count: usize) -> u64 {
        let Some(over) = change_count.checked_sub(self.flap_count + 1) else { return 0 };
        let doublings = u32::try_from(over.min(16)).expect("at most 16");
        seconds(self.check_interval.saturating_mul(2 << doublings).min(self.hold_time_max))
    }
}

pub(crate) fn seconds(duration: Duration) -> u64 {
    duration.as_secs()
}

/// More changes than this in one window change nothing.
const CHANGES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    const DAY: u64 = 86_400;

    #[test]
    fn only_what_differs_from_both_is_sent() {
        let rules = Rules::default();
        // What was sent, how long ago, what is shown; whether an update is due, given address A.
        for (sent, ago, shown, expected) in [
            (None, 0, None, true),
            (None, 0, Some(&[][..]), true),
            (None, 0, Some(&[B]), true),
            (None, 0, Some(&[A]), false),
            (None, 0, Some(&[A, B]), true),
            (Some(A), DAY, Some(&[B]), false),
            (Some(A), DAY, None, false),
            (Some(B), DAY, Some(&[A]), false),
            (Some(B), DAY, Some(&[B]), true),
            (Some(B), DAY, None, true),
            // A has come back before the name servers showed B.
            (Some(B), 60, Some(&[A]), true),
            // 26 days are not enough for this record, 30 are.
            (Some(A), 24 * DAY, Some(&[A]), false),
            (Some(A), 31 * DAY, Some(&[A]), true),
        ] {
            let now = 100 * DAY;
            let mut record = RecordState { seen: Some(A), ..RecordState::default() };
            if let Some(sent) = sent {
                rules.done(&mut record, "x/A", sent, now - ago);
            }
            let step = rules.step(&mut record, &AccountState::default(), A, now);
            let is_due = match step {
                Step::Refresh => true,
                Step::LookUp => !rules.is_shown_already(&record, A, shown, now),
                _ => false,
            };
            assert_eq!(is_due, expected, "{sent:?} {ago} {shown:?}");
        }
    }

    #[test]
    fn refreshes_are_spread_over_five_days() {
        let rules = Rules::default();
        let mut days = std::collections::BTreeSet::new();
        for name in 0..100 {
            let mut record = RecordState::default();
            rules.done(&mut record, &format!("host{name}.example.com/A"), A, 0);
            assert!((25 * DAY..30 * DAY).contains(&record.refresh_at));
            days.insert(record.refresh_at / DAY);
        }
        assert_eq!(days.len(), 5);
    }

    #[test]
    fn failures_wait_longer_and_longer() {
        let rules = Rules::default();
        let error = |kind| ProviderError::new("x", kind, "");
        let busy = error(ProviderErrorKind::Busy);
        let waits: Vec<_> = (1..=6).map(|count| rules.retry_at(count, &busy, 0)).collect();
        assert_eq!(waits, [600, 1200, 2400, 3600, 3600, 3600]);
        let unsent = error(ProviderErrorKind::Unreachable).with_unsent();
        let waits: Vec<_> = (1..=6).map(|count| rules.retry_at(count, &unsent, 0)).collect();
        assert_eq!(waits, [60, 120, 240, 480, 600, 600]);
        for (asked, expected) in [(10, 600), (1000, 1000), (1_000_000, DAY)] {
            let limited = error(ProviderErrorKind::RateLimited)
                .with_retry_after(Some(Duration::from_secs(asked)));
            assert_eq!(rules.retry_at(1, &limited, 0), expected);
        }
    }

    #[test]
    fn a_flapping_address_is_held() {
        let rules = Rules::default();
        let account = AccountState::default();
        let mut record = RecordState::default();
        let mut steps = Vec::new();
        for minute in 0..8_u64 {
            let address = if minute % 2 == 0 { A } else { B };
            steps.push(rules.step(&mut record, &account, address, minute * 60));
        }
        let held =
            |steps: &[Step]| steps.iter().filter(|step| matches!(step, Step::Hold { .. })).count();
        assert_eq!(held(&steps[..3]), 0, "the first changes are taken at once");
        assert_eq!(held(&steps[3..]), 5, "{steps:?}");
        assert_eq!(steps[7], Step::Hold { until: 420 + 1800 });
        assert_eq!(rules.step(&mut record, &account, B, 420 + 1800), Step::LookUp);
    }

    proptest::proptest! {
        /// Whatever an address does, the number of updates is bounded by the rules, and in the end the
        /// right one is there.
        #[test]
        fn flapping_costs_few_updates(seen in proptest::collection::vec(0_u8..3, 1..200)) {
            let rules = Rules::default();
            let account = AccountState::default();
            let mut record = RecordState::default();
            let mut count = 0;
            let mut now = 1_000_000;
            let address = |last: u8| IpAddr::from([192, 0, 2, last]);
            let last = *seen.last().unwrap();
            let still = std::iter::repeat_n(last, 40);
            for host in seen.iter().copied().chain(still) {
                now += 120;
                if rules.step(&mut record, &account, address(host), now) == Step::LookUp {
                    count += 1;
                    rules.done(&mut record, "x/A", address(host), now);
                    record.not_before = now + 30;
                }
            }
            proptest::prop_assert_eq!(record.sent, Some(address(last)));
            // Three at first, then one for each stretch that lasts.
            proptest::prop_assert!(count <= 4 + seen.len() * 120 / 240, "{} updates", count);
        }
    }
}
