//! The frame: one checksummed record of the log and of the manifest (docs/file-format.md).

use crate::{
    codec::{Reader, crc},
    crypt::FileCipher,
};

pub(crate) const HEADER: usize = 48;
/// Synced groups end on this boundary, so a sector with acknowledged bytes is never written again.
pub(crate) const ALIGN: u64 = 4096;
pub(crate) const FLAG_SEALED: u8 = 2;
pub(crate) const FLAG_FIRST: u8 = 4;
pub(crate) const FLAG_LAST: u8 = 8;
/// On a mark: the store was closed in order and nothing follows.
pub(crate) const FLAG_CLEAN: u8 = 16;

/// On a mark: a load with this sequence number follows in the manifest; the log does not hold it.
pub(crate) const FLAG_LOAD: u8 = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameType {
    Commit,
    Mark,
    FileHeader,
    Edit,
}

impl FrameType {
    fn code(self) -> u8 {
        match self {
            Self::Commit => 1,
            Self::Mark => 2,
            Self::FileHeader => 5,
            Self::Edit => 10,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Commit, Self::Mark, Self::FileHeader, Self::Edit]
            .into_iter()
            .find(|t| t.code() == code)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) lsn: u64,
    pub(crate) prev_lsn: u64,
    pub(crate) durable_lsn: u64,
    pub(crate) seq: u64,
    pub(crate) kind: FrameType,
    pub(crate) flags: u8,
}

/// Appends a frame. The salt seeds the checksum; the cipher, if any, seals the payload.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    frame: &Frame,
    payload: &[u8],
    salt: u32,
    cipher: Option<&FileCipher>,
) {
    let start = out.len();
    let flags = frame.flags | if cipher.is_some() { FLAG_SEALED } else { 0 };
    let tag_len = if cipher.is_some() { FileCipher::TAG } else { 0 };
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&((payload.len() + tag_len) as u32).to_le_bytes());
    out.extend_from_slice(&frame.lsn.to_le_bytes());
    out.extend_from_slice(&frame.prev_lsn.to_le_bytes());
    out.extend_from_slice(&frame.durable_lsn.to_le_bytes());
    out.extend_from_slice(&[frame.kind.code(), flags, 1, 0]);
    out.extend_from_slice(&u32::from(cipher.is_some()).to_le_bytes());
    out.extend_from_slice(&frame.seq.to_le_bytes());
    match cipher {
        None => out.extend_from_slice(payload),
        Some(cipher) => out.extend_from_slice(&cipher.seal(frame.lsn, frame.kind.code(), payload)),
    }
    let salt = if crate::bugs::bug("ignore_salt") { 0 } else { salt };
    let sum = crc(salt, &out[start + 4..]);
    out[start..start + 4].copy_from_slice(&sum.to_le_bytes());
}

pub(crate) const fn encoded_len(payload: usize, sealed: bool) -> usize {
    HEADER + payload + if sealed { FileCipher::TAG } else { 0 }
}

/// A frame found in a file: its header, where its payload lies, and where it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) frame: Frame,
    pub(crate) payload: (usize, usize),
    pub(crate) end: usize,
}

/// Reads the frame at `offset` of a file image. `None` if there is no valid one: a wrong checksum,
/// a stale generation, another position than the frame says.
pub(crate) fn decode(image: &[u8], offset: usize, base_lsn: u64, salt: u32) -> Option<Found> {
    let head = image.get(offset..offset.checked_add(HEADER)?)?;
    let mut reader = Reader::new(head);
    let sum = reader.u32()?;
    let len = reader.u32()? as usize;
    let lsn = reader.u64()?;
    if lsn != base_lsn + offset as u64 {
        return None;
    }
    let prev_lsn = reader.u64()?;
    let durable_lsn = reader.u64()?;
    let [code, flags, _, _] = reader.array()?;
    let _key_id = reader.u32()?;
    let seq = reader.u64()?;
    let end = (offset + HEADER).checked_add(len)?;
    let body = image.get(offset + 4..end)?;
    let salt = if crate::bugs::bug("ignore_salt") { 0 } else { salt };
    if !crate::bugs::bug("ignore_frame_crc") && crc(salt, body) != sum {
        return None;
    }
    let kind = FrameType::from_code(code)?;
    let frame = Frame { lsn, prev_lsn, durable_lsn, seq, kind, flags };
    Some(Found { frame, payload: (offset + HEADER, end), end })
}

/// The clear payload of a found frame; `Err` if the seal does not open.
pub(crate) fn payload(
    image: &[u8],
    found: &Found,
    cipher: Option<&FileCipher>,
) -> Result<Vec<u8>, &'static str> {
    let raw = image.get(found.payload.0..found.payload.1).ok_or("frame out of bounds")?;
    let sealed = found.frame.flags & FLAG_SEALED != 0;
    match (sealed, cipher) {
        (false, None) => Ok(raw.to_vec()),
        (false, Some(_)) => Err("a clear frame in an encrypted store"),
        (true, None) => Err("a sealed frame in a store without key"),
        (true, Some(cipher)) => cipher
            .open(found.frame.lsn, found.frame.kind.code(), raw)
            .ok_or("the seal of a frame does not open"),
    }
}

pub(crate) fn align_up(lsn: u64) -> u64 {
    lsn.next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let frame = Frame {
            lsn: 8192,
            prev_lsn: 4096,
            durable_lsn: 8192,
            seq: 7,
            kind: FrameType::Commit,
            flags: FLAG_FIRST,
        };
        let mut image = vec![0; 4096];
        encode(&mut image, &frame, b"payload", 99, None);
        let found = decode(&image, 4096, 4096, 99).unwrap();
        assert_eq!(found.frame, frame);
        assert_eq!(payload(&image, &found, None).unwrap(), b"payload");
        assert!(decode(&image, 4096, 4096, 98).is_none(), "a stale generation must fail");
        for byte in 4096..image.len() {
            for bit in 0..8 {
                image[byte] ^= 1 << bit;
                assert!(decode(&image, 4096, 4096, 99).is_none(), "byte {byte} bit {bit}");
                image[byte] ^= 1 << bit;
            }
        }
    }
}
