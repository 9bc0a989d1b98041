//! The whole server has a certificate for whoever comes first, from Pebble, by its own TLS listener.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use hearth_e2e::{
    peers,
    program::{self, Program},
};
use tempfile::TempDir;

use super::{certify, connect_to, get, text, trust::client_config};
use crate::servers;

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Pebble and its name server, for which every name is this machine. It proves names at `tls_port`.
pub(super) struct Authority {
    _names: Program,
    pebble: Program,
    pub(super) directory: String,
}

impl Authority {
    pub(super) fn start(folder: &Path, tls_port: u16) -> Option<Self> {
        let (pebble, names) = (peers::find("pebble")?, peers::find("pebble-challtestsrv")?);
        certify(folder);
        let [port, http, dns, management] = [(); 4].map(|()| program::free_port().expect("a port"));
        let path = |name: &str| folder.join(name);
        let config = serde_json::json!({ "pebble": {
            "listenAddress": local(port).to_string(),
            "certificate": path("cert.pem"),
            "privateKey": path("key.pem"),
            "httpPort": http,
            "tlsPort": tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        fs::write(path("pebble.json"), config.to_string()).expect("its configuration");
        let mut names = Command::new(names);
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        names.args(["-dns01", &local(dns).to_string()]);
        names.args(["-management", &local(management).to_string()]);
        let names = Program::start(&mut names, local(management), &path("names.log"));
        let mut pebble = Command::new(pebble);
        pebble.args(["-config", text(&path("pebble.json")), "-dnsserver", &local(dns).to_string()]);
        pebble.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        let pebble = Program::start(&mut pebble, local(port), &path("pebble.log"));
        Some(Self {
            _names: names.expect("its name server"),
            pebble: pebble.expect("Pebble"),
            directory: format!("https://localhost:{port}/dir"),
        })
    }

    pub(super) fn issued(&self) -> usize {
        let log = self.pebble.log();
        log.lines().filter(|line| line.contains("Issued certificate serial")).count()
    }
}

#[test]
fn first_visitors_get_a_certificate_of_the_authority() {
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let [plain, tls] = [(); 2].map(|()| local(program::free_port().expect("a port")));
    let Some(authority) = Authority::start(folder.path(), tls.port()) else { return };
    fs::create_dir(path("site")).expect("a folder");
    fs::write(path("site/index.html"), "hello").expect("a file");
    let config = format!(
        "[tls.acme]\ndirectory = {:?}\nca_file = {:?}\nstorage = {:?}\nchallenge = 'tls-alpn-01'\n\
         on_demand = {{ allow = ['*.shop.test'], wait = '60s' }}\n\n\
         [[listeners]]\naddress = '{plain}'\n\n[[listeners]]\naddress = '{tls}'\ntls = true\n\n\
         [[sites]]\nroot = {:?}\n",
        authority.directory,
        text(&path("root.pem")),
        text(&path("certificates")),
        text(&path("site")),
    );
    fs::write(path("hearth.toml"), config).expect("the configuration");
    let mut command = servers::serve(folder.path());
    let server = Program::start(&mut command, plain, &path("hearth.log")).expect("hearth");
    let visit = |name: &str| {
        let config = client_config(&["http/1.1"]);
        let mut stream = connect_to(tls, name, &config)
            .unwrap_or_else(|error| panic!("{name}: {error}\n{}", server.log()));
        get(&mut stream).unwrap_or_else(|error| panic!("{name}: {error}"));
        let chain = stream.conn.peer_certificates().expect("a certificate");
        chain[0].windows(b"Pebble".len()).any(|part| part == b"Pebble")
    };
    std::thread::scope(|scope| {
        let visitors: Vec<_> = (0..8).map(|_| scope.spawn(|| visit("a.shop.test"))).collect();
        for visitor in visitors {
            assert!(visitor.join().expect("no panic"), "of the authority\n{}", server.log());
        }
    });
    assert!(visit("b.shop.test"));
    assert!(!visit("c.other.test"), "it is not on the list");
    assert!(visit("a.shop.test"));
    assert_eq!(authority.issued(), 2);
}
