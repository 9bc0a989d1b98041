//! Against acme2certifier, an authority in Python that shares no code with Pebble, with its checks of challenges on.
//!
//! It is in the Python package index only; `cargo xtask test` puts it into a folder of its own and says so in
//! `E2E_ACME2CERTIFIER`. It knows no ports but 53, 80 and 443, so everything happens in a network of its own, in which
//! they are free.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use hearth_tls_acme::{
    Authority, CertRequest, ChallengeKind, Code, LocalCa, Manager, ManagerOptions, MemoryStorage,
    Outcome, RateLimits, Responder, Storage,
};

use crate::support::{Running, TestSolver, free_port, local, missing, name, wait_for_port};

/// Starts its application; the arguments are its file and the port.
const LAUNCHER: &str = "
import importlib.util, sys, wsgiref.simple_server as simple
import acme2certifier, os
path = os.path.join(os.path.dirname(acme2certifier.__file__), 'share', 'acme2certifier_wsgi.py')
spec = importlib.util.spec_from_file_location('a2c', path)
a2c = importlib.util.module_from_spec(spec)
spec.loader.exec_module(a2c)
simple.make_server('127.0.0.1', int(sys.argv[1]), a2c.application).serve_forever()
";

/// Says to the test that it is in its own network.
const INSIDE: &str = "E2E_SECOND_CA_INSIDE";

#[test]
fn another_implementation_issues() {
    const TEST: &str = "another_implementation_issues";
    if ["unshare", "ip", "pebble-challtestsrv"].into_iter().any(|program| missing(program, TEST)) {
        return;
    }
    if std::env::var_os("E2E_ACME2CERTIFIER").is_none() {
        assert!(std::env::var_os("E2E_NO_SKIP").is_none(), "acme2certifier is not installed");
        eprintln!("skipped: {TEST} needs E2E_ACME2CERTIFIER");
        return;
    }
    let mut command = Command::new("unshare");
    if !rustix::process::getuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["second_ca::inside", "--exact", "--nocapture"]).env(INSIDE, "1");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{output:?}");
    println!("{}", text.lines().find(|line| line.contains("issued")).unwrap_or_default());
}

/// Run by the test above in a network of its own.
#[tokio::test(flavor = "multi_thread")]
async fn inside() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let python = std::env::var_os("E2E_ACME2CERTIFIER").unwrap();
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path()).await;
    let [port, management] = [(); 2].map(|()| free_port());
    let mut names = Command::new("pebble-challtestsrv");
    names.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
    names.args(["-dns01", "127.0.0.1:53", "-management", &local(management).to_string()]);
    let names = names.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _names = Running(names);
    let mut command = Command::new(python);
    command.arg("launch.py").arg(port.to_string()).current_dir(folder.path());
    command.env("ACME2CERTIFIER_BASE_DIR", folder.path());
    command.env("ACME_SRV_CONFIGFILE", folder.path().join("acme_srv.cfg"));
    let log = fs::File::create(folder.path().join("log")).unwrap();
    command.stdout(Stdio::null()).stderr(log);
    let _running = Running(command.spawn().unwrap());
    let wait = move || [port, management].map(wait_for_port);
    tokio::task::spawn_blocking(wait).await.unwrap();
    let log = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();

    let mut authority = Authority::new("second", format!("http://127.0.0.1:{port}/directory"));
    authority.limits = RateLimits::none();
    let mut options = ManagerOptions::new(Arc::new(MemoryStorage::new()));
    options.authorities = vec![authority];
    options.contact = vec!["someone@example.com".to_owned()];
    options.challenges.http01 = true;
    options.challenges.tls_alpn01 = true;
    options.challenges.dns01 = Some(Arc::new(TestSolver::new(management)));
    let mut impatient = options.clone();
    impatient.order_timeout = Duration::from_secs(3);
    let manager = Manager::new(options);
    let request = |host: &str, kind: ChallengeKind| {
        let mut request = CertRequest::new([name(host), name(&format!("www.{host}"))]).unwrap();
        request.challenge = Some(kind);
        request
    };
    // Nobody answers yet, so it has to refuse: it does check.
    let refused =
        Manager::new(impatient).issue(&request("no.example.com", ChallengeKind::Http01)).await;
    let Outcome::TryLater { why, .. } = refused else { panic!("{refused:?}\n{}", log()) };
    assert_ne!(why.code, Code::Garbage, "{why}");
    assert_eq!(fs::read_dir(folder.path().join("certs")).unwrap().count(), 0, "{why}");
    let _responder = Responder::start(&manager, [local(80)], [local(443)]).unwrap();
    let kinds = [ChallengeKind::Http01, ChallengeKind::TlsAlpn01, ChallengeKind::Dns01];
    for (number, kind) in kinds.into_iter().enumerate() {
        let outcome = manager.issue(&request(&format!("n{number}.example.com"), kind)).await;
        let Outcome::Done(issued) = outcome else { panic!("{kind}: {outcome:?}\n{}", log()) };
        assert_eq!(issued.names.len(), 2);
        println!("issued by way of {kind}");
    }
}

/// Writes its authority, its configuration and how it is started.
async fn prepare(folder: &Path) {
    let path = |name: &str| folder.join(name);
    let own: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    LocalCa::load_or_create(&own, SystemTime::now()).await.unwrap();
    for (key, file) in [("local-ca/root.pem", "ca.pem"), ("local-ca/root.key.pem", "ca.key")] {
        fs::write(path(file), own.load(key).await.unwrap().unwrap()).unwrap();
    }
    fs::create_dir(path("certs")).unwrap();
    let at = folder.display();
    let config = format!(
        "[DEFAULT]\ndebug: False\ndns_server_list: [\"127.0.0.1\"]\n\
         [CAhandler]\nhandler_module: acme2certifier.cahandlers.openssl_ca_handler\n\
         issuing_ca_key: {at}/ca.key\nissuing_ca_cert: {at}/ca.pem\nissuing_ca_crl: {at}/ca.crl\n\
         cert_save_path: {at}/certs\ncert_validity_days: 30\n\
         [DBhandler]\nhandler_module: acme2certifier.dbhandlers.wsgi_handler\ndbfile: {at}/a2c.db\n"
    );
    fs::write(path("acme_srv.cfg"), config).unwrap();
    fs::write(path("launch.py"), LAUNCHER).unwrap();
}
