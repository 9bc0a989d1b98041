//! Visitors of names that nobody configured.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hearth_http_core::{Request, Response, handler_fn};
use hearth_net::{Handle, Listener, Server, TlsConfig};
use hearth_tls_acme::{
    ACME_TLS_ALPN, Authority, Challenges, Manager, ManagerOptions, MemoryStorage, OnDemand,
};
use http::StatusCode;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::TlsConnector;

use crate::{
    stand_in::{ISSUER, StandIn},
    support::{Manners, Pebble, local, missing, name},
    trust::client_config,
};

/// Longer than any test takes: whoever waits for that long fails it.
const LONG: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);

/// A server whose certificates are had on demand.
struct Site {
    address: SocketAddr,
    manager: Manager,
    handle: Handle,
    runs: JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.handle.abort();
        self.runs.abort();
    }
}

impl Site {
    async fn start(
        authority: Authority,
        challenges: Challenges,
        on_demand: OnDemand,
        port: u16,
    ) -> Self {
        let mut options = ManagerOptions::new(Arc::new(MemoryStorage::new()));
        options.authorities = vec![authority];
        options.challenges = challenges;
        options.on_demand = Some(on_demand);
        let manager = Manager::new(options);
        manager.manage([]).await.unwrap();
        let tls = TlsConfig::builder(manager.resolver())
            .alpn([b"http/1.1".as_slice(), ACME_TLS_ALPN])
            .build()
            .unwrap()
            .with_hold(manager.hold().unwrap());
        let handler = Arc::new(handler_fn(async |_| Response::text("hi")));
        let listener = Listener::bind(local(port)).tls(tls);
        let server = Server::builder().workers(1).listen(listener, handler).bind().unwrap();
        let address = server.local_addrs()[0];
        let running = manager.clone();
        let runs = tokio::spawn(async move { running.run(pending()).await });
        Self { address, manager, handle: server.start().unwrap(), runs }
    }

    /// With an authority that wants no proof.
    async fn with(authority: &StandIn, on_demand: OnDemand) -> Self {
        let mut challenges = Challenges::default();
        challenges.http01 = true;
        Self::start(authority.authority("standin"), challenges, on_demand, 0).await
    }

    /// Who issued the certificate that a visitor of this name gets; `None` without a handshake.
    async fn visit(&self, host: &str) -> Option<String> {
        let visited = tokio::time::timeout(PATIENCE, issuer(self.address, host)).await;
        visited.unwrap_or_else(|_| panic!("{host} waits for ever"))
    }
}

async fn issuer(address: SocketAddr, host: &str) -> Option<String> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let tls = TlsConnector::from(client_config(&["http/1.1"])).connect(name, tcp).await.ok()?;
    let der = tls.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    let common_name = certificate.issuer().iter_common_name().next();
    Some(common_name.map_or("nobody", |one| one.as_str().unwrap()).to_owned())
}

fn allow(names: &[&str]) -> OnDemand {
    let mut on_demand = OnDemand::allow(names.iter().map(|one| name(one)));
    on_demand.handshake_wait = LONG;
    on_demand
}

fn is_issued(issuer: &Option<String>) -> bool {
    issuer.as_deref() == Some(ISSUER)
}

/// The first visitors wait, all of them for one order; the later ones need not.
#[tokio::test(flavor = "multi_thread")]
async fn first_visitors_wait_for_one_order() {
    let authority = StandIn::start();
    authority.mind.lock().delay = Duration::from_millis(300);
    let site = Arc::new(Site::with(&authority, allow(&["*.a.test", "b.test"])).await);
    let visitors: Vec<_> = (0..20)
        .map(|number| {
            let site = site.clone();
            let host = if number % 2 == 0 { "x.a.test" } else { "b.test" };
            tokio::spawn(async move { site.visit(host).await })
        })
        .collect();
    for visitor in visitors {
        let found = visitor.await.unwrap();
        assert!(is_issued(&found), "{found:?}");
    }
    assert_eq!(authority.orders(), 2, "one for each name");
    assert!(is_issued(&site.visit("x.a.test").await));
    assert_eq!(authority.orders(), 2);
}

/// Names that may have none are not waited for, and cost no order; nor does a client that names no host.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_what_there_is_at_once() {
    let authority = StandIn::start();
    let site = Site::with(&authority, allow(&["a.test"])).await;
    for host in ["b.test", "x.a.test", "localhost", "127.0.0.1"] {
        let found = site.visit(host).await;
        assert!(found.is_some() && !is_issued(&found), "{host}: {found:?}");
    }
    assert_eq!(authority.orders(), 0);
}

/// The endpoint decides, and is asked once for each name.
#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_is_asked() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let endpoint = handler_fn(move |request: Request| {
        counted.fetch_add(1, Ordering::Relaxed);
        let may = request.query() == Some("domain=yes.test");
        async move {
            Response::status_text(if may { StatusCode::NO_CONTENT } else { StatusCode::FORBIDDEN })
        }
    });
    let endpoint =
        Server::builder().workers(1).listen(Listener::bind(local(0)), Arc::new(endpoint));
    let endpoint = endpoint.bind().unwrap();
    let url = format!("http://{}/may", endpoint.local_addrs()[0]);
    let endpoint = endpoint.start().unwrap();
    let authority = StandIn::start();
    let mut on_demand = OnDemand::ask(url);
    on_demand.handshake_wait = LONG;
    let site = Site::with(&authority, on_demand).await;
    for _ in 0..3 {
        assert!(is_issued(&site.visit("yes.test").await));
        assert!(!is_issued(&site.visit("no.test").await));
    }
    assert_eq!((authority.orders(), asked.load(Ordering::Relaxed)), (1, 2));
    endpoint.abort();
}

/// After the wait the self-signed certificate is shown; the order goes on, and who comes later has it.
#[tokio::test(flavor = "multi_thread")]
async fn the_wait_has_an_end() {
    let authority = StandIn::start();
    authority.mind.lock().delay = Duration::from_secs(1);
    let mut on_demand = allow(&["a.test"]);
    on_demand.handshake_wait = Duration::from_millis(200);
    let site = Site::with(&authority, on_demand).await;
    let first = site.visit("a.test").await;
    assert!(first.is_some() && !is_issued(&first), "{first:?}");
    let begin = std::time::Instant::now();
    while !is_issued(&site.visit("a.test").await) {
        assert!(begin.elapsed() < PATIENCE);
    }
    assert_eq!(authority.orders(), 1);
}

/// An authority that refuses is not waited for again before its time.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_lets_everybody_go_on() {
    let authority = StandIn::start();
    authority.mind.lock().refusals = vec![(500, "serverInternal", None); 9];
    let site = Site::with(&authority, allow(&["a.test"])).await;
    for _ in 0..3 {
        let found = site.visit("a.test").await;
        assert!(found.is_some() && !is_issued(&found), "{found:?}");
    }
    assert_eq!(authority.mind.lock().refusals.len(), 8, "one attempt");
    assert!(!site.manager.attentions().is_empty());
}

/// Only so many wait, and who goes away leaves its place to others.
#[tokio::test(flavor = "multi_thread")]
async fn places_are_few_and_given_back() {
    let authority = StandIn::start();
    authority.mind.lock().delay = LONG;
    let mut on_demand = allow(&["a.test"]);
    on_demand.waiting_max = 1;
    let site = Site::with(&authority, on_demand).await;
    let begin = std::time::Instant::now();
    for _ in 0..3 {
        let waits = loop {
            assert!(begin.elapsed() < PATIENCE, "nobody gets the place");
            let visitor = tokio::spawn(issuer(site.address, "a.test"));
            tokio::time::sleep(Duration::from_millis(200)).await;
            // The one before may have its place still.
            if !visitor.is_finished() {
                break visitor;
            }
        };
        let second = site.visit("a.test").await;
        assert!(second.is_some() && !is_issued(&second), "{second:?}");
        assert!(!waits.is_finished());
        waits.abort();
        let _gone = waits.await;
    }
}

/// The authority's own handshake is not kept waiting for the certificate that it is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn proves_by_the_listener_that_waits() {
    if missing("pebble", "proves_by_the_listener_that_waits") {
        return;
    }
    let pebble = tokio::task::spawn_blocking(|| Pebble::start(Manners::default())).await.unwrap();
    let mut challenges = Challenges::default();
    challenges.tls_alpn01 = true;
    let on_demand = allow(&["a.test"]);
    let site = Site::start(pebble.authority(), challenges, on_demand, pebble.tls_port).await;
    let found = site.visit("a.test").await.unwrap();
    assert!(found.starts_with("Pebble"), "{found}");
    assert_eq!(pebble.counts(), (1, 1));
}
