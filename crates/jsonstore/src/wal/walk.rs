//! The frames of a log file one after the other, as a backup and a restore read them: without
//! deciding what their end means.

use super::{FileHeader, WalConfig};
use crate::{
    error::Error,
    frame::{self, ALIGN, Found, Frame},
};

/// Frames of one file image, in order, each linked to the one before.
pub(crate) struct Walk<'a> {
    image: &'a [u8],
    base: u64,
    number: u64,
    header: FileHeader,
    at: usize,
    /// Of a frame in the middle of a file the one before is not known.
    prev_lsn: Option<u64>,
}

impl<'a> Walk<'a> {
    /// From a position in the file on; from its start if the position lies before.
    pub(crate) fn new(
        config: &WalConfig,
        number: u64,
        header: FileHeader,
        image: &'a [u8],
        from: u64,
    ) -> Self {
        let base = number * config.file_bytes;
        let at = from.saturating_sub(base).max(ALIGN);
        let prev_lsn = (at == ALIGN).then_some(base);
        Self { image, base, number, header, at: at as usize, prev_lsn }
    }

    /// The payload of a frame of this walk.
    pub(crate) fn payload(&self, config: &WalConfig, found: &Found) -> Result<Vec<u8>, Error> {
        let cipher = config.cipher(self.number, &self.header.key_salt);
        let file = format!("wal/{:06}.wal", self.number);
        frame::payload(self.image, found, cipher.as_ref())
            .map_err(|e| Error::corrupt(file, found.payload.0 as u64, e))
    }

    /// Where a frame ends, as a position in the log.
    pub(crate) fn end_lsn(&self, found: &Found) -> u64 {
        self.base + found.end as u64
    }

    /// Where the walk is, as a position in the log.
    pub(crate) fn position(&self) -> u64 {
        self.base + self.at as u64
    }

    /// True if a record further on proves that what should be at the end of the walk had been
    /// synced: then it is not the end, but damage.
    pub(crate) fn is_cut_short(&self) -> bool {
        let end = self.at.next_multiple_of(ALIGN as usize);
        let limit = self.base + end as u64;
        let later = (end..self.image.len()).step_by(ALIGN as usize);
        later
            .filter_map(|at| frame::decode(self.image, at, self.base, self.header.salt))
            .any(|found| found.frame.durable_lsn > limit)
    }

    fn links(&self, frame: &Frame) -> bool {
        self.prev_lsn.is_none_or(|prev| frame.prev_lsn == prev)
    }
}

impl Iterator for Walk<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let salt = self.header.salt;
        let aligned = self.at.next_multiple_of(ALIGN as usize);
        let found = frame::decode(self.image, self.at, self.base, salt)
            .filter(|found| self.links(&found.frame))
            .or_else(|| frame::decode(self.image, aligned, self.base, salt))
            .filter(|found| self.links(&found.frame))?;
        self.at = found.end;
        self.prev_lsn = Some(found.frame.lsn);
        Some(found)
    }
}
