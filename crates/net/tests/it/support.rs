//! Servers, clients, certificates and what was logged.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use hearth_http_core::{Handler, Request, Response, Settings, handler_fn};
use hearth_net::{
    CertMap, CertStore, Certificate, DrainReport, Handle, Listener, NetLimits, Server,
    ServerBuilder, TlsConfig,
};
use rustls::pki_types::ServerName;

pub(crate) use crate::trust::client_config;

/// Longer than anything takes, so that a test that hangs fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub(crate) struct Running {
    pub(crate) handle: Handle,
}

impl Running {
    pub(crate) fn address(&self) -> SocketAddr {
        self.handle.local_addrs()[0]
    }

    pub(crate) fn client(&self) -> Client<TcpStream> {
        Client::connect(self.address())
    }

    pub(crate) fn drain(&self) -> DrainReport {
        block_on(self.handle.drain())
    }

    pub(crate) fn drain_within(&self, time: Duration) -> DrainReport {
        block_on(self.handle.drain_within(time))
    }
}

/// A server of one worker on a free port.
pub(crate) fn start(handler: impl Handler) -> Running {
    start_with(handler, NetLimits::default(), |listener| listener)
}

pub(crate) fn start_with(
    handler: impl Handler,
    limits: NetLimits,
    change: impl FnOnce(Listener) -> Listener,
) -> Running {
    capture_logs();
    let listener = change(Listener::bind(local()));
    let builder = builder().workers(1).limits(limits);
    let server = builder.listen(listener, Arc::new(handler)).bind().expect("a free port");
    Running { handle: server.start().expect("threads") }
}

/// A builder for the driver that these tests are about.
pub(crate) fn builder() -> ServerBuilder {
    Server::builder().io(crate::IO)
}

pub(crate) fn local() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// Answers `hello`; to `/slow` after 300 ms; to `/block` after it blocked its thread for 600 ms.
pub(crate) fn hello() -> impl Handler {
    handler_fn(async |request: Request| match request.path() {
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Response::text("slow")
        }
        "/block" => {
            std::thread::sleep(Duration::from_millis(600));
            Response::text("blocked")
        }
        "/panic" => panic!("for a test"),
        _ => Response::text("hello"),
    })
}

/// Limits that also count the connections of this machine.
pub(crate) fn strict() -> NetLimits {
    let mut limits = NetLimits::default();
    limits.per_ip_exempt.clear();
    limits
}

pub(crate) fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings);
    settings
}

/// A blocking client of one connection.
pub(crate) struct Client<S> {
    pub(crate) stream: S,
}

impl Client<TcpStream> {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self { stream }
    }
}

impl<S: Read + Write> Client<S> {
    /// Asks and reads the answer: its head and its body.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<(String, String)> {
        self.send(path)?;
        self.answer()
    }

    pub(crate) fn send(&mut self, path: &str) -> io::Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        self.stream.write_all(request.as_bytes())?;
        self.stream.flush()
    }

    pub(crate) fn answer(&mut self) -> io::Result<(String, String)> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("a head is text").to_ascii_lowercase();
        let length = head.split_once("content-length: ").map_or("0", |(_, rest)| rest);
        let length = length.split("\r\n").next().and_then(|text| text.parse().ok());
        let mut body = vec![0; length.expect("a length")];
        self.stream.read_exact(&mut body)?;
        Ok((head, String::from_utf8(body).expect("the body is text")))
    }

    /// Whether the server closes without another byte, and how long that took.
    pub(crate) fn closes(&mut self) -> Option<Duration> {
        let begin = Instant::now();
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) if rest.is_empty() => Some(begin.elapsed()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Some(begin.elapsed()),
            _ => None,
        }
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime").block_on(future)
}

/// A certificate and its key as PEM.
pub(crate) fn pem(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let pair = rcgen::generate_simple_self_signed(names).expect("a certificate");
    (pair.cert.pem(), pair.signing_key.serialize_pem())
}

pub(crate) fn certificate(names: &[&str]) -> Certificate {
    let (chain, key) = pem(names);
    Certificate::from_pem_slices(chain.as_bytes(), key.as_bytes()).expect("a good pair")
}

pub(crate) fn tls_config(names: &[&str]) -> TlsConfig {
    let mut map = CertMap::new();
    map.set_default(certificate(names));
    TlsConfig::builder(Arc::new(CertStore::new(map))).build().expect("good options")
}

pub(crate) type TlsStream = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// Connects and finishes the handshake.
pub(crate) fn tls_connect(
    address: SocketAddr,
    name: &str,
    config: &Arc<rustls::ClientConfig>,
) -> io::Result<Client<TlsStream>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut tls = rustls::ClientConnection::new(config.clone(), name).expect("a client");
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    Ok(Client { stream: rustls::StreamOwned::new(tls, stream) })
}

/// The names of the certificate that the server showed.
pub(crate) fn shown(client: &Client<TlsStream>) -> Vec<u8> {
    client.stream.conn.peer_certificates().expect("a certificate")[0].to_vec()
}

static LOGS: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();

/// Everything that was logged by this process.
pub(crate) fn logs() -> String {
    let logs = LOGS.get_or_init(Mutex::default).lock().expect("no panic while logging");
    String::from_utf8_lossy(&logs).into_owned()
}

pub(crate) fn capture_logs() {
    struct Writer;
    impl Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut logs = LOGS.get_or_init(Mutex::default).lock().expect("no panic");
            logs.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let builder = tracing_subscriber::fmt().with_ansi(false).with_writer(|| Writer);
        builder.with_max_level(tracing::Level::DEBUG).init();
    });
}
