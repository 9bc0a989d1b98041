//! `Upgrade: h2c`: the request that came as HTTP/1.1, as the frame that would have carried it.
//!
//! RFC 9113 deprecates this way into HTTP/2 (§3.1); it works only where the listener allows it.

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::FrameHead;
use crate::Head;

/// Why a request cannot go on as stream 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// RFC 7540 §3.2.1: not exactly the payload of a SETTINGS frame in base64url.
    #[error("the http2-settings field is malformed")]
    Settings,
    #[error("the request cannot be expressed in HTTP/2")]
    Request,
}

/// The HEADERS frame of stream 1, for [`Driver::upgraded`](super::Driver::upgraded).
///
/// `settings` is the value of the `http2-settings` field. It is only checked: the client sends the
/// same settings again in its preface, behind which this frame is put, so that the response already
/// obeys them and exactly one acknowledgement goes out.
///
/// # Errors
/// [`Refused`]; the request is then answered as HTTP/1.1, which every client must expect.
pub(crate) fn upgrade_prefix(head: &Head, settings: &[u8]) -> Result<Bytes, Refused> {
    if !is_settings(settings) {
        return Err(Refused::Settings);
    }
    let authority = head.authority().ok_or(Refused::Request)?;
    let mut block = BytesMut::with_capacity(512);
    put_field(&mut block, b":method", head.method().as_str().as_bytes());
    put_field(&mut block, b":scheme", b"http");
    put_field(&mut block, b":authority", authority.as_bytes());
    let target = head.target();
    // Of an absolute-form target only the path goes on; the authority says the rest.
    let path = match target.find("://") {
        Some(at) if !target.starts_with('/') => {
            let rest = target.get(at + 3..).unwrap_or_default();
            rest.find(['/', '?']).and_then(|slash| rest.get(slash..)).unwrap_or("/")
        }
        _ => target,
    };
    put_field(&mut block, b":path", path.as_bytes());
    let named = connection_options(head);
    for (name, value) in head.fields() {
        let name = name.to_ascii_lowercase();
        if !DROPPED.contains(&name.as_slice()) && !named.contains(&name) {
            put_field(&mut block, &name, value);
        }
    }
    frames(&block)
}

/// One HEADERS frame, or one and CONTINUATION frames.
fn frames(block: &[u8]) -> Result<Bytes, Refused> {
    let mut frames = BytesMut::with_capacity(block.len() + 2 * FrameHead::LEN);
    let count = block.len().div_ceil(PAYLOAD_MAX);
    for (index, payload) in block.chunks(PAYLOAD_MAX).enumerate() {
        let len = u32::try_from(payload.len()).map_err(|_| Refused::Request)?;
        let first = if index == 0 { END_STREAM } else { 0 };
        let last = if index + 1 == count { END_HEADERS } else { 0 };
        let kind = if index == 0 { HEADERS } else { CONTINUATION };
        frames.put_uint(u64::from(len), 3);
        frames.put_u8(kind);
        frames.put_u8(first | last);
        frames.put_u32(1);
        frames.put_slice(payload);
    }
    Ok(frames.freeze())
}

/// RFC 7541 §6.2.2: a literal without indexing, name and value not compressed.
fn put_field(block: &mut BytesMut, name: &[u8], value: &[u8]) {
    block.put_u8(0);
    for text in [name, value] {
        put_length(block, text.len());
        block.put_slice(text);
    }
}

/// RFC 7541 §5.1 with a prefix of seven bits.
fn put_length(block: &mut BytesMut, mut len: usize) {
    if len < 127 {
        block.put_u8(len as u8);
        return;
    }
    block.put_u8(127);
    len -= 127;
    while len >= 128 {
        block.put_u8((len % 128) as u8 | 0x80);
        len /= 128;
    }
    block.put_u8(len as u8);
}

/// What the `connection` field says belongs to this hop only.
fn connection_options(head: &Head) -> Vec<Vec<u8>> {
    head.header_all("connection")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|name| name.trim_ascii().to_ascii_lowercase())
        .collect()
}

/// Whether this is base64url of a whole number of settings, six octets each.
fn is_settings(field: &[u8]) -> bool {
    let text = field.trim_ascii();
    let unpadded = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    // Eight characters carry six octets.
    unpadded % 8 == 0 && text.iter().take(unpadded).all(is_base64) && text.len() <= SETTINGS_MAX
}

/// Fields of the HTTP/1.1 hop; the Host field is `:authority` here.
const DROPPED: [&[u8]; 8] = [
    b"connection",
    b"host",
    b"http2-settings",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"transfer-encoding",
    b"upgrade",
];
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PAYLOAD_MAX: usize = 16 * 1024;
const SETTINGS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use http::{Method, Version};

    use super::*;
    use crate::HeadBuilder;

    #[test]
    fn settings_fields() {
        for good in ["", "AAMAAABkAAQAoAAAAAIAAAAA", "AAMAAABk", "AAMAAABk=="] {
            assert!(is_settings(good.as_bytes()), "{good:?}");
        }
        for bad in ["AAMAAAB", "AAMA AAB", "AAMAAAB+", "A"] {
            assert!(!is_settings(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn only_end_to_end_fields_go_on() {
        let head = HeadBuilder::new(Method::GET, "/x?y", Version::HTTP_11, BytesMut::new())
            .field(b"Host", b"a.test")
            .field(b"Connection", b"Upgrade, HTTP2-Settings, X-Hop")
            .field(b"Upgrade", b"h2c")
            .field(b"HTTP2-Settings", b"")
            .field(b"X-Hop", b"1")
            .field(b"Accept", b"*/*")
            .build()
            .unwrap();
        let frames = upgrade_prefix(&head, b"").unwrap();
        let mut block = BytesMut::new();
        let fields: [(&[u8], &[u8]); 5] = [
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":authority", b"a.test"),
            (b":path", b"/x?y"),
            (b"accept", b"*/*"),
        ];
        for (name, value) in fields {
            put_field(&mut block, name, value);
        }
        assert_eq!(frames[FrameHead::LEN..], block);
        assert_eq!(frames[..5], [0, 0, block.len() as u8, HEADERS, END_STREAM | END_HEADERS]);
    }

    #[test]
    fn lengths_of_strings() {
        for (len, want) in
            [(0, vec![0]), (126, vec![126]), (127, vec![127, 0]), (1337, vec![127, 186, 9])]
        {
            let mut block = BytesMut::new();
            put_length(&mut block, len);
            assert_eq!(block[..], want[..], "{len}");
        }
    }
}
