//! The command line.

mod cert;
mod check;
#[cfg(target_os = "linux")]
mod db;
mod ddns;
mod doctor;
mod load;
mod one_shot;
mod port_map;
mod probe;
mod reload;
mod serve;
mod status;
mod up;

use std::{
    ffi::OsString,
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use hearth_config::{Report, Style};

use crate::{codes::Exit, reference};

/// A web server: takes a folder to the internet.
#[derive(Debug, Parser)]
#[command(name = "hearth", version, about, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// When output is coloured
    #[arg(long, value_enum, global = true, default_value_t, value_name = "WHEN")]
    color: ColorChoice,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a folder, or what a configuration file says
    Serve(ServeArgs),
    /// Say whether `serve` would start with the same arguments, and what is wrong
    Check(CheckArgs),
    /// Take a site from behind a router to public HTTPS, and keep it there
    Up(up::UpArgs),
    /// Say how a running `up` does
    Status(status::StatusArgs),
    /// Say what keeps a site from being reached, why, and what to do
    Doctor(doctor::DoctorArgs),
    /// Have, renew, revoke, import and list certificates
    Cert(cert::CertArgs),
    /// Keep a name at this machine's address
    Ddns(ddns::DdnsArgs),
    /// Ask the router to lead ports to this machine
    PortMap(port_map::PortMapArgs),
    /// Look at a site from outside, or at those who ask
    Probe(probe::ProbeArgs),
    /// Look into a document store, change it, verify it, back it up; `hearth db DIR shell` for many commands
    #[cfg(target_os = "linux")]
    Db(Box<hearth_jsonstore::cli::Arguments>),
    /// Print a part of the manual that is made from the program itself
    Reference(ReferenceArgs),
}

/// What is served, for `serve` and `check` alike.
#[derive(Debug, Clone, Default, Args)]
pub struct SourceArgs {
    /// The folder that is served; without it and without -c: ./hearth.toml if there is one, else this folder
    #[arg(value_name = "DIR", conflicts_with = "config")]
    dir: Option<PathBuf>,
    /// The configuration file: TOML, or JSON or YAML by its extension; HEARTH_CONFIG names it too
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any key of the configuration, such as limits.max_body_size=10MiB
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Listen here instead: ADDRESS:PORT, :PORT (all addresses), or PORT (this machine only)
    #[arg(short, long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Certificate in PEM form: speak TLS
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "config")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM form
    #[arg(long, value_name = "FILE", requires = "tls_cert", conflicts_with = "config")]
    tls_key: Option<PathBuf>,
    /// Answer paths without a file with index.html, for applications that route in the browser
    #[arg(long, conflicts_with = "config")]
    spa: bool,
    /// Show a list of files for folders without index.html
    #[arg(long, conflicts_with = "config")]
    listing: bool,
    /// Write a line for each request to this file, `stdout` or `stderr`; `off` for none
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace, also by component: info,net=debug
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Threads that serve; default: one for each core
    #[arg(long, value_name = "COUNT")]
    workers: Option<u16>,
}

impl SourceArgs {
    /// A file, or what stands for it; and nothing of what is served.
    fn of_file(config: Option<PathBuf>, set: Vec<String>) -> Self {
        Self { config, set, ..Self::default() }
    }
}

#[derive(Debug, Args)]
struct ServeArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// If the port is in use, take the next one that is free
    #[arg(long)]
    port_fallback: bool,
    /// Open the site in the browser
    #[arg(long)]
    open: bool,
    /// Say on standard output, as one line of JSON, when and where the server listens
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ReferenceArgs {
    /// Which part
    #[arg(value_enum)]
    part: reference::Part,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    Always,
    Never,
}

impl ColorChoice {
    fn is_wanted(self, stream: &impl IsTerminal) -> bool {
        match self {
            Self::Auto => {
                stream.is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
            Self::Always => true,
            Self::Never => false,
        }
    }

    fn style(self, stream: &impl IsTerminal) -> Style {
        if self.is_wanted(stream) { Style::Ansi } else { Style::Plain }
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { command, color } = match Cli::try_parse_from(arguments()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and are no errors.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            let _ = error.print();
            return exit.into();
        }
    };
    let exit = match command {
        Command::Serve(args) => serve::run(&args, color),
        Command::Check(args) => check::run(&args, color),
        Command::Up(args) => up::run(&args, color),
        Command::Status(args) => status::run(&args, color),
        Command::Cert(args) => cert::run(&args, color),
        Command::Doctor(args) => doctor::run(&args, color),
        Command::Ddns(args) => ddns::run(&args, color),
        Command::PortMap(args) => port_map::run(&args),
        Command::Probe(args) => probe::run(&args),
        #[cfg(target_os = "linux")]
        Command::Db(args) => db::run(*args),
        Command::Reference(args) => {
            say(&reference::text(args.part));
            Exit::Ok
        }
    };
    exit.into()
}

/// What this process was given, put in the order in which clap understands it.
fn arguments() -> Vec<OsString> {
    #[cfg_attr(not(target_os = "linux"), expect(unused_mut, reason = "there is no `db`"))]
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    #[cfg(target_os = "linux")]
    if let [_, command, rest @ ..] = &mut arguments[..]
        && *command == "db"
    {
        hearth_jsonstore::cli::put_in_order(rest);
    }
    arguments
}

/// The command line as clap knows it, for the manual.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// Writes to standard output; that nobody reads it is no error.
fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn complain(report: &Report, color: ColorChoice) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(report.to_human(color.style(&stderr)).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_no_contradiction() {
        command().debug_assert();
    }
}
