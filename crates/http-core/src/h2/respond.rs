//! The head of a response.

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use super::{hpack::Encoder, link::Link};
use crate::{Headers, Response};

/// Makes the heads of one connection.
#[derive(Debug)]
pub(super) struct Heads {
    server: Option<HeaderValue>,
    date: Option<(Instant, HeaderValue)>,
}

/// What a response's head says about its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Framing {
    /// Whether content is sent.
    pub(super) has_content: bool,
    /// What `content-length` says.
    pub(super) length: Option<u64>,
}

impl Framing {
    /// RFC 9110 §6.4.1: these have no content, whatever the handler made.
    pub(super) fn of(response: &Response, method: &Method) -> Self {
        let status = response.status();
        let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        let len = response.body_len();
        Self {
            has_content: !bodiless && *method != Method::HEAD && len != Some(0),
            length: len.filter(|_| !bodiless),
        }
    }
}

impl Heads {
    pub(super) fn new(server: Option<HeaderValue>) -> Self {
        Self { server, date: None }
    }

    /// Appends the head of a response, with what the connection adds to the handler's fields.
    pub(super) fn put(
        &mut self,
        link: &mut Link,
        stream: u32,
        status: StatusCode,
        own: &Headers,
        framing: Framing,
        now: Instant,
    ) {
        let date = self.date(now);
        link.put_fields(stream, !framing.has_content, |encoder, out| {
            encoder.status(out, status);
            let seen = put_own(encoder, out, own, framing);
            if let Some(length) = framing.length
                && !seen.length
            {
                let mut digits = itoa::Buffer::new();
                encoder.once(out, "content-length", digits.format(length).as_bytes());
            }
            if !seen.date {
                encoder.field(out, &header::DATE, &date);
            }
            if let (Some(server), false) = (&self.server, seen.server) {
                encoder.field(out, &header::SERVER, server);
            }
        });
    }

    fn date(&mut self, now: Instant) -> HeaderValue {
        if let Some((until, value)) = &self.date
            && now < *until
        {
            return value.clone();
        }
        let wall = SystemTime::now();
        let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let text = httpdate::fmt_http_date(wall);
        let value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
        let rest = Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
        self.date = Some((now + rest, value.clone()));
        value
    }
}

/// Which of the fields that the connection adds were there.
#[derive(Default)]
struct Seen {
    date: bool,
    length: bool,
    server: bool,
}

fn put_own(encoder: &mut Encoder, out: &mut Vec<u8>, own: &Headers, framing: Framing) -> Seen {
    let mut seen = Seen::default();
    for (name, value) in own.iter() {
        if is_connection_specific(name) {
            continue;
        }
        if *name == header::CONTENT_LENGTH {
            // The length of content that is known to us is not a matter of opinion; a HEAD response may
            // tell the length of content that was never made.
            if framing.has_content || framing.length > Some(0) {
                continue;
            }
            seen.length = true;
        }
        seen.date |= *name == header::DATE;
        seen.server |= *name == header::SERVER;
        encoder.field(out, name, value);
    }
    seen
}

/// RFC 9113 §8.2.2: these speak of an HTTP/1.1 connection.
fn is_connection_specific(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == header::UPGRADE
        || *name == header::TE
        || name.as_str() == "keep-alive"
        || name.as_str() == "proxy-connection"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(response: &Response, method: &Method, has_content: bool, length: Option<u64>) {
        assert_eq!(Framing::of(response, method), Framing { has_content, length }, "{response:?}");
    }

    #[test]
    fn which_responses_have_content() {
        check(&Response::text("four"), &Method::GET, true, Some(4));
        check(&Response::text("four"), &Method::HEAD, false, Some(4));
        check(&Response::new(()), &Method::GET, false, Some(0));
        check(
            &Response::text("four").with_status(StatusCode::NO_CONTENT),
            &Method::GET,
            false,
            None,
        );
        check(
            &Response::text("four").with_status(StatusCode::NOT_MODIFIED),
            &Method::GET,
            false,
            None,
        );
    }

    fn fields(own: &Response, method: &Method) -> Vec<(String, String)> {
        let mut link = Link::new(&crate::Settings::default(), false);
        link.out.buffer.clear();
        let mut heads = Heads::new(Some(HeaderValue::from_static("hearth")));
        let framing = Framing::of(own, method);
        heads.put(&mut link, 1, own.status(), own.headers(), framing, Instant::now());
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let block = &link.out.buffer[9..];
        let mut decoder = crate::h2::hpack::Decoder::new(4096);
        let sink = |field: crate::h2::hpack::Field<'_>| {
            fields.push((text(field.name), text(field.value)));
        };
        decoder.decode(block, 10_000, sink).unwrap();
        fields
    }

    #[test]
    fn the_connection_adds_and_removes() {
        let response = Response::text("four")
            .with_header(header::CONNECTION, HeaderValue::from_static("close"))
            .with_header(HeaderName::from_static("keep-alive"), HeaderValue::from_static("1"))
            .with_header(header::CONTENT_LENGTH, HeaderValue::from_static("99"));
        let fields = fields(&response, &Method::GET);
        let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [":status", "content-type", "content-length", "date", "server"]);
        assert_eq!(fields[2].1, "4");
    }

    #[test]
    fn a_head_response_may_tell_a_length_of_its_own() {
        let response =
            Response::new(()).with_header(header::CONTENT_LENGTH, HeaderValue::from_static("99"));
        let fields = fields(&response, &Method::HEAD);
        assert_eq!(fields[1], ("content-length".into(), "99".into()));
    }
}
