//! The machines of the lab and the wires between them.

use std::fs;

use super::{
    isolate::{FOLDER, run},
    world::{Mapping, Nat, World, Zone},
};

/// The machine that serves.
pub const HOME: &str = "192.168.77.10";
/// Its router, seen from home.
pub const ROUTER: &str = "192.168.77.1";
/// The public address of the connection.
pub const PUBLIC: &str = "11.1.0.10";
/// The address it had last week.
pub const FORMER: &str = "11.7.7.7";
/// The first name server, which takes updates, and the second, which follows it.
pub const NAME_SERVERS: [&str; 2] = ["11.9.0.53", "11.9.0.54"];
/// The machine at home, where there is IPv6.
pub(super) const HOME_V6: &str = "2a0b:77::10";
/// The same as the router's rules show it.
pub(super) const HOME_V6_DIGITS: &str = "2a0b0077000000000000000000000010";
/// An IPv6 address that nobody has.
pub(super) const NOBODY_V6: &str = "2a0b:beef::10";

/// What the internet consists of: name and address. Documentation addresses would be more honest, but routers
/// refuse to map ports of those.
pub(super) const INTERNET: [(&str, &str); 14] = [
    ("ns1", NAME_SERVERS[0]),
    ("ns2", NAME_SERVERS[1]),
    ("ca", "11.9.0.14"),
    ("limited-ca", "11.9.0.15"),
    ("ari-ca", "11.9.0.16"),
    ("silent-ca", "11.9.0.17"),
    ("stun1", "11.9.0.34"),
    ("stun2", "11.9.0.35"),
    ("time", "11.9.0.23"),
    ("echo1", "11.9.0.81"),
    ("echo2", "11.9.0.82"),
    ("echo3", "11.9.0.83"),
    ("probe", "11.9.0.99"),
    ("stranger", "11.9.0.66"),
];

/// The address of a machine in the internet.
///
/// # Panics
/// When there is none of this name.
#[must_use]
pub fn address_of(name: &str) -> &'static str {
    let found = INTERNET.iter().find(|(known, _)| *known == name);
    found.map(|(_, address)| *address).expect("a machine of the internet")
}

/// Makes the machines and joins them: home - router - (the provider's router) - internet.
pub(super) fn build(world: &World) -> anyhow::Result<()> {
    for machine in ["home", "router", "isp", "internet"] {
        run("ip", &["netns", "add", machine])?;
        run("ip", &["-n", machine, "link", "set", "lo", "up"])?;
    }
    wire(["router", "lan0", &format!("{ROUTER}/24")], ["home", "eth0", &format!("{HOME}/24")])?;
    let uplink = ["internet", "isp0", "11.1.0.1/24"];
    let (router_wan, gateway) = match world.nat {
        Nat::Single => (PUBLIC, "11.1.0.1"),
        Nat::Carrier => ("100.64.0.10", "100.64.0.1"),
        Nat::Double => ("192.168.1.2", "192.168.1.1"),
    };
    let router_wan = format!("{router_wan}/24");
    match world.nat {
        Nat::Single => wire(["router", "wan0", &router_wan], uplink)?,
        Nat::Carrier | Nat::Double => {
            wire(["router", "wan0", &router_wan], ["isp", "lan0", &format!("{gateway}/24")])?;
            wire(["isp", "wan0", &format!("{PUBLIC}/24")], uplink)?;
            default_route("isp", "11.1.0.1")?;
            forward("isp", &nat_rules(world, false))?;
        }
    }
    default_route("home", ROUTER)?;
    default_route("router", gateway)?;
    // Without it, questions to everybody (SSDP) go nowhere.
    run("ip", &["-n", "home", "route", "add", "224.0.0.0/4", "dev", "eth0"])?;
    forward("router", &nat_rules(world, true))?;
    for (_, address) in INTERNET {
        run("ip", &["-n", "internet", "addr", "add", &format!("{address}/32"), "dev", "lo"])?;
    }
    if world.has_ipv6 {
        build_v6()?;
    }
    if world.is_80_blocked {
        filter("internet", "tcp dport 80 ip daddr 11.1.0.10 drop")?;
    }
    if world.zone == Zone::DeadAaaa {
        // The internet has a way towards the address; only nobody is there.
        let near = "2a0b:beef::1/64";
        run("ip", &["-n", "internet", "addr", "add", near, "dev", "isp0", "nodad"])?;
    }
    Ok(())
}

/// IPv6 beside IPv4: nothing is translated, and the router's firewall lets nothing in by itself.
fn build_v6() -> anyhow::Result<()> {
    for (machine, interface, address) in [
        ("home", "eth0", HOME_V6),
        ("router", "lan0", "2a0b:77::1"),
        ("router", "wan0", "2a0b:1::10"),
        ("internet", "isp0", "2a0b:1::1"),
    ] {
        let address = format!("{address}/64");
        run("ip", &["-n", machine, "addr", "add", &address, "dev", interface, "nodad"])?;
    }
    let enable = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
    run("ip", &["netns", "exec", "router", "sh", "-c", enable])?;
    for (machine, to, via) in [
        ("home", "default", "2a0b:77::1"),
        ("router", "default", "2a0b:1::1"),
        ("internet", "2a0b:77::/64", "2a0b:1::10"),
    ] {
        run("ip", &["-n", machine, "-6", "route", "add", to, "via", via])?;
    }
    Ok(())
}

/// Joins two machines: each is a machine, an interface, an address.
fn wire(one: [&str; 3], other: [&str; 3]) -> anyhow::Result<()> {
    let pair = ["link", "add", one[1], "netns", one[0], "type", "veth", "peer", "name", other[1]];
    run("ip", &[&pair[..], &["netns", other[0]]].concat())?;
    for [machine, interface, address] in [one, other] {
        run("ip", &["-n", machine, "addr", "add", address, "dev", interface])?;
        run("ip", &["-n", machine, "link", "set", interface, "up"])?;
    }
    Ok(())
}

fn default_route(machine: &str, gateway: &str) -> anyhow::Result<()> {
    run("ip", &["-n", machine, "route", "add", "default", "via", gateway])
}

/// Makes a router of a machine.
fn forward(machine: &str, rules: &str) -> anyhow::Result<()> {
    let enable = "echo 1 > /proc/sys/net/ipv4/ip_forward";
    run("ip", &["netns", "exec", machine, "sh", "-c", enable])?;
    let file = format!("{FOLDER}/{machine}.nft");
    fs::write(&file, rules)?;
    run("ip", &["netns", "exec", machine, "nft", "-f", &file])
}

fn filter(machine: &str, rule: &str) -> anyhow::Result<()> {
    let file = format!("{FOLDER}/{machine}.nft");
    let chain = "chain output { type filter hook output priority 0;";
    fs::write(&file, format!("table inet lab {{\n{chain}\n{rule};\n}}\n}}\n"))?;
    run("ip", &["netns", "exec", machine, "nft", "-f", &file])
}

/// Rules of a household's router. The chains of miniupnpd are the only way in.
fn nat_rules(world: &World, has_upnp: bool) -> String {
    let hairpin = if has_upnp && world.has_hairpin && world.nat == Nat::Single {
        [
            format!(
                "iifname \"lan0\" ip daddr {PUBLIC} tcp dport {{ 80, 443 }} dnat ip to {HOME};"
            ),
            "iifname \"lan0\" oifname \"lan0\" masquerade;".to_owned(),
        ]
    } else {
        [String::new(), String::new()]
    };
    // What a forgetful router has in its table for a moment must not work meanwhile, and who comes from outside
    // gets no answer, so that there is time to see it gone.
    let (mappings, input) = if world.mapping == Mapping::Forgotten {
        let input =
            "type filter hook input priority 0; iifname \"wan0\" tcp dport { 80, 443 } drop;";
        ("", input)
    } else {
        ("jump prerouting_miniupnpd;", "")
    };
    format!(
        "table inet filter {{
  chain input {{ {input} }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ct state established,related accept;
    iifname \"lan0\" accept;
    jump miniupnpd;
  }}
  chain miniupnpd {{ }}
  chain prerouting_miniupnpd {{ }}
  chain postrouting_miniupnpd {{ }}
  chain prerouting {{
    type nat hook prerouting priority -100;
    {mappings}
    {}
  }}
  chain postrouting {{
    type nat hook postrouting priority 100;
    jump postrouting_miniupnpd;
    oifname \"wan0\" masquerade;
    {}
  }}
}}
",
        hairpin[0], hairpin[1]
    )
}

/// The settings of miniupnpd; `None` where the router maps nothing.
pub(super) fn upnp_settings(world: &World) -> Option<String> {
    let rules = match world.mapping {
        Mapping::Off => return None,
        Mapping::Forgotten | Mapping::Works => "allow 1-65535 192.168.77.0/24 1-65535",
        Mapping::Only443 => {
            "deny 80 192.168.77.0/24 1-65535\nallow 1-65535 192.168.77.0/24 1-65535"
        }
        Mapping::Refused => "allow 1024-65535 192.168.77.0/24 1-65535",
    };
    let v6 = match world.has_ipv6 {
        // It does not close what was opened by PCP, but lets it end soon.
        true => "ext_ifname6=wan0\nipv6_disable=no\nmin_lifetime=2",
        false => "ipv6_disable=yes\nmin_lifetime=120",
    };
    Some(format!(
        "ext_ifname=wan0
{v6}
listening_ip=lan0
http_port=5000
enable_natpmp=yes
enable_upnp=yes
secure_mode=yes
system_uptime=no
notify_interval=60
lease_file={FOLDER}/leases
uuid=5f0a1c1e-0000-4000-8000-000000000001
max_lifetime=86400
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
{rules}
deny 0-65535 0.0.0.0/0 0-65535
"
    ))
}
