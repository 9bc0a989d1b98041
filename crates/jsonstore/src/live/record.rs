//! One changed document in the change log.

use bytes::Bytes;

use crate::codec::{Reader, put_bytes, put_varint};

const HAS_BEFORE: u8 = 1;
const HAS_AFTER: u8 = 2;

/// What a change was. The key of its entry is the sequence number and the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// When, by the wall clock.
    pub(super) wall_ms: u64,
    /// JB1.
    pub(super) before: Option<Bytes>,
    pub(super) after: Option<Bytes>,
}

impl Record {
    pub(super) fn encode(wall_ms: u64, before: Option<&[u8]>, after: Option<&[u8]>) -> Bytes {
        let len = |image: Option<&[u8]>| image.map_or(0, |image| image.len() + 5);
        let mut out = Vec::with_capacity(len(before) + len(after) + 12);
        put_varint(&mut out, wall_ms);
        let flag = |is: bool, flag| if is { flag } else { 0 };
        out.push(flag(before.is_some(), HAS_BEFORE) | flag(after.is_some(), HAS_AFTER));
        for image in [before, after].into_iter().flatten() {
            put_bytes(&mut out, image);
        }
        Bytes::from(out)
    }

    pub(super) fn decode(value: &Bytes) -> Option<Self> {
        let mut reader = Reader::new(value);
        let wall_ms = reader.varint()?;
        let flags = reader.u8()?;
        let mut image = |flag| -> Option<Option<Bytes>> {
            if flags & flag == 0 {
                return Some(None);
            }
            let len = reader.length()?;
            let from = reader.position();
            reader.take(len)?;
            Some(Some(value.slice(from..from + len)))
        };
        let record = Self { wall_ms, before: image(HAS_BEFORE)?, after: image(HAS_AFTER)? };
        reader.is_empty().then_some(record)
    }
}

/// The sequence number and the id in the key of an entry.
pub(super) fn split_key(key: &Bytes) -> Option<(u64, Bytes)> {
    let seq = u64::from_be_bytes(key.get(..8)?.try_into().ok()?);
    Some((seq, key.slice(8..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        let images: [Option<&[u8]>; 3] = [None, Some(b""), Some(b"image")];
        for before in images {
            for after in images {
                let bytes = Record::encode(1_700_000_000_000, before, after);
                let record = Record::decode(&bytes).unwrap();
                assert_eq!(record.before.as_deref(), before);
                assert_eq!(record.after.as_deref(), after);
                for len in 0..bytes.len() {
                    assert_eq!(Record::decode(&bytes.slice(..len)), None);
                }
            }
        }
    }
}
