//! Which bytes may stand where in a head.

/// How many bytes at the front are those of a token (RFC 9110 §5.6.2).
#[inline]
pub(crate) fn token_len(text: &[u8]) -> usize {
    len_of(text, TOKEN, names)
}

/// How many bytes at the front may stand in a request target: visible ASCII but `#`.
#[inline]
pub(crate) fn target_len(text: &[u8]) -> usize {
    let usual = |word: u64| {
        let low = word & repeat(0x7f);
        between(low, b'!', b'~') & !between(low, b'#', b'#') & !word
    };
    len_of(text, TARGET, usual)
}

/// How many bytes at the front may stand in a host as they are: unreserved and sub-delims
/// (RFC 3986 §2) but the comma, which in a field value smells of two hosts.
#[inline]
pub(crate) fn host_len(text: &[u8]) -> usize {
    len_of(text, HOST, names)
}

/// How many bytes at the front may stand in a field value (RFC 9110 §5.5).
#[inline]
pub(crate) fn value_len(text: &[u8]) -> usize {
    let usual = |word: u64| {
        let low = word & repeat(0x7f);
        (between(low, b' ', b'~') | word) & repeat(0x80)
    };
    len_of(text, VALUE, usual)
}

pub(crate) fn is_value_byte(byte: u8) -> bool {
    is_of(byte, VALUE)
}

/// How many bytes at the front are of a class. `usual` sets the high bit of each byte that is of it, but
/// need not know all of them: those that it does not know are looked up.
#[inline(always)]
fn len_of(text: &[u8], class: u8, usual: impl Fn(u64) -> u64) -> usize {
    let mut len = 0;
    loop {
        let rest = text.get(len..).unwrap_or_default();
        let Some(word) = rest.first_chunk::<8>() else {
            let last = rest.iter().position(|byte| !is_of(*byte, class));
            return len + last.unwrap_or(rest.len());
        };
        let others = !usual(u64::from_le_bytes(*word)) & repeat(0x80);
        if others == 0 {
            len += 8;
            continue;
        }
        let place = (others.trailing_zeros() / 8) as usize;
        if rest.get(place).is_none_or(|byte| !is_of(*byte, class)) {
            return len + place;
        }
        len += place + 1;
    }
}

/// Letters, digits, hyphen and dot.
#[inline(always)]
fn names(word: u64) -> u64 {
    let low = word & repeat(0x7f);
    let letters = between(low | repeat(0x20), b'a', b'z');
    (letters | between(low, b'0', b'9') | between(low, b'-', b'.')) & !word
}

/// The high bit of each byte from `first` to `last`, beside bits that mean nothing. No byte may
/// have its own high bit set, so that none carries into the next.
#[inline(always)]
fn between(word: u64, first: u8, last: u8) -> u64 {
    (word + repeat(0x80 - first)) & !(word + repeat(0x7f - last))
}

const fn repeat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

#[inline(always)]
fn is_of(byte: u8, class: u8) -> bool {
    CLASSES.get(usize::from(byte)).is_some_and(|of| of & class != 0)
}

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const HOST: u8 = 4;
const VALUE: u8 = 8;

/// The classes of each byte.
static CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let of = byte as u8;
        let is_text = of.is_ascii_alphanumeric();
        table[byte] = (if is_text || contains(b"!#$%&'*+-.^_`|~", of) { TOKEN } else { 0 })
            | (if of.is_ascii_graphic() && of != b'#' { TARGET } else { 0 })
            | (if is_text || contains(b"-._~!$&'()*+;=", of) { HOST } else { 0 })
            | (if of == b'\t' || (of >= b' ' && of != 0x7f) { VALUE } else { 0 });
        byte += 1;
    }
    table
};

const fn contains(list: &[u8], byte: u8) -> bool {
    let mut at = 0;
    while at < list.len() {
        if list[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte at every place of a word, and behind it: the words and the table must agree.
    #[track_caller]
    fn check(len_of: fn(&[u8]) -> usize, class: u8) {
        for byte in 0..=255_u8 {
            for at in 0..20 {
                let mut text = [b'a'; 20];
                text[at] = byte;
                let want = if is_of(byte, class) { 20 } else { at };
                assert_eq!(len_of(&text), want, "{byte:#x} at {at}");
                text[(at + 1) % 20] = b' ';
                let want = (0..20).find(|&at| !is_of(text[at], class)).unwrap_or(20);
                assert_eq!(len_of(&text), want, "{byte:#x} at {at} before a space");
            }
        }
        assert_eq!(len_of(b""), 0);
    }

    #[test]
    fn words_are_what_their_bytes_are() {
        check(token_len, TOKEN);
        check(target_len, TARGET);
        check(host_len, HOST);
        check(value_len, VALUE);
    }

    #[test]
    fn classes_are_those_of_the_rfcs() {
        let of = |class: u8| (0..=255_u8).filter(move |&byte| is_of(byte, class));
        assert_eq!(of(TOKEN).count(), 62 + 15);
        assert!(of(TARGET).eq((0x21..=0x7e).filter(|&byte| byte != b'#')));
        assert_eq!(of(HOST).count(), 62 + 14);
        assert!(of(HOST).all(|byte| !b",:@/?#[]%\"<>\\".contains(&byte)));
        let values = (0..=255_u8).filter(|&byte| byte == b'\t' || (byte > 31 && byte != 127));
        assert!(of(VALUE).eq(values));
    }
}
