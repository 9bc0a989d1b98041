//! Certification authorities that do what Debian's Pebble does not: suggest when to renew, or say nothing at all.

use std::{
    fs::{self, OpenOptions},
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::aws_lc_rs,
    pki_types::ServerName,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::Value;

use super::{
    isolate::FOLDER,
    network::address_of,
    peer::{Answer, Request},
    web_root,
};

/// The window that is suggested (RFC 9773 section 4.1), as long as there is such a file.
pub(super) const SUGGESTION: &str = "suggestion.json";
/// Every order that was made through [`suggesting`], one on each line.
pub(super) const ORDERS: &str = "orders.jsonl";
const ORIGIN: &str = "https://ari-ca.example";
const PEBBLE_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Accepts connections, and nothing more.
pub(super) fn be_silent(listener: &TcpListener) {
    let mut held = Vec::new();
    for stream in listener.incoming().flatten() {
        held.push(stream);
    }
}

/// Pebble with renewal information: everything else is passed on.
pub(super) fn suggesting(request: &Request) -> Answer {
    if request.path.starts_with("/ari/") {
        return match fs::read_to_string(format!("{FOLDER}/{SUGGESTION}")) {
            Ok(window) => {
                let fields = "content-type: application/json\r\nretry-after: 21600\r\n";
                Answer::new("200 OK", fields, window)
            }
            Err(_) => Answer::new("404 Not Found", "", ""),
        };
    }
    let passed = order(request).and_then(|order| {
        let replaced = order.as_ref().and_then(|order| order.get("replaces")).cloned();
        let answer = pass_on(request, replaced)?;
        // Pebble refuses some at random, for their nonce: these come again.
        if let Some(order) = order.filter(|_| answer.status.starts_with("201")) {
            note(&order)?;
        }
        Ok(answer)
    });
    passed.unwrap_or_else(|error| Answer::new("502 Bad Gateway", "", format!("{error:#}")))
}

/// The order that a request makes. Orders are signed, but not secret; they tell which certificate one is to replace
/// (RFC 9773 section 5).
fn order(request: &Request) -> anyhow::Result<Option<Value>> {
    let Ok(signed) = serde_json::from_slice::<Value>(&request.body) else { return Ok(None) };
    let payload = signed["payload"].as_str().unwrap_or_default();
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload)?;
    let order = serde_json::from_slice::<Value>(&payload).unwrap_or_default();
    Ok(order.get("identifiers").is_some().then_some(order))
}

fn note(order: &Value) -> anyhow::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(format!("{FOLDER}/{ORDERS}"));
    Ok(writeln!(file?, "{order}")?)
}

/// What Pebble answers. It makes its URLs from the request's host, so that all of them lead here again.
fn pass_on(request: &Request, replaced: Option<Value>) -> anyhow::Result<Answer> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(web_root())?)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = ClientConnection::new(Arc::new(config), ServerName::try_from("ca.example")?)?;
    let socket = TcpStream::connect((address_of("ca"), 443))?;
    socket.set_read_timeout(Some(PEBBLE_TIMEOUT))?;
    let mut stream = StreamOwned::new(tls, socket);
    let Request { method, path, media_type, body, .. } = request;
    let media_type = match media_type.as_str() {
        "" => String::new(),
        known => format!("content-type: {known}\r\n"),
    };
    // HTTP/1.0 has neither chunks nor a second request.
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nhost: ari-ca.example\r\nuser-agent: lab\r\n{media_type}\
         content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    let more = match path.as_str() {
        "/dir" => Some(("renewalInfo", format!("{ORIGIN}/ari").into())),
        _ => replaced.map(|replaced| ("replaces", replaced)),
    };
    answer(&String::from_utf8(bytes)?, more)
}

/// An answer with one more member in its JSON.
fn answer(text: &str, more: Option<(&str, Value)>) -> anyhow::Result<Answer> {
    let (head, body) = text.split_once("\r\n\r\n").context("no end of the head")?;
    let (status, fields) = head.split_once("\r\n").context("no fields")?;
    let (_, status) = status.split_once(' ').context("no status")?;
    let is_ours = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        !matches!(name.as_str(), "content-length" | "connection" | "transfer-encoding")
    };
    let fields =
        fields.lines().filter(is_ours).map(|line| format!("{line}\r\n")).collect::<String>();
    let mut body = body.to_owned();
    if let Some((name, value)) = more {
        let mut object: Value = serde_json::from_str(&body)?;
        object[name] = value;
        body = object.to_string();
    }
    Ok(Answer::new(status, fields, body))
}
