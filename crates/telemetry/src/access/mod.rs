//! The access log: one line for each exchange.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use hearth_http_core::{Exchange, Head, Observer, Outcome, Version};

use crate::{
    clock::Stamp,
    escape::{push_hex, push_json},
    output::{OpenError, Output},
    queue::Queue,
    writer::WriterGuard,
};

/// How a line looks.
///
/// Times are in UTC. No format shows `authorization` or a cookie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessFormat {
    /// `common` with referer and user agent: what log analysers know.
    #[default]
    Combined,
    /// Address, time, request line, status and size.
    Common,
    /// One JSON object per line.
    Json,
}

impl FromStr for AccessFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "combined" => Ok(Self::Combined),
            "common" => Ok(Self::Common),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

/// Writes a line for each exchange, without ever waiting for the disk.
#[derive(Debug)]
pub struct AccessLog {
    queue: Arc<Queue>,
    format: AccessFormat,
}

impl AccessLog {
    /// Opens the log and starts its writer. Lines are written as long as the guard lives.
    ///
    /// # Errors
    /// [`OpenError`] where the file cannot be opened.
    pub fn start(format: AccessFormat, output: &Output) -> Result<(Self, WriterGuard), OpenError> {
        let report = |message: &str| tracing::warn!(target: "hearth::access_log", "{message}");
        let (queue, guard) = WriterGuard::start(output, report)?;
        Ok((Self { queue, format }, guard))
    }
}

impl Observer for AccessLog {
    fn on_exchange(&self, exchange: &Exchange<'_>) {
        let entry = Entry::from(exchange);
        self.queue.push(|out, stamp| match self.format {
            AccessFormat::Combined => entry.push_common(out, stamp, true),
            AccessFormat::Common => entry.push_common(out, stamp, false),
            AccessFormat::Json => entry.push_json(out, stamp),
        });
    }
}

/// The parts of an exchange that a line shows.
struct Entry<'a> {
    connection_id: u64,
    peer: Option<SocketAddr>,
    tls_version: Option<&'static str>,
    /// The fingerprint of the client's certificate.
    client: Option<&'a [u8; 32]>,
    head: Option<&'a Head>,
    status: u16,
    body_bytes: u64,
    duration: Duration,
    outcome: Outcome,
}

impl<'a> From<&Exchange<'a>> for Entry<'a> {
    fn from(exchange: &Exchange<'a>) -> Self {
        let tls = exchange.connection.tls.as_deref();
        let client = tls.and_then(|tls| tls.client_certificate.as_ref());
        Self {
            connection_id: exchange.connection.id,
            peer: exchange.connection.peer,
            tls_version: tls.map(|tls| tls.version),
            client: client.map(|client| &client.sha256),
            head: exchange.head,
            status: exchange.status.as_u16(),
            body_bytes: exchange.body_bytes,
            duration: exchange.duration,
            outcome: exchange.outcome,
        }
    }
}

impl Entry<'_> {
    fn push_common(&self, out: &mut Vec<u8>, stamp: &Stamp, is_combined: bool) {
        self.push_address(out);
        out.extend_from_slice(b" - - [");
        out.extend_from_slice(stamp.common());
        out.extend_from_slice(b"] \"");
        match self.head {
            Some(head) => {
                push_hex(out, head.method().as_str().as_bytes());
                out.push(b' ');
                push_hex(out, head.target().as_bytes());
                out.push(b' ');
                out.extend_from_slice(protocol(head.version()).as_bytes());
            }
            None => out.push(b'-'),
        }
        out.extend_from_slice(b"\" ");
        push_number(out, u64::from(self.status));
        out.push(b' ');
        push_number(out, self.body_bytes);
        if is_combined {
            for name in ["referer", "user-agent"] {
                out.extend_from_slice(b" \"");
                push_hex(out, self.field(name).unwrap_or(b"-"));
                out.push(b'"');
            }
        }
        out.push(b'\n');
    }

    fn push_json(&self, out: &mut Vec<u8>, stamp: &Stamp) {
        out.extend_from_slice(b"{\"time\":\"");
        stamp.push_iso(out);
        out.extend_from_slice(b"\",\"remote\":\"");
        self.push_address(out);
        out.push(b'"');
        if let Some(head) = self.head {
            push_text(out, "host", head.authority().unwrap_or_default().as_bytes());
            push_text(out, "method", head.method().as_str().as_bytes());
            push_text(out, "target", head.target().as_bytes());
            push_text(out, "protocol", protocol(head.version()).as_bytes());
        }
        out.extend_from_slice(b",\"status\":");
        push_number(out, u64::from(self.status));
        out.extend_from_slice(b",\"bytes\":");
        push_number(out, self.body_bytes);
        out.extend_from_slice(b",\"duration_ms\":");
        push_millis(out, self.duration);
        for (key, name) in [("referer", "referer"), ("user_agent", "user-agent")] {
            if let Some(value) = self.field(name) {
                push_text(out, key, value);
            }
        }
        if let Some(version) = self.tls_version {
            push_text(out, "tls", version.as_bytes());
        }
        if let Some(sha256) = self.client {
            out.extend_from_slice(b",\"client_sha256\":\"");
            for byte in sha256 {
                // Writing to a Vec cannot fail.
                drop(write!(out, "{byte:02x}"));
            }
            out.push(b'"');
        }
        out.extend_from_slice(b",\"connection\":");
        push_number(out, self.connection_id);
        push_text(out, "outcome", outcome(self.outcome).as_bytes());
        out.extend_from_slice(b"}\n");
    }

    fn push_address(&self, out: &mut Vec<u8>) {
        match self.peer.map(|peer| peer.ip().to_canonical()) {
            Some(IpAddr::V4(address)) => {
                for (index, part) in address.octets().into_iter().enumerate() {
                    if index > 0 {
                        out.push(b'.');
                    }
                    push_number(out, u64::from(part));
                }
            }
            // Writing to a Vec cannot fail.
            Some(IpAddr::V6(address)) => drop(write!(out, "{address}")),
            None => out.push(b'-'),
        }
    }

    fn field(&self, name: &str) -> Option<&[u8]> {
        self.head?.header(name)
    }
}

fn push_text(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":\"");
    push_json(out, value);
    out.push(b'"');
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Milliseconds with three decimals.
fn push_millis(out: &mut Vec<u8>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    push_number(out, micros / 1000);
    let rest = 1000 + micros % 1000;
    let mut buffer = itoa::Buffer::new();
    out.push(b'.');
    out.extend_from_slice(buffer.format(rest).as_bytes().get(1..).unwrap_or_default());
}

pub(crate) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

pub(crate) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::PeerGone => "peer-gone",
        Outcome::BodyFailed => "body-failed",
        Outcome::Panicked => "panicked",
        Outcome::Refused => "refused",
        _ => "other",
    }
}

#[cfg(test)]
mod tests;
