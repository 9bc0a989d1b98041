//! Scenarios of a site that is to stay up: renewals, a router that starts again, two servers, a silent authority.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{
    DOMAIN, EAB_KEY, EAB_KEY_ID, FOLDER, HOME, Lab,
    authorities::{ORDERS, SUGGESTION},
    network::HOME_V6_DIGITS,
    scenario::said,
    settings, settings_of_second, settings_without_ddns,
    site::{self, is_public},
    web_root,
};

/// How soon a mapping is back after the router is. It says so itself; without that it would be minutes.
const MAPPED_AGAIN_MAX: Duration = Duration::from_secs(15);
/// How long a command may take where nobody answers.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// What is looked at when a server starts is looked at within that time.
const LOOKED: Duration = Duration::from_secs(2);
const SILENT: &str = "https://silent-ca.example/dir";

/// By both families, through holes in the router's firewall that are closed at the end.
pub(super) fn by_ipv6(lab: &mut Lab) -> anyhow::Result<()> {
    let took = site::start(lab, &settings(), &[])?;
    lab.wait("the site by IPv6", |lab| Ok(is_public(lab, &["-6"])))
        .with_context(|| lab.log("hearth"))?;
    ensure!(is_public(lab, &["-4"]), "it is gone by IPv4");
    site::wait_until_well(lab)?;
    let open = said(lab.host("router", "nft", &["list", "ruleset"]))?;
    ensure!(open.contains(HOME_V6_DIGITS), "no hole: {open}");
    site::stop(lab)?;
    lab.wait("the holes to be closed", |lab| {
        let rules = said(lab.host("router", "nft", &["list", "ruleset"]))?;
        Ok(!rules.contains(HOME_V6_DIGITS))
    })?;
    println!("public HTTPS by both families after {:.1} s", took.as_secs_f64());
    Ok(())
}

/// Without the key the authority refuses, and that is said; with it everything goes its way.
pub(super) fn bound_account(lab: &mut Lab) -> anyhow::Result<()> {
    let root = web_root();
    let storage = format!("{FOLDER}/strangers");
    let order = ["cert", "issue", DOMAIN, "--directory", "https://ca.example/dir"];
    let rest = ["--ca-file", &root, "--storage", &storage, "--json"];
    let refused = lab.hearth(&[&order[..], &rest].concat())?.output()?;
    let answer: Value = serde_json::from_slice(&refused.stdout)?;
    ensure!(refused.status.code() == Some(8), "a stranger: {answer:#}");
    let (id, key) =
        (format!("tls.acme.eab_key_id={EAB_KEY_ID}"), format!("tls.acme.eab_hmac_key={EAB_KEY}"));
    let took = site::start(lab, &settings(), &["--set", &id, "--set", &key])?;
    site::wait_until_well(lab)?;
    site::stop(lab)?;
    println!("without it: {}; with it {:.1} s", answer["error"], took.as_secs_f64());
    Ok(())
}

/// A power cut of the router: its mappings are gone, and come back without a human.
pub(super) fn router_reboots(lab: &mut Lab) -> anyhow::Result<()> {
    site::start(lab, &settings(), &[])?;
    site::wait_until_well(lab)?;
    lab.kill("miniupnpd")?;
    for chain in ["miniupnpd", "prerouting_miniupnpd", "postrouting_miniupnpd"] {
        said(lab.host("router", "nft", &["flush", "chain", "inet", "filter", chain]))?;
    }
    // What a real one would keep on no disk.
    let _ = fs::remove_file(format!("{FOLDER}/leases"));
    ensure!(!is_public(lab, &[]), "the router did not forget");
    let start = Instant::now();
    lab.start_router()?;
    lab.wait("the mapping", |lab| Ok(is_public(lab, &[]))).with_context(|| lab.log("hearth"))?;
    let back = start.elapsed();
    ensure!(back < MAPPED_AGAIN_MAX, "it took {back:?}:\n{}", lab.log("hearth"));
    site::wait_until_well(lab)?;
    let log = lab.log("hearth");
    // Its notice and our own look at the mapping race each other.
    let reasons = ["the router was restarted", "the router has lost a mapping"];
    ensure!(reasons.iter().any(|why| log.contains(why)), "nobody noticed why:\n{log}");
    site::stop(lab)?;
    println!("public again {:.1} s after the router", back.as_secs_f64());
    Ok(())
}

/// Both start at once, each with its own ports; one certificate is had, and both show it.
pub(super) fn two_with_one_store(lab: &mut Lab) -> anyhow::Result<()> {
    let by_dns = ["--set", "tls.acme.challenge=dns-01"];
    let second_settings = settings_of_second();
    let site = format!("{FOLDER}/site");
    fs::create_dir_all(&site)?;
    let args = [&["up", DOMAIN, &site, "--config", &second_settings][..], &by_dns].concat();
    let mut second = lab.hearth(&args)?;
    second.env("STATE_DIRECTORY", format!("{FOLDER}/second-state"));
    lab.spawn("second", second)?;
    site::start(lab, &settings(), &by_dns)?;
    let root = lab.site_root();
    let to = format!("{DOMAIN}:443:{HOME}:8443");
    let url = format!("https://{DOMAIN}/");
    let shows =
        move |lab: &Lab| lab.fetch("home", &["--cacert", &root, "--connect-to", &to, &url]).is_ok();
    lab.wait("the second server", |lab| Ok(shows(lab))).with_context(|| lab.log("second"))?;
    ensure!(lab.issued() == 1, "{} certificates for one name", lab.issued());
    // A third one with the state of the first is told so, and does no harm.
    let third = lab.hearth(&["up", DOMAIN, &site, "--config", &second_settings])?.output()?;
    let complaint = String::from_utf8_lossy(&third.stderr);
    ensure!(third.status.code().is_some_and(|code| code == 4 || code == 8), "{complaint}");
    lab.kill("hearth")?;
    ensure!(shows(lab), "the death of one took the other with it");
    let ended = lab.stop("second")?;
    ensure!(ended.success(), "{ended}: {}", lab.log("second"));
    println!("one certificate for both");
    Ok(())
}

/// Starts at a later day of the machine's clock, and stops again. How many certificates there were until then.
fn on_day(lab: &mut Lab, day: u32, more: &[&str], wanted: usize) -> anyhow::Result<()> {
    lab.world.clock_days = day;
    site::start(lab, &settings_without_ddns(), more)?;
    if lab.issued() < wanted {
        let due = lab.wait("a renewal", |lab| Ok(lab.issued() >= wanted));
        due.with_context(|| format!("day {day}: {}", lab.log("hearth")))?;
    } else {
        std::thread::sleep(LOOKED);
    }
    ensure!(lab.issued() == wanted, "day {day}: {} certificates, not {wanted}", lab.issued());
    ensure!(is_public(lab, &[]), "day {day}: the site is gone");
    site::stop(lab).with_context(|| format!("day {day}"))
}

/// Pebble's certificates live ninety days, and nobody suggests anything: a third of that is left on the sixtieth.
pub(super) fn renews_by_ratio(lab: &mut Lab) -> anyhow::Result<()> {
    on_day(lab, 0, &[], 1)?;
    on_day(lab, 59, &[], 1)?;
    on_day(lab, 61, &[], 2)?;
    println!("renewed on day 61, not on day 59");
    Ok(())
}

/// The authority suggests the day after the thirtieth, long before the ratio would, and is told what is replaced.
pub(super) fn renews_by_suggestion(lab: &mut Lab) -> anyhow::Result<()> {
    let directory = ["--set", "tls.acme.directory=https://ari-ca.example/dir"];
    let date = |day: u32| -> anyhow::Result<String> {
        let ahead = format!("+{day} days");
        let date = said(lab.host("home", "date", &["-u", "-d", &ahead, "+%Y-%m-%dT%H:%M:%SZ"]))?;
        Ok(date.trim().to_owned())
    };
    let window = serde_json::json!({ "suggestedWindow": { "start": date(30)?, "end": date(31)? } });
    fs::write(format!("{FOLDER}/{SUGGESTION}"), window.to_string())?;
    on_day(lab, 0, &directory, 1)?;
    on_day(lab, 29, &directory, 1)?;
    on_day(lab, 32, &directory, 2)?;
    let orders = fs::read_to_string(format!("{FOLDER}/{ORDERS}"))?;
    let replaces: Vec<_> = orders.lines().map(|order| order.contains("\"replaces\"")).collect();
    ensure!(replaces == [false, true], "{orders}");
    println!("renewed on day 32, not on day 29, and said what it replaces");
    Ok(())
}

/// It is time to renew, and nobody answers: the site goes on with what it has, and says so.
pub(super) fn authority_is_silent(lab: &mut Lab) -> anyhow::Result<()> {
    on_day(lab, 0, &[], 1)?;
    lab.world.clock_days = 61;
    let directory = format!("tls.acme.directory={SILENT}");
    site::start(lab, &settings_without_ddns(), &["--set", &directory])?;
    let start = Instant::now();
    while start.elapsed() < SILENCE_MAX && certificate(lab)?["state"] != "failed" {
        ensure!(is_public(lab, &[]), "the site is gone");
        std::thread::sleep(Duration::from_millis(500));
    }
    let told = certificate(lab)?;
    ensure!(told["state"] == "failed", "nobody said so: {told:#}\n{}", lab.log("hearth"));
    ensure!(is_public(lab, &[]), "the site is gone");
    site::stop(lab)?;
    // Who has nothing to show is told to come back later.
    lab.world.clock_days = 0;
    let (root, storage) = (web_root(), format!("{FOLDER}/nothing"));
    let order = ["cert", "issue", DOMAIN, "--directory", SILENT, "--ca-file", &root];
    let start = Instant::now();
    let output = lab.hearth(&[&order[..], &["--storage", &storage]].concat())?.output()?;
    ensure!(output.status.code() == Some(7), "{output:?}");
    ensure!(start.elapsed() < SILENCE_MAX, "it took {:?}", start.elapsed());
    println!("the old certificate is shown; {}", told["text"].as_str().unwrap_or_default());
    Ok(())
}

/// What `hearth status` says of the certificate.
fn certificate(lab: &Lab) -> anyhow::Result<Value> {
    let output = lab.hearth(&["status", "--json"])?.output()?;
    let status: Value = serde_json::from_slice(&output.stdout)?;
    let components = status["status"]["components"].as_array().cloned().unwrap_or_default();
    Ok(components.into_iter().find(|one| one["name"] == "certificate").unwrap_or_default())
}
