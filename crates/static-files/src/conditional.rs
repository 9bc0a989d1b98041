//! Conditional requests: RFC 9110 §13.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hearth_http_core::{Head, Method};

/// The validators of the selected representation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validators<'a> {
    /// A strong entity tag, quotes included.
    pub(crate) etag: &'a [u8],
    /// Seconds since 1970; `None` where the file system knows no time, or one in the future.
    pub(crate) modified: Option<u64>,
}

/// What the preconditions of a request come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer as if there were none.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Which of the fields that change the answer a request has: found in one pass over its head, so that
/// a request without any pays for one pass only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asks {
    pub(crate) encoding: bool,
    pub(crate) if_match: bool,
    pub(crate) if_modified_since: bool,
    pub(crate) if_none_match: bool,
    pub(crate) if_range: bool,
    pub(crate) if_unmodified_since: bool,
    pub(crate) range: bool,
}

impl Asks {
    pub(crate) fn of(head: &Head) -> Self {
        let mut asks = Self::default();
        for (name, _) in head.fields() {
            // Names of other lengths are passed over without looking at them.
            let (wanted, slot) = match name.len() {
                5 => ("range", &mut asks.range),
                8 if name.get(3) == Some(&b'm') || name.get(3) == Some(&b'M') => {
                    ("if-match", &mut asks.if_match)
                }
                8 => ("if-range", &mut asks.if_range),
                13 => ("if-none-match", &mut asks.if_none_match),
                15 => ("accept-encoding", &mut asks.encoding),
                17 => ("if-modified-since", &mut asks.if_modified_since),
                19 => ("if-unmodified-since", &mut asks.if_unmodified_since),
                _ => continue,
            };
            if name.eq_ignore_ascii_case(wanted.as_bytes()) {
                *slot = true;
            }
        }
        asks
    }

    pub(crate) fn conditional(self) -> bool {
        self.if_match || self.if_modified_since || self.if_none_match || self.if_unmodified_since
    }
}

/// Evaluates the preconditions in the order of RFC 9110 §13.2.2, for GET and HEAD.
pub(crate) fn evaluate(head: &Head, asks: Asks, now: Validators<'_>) -> Verdict {
    if asks.if_match {
        // Step 1: strong comparison.
        if !matches_any(head.header_all("if-match"), |tag| tag == now.etag) {
            return Verdict::Failed;
        }
    } else if asks.if_unmodified_since
        && let Some(modified) = now.modified
        && let Some(date) = single_date(head, "if-unmodified-since")
        && modified > date
    {
        // Step 2.
        return Verdict::Failed;
    }
    if asks.if_none_match {
        // Step 3: weak comparison.
        let same = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag) == now.etag;
        if matches_any(head.header_all("if-none-match"), same) {
            return Verdict::NotModified;
        }
    } else if asks.if_modified_since
        && matches!(*head.method(), Method::GET | Method::HEAD)
        && let Some(modified) = now.modified
        && let Some(date) = single_date(head, "if-modified-since")
        && modified <= date
    {
        // Step 4.
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Whether `Range` holds: no `If-Range`, or one that matches (RFC 9110 §13.1.5, step 5 of §13.2.2).
pub(crate) fn range_applies(head: &Head, asks: Asks, now: Validators<'_>) -> bool {
    if !asks.if_range {
        return true;
    }
    let mut values = head.header_all("if-range");
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    if value.first() == Some(&b'"') || value.starts_with(b"W/") {
        return value == now.etag;
    }
    // A date must be the very one, and must be strong (§8.8.2.2): the file may have changed again within
    // the second that it names, unless that second is over.
    parse_date(value).is_some_and(|date| {
        let over = UNIX_EPOCH + Duration::from_secs(date.saturating_add(1));
        now.modified == Some(date) && over < SystemTime::now()
    })
}

/// Whether `*` or one of the listed tags is the current one. Tags may hold commas, so the list is walked.
fn matches_any<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    mut is_current: impl FnMut(&'a [u8]) -> bool,
) -> bool {
    for value in values {
        let mut rest = value.trim_ascii();
        if rest == b"*" {
            return true;
        }
        while let Some((tag, tail)) = next_tag(rest) {
            if is_current(tag) {
                return true;
            }
            rest = tail;
        }
    }
    false
}

/// The next entity tag of a list and what follows it; `None` at the end, or at what is no tag.
fn next_tag(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = list.iter().position(|byte| !matches!(byte, b',' | b' ' | b'\t'))?;
    let list = list.get(start..)?;
    let prefix = if list.starts_with(b"W/") { 2 } else { 0 };
    let quoted = list.get(prefix..)?.strip_prefix(b"\"")?;
    let length = quoted.iter().position(|&byte| byte == b'"')?;
    Some(list.split_at(prefix + length + 2))
}

/// The date of a field that must come once; what is no date is ignored, as §13.1.3 and §13.1.4 ask.
fn single_date(head: &Head, name: &str) -> Option<u64> {
    let mut values = head.header_all(name);
    match (values.next(), values.next()) {
        (Some(value), None) => parse_date(value),
        _ => None,
    }
}

fn parse_date(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    date.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use hearth_http_core::{Body, Method, Request};

    use super::{Asks, Validators, Verdict, evaluate, range_applies};

    const ETAG: &str = "\"v1\"";
    /// 1994-11-06 08:49:37 UTC.
    const MODIFIED: u64 = 784_111_777;
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn request(fields: &[(&str, &str)]) -> Request {
        Request::build(Method::GET, "/", fields, Body::Empty).expect("a request")
    }

    fn validators() -> Validators<'static> {
        Validators { etag: ETAG.as_bytes(), modified: Some(MODIFIED) }
    }

    #[track_caller]
    fn check(fields: &[(&str, &str)], want: Verdict) {
        let request = request(fields);
        let asks = Asks::of(request.head());
        assert_eq!(evaluate(request.head(), asks, validators()), want, "{fields:?}");
    }

    /// RFC 9110 §13.1 and §13.2.2.
    #[test]
    fn preconditions() {
        use Verdict::{Failed, NotModified, Proceed};
        check(&[], Proceed);
        // §13.1.1 If-Match: strong comparison, `*`, lists over several lines.
        check(&[("If-Match", ETAG)], Proceed);
        check(&[("If-Match", "*")], Proceed);
        check(&[("If-Match", "\"v0\", \"v1\"")], Proceed);
        check(&[("If-Match", "\"v0\""), ("If-Match", "\"v1\"")], Proceed);
        check(&[("If-Match", "\"v0\"")], Failed);
        check(&[("If-Match", "W/\"v1\"")], Failed);
        check(&[("If-Match", "v1")], Failed);
        check(&[("If-Match", "")], Failed);
        check(&[("If-Match", "\"a,b\",\"v1\"")], Proceed);
        check(&[("If-Match", "\"x\\\", \"v1\"")], Proceed); // a backslash is an ordinary character
        // §13.1.2 If-None-Match: weak comparison.
        check(&[("If-None-Match", ETAG)], NotModified);
        check(&[("If-None-Match", "W/\"v1\"")], NotModified);
        check(&[("If-None-Match", "*")], NotModified);
        check(&[("If-None-Match", "\"v0\",W/\"v1\" , \"v2\"")], NotModified);
        check(&[("If-None-Match", "\"v0\""), ("If-None-Match", "\"v1\"")], NotModified);
        check(&[("If-None-Match", "\"v0\"")], Proceed);
        check(&[("If-None-Match", "\"V1\"")], Proceed);
        check(&[("If-None-Match", "w/\"v1\"")], Proceed); // W is case-sensitive
        check(&[("If-None-Match", "v1")], Proceed);
        check(&[("If-None-Match", "\"v1")], Proceed);
        check(&[("If-None-Match", ",,  ,\"v1\"")], NotModified);
        // §13.1.3 If-Modified-Since.
        check(&[("If-Modified-Since", SAME)], NotModified);
        check(&[("If-Modified-Since", LATER)], NotModified);
        check(&[("If-Modified-Since", EARLIER)], Proceed);
        check(&[("If-Modified-Since", "Sunday, 06-Nov-94 08:49:37 GMT")], NotModified);
        check(&[("If-Modified-Since", "Sun Nov  6 08:49:37 1994")], NotModified);
        check(&[("If-Modified-Since", "yesterday")], Proceed);
        check(&[("If-Modified-Since", "784111777")], Proceed);
        check(&[("If-Modified-Since", SAME), ("If-Modified-Since", SAME)], Proceed);
        // §13.1.4 If-Unmodified-Since.
        check(&[("If-Unmodified-Since", SAME)], Proceed);
        check(&[("If-Unmodified-Since", LATER)], Proceed);
        check(&[("If-Unmodified-Since", EARLIER)], Failed);
        check(&[("If-Unmodified-Since", "never")], Proceed);
        // §13.2.2: the order between them.
        check(&[("If-Match", ETAG), ("If-Unmodified-Since", EARLIER)], Proceed);
        check(&[("If-Match", "\"v0\""), ("If-None-Match", ETAG)], Failed);
        check(&[("If-Match", ETAG), ("If-None-Match", ETAG)], NotModified);
        check(&[("If-None-Match", "\"v0\""), ("If-Modified-Since", LATER)], Proceed);
        check(&[("If-None-Match", ETAG), ("If-Modified-Since", EARLIER)], NotModified);
        check(&[("If-Unmodified-Since", EARLIER), ("If-None-Match", ETAG)], Failed);
        check(&[("If-Unmodified-Since", SAME), ("If-Modified-Since", SAME)], NotModified);
    }

    #[test]
    fn without_a_time_only_tags_count() {
        let fields = [("If-Modified-Since", LATER), ("If-Unmodified-Since", EARLIER)];
        let request = request(&fields);
        let asks = Asks::of(request.head());
        let validators = Validators { etag: ETAG.as_bytes(), modified: None };
        assert_eq!(evaluate(request.head(), asks, validators), Verdict::Proceed);
    }

    /// RFC 9110 §13.1.5.
    #[test]
    fn if_range() {
        for (value, want) in [
            (ETAG, true),
            ("W/\"v1\"", false),
            ("\"v0\"", false),
            ("v1", false),
            ("*", false),
            ("\"v0\", \"v1\"", false),
            (SAME, true),
            (EARLIER, false),
            (LATER, false), // the very date, not one since
        ] {
            let request = request(&[("if-range", value)]);
            let asks = Asks::of(request.head());
            assert_eq!(range_applies(request.head(), asks, validators()), want, "{value}");
        }
        let twice = request(&[("if-range", ETAG), ("if-range", ETAG)]);
        assert!(!range_applies(twice.head(), Asks::of(twice.head()), validators()));
    }
}
