//! `hearth cert`

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::{Args, Subcommand, ValueEnum};
use hearth_tls_acme::{
    Attention, Loaded, LocalCa, Manager, Origin, Outcome, Responder, RevocationReason,
    StoredCertificate, TrustStore, Vault, import,
};

use super::{
    ColorChoice, SourceArgs, complain,
    load::load_network,
    one_shot::{self, Answer},
};
use crate::{
    certificates,
    codes::Exit,
    config::Challenge,
    plan::network::{Acme, Network},
};

#[derive(Debug, Args)]
pub(super) struct CertArgs {
    #[command(subcommand)]
    action: Action,
    /// The configuration file; without it ./hearth.toml, if there is one
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any key of the configuration
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where certificates are kept
    #[arg(long, global = true, value_name = "FOLDER")]
    storage: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Have a certificate, unless there is a good one
    Issue(OrderArgs),
    /// Have a new certificate, however good the old one is
    Renew(OrderArgs),
    /// Revoke a certificate and remove it
    Revoke(RevokeArgs),
    /// Give the account at the authority a new key
    RollAccount(AuthorityArgs),
    /// Show the certificates that are kept here
    List,
    /// Make an authority of this machine's own, and say how to trust it
    Trust(TrustArgs),
    /// Have a certificate from this machine's own authority, for names that no public one issues for
    Local(LocalArgs),
    /// Keep a certificate that comes from elsewhere
    Import(ImportArgs),
}

#[derive(Debug, Args)]
struct OrderArgs {
    /// What it is for: host names, `*.` and a domain, IP addresses
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// The authority's directory
    #[arg(long, value_name = "URL")]
    directory: Option<String>,
    /// The root of a private authority's own HTTPS certificate, in PEM form
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// How control over the names is shown
    #[arg(long, value_enum, value_name = "CHALLENGE")]
    challenge: Option<ChallengeArg>,
    /// Where the authority's connections for http-01 arrive on this machine
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    http_port: u16,
    /// Where its connections for tls-alpn-01 arrive
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    tls_port: u16,
    /// Key identifier of the external account binding
    #[arg(long, value_name = "ID", requires = "eab_hmac")]
    eab_kid: Option<String>,
    /// HMAC key of the external account binding, in base64
    #[arg(long, value_name = "KEY", requires = "eab_kid")]
    eab_hmac: Option<String>,
    /// A program that sets and removes TXT records for dns-01: PROGRAM present|wait|cleanup NAME VALUE
    #[arg(long, value_name = "PROGRAM")]
    dns_hook: Option<PathBuf>,
    /// Where the authority may write to
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// The profile, such as shortlived
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Write fullchain.pem and privkey.pem to this folder, too
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// What `list` shows in its first column
    #[arg(value_name = "ID")]
    id: String,
    /// Why
    #[arg(long, value_enum, default_value_t, value_name = "REASON")]
    reason: ReasonArg,
    #[command(flatten)]
    authority: AuthorityArgs,
}

#[derive(Debug, Args)]
struct AuthorityArgs {
    /// The authority's directory
    #[arg(long, value_name = "URL")]
    directory: Option<String>,
    /// The root of a private authority's own HTTPS certificate, in PEM form
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct TrustArgs {
    /// Say it for this system
    #[arg(long, value_enum, default_value_t, value_name = "SYSTEM")]
    system: SystemArg,
}

#[derive(Debug, Args)]
struct LocalArgs {
    /// What it is for: host names such as nas.lan, IP addresses
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// The folder that fullchain.pem and privkey.pem are written to
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// The certificate and those that lead to its root, in PEM form, in any order
    #[arg(value_name = "CHAIN")]
    chain: PathBuf,
    /// Its key, in PEM form
    #[arg(value_name = "KEY")]
    key: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ChallengeArg {
    /// A file on port 80
    #[value(name = "http-01")]
    Http01,
    /// A handshake on port 443
    #[value(name = "tls-alpn-01")]
    TlsAlpn01,
    /// A TXT record
    #[value(name = "dns-01")]
    Dns01,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum ReasonArg {
    /// It is not said
    #[default]
    Unspecified,
    /// Somebody else has, or may have, the key
    KeyCompromise,
    /// There is a newer one
    Superseded,
    /// The site is closed
    CessationOfOperation,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum SystemArg {
    /// Debian, Ubuntu
    #[default]
    Debian,
    /// Fedora, RHEL
    Fedora,
    /// Firefox, which has a list of its own
    Firefox,
    /// macOS
    Macos,
    /// Windows
    Windows,
}

pub(super) fn run(args: &CertArgs, color: ColorChoice) -> Exit {
    let source = SourceArgs::of_file(args.config.clone(), args.set.clone());
    let network = match load_network(&source) {
        Ok((network, _)) => network,
        Err(report) => {
            complain(&report, color);
            return Exit::Config;
        }
    };
    one_shot::run(act(args, network), args.json)
}

async fn act(args: &CertArgs, network: Network) -> Answer {
    let mut acme = network.acme.clone().unwrap_or_default();
    if let Some(storage) = &args.storage {
        acme.storage.clone_from(storage);
    }
    let result = match &args.action {
        Action::Issue(order) => self::order(order, acme, &network, false).await,
        Action::Renew(order) => self::order(order, acme, &network, true).await,
        Action::Revoke(args) => revoke(args, acme, &network).await,
        Action::RollAccount(args) => roll_account(args, acme, &network).await,
        Action::List => list(&acme).await,
        Action::Trust(args) => trust(args, &acme).await,
        Action::Local(args) => local(args, &acme).await,
        Action::Import(args) => import_files(args, &acme).await,
    };
    result.unwrap_or_else(Answer::refused)
}

async fn order(
    args: &OrderArgs,
    mut acme: Acme,
    network: &Network,
    is_renewal: bool,
) -> Result<Answer, String> {
    apply(args, &mut acme);
    let manager = certificates::manager(&acme, network.ddns.as_ref())?;
    let request = certificates::request(&args.names, &acme)?;
    let _responder = respond(args, &acme, &manager)?;
    let outcome = match is_renewal {
        true => manager.renew(&request).await,
        false => manager.issue(&request).await,
    };
    match outcome {
        Outcome::Done(stored) => {
            if let Some(folder) = &args.out {
                write_out(folder, &stored.chain_pem, &stored.key_pem)?;
            }
            Ok(told(&stored))
        }
        Outcome::TryLater { at, why } => {
            Ok(attention(Answer::try_later, &why).with("retry_at", unix(at)))
        }
        Outcome::Refused(why) => Ok(attention(Answer::refused, &why)),
    }
}

fn apply(args: &OrderArgs, acme: &mut Acme) {
    if let Some(directory) = &args.directory {
        acme.directory.clone_from(directory);
        acme.staging = None;
        // Who names one wants no other.
        acme.fallback.clear();
    }
    if let Some(challenge) = args.challenge {
        acme.challenge = Some(match challenge {
            ChallengeArg::Http01 => Challenge::Http01,
            ChallengeArg::TlsAlpn01 => Challenge::TlsAlpn01,
            ChallengeArg::Dns01 => Challenge::Dns01,
        });
    }
    if let Some(pair) = args.eab_kid.clone().zip(args.eab_hmac.clone()) {
        acme.eab = Some(pair);
    }
    let replace = |value: &mut Option<_>, given: &Option<_>| {
        if given.is_some() {
            Option::clone_from(value, given);
        }
    };
    replace(&mut acme.ca_file, &args.ca_file);
    replace(&mut acme.dns_hook, &args.dns_hook);
    let replace = |value: &mut Option<String>, given: &Option<String>| {
        if given.is_some() {
            value.clone_from(given);
        }
    };
    replace(&mut acme.email, &args.email);
    replace(&mut acme.profile, &args.profile);
}

/// Answers challenges where that is wanted. With several ways open a taken port only closes one of them.
fn respond(args: &OrderArgs, acme: &Acme, manager: &Manager) -> Result<Option<Responder>, String> {
    let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let (http, tls) = match acme.challenge {
        Some(Challenge::Dns01) => return Ok(None),
        Some(Challenge::Http01) => (Some(any(args.http_port)), None),
        Some(Challenge::TlsAlpn01) => (None, Some(any(args.tls_port))),
        None => (Some(any(args.http_port)), Some(any(args.tls_port))),
    };
    let both = Responder::start(manager, http, tls);
    match (both, acme.challenge) {
        (Ok(responder), _) => Ok(Some(responder)),
        (Err(error), Some(_)) => Err(crate::outside::causes(&error)),
        (Err(_), None) => Ok(Responder::start(manager, http, None)
            .or_else(|_| Responder::start(manager, None, tls))
            .ok()),
    }
}

fn write_out(folder: &Path, chain_pem: &str, key_pem: &str) -> Result<(), String> {
    let write = || {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("fullchain.pem"), chain_pem)?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        // Not into one that is there: it keeps its mode, whoever may read it by that.
        let new = folder.join("privkey.pem.new");
        let _ = fs::remove_file(&new);
        options.open(&new)?.write_all(key_pem.as_bytes())?;
        fs::rename(new, folder.join("privkey.pem"))
    };
    write().map_err(|error: std::io::Error| format!("{}: {error}", folder.display()))
}

impl AuthorityArgs {
    fn apply(&self, acme: &mut Acme) {
        if let Some(directory) = &self.directory {
            acme.directory.clone_from(directory);
            acme.fallback.clear();
        }
        if let Some(file) = &self.ca_file {
            acme.ca_file = Some(file.clone());
        }
    }
}

async fn roll_account(
    args: &AuthorityArgs,
    mut acme: Acme,
    network: &Network,
) -> Result<Answer, String> {
    args.apply(&mut acme);
    let manager = certificates::manager(&acme, network.ddns.as_ref())?;
    let name = certificates::authority_name(&acme)?;
    Ok(match manager.roll_account_key(&name).await {
        Outcome::Done(()) => Answer::done(format!("the account at {name} has a new key")),
        Outcome::TryLater { at, why } => {
            attention(Answer::try_later, &why).with("retry_at", unix(at))
        }
        Outcome::Refused(why) => attention(Answer::refused, &why),
    })
}

async fn revoke(args: &RevokeArgs, mut acme: Acme, network: &Network) -> Result<Answer, String> {
    args.authority.apply(&mut acme);
    let manager = certificates::manager(&acme, network.ddns.as_ref())?;
    let reason = match args.reason {
        ReasonArg::Unspecified => RevocationReason::Unspecified,
        ReasonArg::KeyCompromise => RevocationReason::KeyCompromise,
        ReasonArg::Superseded => RevocationReason::Superseded,
        ReasonArg::CessationOfOperation => RevocationReason::CessationOfOperation,
    };
    Ok(match manager.revoke(&args.id, reason).await {
        Outcome::Done(()) => Answer::done(format!("{} is revoked", args.id)),
        Outcome::TryLater { why, .. } => attention(Answer::try_later, &why),
        Outcome::Refused(why) => attention(Answer::refused, &why),
    })
}

async fn list(acme: &Acme) -> Result<Answer, String> {
    let vault = Vault::new(certificates::storage(acme)?);
    let ids = vault.ids().await.map_err(|error| error.to_string())?;
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    for id in ids {
        match vault.load(&id).await.map_err(|error| error.to_string())? {
            Loaded::Current(stored) | Loaded::Previous(stored, _) => {
                let left = unix(stored.not_after).saturating_sub(unix(SystemTime::now())) / 86_400;
                let authority = match stored.origin.directory.as_str() {
                    "" => "imported",
                    directory => directory,
                };
                lines.push(format!("{id:<32} {left:>4} days  {authority}"));
                rows.push(json(&stored));
            }
            Loaded::Damaged(why) => lines.push(format!("{id:<32} {}", why.sentence)),
            _ => {}
        }
    }
    let human = if lines.is_empty() { "no certificates".to_owned() } else { lines.join("\n") };
    Ok(Answer::done(human).with("certificates", rows))
}

async fn trust(args: &TrustArgs, acme: &Acme) -> Result<Answer, String> {
    let storage = certificates::storage(acme)?;
    let authority = LocalCa::load_or_create(&storage, SystemTime::now()).await;
    let authority = authority.map_err(|error| crate::outside::causes(&error))?;
    let path = acme.storage.join("local-root.pem");
    fs::write(&path, authority.root_pem())
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let system = match args.system {
        SystemArg::Debian => TrustStore::Debian,
        SystemArg::Fedora => TrustStore::Fedora,
        SystemArg::Firefox => TrustStore::Firefox,
        SystemArg::Macos => TrustStore::MacOs,
        SystemArg::Windows => TrustStore::Windows,
    };
    let path = path.display().to_string();
    let what = LocalCa::trust_instructions(system, &path);
    Ok(Answer::done(format!("the root is {path}; to trust it:\n{what}")).with("root", path))
}

/// Nothing renews what is had here: who wants it runs the command again, as often as wanted.
async fn local(args: &LocalArgs, acme: &Acme) -> Result<Answer, String> {
    let request = certificates::request(&args.names, acme)?;
    let storage = certificates::storage(acme)?;
    let now = SystemTime::now();
    let told = |error| crate::outside::causes(&error);
    let authority = LocalCa::load_or_create(&storage, now).await.map_err(told)?;
    let pair = authority.issue(&request.names, now).map_err(told)?;
    write_out(&args.out, &pair.chain_pem, &pair.key_pem)?;
    let names: Vec<_> = request.names.iter().map(ToString::to_string).collect();
    let (shown, folder) = (names.join(", "), args.out.display());
    let human = format!(
        "a certificate for {shown}, good for {} days: {folder}/fullchain.pem and {folder}/privkey.pem\n\
         browsers trust it where `hearth cert trust` was followed",
        LocalCa::LIFE_DAYS
    );
    Ok(Answer::done(human).with("names", names))
}

async fn import_files(args: &ImportArgs, acme: &Acme) -> Result<Answer, String> {
    let read =
        |path: &PathBuf| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let (chain, key) = (read(&args.chain)?, read(&args.key)?);
    let imported = import(&chain, &key, SystemTime::now()).map_err(|error| error.to_string())?;
    let id = imported.certificate.names().first().ok_or("the certificate has no names")?;
    let vault = Vault::new(certificates::storage(acme)?);
    let key = String::from_utf8_lossy(&key);
    let stored = vault.store(id, &imported.chain_pem, &key, &Origin::default()).await;
    let stored = stored.map_err(|error| error.to_string())?;
    let repairs: String =
        imported.repairs.iter().map(|repair| format!("\n  note: {repair}")).collect();
    let answer = told(&stored);
    Ok(if repairs.is_empty() { answer } else { answer.with_note(&repairs) })
}

fn told(stored: &StoredCertificate) -> Answer {
    let names: Vec<_> = stored.names.iter().map(ToString::to_string).collect();
    let days = unix(stored.not_after).saturating_sub(unix(SystemTime::now())) / 86_400;
    Answer::done(format!("a certificate for {}, good for {days} days", names.join(", ")))
        .with("certificate", json(stored))
}

fn json(stored: &StoredCertificate) -> serde_json::Value {
    serde_json::json!({
        "id": stored.id,
        "names": stored.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "not_before": unix(stored.not_before),
        "not_after": unix(stored.not_after),
        "fingerprint": stored.fingerprint,
        "directory": stored.origin.directory,
        "profile": stored.origin.profile,
    })
}

fn attention(answer: fn(String) -> Answer, why: &Attention) -> Answer {
    answer(format!("{}: {} [{}]", why.subject, why.sentence, why.code.as_str()))
        .with_help(&why.fix)
        .with("code", why.code.as_str())
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
