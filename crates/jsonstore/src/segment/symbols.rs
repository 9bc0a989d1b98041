//! Values as codes: a table of up to 255 byte sequences, each with a code of one byte.
//!
//! The idea is FSST's (Boncz, Neumann, Leis: "FSST: Fast Random Access String Compression", VLDB
//! 2020). A short document becomes nearly as small as with zstd and a dictionary, and is expanded
//! with one table look-up per code, at a quarter of the instructions.

use std::{cmp::Reverse, collections::BTreeMap, fmt};

use crate::codec::Reader;

/// Stands before a byte that no symbol covers.
const ESCAPE: u8 = 255;
const SYMBOLS_MAX: usize = 255;
const SYMBOL_BYTES_MAX: usize = 8;
/// A table is learnt in so many rounds, each from what the last one's makes of the samples.
const ROUNDS: usize = 5;
/// As much of the samples is looked at in each round, about.
const SAMPLE_BYTES: usize = 96 << 10;
/// Codes while a table is learnt: symbols, then the bytes that none covers.
const CODES: usize = SYMBOLS_MAX + 256;
/// Lists of symbols by a hash of their first two bytes.
const BUCKETS: usize = 1024;
/// Codes that are expanded at a time.
const STRIDE: usize = 8;
/// Room for them, and for the unused bytes of the last.
const STRIDE_BYTES: usize = STRIDE * SYMBOL_BYTES_MAX + SYMBOL_BYTES_MAX;

/// Up to eight bytes, the first lowest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Symbol {
    bytes: u64,
    len: u8,
}

impl Symbol {
    fn byte(byte: u8) -> Self {
        Self { bytes: u64::from(byte), len: 1 }
    }

    fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * u32::from(self.len))
    }

    /// This one, then the other; `None` if that is too long.
    fn then(self, other: Self) -> Option<Self> {
        let len = self.len + other.len;
        let bytes = || self.bytes | other.bytes << (8 * self.len);
        (usize::from(len) <= SYMBOL_BYTES_MAX).then(|| Self { bytes: bytes(), len })
    }
}

/// A symbol as it is looked for.
#[derive(Debug, Clone, Copy)]
struct Listed {
    bytes: u64,
    mask: u64,
    len: u8,
    code: u8,
}

/// The symbols, ready for both directions.
pub(crate) struct SymbolTable {
    symbols: Vec<Symbol>,
    /// By code: the bytes, and how many; none for a code that is not used.
    words: Box<[[u8; SYMBOL_BYTES_MAX]; 256]>,
    lens: Box<[u8; 256]>,
    /// Where the list of each hash begins.
    buckets: Box<[u16; BUCKETS + 1]>,
    /// Symbols of two bytes and more; in each list the longest first.
    listed: Vec<Listed>,
    /// Codes of symbols of one byte.
    single: Box<[u8; 256]>,
}

impl fmt::Debug for SymbolTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SymbolTable({} symbols)", self.symbols.len())
    }
}

impl SymbolTable {
    fn new(symbols: Vec<Symbol>) -> Self {
        let mut words = Box::new([[0; SYMBOL_BYTES_MAX]; 256]);
        let mut lens = Box::new([0; 256]);
        let mut single = Box::new([ESCAPE; 256]);
        let mut codes = Vec::with_capacity(symbols.len());
        for (code, symbol) in (0..ESCAPE).zip(&symbols) {
            words[usize::from(code)] = symbol.bytes.to_le_bytes();
            lens[usize::from(code)] = symbol.len;
            if symbol.len == 1 {
                single[symbol.bytes as usize & 0xff] = code;
            } else {
                codes.push((bucket(symbol.bytes), Reverse(symbol.len), code));
            }
        }
        codes.sort_unstable();
        let mut buckets = Box::new([0; BUCKETS + 1]);
        for (bucket, _, _) in &codes {
            buckets[bucket + 1] += 1;
        }
        for at in 1..buckets.len() {
            buckets[at] += buckets[at - 1];
        }
        let listed = |&(_, Reverse(len), code): &(usize, Reverse<u8>, u8)| {
            let symbol = symbols[usize::from(code)];
            Listed { bytes: symbol.bytes, mask: symbol.mask(), len, code }
        };
        let listed = codes.iter().map(listed).collect();
        Self { symbols, words, lens, buckets, listed, single }
    }

    /// Learns the symbols that would have saved most in these samples.
    pub(crate) fn train(samples: &[&[u8]]) -> Self {
        let total: usize = samples.iter().map(|s| s.len()).sum();
        let every = total.div_ceil(SAMPLE_BYTES).max(1);
        let chosen: Vec<&[u8]> = samples.iter().step_by(every).copied().collect();
        let mut table = Self::new(Vec::new());
        for round in 0..ROUNDS {
            // The last round only weighs what there is.
            table = table.improved(&chosen, round + 1 < ROUNDS);
        }
        table
    }

    /// Reads what `to_bytes` wrote. `None` if it is not a table.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let count = usize::from(reader.u8()?);
        let mut symbols = Vec::with_capacity(count);
        for _ in 0..count {
            let len = reader.u8()?;
            if len == 0 || usize::from(len) > SYMBOL_BYTES_MAX {
                return None;
            }
            let mut word = [0; 8];
            let text = reader.take(usize::from(len))?;
            word.get_mut(..text.len())?.copy_from_slice(text);
            symbols.push(Symbol { bytes: u64::from_le_bytes(word), len });
        }
        (reader.is_empty() && count <= SYMBOLS_MAX).then(|| Self::new(symbols))
    }

    /// How many, then each with its length in front.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![self.symbols.len() as u8];
        for symbol in &self.symbols {
            out.push(symbol.len);
            out.extend_from_slice(&symbol.bytes.to_le_bytes()[..usize::from(symbol.len)]);
        }
        out
    }

    /// Appends the value as codes; `false` if they would take more than `limit` bytes.
    pub(crate) fn compress(&self, mut value: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
        let end = out.len() + limit;
        while let Some(first) = value.first() {
            let len = match self.longest(value) {
                Some(code) => {
                    out.push(code);
                    usize::from(self.lens[usize::from(code)])
                }
                None => {
                    out.extend_from_slice(&[ESCAPE, *first]);
                    1
                }
            };
            if out.len() > end {
                return false;
            }
            value = value.get(len..).unwrap_or_default();
        }
        true
    }

    /// Replaces `out` by the value of these codes, which has `len` bytes. `None` if it has not.
    pub(crate) fn expand(&self, mut codes: &[u8], len: usize, out: &mut Vec<u8>) -> Option<()> {
        // What is there is overwritten; only what is missing has to be made.
        if out.len() < len + STRIDE_BYTES {
            out.resize(len + STRIDE_BYTES, 0);
        }
        let mut at = 0;
        while !codes.is_empty() {
            let room = out.get_mut(at..)?.first_chunk_mut::<STRIDE_BYTES>()?;
            let stride = codes.first_chunk::<STRIDE>();
            let plain = match stride {
                Some(stride) => codes_before_escape(*stride),
                None => usize::from(codes[0] != ESCAPE),
            };
            // Nearly all strides have no escape; their length is known here, so this loop unrolls.
            if let Some(stride) = stride.filter(|_| plain == STRIDE) {
                at += self.put(u64::from_le_bytes(*stride), STRIDE, room);
                codes = &codes[STRIDE..];
            } else if plain > 0 {
                let some = stride.map_or(u64::from(codes[0]), |stride| u64::from_le_bytes(*stride));
                at += self.put(some, plain, room);
                codes = &codes[plain..];
            } else {
                room[0] = *codes.get(1)?;
                at += 1;
                codes = &codes[2..];
            }
        }
        out.truncate(len);
        (at == len).then_some(())
    }

    /// Puts the symbols of the first of up to `STRIDE` codes; says how many bytes they are.
    #[inline(always)]
    fn put(&self, mut codes: u64, count: usize, room: &mut [u8; STRIDE_BYTES]) -> usize {
        let mut at = 0;
        for _ in 0..count {
            let code = usize::from(codes as u8);
            codes >>= 8;
            // The mask changes nothing: it shows that there is room.
            let from = at & (STRIDE * SYMBOL_BYTES_MAX - 1);
            room[from..from + SYMBOL_BYTES_MAX].copy_from_slice(&self.words[code]);
            at += usize::from(self.lens[code]);
        }
        at
    }

    /// The code of the longest symbol that the text begins with.
    #[inline]
    fn longest(&self, text: &[u8]) -> Option<u8> {
        let word = text.first_chunk().copied().unwrap_or_else(|| {
            let mut word = [0; 8];
            word[..text.len()].copy_from_slice(text);
            word
        });
        let word = u64::from_le_bytes(word);
        let at = bucket(word);
        let list = usize::from(self.buckets[at])..usize::from(self.buckets[at + 1]);
        let fits = |s: &&Listed| word & s.mask == s.bytes && usize::from(s.len) <= text.len();
        match self.listed[list].iter().find(fits) {
            Some(listed) => Some(listed.code),
            None => Some(self.single[word as usize & 0xff]).filter(|code| *code != ESCAPE),
        }
    }

    /// The best of its own symbols and, if it may grow, of those that are two in a row.
    fn improved(&self, samples: &[&[u8]], grows: bool) -> Self {
        let (counts, pairs) = self.count(samples, grows);
        // Ordered, so that the same samples always give the same table.
        let mut gains: BTreeMap<Symbol, u64> = BTreeMap::new();
        for (code, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let symbol = self.symbol(code);
            // A byte that no symbol covers takes two: many of these undo what long symbols save.
            let saved = if symbol.len == 1 { 8 } else { u64::from(symbol.len) };
            *gains.entry(symbol).or_default() += count * saved;
        }
        for (pair, count) in pairs.iter().enumerate().filter(|(_, count)| **count > 1) {
            if let Some(both) = self.symbol(pair / CODES).then(self.symbol(pair % CODES)) {
                *gains.entry(both).or_default() += u64::from(*count) * u64::from(both.len);
            }
        }
        let mut best: Vec<_> = gains.into_iter().map(|(symbol, gain)| (gain, symbol)).collect();
        best.sort_unstable_by(|a, b| b.cmp(a));
        Self::new(best.into_iter().take(SYMBOLS_MAX).map(|(_, symbol)| symbol).collect())
    }

    /// How often each code comes, and each after each other.
    fn count(&self, samples: &[&[u8]], with_pairs: bool) -> (Vec<u64>, Vec<u32>) {
        let mut counts = vec![0; CODES];
        let mut pairs = vec![0; if with_pairs { CODES * CODES } else { 0 }];
        for sample in samples {
            let mut rest = *sample;
            let mut last: Option<usize> = None;
            while let Some(first) = rest.first() {
                let byte = SYMBOLS_MAX + usize::from(*first);
                let code = self.longest(rest).map_or(byte, usize::from);
                counts[code] += 1;
                if let Some(last) = last.replace(code).filter(|_| with_pairs) {
                    pairs[last * CODES + code] += 1;
                    // The last one and a single byte more may do better than both together.
                    if code != byte {
                        pairs[last * CODES + byte] += 1;
                    }
                }
                rest = rest.get(usize::from(self.symbol(code).len)..).unwrap_or_default();
            }
        }
        (counts, pairs)
    }

    fn symbol(&self, code: usize) -> Symbol {
        let byte = || Symbol::byte(code.wrapping_sub(SYMBOLS_MAX) as u8);
        self.symbols.get(code).copied().unwrap_or_else(byte)
    }
}

/// How many codes stand before the first escape, all eight looked at at once.
fn codes_before_escape(stride: [u8; STRIDE]) -> usize {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let word = u64::from_le_bytes(stride);
    // Where the low seven bits are all set, adding one carries into the eighth.
    let escapes = ((word & LOW) + (LOW / 0x7f)) & word & !LOW;
    escapes.trailing_zeros() as usize / 8
}

fn bucket(word: u64) -> usize {
    usize::from((word as u16).wrapping_mul(0x9E35)) >> 6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents() -> Vec<Vec<u8>> {
        let cities = ["Berlin", "Paris", "Lisboa", "Wien", "Praha"];
        let document = |i: usize| {
            let city = cities[i % 5];
            let text = format!(r#"{{"name":"user {i}","city":"{city}","n":{},"#, i * 7919);
            (text + r#""roles":["reader","writer"]}"#).into_bytes()
        };
        (0..2000).map(document).collect()
    }

    fn round_trip(table: &SymbolTable, value: &[u8]) -> usize {
        let (mut packed, mut back) = (Vec::new(), vec![7; 3]);
        assert!(table.compress(value, 2 * value.len(), &mut packed));
        table.expand(&packed, value.len(), &mut back).unwrap();
        assert_eq!(back, value);
        packed.len()
    }

    #[test]
    fn values_round_trip_and_shrink() {
        let documents = documents();
        let samples: Vec<&[u8]> = documents.iter().map(Vec::as_slice).collect();
        let table = SymbolTable::train(&samples);
        assert_eq!(table.to_bytes(), SymbolTable::train(&samples).to_bytes(), "it is repeatable");
        let table = SymbolTable::from_bytes(&table.to_bytes()).unwrap();
        for document in &documents[..50] {
            let packed = round_trip(&table, document);
            assert!(packed * 3 < document.len(), "{packed} of {}", document.len());
        }
        // What it was not made for is larger, but right.
        let every: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for len in [0, 1, 7, 8, 9, 64, 1000] {
            round_trip(&table, &every[..len]);
            round_trip(&table, &vec![0; len]);
            round_trip(&SymbolTable::new(Vec::new()), &every[..len]);
        }
        assert!(!table.compress(&every, 900, &mut Vec::new()), "the limit holds");
    }

    #[test]
    fn escapes_are_seen_wherever_they_stand() {
        for at in 0..STRIDE {
            for other in [0, 1, 0x7f, 0x80, 0xfe] {
                let mut stride = [other; STRIDE];
                assert_eq!(codes_before_escape(stride), STRIDE);
                stride[at..].fill(ESCAPE);
                assert_eq!(codes_before_escape(stride), at);
            }
        }
    }

    #[test]
    fn zeros_in_symbols_are_kept() {
        let samples: Vec<&[u8]> = vec![b"a\0b\0\0cc\0\0\0\0\0\0\0\0\0d\0a\0b\0\0cc"; 50];
        let table = SymbolTable::train(&samples);
        for sample in &samples[..1] {
            for from in 0..sample.len() {
                round_trip(&table, &sample[from..]);
            }
        }
    }

    #[test]
    fn damage_never_panics() {
        let documents = documents();
        let samples: Vec<&[u8]> = documents.iter().map(Vec::as_slice).collect();
        let table = SymbolTable::train(&samples);
        let mut packed = Vec::new();
        assert!(table.compress(&documents[3], 1000, &mut packed));
        let (len, mut out) = (documents[3].len(), Vec::new());
        for at in 0..packed.len() {
            assert_eq!(table.expand(&packed[..at], len, &mut out), None, "cut at {at}");
            for value in [0, 1, 0x7f, ESCAPE] {
                let mut bad = packed.clone();
                bad[at] = value;
                let _ = table.expand(&bad, len, &mut out);
            }
        }
        assert_eq!(table.expand(&packed, len - 1, &mut out), None);
        assert_eq!(table.expand(&packed, len + 1, &mut out), None);
        let bytes = table.to_bytes();
        for at in 0..bytes.len() {
            assert!(SymbolTable::from_bytes(&bytes[..at]).is_none(), "cut at {at}");
            let mut bad = bytes.clone();
            bad[at] = 0xff;
            let _ = SymbolTable::from_bytes(&bad);
        }
    }
}
