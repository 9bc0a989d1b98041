//! When to renew a certificate.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::clock::{from_unix, unix};

/// What the decision is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// The moment chosen within the window that the authority suggests (RFC 9773 §4.2).
    pub(crate) ari: Option<SystemTime>,
    /// How long until the next decision.
    pub(crate) check_interval: Duration,
}

/// Why a certificate is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// It was asked for.
    Asked,
    /// The names that are wanted are not those in it.
    NamesChanged,
    /// There is none, or it is damaged.
    Missing,
    /// The authority suggests it (RFC 9773).
    Ari,
    /// A twentieth of its life is left, whatever the authority suggests.
    Emergency,
    /// Little enough of its life is left: a third, or a half where it lives less than ten days.
    Ratio,
    /// Next to nothing is left.
    LastResort,
    /// It has ended.
    Expired,
}

/// Why it is time, or `None` where it is not yet.
pub(crate) fn decide(facts: &Facts, now: SystemTime) -> Option<Reason> {
    let lifetime = facts.not_after.duration_since(facts.not_before).unwrap_or_default();
    let Ok(left) = facts.not_after.duration_since(now) else { return Some(Reason::Expired) };
    // What comes due before the next check is due now.
    if facts.ari.is_some_and(|at| at <= now + facts.check_interval) {
        return Some(Reason::Ari);
    }
    if left < lifetime / 50 || left < facts.check_interval * 5 {
        return Some(Reason::LastResort);
    }
    if left < lifetime / 20 {
        return Some(Reason::Emergency);
    }
    if facts.ari.is_none() && left < ratio(lifetime) {
        return Some(Reason::Ratio);
    }
    None
}

/// When [`decide`] would next say yes, as far as is known.
pub(crate) fn due_at(facts: &Facts) -> SystemTime {
    let lifetime = facts.not_after.duration_since(facts.not_before).unwrap_or_default();
    let margin = match facts.ari {
        Some(_) => lifetime / 20,
        None => ratio(lifetime),
    };
    let by_age = facts.not_after.checked_sub(margin).unwrap_or(facts.not_before);
    facts.ari.map_or(by_age, |at| at.min(by_age))
}

/// How much of a life is left when renewal begins.
fn ratio(lifetime: Duration) -> Duration {
    const SHORT: Duration = Duration::from_secs(10 * 86_400);
    if lifetime < SHORT { lifetime / 2 } else { lifetime / 3 }
}

/// What an authority suggested for a certificate, and what we made of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Suggestion {
    /// The certificate, by fingerprint.
    pub(crate) certificate: String,
    pub(crate) window_start: u64,
    pub(crate) window_end: u64,
    /// The moment that was chosen within the window.
    pub(crate) selected: u64,
    /// When to ask again.
    pub(crate) refresh_at: u64,
    /// A page that says why, when there is something to say.
    #[serde(default)]
    pub(crate) explanation: Option<String>,
}

impl Suggestion {
    /// Chooses a moment in the window: the same one as before where the window did not move.
    pub(crate) fn choose(
        certificate: &str,
        window: (SystemTime, SystemTime),
        now: SystemTime,
        retry_after: Option<Duration>,
        before: Option<&Self>,
    ) -> Self {
        const HALF_A_DAY: Duration = Duration::from_secs(12 * 3600);
        const LEAST: Duration = Duration::from_secs(60);
        let (start, end) = (unix(window.0), unix(window.1).max(unix(window.0)));
        let same = before.filter(|old| {
            old.certificate == certificate && old.window_start == start && old.window_end == end
        });
        let selected = same.map_or_else(
            || {
                let part = crate::facts::fraction(&format!("{certificate} {start} {end}"));
                start + ((end - start) as f64 * part) as u64
            },
            |old| old.selected,
        );
        let wait = retry_after.unwrap_or(HALF_A_DAY / 2).clamp(LEAST, HALF_A_DAY);
        Self {
            certificate: certificate.to_owned(),
            window_start: start,
            window_end: end,
            selected,
            refresh_at: unix(now + wait),
            explanation: None,
        }
    }

    pub(crate) fn selected(&self) -> SystemTime {
        from_unix(self.selected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[track_caller]
    fn check(life_days: u64, now_days: f64, ari_days: Option<f64>, want: Option<Reason>) {
        let at = |days: f64| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(days * DAY as f64);
        let facts = Facts {
            not_before: at(100.0),
            not_after: at(100.0 + life_days as f64),
            ari: ari_days.map(|days| at(100.0 + days)),
            check_interval: Duration::from_secs(600),
        };
        assert_eq!(
            decide(&facts, at(100.0 + now_days)),
            want,
            "{life_days} {now_days} {ari_days:?}"
        );
        if want.is_none() {
            assert!(due_at(&facts) > at(100.0 + now_days));
        }
    }

    #[test]
    fn decides() {
        use Reason::{Ari, Emergency, Expired, LastResort, Ratio};
        check(90, 59.0, None, None);
        check(90, 60.1, None, Some(Ratio));
        check(64, 42.0, None, None);
        check(64, 43.0, None, Some(Ratio));
        check(45, 30.1, None, Some(Ratio));
        check(6, 2.9, None, None);
        check(6, 3.1, None, Some(Ratio));
        check(90, 10.0, Some(9.0), Some(Ari));
        check(90, 10.0, Some(10.005), Some(Ari));
        check(90, 10.0, Some(11.0), None);
        // The authority says later, and is believed, until it is an emergency.
        check(90, 80.0, Some(88.0), None);
        check(90, 86.0, Some(88.0), Some(Emergency));
        check(90, 89.0, Some(89.5), Some(LastResort));
        check(90, 90.1, Some(95.0), Some(Expired));
        check(90, 90.1, None, Some(Expired));
    }

    #[test]
    fn keeps_its_choice_while_the_window_stays() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let choose = |start, end, before: Option<&Suggestion>| {
            Suggestion::choose("abc", (at(start), at(end)), at(500), None, before)
        };
        let first = choose(1000, 2000, None);
        assert!((1000..=2000).contains(&first.selected));
        let again = choose(1000, 2000, Some(&first));
        assert_eq!(again.selected, first.selected);
        let moved = choose(10, 20, Some(&first));
        assert!((10..=20).contains(&moved.selected));
        let odd = choose(2000, 1000, None);
        assert_eq!(odd.selected, 2000);
        let long = Suggestion::choose(
            "a",
            (at(1), at(2)),
            at(0),
            Some(Duration::from_secs(9 * DAY)),
            None,
        );
        assert_eq!(long.refresh_at, DAY / 2, "at least twice a day");
    }
}
