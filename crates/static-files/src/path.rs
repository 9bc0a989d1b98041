//! From the path of a request to a path beneath the root.

use smallvec::SmallVec;

/// Where an escaped path is decoded: on the stack, unless it is very long.
pub(crate) type Buffer = SmallVec<[u8; 256]>;

/// Why a path names no file of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("a percent escape is malformed, or stands for NUL or a control character")]
    Malformed,
    #[error("a segment is a dot segment")]
    DotSegment,
    #[error("a segment holds a separator in disguise")]
    Separator,
    #[error("a segment begins with a dot")]
    Hidden,
    #[error("a segment ends with a dot or a space")]
    TrailingDotOrSpace,
    #[error("a segment is the name of a device on Windows")]
    DeviceName,
    #[error("the path is longer than any file's")]
    TooLong,
}

impl Refusal {
    /// Whether the request itself is wrong, rather than what it asks for.
    pub(crate) fn is_malformed(self) -> bool {
        matches!(self, Self::Malformed | Self::DotSegment)
    }
}

/// Decodes `raw` once and folds repeated slashes: the key under which a file is cached.
///
/// The key is relative to the root: `""` is the root itself, a trailing slash is kept. It is not
/// yet known to be safe; see [`check`].
pub(crate) fn key<'a>(raw: &'a str, buffer: &'a mut Buffer) -> Result<&'a str, Refusal> {
    let raw = raw.strip_prefix('/').unwrap_or(raw);
    if is_plain(raw.as_bytes()) {
        return Ok(raw);
    }
    decode(raw.as_bytes(), buffer)?;
    std::str::from_utf8(buffer).map_err(|_| Refusal::Malformed)
}

/// Whether every segment of `key` may name a file, on any system.
pub(crate) fn check(key: &str, hidden: bool) -> Result<(), Refusal> {
    if key.len() > KEY_BYTES_MAX {
        return Err(Refusal::TooLong);
    }
    let segments = key.strip_suffix('/').unwrap_or(key);
    if segments.is_empty() {
        return Ok(());
    }
    for (index, segment) in segments.split('/').enumerate() {
        // RFC 8615: these are meant to be found.
        let well_known = index == 0 && segment == ".well-known";
        check_segment(segment, hidden || well_known)?;
    }
    Ok(())
}

/// Whether a single name may be served or listed.
pub(crate) fn check_segment(segment: &str, hidden: bool) -> Result<(), Refusal> {
    if segment.is_empty() || segment == "." || segment == ".." {
        return Err(Refusal::DotSegment);
    }
    if segment.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err(Refusal::Malformed);
    }
    if segment.contains('\\') {
        return Err(Refusal::Separator);
    }
    // Windows ignores these at the end: `secret.txt.` would open `secret.txt`, and `.. ` the parent.
    if segment.ends_with(['.', ' ']) {
        return Err(Refusal::TrailingDotOrSpace);
    }
    if segment.starts_with('.') && !hidden {
        return Err(Refusal::Hidden);
    }
    if is_device_name(segment) {
        return Err(Refusal::DeviceName);
    }
    Ok(())
}

fn is_plain(raw: &[u8]) -> bool {
    let mut before = b'/';
    for &byte in raw {
        if byte == b'%' || (byte == b'/' && before == b'/') {
            return false;
        }
        before = byte;
    }
    true
}

fn decode(raw: &[u8], into: &mut Buffer) -> Result<(), Refusal> {
    let mut rest = raw;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte == b'/' {
            if !into.is_empty() && into.last() != Some(&b'/') {
                into.push(b'/');
            }
            continue;
        }
        if *byte != b'%' {
            into.push(*byte);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return Err(Refusal::Malformed) };
        let (Some(high), Some(low)) = (hex(*high), hex(*low)) else {
            return Err(Refusal::Malformed);
        };
        rest = tail;
        match high << 4 | low {
            0 => return Err(Refusal::Malformed),
            // An escaped slash is data (RFC 3986 §2.2), and no file name can hold it.
            b'/' => return Err(Refusal::Separator),
            decoded => into.push(decoded),
        }
    }
    Ok(())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// `CON`, `nul.txt`, `Com1`, `LPT¹`, … : Windows opens the device whatever the directory and the extension.
fn is_device_name(segment: &str) -> bool {
    let stem = segment.split(['.', ':']).next().unwrap_or_default().trim_end_matches(' ');
    let known = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"];
    if known.iter().any(|name| stem.eq_ignore_ascii_case(name)) {
        return true;
    }
    let Some((port, number)) = stem.split_at_checked(3) else { return false };
    let is_port = port.eq_ignore_ascii_case("COM") || port.eq_ignore_ascii_case("LPT");
    let mut digits = number.chars();
    is_port && matches!(digits.next(), Some('0'..='9' | '¹' | '²' | '³')) && digits.next().is_none()
}

/// `PATH_MAX` of Linux: nothing longer can be opened.
const KEY_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Buffer, Refusal, check, key};

    fn parse(raw: &str) -> Result<String, Refusal> {
        let mut buffer = Buffer::new();
        let key = key(raw, &mut buffer)?;
        check(key, false)?;
        Ok(key.to_owned())
    }

    #[test]
    fn accepted() {
        for (raw, want) in [
            ("/", ""),
            ("", ""),
            ("//", ""),
            ("/a/b.html", "a/b.html"),
            ("a/b.html", "a/b.html"),
            ("/a/", "a/"),
            ("//a///b//", "a/b/"),
            ("/a%20b", "a b"),
            ("/%61", "a"),
            ("/gr%C3%BC%c3%9fe.txt", "grüße.txt"),
            ("/100%25", "100%"),
            ("/%252e%252e/x", "%2e%2e/x"), // decoded once, then an ordinary name
            ("/a..b/c", "a..b/c"),
            ("/.well-known/acme-challenge/x", ".well-known/acme-challenge/x"),
            ("/console", "console"),
            ("/com", "com"),
            ("/com10.txt", "com10.txt"),
            ("/nullable.js", "nullable.js"),
            ("/a:b", "a:b"),
        ] {
            assert_eq!(parse(raw).as_deref(), Ok(want), "{raw}");
        }
    }

    #[test]
    fn refused() {
        use Refusal::{
            DeviceName, DotSegment, Hidden, Malformed, Separator, TooLong, TrailingDotOrSpace,
        };
        let long = format!("/{}", "a".repeat(5000));
        for (raw, want) in [
            ("/..", DotSegment),
            ("/../etc/passwd", DotSegment),
            ("/a/../b", DotSegment),
            ("/a/..", DotSegment),
            ("/a/./b", DotSegment),
            ("/%2e%2e/etc/passwd", DotSegment),
            ("/%2E%2e/", DotSegment),
            ("/.%2e/x", DotSegment),
            ("/%2e./x", DotSegment),
            ("/%2e/x", DotSegment),
            ("/..%2fetc", Separator),
            ("/..%2Fetc", Separator),
            ("/%2e%2e%2fetc", Separator),
            ("/a%2fb", Separator),
            ("/..\\etc", Separator),
            ("/..%5cetc", Separator),
            ("/%2e%2e%5Cetc", Separator),
            ("/a%5cb", Separator),
            ("/a%00.html", Malformed),
            ("/%00", Malformed),
            ("/a%0ab", Malformed),
            ("/a%7fb", Malformed),
            ("/a%", Malformed),
            ("/a%2", Malformed),
            ("/a%zz", Malformed),
            ("/a%u002e", Malformed),
            ("/%c0%ae%c0%ae/etc", Malformed), // overlong UTF-8 of a dot
            ("/%e0%80%ae/x", Malformed),
            ("/%ff", Malformed),
            ("/.git/config", Hidden),
            ("/.env", Hidden),
            ("/..a", Hidden),
            ("/a/.htaccess", Hidden),
            ("/%2egit/config", Hidden),
            ("/a/.well-known/x", Hidden),
            ("/...", TrailingDotOrSpace),
            ("/.../x", TrailingDotOrSpace),
            ("/a.", TrailingDotOrSpace),
            ("/a%20", TrailingDotOrSpace),
            ("/..%20/x", TrailingDotOrSpace),
            ("/a.txt%2e", TrailingDotOrSpace),
            ("/CON", DeviceName),
            ("/con.txt", DeviceName),
            ("/a/nul", DeviceName),
            ("/Nul.tar.gz", DeviceName),
            ("/aux%20.txt", DeviceName),
            ("/prn:x", DeviceName),
            ("/COM1", DeviceName),
            ("/com0.js", DeviceName),
            ("/lpt9/x", DeviceName),
            ("/COM%C2%B9", DeviceName),
            ("/conin$", DeviceName),
            (&long, TooLong),
        ] {
            assert_eq!(parse(raw), Err(want), "{raw}");
        }
    }

    proptest! {
        /// Whatever is accepted walks down only, one plain name after the other.
        #[test]
        fn what_is_accepted_leads_down(
            parts in prop::collection::vec(
                prop_oneof![
                    "(%2[eEfF]|%5[cC]|%00|%25|[./\\\\%a-c~ ]){0,6}",
                    Just("..".to_owned()),
                    Just("%2e%2e".to_owned()),
                    Just("/".to_owned()),
                ],
                0..8,
            ),
        ) {
            let raw = parts.concat();
            if let Ok(key) = parse(&raw) {
                let inner = key.strip_suffix('/').unwrap_or(&key);
                for segment in inner.split('/').filter(|_| !inner.is_empty()) {
                    prop_assert!(!segment.is_empty() && segment != "." && segment != "..", "{raw}");
                    prop_assert!(!segment.contains(['\\', '\0']), "{raw}");
                    prop_assert!(!segment.ends_with(['.', ' ']) && !segment.starts_with('.'), "{raw}");
                }
                // Decoding is the only thing that was done, and it was done once.
                let decoded = percent_encoding::percent_decode_str(&raw).decode_utf8_lossy();
                let names = |text: &str| -> Vec<String> {
                    text.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect()
                };
                prop_assert_eq!(names(&decoded), names(&key));
            }
        }
    }
}
