//! `hearth doctor`

use std::io::stdout;

use clap::Args;
use hearth_netsvc::dns::Name;

use super::{
    ColorChoice, SourceArgs, complain,
    load::load_network,
    one_shot::{self, Answer},
};
use crate::{
    codes::Exit,
    doctor::{
        diagnose::{Diagnosis, Severity, diagnose},
        facts::{Facts, Seen},
        gather::Gatherer,
    },
    plan::network::Network,
};

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// The name that the site shall be reached by; without it the first host of the configuration
    #[arg(value_name = "DOMAIN")]
    domain: Option<String>,
    /// The configuration file; without it ./hearth.toml, if there is one
    #[arg(short, long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Set any key of the configuration
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print facts and diagnoses as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DoctorArgs, color: ColorChoice) -> Exit {
    let source = SourceArgs::of_file(args.config.clone(), args.set.clone());
    let (network, hosts) = match load_network(&source) {
        Ok(loaded) => loaded,
        Err(report) => {
            complain(&report, color);
            return Exit::Config;
        }
    };
    let Some(domain) = args.domain.clone().or_else(|| hosts.first().cloned()) else {
        return Answer::refused("which site? name its domain")
            .with_exit(Exit::Usage)
            .tell(args.json);
    };
    let domain: Name = match domain.parse() {
        Ok(domain) => domain,
        Err(error) => {
            let why = format!("`{domain}` is not a domain: {error}");
            return Answer::refused(why).with_exit(Exit::Usage).tell(args.json);
        }
    };
    let has_color = color.is_wanted(&stdout());
    one_shot::run(examine(domain, &network, has_color), args.json)
}

async fn examine(domain: Name, network: &Network, has_color: bool) -> Answer {
    let is_serving = crate::status::is_running();
    let facts = Gatherer { domain, network, is_serving }.gather().await;
    let diagnoses = diagnose(&facts);
    let json = serde_json::to_value(&diagnoses).unwrap_or_default();
    let answer = Answer::done(tell(&facts, &diagnoses, has_color))
        .with("healthy", diagnoses.is_empty())
        .with("diagnoses", json)
        .with("facts", serde_json::to_value(&facts).unwrap_or_default());
    if diagnoses.is_empty() { answer } else { answer.with_exit(Exit::Unwell) }
}

fn tell(facts: &Facts, diagnoses: &[Diagnosis], has_color: bool) -> String {
    let mut lines = vec![format!("hearth doctor: {}", facts.domain), String::new()];
    lines.extend(checks(facts));
    for diagnosis in diagnoses {
        let Diagnosis { code, severity, title, cause, fix } = diagnosis;
        let (severity, color) = match severity {
            Severity::Error => ("error", "\x1b[31m"),
            Severity::Warning => ("warning", "\x1b[33m"),
            Severity::Unknown => ("unknown", "\x1b[33m"),
        };
        let (color, reset) = if has_color { (color, "\x1b[0m") } else { ("", "") };
        lines.push(format!(
            "\n{color}{severity}[{code}]{reset}: {title}\n  cause: {cause}\n  fix:   {fix}"
        ));
    }
    if diagnoses.is_empty() {
        lines.push("\nEverything was seen to work.".to_owned());
    }
    lines.join("\n")
}

/// What was looked at, in the order in which a connection comes.
fn checks(facts: &Facts) -> Vec<String> {
    let known = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
    let row = |what: &str, found: String| format!("  {what:<16} {found}");
    let clock = facts.clock_ahead_seconds.map(|ahead| format!("{ahead:+} s"));
    let mut rows = vec![
        row("clock", known(clock)),
        row("router", known(facts.gateway.map(|ip| ip.to_string()))),
        row("router outside", known(facts.router_external.map(|ip| ip.to_string()))),
        row("public address", known(facts.public_v4.map(|ip| ip.to_string()))),
    ];
    for (port, state) in &facts.ports {
        let outside = match &state.outside {
            Seen::Another => "somebody else answers".to_owned(),
            Seen::Failed(why) => format!("not reached ({why})"),
            Seen::Here => "reached".to_owned(),
            Seen::Unknown => "nobody looked".to_owned(),
        };
        rows.push(row(&format!("port {port}"), format!("from outside: {outside}")));
    }
    for server in facts.dns.iter().flat_map(|dns| &dns.servers) {
        let addresses = server.addresses.as_ref().map(|list| match list.is_empty() {
            true => "no address".to_owned(),
            false => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        });
        rows.push(row("name server", format!("{}: {}", server.name, known(addresses))));
    }
    for authority in &facts.certificate.authorities {
        let state = match (&authority.limited, &authority.error) {
            (Some((wait, _)), _) => format!("takes no orders for {wait} s"),
            (None, Some(why)) => why.clone(),
            (None, None) => "answers".to_owned(),
        };
        rows.push(row("authority", format!("{}: {state}", authority.name)));
    }
    rows
}
