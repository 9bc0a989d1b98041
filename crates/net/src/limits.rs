//! What peers together may make a server hold.

use std::{net::IpAddr, time::Duration};

/// Bounds on connections. What one connection may do is bounded by
/// [`hearth_http_core::Limits`].
///
/// Reaching a bound sheds or delays connections, and is counted in [`Stats`](crate::Stats).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NetLimits {
    /// Connections open at once on one worker. At the limit the worker stops accepting, so that
    /// others wait in the backlog, and sends the connections away that idle longest. Above 80 % of
    /// it idle connections are closed after 5 s. Default 25,000.
    pub connections_per_worker_max: usize,
    /// Connections open at once from one address, over all workers. IPv6 is counted by /64, which
    /// is what one subscriber gets. More are closed on arrival. Default 256.
    pub connections_per_ip_max: u32,
    /// New connections from one address per second, in the long run. More are closed on arrival.
    /// Default 50.
    pub new_connections_per_ip_rate: u32,
    /// New connections from one address that may come at once. Default 200.
    pub new_connections_per_ip_burst: u32,
    /// Addresses that the three limits above do not count: proxies in front of this server, which
    /// stand for many clients. Default: this machine, `127.0.0.0/8` and `::1/128`.
    pub per_ip_exempt: Vec<IpPrefix>,
    /// TLS handshakes in progress on one worker. Above it the oldest is given up: an honest one
    /// takes two round trips, those that wait longest are most likely not honest. Default 1,024.
    pub handshakes_per_worker_max: usize,
    /// TLS handshakes that one worker works on between two looks at its sockets. The others queue, so
    /// that a flood of them does not keep established connections waiting. Default 8.
    pub handshakes_per_turn_max: usize,
    /// Connections that the kernel holds until they are accepted. Default 4096.
    pub backlog: u32,
    /// Without the peer acknowledging what was sent, the kernel closes the connection. Linux only.
    /// Default 30 s.
    pub tcp_user_timeout: Duration,
    /// How long a drain waits for what is in progress before it cuts it off. Default 30 s.
    pub drain_timeout: Duration,
    /// A worker that does nothing for this long is reported. Default 250 ms.
    pub stall_threshold: Duration,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            connections_per_worker_max: 25_000,
            connections_per_ip_max: 256,
            new_connections_per_ip_rate: 50,
            new_connections_per_ip_burst: 200,
            per_ip_exempt: vec![
                IpPrefix::new(IpAddr::from([127, 0, 0, 0]), 8),
                IpPrefix::new(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 128),
            ],
            handshakes_per_worker_max: 1024,
            handshakes_per_turn_max: 8,
            backlog: 4096,
            tcp_user_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            stall_threshold: Duration::from_millis(250),
        }
    }
}

/// A network: an address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpPrefix {
    address: IpAddr,
    bits: u8,
}

impl IpPrefix {
    /// The network of `address` with this many leading bits; more than it has are as many as it has.
    #[must_use]
    pub fn new(address: IpAddr, bits: u8) -> Self {
        let bits = bits.min(if address.is_ipv4() { 32 } else { 128 });
        Self { address, bits }
    }

    /// Whether the network contains `address`. An IPv4 address mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => {
                let differ = u32::from(ours) ^ u32::from(other);
                differ.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(ours), IpAddr::V6(other)) => {
                let differ = u128::from(ours) ^ u128::from(other);
                differ.leading_zeros() >= u32::from(self.bits)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let check = |network: &str, bits: u8, address: &str, want: bool| {
            let prefix = IpPrefix::new(network.parse().expect("address"), bits);
            let address = address.parse().expect("address");
            assert_eq!(prefix.contains(address), want, "{network}/{bits} {address}");
        };
        check("10.1.0.0", 16, "10.1.255.255", true);
        check("10.1.0.0", 16, "10.2.0.0", false);
        check("10.1.0.0", 16, "::ffff:10.1.2.3", true);
        check("10.1.2.3", 32, "10.1.2.3", true);
        check("10.1.2.3", 99, "10.1.2.2", false);
        check("0.0.0.0", 0, "200.1.1.1", true);
        check("0.0.0.0", 0, "2001:db8::1", false);
        check("2001:db8::", 32, "2001:db8:ffff::1", true);
        check("2001:db8::", 32, "2001:db9::", false);
        check("::1", 128, "::1", true);
        check("::1", 128, "::2", false);
    }
}
