//! How many connections an address has, and how fast it makes new ones.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    num::NonZeroU64,
    sync::Arc,
    time::Instant,
};

use parking_lot::Mutex;

use crate::NetLimits;

/// Locks, so that workers seldom wait for each other.
const SHARDS: usize = 64;
/// Entries of a shard before those are looked for that are not needed any more.
const SWEEP_MIN: usize = 64;

/// The connections of every address. One for all workers.
#[derive(Debug)]
pub(crate) struct PerIp {
    limits: NetLimits,
    origin: Instant,
    /// Seeded by the process, so that nobody can choose addresses that collide.
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<u64, Entry>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Entry {
    open: u32,
    /// What is left of the burst, in thousandths of a connection.
    tokens: u64,
    /// Milliseconds, when `tokens` was true.
    as_of: u64,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    TooMany,
    TooFast,
}

/// What a connection was counted under; `None` for addresses that are not counted.
pub(crate) type Counted = Option<NonZeroU64>;

impl PerIp {
    pub(crate) fn new(limits: &NetLimits) -> Arc<Self> {
        Arc::new(Self {
            limits: limits.clone(),
            origin: Instant::now(),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        })
    }

    /// Counts a new connection, which must be counted off in the end.
    pub(crate) fn count(&self, address: IpAddr) -> Result<Counted, Refusal> {
        if self.limits.per_ip_exempt.iter().any(|prefix| prefix.contains(address)) {
            return Ok(None);
        }
        let now = self.origin.elapsed().as_millis() as u64;
        let counted = NonZeroU64::new(key(address));
        if let Some(key) = counted {
            self.count_at(key.get(), now)?;
        }
        Ok(counted)
    }

    /// A connection has ended.
    pub(crate) fn count_off(&self, counted: Counted) {
        let Some(key) = counted.map(NonZeroU64::get) else { return };
        if let Some(entry) = self.shard(key).lock().entries.get_mut(&key) {
            entry.open = entry.open.saturating_sub(1);
        }
    }

    fn count_at(&self, key: u64, now: u64) -> Result<(), Refusal> {
        let full = self.full();
        let mut shard = self.shard(key).lock();
        if shard.entries.len() >= shard.sweep_at.max(SWEEP_MIN) {
            shard.entries.retain(|_, entry| entry.open > 0 || self.tokens(entry, now) < full);
            // Doubled, so that sweeping costs each entry a constant.
            shard.sweep_at = shard.entries.len() * 2;
        }
        let entry = shard.entries.entry(key);
        let entry = entry.or_insert(Entry { open: 0, tokens: full, as_of: now });
        entry.tokens = self.tokens(entry, now);
        entry.as_of = now;
        if entry.tokens < 1000 {
            return Err(Refusal::TooFast);
        }
        entry.tokens -= 1000;
        if entry.open >= self.limits.connections_per_ip_max {
            return Err(Refusal::TooMany);
        }
        entry.open += 1;
        Ok(())
    }

    fn tokens(&self, entry: &Entry, now: u64) -> u64 {
        let passed = now.saturating_sub(entry.as_of);
        let gained = passed.saturating_mul(u64::from(self.limits.new_connections_per_ip_rate));
        entry.tokens.saturating_add(gained).min(self.full())
    }

    fn full(&self) -> u64 {
        u64::from(self.limits.new_connections_per_ip_burst) * 1000
    }

    fn shard(&self, key: u64) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }
}

/// What counts as one address: an IPv4 address, or the /64 of an IPv6 address.
fn key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        // Within 0:ffff::/32, of which no network is made.
        IpAddr::V4(v4) => 0xffff << 32 | u64::from(u32::from(v4)),
        IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(open: u32, rate: u32, burst: u32) -> NetLimits {
        NetLimits {
            connections_per_ip_max: open,
            new_connections_per_ip_rate: rate,
            new_connections_per_ip_burst: burst,
            ..NetLimits::default()
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn counts_open_connections() {
        let per_ip = PerIp::new(&limits(2, 1000, 1000));
        let count = |text: &str| per_ip.count(address(text));
        let first = count("192.0.2.1").expect("one");
        let _second = count("::ffff:192.0.2.1").expect("two");
        assert_eq!(count("192.0.2.1").expect_err("three"), Refusal::TooMany);
        let _other = count("192.0.2.2").expect("another address");
        per_ip.count_off(first);
        let _third = count("192.0.2.1").expect("one has gone");
    }

    #[test]
    fn ipv6_is_counted_by_subscriber() {
        let per_ip = PerIp::new(&limits(1, 1000, 1000));
        let _first = per_ip.count(address("2001:db8:1:2::1")).expect("one");
        let same = per_ip.count(address("2001:db8:1:2:ffff::9"));
        assert_eq!(same.expect_err("the same /64"), Refusal::TooMany);
        let _next = per_ip.count(address("2001:db8:1:3::1")).expect("another /64");
    }

    #[test]
    fn exempt_addresses_are_not_counted() {
        let per_ip = PerIp::new(&limits(0, 0, 0));
        let _local = per_ip.count(address("127.0.0.1")).expect("this machine");
        let _mapped = per_ip.count(address("::ffff:127.9.9.9")).expect("this machine");
        let _v6 = per_ip.count(address("::1")).expect("this machine");
        assert!(per_ip.count(address("192.0.2.1")).is_err());
    }

    #[test]
    fn new_connections_have_a_rate() {
        let per_ip = PerIp::new(&limits(u32::MAX, 50, 200));
        for _ in 0..200 {
            per_ip.count_at(7, 0).expect("within the burst");
        }
        assert_eq!(per_ip.count_at(7, 19), Err(Refusal::TooFast));
        per_ip.count_at(7, 20).expect("one every 20 ms");
        assert_eq!(per_ip.count_at(7, 21), Err(Refusal::TooFast));
        for _ in 0..200 {
            per_ip.count_at(7, 1_000_000).expect("the burst has come back, no more than it");
        }
        assert_eq!(per_ip.count_at(7, 1_000_000), Err(Refusal::TooFast));
    }

    #[test]
    fn forgets_those_who_left() {
        let per_ip = PerIp::new(&limits(10, 50, 200));
        for round in 0..100u64 {
            for key in 0..10_000 {
                let key = round * 10_000 + key + 1;
                per_ip.count_at(key, round * 10_000).expect("few");
                per_ip.count_off(NonZeroU64::new(key));
            }
        }
        let kept: usize = per_ip.shards.iter().map(|shard| shard.lock().entries.len()).sum();
        assert!(kept < 50_000, "{kept} of a million");
    }
}
