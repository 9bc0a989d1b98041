//! Against acme2certifier, an authority in Python that shares no code with Pebble.
//!
//! It is in the Python package index only: `python3 -m venv FOLDER && FOLDER/bin/pip install acme2certifier`, then
//! `E2E_ACME2CERTIFIER=FOLDER/bin/python`. It checks nonces, signatures and requests, but no challenges: it knows
//! no ports but 80 and 443.

use std::{
    fs,
    process::{Command, Stdio},
    sync::Arc,
    time::SystemTime,
};

use hearth_tls_acme::{
    Authority, CertRequest, LocalCa, Manager, ManagerOptions, MemoryStorage, Outcome, RateLimits,
    Responder, Storage,
};

use crate::support::{Running, free_port, local, name, wait_for_port};

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

#[tokio::test(flavor = "multi_thread")]
async fn another_implementation_issues() {
    let Some(python) = std::env::var_os("E2E_ACME2CERTIFIER") else {
        eprintln!("skipped: another_implementation_issues needs E2E_ACME2CERTIFIER");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let own: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    LocalCa::load_or_create(&own, SystemTime::now()).await.unwrap();
    for (key, file) in [("local-ca/root.pem", "ca.pem"), ("local-ca/root.key.pem", "ca.key")] {
        fs::write(path(file), own.load(key).await.unwrap().unwrap()).unwrap();
    }
    fs::create_dir(path("certs")).unwrap();
    let at = folder.path().display();
    let config = format!(
        "[DEFAULT]\ndebug: False\n\
         [CAhandler]\nhandler_module: acme2certifier.cahandlers.openssl_ca_handler\n\
         issuing_ca_key: {at}/ca.key\nissuing_ca_cert: {at}/ca.pem\nissuing_ca_crl: {at}/ca.crl\n\
         cert_save_path: {at}/certs\ncert_validity_days: 30\n\
         [DBhandler]\nhandler_module: acme2certifier.dbhandlers.wsgi_handler\ndbfile: {at}/a2c.db\n\
         [Challenge]\nchallenge_validation_disable: True\n"
    );
    fs::write(path("acme_srv.cfg"), config).unwrap();
    fs::write(path("launch.py"), LAUNCHER).unwrap();
    let port = free_port();
    let mut command = Command::new(python);
    command.arg(path("launch.py")).arg(port.to_string()).current_dir(folder.path());
    command.env("ACME2CERTIFIER_BASE_DIR", folder.path());
    command.env("ACME_SRV_CONFIGFILE", path("acme_srv.cfg"));
    command.env("ACME2CERTIFIER_I_KNOW_THE_RISK", "1");
    let log = fs::File::create(path("log")).unwrap();
    command.stdout(Stdio::null()).stderr(log);
    let _running = Running(command.spawn().unwrap());
    tokio::task::spawn_blocking(move || wait_for_port(port)).await.unwrap();

    let mut authority = Authority::new("second", format!("http://127.0.0.1:{port}/directory"));
    authority.limits = RateLimits::none();
    let mut options = ManagerOptions::new(Arc::new(MemoryStorage::new()));
    options.authorities = vec![authority];
    options.contact = vec!["someone@example.com".to_owned()];
    options.challenges.http01 = true;
    let manager = Manager::new(options);
    let _responder = Responder::start(&manager, [local(0)], []).unwrap();
    for host in ["a.example.com", "b.example.com"] {
        let request = CertRequest::new([name(host), name(&format!("www.{host}"))]).unwrap();
        let outcome = manager.issue(&request).await;
        let log = || fs::read_to_string(path("log")).unwrap_or_default();
        let Outcome::Done(issued) = outcome else { panic!("{outcome:?}\n{}", log()) };
        assert_eq!(issued.names.len(), 2);
    }
}
