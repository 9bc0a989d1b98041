//! From arguments, variables and a file to a plan. The one way that `serve` and `check` both take.

use std::{
    env,
    io::{IsTerminal, stdout},
    path::{Path, PathBuf},
};

use hearth_config::{Document, Loader, Report, Spanned};
use hearth_netsvc::gateway;

use super::SourceArgs;
use crate::{
    config::{Config, Listener, Site, SiteTls},
    doctor::facts::{HTTP, HTTPS},
    plan::{Plan, network::Network},
};

/// The file that is used where none is named.
const FILE: &str = "hearth.toml";

/// What is served, and who said so.
pub(crate) struct Loaded {
    pub(crate) plan: Plan,
    pub(crate) source: Source,
    /// What it was made from.
    pub(crate) document: Document,
    /// Warnings.
    pub(crate) report: Report,
}

/// Where the configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    Folder(PathBuf),
}

impl Source {
    fn of(args: &SourceArgs) -> Self {
        let wants_folder = args.spa || args.listing || args.tls_cert.is_some();
        let variable = env::var_os("HEARTH_CONFIG").filter(|value| !value.is_empty());
        match (&args.config, &args.dir, variable) {
            (Some(file), _, _) => Self::File(file.clone()),
            (None, Some(folder), _) => Self::Folder(folder.clone()),
            (None, None, _) if wants_folder => Self::Folder(".".into()),
            (None, None, Some(file)) => Self::File(file.into()),
            (None, None, None) if Path::new(FILE).is_file() => Self::File(FILE.into()),
            (None, None, None) => Self::Folder(".".into()),
        }
    }
}

/// Loads and checks everything.
pub(crate) fn load(args: &SourceArgs) -> Result<Loaded, Report> {
    let source = Source::of(args);
    let (mut config, document) = read(args, &source)?;
    // What the arguments stand for is no text with lines, so it is put in here.
    apply(args, &source, &mut config);
    let (plan, report) = Plan::new(&config, &document);
    match plan {
        Some(plan) => Ok(Loaded { plan, source, document, report }),
        None => Err(report),
    }
}

/// Loads what `up` does: as `serve`, with a site of this name, and with TLS whatever stands in the file.
pub(crate) fn load_up(
    args: &SourceArgs,
    domain: &str,
    dir: Option<&PathBuf>,
) -> Result<Loaded, Report> {
    let source = Source::of(args);
    let (mut config, document) = read(args, &source)?;
    let names_it = |site: &Spanned<Site>| site.hosts.iter().any(|host| host.value() == domain);
    if !config.sites.iter().any(names_it) {
        let root = dir.cloned().unwrap_or_else(|| ".".into());
        let site = Site {
            hosts: vec![Spanned::unknown(domain.to_owned())],
            root: Some(Spanned::unknown(absolute(root))),
            redirect_to_https: Spanned::unknown(true),
            ..Site::default()
        };
        config.sites.push(Spanned::unknown(site));
    }
    if config.listeners.is_none() {
        let listener = |address: &str, tls| {
            let address = Spanned::unknown(address.to_owned());
            Spanned::unknown(Listener { address, tls, protocols: None })
        };
        // Where the whole internet has a way here by IPv6; those sockets take IPv4 connections, too.
        let local = gateway::addresses().unwrap_or_default();
        let host = if gateway::stable_ipv6(&local).is_some() { "[::]" } else { "" };
        let [http, https] = [HTTP, HTTPS].map(|port| format!("{host}:{port}"));
        let listeners = vec![listener(&http, false), listener(&https, true)];
        config.listeners = Some(Spanned::unknown(listeners));
    }
    config.tls.acme.get_or_insert_default();
    let (plan, report) = Plan::new(&config, &document);
    match plan {
        Some(plan) => Ok(Loaded { plan, source, document, report }),
        None => Err(report),
    }
}

/// A folder of the command line is relative to where the command was given, not to the file.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// Loads what is said about the network, and the hosts of the sites.
pub(crate) fn load_network(args: &SourceArgs) -> Result<(Network, Vec<String>), Report> {
    let (config, document) = read(args, &Source::of(args))?;
    let (network, report) = Plan::network(&config, &document);
    let hosts = config.sites.iter().flat_map(|site| &site.hosts);
    let hosts = hosts.map(|host| host.value().clone()).collect();
    network.map(|network| (network, hosts)).ok_or(report)
}

fn read(args: &SourceArgs, source: &Source) -> Result<(Config, Document), Report> {
    let mut loader = Loader::new()
        .environment("HEARTH_", env::vars_os())
        .environment_alias("PORT", "port")
        .environment_alias("HEARTH_LOG", "log.level")
        .environment_reserved("HEARTH_LOG")
        .environment_reserved("HEARTH_CONFIG");
    if let Source::File(path) = source {
        loader = loader.file(path);
    }
    for assignment in &args.set {
        loader = loader.assign("--set", assignment);
    }
    if let Some(log) = &args.log {
        loader = loader.set("--log", "log.level", log);
    }
    if let Some(workers) = args.workers {
        loader = loader.set("--workers", "workers", workers.to_string());
    }
    let mut document = loader.read()?;
    let (config, decoding) = document.decode_partial::<Config>();
    match config {
        Some(config) if !decoding.has_errors() => Ok((config, document)),
        _ => Err(decoding),
    }
}

fn apply(args: &SourceArgs, source: &Source, config: &mut Config) {
    if let Source::Folder(folder) = source {
        apply_folder(args, folder, config);
    }
    if !args.listen.is_empty() {
        let is_tls = config.sites.iter().any(|site| site.tls.is_some());
        let listener = |address: &String| {
            Spanned::unknown(Listener {
                address: Spanned::unknown(address.clone()),
                tls: is_tls,
                protocols: None,
            })
        };
        let listeners = args.listen.iter().map(listener).collect();
        config.listeners = Some(Spanned::unknown(listeners));
        // Who says where to listen means it, whatever the platform would like.
        config.port = None;
    }
    match &args.access_log {
        Some(path) if path == Path::new("off") => config.access_log.path = None,
        Some(path) => config.access_log.path = Some(Spanned::unknown(path.clone())),
        None => {}
    }
}

/// A site of its own for the folder, unless variables or `--set` have made sites.
fn apply_folder(args: &SourceArgs, folder: &Path, config: &mut Config) {
    let tls = args.tls_cert.clone().zip(args.tls_key.clone()).map(|(certificate, key)| {
        Spanned::unknown(SiteTls {
            certificate: Some(Spanned::unknown(certificate)),
            key: Some(Spanned::unknown(key)),
            client_auth: None,
            hsts: None,
        })
    });
    if tls.is_some() && config.listeners.is_none() {
        let listener = Listener {
            address: Spanned::unknown(crate::plan::DEFAULT_ADDRESS.to_string()),
            tls: true,
            protocols: None,
        };
        config.listeners = Some(Spanned::unknown(vec![Spanned::unknown(listener)]));
    }
    let site = Site {
        root: Some(Spanned::unknown(folder.to_owned())),
        spa: args.spa,
        listing: args.listing,
        tls,
        ..Site::default()
    };
    config.sites.push(Spanned::unknown(site));
    // Who serves a folder from a terminal wants to see what is asked for.
    if config.access_log.path.is_none() && stdout().is_terminal() {
        config.access_log.path = Some(Spanned::unknown("stdout".into()));
    }
}
