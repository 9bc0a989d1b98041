//! `hearth ddns`

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use clap::{Args, Subcommand};
use hearth_netsvc::{
    address::Nat,
    ddns::{
        Account, DdnsStatus, FamilyStatus, Ipv6Source, Observed, Plan, PlannedHost,
        ProviderContext, Updater, UpdaterOptions, Verdict,
    },
    dns::{DnsClient, DnsOptions, Name},
    portmap::{MapperOptions, PortMapper},
};

use super::{
    ColorChoice, SourceArgs, complain,
    load::load_network,
    one_shot::{self, Answer},
};
use crate::{codes::Exit, outside, plan::network::Network, state};

#[derive(Debug, Args)]
pub(super) struct DdnsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Tell the service of section `ddns` this machine's address, unless the name servers show it already
    Update(UpdateArgs),
}

#[derive(Debug, Args)]
struct UpdateArgs {
    /// The configuration file; without it ./hearth.toml, if there is one
    #[arg(short, long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Set any key of the configuration, such as ddns.provider=duckdns
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The public IPv4 address; without it the sources of section `address` are asked
    #[arg(long, value_name = "ADDRESS")]
    address: Option<Ipv4Addr>,
    /// Send it even if nothing has changed
    #[arg(long)]
    force: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DdnsArgs, color: ColorChoice) -> Exit {
    let Action::Update(args) = &args.action;
    let source = SourceArgs::of_file(args.config.clone(), args.set.clone());
    match load_network(&source) {
        Ok((network, hosts)) => one_shot::run(update(args, &network, &hosts), args.json),
        Err(report) => {
            complain(&report, color);
            Exit::Config
        }
    }
}

async fn update(args: &UpdateArgs, network: &Network, hosts: &[String]) -> Answer {
    let mut updater = match updater(network, hosts, false) {
        Ok(updater) => updater,
        Err(why) => return Answer::refused(why),
    };
    let v4 = match args.address {
        Some(address) => address,
        None => match public_v4(network).await {
            Ok(address) => address,
            Err(answer) => return answer,
        },
    };
    if args.force {
        updater.force();
    }
    let status = updater.update(Observed { v4: Some(v4), ..Observed::default() }).await;
    tell(&status)
}

/// The address to publish, or why there is none.
async fn public_v4(network: &Network) -> Result<Ipv4Addr, Answer> {
    let router = if network.port_map.is_enabled {
        let mut options = MapperOptions::default();
        options.methods.clone_from(&network.port_map.methods);
        match PortMapper::discover(options).await {
            Ok(mapper) => mapper.external_address().await.ok(),
            Err(_) => None,
        }
    } else {
        None
    };
    match outside::public_v4(network, router).await {
        Ok((address, Nat::CarrierGrade)) => {
            let why = format!("{address} is the provider's, shared among many customers");
            Err(Answer::refused(why).with_help("run `hearth doctor`; --address insists"))
        }
        Ok((address, _)) => Ok(address),
        Err(error) => {
            let why = format!("the public address is not known: {error}");
            Err(Answer::try_later(why).with_help("check the connection, or give it by --address"))
        }
    }
}

/// The updater of a configuration; whether its names follow the IPv6 address too, where the service can.
///
/// # Errors
/// Why there is none, in a sentence.
pub(crate) fn updater(
    network: &Network,
    hosts: &[String],
    follows_v6: bool,
) -> Result<Updater, String> {
    let ddns = network.ddns.as_ref().ok_or("no service is configured: section `ddns`")?;
    let dns = DnsClient::new(DnsOptions::from_system());
    let client = outside::client(None).map_err(|error| error.to_string())?;
    let context = ProviderContext::new(client, dns.clone());
    let provider = ddns.settings.build(&context).map_err(|error| error.to_string())?;
    let names: BTreeSet<Name> = if ddns.hosts.is_empty() {
        let parsed = hosts.iter().map(|host| host.parse::<Name>());
        parsed.collect::<Result<_, _>>().map_err(|error| error.to_string())?
    } else {
        ddns.hosts.iter().cloned().collect()
    };
    let v6 = match follows_v6 && provider.capabilities().has_v6 {
        true => Ipv6Source::Own,
        false => Ipv6Source::None,
    };
    let planned = |name| PlannedHost::new(name, ACCOUNT).with_families(true, v6);
    let planned = names.into_iter().map(planned).collect();
    let plan = Plan::new(vec![Account::new(ACCOUNT, provider)], planned);
    let mut options = UpdaterOptions::new(Arc::new(dns));
    let folder = state::folder();
    state::make_private(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    options.state_path = Some(folder.join("ddns.json"));
    Updater::new(plan.map_err(|error| error.to_string())?, options)
        .map_err(|error| error.to_string())
}

fn tell(status: &DdnsStatus) -> Answer {
    let line = |(name, family): (&Name, &FamilyStatus)| match family {
        FamilyStatus::Current { address, .. } => format!("{name} is at {address}"),
        FamilyStatus::Stopped { trouble, .. } => {
            format!("{name}: {} [{}]\n  help: {}", trouble.text, trouble.code, trouble.fix)
        }
        FamilyStatus::Waiting { address, trouble: Some(trouble), .. } => {
            format!("{name} is not yet at {address}: {} [{}]", trouble.text, trouble.code)
        }
        FamilyStatus::Waiting { address, .. } => format!("{name} is not yet at {address}"),
        other => format!("{name}: {other:?}"),
    };
    let lines: Vec<_> = status.hosts.iter().map(|host| line((&host.name, &host.v4))).collect();
    let human = lines.join("\n");
    let answer = match status.verdict() {
        Verdict::Done => Answer::done(human),
        Verdict::Later => Answer::try_later(human),
        _ => Answer::refused(human),
    };
    answer.with("hosts", serde_json::to_value(&status.hosts).unwrap_or_default())
}

/// One account is configured.
const ACCOUNT: &str = "ddns";
