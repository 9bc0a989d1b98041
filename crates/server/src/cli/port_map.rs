//! `hearth port-map`

use std::{net::IpAddr, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use hearth_config::HumanDuration;
use hearth_netsvc::portmap::{
    ListedMapping, MapError, MapRequest, MapperOptions, Mapping, Method, PortMapper, Protocol,
};
use serde_json::{Value, json};

use super::one_shot::{self, Answer};
use crate::{codes::Exit, state};

#[derive(Debug, Args)]
pub(super) struct PortMapArgs {
    #[command(subcommand)]
    action: Action,
    /// Speak only this to the router; may be given several times
    #[arg(long, value_enum, global = true, value_name = "METHOD")]
    method: Vec<MethodArg>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Tell the router's external address
    ExternalIp,
    /// Let the router lead a port to this machine, until the lease ends
    Add(AddArgs),
    /// Show the router's mappings, of other machines too
    List,
    /// Take away this machine's mapping of a port
    Delete(PortArgs),
}

#[derive(Debug, Args)]
struct AddArgs {
    #[command(flatten)]
    port: PortArgs,
    /// Where it arrives on this machine; the same port by default
    #[arg(long, value_name = "PORT")]
    to: Option<u16>,
    /// Another machine than this one; most routers refuse that
    #[arg(long, value_name = "ADDRESS")]
    to_address: Option<IpAddr>,
    /// For how long
    #[arg(long, value_name = "DURATION", default_value = "2h", value_parser = duration)]
    lease: Duration,
    /// What the router's table shall say
    #[arg(long, value_name = "TEXT", default_value = "hearth")]
    description: String,
}

#[derive(Debug, Args)]
struct PortArgs {
    /// The port of the router
    #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// UDP in the place of TCP
    #[arg(long)]
    udp: bool,
}

impl PortArgs {
    fn protocol(&self) -> Protocol {
        if self.udp { Protocol::Udp } else { Protocol::Tcp }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MethodArg {
    /// Port Control Protocol
    Pcp,
    /// NAT Port Mapping Protocol
    NatPmp,
    /// UPnP Internet Gateway Device
    Upnp,
}

impl From<MethodArg> for Method {
    fn from(method: MethodArg) -> Self {
        match method {
            MethodArg::Pcp => Self::Pcp,
            MethodArg::NatPmp => Self::NatPmp,
            MethodArg::Upnp => Self::Upnp,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Result<HumanDuration, _> = text.parse();
    parsed.map(HumanDuration::get).map_err(|error| error.to_string())
}

pub(super) fn run(args: &PortMapArgs) -> Exit {
    let work = async { act(args).await.unwrap_or_else(|error| explain(&error)) };
    one_shot::run(work, args.json)
}

async fn act(args: &PortMapArgs) -> Result<Answer, MapError> {
    let mut options = MapperOptions::default();
    if !args.method.is_empty() {
        options.methods = args.method.iter().copied().map(Method::from).collect();
    }
    // A later process can take away what this one has made.
    options.pcp_secret = state::secret(&state::folder(), "pcp-secret").ok();
    let mapper = PortMapper::discover(options).await?;
    match &args.action {
        Action::ExternalIp => {
            let address = mapper.external_address().await?.to_string();
            Ok(Answer::done(&address).with("address", address))
        }
        Action::Add(args) => add(&mapper, args).await,
        Action::List => {
            let list = mapper.list().await?;
            let lines: Vec<_> = list.iter().map(line).collect();
            let human = if lines.is_empty() { "no mappings".to_owned() } else { lines.join("\n") };
            Ok(Answer::done(human).with("mappings", list.iter().map(row).collect::<Vec<_>>()))
        }
        Action::Delete(port) => {
            mapper.delete_port(port.protocol(), port.port).await?;
            let human = format!("{} port {} is not mapped any more", port.protocol(), port.port);
            Ok(Answer::done(human).with("external_port", port.port))
        }
    }
}

async fn add(mapper: &PortMapper, args: &AddArgs) -> Result<Answer, MapError> {
    let internal = args.to.unwrap_or(args.port.port);
    let wish = match args.port.protocol() {
        Protocol::Tcp => MapRequest::tcp(internal),
        Protocol::Udp => MapRequest::udp(internal),
    };
    let mut wish = wish.with_external_port(args.port.port).with_lease(args.lease);
    wish = wish.with_description(&args.description);
    if let Some(address) = args.to_address {
        wish = wish.with_internal_address(address);
    }
    let mapping = mapper.add(&wish).await?;
    Ok(told(&mapping))
}

fn told(mapping: &Mapping) -> Answer {
    let Mapping { protocol, external_port, internal, method, lease, .. } = mapping;
    let until = lease.map_or_else(
        || "until it is deleted".to_owned(),
        |lease| format!("for {} s", lease.as_secs()),
    );
    Answer::done(format!(
        "{protocol} port {external_port} leads to {internal} {until} (by {method})"
    ))
    .with("protocol", protocol.to_string())
    .with("external_port", *external_port)
    .with("internal", internal.to_string())
    .with("method", method.to_string())
    .with("lease_seconds", lease.map(|lease| lease.as_secs()))
    .with("verified", mapping.is_verified)
}

fn line(mapping: &ListedMapping) -> String {
    let ListedMapping { protocol, external_port, internal, description, .. } = mapping;
    // Whoever made the mapping chose these words: none of them may steer the terminal.
    let clean = |char: char| if char.is_control() { '?' } else { char };
    let description: String = description.chars().map(clean).collect();
    format!("{protocol} {external_port:>5} -> {internal}  {description}")
}

fn row(mapping: &ListedMapping) -> Value {
    json!({
        "protocol": mapping.protocol.to_string(),
        "external_port": mapping.external_port,
        "internal": mapping.internal.to_string(),
        "enabled": mapping.is_enabled,
        "description": mapping.description,
        "lease_seconds": mapping.lease.map(|lease| lease.as_secs()),
    })
}

fn explain(error: &MapError) -> Answer {
    let why = error.to_string();
    let answer = if error.is_transient() { Answer::try_later(why) } else { Answer::refused(why) };
    match error {
        MapError::NoRouter { .. } => answer
            .with_help("switch on UPnP, NAT-PMP or PCP in the router, or forward the port by hand"),
        MapError::NoGateway => answer.with_help("connect this machine to a network: `ip route`"),
        _ => answer,
    }
}
