//! `hearth serve`

use std::{
    collections::HashMap,
    io::{IsTerminal, stdout},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use hearth_config::{Diagnostic, Report};
use hearth_net::{Certificate, DrainReport};
use hearth_tls_acme::{Attention, Code, Event, ExpiryGauge, ExpiryLevel, Manager};

use super::{
    ColorChoice, ServeArgs, complain,
    load::{Loaded, Source, load},
    reload::{Names, Operator, reopen},
    say,
};
use crate::{
    assemble::{self, Before, Failure, Running},
    banner::{Banner, Bound},
    certificates,
    codes::{self, Exit},
    plan::{Plan, network::Acme},
    signals::{Order, Signals},
    system,
};

pub(super) fn run(args: &ServeArgs, color: ColorChoice) -> Exit {
    let loaded = match load(&args.source) {
        Ok(loaded) => loaded,
        Err(report) => {
            complain(&report, color);
            return Exit::Config;
        }
    };
    let Loaded { mut plan, source, document, mut report } = loaded;
    if args.port_fallback {
        assemble::fall_back(&mut plan.listeners);
    }
    // Tried before anything is started, so that every address that cannot be had is told at once, and
    // in the words of `check`.
    let exit = assemble::check_addresses(&plan, &mut report);
    if exit != Exit::Ok {
        complain(&report, color);
        return exit;
    }
    if !report.is_empty() {
        complain(&report, color);
    }
    system::raise_file_limit();
    let runtime = system::check_room_for_files(DESCRIPTORS_MIN)
        .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(report, runtime_failure(&error), color),
    };
    let result = runtime.block_on(async {
        // Before the banner: who reads it may send a signal at once.
        let signals = Signals::new().map_err(|error| runtime_failure(&error))?;
        let (serving, listeners, hosts) = describe(&plan, &source);
        let log = assemble::install_log(&plan)?;
        let before = before(&plan)?;
        let running = assemble::start(&plan, Some(log), &before)?;
        // These end with the runtime.
        let own = running.certificates();
        let _watched = before.manager.is_none().then(|| tokio::spawn(watch_expiry(own)));
        let names = match (before.manager, plan.network.acme.clone()) {
            (Some(manager), Some(acme)) => Names::Managed(manager, Box::new(acme)),
            _ => Names::None,
        };
        let _managed = match &names {
            Names::Managed(manager, acme) => {
                Some(tokio::spawn(manage(plan.managed(), Acme::clone(acme), manager.clone())))
            }
            _ => None,
        };
        let _kept = tokio::spawn(running.keep_tickets());
        let _read = tokio::spawn(running.watch_files());
        announce(args, color, serving, listeners, &hosts, &running);
        let source = args.source.clone();
        let operator = Operator::new(move || load(&source), document, names);
        Ok(serve(&running, operator, signals).await)
    });
    match result {
        Ok(exit) => exit,
        Err(failure) => fail(report, failure, color),
    }
}

/// What an authority needs, where one is configured.
fn before(plan: &Plan) -> Result<Before, Failure> {
    let Some(acme) = &plan.network.acme else { return Ok(Before::default()) };
    let manager = certificates::manager(acme, plan.network.ddns.as_ref());
    let manager = manager.map_err(|why| assemble::refused(&why))?;
    Ok(Before { challenges: None, manager: Some(manager) })
}

/// Has certificates for the sites that bring none.
async fn manage(names: Vec<Vec<String>>, acme: Acme, manager: Manager) {
    let requests = names.iter().map(|names| certificates::request(names, &acme));
    let managed = match requests.collect::<Result<Vec<_>, _>>() {
        Ok(requests) => manager.manage(requests).await.map_err(|error| error.to_string()),
        Err(why) => Err(why),
    };
    if let Err(why) = managed {
        tracing::error!(target: "hearth", "no certificates are had: {why}");
    }
    let mut events = manager.events();
    let told = async {
        while let Ok(event) = events.recv().await {
            match event {
                Event::Issued { id, authority, .. } => {
                    tracing::info!(target: "hearth", id, authority, "a new certificate is in use");
                }
                Event::Failed { id, attention, .. } => {
                    let Attention { sentence, fix, code, .. } = attention;
                    tracing::warn!(target: "hearth", id, fix, code = code.as_str(), "{sentence}");
                }
                _ => {}
            }
        }
    };
    tokio::join!(manager.run(std::future::pending()), told);
}

/// Tells that certificates end which the sites bring themselves. Where there is a manager it does so.
async fn watch_expiry(certificates: impl Fn() -> Vec<Certificate>) {
    let mut told: HashMap<String, ExpiryLevel> = HashMap::new();
    loop {
        for certificate in certificates() {
            let ExpiryGauge { id, seconds_left, level, .. } =
                ExpiryGauge::of(&certificate, SystemTime::now());
            if told.insert(id.clone(), level).unwrap_or(ExpiryLevel::Fine) == level {
                continue;
            }
            let fix = "renew it and replace the files; they are read anew";
            let days = seconds_left / 86_400;
            match level {
                ExpiryLevel::Error | ExpiryLevel::Warning => {
                    let code = Code::CertificateExpiring.as_str();
                    tracing::warn!(target: "hearth", id, code, fix, "the certificate ends in {days} days");
                }
                ExpiryLevel::Expired => {
                    let code = Code::CertificateExpired.as_str();
                    tracing::error!(target: "hearth", id, code, fix, "the certificate has ended");
                }
                _ => {}
            }
        }
        tokio::time::sleep(EXPIRY_PAUSE).await;
    }
}

/// Serves until it is told to stop.
async fn serve(running: &Running, mut operator: Operator, mut signals: Signals) -> Exit {
    loop {
        match signals.next().await {
            Order::Stop => break,
            order => operator.obey(running, order).await,
        }
    }
    stop(running, signals).await
}

/// Lets requests in progress end, unless it is told a second time.
pub(super) async fn stop(running: &Running, mut signals: Signals) -> Exit {
    tracing::info!(target: "hearth", "stopping: requests in progress are answered");
    let drain = running.drain();
    tokio::pin!(drain);
    let report = loop {
        tokio::select! {
            report = &mut drain => break report,
            order = signals.next() => match order {
                Order::Stop => {
                    tracing::warn!(target: "hearth", "stopped at once by a second signal");
                    running.abort();
                    return Exit::CutOff;
                }
                Order::Reopen => reopen(running),
                // What comes next is the next process's.
                Order::Reload => {}
            },
        }
    };
    conclude(running, &report)
}

fn conclude(running: &Running, report: &DrainReport) -> Exit {
    let DrainReport { open, active, aborted, stuck_workers, duration, .. } = *report;
    let requests = running.traffic().requests;
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if aborted == 0 && stuck_workers == 0 {
        tracing::info!(target: "hearth", requests, open, active, millis, "stopped");
        return Exit::Ok;
    }
    tracing::warn!(
        target: "hearth",
        requests, open, active, aborted, stuck_workers, millis,
        "stopped; some connections had to be cut off"
    );
    Exit::CutOff
}

/// What the banner says of a plan.
fn describe(plan: &Plan, source: &Source) -> (String, Vec<Bound>, Vec<String>) {
    let serving = match source {
        Source::Folder(folder) => folder.display().to_string(),
        Source::File(file) => {
            let count = plan.sites.len();
            format!("{count} site{} of {}", if count == 1 { "" } else { "s" }, file.display())
        }
    };
    let bound = |listener: &crate::plan::Listener| {
        let words =
            [(listener.h1, "h1"), (listener.h2, "h2"), (listener.h2c_upgrade, "h2c-upgrade")];
        Bound {
            address: listener.address,
            tls: listener.is_tls,
            protocols: words.iter().filter(|(is_on, _)| *is_on).map(|(_, word)| *word).collect(),
        }
    };
    let listeners = plan.listeners.iter().map(bound).collect();
    let hosts = plan.sites.iter().flat_map(|site| site.hosts.iter().cloned()).collect();
    (serving, listeners, hosts)
}

fn announce(
    args: &ServeArgs,
    color: ColorChoice,
    serving: String,
    mut listeners: Vec<Bound>,
    hosts: &[String],
    running: &Running,
) {
    for (bound, address) in listeners.iter_mut().zip(running.addresses()) {
        bound.address = *address;
    }
    let banner = Banner::new(serving, listeners, hosts);
    if args.json {
        say(&banner.to_json());
    } else if stdout().is_terminal() {
        say(&banner.to_human(color.is_wanted(&stdout())));
    }
    // On a terminal the banner has said it.
    if args.json || !stdout().is_terminal() {
        for bound in &banner.listeners {
            let (address, tls) = (bound.address, bound.tls);
            let (serving, io) = (&banner.serving, running.io());
            tracing::info!(target: "hearth", %address, tls, serving, io, "listening");
        }
    }
    if let (true, Some(url)) = (args.open, banner.urls.first()) {
        open(&url.url);
    }
}

/// Opens the browser. That there is none is no reason not to serve.
fn open(url: &str) {
    let (program, arguments) = system::opener();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match command.spawn() {
        Ok(mut child) => {
            // It must be waited for, or it stays as a zombie.
            std::thread::spawn(move || drop(child.wait()));
        }
        Err(error) => {
            tracing::warn!(target: "hearth", "cannot open the browser with {program}: {error}");
        }
    }
}

pub(super) fn runtime_failure(error: &std::io::Error) -> Failure {
    let message = format!("cannot wait for events: {error}");
    let diagnostic = Diagnostic::error(codes::RUNTIME, message)
        .with_help("raise the limit of open files: ulimit -n");
    Failure { diagnostic, exit: Exit::Failed }
}

pub(super) fn fail(mut report: Report, failure: Failure, color: ColorChoice) -> Exit {
    report.push(failure.diagnostic);
    complain(&report, color);
    failure.exit
}

/// The shortest certificates there are live six days.
const EXPIRY_PAUSE: Duration = Duration::from_secs(600);
/// For the event loop, its signals and one listener.
const DESCRIPTORS_MIN: usize = 12;
