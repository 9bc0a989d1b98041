//! From facts to diagnoses: a table of rules, causes before their consequences. No rule looks at the world.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use hearth_config::Code;
use serde::Serialize;

use super::{
    authority::{self, Trouble},
    codes,
    facts::{Bind, Dns, Facts, HTTP, HTTPS, MappingFact, NameServer, Seen, Update},
};

/// Seconds by which a clock may be off: what TSIG allows (RFC 8945 §10), and certificates forgive.
const CLOCK_SECONDS_MAX: u64 = 300;
/// Bytes a certificate folder needs to live.
const DISK_BYTES_MIN: u64 = 1 << 20;

/// Something that is wrong, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The stable code.
    pub code: &'static str,
    /// Whether the site cannot be reached, or only not by everybody.
    pub severity: Severity,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// What was seen that says so.
    pub cause: String,
    /// What to do.
    pub fix: String,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The site cannot be reached, or cannot stay so.
    Error,
    /// It can be reached, but not by everybody or not in every way.
    Warning,
    /// It could not be found out.
    Unknown,
}

/// Cause and fix.
pub(super) type Finding = Option<(String, String)>;

/// A rule: what it says, how bad that is, and when.
struct Rule {
    code: Code,
    severity: Severity,
    finds: fn(&Facts) -> Finding,
}

/// Everything that is wrong, what has to be mended first at the front. Empty: everything was seen to work.
#[must_use]
pub fn diagnose(facts: &Facts) -> Vec<Diagnosis> {
    let found = RULES.iter().filter_map(|rule| {
        let (cause, fix) = (rule.finds)(facts)?;
        let Rule { code, severity, .. } = rule;
        Some(Diagnosis { code: code.id(), severity: *severity, title: code.title(), cause, fix })
    });
    let mut found: Vec<_> = found.collect();
    // What could not be seen says nothing where something was seen to be wrong.
    if found.iter().any(|diagnosis| diagnosis.severity == Severity::Error) {
        found.retain(|diagnosis| diagnosis.severity != Severity::Unknown);
    }
    found.sort_by_key(|diagnosis| diagnosis.severity == Severity::Unknown);
    found
}

const fn error(code: Code, finds: fn(&Facts) -> Finding) -> Rule {
    Rule { code, severity: Severity::Error, finds }
}

const fn warning(code: Code, finds: fn(&Facts) -> Finding) -> Rule {
    Rule { code, severity: Severity::Warning, finds }
}

const fn unknown(code: Code, finds: fn(&Facts) -> Finding) -> Rule {
    Rule { code, severity: Severity::Unknown, finds }
}

/// The order is the argument: the machine before its router, the router before the name, the name before the
/// certificate, and each cause before what follows from it.
const RULES: &[Rule] = &[
    error(codes::CLOCK, clock),
    error(codes::DISK, disk),
    error(codes::PORT_TAKEN, port_taken),
    error(codes::PORT_REFUSED, port_refused),
    error(codes::NO_GATEWAY, no_gateway),
    error(codes::CARRIER_NAT, carrier_nat),
    error(codes::DOUBLE_NAT, double_nat),
    error(codes::NO_MAPPING, no_mapping),
    error(codes::ONLY_443, only_443),
    error(codes::MAPPING_REFUSED, mapping_refused),
    error(codes::PORT_ELSEWHERE, port_elsewhere),
    error(codes::MAPPING_NOT_KEPT, mapping_not_kept),
    error(codes::NO_NAME_SERVER, no_name_server),
    error(codes::NOT_OURS, not_ours),
    error(codes::LAGGING, lagging),
    error(codes::NO_RECORD, no_record),
    error(codes::STALE, stale),
    error(codes::DEAD_IPV6, dead_ipv6),
    error(codes::PORT_80_BLOCKED, port_80_blocked),
    error(codes::ANOTHER_SERVER, another_server),
    error(codes::BLOCKED, blocked),
    error(codes::CAA, |facts| authority::nobody(facts, Trouble::Caa)),
    error(codes::CA_ACCOUNT, |facts| authority::nobody(facts, Trouble::Account)),
    error(codes::CA_LIMIT, |facts| authority::nobody(facts, Trouble::Limit)),
    error(codes::CA_UNREACHABLE, |facts| authority::nobody(facts, Trouble::Unreachable)),
    error(codes::CERTIFICATE, certificate),
    warning(codes::CAA, |facts| authority::not_all(facts, Trouble::Caa)),
    warning(codes::CA_ACCOUNT, |facts| authority::not_all(facts, Trouble::Account)),
    warning(codes::CA_LIMIT, |facts| authority::not_all(facts, Trouble::Limit)),
    warning(codes::CA_UNREACHABLE, |facts| authority::not_all(facts, Trouble::Unreachable)),
    warning(codes::NO_HAIRPIN, no_hairpin),
    unknown(codes::NO_ADDRESS, no_address),
    unknown(codes::NOT_SEEN, not_seen),
];

pub(super) fn say(cause: impl Into<String>, fix: impl Into<String>) -> Finding {
    Some((cause.into(), fix.into()))
}

fn clock(facts: &Facts) -> Finding {
    let ahead = facts.clock_ahead_seconds.or_else(|| authority::clock(facts))?;
    if ahead.unsigned_abs() <= CLOCK_SECONDS_MAX {
        return None;
    }
    let direction = if ahead > 0 { "ahead" } else { "behind" };
    say(
        format!("the clock of this machine is {} {direction}", span(ahead.unsigned_abs())),
        "switch on time synchronisation (`timedatectl set-ntp true`), or set the clock: certificates and signed DNS \
         updates are refused by a wrong one",
    )
}

fn disk(facts: &Facts) -> Finding {
    let free = facts.disk_free_bytes.filter(|free| *free < DISK_BYTES_MIN)?;
    say(
        format!("{free} bytes are free where certificates are kept"),
        "free some space there, or name another folder in `tls.acme.storage`",
    )
}

fn port_taken(facts: &Facts) -> Finding {
    facts.ports.iter().find_map(|(port, state)| match &state.bind {
        Bind::Taken(owner) => say(
            format!("{owner} listens on port {port}"),
            format!("stop it, or let it listen elsewhere; `hearth serve` can stand in front of it on port {port}"),
        ),
        _ => None,
    })
}

fn port_refused(facts: &Facts) -> Finding {
    facts.ports.iter().find_map(|(port, state)| match &state.bind {
        Bind::Refused(why) => say(
            format!("this machine does not let Hearth listen on port {port}: {why}"),
            format!(
                "run it as root, or give it the right: `setcap cap_net_bind_service=+ep $(command -v hearth)`, or \
                 `sysctl net.ipv4.ip_unprivileged_port_start={port}`"
            ),
        ),
        _ => None,
    })
}

fn no_gateway(facts: &Facts) -> Finding {
    if facts.gateway.is_some() || facts.is_public || facts.local_address.is_some() {
        return None;
    }
    say(
        "this machine has no default gateway",
        "connect it to the network; `ip route` must show a line that begins with `default`",
    )
}

fn is_shared(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64)
}

fn is_private(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.is_private() || v4.is_link_local())
}

fn carrier_nat(facts: &Facts) -> Finding {
    if let Some(hop) = hidden_hop(facts).filter(|hop| is_shared(*hop)) {
        return say(
            format!(
                "behind the router comes {hop}: the provider shares one address among many customers"
            ),
            CARRIER_FIX,
        );
    }
    // A router that says 0.0.0.0 has no address to tell: it is silent, not behind a shared one.
    let external = facts.router_external.filter(|external| !external.is_unspecified())?;
    let differs = facts.public_v4.is_some_and(|public| IpAddr::V4(public) != external);
    if !(is_shared(external) || differs && !is_private(external)) {
        return None;
    }
    say(
        format!(
            "the router's own address, {external}, is not reachable: the provider shares one among many customers"
        ),
        CARRIER_FIX,
    )
}

/// The machine behind the router, where it says more than the router itself.
fn hidden_hop(facts: &Facts) -> Option<IpAddr> {
    let is_silent = facts.router_external.is_none_or(|external| external.is_unspecified());
    facts.second_hop.filter(|_| is_silent)
}

fn double_nat(facts: &Facts) -> Finding {
    if let Some(hop) = hidden_hop(facts).filter(|hop| is_private(*hop)) {
        return say(
            format!("behind the router comes another one, {hop}"),
            "switch that one (the provider's box) to bridge mode, or let it forward ports 80 and 443 to the inner router",
        );
    }
    let external = facts.router_external.filter(|external| is_private(*external))?;
    say(
        format!(
            "the router's own address, {external}, is private: it stands behind another router"
        ),
        format!(
            "switch the outer router (the provider's box) to bridge mode, or let it forward ports 80 and 443 to {external}"
        ),
    )
}

fn no_mapping(facts: &Facts) -> Finding {
    if facts.router_answers != Some(false) || facts.is_public || is_open(facts) {
        return None;
    }
    let gateway =
        facts.gateway.map_or_else(|| "the router".to_owned(), |gateway| gateway.to_string());
    let to = facts.local_address.map(|address| format!(" to {address}")).unwrap_or_default();
    say(
        format!("{gateway} answers neither UPnP nor NAT-PMP nor PCP"),
        format!(
            "switch on UPnP in the router's settings, or forward TCP ports 80 and 443{to} there by hand"
        ),
    )
}

/// Whether both ports were seen to work, whatever the router says about it.
fn is_open(facts: &Facts) -> bool {
    [HTTP, HTTPS].iter().all(|port| facts.port(*port).outside == Seen::Here)
}

fn only_443(facts: &Facts) -> Finding {
    let [http, https] = [HTTP, HTTPS].map(|port| facts.port(port));
    let MappingFact::Refused(words) = &http.mapping else { return None };
    if https.mapping != MappingFact::Made {
        return None;
    }
    say(
        format!("the router maps port 443 but refuses port 80 ({words})"),
        "set `tls.acme.challenge = \"tls-alpn-01\"`, which needs port 443 only; or let the router's own pages leave \
         port 80. Visitors who type no `https://` will not be led to it",
    )
}

fn mapping_refused(facts: &Facts) -> Finding {
    facts.ports.iter().find_map(|(port, state)| match &state.mapping {
        MappingFact::Refused(words) => say(
            format!("the router refuses to map port {port}: {words}"),
            "allow low ports for this machine in the router's UPnP settings (\"secure mode\", permissions), or \
             forward ports 80 and 443 there by hand",
        ),
        _ => None,
    })
}

fn port_elsewhere(facts: &Facts) -> Finding {
    facts.ports.iter().find_map(|(port, state)| match &state.mapping {
        MappingFact::Elsewhere(words) if state.outside != Seen::Here => say(
            format!("the router's port {port} leads elsewhere: {words}"),
            "remove that rule in the router's settings, or on the other machine",
        ),
        _ => None,
    })
}

fn mapping_not_kept(facts: &Facts) -> Finding {
    facts.ports.iter().find_map(|(port, state)| {
        if state.mapping != MappingFact::NotKept {
            return None;
        }
        say(
            format!("the router said yes to a mapping of port {port}, but does not have it"),
            "restart the router; if it goes on, update its firmware or forward ports 80 and 443 there by hand",
        )
    })
}

fn no_name_server(facts: &Facts) -> Finding {
    let dns = facts.dns.as_ref()?;
    let is_silent = dns.servers.iter().all(|server| server.addresses.is_none());
    if !is_silent {
        return None;
    }
    let why = dns.error.clone().unwrap_or_else(|| "no answer".to_owned());
    say(
        format!("the name servers of {} cannot be asked: {why}", facts.domain),
        "check that the domain is registered and its name servers are right; check this machine's /etc/resolv.conf",
    )
}

/// The records that the servers which answer agree on, or do not.
fn answers<'a>(dns: &'a Dns) -> Vec<(&'a NameServer, BTreeSet<IpAddr>)> {
    let answer = |server: &'a NameServer| {
        let addresses = server.addresses.as_ref()?;
        Some((server, addresses.iter().copied().collect()))
    };
    dns.servers.iter().filter_map(answer).collect()
}

/// The IPv4 addresses of the record, where they are not ours.
fn wrong_v4(facts: &Facts) -> Option<Vec<Ipv4Addr>> {
    let dns = facts.dns.as_ref()?;
    let public = facts.public_v4?;
    let all = answers(dns);
    let v4 = |ip: &IpAddr| if let IpAddr::V4(v4) = ip { Some(*v4) } else { None };
    let found: BTreeSet<_> = all.iter().flat_map(|(_, set)| set.iter().filter_map(v4)).collect();
    (!found.is_empty() && found.iter().any(|ip| *ip != public)).then(|| found.into_iter().collect())
}

fn not_ours(facts: &Facts) -> Finding {
    let Some(Update::Refused(why)) = &facts.dns.as_ref()?.update else { return None };
    let addresses = wrong_v4(facts).map(|wrong| format!(" leads to {}", list(&wrong)));
    say(
        format!(
            "{}{}, and the provider refuses to change it: {why}",
            facts.domain,
            addresses.unwrap_or_default()
        ),
        "use a name of your own, or the credentials of the account that owns this one (section `ddns`)",
    )
}

fn lagging(facts: &Facts) -> Finding {
    let all = answers(facts.dns.as_ref()?);
    let (first, rest) = all.split_first()?;
    let newest = all.iter().filter_map(|(server, _)| server.serial).max();
    let behind = all.iter().find(|(server, _)| server.serial < newest);
    let (other, addresses) = rest.iter().find(|(_, set)| *set != first.1)?;
    let (server, addresses) = behind.map_or((other, addresses), |(server, set)| (server, set));
    let given: Vec<_> = addresses.iter().collect();
    let given = if given.is_empty() { "nothing".to_owned() } else { list(&given) };
    say(
        format!("{} still says {given} of {}", server.name, facts.domain),
        "wait as long as the zone's refresh time; if it stays so, the name service's operator must mend the transfer \
         between its servers",
    )
}

fn no_record(facts: &Facts) -> Finding {
    let all = answers(facts.dns.as_ref()?);
    let has_some = all.iter().any(|(_, set)| !set.is_empty());
    if has_some || all.is_empty() {
        return None;
    }
    let address =
        facts.public_v4.map_or_else(|| "the public address".to_owned(), |v4| v4.to_string());
    say(
        format!("{} has neither an A nor an AAAA record", facts.domain),
        format!("add an A record with {address} at the domain's provider, or configure `ddns`"),
    )
}

fn stale(facts: &Facts) -> Finding {
    let wrong = wrong_v4(facts)?;
    let dns = facts.dns.as_ref()?;
    let public = facts.public_v4?;
    let fix = match &dns.update {
        Some(Update::Done) => {
            "nothing: it was just updated; caches may take some minutes".to_owned()
        }
        Some(Update::Later(why)) => format!("wait: the update is tried again ({why})"),
        _ => format!(
            "set the A record to {public} at the domain's provider, or let Hearth do it: section `ddns`"
        ),
    };
    say(
        format!("{} leads to {}, but the public address is {public}", facts.domain, list(&wrong)),
        fix,
    )
}

fn dead_ipv6(facts: &Facts) -> Finding {
    let dns = facts.dns.as_ref()?;
    let all = answers(dns);
    let v6 = all.iter().flat_map(|(_, set)| set).find(|ip| ip.is_ipv6())?;
    if dns.is_v6_ours && !matches!(dns.v6_seen, Seen::Failed(_)) || dns.v6_seen == Seen::Here {
        return None;
    }
    let why = match (&dns.v6_seen, dns.is_v6_ours) {
        (Seen::Failed(why), _) => format!("nobody answers there: {why}"),
        (Seen::Another, _) => "somebody else answers there".to_owned(),
        (_, false) => "it is not an address of this machine".to_owned(),
        _ => "it was not reached".to_owned(),
    };
    say(
        format!("{} has the IPv6 address {v6}, and {why}", facts.domain),
        "remove the AAAA record, or set it to this machine's stable IPv6 address and open the router's firewall: \
         browsers and certification authorities try IPv6 first",
    )
}

fn port_80_blocked(facts: &Facts) -> Finding {
    let [http, https] = [HTTP, HTTPS].map(|port| facts.port(port));
    let Seen::Failed(why) = &http.outside else { return None };
    if https.outside != Seen::Here {
        return None;
    }
    say(
        format!("from outside port 443 is reached but port 80 is not: {why}"),
        "set `tls.acme.challenge = \"tls-alpn-01\"` (port 443) or `\"dns-01\"`; ask the provider to open port 80 if \
         visitors shall be led from http to https",
    )
}

fn another_server(facts: &Facts) -> Finding {
    let (port, _) = facts.ports.iter().find(|(_, state)| state.outside == Seen::Another)?;
    say(
        format!("from outside, somebody else answers at port {port}"),
        "look for a rule in the router that leads the port to another machine, or the router's own remote access",
    )
}

fn blocked(facts: &Facts) -> Finding {
    facts.ports.iter().find_map(|(port, state)| match &state.outside {
        Seen::Failed(why) => say(
            format!("port {port} is not reached from outside: {why}"),
            "look for a firewall on this machine and in the router; some providers block incoming connections to \
             households",
        ),
        _ => None,
    })
}

fn certificate(facts: &Facts) -> Finding {
    if let Some((why, fix)) = &facts.certificate.failed {
        return say(format!("the last order failed: {why}"), fix.clone());
    }
    match facts.certificate.seconds_left {
        Some(left) if left <= 0 => say(
            "the certificate has ended",
            "run `hearth up`, or `hearth cert renew`; it says what keeps it from being renewed",
        ),
        _ => None,
    }
}

fn no_hairpin(facts: &Facts) -> Finding {
    let Seen::Failed(why) = &facts.hairpin else { return None };
    say(
        format!(
            "from this network the public address does not work ({why}), though it does from outside"
        ),
        "nothing, if only strangers matter; else switch on NAT loopback (\"hairpin\") in the router, or give the name \
         the local address in the home's own name service",
    )
}

fn no_address(facts: &Facts) -> Finding {
    if facts.public_v4.is_some() || facts.public_v6.is_some() {
        return None;
    }
    say(
        "the sources of the public address do not agree, or do not answer",
        "check the internet connection, and the sources in section `address`",
    )
}

fn not_seen(facts: &Facts) -> Finding {
    let unseen =
        [HTTP, HTTPS].into_iter().find(|port| facts.port(*port).outside == Seen::Unknown)?;
    say(
        format!("nobody has tried port {unseen} from outside"),
        format!(
            "run `hearth probe {}` on a machine elsewhere, or name one in `outside.probe`",
            facts.domain
        ),
    )
}

const CARRIER_FIX: &str = "ask the provider for a public IPv4 address, or use IPv6, or a tunnel from a machine that \
                           has one: see the chapter on carrier-grade NAT";

/// A length of time for people.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

pub(super) fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "diagnose_tests.rs"]
mod tests;
