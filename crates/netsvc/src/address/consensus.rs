//! Which claim is believed, and what it means. No I/O here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use super::SourceKind;
use crate::gateway::{is_carrier_grade, is_public};

/// What the claims come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Enough kinds of witnesses name this address.
    Agreed(IpAddr),
    /// They name different addresses, none of which has the majority.
    Disagreed,
    /// Only one kind of witness names anything.
    OneKindOnly(IpAddr, SourceKind),
    /// Nobody names an address of the internet.
    Silence,
}

/// What stands between us and the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Nat {
    /// The provider shares one address among customers (CGNAT): nobody outside can reach us by IPv4,
    /// whatever our router maps. Only the provider can change that.
    CarrierGrade,
    /// Our router stands behind another one that is ours, too: that one must map ports as well.
    Double,
    /// The address is one of this machine's own.
    None,
    /// One router, which can map ports.
    Single,
    /// The router does not tell its address.
    Unknown,
}

/// Weighs claims. Addresses that nobody in the internet can reach are no claims at all.
///
/// Witnesses of one kind count together: two web servers may well have the same owner, or the same
/// proxy in front of them.
#[must_use]
pub fn consensus(claims: &[(SourceKind, IpAddr)], kinds_min: usize) -> Verdict {
    let mut kinds: BTreeMap<IpAddr, (BTreeSet<SourceKind>, usize)> = BTreeMap::new();
    for (kind, address) in claims.iter().filter(|(_, address)| is_public(*address)) {
        let (known, count) = kinds.entry(*address).or_default();
        known.insert(*kind);
        *count += 1;
    }
    let weight = |(kinds, count): &(BTreeSet<SourceKind>, usize)| (kinds.len(), *count);
    let Some((address, best)) = kinds.iter().max_by_key(|(_, votes)| weight(votes)) else {
        return Verdict::Silence;
    };
    let is_tied = kinds.iter().any(|(other, votes)| {
        // More witnesses of the same number of kinds are no better: one owner may run them all.
        other != address && votes.0.len() == best.0.len()
    });
    match best.0.first() {
        _ if best.0.len() >= kinds_min.max(1) && !is_tied => Verdict::Agreed(*address),
        Some(kind) if best.0.len() == 1 && kinds.len() == 1 => {
            Verdict::OneKindOnly(*address, *kind)
        }
        _ => Verdict::Disagreed,
    }
}

impl Nat {
    /// What `router`, the external address that the router tells, means beside the one that the
    /// internet sees.
    #[must_use]
    pub fn between(is_ours: bool, router: Option<Ipv4Addr>, seen: IpAddr) -> Self {
        match (router, seen) {
            _ if is_ours => Self::None,
            // Nobody translates IPv6 that we would want to know about.
            (_, IpAddr::V6(_)) => Self::None,
            (None, _) => Self::Unknown,
            (Some(router), _) if IpAddr::V4(router) == seen => Self::Single,
            (Some(router), _) if is_carrier_grade(router) => Self::CarrierGrade,
            (Some(router), _) if router.is_private() => Self::Double,
            // A public address that is not the one we are seen with: the provider translates.
            (Some(_), _) => Self::CarrierGrade,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "11.0.0.1";
    const B: &str = "11.0.0.2";

    #[track_caller]
    fn check(claims: &[(SourceKind, &str)], want: Verdict) {
        let claims: Vec<_> =
            claims.iter().map(|(kind, text)| (*kind, text.parse().unwrap())).collect();
        assert_eq!(consensus(&claims, 2), want, "{claims:?}");
    }

    #[test]
    fn claims_are_weighed() {
        use SourceKind::{Dns, Https, Router, Stun};
        let a = || A.parse::<IpAddr>().unwrap();
        check(&[], Verdict::Silence);
        check(&[(Router, "192.168.1.1"), (Stun, "100.64.0.1")], Verdict::Silence);
        check(&[(Stun, A), (Stun, A)], Verdict::OneKindOnly(a(), Stun));
        check(&[(Stun, A), (Https, A)], Verdict::Agreed(a()));
        check(&[(Stun, A), (Https, A), (Router, "10.0.0.2")], Verdict::Agreed(a()));
        // One liar of three, of whatever kind.
        check(&[(Stun, A), (Https, A), (Https, B), (Https, A)], Verdict::Agreed(a()));
        check(&[(Stun, B), (Https, A), (Dns, A)], Verdict::Agreed(a()));
        // Three web servers of one owner against one STUN server: nobody wins.
        check(&[(Stun, A), (Https, B), (Https, B), (Https, B)], Verdict::Disagreed);
        check(&[(Stun, A), (Https, A), (Stun, B), (Https, B)], Verdict::Disagreed);
        check(&[(Https, A), (Https, B)], Verdict::Disagreed);
        check(&[(Stun, A), (Https, A), (Stun, B), (Https, B), (Dns, A)], Verdict::Agreed(a()));
    }

    #[test]
    fn nats() {
        let check = |is_ours, router: Option<&str>, seen: &str, want| {
            let router = router.map(|text| text.parse().unwrap());
            let got = Nat::between(is_ours, router, seen.parse().unwrap());
            assert_eq!(got, want, "{router:?} {seen}");
        };
        check(true, None, A, Nat::None);
        check(false, None, A, Nat::Unknown);
        check(false, Some(A), A, Nat::Single);
        check(false, Some("100.64.1.2"), A, Nat::CarrierGrade);
        check(false, Some("192.168.0.2"), A, Nat::Double);
        check(false, Some(B), A, Nat::CarrierGrade);
        check(false, Some(A), "2a00::1", Nat::None);
    }
}
