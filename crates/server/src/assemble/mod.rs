//! Puts the crates together: from a plan to a running server.

mod addresses;
mod clients;
mod live;
mod reload;
mod routes;
mod tickets;
mod tls;
mod trust;

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Once},
    time::Duration,
};

use hearth_config::{Diagnostic, Span};
use hearth_http_core::{Handler, Observer, Protocol, Settings};
use hearth_net::{
    BindError, Certificate, DrainReport, Handle, Listener, Server, ServerBuilder, StartError,
};
use hearth_netsvc::reach::Challenges;
use hearth_telemetry::{
    AccessLog, Incidents, Observers, OpenError, ProgramLogError, Traffic, TrafficStats, WriterGuard,
};
use hearth_tls_acme::Manager;

pub use self::addresses::{check_addresses, fall_back};
pub(crate) use self::routes::site_routes;
use self::{
    clients::Clients,
    live::{Live, Sites},
    reload::Reload,
    tickets::Tickets,
    tls::Tls,
};
use crate::{
    codes::{self, Exit},
    outside::Front,
    plan::Plan,
};

/// A server that serves. Dropping it cuts everything off.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    grace: Duration,
    traffic: Arc<Traffic>,
    tickets: Tickets,
    world: World,
    /// The writers of logs; the log itself ends last.
    logs: Vec<WriterGuard>,
}

/// What can be replaced while the server runs.
#[derive(Debug)]
struct World {
    live: Arc<Live>,
    clients: Option<Arc<Clients>>,
    files: Reload,
    https_port: u16,
}

/// Why the server could not start, and what the process ends with.
#[derive(Debug)]
pub struct Failure {
    /// What to tell.
    pub diagnostic: Diagnostic,
    /// What to end with.
    pub exit: Exit,
}

/// Makes the plan's log that of the process, panics included.
///
/// # Errors
/// [`Failure`] where it cannot be opened, or the process has one already.
pub fn install_log(plan: &Plan) -> Result<WriterGuard, Failure> {
    let log = plan.log.clone().install().map_err(|error| match error {
        ProgramLogError::Open(error) => log_failure(&error),
        other => failure(&other, "use one log for a process"),
    })?;
    report_panics();
    Ok(log)
}

/// What is answered before the sites.
#[derive(Debug, Default)]
pub struct Before {
    /// What answers probes.
    pub challenges: Option<Challenges>,
    /// Who has certificates for the sites that bring none, and answers authorities.
    pub manager: Option<Manager>,
}

/// A failure that is no configuration's, in a sentence.
#[must_use]
pub fn refused(why: &str) -> Failure {
    let diagnostic = Diagnostic::error(codes::RUNTIME, why.to_owned());
    Failure { diagnostic, exit: Exit::Refused }
}

/// Starts what the plan says; `log` is kept as long as the server runs.
///
/// # Errors
/// [`Failure`] where the world has changed since the plan was made, or refuses.
pub fn start(plan: &Plan, log: Option<WriterGuard>, before: &Before) -> Result<Running, Failure> {
    let mut logs = Vec::new();
    let traffic = Arc::new(Traffic::default());
    let mut observers: Vec<Arc<dyn Observer>> = vec![traffic.clone(), Arc::new(Incidents)];
    if let Some((format, output)) = &plan.access_log {
        let (access, guard) =
            AccessLog::start(*format, output).map_err(|error| log_failure(&error))?;
        observers.push(Arc::new(access));
        logs.push(guard);
    }
    logs.extend(log);
    let tickets = Tickets::new(plan);
    let (server, world) = bind(plan, &Arc::new(Observers(observers)), before, &tickets)?;
    let handle = server.start().map_err(|error| {
        let help = match error {
            StartError::NoIoUring(_) => "set `io = \"auto\"`",
            _ => "ask for fewer `workers`",
        };
        failure(&error, help)
    })?;
    Ok(Running { handle, grace: plan.grace, traffic, tickets, world, logs })
}

impl Before {
    fn is_needed(&self) -> bool {
        self.challenges.is_some() || self.manager.is_some()
    }
}

impl Running {
    /// How it waits for its connections: `io_uring` or `epoll`.
    #[must_use]
    pub fn io(&self) -> &'static str {
        self.handle.io().name()
    }

    /// Where it listens, in the order of the plan's listeners.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        self.handle.local_addrs()
    }

    /// What was served.
    #[must_use]
    pub fn traffic(&self) -> TrafficStats {
        self.traffic.stats()
    }

    /// Leaves the keys of session tickets for the next process, whenever there are new ones; for a task of its own.
    ///
    /// # Cancel safety
    /// Dropped, it leaves what it left last.
    pub fn keep_tickets(&self) -> impl Future<Output = ()> + Send + use<> {
        self.tickets.clone().keep()
    }

    /// Serves the sites of this plan from now on; nothing else of it is looked at. All of them take the place of those
    /// before in one step, or none. Requests in progress go on as they began, and no connection is closed.
    ///
    /// # Errors
    /// [`Failure`]: nothing has changed.
    pub fn replace_sites(&self, plan: &mut Plan) -> Result<(), Failure> {
        let World { live, clients, files, https_port } = &self.world;
        let asks = plan.sites.iter().any(|site| site.client_auth.is_some());
        match clients {
            Some(clients) => clients.number(&mut plan.sites)?,
            None if asks => {
                let why = "no site has asked for client certificates before: that takes a restart";
                return Err(refused(why));
            }
            None => {}
        }
        let sites = Sites::new(plan, *https_port)?;
        // Certificates first: who connects for a new site finds its own.
        files.replace(plan);
        if let Some(clients) = clients {
            clients.ask_for(sites.trusts.clone());
        }
        live.replace(sites);
        Ok(())
    }

    /// Reads the certificates of sites, and who vouches for clients, anew. What cannot be used is told in the log and
    /// leaves in use what there is. Blocks on the disk.
    pub fn reload(&self) {
        self.world.files.read();
    }

    /// Reads them anew when their files change; for a task of its own.
    ///
    /// # Cancel safety
    /// Dropped, it has read a change or not.
    pub fn watch_files(&self) -> impl Future<Output = ()> + Send + use<> {
        self.world.files.clone().watch()
    }

    /// What tells the certificates that the sites bring, at the moment when it is asked.
    pub fn certificates(&self) -> impl Fn() -> Vec<Certificate> + Send + use<> {
        let files = self.world.files.clone();
        move || files.certificates()
    }

    /// Opens log files anew.
    pub fn reopen_logs(&self) {
        for log in &self.logs {
            log.reopen();
        }
    }

    /// Stops accepting, and lets what is in progress end within the grace period.
    ///
    /// # Cancel safety
    /// The drain goes on if the future is dropped.
    pub async fn drain(&self) -> DrainReport {
        // The next process may be started before this one has ended.
        self.tickets.leave();
        self.handle.drain_within(self.grace).await
    }

    /// Cuts everything off.
    pub fn abort(&self) {
        self.handle.abort();
    }
}

fn bind(
    plan: &Plan,
    observers: &Arc<Observers>,
    before: &Before,
    tickets: &Tickets,
) -> Result<(Server, World), Failure> {
    let early = bind_early(plan)?;
    let https_port = https_port(plan, early.as_ref());
    let sites = Sites::new(plan, https_port)?;
    let mut builder = Server::builder().limits(plan.connections.clone()).io(plan.io);
    if plan.workers > 0 {
        builder = builder.workers(plan.workers);
    }
    let (tls, shelf) = Tls::new(plan, before, tickets.for_tls());
    let clients = Clients::new(plan, sites.trusts.clone())?.map(Arc::new);
    let files = Reload::new(plan, shelf, clients.clone());
    let live = Arc::new(Live::new(sites, clients.clone()));
    let unbound = Unbound { plan, observers, tls, clients: clients.clone(), early, builder };
    let builder = unbound.listen_behind(before, live.clone())?;
    let server = builder.bind().map_err(|error| bind_failure(plan, error))?;
    Ok((server, World { live, clients, files, https_port }))
}

/// A server that knows no listeners yet.
struct Unbound<'a> {
    plan: &'a Plan,
    observers: &'a Arc<Observers>,
    tls: Tls,
    clients: Option<Arc<Clients>>,
    early: Option<TcpListener>,
    builder: ServerBuilder,
}

impl Unbound<'_> {
    fn listen_behind(self, before: &Before, sites: Arc<Live>) -> Result<ServerBuilder, Failure> {
        if !before.is_needed() {
            return self.listen(&sites);
        }
        let http01 = before.manager.as_ref().map(Manager::http01);
        self.listen(&Arc::new(Front::new(before.challenges.clone(), http01, sites)))
    }

    fn listen<H: Handler>(self, handler: &Arc<H>) -> Result<ServerBuilder, Failure> {
        let Self { plan, observers, tls, clients, mut early, mut builder } = self;
        for planned in &plan.listeners {
            let mut settings = Settings::default();
            settings.limits = plan.limits.clone();
            settings.observer = Some(observers.clone());
            settings.h2c_upgrade = planned.h2c_upgrade;
            let listener = match early.take_if(|_| planned.is_tls) {
                Some(socket) => Listener::from_std(vec![socket]),
                None => Listener::bind(planned.address),
            };
            let listener = listener.settings(settings);
            let mut listener = listener.protocol(match (planned.h1, planned.h2) {
                (true, false) => Protocol::Http1,
                (false, true) => Protocol::Http2,
                _ => Protocol::Auto,
            });
            if planned.is_tls {
                listener = listener.tls(tls.config(planned, clients.as_deref())?);
            }
            builder = builder.listen(listener, handler.clone());
        }
        Ok(builder)
    }
}

/// The socket of the first TLS listener, where sites lead to it and its port is any free one: the routes
/// must know the port before the server is bound.
fn bind_early(plan: &Plan) -> Result<Option<TcpListener>, Failure> {
    let is_wanted = plan.sites.iter().any(|site| site.redirects_to_https);
    match plan.listeners.iter().find(|listener| listener.is_tls) {
        Some(listener) if is_wanted && listener.address.port() == 0 => {
            let socket = TcpListener::bind(listener.address).map_err(|error| {
                let (diagnostic, exit) =
                    addresses::explain(listener.address, listener.span, &error);
                Failure { diagnostic, exit }
            })?;
            Ok(Some(socket))
        }
        _ => Ok(None),
    }
}

fn https_port(plan: &Plan, early: Option<&TcpListener>) -> u16 {
    let planned = || plan.listeners.iter().find(|listener| listener.is_tls);
    early
        .and_then(|socket| socket.local_addr().ok())
        .or_else(|| planned().map(|listener| listener.address))
        .map_or(HTTPS_PORT, |address| address.port())
}

/// Panics go to the log, with their place, in the place of standard error.
fn report_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let payload = info.payload();
            let message = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            let at = info.location().map(ToString::to_string).unwrap_or_default();
            let thread = std::thread::current();
            let thread = thread.name().unwrap_or("unnamed");
            tracing::error!(target: "hearth::panic", at, thread, "panicked: {message}");
        }));
    });
}

fn bind_failure(plan: &Plan, error: BindError) -> Failure {
    let address = error.address();
    let span = plan
        .listeners
        .iter()
        .find(|listener| listener.address == address)
        .map_or(Span::UNKNOWN, |listener| listener.span);
    let error = match error {
        BindError::AddressInUse { .. } => std::io::ErrorKind::AddrInUse.into(),
        BindError::AddressNotAvailable { .. } => std::io::ErrorKind::AddrNotAvailable.into(),
        BindError::PermissionDenied { .. } => std::io::ErrorKind::PermissionDenied.into(),
        BindError::Other { source, .. } => source,
        other => std::io::Error::other(other),
    };
    let (diagnostic, exit) = addresses::explain(address, span, &error);
    Failure { diagnostic, exit }
}

fn log_failure(error: &OpenError) -> Failure {
    let message = format!("{error}: {}", error.source);
    let diagnostic = Diagnostic::error(codes::LOG, message)
        .with_help("let the user that runs the server write there, or name another file");
    Failure { diagnostic, exit: Exit::Config }
}

fn failure(error: &dyn std::error::Error, help: &str) -> Failure {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        message = format!("{message}: {inner}");
        cause = inner.source();
    }
    let diagnostic = Diagnostic::error(codes::RUNTIME, message).with_help(help);
    Failure { diagnostic, exit: Exit::Failed }
}

fn bug(error: &dyn std::error::Error) -> Failure {
    failure(error, "this is a fault of the server; please report it")
}

/// Where browsers look for TLS.
pub(crate) const HTTPS_PORT: u16 = 443;
