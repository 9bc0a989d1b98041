//! What a lab can be like: one that works, and those that are broken in one way each.

/// A world. [`SOUND`] works; the others differ from it in one thing.
#[derive(Debug, Clone)]
pub struct World {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is wrong in it.
    pub about: &'static str,
    /// What `hearth doctor` has to say first; empty where nothing is wrong.
    pub diagnosis: &'static str,
    /// How many routers rewrite addresses.
    pub nat: Nat,
    /// How the router answers wishes for mappings.
    pub mapping: Mapping,
    /// Whether the provider drops connections to port 80.
    pub is_80_blocked: bool,
    /// Whether the router lets machines behind it use its public address.
    pub has_hairpin: bool,
    /// What the name servers say.
    pub zone: Zone,
    /// Who issues certificates.
    pub authority: Authority,
    /// How far the machine's clock is ahead.
    pub clock_days: u32,
    /// Whether another program listens on the machine's port 80.
    pub is_port_taken: bool,
    /// Whether there is IPv6, and a firewall of the router before it.
    pub has_ipv6: bool,
    /// Whether the certification authority takes only those whom it knows already (RFC 8555 section 7.3.4).
    pub needs_binding: bool,
}

/// How many routers rewrite addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// The provider's too; the router has an address of 100.64.0.0/10.
    Carrier,
    /// Two of one's own; the outer one gives the inner one a private address.
    Double,
    /// One.
    Single,
}

/// How the router answers wishes for mappings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// It says yes, and forgets at once.
    Forgotten,
    /// It does not listen.
    Off,
    /// It refuses port 80 only.
    Only443,
    /// It refuses ports below 1024.
    Refused,
    /// As it should.
    Works,
}

/// Who issues certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// The first does not exist; a second one does.
    Gone,
    /// One that takes no more orders.
    Limited,
    /// One.
    Works,
}

/// What the name servers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// Only another CA may issue.
    CaaForbids,
    /// There is an IPv6 address that nobody answers at.
    DeadAaaa,
    /// The name leads to somebody else, and updates are refused.
    Foreign,
    /// The second name server keeps to an old copy.
    Lagging,
    /// What they should.
    Right,
    /// The address is the one of last week, and nothing updates it.
    StaleA,
}

/// Everything works.
pub const SOUND: World = World {
    name: "sound",
    about: "a router with UPnP, NAT-PMP and PCP, a zone that may be updated, a CA",
    diagnosis: "",
    nat: Nat::Single,
    mapping: Mapping::Works,
    is_80_blocked: false,
    has_hairpin: true,
    zone: Zone::Right,
    authority: Authority::Works,
    clock_days: 0,
    is_port_taken: false,
    has_ipv6: false,
    needs_binding: false,
};

/// Everything works, by IPv6 too.
pub const IPV6: World = World {
    name: "ipv6",
    about: "the same with IPv6, and a firewall of the router before it",
    has_ipv6: true,
    ..SOUND
};

/// Everything works for those whom the authority knows.
pub const MEMBERS_ONLY: World = World {
    name: "members-only",
    about: "the CA takes only those who bring a key of an external account",
    needs_binding: true,
    ..SOUND
};

/// All of them, the sound ones first.
#[must_use]
pub fn all() -> Vec<World> {
    let mut worlds = vec![SOUND, IPV6, MEMBERS_ONLY];
    worlds.extend(broken());
    worlds
}

/// Those that the doctor examines: the sound one, and every broken one.
#[must_use]
pub fn of_the_doctor() -> Vec<World> {
    let mut worlds = vec![SOUND];
    worlds.extend(broken());
    worlds
}

/// The world of this name.
#[must_use]
pub fn named(name: &str) -> Option<World> {
    all().into_iter().find(|world| world.name == name)
}

/// Each is wrong in one thing.
#[rustfmt::skip]
fn broken() -> [World; 17] {
    [
        World { name: "upnp-off", about: "the router maps no ports",
            diagnosis: "H-NET-101", mapping: Mapping::Off, ..SOUND },
        World { name: "mapping-forgotten", about: "the router says yes to a mapping, and does not have it",
            diagnosis: "H-NET-102", mapping: Mapping::Forgotten, ..SOUND },
        World { name: "cgnat", about: "the provider rewrites addresses too",
            diagnosis: "H-NET-103", nat: Nat::Carrier, ..SOUND },
        World { name: "double-nat", about: "a router behind a router",
            diagnosis: "H-NET-104", nat: Nat::Double, ..SOUND },
        World { name: "80-blocked", about: "the provider drops connections to port 80",
            diagnosis: "H-NET-105", is_80_blocked: true, ..SOUND },
        World { name: "only-443", about: "the router lets only port 443 be mapped",
            diagnosis: "H-NET-106", mapping: Mapping::Only443, ..SOUND },
        World { name: "stale-a", about: "the name leads to the address of last week",
            diagnosis: "H-DNS-101", zone: Zone::StaleA, ..SOUND },
        World { name: "dead-aaaa", about: "the name has an IPv6 address that nobody answers at",
            diagnosis: "H-DNS-102", zone: Zone::DeadAaaa, ..SOUND },
        World { name: "caa-forbids", about: "a CAA record lets only another CA issue",
            diagnosis: "H-DNS-103", zone: Zone::CaaForbids, ..SOUND },
        World { name: "lagging-secondary", about: "one of two name servers has an old copy",
            diagnosis: "H-DNS-104", zone: Zone::Lagging, ..SOUND },
        World { name: "ca-limit", about: "the CA takes no more orders for now",
            diagnosis: "H-CRT-101", authority: Authority::Limited, ..SOUND },
        World { name: "ca-gone", about: "the first of two CAs does not exist any more",
            diagnosis: "H-CRT-102", authority: Authority::Gone, ..SOUND },
        World { name: "wrong-clock", about: "the machine's clock is 400 days ahead",
            diagnosis: "H-SYS-101", clock_days: 400, ..SOUND },
        World { name: "no-hairpin", about: "machines at home cannot use the public address",
            diagnosis: "H-NET-107", has_hairpin: false, ..SOUND },
        World { name: "port-taken", about: "another program listens on port 80",
            diagnosis: "H-SYS-102", is_port_taken: true, ..SOUND },
        World { name: "refused", about: "the router refuses mappings of low ports",
            diagnosis: "H-NET-108", mapping: Mapping::Refused, ..SOUND },
        World { name: "foreign-record", about: "the name is somebody else's, and may not be updated",
            diagnosis: "H-DNS-105", zone: Zone::Foreign, ..SOUND },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_diagnoses_are_told_apart() {
        let worlds = of_the_doctor();
        for (at, world) in worlds.iter().enumerate() {
            let others = &worlds[at + 1..];
            assert!(others.iter().all(|other| other.name != world.name), "{}", world.name);
            assert!(
                others.iter().all(|other| other.diagnosis != world.diagnosis),
                "{}",
                world.name
            );
        }
    }
}
