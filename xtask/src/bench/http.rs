//! `cargo xtask bench http`: servers side by side, one worker on one core each.
//!
//! The server runs on core 0, the load on core 1. What counts is server CPU per request: it does not
//! change when the load generator is the limit, or when something else runs on the machine.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};

use super::{
    servers::{self, SERVERS, Server, Site},
    table::{self, Row, Unit},
};
use crate::programs;

pub(super) const TEXT: &str = "Hello, World!";

const HELP: &str = "\
cargo xtask bench http [--servers A,B] [--workloads A,B] [--seconds N] [--rounds N] [--out FILE]

Without options: every server that is here, every workload, 3 rounds of 3 seconds.
The program in $HEARTH_REFEREE, where set, is measured as `hearth`.
";

/// How the load of a workload is made.
enum Load {
    /// wrk over HTTP/1.1: connections, pipelined requests, `Accept-Encoding`.
    H1 { connections: u32, pipeline: u32, encoding: &'static str, tls: bool },
    /// h2load over TLS: connections, streams each.
    H2 { connections: u32, streams: u32 },
    /// Full TLS handshakes, one after the other.
    Handshakes,
    /// Kept-alive connections that do nothing.
    Idle { connections: usize },
    /// From start to first answer.
    Cold,
}

struct Workload {
    name: &'static str,
    needs: &'static str,
    path: &'static str,
    load: Load,
    text: &'static str,
}

const fn h1(connections: u32) -> Load {
    Load::H1 { connections, pipeline: 1, encoding: "", tls: false }
}

const fn compressed(encoding: &'static str) -> Load {
    Load::H1 { connections: 16, pipeline: 1, encoding, tls: false }
}

const fn workload(
    name: &'static str,
    needs: &'static str,
    path: &'static str,
    load: Load,
    text: &'static str,
) -> Workload {
    Workload { name, needs, path, load, text }
}

const H2: Load = Load::H2 { connections: 8, streams: 32 };
const PIPE: Load = Load::H1 { connections: 64, pipeline: 16, encoding: "", tls: false };
const TLS: Load = Load::H1 { connections: 64, pipeline: 1, encoding: "", tls: true };
const WORKLOADS: &[Workload] = &[
    workload("text", "text", "/plaintext", h1(64), "HTTP/1.1 plain text, 64 connections"),
    workload("pipe", "text", "/plaintext", PIPE, "the same, 16 requests pipelined"),
    workload("json", "json", "/json", h1(64), "HTTP/1.1 JSON, 64 connections"),
    workload("param", "param", "/users/123", h1(64), "HTTP/1.1 route /users/{id}"),
    workload("s1k", "static", "/s/1k.html", h1(64), "HTTP/1.1 file of 1 KB"),
    workload("s100k", "static", "/s/100k.bin", h1(32), "HTTP/1.1 file of 100 KB"),
    workload("s10m", "static", "/s/10m.bin", h1(8), "HTTP/1.1 file of 10 MB"),
    workload("tls1k", "static tls", "/s/1k.html", TLS, "HTTP/1.1 over TLS, file of 1 KB"),
    workload(
        "h2text",
        "text h2",
        "/plaintext",
        H2,
        "HTTP/2 plain text, 8 connections × 32 streams",
    ),
    workload("h2-1k", "static h2", "/s/1k.html", H2, "HTTP/2 file of 1 KB"),
    workload("h2-100k", "static h2", "/s/100k.bin", H2, "HTTP/2 file of 100 KB"),
    workload("gzip", "gzip", "/z/data.json", compressed("gzip"), "100 KB JSON, gzip on the fly"),
    workload("br", "br", "/z/data.json", compressed("br"), "100 KB JSON, brotli on the fly"),
    workload("zstd", "zstd", "/z/data.json", compressed("zstd"), "100 KB JSON, zstd on the fly"),
    workload("hs", "text tls", "/plaintext", Load::Handshakes, "TLS 1.3 full handshakes, P-256"),
    workload("idle", "text", "/plaintext", Load::Idle { connections: 5000 }, "idle connections"),
    workload("cold", "text", "/plaintext", Load::Cold, "start to first answer"),
];

struct Options {
    servers: Vec<String>,
    workloads: Vec<String>,
    seconds: u32,
    rounds: usize,
    out: Option<String>,
}

pub(super) fn run(args: &[String]) -> anyhow::Result<()> {
    if args.iter().any(|arg| arg == "--help") {
        print!("{HELP}");
        return Ok(());
    }
    let options = options(args)?;
    for program in programs::install(programs::BENCHES) {
        eprintln!("xtask: {} is not installed: what needs it is left out", program.name);
    }
    let site = Site::prepare(31_840)?;
    let wanted = |list: &[String], name: &str| list.is_empty() || list.iter().any(|n| n == name);
    let mut servers = Vec::new();
    for server in SERVERS.iter().filter(|server| wanted(&options.servers, server.name)) {
        if server.is_here()? {
            servers.push(server);
        }
    }
    let mut report = String::new();
    for workload in WORKLOADS.iter().filter(|load| wanted(&options.workloads, load.name)) {
        let unit = match workload.load {
            Load::Idle { .. } => Unit::BytesPerConnection,
            Load::Cold => Unit::Milliseconds,
            _ => Unit::RequestsPerSecond,
        };
        let rows = compare(workload, &servers, &site, &options)?;
        let table = table::render(workload.name, workload.text, unit, &rows);
        println!("{table}");
        report += &table;
        report.push('\n');
    }
    let out = options.out.map_or_else(|| site.folder.join("report.md"), Into::into);
    fs::write(&out, report)?;
    eprintln!("saved {}", out.display());
    Ok(())
}

fn options(args: &[String]) -> anyhow::Result<Options> {
    let mut options =
        Options { servers: vec![], workloads: vec![], seconds: 3, rounds: 3, out: None };
    for pair in args.chunks(2) {
        let [name, value] = pair else { bail!("`{}` needs a value", pair[0]) };
        let list = || value.split(',').map(str::to_owned).collect();
        match name.as_str() {
            "--servers" => options.servers = list(),
            "--workloads" => options.workloads = list(),
            "--seconds" => options.seconds = value.parse()?,
            "--rounds" => options.rounds = value.parse()?,
            "--out" => options.out = Some(value.clone()),
            other => bail!("bench http does not know `{other}`\n{HELP}"),
        }
    }
    Ok(options)
}

/// Every server in turn, so that a change of the machine's mood hits all of them.
fn compare(
    workload: &Workload,
    servers: &[&Server],
    site: &Site,
    options: &Options,
) -> anyhow::Result<Vec<Row>> {
    let servers: Vec<_> = servers.iter().filter(|server| server.can_all(workload.needs)).collect();
    let mut samples = vec![Vec::new(); servers.len()];
    for round in 0..options.rounds {
        for (server, samples) in servers.iter().zip(&mut samples) {
            let sample = measure(workload, server, site, options.seconds)
                .with_context(|| format!("{} in {}", server.name, workload.name))?;
            eprintln!("{} {} {round}: {sample:?}", workload.name, server.name);
            samples.push(sample);
        }
    }
    let rows = servers.iter().zip(samples).map(|(server, samples)| {
        let mut values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
        let mut cpu: Vec<f64> = samples.iter().filter_map(|sample| sample.cpu_ms_per_1k).collect();
        let (value, spread) = table::median(&mut values);
        Row {
            server: server.name.into(),
            value,
            cpu_ms_per_1k: (!cpu.is_empty()).then(|| table::median(&mut cpu).0),
            spread,
            errors: samples.iter().map(|sample| sample.errors).sum(),
        }
    });
    Ok(rows.collect())
}

#[derive(Debug, Clone)]
struct Sample {
    value: f64,
    cpu_ms_per_1k: Option<f64>,
    errors: u64,
}

fn measure(
    workload: &Workload,
    server: &Server,
    site: &Site,
    seconds: u32,
) -> anyhow::Result<Sample> {
    let (running, started) = server.start(site)?;
    let address = ("127.0.0.1", site.port);
    if matches!(workload.load, Load::Cold) {
        let value = started.as_secs_f64() * 1e3;
        return Ok(Sample { value, cpu_ms_per_1k: None, errors: 0 });
    }
    if let Load::Idle { connections } = workload.load {
        return idle(address, running.pid(), connections);
    }
    let mut load = load_command(workload, site, seconds)?;
    let before = cpu_seconds(running.pid());
    let output = load.stdin(Stdio::null()).output().context("cannot start the load")?;
    let cpu = cpu_seconds(running.pid()) - before;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (requests, errors) = match workload.load {
        Load::H2 { .. } => (
            number_before(&text, " succeeded"),
            number_before(&text, " failed") + number_before(&text, " errored"),
        ),
        Load::Handshakes => (number_before(&text, " connections in"), 0),
        _ => {
            let refused = text.find("Non-2xx or 3xx responses: ").map_or(0, |at| {
                text[at + 26..].lines().next().and_then(|n| n.trim().parse().ok()).unwrap_or(0)
            });
            (number_before(&text, " requests in"), refused)
        }
    };
    if requests == 0 {
        bail!("no answers: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    let requests = requests as f64;
    Ok(Sample {
        value: requests / f64::from(seconds),
        cpu_ms_per_1k: Some(cpu * 1e6 / requests),
        errors,
    })
}

fn load_command(workload: &Workload, site: &Site, seconds: u32) -> anyhow::Result<Command> {
    let path = workload.path;
    let https = format!("https://127.0.0.1:{}{path}", site.tls_port);
    let mut command = match &workload.load {
        Load::H1 { connections, pipeline, encoding, tls } => {
            let mut wrk = Command::new("wrk");
            wrk.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s")]);
            if !encoding.is_empty() {
                wrk.args(["-H", &format!("Accept-Encoding: {encoding}")]);
            }
            if *pipeline > 1 {
                let script = site.folder.join("pipeline.lua");
                fs::write(&script, pipeline_script(*pipeline, path))?;
                wrk.arg("-s").arg(script);
            }
            wrk.arg(if *tls { https } else { format!("http://127.0.0.1:{}{path}", site.port) });
            wrk
        }
        Load::H2 { connections, streams } => {
            let mut h2load = Command::new("h2load");
            h2load.args(["-t1", &format!("-c{connections}"), &format!("-m{streams}")]);
            h2load.args(["-D", &seconds.to_string(), &https]);
            h2load
        }
        Load::Handshakes => {
            let mut openssl = Command::new("openssl");
            openssl.args(["s_time", "-new", "-time", &seconds.to_string(), "-connect"]);
            openssl.arg(format!("127.0.0.1:{}", site.tls_port));
            openssl
        }
        Load::Idle { .. } | Load::Cold => bail!("this workload makes its own load"),
    };
    command = servers::pin(1, &command);
    Ok(command)
}

fn pipeline_script(depth: u32, path: &str) -> String {
    format!(
        "init = function()\n  local r = {{}}\n  for i = 1, {depth} do r[i] = wrk.format('GET', '{path}') end\n  \
         req = table.concat(r)\nend\nrequest = function() return req end\n"
    )
}

/// Resident memory per connection that did one request and then rests.
fn idle(address: (&str, u16), pid: u32, connections: usize) -> anyhow::Result<Sample> {
    let before = resident_bytes(pid);
    let mut open = Vec::with_capacity(connections);
    let mut answer = [0; 4096];
    for _ in 0..connections {
        let mut stream = TcpStream::connect(address).context("cannot open that many sockets")?;
        stream.write_all(b"GET /plaintext HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
        anyhow::ensure!(stream.read(&mut answer)? > 0, "the server closed a connection");
        open.push(stream);
    }
    std::thread::sleep(Duration::from_millis(500));
    let grown = resident_bytes(pid).saturating_sub(before);
    Ok(Sample { value: grown as f64 / connections as f64, cpu_ms_per_1k: None, errors: 0 })
}

/// Whether a request is answered with 200.
pub(super) fn answers(address: (&str, u16)) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let request = b"GET /plaintext HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut answer = [0; 12];
    stream.write_all(request).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer.ends_with(b" 200")
}

/// User and system time of a process and its descendants.
fn cpu_seconds(pid: u32) -> f64 {
    let per_second = 100.0; // USER_HZ: the same on every Linux that has /proc.
    let mut ticks = 0;
    for process in tree(pid) {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        ticks += fields.skip(11).take(4).filter_map(|n| n.parse::<u64>().ok()).sum::<u64>();
    }
    ticks as f64 / per_second
}

fn resident_bytes(pid: u32) -> u64 {
    let resident = |process: u32| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.to_owned();
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    tree(pid).into_iter().filter_map(resident).sum::<u64>() * 1024
}

fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&pid) = found.get(at) {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        found.extend(children.unwrap_or_default().split(' ').filter_map(|c| c.parse::<u32>().ok()));
        at += 1;
    }
    found
}

fn number_before(text: &str, marker: &str) -> u64 {
    let before = text.find(marker).map_or("", |at| &text[..at]);
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}
