//! `hearth up`

use std::{
    collections::BTreeMap,
    io::{IsTerminal, stdout},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};

use clap::Args;
use hearth_netsvc::{dns::Name, gateway, reach::Challenges};

use super::{
    ColorChoice, SourceArgs, complain, ddns,
    load::{Loaded, load_up},
    one_shot::Answer,
    reload::{Names, Operator},
    serve,
};
use crate::{
    assemble::{self, Before, Failure},
    certificates,
    codes::Exit,
    outside::Door,
    plan::Plan,
    signals::{Order, Signals},
    state,
    status::Lock,
    system,
    up::{
        Keep,
        board::{Board, Show},
        keep,
    },
};

#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// The name that the site shall be reached by
    #[arg(value_name = "DOMAIN")]
    domain: String,
    /// The folder that is served, unless the configuration has a site of that name
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The configuration file; without it ./hearth.toml, if there is one
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any key of the configuration, such as tls.acme.email=me@example.com
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Tell each change as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &UpArgs, color: ColorChoice) -> Exit {
    let refuse = |why: String, exit| Answer::refused(why).with_exit(exit).tell(args.json);
    let domain: Name = match args.domain.parse() {
        Ok(domain) => domain,
        Err(error) => {
            return refuse(format!("`{}` is not a domain: {error}", args.domain), Exit::Usage);
        }
    };
    let source = SourceArgs::of_file(args.config.clone(), args.set.clone());
    let Loaded { plan, document, mut report, .. } =
        match load_up(&source, &domain.to_string(), args.dir.as_ref()) {
            Ok(loaded) => loaded,
            Err(report) => {
                complain(&report, color);
                return Exit::Config;
            }
        };
    let exit = assemble::check_addresses(&plan, &mut report);
    if !report.is_empty() {
        complain(&report, color);
    }
    if exit != Exit::Ok {
        return exit;
    }
    let lock = match Lock::take() {
        Ok(lock) => lock,
        Err(error) => {
            let why = format!("another `hearth up` of this user runs already, or {error}");
            return refuse(why, Exit::Refused);
        }
    };
    system::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return refuse(error.to_string(), Exit::Failed),
    };
    let show = show(args, color);
    let names = Names::Fixed(plan.managed());
    let (name, dir) = (domain.to_string(), args.dir.clone());
    let again = move || load_up(&source, &name, dir.as_ref());
    let operator = Operator::new(again, document, names);
    match runtime.block_on(up(&plan, domain, operator, lock, show)) {
        Ok(exit) => exit,
        Err(failure) => serve::fail(report, failure, color),
    }
}

fn show(args: &UpArgs, color: ColorChoice) -> Show {
    if args.json {
        Show::Json
    } else if stdout().is_terminal() {
        Show::Live { has_color: color.is_wanted(&stdout()) }
    } else {
        Show::Lines
    }
}

async fn up(
    plan: &Plan,
    domain: Name,
    mut operator: Operator,
    lock: Lock,
    show: Show,
) -> Result<Exit, Failure> {
    let mut signals = Signals::new().map_err(|error| serve::runtime_failure(&error))?;
    let log = assemble::install_log(plan)?;
    let board = Arc::new(Board::new(&domain.to_string(), lock, show));
    let acme = plan.network.acme.clone().unwrap_or_default();
    let failed = |why: String| assemble::refused(&why);
    let manager = certificates::manager(&acme, plan.network.ddns.as_ref()).map_err(failed)?;
    let secret = state::secret(&state::folder(), "probe-secret")
        .map_err(|error| failed(error.to_string()))?;
    let challenges = Challenges::new(secret);
    let before = Before { challenges: Some(challenges.clone()), manager: Some(manager.clone()) };
    let running = assemble::start(plan, Some(log), &before)?;
    // It ends with the runtime.
    let _kept = tokio::spawn(running.keep_tickets());
    let _read = tokio::spawn(running.watch_files());
    let addresses: Vec<_> = running.addresses().iter().map(ToString::to_string).collect();
    board.ok("listen", addresses.join(", "));
    let doors = running.addresses().iter().zip(&plan.listeners);
    let doors = doors.map(|(address, listener)| (address.port(), listener.is_tls));
    let doors: BTreeMap<u16, bool> = doors.collect();
    let doors = doors.into_iter().map(|(port, is_tls)| Door { port, is_tls }).collect();
    // Hosts behind a router have to be let in by it, whatever the family.
    let takes_v6 = running.addresses().iter().any(|address| match address.ip() {
        IpAddr::V6(ip) => ip.is_unspecified() || gateway::is_public(ip.into()),
        IpAddr::V4(_) => false,
    });
    let local = gateway::addresses().unwrap_or_default();
    let public_v6 = takes_v6.then(|| gateway::stable_ipv6(&local)).flatten();
    let names = plan.managed();
    let updater = match plan.network.ddns {
        Some(_) => {
            let updater = ddns::updater(&plan.network, &names.concat(), public_v6.is_some());
            Some(updater.map_err(failed)?)
        }
        None => None,
    };
    let network = plan.network.clone();
    let kept = Keep { domain, names, doors, public_v6, network, manager, challenges, board };
    let stop = async {
        loop {
            match signals.next().await {
                Order::Stop => return,
                order => operator.obey(&running, order).await,
            }
        }
    };
    keep(kept, updater, stop).await;
    Ok(serve::stop(&running, signals).await)
}
