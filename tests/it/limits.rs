//! One table of limits and timeouts, over HTTP/1.1, HTTP/2 in the clear and HTTP/2 over TLS, with the same
//! expectations.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use hearth_e2e::{certificate::Certificate, frames};
use hearth_http_core::{
    Body, BodyError, Limits, Request, Response, Settings, StatusCode, handler_fn,
};
use hearth_net::{Handle, Listener, Server, TlsConfig};
use http::Method;
use rustls::ClientConfig;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// What the rows set where they want a short time; far below `PATIENCE`, far above a tick of the server's clock.
const SHORT: Duration = Duration::from_millis(400);
/// How long a row waits for what must happen; generous, for loaded machines.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the client does.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// A GET whose target has so many bytes.
    Target(usize),
    /// A GET with so many fields of so many bytes each.
    Fields(usize, usize),
    /// A POST with a body of so many bytes, announced.
    Content(usize),
    /// A POST with a body of so many bytes, not announced.
    Stream(usize),
    /// A POST that announces a body and sends a part of it only.
    Stall,
    /// A POST whose body comes a byte at a time.
    Drip,
    /// A GET that the handler never answers.
    Slow,
    /// A GET with an expectation that nobody can meet.
    Expect,
    /// A connection without a request.
    Silent,
    /// A head without an end.
    HalfHead,
    /// A head whose lines come seconds after each other.
    TypedHead,
    /// A request, then nothing.
    Idle,
    /// A large response that the client does not read.
    Unread,
    /// Requests, one after the other, until the connection closes.
    Repeat,
    /// The same with a pause between them.
    Age,
}

/// What must come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// An answer with this status.
    Status(u16),
    /// The connection ends without an answer, or with 408, in time.
    Closed,
    /// So many answers, then the end of the connection.
    Answers(usize),
    /// Some answers, then the end of the connection.
    SomeAnswers,
}
use Want::{Answers, Closed, SomeAnswers, Status};

type Row = (&'static str, fn(&mut Limits), Act, Want);

const TABLE: &[Row] = &[
    ("target within", |_| {}, Act::Target(8000), Status(200)),
    ("target too long", |_| {}, Act::Target(8200), Status(414)),
    ("target limit set", |l| l.target_bytes_max = 100, Act::Target(101), Status(414)),
    ("head within", |_| {}, Act::Fields(10, 1000), Status(200)),
    ("head too large", |_| {}, Act::Fields(20, 1000), Status(431)),
    ("head limit set", |l| l.head_bytes_max = 2000, Act::Fields(3, 1000), Status(431)),
    ("fields within", |_| {}, Act::Fields(90, 1), Status(200)),
    ("too many fields", |_| {}, Act::Fields(120, 1), Status(431)),
    ("content within", |l| l.body_bytes_max = 1000, Act::Content(1000), Status(200)),
    ("content too large", |l| l.body_bytes_max = 1000, Act::Content(1001), Status(413)),
    ("stream within", |l| l.body_bytes_max = 1000, Act::Stream(1000), Status(200)),
    ("stream too large", |l| l.body_bytes_max = 1000, Act::Stream(100_000), Status(413)),
    ("content stalls", |l| l.body_stall_timeout = SHORT, Act::Stall, Status(408)),
    ("content drips", |l| l.body_rate_min = 1000, Act::Drip, Status(408)),
    ("handler too slow", |l| l.handler_timeout = Some(SHORT), Act::Slow, Status(503)),
    ("expectation", |_| {}, Act::Expect, Status(417)),
    ("no first request", |l| l.first_request_timeout = SHORT, Act::Silent, Closed),
    ("head too long", |l| l.head_timeout = SHORT, Act::HalfHead, Closed),
    ("head too slow", |l| l.head_rate_grace = SHORT, Act::HalfHead, Closed),
    ("head typed by hand", |_| {}, Act::TypedHead, Status(200)),
    ("idle", |l| l.idle_timeout = SHORT, Act::Idle, Closed),
    ("nobody reads", |l| l.write_stall_timeout = SHORT, Act::Unread, Closed),
    ("requests", |l| l.requests_per_connection_max = 5, Act::Repeat, Answers(5)),
    ("age", |l| l.connection_age_max = SHORT, Act::Age, SomeAnswers),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    H1,
    H2c,
    H2Tls,
}

#[test]
fn one_table_over_three_protocols() {
    let folder = TempDir::new().expect("a folder");
    let certificate = Certificate::new(folder.path(), &["localhost"]).expect("a certificate");
    let tls = certificate.client("h2").expect("TLS settings");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let failures = runtime.expect("a runtime").block_on(async {
        let mut rows = Vec::new();
        for row in TABLE {
            for protocol in [Protocol::H1, Protocol::H2c, Protocol::H2Tls] {
                let (certificate, tls) = (&certificate, Arc::clone(&tls));
                let server = Running::start(row.1, certificate).expect("a server");
                rows.push(tokio::spawn(async move { check(row, protocol, &server, tls).await }));
            }
        }
        let mut failures = Vec::new();
        for row in rows {
            failures.extend(row.await.expect("a row").err());
        }
        failures
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

async fn check(
    row: &Row,
    protocol: Protocol,
    server: &Running,
    tls: Arc<ClientConfig>,
) -> Result<(), String> {
    let (name, _, act, want) = *row;
    let found = timeout(PATIENCE, perform(protocol, act, server, tls)).await;
    let right = match &found {
        Ok(Ok(Seen::Status(status))) => want == Status(*status) || want == Closed && *status == 408,
        Ok(Ok(Seen::Answers(count))) => match want {
            Answers(wanted) => *count == wanted,
            SomeAnswers => *count > 0,
            Closed => *count == 0,
            Status(_) => false,
        },
        _ => false,
    };
    right.then_some(()).ok_or_else(|| format!("{name}, {protocol:?}: {found:?}, wanted {want:?}"))
}

/// What happened.
#[derive(Debug)]
enum Seen {
    Status(u16),
    /// So many answers, then the end of the connection.
    Answers(usize),
}

async fn perform(
    protocol: Protocol,
    act: Act,
    server: &Running,
    tls: Arc<ClientConfig>,
) -> anyhow::Result<Seen> {
    if matches!(act, Act::Silent | Act::HalfHead) {
        return until_closed(protocol, act, server, tls).await;
    }
    if let Act::TypedHead = act {
        return typed_head(protocol, server, tls).await;
    }
    match protocol {
        Protocol::H1 => over_h1(act, server.plain).await,
        Protocol::H2c => over_h2(act, Box::new(TcpStream::connect(server.plain).await?)).await,
        Protocol::H2Tls => over_h2(act, connect_tls(server.tls, tls).await?).await,
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect_tls(
    address: SocketAddr,
    tls: Arc<ClientConfig>,
) -> anyhow::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(address).await?;
    let name = "localhost".try_into()?;
    Ok(Box::new(tokio_rustls::TlsConnector::from(tls).connect(name, stream).await?))
}

/// A connection that says nothing, or begins a head and does not end it.
async fn until_closed(
    protocol: Protocol,
    act: Act,
    server: &Running,
    tls: Arc<ClientConfig>,
) -> anyhow::Result<Seen> {
    let mut stream: Box<dyn Stream> = match protocol {
        Protocol::H2Tls => connect_tls(server.tls, tls).await?,
        _ => Box::new(TcpStream::connect(server.plain).await?),
    };
    let mut bytes = Vec::new();
    if protocol != Protocol::H1 {
        bytes.extend_from_slice(frames::PREFACE);
        bytes.extend(frames::frame(frames::SETTINGS, 0, 0, &[]));
    }
    if matches!(act, Act::HalfHead) {
        match protocol {
            Protocol::H1 => bytes.extend_from_slice(b"GET / HTTP/1.1\r\nhost: local"),
            _ => bytes.extend(frames::frame(frames::HEADERS, 1, 1, &frames::request("GET", "/"))),
        }
    }
    stream.write_all(&bytes).await?;
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut rest).await;
    if protocol == Protocol::H1 {
        if rest.starts_with(b"HTTP/1.1 408") {
            return Ok(Seen::Status(408));
        }
        anyhow::ensure!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
    Ok(Seen::Answers(0))
}

/// A head in three parts, seconds after each other: far below the least rate, within the grace.
async fn typed_head(
    protocol: Protocol,
    server: &Running,
    tls: Arc<ClientConfig>,
) -> anyhow::Result<Seen> {
    let mut stream: Box<dyn Stream> = match protocol {
        Protocol::H2Tls => connect_tls(server.tls, tls).await?,
        _ => Box::new(TcpStream::connect(server.plain).await?),
    };
    let parts = if protocol == Protocol::H1 {
        [&b"GET / HTTP/1.1\r\n"[..], b"host: localhost\r\n", b"\r\n"].map(<[u8]>::to_vec)
    } else {
        let block = frames::request("GET", "/");
        let (front, back) = block.split_at(block.len() / 2);
        let mut first = frames::PREFACE.to_vec();
        first.extend(frames::frame(frames::SETTINGS, 0, 0, &[]));
        first.extend(frames::frame(frames::HEADERS, frames::END_STREAM, 1, front));
        let end = frames::frame(frames::CONTINUATION, frames::END_HEADERS, 1, back);
        let (middle, last) = end.split_at(12);
        [first, middle.to_vec(), last.to_vec()]
    };
    for part in parts {
        stream.write_all(&part).await?;
        tokio::time::sleep(Duration::from_millis(800)).await;
    }
    if protocol == Protocol::H1 {
        return Ok(Seen::Status(read_h1(&mut stream).await?.context("closed without an answer")?));
    }
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        stream.read_exact(&mut payload).await?;
        if head[3] == frames::HEADERS {
            // RFC 7541, appendix A: 8 is `:status: 200`.
            anyhow::ensure!(payload.first() == Some(&0x88), "{payload:?}");
            return Ok(Seen::Status(200));
        }
        anyhow::ensure!(head[3] != frames::GOAWAY, "{payload:?}");
    }
}

fn target(act: Act) -> String {
    match act {
        Act::Target(len) => format!("/{}", "a".repeat(len - 1)),
        Act::Slow => "/slow".into(),
        Act::Unread => "/large".into(),
        Act::Content(_) | Act::Stream(_) | Act::Stall | Act::Drip => "/content".into(),
        _ => "/".into(),
    }
}

fn fields(act: Act) -> Vec<(String, String)> {
    match act {
        Act::Fields(count, len) => {
            (0..count).map(|n| (format!("x-{n}"), "y".repeat(len))).collect()
        }
        Act::Expect => vec![("expect".into(), "magic".into())],
        _ => Vec::new(),
    }
}

async fn over_h1(act: Act, address: SocketAddr) -> anyhow::Result<Seen> {
    let mut stream = TcpStream::connect(address).await?;
    let method = if target(act) == "/content" { "POST" } else { "GET" };
    let mut head = format!("{method} {} HTTP/1.1\r\nhost: localhost\r\n", target(act));
    for (name, value) in fields(act) {
        head += &format!("{name}: {value}\r\n");
    }
    match act {
        Act::Content(len) => {
            head += &format!("content-length: {len}\r\n\r\n{}", "z".repeat(len));
        }
        Act::Stream(len) => {
            let content = "z".repeat(len);
            head += &format!("transfer-encoding: chunked\r\n\r\n{len:x}\r\n{content}\r\n0\r\n\r\n");
        }
        Act::Stall => head += "content-length: 1000\r\n\r\nzzz",
        Act::Drip => head += "content-length: 100000\r\n\r\n",
        _ => head += "\r\n",
    }
    let mut answers = 0;
    loop {
        // The server may answer, and close, before it has read all.
        let sent = stream.write_all(head.as_bytes()).await;
        if let Act::Drip = act {
            let (mut read, mut write) = stream.split();
            let drip = async {
                while write.write_all(b"z").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                status = read_h1(&mut read) => {
                    return Ok(Seen::Status(status?.context("closed without an answer")?));
                }
                () = drip => {}
            }
        }
        if let Act::Unread = act {
            tokio::time::sleep(SHORT * 6).await;
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            anyhow::ensure!(all.len() < LARGE, "all of it was sent");
            return Ok(Seen::Answers(0));
        }
        let status = if sent.is_err() && answers > 0 { None } else { read_h1(&mut stream).await? };
        match (act, status) {
            (Act::Repeat | Act::Age | Act::Idle, Some(200)) => answers += 1,
            (Act::Repeat | Act::Age, None) => return Ok(Seen::Answers(answers)),
            (_, Some(status)) => return Ok(Seen::Status(status)),
            (_, None) => anyhow::bail!("closed without an answer"),
        }
        match act {
            Act::Idle => {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await?;
                anyhow::ensure!(rest.is_empty(), "something came after the answer");
                return Ok(Seen::Answers(0));
            }
            Act::Age => tokio::time::sleep(SHORT / 4).await,
            _ => {}
        }
    }
}

/// The status of one response with a length; `None` at the end of the connection.
async fn read_h1(stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Option<u16>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    let head = String::from_utf8(head)?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.context("a length")?.parse()?];
    stream.read_exact(&mut body).await?;
    Ok(Some(head.get(9..12).context("a status")?.parse()?))
}

async fn over_h2(act: Act, stream: Box<dyn Stream>) -> anyhow::Result<Seen> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(64 << 10);
    let (send, connection) = builder.handshake::<_, Bytes>(stream).await?;
    let mut connection = tokio::spawn(connection);
    let mut answers = 0;
    loop {
        let Ok(mut ready) = send.clone().ready().await else { return Ok(Seen::Answers(answers)) };
        let method = if target(act) == "/content" { Method::POST } else { Method::GET };
        let uri = format!("http://localhost{}", target(act));
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields(act) {
            request = request.header(name, value);
        }
        if let Act::Content(len) = act {
            request = request.header("content-length", len);
        }
        let content = matches!(act, Act::Content(_) | Act::Stream(_) | Act::Stall | Act::Drip);
        let sent = ready.send_request(request.body(())?, !content);
        let Ok((response, mut body)) = sent else { return Ok(Seen::Answers(answers)) };
        let drip = tokio::spawn(async move {
            match act {
                Act::Content(len) | Act::Stream(len) => {
                    let _ = body.send_data(vec![b'z'; len].into(), true);
                }
                Act::Stall => drop(body.send_data("zzz".into(), false)),
                Act::Drip => {
                    while body.send_data("z".into(), false).is_ok() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                _ => {}
            }
            // An upload that is dropped would be reset.
            std::future::pending::<()>().await;
        });
        let response = response.await;
        drip.abort();
        match (act, response) {
            (Act::Repeat | Act::Age, Err(_)) => return Ok(Seen::Answers(answers)),
            (_, Err(error)) => return Err(error.into()),
            (Act::Unread, Ok(response)) => {
                // Not reading keeps the stream's window closed; the server gives the stream up.
                tokio::time::sleep(SHORT * 6).await;
                let mut body = response.into_body();
                while let Some(data) = body.data().await {
                    let Ok(data) = data else { return Ok(Seen::Answers(0)) };
                    body.flow_control().release_capacity(data.len())?;
                }
                anyhow::bail!("all of it was sent");
            }
            (Act::Idle, Ok(_)) => {
                let _ = (&mut connection).await;
                return Ok(Seen::Answers(0));
            }
            (Act::Repeat, Ok(_)) => answers += 1,
            (Act::Age, Ok(_)) => {
                answers += 1;
                tokio::time::sleep(SHORT / 4).await;
            }
            (_, Ok(response)) => return Ok(Seen::Status(response.status().as_u16())),
        }
    }
}

/// Bytes of `/large`: more than the buffers of both sockets hold.
const LARGE: usize = 64 << 20;

async fn answer(mut req: Request) -> Response {
    match req.path() {
        "/slow" => std::future::pending().await,
        "/large" => Response::new(Bytes::from(vec![b'l'; LARGE])),
        "/content" => {
            let mut content = req.take_body();
            // Piece by piece: taking it whole would set a limit of the handler's own.
            while let Some(piece) = content.frame().await {
                let status = match piece {
                    Ok(_) => continue,
                    Err(BodyError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
                    Err(BodyError::Timeout) => StatusCode::REQUEST_TIMEOUT,
                    Err(_) => StatusCode::BAD_REQUEST,
                };
                return Response::status_text(status);
            }
            Response::text("read\n")
        }
        _ => Response::new(Body::Static(b"answer\n")),
    }
}

struct Running {
    plain: SocketAddr,
    tls: SocketAddr,
    _handle: Handle,
}

impl Running {
    fn start(change: fn(&mut Limits), certificate: &Certificate) -> anyhow::Result<Self> {
        let mut settings = Settings::default();
        change(&mut settings.limits);
        let handler = Arc::new(handler_fn(answer));
        let tls = TlsConfig::from_pem_files(&certificate.chain, &certificate.key)?;
        let listener = || Listener::bind(([127, 0, 0, 1], 0)).settings(settings.clone());
        let server = Server::builder()
            .workers(1)
            .listen(listener(), Arc::clone(&handler))
            .listen(listener().tls(tls), handler)
            .bind()?;
        let (plain, tls) = (server.local_addrs()[0], server.local_addrs()[1]);
        Ok(Self { plain, tls, _handle: server.start()? })
    }
}
