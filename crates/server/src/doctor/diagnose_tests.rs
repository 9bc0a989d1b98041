//! Each row is a world, given by how it differs from a sound one.

use super::*;
use crate::doctor::facts::{AuthorityFacts, CertificateFacts, Port};

const PUBLIC: Ipv4Addr = Ipv4Addr::new(11, 1, 0, 10);

fn sound() -> Facts {
    let port = || Port { bind: Bind::Ours, mapping: MappingFact::Made, outside: Seen::Here };
    Facts {
        domain: "casa.example".to_owned(),
        clock_ahead_seconds: Some(0),
        disk_free_bytes: Some(1 << 30),
        gateway: Some("192.168.77.1".parse().unwrap()),
        local_address: Some("192.168.77.10".parse().unwrap()),
        router_answers: Some(true),
        router_external: Some(PUBLIC.into()),
        public_v4: Some(PUBLIC),
        ports: [(HTTP, port()), (HTTPS, port())].into(),
        hairpin: Seen::Here,
        dns: Some(Dns {
            servers: vec![server(1, &[PUBLIC.into()]), server(2, &[PUBLIC.into()])],
            ..Dns::default()
        }),
        certificate: CertificateFacts {
            authorities: vec![authority("first"), authority("second")],
            ..CertificateFacts::default()
        },
        ..Facts::default()
    }
}

fn authority(name: &str) -> AuthorityFacts {
    AuthorityFacts {
        name: name.to_owned(),
        directory: format!("https://{name}.example/"),
        clock_ahead_seconds: Some(1),
        ..AuthorityFacts::default()
    }
}

/// The first `count` authorities.
fn authorities(facts: &mut Facts, count: usize, change: fn(&mut AuthorityFacts)) {
    facts.certificate.authorities.iter_mut().take(count).for_each(change);
}

fn server(number: u32, addresses: &[IpAddr]) -> NameServer {
    NameServer {
        name: format!("ns{number}.example"),
        addresses: Some(addresses.to_vec()),
        serial: Some(100),
    }
}

fn servers(facts: &mut Facts, address: &str) {
    let addresses: Vec<IpAddr> = address.split(' ').map(|one| one.parse().unwrap()).collect();
    facts.dns.as_mut().unwrap().servers = vec![server(1, &addresses), server(2, &addresses)];
}

fn both(facts: &mut Facts, change: fn(&mut Port)) {
    facts.ports.values_mut().for_each(change);
}

fn no_answer() -> Seen {
    Seen::Failed("timed out".to_owned())
}

type Change = fn(&mut Facts);

#[rustfmt::skip]
const WORLDS: &[(&str, &str, Change)] = &[
    ("sound", "", |_| {}),
    ("upnp off", "H-NET-101", |facts| {
        facts.router_answers = Some(false);
        facts.router_external = None;
        both(facts, |port| { port.mapping = MappingFact::Unknown; port.outside = no_answer(); });
    }),
    ("upnp off, forwarded by hand", "", |facts| facts.router_answers = Some(false)),
    ("mapping answered, but absent", "H-NET-102", |facts| {
        both(facts, |port| { port.mapping = MappingFact::NotKept; port.outside = no_answer(); });
    }),
    ("cgnat", "H-NET-103", |facts| {
        facts.router_external = Some("100.64.0.10".parse().unwrap());
        both(facts, |port| { port.mapping = MappingFact::Refused("606".into()); port.outside = no_answer(); });
    }),
    ("cgnat with a public address", "H-NET-103", |facts| {
        facts.router_external = Some("11.2.0.1".parse().unwrap());
    }),
    ("cgnat behind a silent router", "H-NET-103", |facts| {
        facts.router_external = None;
        facts.second_hop = Some("100.64.0.1".parse().unwrap());
        both(facts, |port| { port.mapping = MappingFact::Refused("8".into()); port.outside = no_answer(); });
    }),
    ("double nat behind a silent router", "H-NET-104", |facts| {
        facts.router_external = Some("0.0.0.0".parse().unwrap());
        facts.second_hop = Some("192.168.1.1".parse().unwrap());
    }),
    ("a provider that uses private addresses inside", "", |facts| {
        facts.second_hop = Some("10.0.0.1".parse().unwrap());
    }),
    ("double nat", "H-NET-104", |facts| {
        facts.router_external = Some("192.168.1.2".parse().unwrap());
        both(facts, |port| port.outside = no_answer());
    }),
    ("port 80 blocked", "H-NET-105", |facts| facts.ports.get_mut(&80).unwrap().outside = no_answer()),
    ("only 443", "H-NET-106", |facts| {
        let port = facts.ports.get_mut(&80).unwrap();
        port.mapping = MappingFact::Refused("606 action not authorized".into());
        port.outside = no_answer();
    }),
    ("no hairpin", "H-NET-107", |facts| facts.hairpin = no_answer()),
    ("secure mode refuses", "H-NET-108", |facts| {
        both(facts, |port| { port.mapping = MappingFact::Refused("606".into()); port.outside = no_answer(); });
    }),
    ("no gateway", "H-NET-109", |facts| { facts.gateway = None; facts.local_address = None; }),
    ("another machine has the port", "H-NET-110", |facts| {
        let port = facts.ports.get_mut(&443).unwrap();
        port.mapping = MappingFact::Elsewhere("192.168.77.20".into());
        port.outside = Seen::Another;
    }),
    ("everything blocked", "H-NET-111", |facts| both(facts, |port| port.outside = no_answer())),
    ("another server", "H-NET-112", |facts| both(facts, |port| port.outside = Seen::Another)),
    ("nobody looked", "H-NET-113", |facts| both(facts, |port| port.outside = Seen::Unknown)),
    ("no address", "H-NET-114", |facts| facts.public_v4 = None),
    ("stale a", "H-DNS-101", |facts| servers(facts, "11.7.7.7")),
    ("one of two addresses is stale", "H-DNS-101", |facts| servers(facts, "11.7.7.7 11.1.0.10")),
    ("dead aaaa", "H-DNS-102", |facts| {
        servers(facts, "11.1.0.10 2a0b:beef::10");
        facts.dns.as_mut().unwrap().v6_seen = no_answer();
    }),
    ("aaaa of this machine, seen by nobody", "", |facts| {
        servers(facts, "11.1.0.10 2a0b:beef::10");
        facts.dns.as_mut().unwrap().is_v6_ours = true;
    }),
    ("caa forbids", "H-DNS-103", |facts| {
        authorities(facts, 2, |one| one.caa_forbids = Some(vec!["another-ca.example".into()]));
    }),
    ("name server lags", "H-DNS-104", |facts| {
        let mut behind = server(2, &["11.7.7.7".parse().unwrap()]);
        behind.serial = Some(99);
        facts.dns.as_mut().unwrap().servers = vec![server(1, &[PUBLIC.into()]), behind];
    }),
    ("name server does not know yet", "H-DNS-104", |facts| {
        let mut behind = server(2, &[]);
        behind.serial = Some(99);
        facts.dns.as_mut().unwrap().servers = vec![server(1, &[PUBLIC.into()]), behind];
    }),
    ("somebody else's record", "H-DNS-105", |facts| {
        servers(facts, "11.9.0.66");
        facts.dns.as_mut().unwrap().update = Some(Update::Refused("REFUSED".into()));
    }),
    ("no record", "H-DNS-106", |facts| {
        facts.dns.as_mut().unwrap().servers = vec![server(1, &[]), server(2, &[])];
    }),
    ("name servers silent", "H-DNS-107", |facts| facts.dns.as_mut().unwrap().servers.clear()),
    ("ca limit", "H-CRT-101", |facts| {
        authorities(facts, 2, |one| one.limited = Some((3600, "too many certificates".into())));
    }),
    ("ca gone", "H-CRT-102", |facts| authorities(facts, 2, |one| one.error = Some("refused".into()))),
    ("ca gone, and its fallback limits", "H-CRT-102", |facts| {
        authorities(facts, 1, |one| one.error = Some("refused".into()));
        facts.certificate.authorities[1].limited = Some((60, "too many certificates".into()));
    }),
    ("ca gone, its fallback works", "H-CRT-102", |facts| {
        authorities(facts, 1, |one| one.error = Some("refused".into()));
    }),
    ("ca limit, its fallback works", "H-CRT-101", |facts| {
        authorities(facts, 1, |one| one.limited = Some((3600, "too many certificates".into())));
    }),
    ("the fallback is gone", "H-CRT-102", |facts| {
        facts.certificate.authorities[1].error = Some("refused".into());
    }),
    ("caa lets the fallback only", "H-DNS-103", |facts| {
        authorities(facts, 1, |one| one.caa_forbids = Some(Vec::new()));
    }),
    ("ca wants an account", "H-CRT-104", |facts| authorities(facts, 2, |one| one.lacks_binding = true)),
    ("expired", "H-CRT-103", |facts| facts.certificate.seconds_left = Some(-1)),
    ("clock ahead", "H-SYS-101", |facts| {
        facts.clock_ahead_seconds = Some(400 * 86_400);
        // A wrong clock breaks much else.
        authorities(facts, 2, |one| one.error = Some("certificate expired".into()));
        facts.dns.as_mut().unwrap().update = Some(Update::Refused("BADTIME".into()));
    }),
    ("clock ahead, nobody tells the time but authorities", "H-SYS-101", |facts| {
        facts.clock_ahead_seconds = None;
        authorities(facts, 2, |one| one.clock_ahead_seconds = Some(7200));
    }),
    ("one authority's clock is wrong", "", |facts| {
        facts.clock_ahead_seconds = None;
        authorities(facts, 1, |one| one.clock_ahead_seconds = Some(7200));
    }),
    ("clock behind", "H-SYS-101", |facts| facts.clock_ahead_seconds = Some(-301)),
    ("clock within bounds", "", |facts| facts.clock_ahead_seconds = Some(300)),
    ("port taken", "H-SYS-102", |facts| {
        facts.ports.get_mut(&80).unwrap().bind = Bind::Taken("`nginx` (process 1)".into());
        both(facts, |port| { port.mapping = MappingFact::Unknown; port.outside = Seen::Another; });
    }),
    ("port refused", "H-SYS-103", |facts| {
        both(facts, |port| port.bind = Bind::Refused("permission denied".into()));
    }),
    ("disk full", "H-SYS-104", |facts| facts.disk_free_bytes = Some(0)),
];

#[test]
fn the_first_diagnosis_names_the_cause() {
    for (world, want, change) in WORLDS {
        let mut facts = sound();
        change(&mut facts);
        let diagnoses = diagnose(&facts);
        let first = diagnoses.first().map_or("", |first| first.code);
        assert_eq!(first, *want, "{world}: {diagnoses:#?}");
        // A gap is where something was to be named and there was none.
        let has_gap = |text: &str| text.contains("  ") || text.ends_with(' ');
        let gaps = diagnoses.iter().find(|one| has_gap(&one.cause) || has_gap(&one.fix));
        assert_eq!(gaps, None, "{world}");
    }
}

/// Who issues in the place of whom is said, and nothing is called an error that keeps nobody from a certificate.
#[test]
fn a_fallback_is_named() {
    let first = |change: Change| {
        let mut facts = sound();
        change(&mut facts);
        let diagnosis = diagnose(&facts).into_iter().next().unwrap();
        (diagnosis.severity, diagnosis.cause)
    };
    let (severity, cause) = first(|facts| {
        authorities(facts, 1, |one| one.error = Some("refused".into()));
    });
    assert_eq!(severity, Severity::Warning);
    assert_eq!(
        cause,
        "first.example cannot be reached: refused; second.example is asked in its place"
    );
    let (severity, cause) = first(|facts| {
        facts.certificate.authorities[1].limited = Some((60, "too many".into()));
    });
    assert_eq!(severity, Severity::Warning);
    assert_eq!(
        cause,
        "the fallback second.example asks to wait 60 seconds: too many; first.example is asked"
    );
    let (severity, cause) = first(|facts| {
        authorities(facts, 1, |one| one.limited = Some((60, "too many".into())));
        facts.certificate.authorities[1].error = Some("refused".into());
    });
    assert_eq!(severity, Severity::Error);
    let want = "the certification authority asks to wait 60 seconds: too many; the fallback second.example cannot be \
                reached: refused";
    assert_eq!(cause, want);
}

#[test]
fn every_code_is_reached() {
    let reached: BTreeSet<_> = WORLDS.iter().map(|(_, code, _)| *code).collect();
    for code in codes::ALL {
        assert!(reached.contains(code.id()), "no world has {}", code.id());
    }
}

#[test]
fn what_nobody_found_out_is_never_good() {
    let facts = Facts { domain: "casa.example".to_owned(), ..Facts::default() };
    assert!(!diagnose(&facts).is_empty());
    let facts = Facts { gateway: sound().gateway, ..facts };
    assert!(!diagnose(&facts).is_empty());
}
