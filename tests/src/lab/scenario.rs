//! What is played in the lab, and what must come of it.

use std::process::Command;

use anyhow::{Context as _, ensure};

use super::{
    DOMAIN, HOME, Lab, NAME_SERVERS, PUBLIC, TSIG_NAME, TSIG_SECRET, keeping, one_shots, settings,
    site, web_root,
    world::{self, Authority, IPV6, MEMBERS_ONLY, SOUND, World},
};

/// What happens, and what must come of it.
pub type Play = fn(&mut Lab) -> anyhow::Result<()>;

/// A play.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// Where it is played.
    pub world: World,
    /// What happens.
    pub play: Play,
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let mut all: Vec<_> = plays()
        .into_iter()
        .map(|(name, world, about, play)| Scenario {
            name: name.to_owned(),
            about: about.to_owned(),
            world,
            play,
        })
        .collect();
    all.extend(world::of_the_doctor().into_iter().map(|world| Scenario {
        name: format!("doctor-{}", world.name),
        about: format!("`hearth doctor` where {}", world.about),
        world,
        play: doctor,
    }));
    all
}

#[rustfmt::skip]
fn plays() -> [(&'static str, World, &'static str, Play); 15] {
    [
        ("plumbing", SOUND, "the lab itself: a mapping, an update of the zone, the CA", plumbing),
        ("up", SOUND, "`hearth up` to public HTTPS, by the first challenge that works", site::by_http),
        ("up-tls-alpn-01", SOUND, "the same by a handshake on port 443", site::by_tls_alpn),
        ("up-dns-01", SOUND, "the same by a TXT record", site::by_dns),
        ("up-stale", SOUND, "the same where the name led elsewhere before", site::from_a_stale_record),
        ("up-ipv6", IPV6, "the same by IPv6 too, through a hole in the router's firewall", keeping::by_ipv6),
        ("up-bound-account", MEMBERS_ONLY, "the same at a CA that wants an external account", keeping::bound_account),
        ("up-reboot", SOUND, "the router forgets everything and starts again", keeping::router_reboots),
        ("up-twice", SOUND, "two servers with one store of certificates", keeping::two_with_one_store),
        ("renew-ratio", SOUND, "a third of a certificate's life is left", keeping::renews_by_ratio),
        ("renew-ari", SOUND, "the CA suggests to renew earlier", keeping::renews_by_suggestion),
        ("renew-silence", SOUND, "it is time to renew, and the CA never answers", keeping::authority_is_silent),
        ("cert", SOUND, "`hearth cert` issues, renews, lists and revokes by each challenge", site::cert),
        ("port-map", SOUND, "`hearth port-map`: each thing it does, and each way it ends", one_shots::port_map),
        ("ddns", SOUND, "`hearth ddns update`: each way it ends", one_shots::ddns),
    ]
}

/// The doctor finds what is wrong with the world, and calls no broken one good.
fn doctor(lab: &mut Lab) -> anyhow::Result<()> {
    let settings = settings();
    if lab.world.authority == Authority::Limited {
        // It is known only to those who asked.
        for port in ["80", "443"] {
            said(lab.hearth(&["port-map", "add", port])?)?;
        }
        let order = ["cert", "issue", DOMAIN, "--config", &settings, "--challenge", "http-01"];
        let refused = lab.hearth(&order)?.output()?;
        ensure!(refused.status.code() == Some(7), "the limit: {refused:?}");
    }
    let examine = ["doctor", DOMAIN, "--json", "--config", &settings];
    let output = lab.hearth(&examine)?.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let result: serde_json::Value = serde_json::from_str(&text)
        .with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))?;
    let first = result["diagnoses"][0]["code"].as_str().unwrap_or_default();
    let is_good = result["healthy"] == true && output.status.code() == Some(0);
    let wanted = lab.world.diagnosis;
    ensure!(is_good == wanted.is_empty(), "called good: {result:#}");
    ensure!(first == wanted, "not {wanted} but {first}: {result:#}");
    println!("{first} {}", result["diagnoses"][0]["cause"].as_str().unwrap_or("nothing is wrong"));
    let rules = said(lab.host("router", "nft", &["list", "ruleset"]))?;
    ensure!(!rules.contains("dport 443 dnat"), "the doctor left a mapping: {rules}");
    Ok(())
}

/// What the other scenarios stand on, shown with programs of others.
fn plumbing(lab: &mut Lab) -> anyhow::Result<()> {
    let ourselves = std::env::current_exe()?;
    let web = lab.host("home", &ourselves.to_string_lossy(), &["peer", "web", "0.0.0.0:80"]);
    lab.spawn("web", web)?;
    lab.wait("the web server", |lab| Ok(lab.fetch("home", &["http://127.0.0.1/"]).is_ok()))?;
    let public = format!("http://{PUBLIC}/");
    ensure!(lab.fetch("internet", &[&public]).is_err(), "the router lets everybody in");
    let map = ["-m", "eth0", "-a", HOME, "80", "80", "TCP", "3600"];
    let mapped = lab.run("home", "upnpc", &map)?;
    ensure!(mapped.status.success(), "{}", String::from_utf8_lossy(&mapped.stdout));
    for machine in ["internet", "home"] {
        lab.fetch(machine, &[&public]).with_context(|| format!("from {machine}"))?;
    }
    update(lab, &format!("add www.{DOMAIN} 60 A {PUBLIC}"))?;
    for server in NAME_SERVERS {
        let at = format!("@{server}");
        let name = format!("www.{DOMAIN}");
        lab.wait("both name servers", |lab| {
            let answer = lab.run("home", "dig", &["+short", &at, &name])?;
            Ok(answer.stdout == format!("{PUBLIC}\n").as_bytes())
        })?;
    }
    let directory = lab.fetch("home", &["--cacert", &web_root(), "https://ca.example/dir"])?;
    ensure!(directory.contains("newOrder"), "{directory}");
    let echo = lab.fetch("home", &["--cacert", &web_root(), "https://echo2.example/"])?;
    ensure!(echo.trim() == PUBLIC, "the echo says {echo}");
    Ok(())
}

/// Standard output of a command that must succeed.
pub(super) fn said(mut command: Command) -> anyhow::Result<String> {
    let output = command.output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {} {complaint}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Changes the site's zone as its owner may.
pub(crate) fn update(lab: &Lab, change: &str) -> anyhow::Result<()> {
    let key = format!("hmac-sha256:{TSIG_NAME}:{TSIG_SECRET}");
    let script = format!("printf 'server {}\\nupdate {change}\\nsend\\n'", NAME_SERVERS[0]);
    let output = lab.run("home", "sh", &["-c", &format!("{script} | nsupdate -y {key}")])?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nsupdate: {complaint}");
    Ok(())
}
