//! The router next to us, and our own addresses.
//!
//! On Linux the kernel is asked by netlink, which takes microseconds; elsewhere the crate `netdev`
//! asks the system.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

#[cfg(target_os = "linux")]
mod linux;
// On Linux only to be tested.
#[cfg(any(test, not(target_os = "linux")))]
mod portable;
mod watch;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use portable as system;

pub use self::watch::NetworkChanges;

/// The way out: the router that takes what is for nobody here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gateway {
    /// The router's address. IPv6 routers usually have a link-local one.
    pub address: IpAddr,
    /// Our address on the router's network.
    pub local: IpAddr,
    /// How many leading bits `local` shares with its network.
    pub prefix_bits: u8,
    /// The interface that leads there.
    pub interface: String,
    /// Its index, which scopes link-local addresses.
    pub interface_index: u32,
}

/// An address of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalAddress {
    /// The address.
    pub address: IpAddr,
    /// How many leading bits it shares with its network.
    pub prefix_bits: u8,
    /// The interface that has it.
    pub interface: String,
    /// Its index.
    pub interface_index: u32,
    /// RFC 8981: made for outgoing connections, and gone tomorrow.
    pub is_temporary: bool,
    /// Its preferred lifetime is over (RFC 4862 §5.5.4): not for new connections.
    pub is_deprecated: bool,
    /// Not proved unique yet, or proved not to be.
    pub is_tentative: bool,
    /// For how long it is preferred. `None` is for ever.
    pub preferred: Option<Duration>,
}

impl Gateway {
    /// A router at `address`, on whose network we are `local`.
    #[must_use]
    pub fn new(address: IpAddr, local: IpAddr, prefix_bits: u8) -> Self {
        Self { address, local, prefix_bits, interface: String::new(), interface_index: 0 }
    }

    /// Whether `address` is on the network that we share with the router.
    #[must_use]
    pub fn shares_network_with(&self, address: IpAddr) -> bool {
        same_network(self.local, address, self.prefix_bits)
    }
}

/// The IPv4 default gateway; of several the one with the lowest metric.
///
/// # Errors
/// What the system says when it cannot be asked.
pub fn default_ipv4() -> io::Result<Option<Gateway>> {
    system::default_gateway(false)
}

/// The IPv6 default gateway.
///
/// # Errors
/// As [`default_ipv4`].
pub fn default_ipv6() -> io::Result<Option<Gateway>> {
    system::default_gateway(true)
}

/// Our addresses, loopback included.
///
/// # Errors
/// As [`default_ipv4`].
pub fn addresses() -> io::Result<Vec<LocalAddress>> {
    system::addresses()
}

/// The IPv6 address that is worth publishing: global, not temporary, not deprecated, proved
/// unique, preferred for longest; among equals the lowest, so that the choice does not flap.
#[must_use]
pub fn stable_ipv6(addresses: &[LocalAddress]) -> Option<Ipv6Addr> {
    let candidates = addresses.iter().filter(|local| {
        is_public(local.address)
            && !local.is_temporary
            && !local.is_deprecated
            && !local.is_tentative
    });
    let v6 = candidates.filter_map(|local| match local.address {
        IpAddr::V6(address) => Some((local.preferred, address)),
        IpAddr::V4(_) => None,
    });
    // `None` lasts for ever, so it must win over every duration.
    let rank = |preferred: Option<Duration>| preferred.unwrap_or(Duration::MAX);
    v6.min_by_key(|(preferred, address)| (std::cmp::Reverse(rank(*preferred)), *address))
        .map(|(_, address)| address)
}

/// Whether the whole internet can route to the address, as far as its digits tell.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(a == 0
                || v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || v4.is_multicast()
                || a >= 240
                || is_carrier_grade(v4)
                || (a == 198 && (b & 0xfe) == 18)
                || (a == 192 && b == 0 && c == 0))
        }
        // RFC 4291: 2000::/3 is all that has been given out. 2001:db8::/32 is documentation,
        // 2001::/32 Teredo and 2002::/16 6to4, which nobody should publish.
        IpAddr::V6(v6) => match v6.segments() {
            [0x2001, 0x0db8 | 0, ..] | [0x2002, ..] | [0x3fff, 0..=0x0fff, ..] => false,
            [first, ..] => first & 0xe000 == 0x2000,
        },
    }
}

/// Whether the address is from the space between a provider's router and its customers
/// (RFC 6598): whoever has it as external address shares a public one with others.
#[must_use]
pub fn is_carrier_grade(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    a == 100 && (64..128).contains(&b)
}

/// Whether the address belongs to a local network: private, link-local, unique local or loopback.
#[must_use]
pub fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

fn same_network(left: IpAddr, right: IpAddr, prefix_bits: u8) -> bool {
    match (left, right) {
        (IpAddr::V4(left), IpAddr::V4(right)) => {
            let differing = u32::from(left) ^ u32::from(right);
            differing.leading_zeros() >= u32::from(prefix_bits.min(32))
        }
        (IpAddr::V6(left), IpAddr::V6(right)) => {
            let differing = u128::from(left) ^ u128::from(right);
            differing.leading_zeros() >= u32::from(prefix_bits.min(128))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses() {
        let public =
            ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "2a00::1", "::ffff:8.8.8.8"];
        let not = [
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "192.168.1.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fd00::1",
            "2001:db8::1",
            "2001:0:1::",
            "2002::1",
            "3fff::1",
            "ff02::1",
            "64:ff9b::1",
            "::ffff:10.0.0.1",
        ];
        for text in public {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in not {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    fn v6(address: &str, preferred: Option<u64>) -> LocalAddress {
        LocalAddress {
            address: address.parse().unwrap(),
            prefix_bits: 64,
            interface: "eth0".into(),
            interface_index: 2,
            is_temporary: false,
            is_deprecated: false,
            is_tentative: false,
            preferred: preferred.map(Duration::from_secs),
        }
    }

    #[test]
    fn the_stable_address() {
        let check = |addresses: &[LocalAddress], want: Option<&str>| {
            let want = want.map(|text| text.parse().unwrap());
            assert_eq!(stable_ipv6(addresses), want, "{addresses:?}");
        };
        check(&[], None);
        check(&[v6("fe80::1", None), v6("fd00::1", None)], None);
        check(&[v6("2a00::2", Some(5)), v6("2a00::1", Some(9))], Some("2a00::1"));
        check(&[v6("2a00::2", None), v6("2a00::1", Some(9))], Some("2a00::2"));
        check(&[v6("2a00::2", None), v6("2a00::1", None)], Some("2a00::1"));
        let temporary = LocalAddress { is_temporary: true, ..v6("2a00::1", None) };
        check(&[temporary, v6("2a00::2", Some(1))], Some("2a00::2"));
        let deprecated = LocalAddress { is_deprecated: true, ..v6("2a00::1", None) };
        check(&[deprecated], None);
        let tentative = LocalAddress { is_tentative: true, ..v6("2a00::1", None) };
        check(&[tentative], None);
    }

    #[test]
    fn networks() {
        let check = |left: &str, right: &str, bits, want| {
            let (left, right) = (left.parse().unwrap(), right.parse().unwrap());
            assert_eq!(same_network(left, right, bits), want, "{left} {right} /{bits}");
        };
        check("192.168.1.2", "192.168.1.1", 24, true);
        check("192.168.1.2", "192.168.2.1", 24, false);
        check("192.168.1.2", "10.0.0.1", 0, true);
        check("192.168.1.2", "192.168.1.3", 32, false);
        check("192.168.1.2", "::1", 0, false);
        check("fe80::1", "fe80::2", 64, true);
    }

    #[test]
    fn this_machine() {
        let addresses = addresses().unwrap();
        assert!(addresses.iter().any(|local| local.address.is_loopback()), "{addresses:?}");
        if let Some(gateway) = default_ipv4().unwrap() {
            assert!(gateway.address.is_ipv4() && !gateway.interface.is_empty(), "{gateway:?}");
        }
    }
}
