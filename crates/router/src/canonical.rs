//! One spelling for each path (RFC 3986 §6.2.2), so that a route cannot be missed, or dodged, by
//! writing it differently.

use smallvec::SmallVec;

use crate::PatternError;

/// What becomes of repeated slashes and dot segments in a request path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PathPolicy {
    /// `/a/./b/../c` becomes `/a/c`, `//` becomes `/`; handlers see the result.
    #[default]
    Clean,
    /// As `Clean` for dot segments, but repeated slashes stay as they are.
    KeepSlashes,
    /// 400 for a dot segment or `//`.
    Refuse,
}

/// Why a request path is refused with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// A dot segment or `//`, and [`PathPolicy::Refuse`].
    #[error("the path has a dot segment or an empty one")]
    Ambiguous,
    /// `%` without two hexadecimal digits.
    #[error("the path has a malformed escape")]
    BadEscape,
    /// `%00`, or a `..` that leads above the root.
    #[error("the path has a NUL or leads above the root")]
    Forbidden,
    /// Neither `/...` nor `*`.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
}

/// The canonical form of a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Canonical {
    /// It is the path itself.
    Same,
    /// As long as the path and laid out alike; only hexadecimal digits changed their case.
    Case(Text),
    /// Shorter: the request must be rewritten.
    Changed(Text),
}

/// Paths of ordinary length stay on the stack.
pub(crate) type Text = SmallVec<[u8; 256]>;

/// Whether `path` may differ from its canonical form: has an escape, `//` or a segment that begins with a dot.
#[inline]
pub(crate) fn is_suspect(path: &[u8]) -> bool {
    any_word(path, |word, before| has_structure(word, before) | zero_bytes(word ^ repeat(b'%')))
}

/// Whether any eight bytes of `path`, seen with the byte before them, are found by `find`.
#[inline]
fn any_word(path: &[u8], find: impl Fn(u64, u64) -> u64) -> bool {
    let (words, rest) = path.as_chunks::<8>();
    let mut before = 0_u64;
    let mut found = 0_u64;
    for word in words {
        let word = u64::from_le_bytes(*word);
        found |= find(word, before);
        before = word >> 56;
    }
    // What is left over is seen again with what stands before it, where there is enough of that.
    match path.last_chunk::<8>() {
        Some(last) => found |= find(u64::from_le_bytes(*last), 0),
        None => {
            let last = rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
            found |= find(last, 0);
        }
    }
    found != 0
}

/// Nonzero where `word` has a `/` or `.` right behind a `/`, which may be the byte before it.
#[inline]
fn has_structure(word: u64, before: u64) -> u64 {
    let slash = zero_bytes(word ^ repeat(b'/'));
    let dot = zero_bytes(word ^ repeat(b'.'));
    let before_is_slash = u64::from(before == u64::from(b'/')) << 7;
    ((slash << 8) | before_is_slash) & (slash | dot)
}

/// The high bit of each byte that is zero; bits above the first may be false, where a byte is 1.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(repeat(0x01)) & !word & repeat(0x80)
}

#[inline]
const fn repeat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The canonical form of a raw request path.
pub(crate) fn canonicalise(path: &str, policy: PathPolicy) -> Result<Canonical, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    let escaped = normalise_escapes(path.as_bytes())?;
    let clean =
        if any_word(&escaped, has_structure) { resolve_segments(&escaped, policy)? } else { None };
    let text = clean.unwrap_or(escaped);
    Ok(if *text == *path.as_bytes() {
        Canonical::Same
    } else if text.len() == path.len() {
        Canonical::Case(text)
    } else {
        Canonical::Changed(text)
    })
}

/// `%61` becomes `a`, `%2f` becomes `%2F`: unreserved characters lose their escape, others keep it.
fn normalise_escapes(path: &[u8]) -> Result<Text, PathError> {
    let mut out = Text::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = memchr::memchr(b'%', rest) {
        let (before, escaped) = rest.split_at(at);
        out.extend_from_slice(before);
        let [_, high, low, behind @ ..] = escaped else { return Err(PathError::BadEscape) };
        match hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low) {
            None => return Err(PathError::BadEscape),
            Some(0) => return Err(PathError::Forbidden),
            Some(plain) if is_unreserved(plain) => out.push(plain),
            Some(other) => out.extend_from_slice(&escape(other)),
        }
        rest = behind;
    }
    out.extend_from_slice(rest);
    Ok(out)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The path without dot segments (RFC 3986 §5.2.4) and repeated slashes; `None` if it has none.
fn resolve_segments(path: &[u8], policy: PathPolicy) -> Result<Option<Text>, PathError> {
    let merge = policy != PathPolicy::KeepSlashes;
    let segments = || path.get(1..).unwrap_or_default().split(|&byte| byte == b'/');
    let count = segments().count();
    let empty = |at: usize, segment: &[u8]| merge && segment.is_empty() && at + 1 < count;
    let dots = |segment: &[u8]| segment == b"." || segment == b"..";
    if !segments().enumerate().any(|(at, segment)| empty(at, segment) || dots(segment)) {
        return Ok(None);
    }
    if policy == PathPolicy::Refuse {
        return Err(PathError::Ambiguous);
    }
    let mut out = Text::with_capacity(path.len());
    for (at, segment) in segments().enumerate() {
        let last = at + 1 == count;
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    let slash = out.iter().rposition(|&byte| byte == b'/');
                    out.truncate(slash.ok_or(PathError::Forbidden)?);
                }
                // What a directory's name ends in: `/a/.` is `/a/`.
                if last {
                    out.push(b'/');
                }
            }
            _ if empty(at, segment) => {}
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    Ok(Some(out))
}

/// The literal text of a pattern in the spelling that canonical paths have.
pub(crate) fn literal(text: &str) -> Result<Box<str>, PatternError> {
    let mut encoded = Vec::with_capacity(text.len());
    for &byte in text.as_bytes() {
        // What no client sends as it is, RFC 3986 §2 and the path encode set of browsers.
        let encode = !(0x21..=0x7e).contains(&byte) || b"\"<>^`{}".contains(&byte);
        if encode {
            encoded.extend(escape(byte));
        } else {
            encoded.push(byte);
        }
    }
    let canonical = normalise_escapes(&encoded).map_err(|_| PatternError::BadEscape)?;
    let text = String::from_utf8(canonical.into_vec()).map_err(|_| PatternError::BadEscape)?;
    Ok(text.into())
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn escape(byte: u8) -> [u8; 3] {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + value - 10 };
    [b'%', digit(byte >> 4), digit(byte & 15)]
}
