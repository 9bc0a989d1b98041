//! A configuration that takes the place of the one that is served: all of it, or nothing.

use hearth_config::{Document, Report, Severity, diff};
use hearth_tls_acme::Manager;

use super::load::Loaded;
use crate::{
    assemble::{self, Failure, Running},
    certificates, codes,
    plan::{Plan, network::Acme},
    signals::Order,
};

/// Follows orders while a server runs.
pub(super) struct Operator {
    /// In the way in which it was loaded at the start.
    load: Box<dyn Fn() -> Result<Loaded, Report>>,
    /// What is served.
    document: Document,
    names: Names,
}

/// Who has certificates for the sites that bring none.
pub(super) enum Names {
    /// A manager that takes other names.
    Managed(Manager, Box<Acme>),
    /// Somebody who takes no others while the server runs.
    Fixed(Vec<Vec<String>>),
    /// Nobody.
    None,
}

impl Operator {
    pub(super) fn new(
        load: impl Fn() -> Result<Loaded, Report> + 'static,
        document: Document,
        names: Names,
    ) -> Self {
        Self { load: Box::new(load), document, names }
    }

    /// Does what it is told; stopping is the caller's.
    pub(super) async fn obey(&mut self, running: &Running, order: Order) {
        match order {
            Order::Reopen => reopen(running),
            Order::Reload => self.reload(running).await,
            Order::Stop => {}
        }
    }

    async fn reload(&mut self, running: &Running) {
        tracing::info!(target: "hearth", "SIGHUP: the configuration is read anew");
        match self.replace(running).await {
            Ok(sites) => {
                tracing::info!(target: "hearth", sites, "the configuration was taken over");
            }
            Err(refusal) => refusal.tell(),
        }
        // Whatever came of the rest: files that a site has named before.
        running.reload();
    }

    async fn replace(&mut self, running: &Running) -> Result<usize, Refusal> {
        let Loaded { mut plan, document, report, .. } = (self.load)().map_err(Refusal::Wrong)?;
        tell(&report);
        let others = diff(&self.document, &document).into_iter().map(|change| change.key);
        let others: Vec<_> = others.filter(|key| !is_of_sites(key)).collect();
        if !others.is_empty() {
            return Err(Refusal::Restart(others));
        }
        let requests = self.names.requests(&plan)?;
        running.replace_sites(&mut plan).map_err(Refusal::Failed)?;
        self.document = document;
        if let (Names::Managed(manager, _), Some(requests)) = (&self.names, requests)
            && let Err(error) = manager.manage(requests).await
        {
            tracing::error!(target: "hearth", "certificates are had for the names of before: {error}");
        }
        Ok(plan.sites.len())
    }
}

impl Names {
    /// What the manager is to have; `None` where there is none.
    fn requests(&self, plan: &Plan) -> Result<Option<Vec<hearth_tls_acme::CertRequest>>, Refusal> {
        let names = plan.managed();
        match self {
            Self::Managed(_, acme) => {
                let requests = names.iter().map(|names| certificates::request(names, acme));
                let requests: Result<Vec<_>, _> = requests.collect();
                let refused = |why: String| Refusal::Failed(assemble::refused(&why));
                Ok(Some(requests.map_err(refused)?))
            }
            Self::None => Ok(None),
            Self::Fixed(fixed) if *fixed == names => Ok(None),
            Self::Fixed(_) => Err(Refusal::Restart(vec!["sites.hosts".to_owned()])),
        }
    }
}

/// Why everything stays as it was.
enum Refusal {
    /// The configuration.
    Wrong(Report),
    /// Keys that are read when the server starts.
    Restart(Vec<String>),
    /// The world.
    Failed(Failure),
}

impl Refusal {
    fn tell(&self) {
        match self {
            Self::Wrong(report) => tell(report),
            Self::Restart(keys) => {
                let (code, keys) = (codes::RESTART.id(), keys.join(", "));
                let fix = "restart the server, or take these changes back";
                tracing::error!(
                    target: "hearth", code, keys, fix,
                    "only `sites` can change while the server runs"
                );
            }
            Self::Failed(Failure { diagnostic, .. }) => {
                let (code, fix) = (diagnostic.code().id(), diagnostic.help());
                tracing::error!(target: "hearth", code, fix, "{}", diagnostic.message());
            }
        }
        tracing::warn!(target: "hearth", "the configuration was not taken over; what was served is served");
    }
}

/// A line of the log for everything that is wrong or doubtful.
fn tell(report: &Report) {
    for one in report.diagnostics() {
        let (code, fix) = (one.code().id(), one.help());
        let at = one.primary().map(|label| report.sources().location(label.span).to_string());
        match one.severity() {
            Severity::Error => {
                tracing::error!(target: "hearth", code, at, fix, "{}", one.message());
            }
            _ => tracing::warn!(target: "hearth", code, at, fix, "{}", one.message()),
        }
    }
}

/// Opens the files of logs anew.
pub(super) fn reopen(running: &Running) {
    running.reopen_logs();
    tracing::info!(target: "hearth", "log files were opened anew");
}

fn is_of_sites(key: &str) -> bool {
    key.split(['.', '[']).next() == Some("sites")
}
