//! How often somebody may ask.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use tokio::time::Instant;

/// A bucket of tokens for each network that asks.
#[derive(Debug)]
pub(super) struct RateLimit {
    burst: u32,
    interval: Duration,
    networks: HashMap<IpAddr, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: u32,
    filled: Instant,
}

impl RateLimit {
    /// `burst` questions at once, one more for each `interval`.
    pub(super) fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, networks: HashMap::new() }
    }

    /// Takes a token, or tells when there will be one.
    pub(super) fn take(&mut self, who: IpAddr, now: Instant) -> Result<(), Duration> {
        let (burst, interval) = (self.burst, self.interval);
        if self.networks.len() >= NETWORKS_MAX {
            // Full buckets say no more than absent ones.
            self.networks.retain(|_, bucket| bucket.filled + interval * burst > now);
            if self.networks.len() >= NETWORKS_MAX {
                return Err(interval);
            }
        }
        let fresh = Bucket { tokens: burst, filled: now };
        let bucket = self.networks.entry(network(who)).or_insert(fresh);
        let elapsed = now.saturating_duration_since(bucket.filled);
        let earned = elapsed.as_nanos() / interval.as_nanos().max(1);
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if earned > 0 {
            bucket.tokens = bucket.tokens.saturating_add(earned).min(burst);
            bucket.filled = now;
        }
        match bucket.tokens.checked_sub(1) {
            Some(left) => {
                bucket.tokens = left;
                Ok(())
            }
            None => Err(interval.saturating_sub(now.saturating_duration_since(bucket.filled))),
        }
    }
}

/// A household: one IPv4 address, or a /56 of IPv6.
fn network(who: IpAddr) -> IpAddr {
    match who.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & (u128::MAX << 72)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

const NETWORKS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tokens() {
        let mut limit = RateLimit::new(2, Duration::from_secs(10));
        let now = Instant::now();
        let later = |secs| now + Duration::from_secs(secs);
        let one: IpAddr = "11.0.0.1".parse().unwrap();
        assert_eq!(limit.take(one, now), Ok(()));
        assert_eq!(limit.take(one, now), Ok(()));
        assert_eq!(limit.take(one, later(4)), Err(Duration::from_secs(6)));
        assert_eq!(limit.take("11.0.0.2".parse().unwrap(), now), Ok(()));
        assert_eq!(limit.take(one, later(10)), Ok(()));
        assert!(limit.take(one, later(10)).is_err());
        assert_eq!(limit.take(one, later(1000)), Ok(()));
        assert_eq!(limit.take(one, later(1000)), Ok(()));
        assert!(limit.take(one, later(1000)).is_err(), "no more than the burst");
        // A /56 is one household.
        let [a, b, c] = ["2a00:0:0:1::1", "2a00:0:0:ff::2", "2a00:0:0:100::1"]
            .map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(network(a), network(b));
        assert_ne!(network(a), network(c));
    }
}
