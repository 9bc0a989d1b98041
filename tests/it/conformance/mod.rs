//! HTTP/1.1 as raw bytes against the running referee: what must be answered, and what must be refused.
//!
//! Each row is one connection: the bytes are sent, our side is closed, and everything that comes back is read as a
//! sequence of responses. A refused request must be the last thing that is answered on its connection.

mod heads;
mod messages;

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use tempfile::TempDir;

use self::{
    heads::{FIELDS, START},
    messages::{CHUNKS, CONNECTIONS, FRAMING},
};
use crate::servers;

/// What a row expects.
enum Want {
    /// These statuses, in this order, and nothing more.
    Answers(&'static [u16]),
    /// One refusal with one of these statuses, then the end, whatever followed in the input.
    Refused(&'static [u16]),
    /// These statuses, and the last one has this content.
    Content(&'static [u16], &'static str),
    /// Closed without an answer.
    Closed,
    /// Closed without an answer, or refused with 400.
    Dropped,
}
use Want::{Answers, Closed, Content, Dropped, Refused};

type Row = (&'static str, &'static str, &'static str, Want);

const H: &str = "Host: localhost\r\n";

#[test]
fn raw_cases() {
    let root = TempDir::new().expect("a folder");
    let server = servers::referee(root.path(), &[]);
    let chunked = "POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n";
    let mut failures = Vec::new();
    let mut cases = 0;
    for (table, before) in
        [(START, ""), (FIELDS, ""), (FRAMING, ""), (CHUNKS, chunked), (CONNECTIONS, "")]
    {
        for (name, source, input, want) in table {
            cases += 1;
            let input = format!("{before}{input}").replace("{H}", H);
            if let Err(found) = check(server.address(), &input, want) {
                failures.push(format!("{name} (RFC {source}): {found}"));
            }
        }
    }
    for (name, input, wanted) in large() {
        cases += 1;
        if let Err(found) = check(server.address(), &input, &Refused(wanted)) {
            failures.push(format!("{name}: {found}"));
        }
    }
    assert!(failures.is_empty(), "{} of {cases} cases:\n{}", failures.len(), failures.join("\n"));
    eprintln!("{cases} cases");
}

/// Sizes: what is too large is refused by name.
fn large() -> Vec<(&'static str, String, &'static [u16])> {
    let field = format!("X: {}\r\n", "y".repeat(17 << 10));
    let fields: String = (0..101).map(|n| format!("X-{n}: y\r\n")).collect();
    vec![
        ("target of 9 KiB", format!("GET /{} HTTP/1.1\r\n{H}\r\n", "a".repeat(9 << 10)), &[414]),
        ("target of 20 KiB", format!("GET /{} HTTP/1.1\r\n{H}\r\n", "a".repeat(20 << 10)), &[414]),
        ("method of 33 letters", format!("{} / HTTP/1.1\r\n{H}\r\n", "A".repeat(33)), &[501]),
        ("method without an end", "A".repeat(64 << 10), &[501]),
        ("target without an end", format!("GET /{}", "a".repeat(64 << 10)), &[414]),
        ("one field of 17 KiB", format!("GET / HTTP/1.1\r\n{H}{field}\r\n"), &[431]),
        ("101 fields", format!("GET / HTTP/1.1\r\n{fields}{H}\r\n"), &[431]),
        (
            "content of 3 MiB by length",
            format!("POST /echo HTTP/1.1\r\n{H}Content-Length: 3145728\r\n\r\n"),
            &[413],
        ),
    ]
}

fn check(address: SocketAddr, input: &str, want: &Want) -> Result<(), String> {
    let output = talk(address, input)?;
    let responses = parse(&output, input)?;
    let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
    let found = || format!("{statuses:?}: {}", String::from_utf8_lossy(&output).escape_debug());
    match want {
        Answers(wanted) if statuses == **wanted => Ok(()),
        Content(wanted, content) if statuses == **wanted => {
            let body = responses.last().map(|response| response.body.clone()).unwrap_or_default();
            let same = body == content.as_bytes() || *content == "ALT" && body.starts_with(b"ALT");
            same.then_some(()).ok_or_else(found)
        }
        Refused(wanted) => {
            let [only] = responses.as_slice() else { return Err(found()) };
            let right = wanted.contains(&only.status) && only.close;
            right.then_some(()).ok_or_else(found)
        }
        Closed if output.is_empty() => Ok(()),
        Dropped if statuses.is_empty() || statuses == [400] || statuses == [408] => Ok(()),
        _ => Err(found()),
    }
}

fn talk(address: SocketAddr, input: &str) -> Result<Vec<u8>, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    let _ = stream.set_read_timeout(Some(Duration::from_secs(15)));
    // A refusal may come, and the connection close, before all of it was sent.
    let _ = stream.write_all(input.as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
    let mut output = Vec::new();
    stream
        .read_to_end(&mut output)
        .map_err(|error| format!("{error} after {:?}", String::from_utf8_lossy(&output)))?;
    Ok(output)
}

struct Response {
    status: u16,
    close: bool,
    body: Vec<u8>,
}

/// Reads every response; interim ones are left out.
fn parse(output: &[u8], input: &str) -> Result<Vec<Response>, String> {
    let mut heads = input.matches("HEAD /").count();
    let mut responses = Vec::new();
    let mut rest = output;
    while !rest.is_empty() {
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n");
        let end =
            end.ok_or_else(|| format!("no end of head in {:?}", String::from_utf8_lossy(rest)))?;
        let head = String::from_utf8_lossy(&rest[..end]).to_ascii_lowercase();
        rest = &rest[end + 4..];
        let status: u16 = head.get(9..12).and_then(|code| code.parse().ok()).ok_or(head.clone())?;
        if status < 200 {
            continue;
        }
        let field =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let bodiless = heads > 0 && {
            heads -= 1;
            true
        };
        let length = match field("content-length:") {
            Some(length) => length.parse::<usize>().map_err(|error| error.to_string())?,
            None if status == 204 || status == 304 => 0,
            None => return Err(format!("no length: {head}")),
        };
        let length = if bodiless { 0 } else { length };
        let body = rest.get(..length).ok_or_else(|| format!("cut short: {head}"))?.to_vec();
        rest = &rest[length..];
        responses.push(Response { status, close: field("connection:") == Some("close"), body });
    }
    Ok(responses)
}
