//! Handlers that misbehave: each is contained, and the log tells of it.

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hearth_e2e::h1::Client;
use hearth_http_core::{Request, Response, Settings, handler_fn};
use hearth_net::{Listener, Server};
use hearth_telemetry::Incidents;
use tracing_subscriber::fmt::MakeWriter;

/// How long a handler may take.
const HANDLER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long one of them blocks its worker; the watchdog speaks up after 250 ms.
const BLOCK: Duration = Duration::from_millis(1500);

async fn answer(req: Request) -> Response {
    match req.path() {
        "/panic" => panic!("a handler of the test panics"),
        "/never" => std::future::pending().await,
        "/block" => std::thread::sleep(BLOCK),
        _ => {}
    }
    Response::text("well\n")
}

#[test]
fn each_is_contained_and_visible() {
    let log = Log::default();
    let writer = log.clone();
    // This is the only test of the binary that looks at a log.
    tracing_subscriber::fmt().with_writer(writer).with_ansi(false).init();
    let mut settings = Settings::default();
    settings.limits.handler_timeout = Some(HANDLER_TIMEOUT);
    settings.observer = Some(Arc::new(Incidents));
    let listener = Listener::bind(([127, 0, 0, 1], 0)).settings(settings);
    let server = Server::builder().workers(2).listen(listener, Arc::new(handler_fn(answer)));
    let server = server.bind().expect("a port");
    let address = server.local_addrs()[0];
    let handle = server.start().expect("workers");

    assert_eq!(status(address, "/panic"), 500);
    log.wait_for("a handler panicked");
    assert_eq!(status(address, "/well"), 200, "the worker lives on");

    assert_eq!(status(address, "/never"), 503);
    log.wait_for("a handler exceeded its time");

    let blocked = std::thread::spawn(move || status(address, "/block"));
    // New connections go to either worker: those of the other one are answered meanwhile.
    let others: Vec<_> = (0..16)
        .map(|_| {
            std::thread::spawn(move || {
                let asked = Instant::now();
                (status(address, "/well"), asked.elapsed())
            })
        })
        .collect();
    let others: Vec<_> = others.into_iter().map(|other| other.join().expect("a client")).collect();
    assert!(others.iter().all(|(status, _)| *status == 200));
    assert!(others.iter().any(|(_, took)| *took < BLOCK / 2), "{others:?}");
    log.wait_for("blocked");
    assert_eq!(blocked.join().expect("a client"), 200);
    assert_eq!(status(address, "/well"), 200, "the worker goes on");
    drop(handle);
}

fn status(address: SocketAddr, target: &str) -> u16 {
    let mut client = Client::connect(address).expect("a connection");
    client.get(target).expect(target).status
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[track_caller]
    fn wait_for(&self, part: &str) {
        let start = Instant::now();
        while !self.text().contains(part) {
            assert!(start.elapsed() < Duration::from_secs(10), "no `{part}` in:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
