//! Values one by one with what was learnt of their keyspace, so that a read expands one document
//! rather than a block: codes of a symbol table, or zstd with a dictionary.

use std::{cell::RefCell, collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use zstd::zstd_safe::{CCtx, CDict, DCtx, DDict};

use super::{block::ValueKind, symbols::SymbolTable};
use crate::codec::{Reader, StableBuilder, put_varint};

const LEVEL: i32 = 1;
const DICTIONARY_BYTES: usize = 16 << 10;
/// Below this a dictionary costs more than it saves.
const SAMPLES_BYTES_MIN: usize = 128 << 10;
pub(crate) const SAMPLES_BYTES_MAX: usize = 384 << 10;
/// Values below this stay as they are.
const VALUE_BYTES_MIN: usize = 64;
/// Longer values repeat themselves, of which zstd makes more than a symbol table does.
const CODED_BYTES_MAX: usize = 4 << 10;
/// A symbol table is taken if it leaves less than so many quarters of what zstd leaves: it is expanded
/// in a quarter of the time.
const QUARTERS_MAX: usize = 5;
/// Samples by which the two are compared.
const COMPARED_MAX: usize = 64;
/// What a thread keeps for the next value.
const SCRATCH_BYTES_MAX: usize = 64 << 10;
/// In front of a symbol table, where a dictionary of zstd has its own mark.
const SYMBOLS_MAGIC: &[u8; 4] = b"HSYM";

/// What was learnt from the values of a keyspace, ready for both directions.
pub(crate) struct Dictionary {
    pub(crate) bytes: Vec<u8>,
    coder: Coder,
}

enum Coder {
    Symbols(SymbolTable),
    Zstd { compress: CDict<'static>, decompress: DDict<'static> },
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.coder {
            Coder::Symbols(_) => "symbols",
            Coder::Zstd { .. } => "zstd",
        };
        write!(f, "Dictionary({kind}, {} bytes)", self.bytes.len())
    }
}

impl Dictionary {
    /// What a segment holds of it; anything is a dictionary of zstd, if a useless one.
    fn from_bytes(bytes: Vec<u8>) -> Self {
        let symbols = bytes.strip_prefix(SYMBOLS_MAGIC).and_then(SymbolTable::from_bytes);
        match symbols {
            Some(table) => Self { bytes, coder: Coder::Symbols(table) },
            None => Self::zstd(bytes),
        }
    }

    fn zstd(bytes: Vec<u8>) -> Self {
        let compress = CDict::create(&bytes, LEVEL);
        let decompress = DDict::create(&bytes);
        Self { bytes, coder: Coder::Zstd { compress, decompress } }
    }

    fn symbols(table: SymbolTable) -> Self {
        let bytes = [SYMBOLS_MAGIC.as_slice(), &table.to_bytes()].concat();
        Self { bytes, coder: Coder::Symbols(table) }
    }

    fn train(samples: &[&[u8]]) -> Option<Self> {
        let total: usize = samples.iter().map(|s| s.len()).sum();
        if total < SAMPLES_BYTES_MIN || samples.len() < 50 {
            return None;
        }
        let symbols = Self::symbols(SymbolTable::train(samples));
        let zstd = zstd::dict::from_samples(samples, DICTIONARY_BYTES).ok().map(Self::zstd);
        let Some(zstd) = zstd else { return Some(symbols) };
        let quarters = QUARTERS_MAX * zstd.size_of(samples);
        Some(if symbols.size_of(samples) * 4 <= quarters { symbols } else { zstd })
    }

    /// What it makes of some of the samples.
    fn size_of(&self, samples: &[&[u8]]) -> usize {
        let every = samples.len().div_ceil(COMPARED_MAX).max(1);
        let mut packed = Vec::new();
        let size = |value: &&[u8]| match compress(value, Some(self), &mut packed) {
            ValueKind::Raw | ValueKind::Deleted => value.len(),
            ValueKind::Compressed | ValueKind::Coded => packed.len(),
        };
        samples.iter().step_by(every).map(size).sum()
    }
}

/// How a value is stored, where it is not as it is.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub(crate) kind: ValueKind,
    pub(crate) dictionary: Option<Arc<Dictionary>>,
}

impl Packed {
    /// Whether a segment with that dictionary can hold the value as it is.
    pub(crate) fn fits(&self, dictionary: Option<&Arc<Dictionary>>) -> bool {
        match (&self.dictionary, dictionary) {
            (Some(own), Some(theirs)) => Arc::ptr_eq(own, theirs),
            _ => false,
        }
    }
}

/// Dictionaries in use: the current one of each keyspace, and those of open segments by content.
#[derive(Debug, Default)]
pub(crate) struct Dictionaries {
    current: Mutex<HashMap<u32, Arc<Dictionary>, StableBuilder>>,
    by_content: Mutex<HashMap<u64, Arc<Dictionary>, StableBuilder>>,
}

impl Dictionaries {
    /// The dictionary of a keyspace; trained now if there is none and the samples suffice.
    pub(crate) fn for_keyspace(&self, keyspace: u32, samples: &[&[u8]]) -> Option<Arc<Dictionary>> {
        if let Some(found) = self.current.lock().get(&keyspace) {
            return Some(Arc::clone(found));
        }
        let trained = Arc::new(Dictionary::train(samples)?);
        let hash = xxhash_rust::xxh3::xxh3_64(&trained.bytes);
        self.by_content.lock().insert(hash, Arc::clone(&trained));
        self.current.lock().insert(keyspace, Arc::clone(&trained));
        Some(trained)
    }

    /// The dictionary a segment carries; segments of a keyspace mostly share one.
    pub(crate) fn for_segment(&self, keyspace: u32, bytes: &[u8]) -> Arc<Dictionary> {
        let hash = xxhash_rust::xxh3::xxh3_64(bytes);
        let mut known = self.by_content.lock();
        let dictionary =
            known.entry(hash).or_insert_with(|| Arc::new(Dictionary::from_bytes(bytes.to_vec())));
        self.current.lock().entry(keyspace).or_insert_with(|| Arc::clone(dictionary));
        Arc::clone(dictionary)
    }
}

thread_local! {
    static COMPRESS: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
    static DECOMPRESS: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Fills `out` with the smaller form of a value, its raw length in front, and says which it is;
/// `Raw` if the value shall stay as it is.
pub(crate) fn compress(
    value: &[u8],
    dictionary: Option<&Dictionary>,
    out: &mut Vec<u8>,
) -> ValueKind {
    out.clear();
    if value.len() < VALUE_BYTES_MIN {
        return ValueKind::Raw;
    }
    put_varint(out, value.len() as u64);
    let from = out.len();
    // What does not fit in this is not worth it.
    let limit = value.len() / 9 * 8;
    let dictionary = dictionary.map(|d| &d.coder);
    if let Some(Coder::Symbols(table)) = dictionary
        && value.len() <= CODED_BYTES_MAX
    {
        let is_worth_it = table.compress(value, limit, out);
        return if is_worth_it { ValueKind::Coded } else { ValueKind::Raw };
    }
    out.resize(from + limit, 0);
    let packed = &mut out[from..];
    let len = COMPRESS.with_borrow_mut(|context| match dictionary {
        Some(Coder::Zstd { compress, .. }) => context.compress_using_cdict(packed, value, compress),
        _ => context.compress(packed, value, LEVEL),
    });
    let Ok(len) = len else { return ValueKind::Raw };
    out.truncate(from + len);
    ValueKind::Compressed
}

/// A value as whoever looks for it meets it.
#[derive(Debug)]
pub(crate) enum Value {
    /// In memory that lives on.
    Shared(Bytes),
    /// In memory that the next value takes.
    Expanded(Scratch),
}

impl Value {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Expanded(Scratch(bytes)) => bytes,
        }
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Expanded(scratch) => Bytes::copy_from_slice(&scratch.0),
        }
    }
}

/// Memory that a thread has for one value at a time, and gets back.
#[derive(Debug)]
pub(crate) struct Scratch(Vec<u8>);

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        bytes.truncate(SCRATCH_BYTES_MAX);
        bytes.shrink_to(SCRATCH_BYTES_MAX);
        SCRATCH.set(bytes);
    }
}

/// The inverse, for the two kinds that are not stored as they are. Never allocates more than `limit`.
pub(crate) fn decompress(
    kind: ValueKind,
    packed: &[u8],
    dictionary: Option<&Dictionary>,
    limit: usize,
) -> Option<Value> {
    let mut reader = Reader::new(packed);
    let raw_len = reader.length().filter(|len| *len <= limit)?;
    let body = packed.get(reader.position()..)?;
    match (kind, dictionary.map(|d| &d.coder)) {
        (ValueKind::Coded, Some(Coder::Symbols(table))) => {
            let mut scratch = Scratch(SCRATCH.take());
            table.expand(body, raw_len, &mut scratch.0)?;
            Some(Value::Expanded(scratch))
        }
        (ValueKind::Compressed, coder) => {
            let mut raw: Vec<u8> = Vec::with_capacity(raw_len);
            let len = DECOMPRESS.with_borrow_mut(|context| match coder {
                Some(Coder::Zstd { decompress, .. }) => {
                    context.decompress_using_ddict(&mut raw, body, decompress)
                }
                _ => context.decompress(&mut raw, body),
            });
            (len.ok()? == raw_len).then(|| Value::Shared(Bytes::from(raw)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documents of which no two share more than their form.
    fn various() -> Vec<Vec<u8>> {
        let document = |i: u64| {
            let n = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let text = format!("{{\"name\":\"user {i}\",\"city\":\"Berlin\",\"n\":{n},");
            (text + "\"roles\":[\"reader\",\"writer\"]}").into_bytes()
        };
        (0..2000).map(document).collect()
    }

    /// Documents of which nearly all is the same.
    fn alike() -> Vec<Vec<u8>> {
        let noise: Vec<u8> =
            (0..300_u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 25) as u8).collect();
        (0..500_u32).map(|i| [&i.to_be_bytes(), noise.as_slice()].concat()).collect()
    }

    fn samples(documents: &[Vec<u8>]) -> Vec<&[u8]> {
        documents.iter().map(Vec::as_slice).collect()
    }

    #[track_caller]
    fn round_trip(value: &[u8], dictionary: Option<&Dictionary>, want: ValueKind) -> usize {
        let mut packed = Vec::new();
        assert_eq!(compress(value, dictionary, &mut packed), want);
        let back = |limit| decompress(want, &packed, dictionary, limit).map(Value::into_bytes);
        assert_eq!(back(1 << 20).as_deref(), Some(value));
        assert_eq!(back(10), None, "the limit holds");
        packed.len()
    }

    #[test]
    fn values_round_trip_with_and_without_dictionary() {
        let all = Dictionaries::default();
        for (documents, kind) in [(various(), ValueKind::Coded), (alike(), ValueKind::Compressed)] {
            let keyspace = kind as u32;
            let dictionary = all.for_keyspace(keyspace, &samples(&documents)).unwrap();
            let again = all.for_segment(9, &dictionary.bytes);
            assert!(Arc::ptr_eq(&dictionary, &again));
            let reread = Dictionary::from_bytes(dictionary.bytes.clone());
            for document in &documents[..20] {
                let len = round_trip(document, Some(&dictionary), kind);
                assert!(len * 2 < document.len(), "{len} of {}", document.len());
                assert_eq!(round_trip(document, Some(&reread), kind), len);
            }
            round_trip(&vec![b'x'; 5000], Some(&dictionary), ValueKind::Compressed);
        }
        round_trip(&vec![b'x'; 5000], None, ValueKind::Compressed);
    }

    #[test]
    fn what_would_not_shrink_stays() {
        let dictionary = Dictionary::train(&samples(&various())).unwrap();
        let noise: Vec<u8> =
            (0..999_u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect();
        for dictionary in [None, Some(&dictionary)] {
            for value in [b"short".as_slice(), &noise] {
                assert_eq!(compress(value, dictionary, &mut Vec::new()), ValueKind::Raw);
            }
        }
    }

    #[test]
    fn a_value_needs_the_dictionary_it_was_made_with() {
        let (documents, others) = (various(), alike());
        let symbols = Dictionary::train(&samples(&documents)).unwrap();
        let zstd = Dictionary::train(&samples(&others)).unwrap();
        let mut packed = Vec::new();
        assert_eq!(compress(&documents[0], Some(&symbols), &mut packed), ValueKind::Coded);
        assert!(decompress(ValueKind::Coded, &packed, Some(&zstd), 1 << 20).is_none());
        assert!(decompress(ValueKind::Coded, &packed, None, 1 << 20).is_none());
        assert!(decompress(ValueKind::Raw, &packed, Some(&symbols), 1 << 20).is_none());
        let damaged = [SYMBOLS_MAGIC.as_slice(), &[3, 9, 1]].concat();
        assert!(matches!(Dictionary::from_bytes(damaged).coder, Coder::Zstd { .. }));
    }
}
