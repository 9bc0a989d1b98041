//! Which names follow which addresses, at which service.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::DnsProvider;
use crate::dns::Name;

/// Names to keep up to date: the base domain and whatever else carries a certificate, together.
#[derive(Clone)]
pub struct Plan {
    pub(crate) accounts: Vec<Account>,
    pub(crate) hosts: Vec<PlannedHost>,
}

/// An account at a service.
#[derive(Clone)]
#[non_exhaustive]
pub struct Account {
    /// What the plan calls it. The state is kept under this name.
    pub id: String,
    /// The service.
    pub provider: Arc<dyn DnsProvider>,
}

/// A name that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedHost {
    /// The name, in full.
    pub name: Name,
    /// The account that holds it.
    pub account: String,
    /// Whether it follows the IPv4 address. Default true.
    pub has_v4: bool,
    /// Which IPv6 address it follows. Default none.
    pub v6: Ipv6Source,
}

/// Which IPv6 address a name follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ipv6Source {
    /// None.
    None,
    /// This machine's.
    Own,
    /// That of another machine in the same network: the prefix follows, the rest stays.
    Suffix {
        /// The address whose last bits count.
        suffix: Ipv6Addr,
        /// How many bits of the prefix follow. Usually 64.
        prefix_bits: u8,
    },
}

/// This machine's addresses as far as they are known for sure. A family that is `None` is left alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observed {
    /// The public IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The public IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

/// Why a plan makes no sense. Who configured it must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPlan {
    /// Two accounts of one name, or one name twice.
    #[error("{0} stands there twice")]
    Duplicate(String),
    /// A name follows nothing.
    #[error("{0} follows neither IPv4 nor IPv6")]
    NoFamily(Name),
    /// There is no such account.
    #[error("{host} belongs to account {account}, which there is not")]
    UnknownAccount {
        /// The name.
        host: Name,
        /// The account.
        account: String,
    },
    /// The service has no records of this kind.
    #[error("{provider} holds no IPv{family} addresses, which {host} shall follow")]
    UnsupportedFamily {
        /// The name.
        host: Name,
        /// The service.
        provider: &'static str,
        /// 4 or 6.
        family: u8,
    },
}

impl Account {
    /// An account.
    pub fn new(id: impl Into<String>, provider: Arc<dyn DnsProvider>) -> Self {
        Self { id: id.into(), provider }
    }
}

impl PlannedHost {
    /// A name that follows the IPv4 address.
    pub fn new(name: Name, account: impl Into<String>) -> Self {
        Self { name, account: account.into(), has_v4: true, v6: Ipv6Source::None }
    }

    /// Says which families the name follows.
    #[must_use]
    pub fn with_families(mut self, has_v4: bool, v6: Ipv6Source) -> Self {
        self.has_v4 = has_v4;
        self.v6 = v6;
        self
    }

    /// The addresses that the name should have.
    pub(crate) fn wanted(&self, observed: Observed) -> [Option<IpAddr>; 2] {
        let v6 = match self.v6 {
            Ipv6Source::None => None,
            Ipv6Source::Own => observed.v6,
            Ipv6Source::Suffix { suffix, prefix_bits } => {
                let mask = u128::MAX.checked_shr(prefix_bits.into()).unwrap_or(0);
                observed.v6.map(|own| (own.to_bits() & !mask | suffix.to_bits() & mask).into())
            }
        };
        let v4 = observed.v4.filter(|_| self.has_v4);
        [v4.map(IpAddr::V4), v6.map(IpAddr::V6)]
    }

    /// Whether the name follows each family.
    pub(crate) fn families(&self) -> [bool; 2] {
        [self.has_v4, self.v6 != Ipv6Source::None]
    }
}

impl Plan {
    /// A plan of names at accounts.
    ///
    /// # Errors
    /// [`InvalidPlan`].
    pub fn new(accounts: Vec<Account>, hosts: Vec<PlannedHost>) -> Result<Self, InvalidPlan> {
        let mut seen = BTreeSet::new();
        for account in &accounts {
            if !seen.insert(account.id.as_str()) {
                return Err(InvalidPlan::Duplicate(account.id.clone()));
            }
        }
        let mut names = BTreeSet::new();
        for host in &hosts {
            let Some(account) = accounts.iter().find(|account| account.id == host.account) else {
                let (host, account) = (host.name.clone(), host.account.clone());
                return Err(InvalidPlan::UnknownAccount { host, account });
            };
            if !names.insert(&host.name) {
                return Err(InvalidPlan::Duplicate(host.name.to_string()));
            }
            let capabilities = account.provider.capabilities();
            let unsupported = |family| InvalidPlan::UnsupportedFamily {
                host: host.name.clone(),
                provider: account.provider.name(),
                family,
            };
            match host.families() {
                [false, false] => return Err(InvalidPlan::NoFamily(host.name.clone())),
                [true, _] if !capabilities.has_v4 => return Err(unsupported(4)),
                [_, true] if !capabilities.has_v6 => return Err(unsupported(6)),
                _ => {}
            }
        }
        Ok(Self { accounts, hosts })
    }
}

/// Whether the internet can reach an address, as far as the address itself tells.
///
/// The addresses for documentation pass: nobody has them, and laboratories use them.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            let is_special = matches!(first, 0 | 127 | 224..) || v4.is_link_local();
            !(v4.is_private() || is_shared || is_special)
        }
        // RFC 4291 §2.4: what is handed out begins with 001.
        IpAddr::V6(v6) => matches!(v6.segments(), [0x2000..0x4000, ..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses() {
        for (address, expected) in [
            ("8.8.8.8", true),
            ("203.0.113.7", true),
            ("10.0.0.1", false),
            ("172.20.0.1", false),
            ("192.168.1.1", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("2001:db8::1", true),
            ("2a01:4f8::1", true),
            ("::1", false),
            ("::ffff:8.8.8.8", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn other_machines_follow_the_prefix() {
        let host = PlannedHost::new("nas.example.com".parse().unwrap(), "a").with_families(
            false,
            Ipv6Source::Suffix { suffix: "::1234:5678".parse().unwrap(), prefix_bits: 56 },
        );
        let own = "2001:db8:1:ff42:aaaa::9".parse().unwrap();
        let wanted = host.wanted(Observed { v4: Some([192, 0, 2, 1].into()), v6: Some(own) });
        assert_eq!(wanted, [None, Some("2001:db8:1:ff00::1234:5678".parse().unwrap())]);
    }
}
