use std::time::UNIX_EPOCH;

use hearth_http_core::{Bytes, HeadBuilder, Method};
use proptest::prelude::*;

use super::*;

fn head(method: Method, target: &str, fields: &[(&str, &[u8])]) -> Head {
    let builder = HeadBuilder::new(method, target, Version::HTTP_11, Bytes::new().into());
    let add =
        |builder: HeadBuilder, (name, value): &(&str, &[u8])| builder.field(name.as_bytes(), value);
    fields.iter().fold(builder, add).build().unwrap()
}

fn entry(head: Option<&Head>) -> Entry<'_> {
    Entry {
        connection_id: 7,
        peer: Some("192.0.2.1:5000".parse().unwrap()),
        tls_version: None,
        client: None,
        head,
        status: 200,
        body_bytes: 612,
        duration: Duration::from_micros(1042),
        outcome: Outcome::Complete,
    }
}

fn line(entry: &Entry<'_>, format: AccessFormat) -> String {
    let mut stamp = Stamp::default();
    stamp.set(UNIX_EPOCH + Duration::from_millis(971_186_136_042));
    let mut out = Vec::new();
    match format {
        AccessFormat::Combined => entry.push_common(&mut out, &stamp, true),
        AccessFormat::Common => entry.push_common(&mut out, &stamp, false),
        AccessFormat::Json => entry.push_json(&mut out, &stamp),
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn formats() {
    let head = head(
        Method::GET,
        "/a?b=c",
        &[
            ("host", b"example.com"),
            ("referer", b"https://example.com/\"x"),
            ("user-agent", b"curl/8 \x9b[2J\xff"),
            ("cookie", b"secret=1"),
            ("authorization", b"Basic c2VjcmV0"),
        ],
    );
    let entry = entry(Some(&head));
    assert_eq!(
        line(&entry, AccessFormat::Common),
        "192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] \"GET /a?b=c HTTP/1.1\" 200 612\n"
    );
    assert_eq!(
        line(&entry, AccessFormat::Combined),
        "192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] \"GET /a?b=c HTTP/1.1\" 200 612 \
         \"https://example.com/\\x22x\" \"curl/8 \\x9B[2J\\xFF\"\n"
    );
    assert_eq!(
        line(&entry, AccessFormat::Json),
        "{\"time\":\"2000-10-10T13:55:36.042Z\",\"remote\":\"192.0.2.1\",\"host\":\"example.com\",\
         \"method\":\"GET\",\"target\":\"/a?b=c\",\"protocol\":\"HTTP/1.1\",\"status\":200,\
         \"bytes\":612,\"duration_ms\":1.042,\"referer\":\"https://example.com/\\\"x\",\
         \"user_agent\":\"curl/8 \u{fffd}[2J\u{fffd}\",\"connection\":7,\"outcome\":\"complete\"}\n"
    );
}

#[test]
fn a_request_that_was_no_request() {
    let mut entry = entry(None);
    entry.peer = Some("[::ffff:192.0.2.9]:1".parse().unwrap());
    entry.outcome = Outcome::Refused;
    entry.status = 400;
    assert_eq!(
        line(&entry, AccessFormat::Combined),
        "192.0.2.9 - - [10/Oct/2000:13:55:36 +0000] \"-\" 400 612 \"-\" \"-\"\n"
    );
    entry.peer = Some("[2001:db8::1]:1".parse().unwrap());
    entry.tls_version = Some("TLSv1.3");
    let mut sha256 = [0xa5; 32];
    sha256[0] = 7;
    entry.client = Some(&sha256);
    let json: serde_json::Value = serde_json::from_str(&line(&entry, AccessFormat::Json)).unwrap();
    assert_eq!(json["remote"], "2001:db8::1");
    assert_eq!(json["tls"], "TLSv1.3");
    assert_eq!(json["client_sha256"], format!("07{}", "a5".repeat(31)));
    assert_eq!(json["outcome"], "refused");
}

/// What a parser lets into a field: anything but control bytes, and the tab.
fn field_value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'\t'), b' '..=b'~', 0x80_u8..];
    prop::collection::vec(byte, 0..100)
}

proptest! {
    #[test]
    fn a_line_is_one_line(
        target in "/[!-\"$-~]{0,40}",
        referer in field_value(),
        agent in field_value(),
        status in 100u16..999,
    ) {
        let fields: [(&str, &[u8]); 2] = [("Referer", &referer), ("User-Agent", &agent)];
        let head = head(Method::POST, &target, &fields);
        let mut entry = entry(Some(&head));
        entry.status = status;
        for format in [AccessFormat::Common, AccessFormat::Combined, AccessFormat::Json] {
            let line = line(&entry, format);
            let inside = line.strip_suffix('\n').unwrap();
            prop_assert!(!inside.chars().any(char::is_control), "{inside:?}");
        }
        let json: serde_json::Value =
            serde_json::from_str(&line(&entry, AccessFormat::Json)).unwrap();
        prop_assert_eq!(json["target"].as_str(), Some(target.as_str()));
        let want = String::from_utf8_lossy(&agent);
        prop_assert_eq!(json["user_agent"].as_str(), Some(want.as_ref()));
    }
}
