//! What benchmarks and conformance suites ask, on the crates as an application would use them.
//!
//! Environment: `PORT` (HTTP/1.1 and h2c), `TPORT` with `CERT` and `KEY` (TLS, PEM files), `ROOT` (folder with `s/` and
//! `z/`), `WORKERS` (default: one for each core it may use), `IO` (`auto`, `epoll`, `io_uring`). All but `PORT` may be missing.

use std::{env, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use hearth_http_core::{
    Body, BodyError, HeaderValue, Limits, Request, Response, Settings, StatusCode, header,
};
use hearth_middleware::Compress;
use hearth_net::{Io, Listener, Server, TlsConfig};
use hearth_router::Router;
use hearth_static_files::StaticFiles;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The largest content that `/echo` gives back.
const ECHO_BYTES_MAX: u64 = 2 << 20;

#[derive(serde::Serialize)]
struct Message {
    message: &'static str,
}

async fn start(_: Request) -> Response {
    Response::text("The referee answers what benchmarks and conformance suites ask.\n")
}

async fn plaintext(_: Request) -> Response {
    Response::new("Hello, World!")
        .with_header(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))
}

async fn json(_: Request) -> Response {
    let mut text = Vec::with_capacity(64);
    match serde_json::to_writer(&mut text, &Message { message: "Hello, World!" }) {
        Ok(()) => Response::new(text)
            .with_header(header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        Err(_) => Response::status_text(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

async fn user(req: Request) -> Response {
    Response::new(req.param_bytes("id").map_or(Body::Empty, Body::from))
        .with_header(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))
}

async fn echo(mut req: Request) -> Response {
    match req.take_body().collect(ECHO_BYTES_MAX).await {
        Ok(content) => Response::new(content),
        Err(BodyError::TooLarge { .. }) => Response::status_text(StatusCode::PAYLOAD_TOO_LARGE),
        Err(BodyError::Timeout) => Response::status_text(StatusCode::REQUEST_TIMEOUT),
        Err(_) => Response::status_text(StatusCode::BAD_REQUEST),
    }
}

async fn alternative(_: Request) -> Response {
    Response::text("ALT: the second site, alt.test\n")
}

fn router() -> anyhow::Result<Router> {
    let mut router = Router::builder()
        .get("/", start)
        .get("/plaintext", plaintext)
        .get("/json", json)
        .get("/users/{id}", user)
        .post("/echo", echo)
        .host("alt.test", |site| site.get("/", alternative));
    if let Some(root) = env::var_os("ROOT").map(PathBuf::from) {
        let files = |name: &str| StaticFiles::builder(root.join(name)).build();
        if root.join("s").is_dir() {
            router = router.mount("/s", files("s")?);
        }
        if root.join("z").is_dir() {
            let compressed = Router::builder().with(Compress::new()).mount("/z", files("z")?);
            router = router.merge(compressed);
        }
    }
    Ok(router.build()?)
}

fn settings() -> Settings {
    // Benchmarks keep a connection for millions of requests.
    let mut limits = Limits::default();
    limits.requests_per_connection_max = u64::MAX;
    let mut settings = Settings::default();
    settings.limits = limits;
    settings
}

fn port(name: &str) -> anyhow::Result<Option<u16>> {
    let Ok(value) = env::var(name) else { return Ok(None) };
    Ok(Some(value.parse().with_context(|| format!("{name} is not a port: `{value}`"))?))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    // Huge pages would round the memory of idle connections up to the next 2 MiB, again and again.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let router = Arc::new(router()?);
    let plain = Listener::bind(([127, 0, 0, 1], port("PORT")?.unwrap_or(0))).settings(settings());
    let mut server = Server::builder().listen(plain, router.clone());
    if let (Some(port), Some(chain), Some(key)) =
        (port("TPORT")?, env::var_os("CERT"), env::var_os("KEY"))
    {
        let tls = TlsConfig::from_pem_files(chain, key)?;
        let listener = Listener::bind(([127, 0, 0, 1], port)).settings(settings()).tls(tls);
        server = server.listen(listener, router);
    }
    let io = env::var("IO").unwrap_or_else(|_| "auto".into());
    let io = Io::from_name(&io).with_context(|| format!("IO is not a driver: `{io}`"))?;
    let mut server = server.io(io);
    if let Ok(workers) = env::var("WORKERS") {
        server = server.workers(workers.parse().context("WORKERS is not a number")?);
    }
    let server = server.bind()?;
    for address in server.local_addrs() {
        println!("{address}");
    }
    let mut terminate = signal(SignalKind::terminate())?;
    server
        .run(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        })
        .await?;
    Ok(())
}
