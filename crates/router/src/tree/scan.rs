//! Finding the end of a path segment, eight bytes at a time.

/// A segment of a path: where it lies, and the words by which it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scanned {
    pub(super) start: usize,
    /// Where the slash behind it stands, or the end of the path.
    pub(super) end: usize,
    pub(super) key: Key,
}

/// First and last eight bytes of a text, zero-padded, and its length: equal keys mean equal texts
/// up to 16 bytes, and longer texts differ in the middle only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Key {
    head: u64,
    tail: u64,
    len: u32,
}

impl Scanned {
    /// The segment that begins at `start`.
    #[inline]
    pub(super) fn read(path: &[u8], start: usize) -> Self {
        let first = load(path, start);
        let found = slashes(first);
        if found != 0 {
            let len = (found.trailing_zeros() / 8) as usize;
            return Self::short(start, len, first & mask(len));
        }
        let left = path.len().saturating_sub(start);
        if left <= 8 {
            return Self::short(start, left, first);
        }
        Self::long(path, start, first)
    }

    #[inline]
    fn short(start: usize, len: usize, head: u64) -> Self {
        // At most eight, so the cast keeps the value.
        Self { start, end: start + len, key: Key { head, tail: 0, len: len as u32 } }
    }

    #[inline]
    fn long(path: &[u8], start: usize, head: u64) -> Self {
        let mut at = start + 8;
        let end = loop {
            let found = slashes(load(path, at));
            if found != 0 {
                break at + (found.trailing_zeros() / 8) as usize;
            }
            at += 8;
            if at >= path.len() {
                break path.len();
            }
        };
        let len = end - start;
        let tail = if len > 8 { load(path, end - 8) } else { 0 };
        Self { start, end, key: Key { head, tail, len: u32::try_from(len).unwrap_or(u32::MAX) } }
    }
}

impl Key {
    /// The key of a whole text without slashes.
    pub(super) fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let tail = if bytes.len() > 8 { load(bytes, bytes.len() - 8) } else { 0 };
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Self { head: load(bytes, 0), tail, len }
    }

    /// Whether an equal key leaves the middle of the texts open.
    #[inline]
    pub(super) fn is_partial(self) -> bool {
        self.len > 16
    }

    /// Spreads the key over `bits` bits.
    #[inline]
    pub(super) fn hash(self, bits: u8) -> usize {
        // Multiplication by a large odd number mixes upwards, so the upper bits are taken.
        let mixed = self.head ^ self.tail.rotate_left(29) ^ u64::from(self.len).rotate_left(56);
        (mixed.wrapping_mul(MULTIPLIER) >> (64 - u32::from(bits))) as usize
    }
}

/// Eight bytes from `at` on, zero where the text has ended.
#[inline]
fn load(text: &[u8], at: usize) -> u64 {
    match text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => load_end(text, at),
    }
}

/// As [`load`], where fewer than eight bytes are left.
#[inline]
fn load_end(text: &[u8], at: usize) -> u64 {
    let left = text.len().saturating_sub(at);
    if let Some(last) = text.last_chunk::<8>() {
        let unwanted = 8 * (8 - left.min(8)) as u32;
        return u64::from_le_bytes(*last).checked_shr(unwanted).unwrap_or(0);
    }
    let bytes = text.get(at..).unwrap_or_default();
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// The high bit of each byte that is a slash; bits above the first may be false.
#[inline]
fn slashes(word: u64) -> u64 {
    let zero = word ^ u64::from_ne_bytes([b'/'; 8]);
    zero.wrapping_sub(u64::from_ne_bytes([0x01; 8])) & !zero & u64::from_ne_bytes([0x80; 8])
}

/// The lowest `len` bytes, for `len` below eight.
#[inline]
fn mask(len: usize) -> u64 {
    (1_u64 << (8 * len)) - 1
}

/// 2^64 divided by the golden ratio, made odd.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_segment() {
        let words = [
            "",
            "a",
            "bc",
            "seven77",
            "eight888",
            "nine99999",
            "sixteen_16161616",
            "longer-than-sixteen-bytes",
        ];
        for first in words {
            for second in words {
                for third in words {
                    let path = format!("/{first}/{second}/{third}");
                    let mut at = 1;
                    for word in [first, second, third] {
                        let scanned = Scanned::read(path.as_bytes(), at);
                        assert_eq!(&path[scanned.start..scanned.end], word, "{path:?}");
                        assert_eq!(scanned.key, Key::of(word), "{path:?}");
                        at = scanned.end + 1;
                    }
                }
            }
        }
    }

    #[test]
    fn keys_tell_texts_apart() {
        for (left, right) in
            [("a", "b"), ("a", "a\0"), ("12345678", "123456789"), ("12345678x", "12345678y")]
        {
            assert_ne!(Key::of(left), Key::of(right));
        }
        assert_eq!(Key::of("12345678_middle_87654321"), Key::of("12345678_MIDDLE_87654321"));
        assert!(Key::of("12345678_middle_87654321").is_partial());
    }
}
