//! BIND, the real one: updates with keys, a secondary that lags, rules about certificates.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use hearth_http_client::{Client, ClientOptions};
use hearth_netsvc::{
    ddns::{
        Account, Dns01, Dns01Error, DnsProvider, FamilyStatus, Observed, Outcome, Plan,
        PlannedHost, ProviderContext, ProviderErrorKind as Kind, ProviderSettings, Secret,
        SystemClock, Updater, UpdaterOptions, WallClock,
    },
    dns::{
        CaaRequest, CaaVerdict, Class, DnsClient, DnsError, DnsOptions, Expected, Name, RecordType,
        Shows, Waiting,
    },
};

const KEY: &str = "aGVhcnRoLXRlc3Qta2V5LW9mLTMyLWJ5dGVzLWxvbmc=";

/// Two name servers of the zones `test`, `example.test` and `dyn.test`: the second follows the first
/// after some seconds.
struct Bind {
    primary: Child,
    secondary: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Bind {
    fn drop(&mut self) {
        for child in [&mut self.primary, &mut self.secondary] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A clock that is wrong.
struct Wrong(i64);

impl WallClock for Wrong {
    fn unix_seconds(&self) -> u64 {
        SystemClock.unix_seconds().saturating_add_signed(self.0)
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn named() -> Option<&'static str> {
    let found = ["/usr/sbin/named", "/usr/local/sbin/named", "/usr/bin/named"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    if found.is_none() {
        let is_required = std::env::var_os("E2E_NO_SKIP").is_some_and(|value| value == "1");
        assert!(!is_required, "named (Debian: bind9) is not installed");
        eprintln!("skipped: named (Debian: bind9) is not installed");
    }
    found
}

impl Bind {
    /// `None`: there is no BIND, or this system has no IPv6.
    async fn start() -> Option<Self> {
        let program = named()?;
        let folder = tempfile::tempdir().unwrap();
        let port = free_port()?;
        let zones = [
            (
                "test",
                "example NS ns1.example\nns1.example A 127.0.0.1\nns2.example AAAA ::1\n\
                 @ CAA 0 issue \"ca.example\"\nclosed CAA 0 issue \";\"\n",
            ),
            (
                "example.test",
                "ns1 A 127.0.0.1\nns2 AAAA ::1\n\
                 _acme-challenge.alias CNAME alias.dyn.test.\n\
                 loop1 CNAME loop2\nloop2 CNAME loop1\n_acme-challenge.loop CNAME loop1\n\
                 wild CAA 0 issuewild \"wild.example\"\nwild CAA 0 issue \"plain.example\"\n",
            ),
            ("dyn.test", ""),
        ];
        let mut primary_zones = String::new();
        let mut secondary_zones = String::new();
        for (zone, records) in zones {
            let file = folder.path().join(format!("{zone}.zone"));
            let big: String =
                (0..10).map(|n| format!("big TXT \"{n}{}\"\n", "x".repeat(240))).collect();
            let text = format!(
                "$TTL 60\n@ SOA ns1.example.test. admin.example.test. 1 3600 600 86400 1\n\
                 @ NS ns1.example.test.\n@ NS ns2.example.test.\n{big}{records}"
            );
            fs::write(&file, text).unwrap();
            primary_zones += &format!(
                "zone \"{zone}\" {{ type primary; file \"{}\"; notify no;\n\
                 update-policy {{ grant hearth zonesub A AAAA TXT; }}; }};\n",
                file.display()
            );
            secondary_zones += &format!(
                "zone \"{zone}\" {{ type secondary; file \"{zone}.copy\"; \
                 primaries port {port} {{ 127.0.0.1; }}; max-refresh-time 3; min-refresh-time 1; }};\n"
            );
        }
        let primary = run(program, folder.path(), "127.0.0.1", port, &primary_zones);
        let secondary = run(program, folder.path(), "::1", port, &secondary_zones);
        let bind = Self { primary, secondary, port, folder };
        let dns = bind.dns();
        for _ in 0..200 {
            let mut is_ready = true;
            for server in [Ipv4Addr::LOCALHOST.into(), IpAddr::from(Ipv6Addr::LOCALHOST)] {
                for zone in ["test", "example.test", "dyn.test"] {
                    let at = SocketAddr::new(server, port);
                    let answer = dns.query(at, &name(zone), RecordType::Soa).await;
                    is_ready &= answer.is_ok_and(|answer| answer.is_authoritative);
                }
            }
            if is_ready {
                return Some(bind);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let logs = ["v4/log", "v6/log"]
            .map(|log| fs::read_to_string(bind.folder.path().join(log)).unwrap_or_default());
        panic!("named did not become ready: {} {}", logs[0], logs[1]);
    }

    fn dns(&self) -> DnsClient {
        let mut options = DnsOptions::new(vec![self.server()]);
        options.port = self.port;
        options.timeout = Duration::from_secs(1);
        DnsClient::new(options)
    }

    fn server(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn provider(&self, pairs: &[(&str, &str)]) -> Arc<dyn DnsProvider> {
        self.provider_at(pairs, Arc::new(SystemClock))
    }

    fn provider_at(
        &self,
        pairs: &[(&str, &str)],
        clock: Arc<dyn WallClock>,
    ) -> Arc<dyn DnsProvider> {
        let server = self.server().to_string();
        let server = ("server", Secret::from(server));
        let pairs = pairs.iter().map(|&(key, value)| (key, Secret::from(value)));
        let mut context =
            ProviderContext::new(Client::new(ClientOptions::default()).unwrap(), self.dns());
        context.clock = clock;
        let settings = ProviderSettings::new("rfc2136", pairs.chain([server])).unwrap();
        settings.build(&context).unwrap()
    }
}

/// A port that is free at both addresses, for both protocols.
fn free_port() -> Option<u16> {
    for _ in 0..50 {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let tcp = std::net::TcpListener::bind(("127.0.0.1", port));
        let second = UdpSocket::bind(("::1", port));
        let second_tcp = std::net::TcpListener::bind(("::1", port));
        if tcp.is_ok() && second.is_ok() && second_tcp.is_ok() {
            return Some(port);
        }
    }
    eprintln!("skipped: this system has no address ::1");
    None
}

fn run(program: &str, folder: &Path, address: &str, port: u16, zones: &str) -> Child {
    let own = folder.join(if address == "::1" { "v6" } else { "v4" });
    let listen = match address {
        "::1" => format!("listen-on {{ none; }}; listen-on-v6 port {port} {{ ::1; }};"),
        _ => format!("listen-on port {port} {{ {address}; }}; listen-on-v6 {{ none; }};"),
    };
    fs::create_dir(&own).unwrap();
    let config = own.join("named.conf");
    let text = format!(
        "options {{ directory \"{}\"; {listen}\n\
         recursion no; version \"192.0.2.77\"; pid-file none; session-keyfile none;\n\
         dnssec-validation no; minimal-responses no; }};\n\
         controls {{ }};\n\
         key hearth {{ algorithm hmac-sha256; secret \"{KEY}\"; }};\n\
         key weak {{ algorithm hmac-sha256; secret \"{KEY}\"; }};\n{zones}",
        own.display()
    );
    fs::write(&config, text).unwrap();
    let log = fs::File::create(own.join("log")).unwrap();
    Command::new(program)
        .args(["-g", "-n", "1", "-c"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

const GOOD_KEY: &[(&str, &str)] = &[("key-name", "hearth"), ("key", KEY)];

#[tokio::test]
async fn bind9() {
    let Some(bind) = Bind::start().await else { return };
    questions(&bind).await;
    rules_about_certificates(&bind).await;
    keys(&bind).await;
    addresses(&bind).await;
    challenges(&bind).await;
    updater(&bind).await;
    dead_secondary(bind).await;
}

async fn questions(bind: &Bind) {
    let dns = bind.dns();
    let authority = dns.authority(&name("deep.below.example.test")).await.unwrap();
    assert_eq!(authority.zone, name("example.test"));
    let servers: Vec<_> = authority.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(servers, ["ns1.example.test", "ns2.example.test"]);
    let at = SocketAddr::from((Ipv6Addr::LOCALHOST, bind.port));
    assert_eq!(authority.servers[1].addresses, [at]);

    let addresses = dns.addresses(&name("NS2.Example.Test")).await.unwrap();
    assert_eq!((addresses.v4, addresses.v6), (vec![], vec![Ipv6Addr::LOCALHOST]));
    let big = dns.query(bind.server(), &name("big.test"), RecordType::Txt).await.unwrap();
    assert_eq!(big.texts().count(), 10, "more than fits over UDP");
    let me = dns.whoami(bind.server(), &name("version.bind"), Class::Chaos).await.unwrap();
    assert_eq!(me, Ipv4Addr::new(192, 0, 2, 77));

    let error = dns.authority(&name("example.com")).await.unwrap_err();
    assert!(matches!(error, DnsError::NoAuthority { .. }), "{error:?}");
    let error = dns.follow_aliases(&name("loop1.example.test")).await.unwrap_err();
    assert!(matches!(error, DnsError::AliasLoop { .. }), "{error:?}");
}

async fn rules_about_certificates(bind: &Bind) {
    let dns = bind.dns();
    for (host, identity, expected) in [
        ("www.example.test", "ca.example", "allowed"),
        ("*.example.test", "ca.example", "allowed"),
        ("www.example.test", "other.example", "test"),
        ("a.closed.test", "ca.example", "closed.test"),
        ("x.wild.example.test", "plain.example", "allowed"),
        ("*.wild.example.test", "plain.example", "wild.example.test"),
        ("*.wild.example.test", "wild.example", "allowed"),
    ] {
        let caa = dns.caa(&name(host)).await.unwrap();
        let verdict = caa.verdict(&CaaRequest::new(&[identity], host.starts_with('*')));
        let shown = match &verdict {
            CaaVerdict::Forbidden { found_at, .. } => found_at.to_string(),
            CaaVerdict::Allowed => "allowed".to_owned(),
            _ => "unrestricted".to_owned(),
        };
        assert_eq!(shown, expected, "{host} {identity}: {verdict:?}");
    }
}

async fn keys(bind: &Bind) {
    let host = name("keys.example.test");
    let v4 = Some(Ipv4Addr::new(192, 0, 2, 1));
    let other = "b3RoZXIta2V5LW9mLTMyLWJ5dGVzLWxvbmctb3RoZXI=";
    for (pairs, ahead, kind, part) in [
        (&[][..], 0, Kind::BadAuth, "policy"),
        (&[("key-name", "weak"), ("key", KEY)], 0, Kind::BadAuth, "policy"),
        (&[("key-name", "unknown"), ("key", KEY)], 0, Kind::BadAuth, "does not know the key"),
        (&[("key-name", "hearth"), ("key", other)], 0, Kind::BadAuth, "secret"),
        (GOOD_KEY, 1000, Kind::ClockWrong, "differs from the name server's by 1000 s"),
        (GOOD_KEY, -1000, Kind::ClockWrong, "differs from the name server's by 1000 s"),
        (
            &[("key-name", "hearth"), ("key", KEY), ("zone", "other.test")],
            0,
            Kind::NoHost,
            "not within",
        ),
    ] {
        let provider = bind.provider_at(pairs, Arc::new(Wrong(ahead)));
        let error = provider.set_addresses(&host, v4, None).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert_eq!(error.kind(), kind, "{text}");
        assert!(!text.contains(KEY) && !text.contains(other), "{text}");
        assert!(text.contains(part) || ahead != 0 && text.contains("differs"), "{part}: {text}");
    }
    // A clock that is a little wrong does no harm.
    let provider = bind.provider_at(GOOD_KEY, Arc::new(Wrong(200)));
    provider.set_addresses(&host, v4, None).await.unwrap();
    let error = provider.set_addresses(&name("example.com"), v4, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NoHost, "{error}");
}

async fn addresses(bind: &Bind) {
    let (dns, provider) = (bind.dns(), bind.provider(GOOD_KEY));
    let host = name("home.example.test");
    let v6: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let first = provider.set_addresses(&host, Some([192, 0, 2, 1].into()), Some(v6)).await.unwrap();
    assert_eq!(first, Outcome::Updated);
    provider.set_addresses(&host, Some([192, 0, 2, 2].into()), None).await.unwrap();
    let addresses = dns.addresses(&host).await.unwrap();
    assert_eq!(addresses.v4, [Ipv4Addr::new(192, 0, 2, 2)], "the old one is gone");
    assert_eq!(addresses.v6, [v6], "the other family stays");

    let expected = Expected::Address([192, 0, 2, 2].into());
    let state = dns.propagation(&host, RecordType::A, &expected).await.unwrap();
    assert_eq!(state.servers[0].shows, Shows::Expected);
    assert_eq!(state.servers[1].shows, Shows::Nothing, "the secondary follows later: {state}");
    let mut waiting = Waiting::default();
    waiting.interval = Duration::from_millis(200);
    waiting.timeout = Duration::from_secs(30);
    let state = dns.wait_for_propagation(&host, &expected, waiting).await.unwrap();
    assert!(state.is_complete(), "{state}");
    let stale = Expected::Address([192, 0, 2, 9].into());
    let state = dns.propagation(&host, RecordType::A, &stale).await.unwrap();
    assert_eq!(state.servers[1].shows, Shows::Other(vec!["192.0.2.2".to_owned()]), "{state}");
}

async fn challenges(bind: &Bind) {
    let mut waiting = Waiting::default();
    waiting.interval = Duration::from_millis(200);
    waiting.timeout = Duration::from_secs(30);
    let dns = bind.dns();
    let dns01 = Dns01::new(bind.provider(GOOD_KEY), dns.clone()).with_waiting(waiting);
    // The name and its wildcard, at one time, in one record set.
    let plain = dns01.present("example.test", "first").await.unwrap();
    let wild = dns01.present("*.example.test", "second").await.unwrap();
    assert_eq!(plain.name, name("_acme-challenge.example.test"));
    assert_eq!(plain.name, wild.name);
    let again = dns01.record("_acme-challenge.example.test", "second").await.unwrap();
    assert_eq!(again, wild);
    for record in [&plain, &wild] {
        let state = dns01.wait(record).await.unwrap();
        assert!(state.is_complete(), "{state}");
    }
    dns01.clean_up(&plain).await.unwrap();
    let left = dns.query(bind.server(), &plain.name, RecordType::Txt).await.unwrap();
    assert_eq!(left.texts().collect::<Vec<_>>(), ["second"]);
    dns01.clean_up(&wild).await.unwrap();
    dns01.clean_up(&wild).await.unwrap();
    let left = dns.query(bind.server(), &plain.name, RecordType::Txt).await.unwrap();
    assert_eq!(left.texts().count(), 0);

    let delegated = dns01.present("alias.example.test", "third").await.unwrap();
    assert_eq!(delegated.name, name("alias.dyn.test"), "where the alias leads");
    let again = dns01.record("alias.example.test", "other").await.unwrap();
    assert_eq!(again.name, delegated.name);
    dns01.wait(&delegated).await.unwrap();
    dns01.clean_up(&delegated).await.unwrap();

    let error = dns01.present("loop.example.test", "x").await.unwrap_err();
    assert_eq!((error.code(), error.fix().is_empty()), ("H-DNS-021", false));
    assert!(error.is_permanent() && error.retry_after().is_none());
    let error = dns01.present("a b", "x").await.unwrap_err();
    assert!(matches!(error, Dns01Error::InvalidDomain { .. }));
}

async fn updater(bind: &Bind) {
    let hosts =
        ["up.example.test", "www.up.example.test"].map(|host| PlannedHost::new(name(host), "b"));
    let plan = || {
        let account = Account::new("b", bind.provider(GOOD_KEY));
        Plan::new(vec![account], hosts.to_vec()).unwrap()
    };
    let mut options = UpdaterOptions::new(Arc::new(bind.dns()));
    let folder = tempfile::tempdir().unwrap();
    options.state_path = Some(folder.path().join("ddns.json"));
    let observed = Observed { v4: Some([203, 0, 113, 5].into()), v6: None };
    let mut updater = Updater::new(plan(), options.clone()).unwrap();
    let status = updater.update(observed).await;
    assert!(status.hosts.iter().all(|host| matches!(host.v4, FamilyStatus::Current { .. })));
    for host in &hosts {
        let addresses = bind.dns().addresses(&host.name).await.unwrap();
        assert_eq!(addresses.v4, [Ipv4Addr::new(203, 0, 113, 5)]);
    }
    let serial = soa(bind).await;
    drop(updater);
    let mut updater = Updater::new(plan(), options).unwrap();
    updater.update(observed).await;
    assert_eq!(soa(bind).await, serial, "nothing was sent after the restart");
    // Without a state the name servers tell, as soon as all of them show it.
    let expected = Expected::Address([203, 0, 113, 5].into());
    let mut waiting = Waiting::default();
    waiting.interval = Duration::from_millis(200);
    for host in &hosts {
        bind.dns().wait_for_propagation(&host.name, &expected, waiting).await.unwrap();
    }
    let mut updater = Updater::new(plan(), UpdaterOptions::new(Arc::new(bind.dns()))).unwrap();
    updater.update(observed).await;
    assert_eq!(soa(bind).await, serial, "nor without a memory");
}

async fn soa(bind: &Bind) -> String {
    let zone = name("example.test");
    let answer = bind.dns().query(bind.server(), &zone, RecordType::Soa).await.unwrap();
    answer.records[0].data.to_string()
}

/// A secondary that is down holds nobody up for long.
async fn dead_secondary(mut bind: Bind) {
    bind.secondary.kill().unwrap();
    bind.secondary.wait().unwrap();
    let mut waiting = Waiting::default();
    waiting.interval = Duration::from_millis(100);
    waiting.patience_unreachable = Duration::from_millis(300);
    let dns01 = Dns01::new(bind.provider(GOOD_KEY), bind.dns()).with_waiting(waiting);
    let record = dns01.present("dead.example.test", "value").await.unwrap();
    let state = dns01.wait(&record).await.unwrap();
    assert!(!state.is_complete() && state.is_complete_among_reachable());
    assert!(state.to_string().contains("1 of 2 name servers of example.test show it"), "{state}");
    assert!(state.to_string().contains("ns2.example.test does not answer"), "{state}");
}
