//! Request heads.

use hearth_http_core::Headers;
use http::{HeaderName, HeaderValue, Method, header};

use super::send::Framing;
use crate::request::RequestSettings;

/// What a request's head is made of.
pub(crate) struct Outline<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) authority: &'a str,
    pub(crate) headers: &'a Headers,
    pub(crate) user_agent: Option<&'a HeaderValue>,
    pub(crate) settings: &'a RequestSettings,
    pub(crate) framing: Framing,
    /// Whether the connection shall end with this exchange.
    pub(crate) close: bool,
}

/// Appends the head. The types admit no line end, so that no value can end it.
pub(crate) fn put_head(out: &mut Vec<u8>, outline: &Outline<'_>) {
    let headers = outline.headers;
    out.extend_from_slice(outline.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(outline.path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // RFC 9110 §7.2: `host` first.
    let host =
        headers.get(&header::HOST).map_or(outline.authority.as_bytes(), HeaderValue::as_bytes);
    put_field(out, &header::HOST, host);
    for (name, value) in headers.iter().filter(|(name, _)| !is_own(name)) {
        put_field(out, name, value.as_bytes());
    }
    if let (Some(agent), false) = (outline.user_agent, headers.contains(&header::USER_AGENT)) {
        put_field(out, &header::USER_AGENT, agent.as_bytes());
    }
    put_framing(out, outline);
    put_connection(out, outline);
    out.extend_from_slice(b"\r\n");
}

/// Fields that belong to the connection, which is ours.
pub(crate) fn is_own(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "content-length"
            | "expect"
            | "host"
            | "http2-settings"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether the caller takes trailers: the only `te` that is passed on.
pub(crate) fn wants_trailers(headers: &Headers) -> bool {
    headers.get_all(&header::TE).any(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"))
}

fn put_framing(out: &mut Vec<u8>, outline: &Outline<'_>) {
    match outline.framing {
        // RFC 9110 §8.6: where the method gives content a meaning, say that there is none.
        Framing::None => {
            let method = outline.method;
            if [Method::POST, Method::PUT, Method::PATCH].contains(method) {
                put_field(out, &header::CONTENT_LENGTH, b"0");
            }
            return;
        }
        Framing::Length(len) => {
            put_field(out, &header::CONTENT_LENGTH, itoa::Buffer::new().format(len).as_bytes());
        }
        Framing::Chunked => put_field(out, &header::TRANSFER_ENCODING, b"chunked"),
    }
    if outline.settings.expects_continue {
        put_field(out, &header::EXPECT, b"100-continue");
    }
}

fn put_connection(out: &mut Vec<u8>, outline: &Outline<'_>) {
    let trailers = wants_trailers(outline.headers);
    if trailers {
        put_field(out, &header::TE, b"trailers");
    }
    if let Some(protocol) = &outline.settings.upgrade {
        put_field(out, &header::UPGRADE, protocol.as_bytes());
    }
    let options = [
        (outline.close, "close"),
        (trailers, "te"),
        (outline.settings.upgrade.is_some(), "upgrade"),
    ];
    let options: Vec<&str> = options.iter().filter(|(is, _)| *is).map(|(_, text)| *text).collect();
    if !options.is_empty() {
        put_field(out, &header::CONNECTION, options.join(", ").as_bytes());
    }
}

fn put_field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use hearth_http_core::Headers;
    use http::{HeaderName, HeaderValue, Method};

    use super::{Framing, Outline, put_head};
    use crate::request::RequestSettings;

    struct Case<'a> {
        method: Method,
        fields: &'a [(&'static str, &'static str)],
        framing: Framing,
        settings: RequestSettings,
    }

    #[track_caller]
    fn check(case: &Case<'_>, want: &str) {
        let mut headers = Headers::new();
        for (name, value) in case.fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut out = Vec::new();
        let outline = Outline {
            method: &case.method,
            path: "/x?y",
            authority: "a.test:8080",
            headers: &headers,
            user_agent: Some(&HeaderValue::from_static("hearth")),
            settings: &case.settings,
            framing: case.framing,
            close: false,
        };
        put_head(&mut out, &outline);
        assert_eq!(String::from_utf8(out).expect("text"), want.replace('\n', "\r\n"));
    }

    #[test]
    fn heads() {
        let plain = RequestSettings::default;
        check(
            &Case { method: Method::GET, fields: &[], framing: Framing::None, settings: plain() },
            "GET /x?y HTTP/1.1\nhost: a.test:8080\nuser-agent: hearth\n\n",
        );
        // The caller's framing and connection options are not ours.
        let fields = &[
            ("content-length", "7"),
            ("transfer-encoding", "gzip"),
            ("connection", "close, x"),
            ("host", "b.test"),
            ("user-agent", "me"),
            ("x-a", "1"),
            ("te", "gzip"),
            ("expect", "200-ok"),
        ];
        check(
            &Case { method: Method::POST, fields, framing: Framing::None, settings: plain() },
            "POST /x?y HTTP/1.1\nhost: b.test\nuser-agent: me\nx-a: 1\ncontent-length: 0\n\n",
        );
        let settings = RequestSettings {
            expects_continue: true,
            upgrade: Some(HeaderValue::from_static("websocket")),
            ..plain()
        };
        check(
            &Case {
                method: Method::PUT,
                fields: &[("te", "trailers")],
                framing: Framing::Chunked,
                settings,
            },
            "PUT /x?y HTTP/1.1\nhost: a.test:8080\nuser-agent: hearth\ntransfer-encoding: chunked\n\
             expect: 100-continue\nte: trailers\nupgrade: websocket\nconnection: te, upgrade\n\n",
        );
    }
}
