//! From fields to a header block.
//!
//! Text is not Huffman-coded: that saves a few octets once, because what repeats is put into the
//! dynamic table and costs one octet from then on.

use std::collections::VecDeque;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{ENTRY_OVERHEAD, table};

/// The state of compression, which all blocks of a connection share.
#[derive(Debug)]
pub(in crate::h2) struct Encoder {
    /// The newest first.
    entries: VecDeque<(HeaderName, HeaderValue)>,
    size: usize,
    capacity: usize,
    peer_limit: usize,
    /// The capacity that the other end knows of.
    announced: usize,
    /// The least that the peer allowed since the last block, if that is less than before: it has to
    /// be said before the next field (RFC 7541 §4.2).
    smallest: Option<usize>,
}

impl Encoder {
    pub(in crate::h2) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            capacity: CAPACITY,
            peer_limit: PEER_LIMIT,
            announced: PEER_LIMIT,
            smallest: None,
        }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE.
    pub(in crate::h2) fn set_peer_limit(&mut self, limit: u32) {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.capacity = limit.min(CAPACITY);
        if limit < self.peer_limit {
            self.smallest = Some(self.smallest.map_or(self.capacity, |s| s.min(self.capacity)));
        }
        self.peer_limit = limit;
        self.evict(self.capacity);
    }

    /// To be called before the first field of each block.
    pub(in crate::h2) fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some(smallest) = self.smallest.take() {
            put_integer(out, 0x20, 5, smallest);
            self.announced = smallest;
        }
        if self.capacity > self.announced {
            put_integer(out, 0x20, 5, self.capacity);
            self.announced = self.capacity;
        }
    }

    pub(in crate::h2) fn status(&self, out: &mut Vec<u8>, status: StatusCode) {
        match status.as_u16() {
            200 => out.push(0x88),
            204 => out.push(0x89),
            206 => out.push(0x8a),
            304 => out.push(0x8b),
            400 => out.push(0x8c),
            404 => out.push(0x8d),
            500 => out.push(0x8e),
            _ => {
                out.push(0x08);
                put_string(out, status.as_str().as_bytes());
            }
        }
    }

    /// A field whose value is made for this response.
    pub(in crate::h2) fn once(&self, out: &mut Vec<u8>, name: &str, value: &[u8]) {
        put_name(out, 0x00, 4, name);
        put_string(out, value);
    }

    pub(in crate::h2) fn field(
        &mut self,
        out: &mut Vec<u8>,
        name: &HeaderName,
        value: &HeaderValue,
    ) {
        if value.is_sensitive() || *name == http::header::SET_COOKIE {
            // RFC 7541 §7.1.3: nobody on the way shall index it either.
            put_name(out, 0x10, 4, name.as_str());
            return put_string(out, value.as_bytes());
        }
        if !repeats(name) || value.len() > VALUE_MAX {
            return self.once(out, name.as_str(), value.as_bytes());
        }
        let known = self.entries.iter().position(|(n, v)| n == name && v == value);
        if let Some(at) = known {
            return put_integer(out, 0x80, 7, FIRST_DYNAMIC + at);
        }
        let size = name.as_str().len() + value.len() + ENTRY_OVERHEAD;
        if size > self.capacity {
            return self.once(out, name.as_str(), value.as_bytes());
        }
        put_name(out, 0x40, 6, name.as_str());
        put_string(out, value.as_bytes());
        self.evict(self.capacity - size);
        self.entries.push_front((name.clone(), value.clone()));
        self.size += size;
    }

    fn evict(&mut self, size_max: usize) {
        while self.size > size_max {
            let Some((name, value)) = self.entries.pop_back() else { break };
            self.size -= name.as_str().len() + value.len() + ENTRY_OVERHEAD;
        }
    }
}

/// Whether the same value is likely to come again on this connection. Others would only drive those
/// out of the table that do.
fn repeats(name: &HeaderName) -> bool {
    use http::header::{
        ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ALT_SVC, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY,
        CONTENT_TYPE, DATE, REFERRER_POLICY, SERVER, STRICT_TRANSPORT_SECURITY, VARY,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS, X_XSS_PROTECTION,
    };
    const REPEATING: [HeaderName; 20] = [
        DATE,
        CONTENT_TYPE,
        SERVER,
        CACHE_CONTROL,
        VARY,
        CONTENT_ENCODING,
        ACCEPT_RANGES,
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS,
        ALT_SVC,
        CONTENT_LANGUAGE,
        CONTENT_SECURITY_POLICY,
        REFERRER_POLICY,
        STRICT_TRANSPORT_SECURITY,
        X_CONTENT_TYPE_OPTIONS,
        X_FRAME_OPTIONS,
        X_XSS_PROTECTION,
    ];
    REPEATING.contains(name)
}

/// A literal's first octets: its kind, and its name by index or as text.
fn put_name(out: &mut Vec<u8>, kind: u8, bits: u32, name: &str) {
    let index = table::index_of_name(name);
    put_integer(out, kind, bits, usize::from(index));
    if index == 0 {
        put_string(out, name.as_bytes());
    }
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    put_integer(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

/// RFC 7541 §5.1.
fn put_integer(out: &mut Vec<u8>, first: u8, bits: u32, mut value: usize) {
    let max = (1 << bits) - 1;
    if value < max {
        return out.push(first | value as u8);
    }
    out.push(first | max as u8);
    value -= max;
    while value >= 128 {
        out.push((value % 128) as u8 | 0x80);
        value /= 128;
    }
    out.push(value as u8);
}

/// Room for a dozen fields: looking through more would cost more than it saves.
const CAPACITY: usize = 1024;
/// What a peer allows that has not said otherwise (RFC 9113 §6.5.2).
const PEER_LIMIT: usize = 4096;
const VALUE_MAX: usize = 200;
/// The index of the newest entry.
const FIRST_DYNAMIC: usize = 62;

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;
    use crate::h2::hpack::Decoder;

    fn block(encoder: &mut Encoder, fields: &[(HeaderName, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        encoder.status(&mut out, StatusCode::OK);
        for (name, value) in fields {
            encoder.field(&mut out, name, &HeaderValue::from_str(value).unwrap());
        }
        out
    }

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let sink = |field: crate::h2::hpack::Field<'_>| {
            fields.push((text(field.name), text(field.value)));
        };
        decoder.decode(block, usize::MAX, sink).unwrap();
        fields
    }

    #[test]
    fn what_is_encoded_can_be_decoded() {
        let mut encoder = Encoder::new();
        let mut decoder = Decoder::new(4096);
        for round in 0..200usize {
            // Limits that come and go, values that repeat and others that do not.
            if round % 50 == 49 {
                encoder.set_peer_limit(if round % 100 == 49 { 100 } else { 4096 });
            }
            let etag = format!("\"{round}\"");
            let vary = "x".repeat(round % 60);
            let fields = [
                (header::CONTENT_TYPE, "text/html"),
                (header::ETAG, &etag),
                (header::VARY, &vary),
                (header::SET_COOKIE, "secret"),
                (HeaderName::from_static("x-own"), "value"),
            ];
            let block = block(&mut encoder, &fields);
            let got = decoded(&mut decoder, &block);
            assert_eq!(got[0], (":status".into(), "200".into()));
            let want = fields.iter().map(|(name, value)| (name.to_string(), (*value).to_owned()));
            assert_eq!(got[1..], want.collect::<Vec<_>>(), "round {round}");
        }
    }

    #[test]
    fn what_repeats_costs_an_octet() {
        let mut encoder = Encoder::new();
        let fields = [
            (header::DATE, "Fri, 20 Nov 2026 12:00:00 GMT"),
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::SERVER, "hearth"),
        ];
        assert!(block(&mut encoder, &fields).len() > 60);
        assert_eq!(block(&mut encoder, &fields).len(), 4);
    }

    #[test]
    fn every_status() {
        let mut decoder = Decoder::new(4096);
        for status in 100..=999 {
            let mut out = Vec::new();
            Encoder::new().status(&mut out, StatusCode::from_u16(status).unwrap());
            assert_eq!(decoded(&mut decoder, &out), [(":status".into(), status.to_string())]);
        }
    }
}
