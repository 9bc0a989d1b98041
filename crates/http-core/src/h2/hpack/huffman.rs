//! The code of RFC 7541, appendix B.
//!
//! It is canonical: symbols of equal length have consecutive codes, shorter ones come first. So the
//! lengths say everything, and the tables here are computed from them when this is compiled.

/// A string that is no code of anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Appends what `code` stands for.
pub(super) fn decode(code: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut bytes = code.iter();
    // The next bits of the code, at the upper end.
    let mut bits = 0u64;
    let mut have = 0u32;
    loop {
        while have <= 56 {
            let Some(byte) = bytes.next() else { break };
            bits |= u64::from(*byte) << (56 - have);
            have += 8;
        }
        if have == 0 {
            return Ok(());
        }
        // Behind the end stand ones, as the padding must be.
        let padded = bits | u64::MAX.checked_shr(have).unwrap_or(0);
        let (symbol, len) = match FAST.get((padded >> (64 - FAST_BITS)) as usize) {
            Some(&(symbol, len)) if len > 0 => (symbol, u32::from(len)),
            _ => decode_long((padded >> 34) as u32)?,
        };
        if len > have {
            // RFC 7541 §5.2: less than an octet of padding, and all of it ones.
            let is_padding = have < 8 && bits == !(u64::MAX >> have);
            return if is_padding { Ok(()) } else { Err(Malformed) };
        }
        // The end of a string, 256, may not stand in one.
        out.push(u8::try_from(symbol).map_err(|_| Malformed)?);
        bits <<= len;
        have -= len;
    }
}

/// A symbol whose code is longer than the fast table's index, and the length of its code. `window` is
/// the next 30 bits.
fn decode_long(window: u32) -> Result<(u16, u32), Malformed> {
    for len in FAST_BITS + 1..=LEN_MAX {
        let at = len as usize;
        let (Some(first), Some(count), Some(offset)) =
            (CODES.first.get(at), CODES.count.get(at), CODES.offset.get(at))
        else {
            break;
        };
        let index = (window >> (LEN_MAX - len)).wrapping_sub(*first);
        if index < u32::from(*count) {
            let symbol = CODES.symbols.get(usize::from(*offset) + index as usize);
            return symbol.map(|symbol| (*symbol, len)).ok_or(Malformed);
        }
    }
    Err(Malformed)
}

/// For each length: the first code, how many there are, and where their symbols begin.
struct Codes {
    first: [u32; 31],
    count: [u16; 31],
    offset: [u16; 31],
    /// In the order of their codes.
    symbols: [u16; 257],
}

#[allow(clippy::indexing_slicing)] // At compile time an index that is out of bounds is an error.
const fn codes() -> Codes {
    let mut codes = Codes { first: [0; 31], count: [0; 31], offset: [0; 31], symbols: [0; 257] };
    let (mut len, mut code, mut at) = (1, 0u32, 0usize);
    while len <= LEN_MAX as usize {
        codes.first[len] = code;
        codes.offset[len] = at as u16;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == len {
                codes.symbols[at] = symbol as u16;
                codes.count[len] += 1;
                at += 1;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        len += 1;
    }
    codes
}

#[allow(clippy::indexing_slicing)] // As above.
const fn fast() -> [(u16, u8); 1 << FAST_BITS] {
    let codes = codes();
    let mut fast = [(0u16, 0u8); 1 << FAST_BITS];
    let mut len = 1;
    while len <= FAST_BITS as usize {
        let mut nth = 0;
        while nth < codes.count[len] as usize {
            let symbol = codes.symbols[codes.offset[len] as usize + nth];
            let room = FAST_BITS as usize - len;
            let first = (codes.first[len] as usize + nth) << room;
            let mut at = first;
            while at < first + (1 << room) {
                fast[at] = (symbol, len as u8);
                at += 1;
            }
            nth += 1;
        }
        len += 1;
    }
    fast
}

static CODES: Codes = codes();
static FAST: [(u16, u8); 1 << FAST_BITS] = fast();

/// All symbols that occur in ordinary text have codes that are no longer.
const FAST_BITS: u32 = 9;
const LEN_MAX: u32 = 30;

/// Bits of each symbol's code; the last is the end of a string.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, //
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, //
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, //
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
    30,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: &[u8], want: Result<&[u8], Malformed>) {
        let mut out = Vec::new();
        let decoded = decode(code, &mut out).map(|()| out.as_slice());
        assert_eq!(decoded, want, "code: {code:02x?}");
    }

    #[test]
    fn examples_of_the_rfc() {
        // RFC 7541 §C.4 and §C.6.
        check(
            &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff],
            Ok(b"www.example.com"),
        );
        check(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], Ok(b"no-cache"));
        check(&[0x64, 0x02], Ok(b"302"));
        check(
            &[
                0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b,
                0x81, 0x66, 0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
            ],
            Ok(b"Mon, 21 Oct 2013 20:13:21 GMT"),
        );
    }

    #[test]
    fn what_is_no_code() {
        check(&[], Ok(b""));
        check(&[0xff], Err(Malformed)); // Eight bits of padding.
        check(&[0x07, 0xff], Err(Malformed)); // Eight and more.
        check(&[0x02], Err(Malformed)); // `0`, padded with zeros.
        check(&[0xff, 0xff, 0xff, 0xfc], Err(Malformed)); // The end of a string in a string.
        check(&[0x07], Ok(b"0"));
    }

    #[test]
    fn every_symbol_is_decoded() {
        for symbol in 0..=255u8 {
            let len = u32::from(LENGTHS[usize::from(symbol)]);
            let (len_at, offset) = (len as usize, usize::from(CODES.offset[len as usize]));
            let nth = (0..usize::from(CODES.count[len_at]))
                .find(|nth| CODES.symbols[offset + nth] == u16::from(symbol))
                .unwrap();
            let code = u64::from(CODES.first[len_at]) + nth as u64;
            // Twice, then ones.
            let both =
                (code << len | code) << (64 - 2 * len) | u64::MAX.checked_shr(2 * len).unwrap_or(0);
            let bytes = both.to_be_bytes();
            check(&bytes[..(2 * len as usize).div_ceil(8)], Ok(&[symbol, symbol]));
        }
    }
}
