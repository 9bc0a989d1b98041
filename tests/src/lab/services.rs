//! The services of the lab's internet, and the router's: from Debian packages where there are any.

use std::{fs, path::Path};

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::{
    isolate::FOLDER,
    network::{self, FORMER, INTERNET, NAME_SERVERS, NOBODY_V6, PUBLIC},
    world::{Authority, World, Zone},
};

/// The site's domain; its zone may be updated with the key [`TSIG_NAME`].
pub const DOMAIN: &str = "casa.example";
/// The name of the key.
pub const TSIG_NAME: &str = "casa-key";
/// The key, in base 64.
pub const TSIG_SECRET: &str = "bm90IHNlY3JldCBhdCBhbGw6IGEga2V5IG9mIGEgbGFi";

/// An account that the authority of [`MEMBERS_ONLY`](super::world::MEMBERS_ONLY) knows.
pub const EAB_KEY_ID: &str = "casa";
/// Its key, in base 64 for URLs.
pub const EAB_KEY: &str = "bm90IHNlY3JldCBhdCBhbGw6IGEga2V5IG9mIGEgbGFiIGZvciBib3VuZCBhY2NvdW50cw";

/// The root of what the lab's internet shows at its HTTPS ports. The site's certificates have another: Pebble makes
/// a new one whenever it starts.
#[must_use]
pub fn web_root() -> String {
    format!("{FOLDER}/web-root.pem")
}

/// The configuration of Hearth on the machine at home.
#[must_use]
pub fn settings() -> String {
    format!("{FOLDER}/hearth.toml")
}

/// The same, where nothing keeps the name.
#[must_use]
pub fn settings_without_ddns() -> String {
    format!("{FOLDER}/hearth-without-ddns.toml")
}

/// The same for a second server on that machine, with the same store of certificates.
#[must_use]
pub fn settings_of_second() -> String {
    format!("{FOLDER}/hearth-second.toml")
}

fn hearth_settings(world: &World) -> String {
    let authority = match world.authority {
        Authority::Gone => "former-ca",
        Authority::Limited => "limited-ca",
        Authority::Works => "ca",
    };
    let ddns = match world.zone {
        // Nothing keeps the address.
        Zone::StaleA => String::new(),
        _ => format!(
            "[ddns]
provider = \"rfc2136\"
hosts = [\"{DOMAIN}\"]
settings = {{ server = \"{}\", key-name = \"{TSIG_NAME}\", key = \"{TSIG_SECRET}\" }}
",
            NAME_SERVERS[0]
        ),
    };
    let root = web_root();
    let fallback = match world.authority {
        Authority::Gone => format!(
            "[[tls.acme.fallback]]
directory = \"https://ca.example/dir\"
ca_file = \"{root}\"
"
        ),
        Authority::Limited | Authority::Works => String::new(),
    };
    format!(
        "[tls.acme]
directory = \"https://{authority}.example/dir\"
ca_file = \"{root}\"
storage = \"{FOLDER}/certificates\"

{fallback}
[address]
stun = [\"stun1.example:3478\", \"stun2.example:3478\"]
echo = [\"https://echo1.example/\", \"https://echo2.example/\", \"https://echo3.example/\"]
ca_file = \"{root}\"

[outside]
probe = \"http://probe.example:8080\"
time = \"time.example\"

{ddns}"
    )
}

/// Ninety days, as well-known authorities give.
const CERTIFICATE_SECONDS: u32 = 90 * 86_400;

/// Makes the keys and settings of everything.
pub(super) fn write_settings(world: &World) -> anyhow::Result<()> {
    certificates(Path::new(FOLDER))?;
    for (server, folder) in ["ns1", "ns2"].iter().enumerate() {
        let folder = format!("{FOLDER}/{folder}");
        fs::create_dir(&folder)?;
        fs::write(format!("{folder}/named.conf"), named_settings(world, server, &folder))?;
        if server == 0 || world.zone == Zone::Lagging {
            fs::write(format!("{folder}/{DOMAIN}.zone"), site_zone(world, server))?;
        }
    }
    fs::write(format!("{FOLDER}/ns1/example.zone"), example_zone())?;
    fs::write(format!("{FOLDER}/ns1/root.zone"), root_zone())?;
    let pebble = serde_json::json!({ "pebble": {
        "listenAddress": format!("{}:443", network::address_of("ca")),
        "managementListenAddress": format!("{}:15000", network::address_of("ca")),
        "certificate": format!("{FOLDER}/web.pem"),
        "privateKey": format!("{FOLDER}/web-key.pem"),
        "certificateValidityPeriod": CERTIFICATE_SECONDS,
        "httpPort": 80,
        "tlsPort": 443,
        "externalAccountBindingRequired": world.needs_binding,
        "externalAccountMACKeys": { EAB_KEY_ID: EAB_KEY },
    }});
    fs::write(format!("{FOLDER}/pebble.json"), pebble.to_string())?;
    let hearth = hearth_settings(world);
    let plain = hearth_settings(&World { zone: Zone::StaleA, ..world.clone() });
    let listeners = "listeners = [{ address = \":8080\" }, { address = \":8443\", tls = true }]";
    let second = format!("{listeners}\n{hearth}\n[port_map]\nenabled = false\n");
    fs::write(settings(), hearth)?;
    fs::write(settings_without_ddns(), plain)?;
    fs::write(settings_of_second(), second)?;
    if let Some(settings) = network::upnp_settings(world) {
        fs::write(format!("{FOLDER}/miniupnpd.conf"), settings)?;
    }
    Ok(())
}

/// A root, and a certificate of it for every HTTPS server of the internet but the site.
fn certificates(folder: &Path) -> anyhow::Result<()> {
    let root_key = KeyPair::generate()?;
    let mut root = CertificateParams::new(Vec::new())?;
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.distinguished_name.push(DnType::CommonName, "Hearth lab web root");
    // A machine whose clock is wrong shall see its own mistake, not an expired laboratory.
    root.not_before = rcgen::date_time_ymd(2020, 1, 1);
    root.not_after = rcgen::date_time_ymd(2060, 1, 1);
    let certificate = root.self_signed(&root_key)?;
    fs::write(folder.join("web-root.pem"), certificate.pem())?;
    let issuer = Issuer::new(root, root_key);
    let names: Vec<_> = INTERNET.iter().map(|(name, _)| format!("{name}.example")).collect();
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(names)?;
    leaf.not_before = rcgen::date_time_ymd(2020, 1, 1);
    leaf.not_after = rcgen::date_time_ymd(2060, 1, 1);
    let leaf = leaf.signed_by(&key, &issuer)?;
    fs::write(folder.join("web.pem"), leaf.pem())?;
    fs::write(folder.join("web-key.pem"), key.serialize_pem()).context("the key of the web")
}

fn named_settings(world: &World, server: usize, folder: &str) -> String {
    let address = NAME_SERVERS[server];
    // In a foreign zone the key is good for another name only.
    let grant = match world.zone {
        Zone::Foreign => format!("subdomain mine.{DOMAIN}. ANY"),
        _ => "zonesub ANY".to_owned(),
    };
    let others = NAME_SERVERS[1];
    let site = match (server, world.zone) {
        (0, _) => format!(
            "type primary; file \"{DOMAIN}.zone\"; update-policy {{ grant {TSIG_NAME} {grant}; }};
  notify explicit; also-notify {{ {others}; }}; allow-transfer {{ any; }};"
        ),
        (_, Zone::Lagging) => format!("type primary; file \"{DOMAIN}.zone\"; notify no;"),
        _ => {
            format!("type secondary; primaries {{ {}; }}; file \"{DOMAIN}.copy\";", NAME_SERVERS[0])
        }
    };
    let everything_else = if server == 0 {
        "zone \".\" { type primary; file \"root.zone\"; };
zone \"example\" { type primary; file \"example.zone\"; };\n"
    } else {
        "zone \".\" { type hint; file \"/dev/null\"; };\n"
    };
    let is_resolver = if server == 0 { "yes" } else { "no" };
    format!(
        "key \"{TSIG_NAME}\" {{ algorithm hmac-sha256; secret \"{TSIG_SECRET}\"; }};
options {{
  directory \"{folder}\"; pid-file \"{folder}/named.pid\"; session-keyfile \"{folder}/session.key\";
  listen-on {{ {address}; }}; listen-on-v6 {{ none; }}; query-source address {address};
  notify-source {address}; transfer-source {address};
  recursion {is_resolver}; allow-query {{ any; }}; allow-recursion {{ any; }}; empty-zones-enable no;
  dnssec-validation no; notify-delay 0; minimal-responses no; notify no;
}};
controls {{ }};
statistics-channels {{ }};
zone \"{DOMAIN}\" {{
  {site}
}};
{everything_else}"
    )
}

/// The zone of the site, as `server` has it at the start.
fn site_zone(world: &World, server: usize) -> String {
    // In a sound world the address is right from the start, and has to be kept so.
    let address = match (world.zone, server) {
        (Zone::StaleA, _) | (Zone::Lagging, 1) => FORMER,
        (Zone::Foreign, _) => network::address_of("stranger"),
        _ => PUBLIC,
    };
    let serial = 100 - server;
    let mut zone = format!(
        "$TTL 60
@ SOA ns1.example. hostmaster.{DOMAIN}. {serial} 3600 600 604800 5
@ NS ns1.example.
@ NS ns2.example.
@ A {address}
"
    );
    match world.zone {
        Zone::CaaForbids => zone.push_str("@ CAA 0 issue \"another-ca.example\"\n"),
        Zone::DeadAaaa => zone.push_str(&format!("@ AAAA {NOBODY_V6}\n")),
        _ => {}
    }
    zone
}

/// Everything else in the internet, and the delegation of the site's zone.
fn example_zone() -> String {
    let mut zone = "$TTL 60
@ SOA ns1.example. hostmaster.example. 1 3600 600 604800 5
@ NS ns1.example.
casa NS ns1.example.
casa NS ns2.example.
"
    .to_owned();
    for (name, address) in INTERNET {
        zone.push_str(&format!("{name} A {address}\n"));
    }
    zone
}

fn root_zone() -> String {
    format!(
        "$TTL 60
. SOA ns1.example. hostmaster.example. 1 3600 600 604800 5
. NS ns1.example.
example. NS ns1.example.
ns1.example. A {}
",
        NAME_SERVERS[0]
    )
}
