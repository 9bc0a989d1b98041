//! Reading the log after a stop of any kind: what is a torn tail, and what is bit rot?
//!
//! Every frame says up to where the log was durable when it was written. A bad frame below such a
//! witness had been acknowledged: that is damage, and an error. A bad frame without witness never
//! was: it is cut off, and whatever lies beyond it is not replayed.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{FileHeader, VERSION, WalConfig, list, read_header};
use crate::{
    bugs::bug,
    error::{Error, Result},
    frame::{self, ALIGN, Found, FrameType},
    vfs::{OpenMode, Vfs, read_file, write_all_at},
};

/// What the log held.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Sequence number and payload of each commit, in order.
    pub(crate) commits: Vec<(u64, Bytes)>,
    pub(crate) end_lsn: u64,
    pub(crate) last_lsn: u64,
    /// The store was closed in order and nothing was written after.
    pub(crate) clean: bool,
    /// Files that were read, in order.
    pub(crate) files: Vec<u64>,
    pub(crate) highest_number: u64,
    /// The header of the last file read.
    pub(crate) tail: Option<FileHeader>,
    /// Holes that salvage stepped over.
    pub(crate) lost: Vec<(u64, u64)>,
    pub(crate) last_seq: u64,
    /// The highest position that some frame proves to be durable.
    witnessed: u64,
    /// Where each file of `files` ends.
    ends: Vec<usize>,
    /// The last record ended a synced group, so the next one begins on a boundary.
    ends_group: bool,
}

/// Reads from `floor` to the end. Everything returned is durable afterwards.
///
/// With `salvage`, holes are recorded instead of refused.
pub(crate) fn recover(
    vfs: &dyn Vfs,
    config: &WalConfig,
    floor: u64,
    salvage: bool,
    read_only: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Recovered> {
    let paths = list(vfs, &config.dir).map_err(|e| Error::io("list", &config.dir, e))?;
    let first = floor / config.file_bytes;
    let mut images = BTreeMap::new();
    let total = paths.range(first..).count() as u64;
    for (number, path) in paths.range(first..) {
        let image = read_file(vfs, path).map_err(|e| Error::io("read", path, e))?;
        progress(images.len() as u64, total);
        images.insert(*number, Image { bytes: Bytes::from(image), header: None });
    }
    for (number, image) in &mut images {
        image.header = read_header(config, *number, &image.bytes);
        if let Some(header) = image.header.filter(|h| h.version > VERSION) {
            let file = file_name(*number);
            return Err(Error::UnknownFormat { file, found: header.version, known: VERSION });
        }
    }
    let mut scan = Scan { config, images: &images, salvage, out: Recovered::default() };
    scan.out.highest_number = paths.keys().next_back().copied().unwrap_or(0).max(first);
    scan.run(first, floor)?;
    let out = scan.out;
    if !read_only {
        make_durable(vfs, config, &images, &out)?;
        remove_others(vfs, config, &paths, first, &out);
    }
    Ok(out)
}

struct Image {
    bytes: Bytes,
    header: Option<FileHeader>,
}

struct Scan<'a> {
    config: &'a WalConfig,
    images: &'a BTreeMap<u64, Image>,
    salvage: bool,
    out: Recovered,
}

impl Scan<'_> {
    fn run(&mut self, first: u64, floor: u64) -> Result<()> {
        let size = self.config.file_bytes;
        let Some(image) = self.images.get(&first) else {
            return Err(damage(first, floor % size, "the log file is missing", None));
        };
        if image.header.is_none() {
            return Err(damage(first, 0, "the header of the log file is damaged", None));
        }
        let mut number = first;
        let mut offset = (floor % size).max(ALIGN) as usize;
        // Of the record before the floor nothing is known but that it was there.
        let mut known = floor % size <= ALIGN;
        self.out.last_lsn = first * size;
        loop {
            self.out.files.push(number);
            let (end, chain_known) = self.file(number, offset, known)?;
            self.out.ends.push(end);
            known = chain_known;
            self.out.end_lsn = number * size + end as u64;
            if let Some(next) = self.successor(number, end, known) {
                number = next;
                offset = ALIGN as usize;
                self.out.last_lsn = next * size;
                self.out.clean = false;
                known = true;
                continue;
            }
            let Some(witness) = self.witness(number, end) else { break };
            let lost = (self.out.end_lsn, witness);
            if !self.salvage {
                return Err(damage(
                    number,
                    end as u64,
                    "an acknowledged record is damaged",
                    Some(lost),
                ));
            }
            self.out.lost.push(lost);
            number = witness / size;
            offset = (witness % size).max(ALIGN) as usize;
            known = false;
            if self.out.files.last() == Some(&number) {
                self.out.files.pop();
                self.out.ends.pop();
            }
        }
        self.out.tail = self.images.get(&number).and_then(|image| image.header);
        Ok(())
    }

    /// Reads the frames of one file in order; returns where they end.
    fn file(&mut self, number: u64, start: usize, mut known: bool) -> Result<(usize, bool)> {
        let Some(image) = self.images.get(&number) else { return Ok((start, known)) };
        let Some(header) = image.header else { return Ok((start, known)) };
        self.out.witnessed = self.out.witnessed.max(header.durable_lsn);
        let base = number * self.config.file_bytes;
        let cipher = self.config.cipher(number, &header.key_salt);
        let mut at = start;
        let mut end = start;
        loop {
            let next = self.next_frame(image, at, base, header.salt, known);
            let Some(found) = next else { return Ok((end, known)) };
            let payload = if cipher.is_none() && found.frame.flags & frame::FLAG_SEALED == 0 {
                image.bytes.slice(found.payload.0..found.payload.1)
            } else {
                frame::payload(&image.bytes, &found, cipher.as_ref())
                    .map(Bytes::from)
                    .map_err(|e| damage(number, found.payload.0 as u64, e, None))?
            };
            self.out.clean = false;
            self.out.witnessed = self.out.witnessed.max(found.frame.durable_lsn);
            match found.frame.kind {
                FrameType::Commit => {
                    if found.frame.seq <= self.out.last_seq && self.out.lost.is_empty() {
                        let text = "sequence numbers do not rise";
                        return Err(damage(number, found.payload.0 as u64, text, None));
                    }
                    self.out.commits.push((found.frame.seq, payload));
                    self.out.last_seq = found.frame.seq;
                }
                FrameType::Mark => {
                    self.out.clean = found.frame.flags & frame::FLAG_CLEAN != 0;
                    self.out.last_seq = self.out.last_seq.max(found.frame.seq);
                }
                FrameType::FileHeader | FrameType::Edit => {
                    return Err(damage(number, at as u64, "a frame of another kind of file", None));
                }
            }
            self.out.last_lsn = found.frame.lsn;
            self.out.ends_group = found.frame.flags & frame::FLAG_LAST != 0;
            known = true;
            at = found.end;
            end = found.end;
        }
    }

    /// The frame at `at`, or at the next boundary if a synced group ended here.
    fn next_frame(
        &self,
        image: &Image,
        at: usize,
        base: u64,
        salt: u32,
        known: bool,
    ) -> Option<Found> {
        let chained = |found: &Found| {
            !known || found.frame.prev_lsn == self.out.last_lsn || bug("ignore_chain")
        };
        let aligned = at.next_multiple_of(ALIGN as usize);
        frame::decode(&image.bytes, at, base, salt)
            .filter(chained)
            .or_else(|| frame::decode(&image.bytes, aligned, base, salt).filter(chained))
    }

    /// The file whose header says that it goes on where this one ends.
    fn successor(&self, number: u64, end: usize, known: bool) -> Option<u64> {
        let end_lsn = number * self.config.file_bytes + end as u64;
        let goes_on = |header: &FileHeader| {
            let here = header.prev_end == end_lsn || header.prev_end == frame::align_up(end_lsn);
            // A recovery that began behind the last record knew only of the file's header. A restored
            // store may read that file from further up.
            let base = number * self.config.file_bytes;
            let links = header.prev_lsn == self.out.last_lsn || header.prev_lsn == base;
            here && (!known || links)
        };
        self.images
            .range(number + 1..)
            .find(|(_, image)| image.header.as_ref().is_some_and(goes_on))
            .map(|(number, _)| *number)
    }

    /// The position of a later frame that proves that the log was durable beyond `end`.
    fn witness(&self, number: u64, end: usize) -> Option<u64> {
        if bug("no_witness") {
            return None;
        }
        let size = self.config.file_bytes;
        // Where the missing record would begin.
        let mut limit = number * size + end as u64;
        if self.out.ends_group {
            limit = frame::align_up(limit);
        }
        for (later, image) in self.images.range(number..) {
            let base = later * size;
            if *later > number
                && let Some(header) = image.header
                && header.durable_lsn > limit
            {
                return Some(base);
            }
            let Some(header) = image.header else { continue };
            let mut at = if *later == number {
                end.next_multiple_of(ALIGN as usize)
            } else {
                ALIGN as usize
            };
            while at < image.bytes.len() {
                if let Some(found) = frame::decode(&image.bytes, at, base, header.salt)
                    && found.frame.durable_lsn > limit
                {
                    return Some(found.frame.lsn);
                }
                at += ALIGN as usize;
            }
        }
        None
    }
}

/// What was read may be only in the cache of the system: after a mere kill it was never synced, and
/// after a failed sync the cache calls it clean though it never reached the disk. So what no frame
/// proves durable is written again, the same bytes to the same place, and synced.
fn make_durable(
    vfs: &dyn Vfs,
    config: &WalConfig,
    images: &BTreeMap<u64, Image>,
    out: &Recovered,
) -> Result<()> {
    if bug("recovery_without_sync") {
        return Ok(());
    }
    for (number, end) in out.files.iter().zip(&out.ends) {
        let base = number * config.file_bytes;
        let from = out.witnessed.saturating_sub(base) as usize;
        let Some(image) = images.get(number) else { continue };
        let end = (*end).next_multiple_of(ALIGN as usize).min(image.bytes.len());
        let Some(unproven) = image.bytes.get(from..end).filter(|part| !part.is_empty()) else {
            continue;
        };
        let path = config.path(*number);
        let file = vfs.open(&path, OpenMode::Write).map_err(|e| Error::io("open", &path, e))?;
        if !bug("trust_the_cache") {
            write_all_at(&*file, unproven, from as u64)
                .map_err(|e| Error::io("write", &path, e))?;
        }
        file.sync_all().map_err(|e| Error::io("sync", &path, e))?;
    }
    // An orderly end is written only after the names are durable.
    if out.clean {
        return Ok(());
    }
    vfs.sync_dir(&config.dir).map_err(|e| Error::io("sync", &config.dir, e))
}

/// Files that are no part of the log: below the floor, or begun but never reached.
fn remove_others(
    vfs: &dyn Vfs,
    config: &WalConfig,
    paths: &BTreeMap<u64, std::path::PathBuf>,
    first: u64,
    out: &Recovered,
) {
    for (number, path) in paths {
        if *number < first || !out.files.contains(number) {
            let _ = vfs.remove(path);
        }
    }
    for name in vfs.list(&config.dir).unwrap_or_default() {
        if name.starts_with("spare-") {
            let _ = vfs.remove(&config.dir.join(name));
        }
    }
}

fn file_name(number: u64) -> String {
    format!("wal/{number:06}.wal")
}

fn damage(number: u64, offset: u64, detail: &str, lost_lsn_range: Option<(u64, u64)>) -> Error {
    Error::Corruption { file: file_name(number), offset, detail: detail.to_owned(), lost_lsn_range }
}
