//! Stand-ins for services of the internet that tell a client its address or the time, and for a certification
//! authority that takes no more orders. Blocking threads: each is a page that can be read at one sitting.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::{authorities, isolate::FOLDER, network::address_of};

/// Seconds from the epoch of NTP to that of Unix.
const NTP_TO_UNIX: u64 = 2_208_988_800;
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const REQUEST_LINES_MAX: usize = 100;
const REQUEST_BODY_MAX: usize = 64 * 1024;

/// Runs the stand-ins that `args` name, for ever.
///
/// # Errors
/// When an address cannot be had.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["internet"] => internet(),
        ["web", address] => web(address, None, |_| Answer::ok("text/plain", "another program\n")),
        _ => bail!("peer does not know {args:?}"),
    }
}

fn internet() -> anyhow::Result<()> {
    let tls = tls_settings()?;
    for name in ["stun1", "stun2"] {
        serve_datagrams(&format!("{}:3478", address_of(name)), stun)?;
    }
    serve_datagrams(&format!("{}:123", address_of("time")), |packet, _| sntp(packet))?;
    for name in ["echo1", "echo2", "echo3"] {
        let address = address_of(name);
        let plain = TcpListener::bind((address, 80))?;
        thread::spawn(move || accept(&plain, None, echo));
        let secure = TcpListener::bind((address, 443))?;
        let tls = Arc::clone(&tls);
        thread::spawn(move || accept(&secure, Some(&tls), echo));
    }
    let stranger = TcpListener::bind((address_of("stranger"), 80))?;
    thread::spawn(move || {
        accept(&stranger, None, |_| Answer::ok("text/html", "somebody else's site\n"));
    });
    let silent = TcpListener::bind((address_of("silent-ca"), 443))?;
    thread::spawn(move || authorities::be_silent(&silent));
    let suggesting = TcpListener::bind((address_of("ari-ca"), 443))?;
    let secure = Arc::clone(&tls);
    thread::spawn(move || accept(&suggesting, Some(&secure), authorities::suggesting));
    let limited = TcpListener::bind((address_of("limited-ca"), 443))?;
    accept(&limited, Some(&tls), limited_ca);
    Ok(())
}

/// A web server that says the same to everybody.
fn web(
    address: &str,
    tls: Option<&Arc<ServerConfig>>,
    answer: impl Fn(&Request) -> Answer + Copy + Send + 'static,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).with_context(|| address.to_owned())?;
    accept(&listener, tls, answer);
    Ok(())
}

fn tls_settings() -> anyhow::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(format!("{FOLDER}/web.pem"))?;
    let chain = chain.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(format!("{FOLDER}/web-key.pem"))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_no_client_auth().with_single_cert(chain, key)?))
}

pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) media_type: String,
    pub(super) body: Vec<u8>,
    peer: SocketAddr,
}

pub(super) struct Answer {
    pub(super) status: String,
    pub(super) fields: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn new(status: &str, fields: impl Into<String>, body: impl Into<String>) -> Self {
        Self { status: status.to_owned(), fields: fields.into(), body: body.into() }
    }

    fn ok(media_type: &str, body: impl Into<String>) -> Self {
        Self::new("200 OK", format!("content-type: {media_type}\r\n"), body)
    }
}

/// Answers one request for each connection.
fn accept(
    listener: &TcpListener,
    tls: Option<&Arc<ServerConfig>>,
    answer: impl Fn(&Request) -> Answer + Copy + Send + 'static,
) {
    for stream in listener.incoming().flatten() {
        let tls = tls.cloned();
        thread::spawn(move || {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let Ok(peer) = stream.peer_addr() else { return };
            // That a client goes away is its own affair.
            let _ = match tls {
                Some(tls) => match ServerConnection::new(tls) {
                    Ok(tls) => converse(StreamOwned::new(tls, stream), peer, answer),
                    Err(_) => Ok(()),
                },
                None => converse(stream, peer, answer),
            };
        });
    }
}

fn converse(
    stream: impl Conversation,
    peer: SocketAddr,
    answer: impl Fn(&Request) -> Answer,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let (mut body_bytes, mut media_type) = (0, String::new());
    for _ in 0..REQUEST_LINES_MAX {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            body_bytes = value.trim().parse().unwrap_or(0);
        } else if name.eq_ignore_ascii_case("content-type") {
            value.trim().clone_into(&mut media_type);
        }
    }
    let mut body = vec![0; std::cmp::min(body_bytes, REQUEST_BODY_MAX)];
    reader.read_exact(&mut body)?;
    let mut words = first.split_whitespace().map(str::to_owned);
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default();
    let is_head = method == "HEAD";
    let request = Request { method, path, media_type, body, peer };
    let Answer { status, fields, body } = answer(&request);
    let mut stream = reader.into_inner();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{fields}content-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    if !is_head {
        stream.write_all(body.as_bytes())?;
    }
    stream.finish()
}

/// What can be read, written and ended.
trait Conversation: Read + Write {
    fn finish(&mut self) -> std::io::Result<()>;
}

impl Conversation for TcpStream {
    fn finish(&mut self) -> std::io::Result<()> {
        self.shutdown(std::net::Shutdown::Write)
    }
}

impl Conversation for StreamOwned<ServerConnection, TcpStream> {
    fn finish(&mut self) -> std::io::Result<()> {
        self.conn.send_close_notify();
        self.flush()?;
        self.sock.shutdown(std::net::Shutdown::Write)
    }
}

/// Tells who asks.
fn echo(request: &Request) -> Answer {
    Answer::ok("text/plain", format!("{}\n", request.peer.ip()))
}

/// An authority (RFC 8555) that takes accounts but no orders.
fn limited_ca(request: &Request) -> Answer {
    let base = "https://limited-ca.example";
    let nonce = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let fields = |more: &str| {
        let nonce = format!("replay-nonce: n{nonce:032x}\r\ncache-control: no-store\r\n");
        format!("content-type: application/json\r\n{nonce}{more}")
    };
    let path = request.path.as_str();
    match (request.method.as_str(), path) {
        ("GET", "/dir") => {
            let directory = serde_json::json!({
                "newNonce": format!("{base}/nonce"), "newAccount": format!("{base}/account"),
                "newOrder": format!("{base}/order"), "revokeCert": format!("{base}/revoke"),
                "keyChange": format!("{base}/key"),
            });
            Answer::new("200 OK", fields(""), directory.to_string())
        }
        (_, "/nonce") => Answer::new("200 OK", fields(""), ""),
        ("POST", "/account") => {
            let location = fields(&format!("location: {base}/account/1\r\n"));
            Answer::new("201 Created", location, r#"{"status":"valid","contact":[]}"#)
        }
        ("POST", "/order") => {
            let problem = serde_json::json!({
                "type": "urn:ietf:params:acme:error:rateLimited",
                "detail": "too many certificates (5) already issued for this exact set of identifiers",
                "status": 429,
            });
            let fields = fields("retry-after: 3600\r\n").replace("json", "problem+json");
            Answer::new("429 Too Many Requests", fields, problem.to_string())
        }
        _ => Answer::new("404 Not Found", fields(""), ""),
    }
}

/// Answers each datagram with what `answer` makes of it.
fn serve_datagrams(
    address: &str,
    answer: impl Fn(&[u8], SocketAddr) -> Option<Vec<u8>> + Send + 'static,
) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(address).with_context(|| address.to_owned())?;
    thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            if let Some(reply) = buffer.get(..length).and_then(|packet| answer(packet, peer)) {
                let _ = socket.send_to(&reply, peer);
            }
        }
    });
    Ok(())
}

/// A binding response with XOR-MAPPED-ADDRESS (RFC 8489 section 14.2).
fn stun(packet: &[u8], peer: SocketAddr) -> Option<Vec<u8>> {
    let SocketAddr::V4(peer) = peer else { return None };
    let (header, transaction) = (packet.get(..8)?, packet.get(8..20)?);
    if header.get(..2)? != [0, 1] || header.get(4..)? != STUN_COOKIE {
        return None;
    }
    let mut reply = vec![1, 1, 0, 12];
    reply.extend(STUN_COOKIE);
    reply.extend(transaction);
    reply.extend([0, 0x20, 0, 8, 0, 1]);
    reply.extend((peer.port() ^ 0x2112).to_be_bytes());
    let address = u32::from(*peer.ip()) ^ u32::from_be_bytes(STUN_COOKIE);
    reply.extend(address.to_be_bytes());
    Some(reply)
}

/// The answer of a server of stratum 2 (RFC 5905 section 7.3).
fn sntp(packet: &[u8]) -> Option<Vec<u8>> {
    let sent = packet.get(40..48)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let seconds = u32::try_from((since.as_secs() + NTP_TO_UNIX) & 0xffff_ffff).ok()?;
    let now = [seconds.to_be_bytes(), [0; 4]].concat();
    let mut reply = vec![0x24, 2, 6, 0xe8];
    reply.extend([0; 12]);
    reply.extend(&now);
    reply.extend(sent);
    reply.extend(&now);
    reply.extend(&now);
    Some(reply)
}
