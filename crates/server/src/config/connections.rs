//! What clients may take together.

use std::net::IpAddr;

use hearth_config::{Diagnostic, HumanDuration, Report, Spanned};
use hearth_net::{IpPrefix, NetLimits};

use super::{describe::section, range::Check};
use crate::codes;

fn count(get: impl Fn(&NetLimits) -> u64) -> Spanned<u64> {
    Spanned::unknown(get(&NetLimits::default()))
}

section! {
    /// Bounds on what clients may take together. Whoever reaches one waits, or is sent away and counted.
    pub struct Connections {
        /// Open connections of one worker; above it others wait, and the longest idle are closed.
        max_per_worker: Spanned<u64> = count(|l| l.connections_per_worker_max as u64),
        /// Open connections from one address (of IPv6: from one /64).
        max_per_address: Spanned<u64> = count(|l| u64::from(l.connections_per_ip_max)),
        /// New connections from one address per second.
        rate_per_address: Spanned<u64> = count(|l| u64::from(l.new_connections_per_ip_rate)),
        /// New connections from one address at once.
        burst_per_address: Spanned<u64> = count(|l| u64::from(l.new_connections_per_ip_burst)),
        /// Networks that the bounds by address do not hold for, such as that of a proxy in front.
        exempt: Vec<Spanned<String>> = ["127.0.0.0/8", "::1/128"].map(|text| Spanned::unknown(text.to_owned())).to_vec(),
        /// TLS handshakes of one worker at the same time.
        max_handshakes_per_worker: Spanned<u64> = count(|l| l.handshakes_per_worker_max as u64),
        /// TLS handshakes that one worker works on between two looks at its sockets; the others queue, so that a
        /// flood of them does not keep established connections waiting.
        max_handshakes_per_turn: Spanned<u64> = count(|l| l.handshakes_per_turn_max as u64),
        /// Connections that the system holds until they are accepted.
        backlog: Spanned<u64> = count(|l| u64::from(l.backlog)),
        /// Without the client confirming what was sent, the system closes the connection.
        tcp_user_timeout: Spanned<HumanDuration> =
            Spanned::unknown(HumanDuration(NetLimits::default().tcp_user_timeout)),
    }
}

impl Connections {
    /// The bounds as the server knows them; reports what is out of its range.
    pub fn check(&self, report: &mut Report) -> NetLimits {
        let mut limits = NetLimits::default();
        limits.per_ip_exempt =
            self.exempt.iter().filter_map(|text| network(text, report)).collect();
        let mut check = Check { report, section: "connections" };
        limits.connections_per_worker_max =
            check.count("max_per_worker", &self.max_per_worker, 1..=10_000_000);
        limits.connections_per_ip_max =
            check.small("max_per_address", &self.max_per_address, 1..=10_000_000);
        limits.new_connections_per_ip_rate =
            check.small("rate_per_address", &self.rate_per_address, 1..=1_000_000);
        limits.new_connections_per_ip_burst =
            check.small("burst_per_address", &self.burst_per_address, 1..=1_000_000);
        limits.handshakes_per_worker_max = check.count(
            "max_handshakes_per_worker",
            &self.max_handshakes_per_worker,
            1..=1_000_000,
        );
        limits.handshakes_per_turn_max =
            check.count("max_handshakes_per_turn", &self.max_handshakes_per_turn, 1..=10_000);
        limits.backlog = check.small("backlog", &self.backlog, 1..=1_000_000);
        limits.tcp_user_timeout = check.time("tcp_user_timeout", &self.tcp_user_timeout);
        limits
    }
}

/// `10.0.0.0/8`, or an address alone.
fn network(text: &Spanned<String>, report: &mut Report) -> Option<IpPrefix> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text.as_str(), None),
    };
    let parsed = address.parse::<IpAddr>().ok().and_then(|address| {
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(bits_max), |bits| bits.parse().ok())?;
        (bits <= bits_max).then(|| IpPrefix::new(address, bits))
    });
    if parsed.is_none() {
        let diagnostic = Diagnostic::error(codes::ADDRESS, format!("`{text}` is not a network"))
            .at(text.span(), "")
            .with_help("write an address, or a network such as `10.0.0.0/8` or `2001:db8::/32`");
        report.push(diagnostic);
    }
    parsed
}
