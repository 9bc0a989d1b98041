//! The head of a response: from ours to the codec's map.

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::{Headers, Response};

/// Makes the heads of one connection. Values that repeat are kept.
#[derive(Debug)]
pub(super) struct Heads {
    server: Option<HeaderValue>,
    date: Option<(Instant, HeaderValue)>,
    lengths: [(u64, Option<HeaderValue>); 4],
    next_length: usize,
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
        Self { server, date: None, lengths: Default::default(), next_length: 0 }
    }

    /// The fields of a response, with what the connection adds.
    pub(super) fn fields(&mut self, own: &Headers, framing: Framing, now: Instant) -> HeaderMap {
        let mut fields = HeaderMap::with_capacity(own.len() + 3);
        let mut has_date = false;
        let mut has_server = false;
        for (name, value) in own.iter() {
            if is_connection_specific(name) {
                continue;
            }
            // The length of content that is known to us is not a matter of opinion; a HEAD response may
            // tell the length of content that was never made.
            if *name == header::CONTENT_LENGTH && (framing.has_content || framing.length > Some(0))
            {
                continue;
            }
            has_date |= *name == header::DATE;
            has_server |= *name == header::SERVER;
            put(&mut fields, name.clone(), value.clone());
        }
        if let Some(length) = framing.length
            && !fields.contains_key(header::CONTENT_LENGTH)
        {
            put(&mut fields, header::CONTENT_LENGTH, self.length(length));
        }
        if !has_date {
            put(&mut fields, header::DATE, self.date(now));
        }
        if let (Some(server), false) = (&self.server, has_server) {
            put(&mut fields, header::SERVER, server.clone());
        }
        fields
    }

    fn length(&mut self, length: u64) -> HeaderValue {
        if let Some((_, Some(value))) = self.lengths.iter().find(|(known, _)| *known == length) {
            return value.clone();
        }
        let value = HeaderValue::from(length);
        let at = self.next_length % self.lengths.len();
        if let Some(entry) = self.lengths.get_mut(at) {
            *entry = (length, Some(value.clone()));
        }
        self.next_length = at + 1;
        value
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
        let until =
            now + (Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into()));
        self.date = Some((until, value.clone()));
        value
    }
}

fn put(fields: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    // `try_`: the plain form panics above 24,576 names.
    let _ = fields.try_append(name, value);
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

    #[test]
    fn the_connection_adds_and_removes() {
        let mut heads = Heads::new(Some(HeaderValue::from_static("hearth")));
        let response = Response::text("four")
            .with_header(header::CONNECTION, HeaderValue::from_static("close"))
            .with_header(HeaderName::from_static("keep-alive"), HeaderValue::from_static("1"))
            .with_header(header::CONTENT_LENGTH, HeaderValue::from_static("99"));
        let framing = Framing::of(&response, &Method::GET);
        let fields = heads.fields(response.headers(), framing, Instant::now());
        let mut names: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "content-type", "date", "server"]);
        assert_eq!(fields[header::CONTENT_LENGTH], "4");
    }

    #[test]
    fn a_head_response_may_tell_a_length_of_its_own() {
        let mut heads = Heads::new(None);
        let response =
            Response::new(()).with_header(header::CONTENT_LENGTH, HeaderValue::from_static("99"));
        let framing = Framing::of(&response, &Method::HEAD);
        let fields = heads.fields(response.headers(), framing, Instant::now());
        assert_eq!(fields[header::CONTENT_LENGTH], "99");
    }

    #[test]
    fn lengths_are_kept() {
        let mut heads = Heads::new(None);
        for length in [0, 1, 2, 3, 4, 5, 1, 10_000_000_000] {
            assert_eq!(heads.length(length), length.to_string());
            assert_eq!(heads.length(length), length.to_string());
        }
    }
}
