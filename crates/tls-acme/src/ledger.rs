//! What was asked of an authority lately, so that its limits are not run into.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::{
    clock::{from_unix, unix},
    facts::hex,
    name::Name,
};

/// The limits of an authority; `None` where it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimits {
    /// Orders in ten seconds.
    pub orders_per_10_s: Option<u32>,
    /// New orders in three hours.
    pub orders_per_3_h: Option<u32>,
    /// Certificates for a registered domain in seven days.
    pub certificates_per_domain_7_d: Option<u32>,
    /// Certificates for the very same names in seven days.
    pub duplicates_7_d: Option<u32>,
    /// Failed validations of a name in an hour.
    pub failures_per_name_1_h: Option<u32>,
}

/// The ledger of one authority. Kept in the storage.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Ledger {
    entries: VecDeque<Entry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    at: u64,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    Order,
    Certificate { set: String, domains: Vec<String> },
    Failure { name: String },
}

/// A limit that is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) until: SystemTime,
    pub(crate) limit: String,
}

const HOUR: u64 = 3600;
const WEEK: u64 = 7 * 24 * HOUR;
/// Entries beyond this are forgotten, oldest first.
const ENTRIES_MAX: usize = 20_000;

impl RateLimits {
    /// Those that Let's Encrypt publishes, and ten orders in ten seconds.
    #[must_use]
    pub const fn lets_encrypt() -> Self {
        Self {
            orders_per_10_s: Some(10),
            orders_per_3_h: Some(300),
            certificates_per_domain_7_d: Some(50),
            duplicates_7_d: Some(5),
            failures_per_name_1_h: Some(5),
        }
    }

    /// Ten orders in ten seconds.
    #[must_use]
    pub const fn polite() -> Self {
        Self { orders_per_10_s: Some(10), ..Self::none() }
    }

    /// No limits.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            orders_per_10_s: None,
            orders_per_3_h: None,
            certificates_per_domain_7_d: None,
            duplicates_7_d: None,
            failures_per_name_1_h: None,
        }
    }
}

impl Ledger {
    /// Where that of an authority is kept.
    pub(crate) fn key(authority: &str) -> String {
        format!("ledgers/{authority}.json")
    }

    /// Whether an order for `names` may be made. Renewals that say what they replace are exempt from all
    /// limits but that on haste (RFC 9773 §5 lets authorities do so, and Let's Encrypt does).
    pub(crate) fn check(
        &self,
        limits: &RateLimits,
        names: &[Name],
        is_exempt: bool,
        now: SystemTime,
    ) -> Result<(), Reached> {
        let order = |what: &What| *what == What::Order;
        self.under(limits.orders_per_10_s, 10, now, "orders in 10 seconds", order)?;
        if is_exempt {
            return Ok(());
        }
        self.under(limits.orders_per_3_h, 3 * HOUR, now, "orders in 3 hours", order)?;
        let set = set_of(names);
        let same =
            |what: &What| matches!(what, What::Certificate { set: other, .. } if *other == set);
        let text = "certificates for the same names in 7 days";
        self.under(limits.duplicates_7_d, WEEK, now, text, same)?;
        for name in names {
            let domain = name.registered_domain();
            let same = |what: &What| matches!(what, What::Certificate { domains, .. } if domains.contains(&domain));
            let text = format!("certificates for {domain} in 7 days");
            self.under(limits.certificates_per_domain_7_d, WEEK, now, &text, same)?;
            let shown = name.to_string();
            let same = |what: &What| matches!(what, What::Failure { name } if *name == shown);
            let text = format!("failed validations of {shown} in an hour");
            self.under(limits.failures_per_name_1_h, HOUR, now, &text, same)?;
        }
        Ok(())
    }

    pub(crate) fn ordered(&mut self, now: SystemTime) {
        self.push(What::Order, now);
    }

    pub(crate) fn issued(&mut self, names: &[Name], now: SystemTime) {
        let mut domains: Vec<String> = names.iter().map(Name::registered_domain).collect();
        domains.sort();
        domains.dedup();
        self.push(What::Certificate { set: set_of(names), domains }, now);
    }

    pub(crate) fn failed(&mut self, name: &str, now: SystemTime) {
        self.push(What::Failure { name: name.to_owned() }, now);
    }

    fn push(&mut self, what: What, now: SystemTime) {
        let now = unix(now);
        self.entries.retain(|entry| entry.at + WEEK > now);
        self.entries.push_back(Entry { at: now, what });
        while self.entries.len() > ENTRIES_MAX {
            self.entries.pop_front();
        }
    }

    /// Refuses where `limit` entries of the kind lie within the last `window` seconds.
    fn under(
        &self,
        limit: Option<u32>,
        window: u64,
        now: SystemTime,
        what: &str,
        is_counted: impl Fn(&What) -> bool,
    ) -> Result<(), Reached> {
        let Some(limit) = limit else { return Ok(()) };
        let now = unix(now);
        let counted =
            |entry: &&Entry| entry.at + window > now && entry.at <= now && is_counted(&entry.what);
        let mut newest_first = self.entries.iter().rev().filter(counted);
        // The oldest of the last `limit` must leave the window first.
        let Some(last) = newest_first.nth((limit.max(1) - 1) as usize) else { return Ok(()) };
        let until = from_unix(last.at) + Duration::from_secs(window);
        Err(Reached { until, limit: format!("{limit} {what}") })
    }
}

/// A set of names, in any order, as one short text.
fn set_of(names: &[Name]) -> String {
    let mut all: Vec<String> = names.iter().map(ToString::to_string).collect();
    all.sort();
    all.dedup();
    hex(digest::digest(&digest::SHA256, all.join(",").as_bytes()).as_ref())
        .chars()
        .take(32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<Name> {
        list.iter().map(|name| name.parse().expect("a name")).collect()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(100 * WEEK + seconds)
    }

    #[test]
    fn holds_back_what_would_run_into_a_limit() {
        let limits = RateLimits::lets_encrypt();
        let a = names(&["a.example.com", "b.example.com"]);
        let turned = names(&["b.example.com", "a.example.com"]);
        let mut ledger = Ledger::default();
        for n in 0..5 {
            assert_eq!(ledger.check(&limits, &a, false, at(n * 100)), Ok(()));
            ledger.ordered(at(n * 100));
            ledger.issued(&a, at(n * 100));
        }
        let reached = ledger.check(&limits, &turned, false, at(500)).expect_err("five of the same");
        assert_eq!(reached.until, at(WEEK), "when the first is a week old");
        assert_eq!(reached.limit, "5 certificates for the same names in 7 days");
        assert_eq!(ledger.check(&limits, &a, true, at(500)), Ok(()), "renewals are exempt");
        assert_eq!(ledger.check(&limits, &a, false, at(WEEK)), Ok(()));
        assert_eq!(ledger.check(&limits, &names(&["a.example.com"]), false, at(500)), Ok(()));
    }

    #[test]
    fn counts_per_domain_failures_and_haste() {
        let limits = RateLimits::lets_encrypt();
        let mut ledger = Ledger::default();
        for n in 0..50 {
            ledger.issued(&names(&[&format!("n{n}.example.com")]), at(n));
        }
        let other = names(&["x.example.com"]);
        assert_eq!(
            ledger.check(&limits, &other, false, at(60)).expect_err("fifty").until,
            at(WEEK)
        );
        assert_eq!(ledger.check(&limits, &names(&["example.org"]), false, at(60)), Ok(()));
        for n in 0..5 {
            ledger.failed("example.org", at(100 + n));
        }
        let reached = ledger.check(&limits, &names(&["example.org"]), false, at(200));
        assert_eq!(reached.expect_err("five failures").until, at(100 + HOUR));
        for n in 0..10 {
            ledger.ordered(at(300 + n / 2));
        }
        let hasty = ledger.check(&limits, &names(&["example.net"]), true, at(305));
        assert_eq!(hasty.expect_err("ten orders").until, at(310));
        assert_eq!(ledger.check(&RateLimits::none(), &other, false, at(305)), Ok(()));
    }

    #[test]
    fn survives_the_storage() {
        let mut ledger = Ledger::default();
        ledger.ordered(at(0));
        ledger.issued(&names(&["a.test"]), at(1));
        ledger.failed("a.test", at(2));
        let text = serde_json::to_string(&ledger).expect("json");
        let back: Ledger = serde_json::from_str(&text).expect("json");
        assert_eq!(back.entries.len(), 3);
    }
}
