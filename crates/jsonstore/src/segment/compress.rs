//! zstd with one dictionary per keyspace: single documents compress as well as whole blocks do.

use std::{cell::RefCell, collections::HashMap, fmt, sync::Arc};

use parking_lot::Mutex;
use zstd::zstd_safe::{CCtx, CDict, DCtx, DDict};

use crate::codec::{Reader, StableBuilder, put_varint};

const LEVEL: i32 = 1;
const DICTIONARY_BYTES: usize = 16 << 10;
/// Below this a dictionary costs more than it saves.
const SAMPLES_BYTES_MIN: usize = 128 << 10;
pub(crate) const SAMPLES_BYTES_MAX: usize = 384 << 10;
/// Values below this stay as they are.
const VALUE_BYTES_MIN: usize = 64;

/// A trained dictionary, ready for both directions.
pub(crate) struct Dictionary {
    pub(crate) bytes: Vec<u8>,
    compress: CDict<'static>,
    decompress: DDict<'static>,
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dictionary({} bytes)", self.bytes.len())
    }
}

impl Dictionary {
    fn new(bytes: Vec<u8>) -> Self {
        let compress = CDict::create(&bytes, LEVEL);
        let decompress = DDict::create(&bytes);
        Self { bytes, compress, decompress }
    }

    fn train(samples: &[&[u8]]) -> Option<Self> {
        let total: usize = samples.iter().map(|s| s.len()).sum();
        if total < SAMPLES_BYTES_MIN || samples.len() < 50 {
            return None;
        }
        zstd::dict::from_samples(samples, DICTIONARY_BYTES).ok().map(Self::new)
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
            known.entry(hash).or_insert_with(|| Arc::new(Dictionary::new(bytes.to_vec())));
        self.current.lock().entry(keyspace).or_insert_with(|| Arc::clone(dictionary));
        Arc::clone(dictionary)
    }
}

thread_local! {
    static COMPRESS: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
    static DECOMPRESS: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// Fills `out` with the compressed form, its raw length in front; `false` if that is not smaller.
pub(crate) fn compress(value: &[u8], dictionary: Option<&Dictionary>, out: &mut Vec<u8>) -> bool {
    out.clear();
    if value.len() < VALUE_BYTES_MIN {
        return false;
    }
    put_varint(out, value.len() as u64);
    let from = out.len();
    // What does not fit in this is not worth it.
    out.resize(from + value.len() / 9 * 8, 0);
    let packed = &mut out[from..];
    let len = COMPRESS.with_borrow_mut(|context| match dictionary {
        Some(d) => context.compress_using_cdict(packed, value, &d.compress),
        None => context.compress(packed, value, LEVEL),
    });
    let Ok(len) = len else { return false };
    out.truncate(from + len);
    true
}

/// The inverse. Never allocates more than `limit`.
pub(crate) fn decompress(
    packed: &[u8],
    dictionary: Option<&Dictionary>,
    limit: usize,
) -> Option<Vec<u8>> {
    let mut reader = Reader::new(packed);
    let raw_len = reader.length().filter(|len| *len <= limit)?;
    let body = packed.get(reader.position()..)?;
    let mut raw: Vec<u8> = Vec::with_capacity(raw_len);
    let len = DECOMPRESS.with_borrow_mut(|context| match dictionary {
        Some(d) => context.decompress_using_ddict(&mut raw, body, &d.decompress),
        None => context.decompress(&mut raw, body),
    });
    (len.ok()? == raw_len).then_some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip_with_and_without_dictionary() {
        let docs: Vec<Vec<u8>> = (0..2000)
            .map(|i| {
                let n = i * 7919;
                let text = format!("{{\"name\":\"user {i}\",\"city\":\"Berlin\",\"n\":{n},");
                (text + "\"roles\":[\"reader\",\"writer\"]}").into_bytes()
            })
            .collect();
        let samples: Vec<&[u8]> = docs.iter().map(Vec::as_slice).collect();
        let all = Dictionaries::default();
        let dictionary = all.for_keyspace(1, &samples).unwrap();
        let again = all.for_segment(2, &dictionary.bytes);
        assert!(Arc::ptr_eq(&dictionary, &again));
        let mut with = Vec::new();
        for doc in &docs[..20] {
            assert!(compress(doc, Some(&dictionary), &mut with));
            assert!(with.len() * 2 < doc.len(), "{} of {}", with.len(), doc.len());
            assert_eq!(decompress(&with, Some(&dictionary), 1 << 20).as_ref(), Some(doc));
            assert_eq!(decompress(&with, Some(&dictionary), 10), None, "the limit holds");
        }
        let long = vec![b'x'; 5000];
        let mut packed = Vec::new();
        assert!(compress(&long, None, &mut packed));
        assert_eq!(decompress(&packed, None, 1 << 20), Some(long));
        assert!(!compress(b"short", None, &mut packed));
        let noise: Vec<u8> =
            (0..999_u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect();
        assert!(!compress(&noise, None, &mut packed), "it would not be smaller");
    }
}
