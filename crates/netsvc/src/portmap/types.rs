//! What is asked of routers, and what they grant.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// The transport protocol of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A way to talk to a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Method {
    /// Port Control Protocol (RFC 6887).
    Pcp,
    /// NAT Port Mapping Protocol (RFC 6886).
    NatPmp,
    /// UPnP Internet Gateway Device, version 1 or 2.
    Upnp,
}

/// A wish: what arrives at the router's port shall come to ours.
///
/// With an IPv6 address nothing is translated: the wish is for a hole in the router's firewall.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct MapRequest {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where we listen.
    pub internal_port: u16,
    /// The port that the world sees. Default: the internal one. Of no meaning for IPv6.
    pub external_port: u16,
    /// How many ports from `external_port` on will do, when the first is somebody else's. Default 1:
    /// a web server at another port than 443 is no web server.
    pub external_port_choices: u16,
    /// Our address. Default `None`: the IPv4 address that faces the router. Routers usually refuse
    /// any address but the sender's ("secure mode").
    pub internal_address: Option<IpAddr>,
    /// For how long it is asked. Default 2 h; the router may grant less, or more.
    pub lease: Duration,
    /// What the router's owner reads in its table. Default `hearth`. Non-ASCII becomes `?`.
    pub description: String,
}

/// What a router has granted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mapping {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where it leads.
    pub internal: SocketAddr,
    /// The port that the world sees.
    pub external_port: u16,
    /// The router's external address, where the answer told it (PCP does).
    pub external_address: Option<IpAddr>,
    /// When it ends unless renewed. `None`: the router keeps no leases, it stays until deleted.
    pub lease: Option<Duration>,
    /// How it was made.
    pub method: Method,
    /// What the router's table says about it.
    pub description: String,
    /// Whether the router's own table showed it afterwards. PCP and NAT-PMP have no such table, but
    /// where the router speaks UPnP too, that one is looked at; not every router shows them there.
    pub is_verified: bool,
    pub(crate) handle: Handle,
}

/// What is needed to renew or delete a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handle {
    None,
    /// RFC 6887 §11.1: only who knows it may change the mapping.
    PcpNonce([u8; 12]),
    /// WANIPv6FirewallControl: the `UniqueID`.
    Pinhole(u16),
}

/// A row of a router's table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedMapping {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port that the world sees.
    pub external_port: u16,
    /// Where it leads.
    pub internal: SocketAddr,
    /// Whether the router lets anything through at the moment.
    pub is_enabled: bool,
    /// What whoever made it had to say.
    pub description: String,
    /// What is left of its lease. `None`: it stays.
    pub lease: Option<Duration>,
    /// The only sender that may use it. `None`: everybody.
    pub remote_host: Option<IpAddr>,
}

/// Whether a mapping is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Presence {
    /// The router's table shows it.
    Present,
    /// The router's table does not show it, or shows somebody else's in its place.
    Absent,
    /// The router has no table to look at.
    Unknown,
}

/// A clock of the router. When it goes back, the router has restarted and forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterClock {
    /// Seconds since the router's tables, or its connection, began.
    pub seconds: u32,
    /// When we read it.
    pub read_at: tokio::time::Instant,
}

impl MapRequest {
    /// A wish for a TCP port, the same outside as inside.
    #[must_use]
    pub fn tcp(port: u16) -> Self {
        Self {
            protocol: Protocol::Tcp,
            internal_port: port,
            external_port: port,
            external_port_choices: 1,
            internal_address: None,
            lease: Duration::from_secs(7200),
            description: "hearth".to_owned(),
        }
    }

    /// A wish for a UDP port, the same outside as inside.
    #[must_use]
    pub fn udp(port: u16) -> Self {
        Self { protocol: Protocol::Udp, ..Self::tcp(port) }
    }

    /// The port that the world shall see.
    #[must_use]
    pub fn with_external_port(mut self, port: u16) -> Self {
        self.external_port = port;
        self
    }

    /// How many ports from the external one on will do. Default 1.
    #[must_use]
    pub fn with_external_port_choices(mut self, count: u16) -> Self {
        self.external_port_choices = count;
        self
    }

    /// Our address, in place of the one that faces the router. Default: that one.
    #[must_use]
    pub fn with_internal_address(mut self, address: IpAddr) -> Self {
        self.internal_address = Some(address);
        self
    }

    /// For how long it is asked. Default 2 h.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// What the router's owner reads. Default `hearth`.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// The lease in seconds, never 0: that would mean "delete", or "for ever".
    pub(crate) fn lease_secs(&self) -> u32 {
        u32::try_from(self.lease.as_secs()).unwrap_or(u32::MAX).max(1)
    }

    /// The ports that will do, in the order in which they are tried.
    pub(crate) fn external_ports(&self) -> impl Iterator<Item = u16> + use<> {
        let last = self.external_port.saturating_add(self.external_port_choices.max(1) - 1);
        self.external_port..=last
    }

    /// The description as routers can digest it: they store few bytes, and mangle what is not ASCII.
    pub(crate) fn plain_description(&self) -> String {
        let plain = |char: char| if matches!(char, ' '..='~') { char } else { '?' };
        self.description.chars().take(DESCRIPTION_CHARS_MAX).map(plain).collect()
    }
}

impl RouterClock {
    /// Whether the router has restarted between an earlier reading and this one: its clock went
    /// back, or lags behind ours by more than a sixteenth and 2 s (RFC 6886 §3.6, RFC 6887 §8.5).
    #[must_use]
    pub fn is_restart_since(&self, earlier: &Self) -> bool {
        if self.seconds.saturating_add(1) < earlier.seconds {
            return true;
        }
        let ours = self.read_at.saturating_duration_since(earlier.read_at).as_secs();
        let theirs = u64::from(self.seconds.saturating_sub(earlier.seconds));
        theirs + 2 < ours - ours / 16
    }
}

impl Protocol {
    /// The protocol's number at IANA.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        })
    }
}

/// More than that is cut by some routers, which then no longer find the mapping.
const DESCRIPTION_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_to_try() {
        let ports = |first, choices| -> Vec<u16> {
            MapRequest::tcp(first).with_external_port_choices(choices).external_ports().collect()
        };
        assert_eq!(ports(80, 1), [80]);
        assert_eq!(ports(80, 0), [80]);
        assert_eq!(ports(80, 3), [80, 81, 82]);
        assert_eq!(ports(65_535, 9), [65_535]);
    }

    #[tokio::test(start_paused = true)]
    async fn restarts() {
        let now = tokio::time::Instant::now();
        let check = |first: u32, second: u32, after: u64, want: bool| {
            let earlier = RouterClock { seconds: first, read_at: now };
            let read_at = now + Duration::from_secs(after);
            let later = RouterClock { seconds: second, read_at };
            assert_eq!(later.is_restart_since(&earlier), want, "{first} then {second} at {after}");
        };
        check(100, 160, 60, false);
        check(100, 157, 60, false); // clocks of routers are poor
        check(100, 99, 0, false); // RFC 6887 §8.5: one second is tolerated
        check(100, 5, 60, true);
        check(100, 130, 60, true); // restarted, and up for longer than it was at the first reading
        check(100, 500, 60, false); // a step forward loses nothing
    }
}
