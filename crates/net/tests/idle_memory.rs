//! What idle connections cost a server in resident memory.
//!
//! A binary of its own, which starts itself again as the server, so that nothing but the server's
//! memory is counted.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use hearth_http_core::{Response, Settings, handler_fn};
use hearth_net::{CertMap, CertStore, Certificate, Io, Listener, NetLimits, Server, TlsConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::ServerName;

#[path = "it/trust.rs"]
mod trust;

/// Set in the process that is the server.
const ROLE: &str = "HEARTH_NET_TEST_IDLE_MEMORY";
const CONNECTIONS: usize = 5000;
/// Connections that come before the first measurement, so that pools and tables are there.
const WARM_UP: usize = 200;

#[test]
#[cfg(target_os = "linux")]
fn idle_connections_cost_little() {
    measure("idle_connections_cost_little", Io::Epoll);
}

#[test]
#[cfg(target_os = "linux")]
fn idle_connections_cost_little_on_io_uring() {
    measure("idle_connections_cost_little_on_io_uring", Io::IoUring);
}

/// `test` is the test that calls this.
#[cfg(target_os = "linux")]
fn measure(test: &str, io: Io) {
    raise_descriptor_limit();
    if std::env::var_os(ROLE).is_some() {
        return serve(io);
    }
    let mut server = start(test);
    let mut output = BufReader::new(server.stdout.take().expect("piped"));
    let (plain, encrypted) = (port(&mut output), port(&mut output));

    let bytes = cost(&server, || Box::new(connect(plain)));
    println!("{bytes} bytes per idle connection in the clear");
    assert!(bytes <= 1200, "{bytes} bytes per idle connection in the clear");

    // Full handshakes: a resumed session would be smaller.
    let mut client = (*trust::client_config(&[])).clone();
    client.resumption = rustls::client::Resumption::disabled();
    let client = Arc::new(client);
    let bytes = cost(&server, || Box::new(connect_tls(encrypted, &client)));
    println!("{bytes} bytes per idle TLS connection");
    assert!(bytes <= 6000, "{bytes} bytes per idle TLS connection");

    drop(server.stdin.take());
    assert!(server.wait().expect("ended").success());
}

/// The server, until its input ends.
fn serve(io: Io) {
    let mut settings = Settings::default();
    settings.limits.idle_timeout = Duration::from_secs(600);
    let pair = rcgen::generate_simple_self_signed(["a.test".into()]).expect("a certificate");
    let (chain, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
    let mut map = CertMap::new();
    let certificate = Certificate::from_pem_slices(chain.as_bytes(), key.as_bytes());
    map.set_default(certificate.expect("a good pair"));
    let tls = TlsConfig::builder(Arc::new(CertStore::new(map))).build().expect("good options");
    let listener = || Listener::bind(([127, 0, 0, 1], 0)).settings(settings.clone());
    let handler = Arc::new(handler_fn(async |_| Response::text("hello")));
    let builder = Server::builder().workers(1).io(io).limits(NetLimits::default());
    let builder = builder.listen(listener(), handler.clone()).listen(listener().tls(tls), handler);
    let server = builder.bind().expect("free ports");
    for address in server.local_addrs() {
        println!("PORT {}", address.port());
    }
    let _handle = server.start().expect("threads");
    let _end = std::io::stdin().read_to_end(&mut Vec::new());
}

fn start(test: &str) -> Child {
    let this = std::env::current_exe().expect("a path");
    let mut command = Command::new(this);
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(ROLE, "1").stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().expect("started")
}

/// The next port that the server prints.
fn port(output: &mut BufReader<ChildStdout>) -> SocketAddr {
    loop {
        let mut line = String::new();
        assert!(output.read_line(&mut line).expect("readable") > 0, "the server ended");
        // The test harness prints on the same line.
        if let Some((_, port)) = line.split_once("PORT ") {
            return ([127, 0, 0, 1], port.trim().parse().expect("a port")).into();
        }
    }
}

/// Bytes of resident memory that each of many connections costs.
fn cost(server: &Child, mut connect: impl FnMut() -> Box<dyn std::any::Any>) -> u64 {
    let _warm_up: Vec<_> = (0..WARM_UP).map(|_| connect()).collect();
    let before = resident(server);
    let _idle: Vec<_> = (0..CONNECTIONS).map(|_| connect()).collect();
    // Whatever was to be given back has been by then.
    std::thread::sleep(Duration::from_millis(300));
    (resident(server).saturating_sub(before)) / CONNECTIONS as u64
}

/// Resident memory of the server in bytes, without files.
fn resident(server: &Child) -> u64 {
    let path = format!("/proc/{}/status", server.id());
    let status = std::fs::read_to_string(path).expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line");
    let kilobytes = line.trim().trim_end_matches(" kB").trim();
    kilobytes.parse::<u64>().expect("a number") * 1024
}

fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    ask(&mut stream);
    stream
}

fn connect_tls(
    address: SocketAddr,
    config: &Arc<rustls::ClientConfig>,
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let stream = TcpStream::connect(address).expect("it listens");
    let name = ServerName::try_from("a.test").expect("a name");
    let client = rustls::ClientConnection::new(config.clone(), name).expect("a client");
    let mut stream = rustls::StreamOwned::new(client, stream);
    ask(&mut stream);
    stream
}

fn ask(stream: &mut (impl Read + Write)) {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let mut piece = [0; 1024];
        let len = stream.read(&mut piece).expect("an answer");
        assert!(len > 0, "it was closed");
        answer.extend_from_slice(&piece[..len]);
    }
}

fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the maximum");
    let needed = (2 * (CONNECTIONS + WARM_UP) + 100) as u64;
    assert!(maximum.is_none_or(|maximum| maximum >= needed), "{needed} descriptors are needed");
}
