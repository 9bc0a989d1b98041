//! Scenarios of `hearth up` and `hearth cert`: a site at home becomes public, and stays so.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::{DOMAIN, FOLDER, FORMER, Lab, PUBLIC, scenario, settings, web_root};

/// From nothing to public HTTPS it may take no longer.
const UP_MAX: Duration = Duration::from_secs(60);
const PAGE: &str = "a page from home\n";

/// By a file on port 80, with all the defaults.
pub(super) fn by_http(lab: &mut Lab) -> anyhow::Result<()> {
    up(lab, &[])
}

/// By a handshake on port 443.
pub(super) fn by_tls_alpn(lab: &mut Lab) -> anyhow::Result<()> {
    up(lab, &["--set", "tls.acme.challenge=tls-alpn-01"])
}

/// By a TXT record, set by the provider of dynamic DNS.
pub(super) fn by_dns(lab: &mut Lab) -> anyhow::Result<()> {
    up(lab, &["--set", "tls.acme.challenge=dns-01"])
}

/// The name leads to the address of last week; `up` puts that right before it asks for a certificate.
pub(super) fn from_a_stale_record(lab: &mut Lab) -> anyhow::Result<()> {
    scenario::update(lab, &format!("delete {DOMAIN} A"))?;
    scenario::update(lab, &format!("add {DOMAIN} 60 A {FORMER}"))?;
    up(lab, &[])
}

/// Starts `hearth up`, and waits until the internet sees the page. How long that took.
pub(super) fn start(lab: &mut Lab, settings: &str, more: &[&str]) -> anyhow::Result<Duration> {
    let site = format!("{FOLDER}/site");
    fs::create_dir_all(&site)?;
    fs::write(format!("{site}/index.html"), PAGE)?;
    let start = Instant::now();
    let args = [&["up", DOMAIN, &site, "--config", settings], more].concat();
    let hearth = lab.hearth(&args)?;
    lab.spawn("hearth", hearth)?;
    lab.wait("the site", |lab| Ok(is_public(lab, &[])))?;
    Ok(start.elapsed())
}

/// Whether the internet sees the page, asked for by curl with these arguments besides.
pub(super) fn is_public(lab: &Lab, more: &[&str]) -> bool {
    let (url, root) = (format!("https://{DOMAIN}/"), lab.site_root());
    let args = [&["--cacert", &root, &url], more].concat();
    lab.fetch("internet", &args).is_ok_and(|page| page == PAGE)
}

/// Waits until every component says that it is well.
pub(super) fn wait_until_well(lab: &mut Lab) -> anyhow::Result<()> {
    let well = lab.wait("everything to be well", |lab| {
        Ok(lab.hearth(&["status", "--json"])?.output()?.status.success())
    });
    well.with_context(|| lab.log("hearth"))
}

/// Stops it; nothing may be left at the router.
pub(super) fn stop(lab: &mut Lab) -> anyhow::Result<()> {
    let ended = lab.stop("hearth")?;
    ensure!(ended.success(), "{ended}: {}", lab.log("hearth"));
    let rules = scenario::said(lab.host("router", "nft", &["list", "ruleset"]))?;
    ensure!(!rules.contains("dnat ip to 192.168.77.10:"), "a mapping is left: {rules}");
    Ok(())
}

fn up(lab: &mut Lab, more: &[&str]) -> anyhow::Result<()> {
    let settings = settings();
    let public = start(lab, &settings, more)?;
    ensure!(public < UP_MAX, "it took {public:?}");
    wait_until_well(lab)?;
    let root = lab.site_root();
    let redirected = ["--location", "--cacert", &root, &format!("http://{DOMAIN}/")];
    ensure!(lab.fetch("internet", &redirected)? == PAGE, "http does not lead to https");
    // What is up can be examined without being disturbed.
    let doctor = ["doctor", DOMAIN, "--json", "--config", &settings];
    let output = lab.hearth(&doctor)?.output()?;
    let found: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(found["healthy"] == true, "the doctor says {found:#}");
    stop(lab)?;
    println!("public HTTPS after {:.1} s at {PUBLIC}", public.as_secs_f64());
    Ok(())
}

/// `hearth cert`, in every way there is.
pub(super) fn cert(lab: &mut Lab) -> anyhow::Result<()> {
    let (root, out) = (web_root(), format!("{FOLDER}/out"));
    let storage = format!("{FOLDER}/one-shots");
    let common = ["--storage", &storage, "--json"];
    let order = ["--directory", "https://ca.example/dir", "--ca-file", &root];
    for port in ["80", "443"] {
        let map = ["port-map", "add", port];
        scenario::said(lab.hearth(&map)?)?;
    }
    for (challenge, name) in [
        ("http-01", DOMAIN.to_owned()),
        ("tls-alpn-01", DOMAIN.to_owned()),
        ("dns-01", format!("*.{DOMAIN}")),
    ] {
        let settings = settings();
        let verb = if challenge == "tls-alpn-01" { "renew" } else { "issue" };
        let what =
            ["cert", verb, &name, "--challenge", challenge, "--config", &settings, "--out", &out];
        let said = scenario::said(lab.hearth(&[&what[..], &order, &common].concat())?)?;
        let said: Value = serde_json::from_str(&said)?;
        ensure!(said["result"] == "done", "{challenge}: {said}");
        let site_root = lab.site_root();
        let chain = format!("{out}/fullchain.pem");
        let verified = ["verify", "-CAfile", &site_root, "-untrusted", &chain, &chain];
        scenario::said(lab.host("home", "openssl", &verified)).context(challenge)?;
    }
    // With a new key the account is the same: what it shows to the authority counts as before.
    scenario::said(lab.hearth(&[&["cert", "roll-account"][..], &order, &common].concat())?)?;
    let renew = ["cert", "renew", DOMAIN, "--challenge", "http-01"];
    scenario::said(lab.hearth(&[&renew[..], &order, &common].concat())?)?;
    let listed = scenario::said(lab.hearth(&[&["cert", "list"][..], &common].concat())?)?;
    let listed: Value = serde_json::from_str(&listed)?;
    let ids: Vec<_> = listed["certificates"].as_array().into_iter().flatten().collect();
    let [_, _] = ids.as_slice() else { bail!("not two certificates: {listed:#}") };
    let id = ids[0]["id"].as_str().unwrap_or_default();
    scenario::said(lab.hearth(&[&["cert", "revoke", id][..], &order, &common].concat())?)?;
    // Who asks to wait is told apart from who refuses, by the exit code.
    let limited = ["--directory", "https://limited-ca.example/dir", "--ca-file", &root];
    let waits = ["cert", "issue", DOMAIN, "--challenge", "http-01"];
    let elsewhere = format!("{FOLDER}/limited");
    let apart = ["--storage", &elsewhere, "--json"];
    let output = lab.hearth(&[&waits[..], &limited, &apart].concat())?.output()?;
    ensure!(output.status.code() == Some(7), "a limit: {output:?}");
    let refuses = ["cert", "issue", "nowhere.example", "--challenge", "http-01"];
    let output = lab.hearth(&[&refuses[..], &order, &common].concat())?.output()?;
    ensure!(matches!(output.status.code(), Some(7 | 8)), "a name of nobody: {output:?}");
    Ok(())
}
