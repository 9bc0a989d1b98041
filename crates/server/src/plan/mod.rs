//! From a configuration to what can be served: every name resolved, every file looked at, every
//! contradiction found, and nothing changed in the world.
//!
//! `check` and `serve` both come this way, so they cannot disagree.

mod address;
mod certificate;
mod client_auth;
mod host;
mod listener;
mod log;
pub mod network;
mod redirect;
mod site;

use std::{path::PathBuf, time::Duration};

use hearth_config::{Code, Diagnostic, Document, Report, Span, Spanned};
use hearth_http_core::Limits;
use hearth_net::{Io, NetLimits};
use hearth_telemetry::{AccessFormat, Output, ProgramLog};

pub use self::{
    certificate::CertificateFiles,
    client_auth::{ClientAuth, ClientFiles, ClientFilesProblem},
    listener::Listener,
    redirect::Redirect,
    site::{Answer, ErrorPages, Site},
};
pub(crate) use self::{client_auth::doubts, listener::DEFAULT_ADDRESS};
use crate::{
    codes,
    config::{Config, Io as IoWord, TlsVersion},
};

/// What is going to be served.
#[derive(Debug)]
pub struct Plan {
    /// Threads that serve; 0 is one for each core.
    pub workers: usize,
    /// How they wait for their connections.
    pub io: Io,
    /// How long requests may go on after the order to stop.
    pub grace: Duration,
    /// Where.
    pub listeners: Vec<Listener>,
    /// What.
    pub sites: Vec<Site>,
    /// Bounds on each connection.
    pub limits: Limits,
    /// Bounds on connections together.
    pub connections: NetLimits,
    /// The oldest TLS that is spoken.
    pub min_tls: TlsVersion,
    /// Whether the keys of session tickets are left for the next process.
    pub keeps_tickets: bool,
    /// The way from the internet to here.
    pub network: network::Network,
    /// A line for each request.
    pub access_log: Option<(AccessFormat, Output)>,
    /// What the server says about itself.
    pub log: ProgramLog,
}

impl Plan {
    /// Makes the plan, and reports everything that is wrong with it. The report may hold warnings beside a
    /// plan; where it holds errors there is none.
    pub fn new(config: &Config, document: &Document) -> (Option<Self>, Report) {
        let mut checks = Checks { document, report: document.report() };
        let workers = workers(&mut checks, &config.workers);
        let limits = config.limits.check(&mut checks.report);
        let log = log::program(&mut checks, &config.log);
        let access_log = log::access(&mut checks, &config.access_log);
        let connections = config.connections.check(&mut checks.report);
        let network = network::plan(&mut checks, config);
        let sites = site::plan(&mut checks, config);
        let listeners = listener::plan(&mut checks, config);
        client_auth::check(&mut checks, &sites, &listeners);
        let plan = Self {
            workers,
            io: io(*config.io),
            grace: config.shutdown_timeout.get(),
            listeners,
            sites,
            limits,
            connections,
            min_tls: config.tls.min_version,
            keeps_tickets: config.tls.keep_tickets,
            network,
            access_log,
            log,
        };
        let Checks { report, .. } = checks;
        ((!report.has_errors()).then_some(plan), report)
    }

    /// The names of every site that an authority is asked for a certificate for; each list is one.
    #[must_use]
    pub fn managed(&self) -> Vec<Vec<String>> {
        let is_managed = |site: &&Site| site.certificate.is_none() && !site.hosts.is_empty();
        self.sites.iter().filter(is_managed).map(|site| site.hosts.clone()).collect()
    }

    /// The certificates that the sites bring.
    #[must_use]
    pub fn certificates(&self) -> Vec<hearth_net::Certificate> {
        self.sites.iter().filter_map(|site| site.certificate.clone()).collect()
    }

    /// The part of a plan that is about the network, for commands that serve nothing.
    pub fn network(config: &Config, document: &Document) -> (Option<network::Network>, Report) {
        let mut checks = Checks { document, report: document.report() };
        let network = network::plan(&mut checks, config);
        let Checks { report, .. } = checks;
        ((!report.has_errors()).then_some(network), report)
    }
}

fn workers(checks: &mut Checks<'_>, workers: &Spanned<u16>) -> usize {
    const WORKERS_MAX: u16 = 1024;
    if **workers > WORKERS_MAX {
        let message = format!("`workers` is too large: {workers}");
        let label = format!("from 0 to {WORKERS_MAX}");
        let help = "leave it out for one worker on each core";
        checks.error(codes::RANGE, message, workers.span(), &label, help);
    }
    usize::from(**workers)
}

fn io(word: IoWord) -> Io {
    match word {
        IoWord::Auto => Io::Auto,
        IoWord::Epoll => Io::Epoll,
        IoWord::IoUring => Io::IoUring,
    }
}

/// Gathers what is wrong.
pub(crate) struct Checks<'a> {
    document: &'a Document,
    report: Report,
}

impl Checks<'_> {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.report.push(diagnostic);
    }

    pub(crate) fn error(
        &mut self,
        code: Code,
        message: impl Into<String>,
        span: Span,
        label: &str,
        help: impl Into<String>,
    ) {
        self.push(Diagnostic::error(code, message).at(span, label).with_help(help));
    }

    pub(crate) fn resolve(&self, path: &Spanned<PathBuf>) -> PathBuf {
        self.document.resolve(path)
    }
}
