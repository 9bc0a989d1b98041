//! Commands that do one thing, and what scripts learn from how they end: done, try later, refused.

use std::process::Output;

use anyhow::ensure;
use serde_json::Value;

use super::{
    DOMAIN, FOLDER, FORMER, Lab, NAME_SERVERS, PUBLIC, scenario, settings, settings_without_ddns,
};

const DONE: i32 = 0;
const USAGE: i32 = 2;
const CONFIG: i32 = 3;
const TRY_LATER: i32 = 7;
const REFUSED: i32 = 8;

/// Runs a command, and insists on how it ends. What it says as JSON, where it says something.
fn ends(lab: &Lab, wanted: i32, args: &[&str]) -> anyhow::Result<Value> {
    let Output { status, stdout, stderr } = lab.hearth(&[args, &["--json"]].concat())?.output()?;
    let (said, complaint) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    ensure!(status.code() == Some(wanted), "{args:?}: {status}, not {wanted}: {said}{complaint}");
    let answer: Value = serde_json::from_str(&said).unwrap_or_default();
    let word = match wanted {
        DONE => "done",
        TRY_LATER => "try-later",
        REFUSED => "refused",
        // A command that was not understood does not know that JSON is wanted.
        _ => return Ok(answer),
    };
    ensure!(answer["result"] == word, "{args:?}: {answer:#}");
    Ok(answer)
}

/// `hearth port-map` to the end of each way.
pub(super) fn port_map(lab: &mut Lab) -> anyhow::Result<()> {
    let address = ends(lab, DONE, &["port-map", "external-ip"])?;
    ensure!(address["address"] == PUBLIC, "{address}");
    for method in ["pcp", "nat-pmp", "upnp"] {
        ends(lab, DONE, &["port-map", "--method", method, "add", "80"])?;
        let rules = scenario::said(lab.host("router", "nft", &["list", "ruleset"]))?;
        ensure!(rules.contains("dnat ip to 192.168.77.10:80"), "{method}: {rules}");
        // Another process may take away what one has made, and it does not matter whether it is there.
        for _ in 0..2 {
            ends(lab, DONE, &["port-map", "--method", method, "delete", "80"])?;
        }
        let rules = scenario::said(lab.host("router", "nft", &["list", "ruleset"]))?;
        ensure!(!rules.contains("dnat ip to 192.168.77.10:80"), "{method} left: {rules}");
    }
    ends(lab, DONE, &["port-map", "add", "8443", "--to", "443"])?;
    let list = ends(lab, DONE, &["port-map", "list"])?;
    ensure!(list["mappings"][0]["external_port"] == 8443, "{list}");
    // The router wants mappings for other machines from those, and has no list by PCP.
    ends(lab, REFUSED, &["port-map", "add", "81", "--to-address", "192.168.77.20"])?;
    ends(lab, REFUSED, &["port-map", "--method", "pcp", "list"])?;
    for wrong in [&["port-map"][..], &["port-map", "add", "0"], &["port-map", "add", "x"]] {
        ends(lab, USAGE, wrong)?;
    }
    // A router with its service switched off says no for ever; without a way to it there may be one later.
    lab.kill("miniupnpd")?;
    for command in [&["external-ip"][..], &["add", "80"], &["list"], &["delete", "8443"]] {
        ends(lab, REFUSED, &[&["port-map"], command].concat())?;
    }
    scenario::said(lab.host("home", "ip", &["route", "del", "default"]))?;
    for command in [&["external-ip"][..], &["add", "80"], &["list"], &["delete", "8443"]] {
        ends(lab, TRY_LATER, &[&["port-map"], command].concat())?;
    }
    Ok(())
}

/// `hearth ddns update` to the end of each way.
pub(super) fn ddns(lab: &mut Lab) -> anyhow::Result<()> {
    scenario::update(lab, &format!("delete {DOMAIN} A"))?;
    scenario::update(lab, &format!("add {DOMAIN} 60 A {FORMER}"))?;
    let settings = settings();
    let update = ["ddns", "update", "--config", &settings];
    let with = |more: &[&'static str]| [&update[..], more].concat();
    ends(lab, DONE, &update)?;
    let shown = ask(lab, "A")?;
    ensure!(shown.trim() == PUBLIC, "the name leads to {shown}");
    // Again it sends nothing; not even to those who are asked by another process.
    let serial = ask(lab, "SOA")?;
    ends(lab, DONE, &update)?;
    ensure!(ask(lab, "SOA")? == serial, "the same address was sent again");
    ends(lab, DONE, &with(&["--address", PUBLIC, "--force"]))?;
    // Nobody tells the address.
    let nobody = [
        "--set",
        "address.stun=[\"stranger.example:9\"]",
        "--set",
        "address.echo=[\"https://stranger.example/\"]",
    ];
    ends(lab, TRY_LATER, &with(&nobody))?;
    // Each with its own state: a refusal is kept there until somebody changes something.
    for (wanted, change) in [
        (TRY_LATER, "ddns.settings.server=11.9.0.66"),
        (REFUSED, "ddns.settings.key=YW5vdGhlciBrZXkgYWx0b2dldGhlciBhbmQgd3Jvbmc="),
    ] {
        let _ = std::fs::remove_dir_all(format!("{FOLDER}/state"));
        let answer = ends(lab, wanted, &with(&["--set", change, "--address", FORMER]))?;
        let text = answer.to_string();
        ensure!(text.contains("H-DNS-"), "no code: {text}");
    }
    ends(lab, REFUSED, &["ddns", "update", "--config", &settings_without_ddns()])?;
    ends(lab, CONFIG, &with(&["--set", "ddns.provider=nobody"]))?;
    ends(lab, USAGE, &with(&["--address", "nowhere"]))?;
    Ok(())
}

fn ask(lab: &Lab, kind: &str) -> anyhow::Result<String> {
    let at = format!("@{}", NAME_SERVERS[0]);
    scenario::said(lab.host("home", "dig", &["+short", &at, DOMAIN, kind]))
}
