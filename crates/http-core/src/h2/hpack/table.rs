//! The static table (RFC 7541, appendix A), and what field names mean to us.

/// What a field is, as far as the rules of HTTP/2 are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::h2) enum Kind {
    Authority,
    /// RFC 9113 §8.2.2: speaks of an HTTP/1.1 connection.
    Connection,
    ContentLength,
    Cookie,
    Expect,
    Host,
    /// A name that no field may have.
    Malformed,
    Method,
    Other,
    Path,
    Priority,
    Protocol,
    Scheme,
    Te,
    /// A pseudo-header field that no request has.
    WrongPseudo,
}

impl Kind {
    /// The kind of a name that came as text.
    pub(in crate::h2) fn of(name: &[u8]) -> Self {
        match name {
            b":authority" => Self::Authority,
            b":method" => Self::Method,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":scheme" => Self::Scheme,
            [b':', ..] => Self::WrongPseudo,
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
            | b"upgrade" => Self::Connection,
            b"content-length" => Self::ContentLength,
            b"cookie" => Self::Cookie,
            b"expect" => Self::Expect,
            b"host" => Self::Host,
            b"priority" => Self::Priority,
            b"te" => Self::Te,
            [_, ..] if name.iter().all(|byte| is_lowercase_token(*byte)) => Self::Other,
            _ => Self::Malformed,
        }
    }
}

/// RFC 9113 §8.2.1: a token without uppercase letters.
fn is_lowercase_token(byte: u8) -> bool {
    matches!(
        byte,
        b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'
            | b'_' | b'`' | b'|' | b'~'
    )
}

/// Whether a value may stand in a field (RFC 9113 §8.2.1).
pub(super) fn is_value(value: &[u8]) -> bool {
    let is_padding = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_allowed = |byte: &u8| *byte >= 0x20 && *byte != 0x7f || *byte == b'\t';
    value.iter().all(is_allowed) && !is_padding(value.first()) && !is_padding(value.last())
}

/// The entry with this index, 1 to 61.
pub(super) fn entry(index: usize) -> Option<&'static (&'static str, &'static str, Kind)> {
    STATIC.get(index.checked_sub(1)?)
}

/// The index of the first entry with this name; 0 where there is none.
pub(super) fn index_of_name(name: &str) -> u8 {
    match name.len() {
        3 => pick(name, &[("age", 21), ("via", 60)]),
        4 => pick(name, &[("date", 33), ("etag", 34), ("link", 45), ("vary", 59)]),
        5 => pick(name, &[("allow", 22)]),
        6 => pick(name, &[("server", 54)]),
        7 => pick(name, &[("expires", 36), ("refresh", 52)]),
        8 => pick(name, &[("location", 46)]),
        10 => pick(name, &[("set-cookie", 55)]),
        11 => pick(name, &[("retry-after", 53)]),
        12 => pick(name, &[("content-type", 31)]),
        13 => pick(
            name,
            &[
                ("cache-control", 24),
                ("last-modified", 44),
                ("accept-ranges", 18),
                ("content-range", 30),
            ],
        ),
        14 => pick(name, &[("content-length", 28), ("accept-charset", 15)]),
        15 => pick(name, &[("accept-encoding", 16), ("accept-language", 17)]),
        16 => pick(
            name,
            &[
                ("content-encoding", 26),
                ("content-language", 27),
                ("content-location", 29),
                ("www-authenticate", 61),
            ],
        ),
        17.. => pick(
            name,
            &[
                ("content-disposition", 25),
                ("access-control-allow-origin", 20),
                ("strict-transport-security", 56),
                ("proxy-authenticate", 48),
            ],
        ),
        _ => 0,
    }
}

fn pick(name: &str, names: &[(&str, u8)]) -> u8 {
    names.iter().find(|(known, _)| *known == name).map_or(0, |(_, index)| *index)
}

/// Name, value, kind.
static STATIC: [(&str, &str, Kind); 61] = [
    (":authority", "", Kind::Authority),
    (":method", "GET", Kind::Method),
    (":method", "POST", Kind::Method),
    (":path", "/", Kind::Path),
    (":path", "/index.html", Kind::Path),
    (":scheme", "http", Kind::Scheme),
    (":scheme", "https", Kind::Scheme),
    (":status", "200", Kind::WrongPseudo),
    (":status", "204", Kind::WrongPseudo),
    (":status", "206", Kind::WrongPseudo),
    (":status", "304", Kind::WrongPseudo),
    (":status", "400", Kind::WrongPseudo),
    (":status", "404", Kind::WrongPseudo),
    (":status", "500", Kind::WrongPseudo),
    ("accept-charset", "", Kind::Other),
    ("accept-encoding", "gzip, deflate", Kind::Other),
    ("accept-language", "", Kind::Other),
    ("accept-ranges", "", Kind::Other),
    ("accept", "", Kind::Other),
    ("access-control-allow-origin", "", Kind::Other),
    ("age", "", Kind::Other),
    ("allow", "", Kind::Other),
    ("authorization", "", Kind::Other),
    ("cache-control", "", Kind::Other),
    ("content-disposition", "", Kind::Other),
    ("content-encoding", "", Kind::Other),
    ("content-language", "", Kind::Other),
    ("content-length", "", Kind::ContentLength),
    ("content-location", "", Kind::Other),
    ("content-range", "", Kind::Other),
    ("content-type", "", Kind::Other),
    ("cookie", "", Kind::Cookie),
    ("date", "", Kind::Other),
    ("etag", "", Kind::Other),
    ("expect", "", Kind::Expect),
    ("expires", "", Kind::Other),
    ("from", "", Kind::Other),
    ("host", "", Kind::Host),
    ("if-match", "", Kind::Other),
    ("if-modified-since", "", Kind::Other),
    ("if-none-match", "", Kind::Other),
    ("if-range", "", Kind::Other),
    ("if-unmodified-since", "", Kind::Other),
    ("last-modified", "", Kind::Other),
    ("link", "", Kind::Other),
    ("location", "", Kind::Other),
    ("max-forwards", "", Kind::Other),
    ("proxy-authenticate", "", Kind::Other),
    ("proxy-authorization", "", Kind::Other),
    ("range", "", Kind::Other),
    ("referer", "", Kind::Other),
    ("refresh", "", Kind::Other),
    ("retry-after", "", Kind::Other),
    ("server", "", Kind::Other),
    ("set-cookie", "", Kind::Other),
    ("strict-transport-security", "", Kind::Other),
    ("transfer-encoding", "", Kind::Connection),
    ("user-agent", "", Kind::Other),
    ("vary", "", Kind::Other),
    ("via", "", Kind::Other),
    ("www-authenticate", "", Kind::Other),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_indices_of_the_table() {
        for (at, (name, _, kind)) in STATIC.iter().enumerate() {
            let found = index_of_name(name);
            if found > 0 {
                assert_eq!(usize::from(found), at + 1, "{name}");
            }
            if *kind != Kind::WrongPseudo {
                assert_eq!(Kind::of(name.as_bytes()), *kind, "{name}");
            }
        }
        assert_eq!(index_of_name("content-range"), 30);
        assert_eq!(index_of_name("x-unknown"), 0);
    }

    #[test]
    fn names_and_values() {
        for name in ["", "X", "a b", "a:", "ä", "a\0"] {
            assert_eq!(Kind::of(name.as_bytes()), Kind::Malformed, "{name}");
        }
        assert_eq!(Kind::of(b":status"), Kind::WrongPseudo);
        for value in ["", "a", "a b", "a\tb", "ä"] {
            assert!(is_value(value.as_bytes()), "{value}");
        }
        for value in [" ", " a", "a\t", "a\r", "a\n", "a\0b", "\x7f"] {
            assert!(!is_value(value.as_bytes()), "{value:?}");
        }
    }
}
