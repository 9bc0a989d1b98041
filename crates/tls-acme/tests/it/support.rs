//! Pebble, its name server, and a clock that can be set.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use hearth_http_client::{Client, ClientOptions, ClientRequest};
use hearth_tls_acme::{
    Authority, Clock, DnsSolver, FileStorage, LocalCa, Manager, ManagerOptions, MemoryStorage,
    Name, RateLimits, Responder, Roots, SolverError, SolverFuture, Storage,
};

/// Says by name what is skipped; a failure where nothing may be.
pub(crate) fn missing(program: &str, test: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !is_there {
        assert!(std::env::var_os("E2E_NO_SKIP").is_none(), "{program} is not installed");
        eprintln!("skipped: {test} needs {program}");
    }
    !is_there
}

pub(crate) fn is_long() -> bool {
    std::env::var_os("E2E_LONG").is_some()
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running program, ended with this.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn wait_for_port(port: u16) {
    let begin = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(30), "nothing listens on {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How Pebble behaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manners {
    pub(crate) nonce_reject: u32,
    pub(crate) authz_reuse: u32,
    pub(crate) wants_eab: bool,
}

/// Pebble with its name server.
pub(crate) struct Pebble {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) port: u16,
    pub(crate) http_port: u16,
    pub(crate) tls_port: u16,
    dns_management: u16,
    program: Running,
    _names: Running,
}

impl Pebble {
    pub(crate) fn start(manners: Manners) -> Self {
        Self::start_program(Path::new("pebble"), manners)
    }

    /// A Pebble of another version, with two profiles where it knows them.
    pub(crate) fn start_program(program: &Path, manners: Manners) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [port, http_port, tls_port, dns, dns_management] = [(); 5].map(|()| free_port());
        let path = |name: &str| folder.path().join(name);
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ca = runtime.block_on(LocalCa::load_or_create(&storage, SystemTime::now())).unwrap();
        let pair = ca.issue(&[name("127.0.0.1"), name("localhost")], SystemTime::now()).unwrap();
        fs::write(path("root.pem"), ca.root_pem()).unwrap();
        fs::write(path("cert.pem"), pair.chain_pem).unwrap();
        fs::write(path("key.pem"), pair.key_pem).unwrap();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "certificate": path("cert.pem"),
            "privateKey": path("key.pem"),
            "httpPort": http_port,
            "tlsPort": tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": manners.wants_eab,
            "externalAccountMACKeys": { "kid-1": EAB_KEY },
            "profiles": {
                "default": { "description": "for long", "validityPeriod": 90 * 86_400 },
                "shortlived": { "description": "for six days", "validityPeriod": 6 * 86_400 },
            },
        }});
        fs::write(path("config.json"), config.to_string()).unwrap();
        let mut names = Command::new("pebble-challtestsrv");
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        names.args(["-dns01", &format!("127.0.0.1:{dns}")]);
        names.args(["-management", &format!("127.0.0.1:{dns_management}")]);
        let names = Running(names.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let log = || fs::OpenOptions::new().create(true).append(true).open(path("log")).unwrap();
        let mut pebble = Command::new(program);
        pebble.arg("-config").arg(path("config.json"));
        pebble.args(["-dnsserver", &format!("127.0.0.1:{dns}")]);
        pebble.env("PEBBLE_VA_NOSLEEP", "1");
        pebble.env("PEBBLE_WFE_NONCEREJECT", manners.nonce_reject.to_string());
        pebble.env("PEBBLE_AUTHZREUSE", manners.authz_reuse.to_string());
        let pebble = Running(pebble.stdout(log()).stderr(log()).spawn().unwrap());
        wait_for_port(port);
        wait_for_port(dns_management);
        Self { folder, port, http_port, tls_port, dns_management, program: pebble, _names: names }
    }

    /// Ends it, and tells whether it had locked itself up.
    ///
    /// Pebble does so under many orders at once, 2.4.0 and later: who asks for an authorization holds it and waits for
    /// the store, who asks for an order or creates one holds the store and waits for the authorization, and a
    /// third, who wants to write to the store, keeps the first from going on.
    pub(crate) fn had_locked_itself_up(mut self) -> bool {
        let pid = self.program.0.id().to_string();
        // A program of Go says then where each of its threads waits.
        let told = Command::new("kill").args(["-QUIT", &pid]).status().unwrap();
        assert!(told.success(), "Pebble has ended");
        self.program.0.wait().unwrap();
        let log = fs::read(self.folder.path().join("log")).unwrap();
        let log = String::from_utf8_lossy(&log);
        let waits = ["WebFrontEndImpl).Authz(", "MemoryStore).GetAccountByKey", "RWMutex).RLock"];
        log.split("\n\n").any(|thread| waits.iter().all(|words| thread.contains(words)))
    }

    pub(crate) fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    pub(crate) fn authority(&self) -> Authority {
        authority(&self.directory(), &self.ca_file())
    }

    pub(crate) fn solver(&self) -> Arc<TestSolver> {
        Arc::new(TestSolver::new(self.dns_management))
    }

    /// How many orders it took, and certificates it issued.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        let count = |what: &str| log.lines().filter(|line| line.contains(what)).count();
        (count("Added order"), count("Issued certificate serial"))
    }

    /// How many authorizations failed.
    pub(crate) fn failed(&self) -> usize {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        log.lines().filter(|line| line.contains("set INVALID by completed challenge")).count()
    }

    /// A manager that solves by HTTP-01, and what answers.
    pub(crate) fn manager(&self, storage: Arc<dyn Storage>) -> (Manager, Responder) {
        let mut options = ManagerOptions::new(storage);
        options.authorities = vec![self.authority()];
        options.challenges.http01 = true;
        let manager = Manager::new(options);
        let responder = Responder::start(&manager, [local(self.http_port)], []).unwrap();
        (manager, responder)
    }
}

pub(crate) const EAB_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

pub(crate) fn authority(directory: &str, ca_file: &Path) -> Authority {
    let mut authority = Authority::new("pebble", directory);
    authority.roots = Roots::File(ca_file.to_owned());
    authority.limits = RateLimits::none();
    authority
}

pub(crate) fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn files(folder: &Path) -> Arc<dyn Storage> {
    Arc::new(FileStorage::open(folder).unwrap())
}

/// Sets records at Pebble's name server.
#[derive(Debug)]
pub(crate) struct TestSolver {
    management: u16,
}

impl TestSolver {
    /// At the name server that is managed on this port.
    pub(crate) fn new(management: u16) -> Self {
        Self { management }
    }

    async fn post(&self, verb: &str, body: serde_json::Value) -> Result<(), SolverError> {
        let url = format!("http://127.0.0.1:{}/{verb}", self.management);
        let request = ClientRequest::post(&url, body.to_string()).unwrap();
        let client = Client::new(ClientOptions::default()).unwrap();
        let response =
            client.send(request).await.map_err(|error| SolverError::new(error.to_string()))?;
        assert!(response.status().is_success());
        Ok(())
    }
}

impl DnsSolver for TestSolver {
    fn present<'a>(&'a self, name: &'a str, value: &'a str) -> SolverFuture<'a> {
        let body = serde_json::json!({ "host": format!("{name}."), "value": value });
        Box::pin(self.post("set-txt", body))
    }

    fn wait<'a>(&'a self, _name: &'a str, _value: &'a str) -> SolverFuture<'a> {
        Box::pin(async { Ok(()) })
    }

    fn cleanup<'a>(&'a self, name: &'a str, _value: &'a str) -> SolverFuture<'a> {
        Box::pin(self.post("clear-txt", serde_json::json!({ "host": format!("{name}.") })))
    }
}

/// The system's clock, and so many seconds more.
#[derive(Debug, Default)]
pub(crate) struct ShiftedClock(AtomicU64);

impl ShiftedClock {
    pub(crate) fn shift_days(&self, days: f64) {
        self.0.store((days * 86_400.0) as u64, Ordering::Relaxed);
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> SystemTime {
        SystemTime::now() + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}
