//! Which log files belong to a moment: those of the backup, then what the archive and the store
//! itself have beyond, each following the one before.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use super::{
    BackupError, RestorePoint,
    archive::{self, read_log_header},
    pack::{PackHeader, PackReader},
    record::Record,
    repository::Repository,
};
use crate::{
    commit::wall_ms,
    crypt::MasterKey,
    error::{Error, Result},
    frame::{self, FLAG_CLEAN, FLAG_LOAD, Frame, FrameType},
    vfs::{Vfs, read_file},
    wal::{self, WalConfig, Walk},
};

/// One copy of a log file.
#[derive(Debug, Clone)]
struct Copy {
    /// What is known of it without reading it. The end of a file in use is not known.
    header: PackHeader,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// A pack, what errors call it, and whether it is sealed with the archive's key.
    Pack {
        path: PathBuf,
        name: String,
        in_archive: bool,
    },
    Raw(PathBuf),
}

/// A log file of the history, and where the history leaves it.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) number: u64,
    pub(crate) cut: u64,
    file_bytes: u64,
    copy: Copy,
}

impl Piece {
    /// True if a position in the log lies in this file.
    fn is_at(&self, lsn: u64) -> bool {
        lsn / self.file_bytes == self.number
    }
}

/// What a restore needs of the log.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) pieces: Vec<Piece>,
    /// The last commit in it.
    pub(crate) seq: u64,
    /// The highest number of a log file that is known, on whatever line.
    pub(crate) highest: u64,
}

/// Where pieces of the log may be.
pub(crate) struct Sources<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) record: &'a Record,
    pub(crate) archive: Option<&'a Path>,
    pub(crate) archive_key: Option<&'a MasterKey>,
    /// A store whose log is read.
    pub(crate) live: Option<&'a Path>,
    /// The store's own key: only to read the time of sealed commits.
    pub(crate) store_key: Option<&'a MasterKey>,
}

impl Sources<'_> {
    fn vfs(&self) -> &dyn Vfs {
        &*self.repository.vfs
    }

    fn config(&self, dir: PathBuf) -> WalConfig {
        WalConfig {
            dir,
            file_bytes: self.record.log_file_bytes,
            grow_bytes: frame::ALIGN,
            store_id: self.record.store_id,
            key: self.store_key.cloned(),
        }
    }

    /// Every copy of every log file. The live log comes before the archive: what it lets go while this
    /// looks is in the archive by then.
    fn copies(&self) -> Result<BTreeMap<u64, Vec<Copy>>> {
        let mut copies: BTreeMap<u64, Vec<Copy>> = BTreeMap::new();
        for file in self.record.files_in("wal/") {
            let name = format!("{}/{}", file.stored_in, file.name);
            let path = self.repository.dir.join(&file.stored_in).join(&file.name);
            let header = PackReader::header(self.vfs(), &path, &name)?;
            let source = Source::Pack { path, name, in_archive: false };
            copies.entry(header.number).or_default().push(Copy { header, source });
        }
        if let Some(live) = self.live {
            self.live_copies(live, &mut copies)?;
        }
        if let Some(dir) = self.archive {
            for (number, (header, _)) in archive::list(self.vfs(), dir, &self.record.store_id)? {
                let name = format!("archive/{}", archive::file_name(number));
                let path = archive::path(dir, number);
                let source = Source::Pack { path, name, in_archive: true };
                copies.entry(number).or_default().push(Copy { header, source });
            }
        }
        Ok(copies)
    }

    fn live_copies(&self, live: &Path, copies: &mut BTreeMap<u64, Vec<Copy>>) -> Result<()> {
        let config = self.config(live.join("wal"));
        let files =
            wal::list(self.vfs(), &config.dir).map_err(|e| Error::io("list", &config.dir, e))?;
        for (number, path) in files {
            let Some(found) = read_log_header(self.vfs(), &config, number)? else { continue };
            let header = PackHeader {
                prev_lsn: found.prev_lsn,
                prev_end: found.prev_end,
                end: (number + 1) * config.file_bytes,
                identity: found.key_salt,
                ..PackHeader::new(super::pack::PackKind::Log, config.store_id, number)
            };
            let source = Source::Raw(path);
            copies.entry(number).or_default().push(Copy { header, source });
        }
        Ok(())
    }

    /// True if the store was restored to a moment before this backup and went on from there: as far as
    /// the archive and the log tell.
    pub(crate) fn is_line_left(&self) -> Result<bool> {
        let copies = self.copies()?;
        let own = self.own(&copies);
        let (Some((first, _)), Some((last, _))) = (own.first(), own.last()) else {
            return Ok(false);
        };
        // Where the line of this backup leaves each file: forwards to its end, backwards as far as
        // files are there.
        let mut leaves = BTreeMap::from([(*last, self.record.commits_end)]);
        let mut number = *last;
        while let Some(list) = copies.get(&number) {
            let own = own.iter().find(|(own, _)| *own == number);
            let fits = |copy: &&Copy| own.is_none_or(|(_, id)| copy.header.identity == *id);
            let Some(copy) = list.iter().find(fits) else { break };
            let before = copy.header.prev_end / self.record.log_file_bytes;
            if before >= number {
                break;
            }
            leaves.insert(before, copy.header.prev_end);
            number = before;
        }
        debug_assert!(leaves.contains_key(first), "the backup's own files follow each other");
        let left = |copy: &Copy| {
            let cut = copy.header.prev_end;
            leaves.get(&(cut / self.record.log_file_bytes)).is_some_and(|leaves| cut < *leaves)
        };
        // Later lines have higher numbers than anything there was when they began.
        let other = |copy: &&Copy| own.iter().all(|(_, id)| copy.header.identity != *id);
        Ok(copies.range(last..).any(|(_, list)| list.iter().filter(other).any(left)))
    }

    /// The content of a piece, up to its cut.
    pub(crate) fn read(&self, piece: &Piece) -> Result<Vec<u8>> {
        let base = piece.number * self.record.log_file_bytes;
        let mut image = match &piece.copy.source {
            Source::Pack { path, name, in_archive } => {
                let key = if *in_archive { self.archive_key } else { self.repository.key.as_ref() };
                let pack = PackReader::open(self.vfs(), path, name, key)?;
                pack.read_all(self.record.log_file_bytes)?
            }
            Source::Raw(path) => match self.read_live(piece, path)? {
                Some(image) => image,
                None => self.read_archived(piece)?,
            },
        };
        image.truncate(piece.cut.saturating_sub(base).min(image.len() as u64) as usize);
        Ok(image)
    }

    /// `None` if the store has let the file go meanwhile, or begun to use it again.
    fn read_live(&self, piece: &Piece, path: &Path) -> Result<Option<Vec<u8>>> {
        let image = match read_file(self.vfs(), path) {
            Ok(image) => image,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", path, e)),
        };
        let header = wal::read_header(&self.config(PathBuf::new()), piece.number, &image);
        Ok(header.is_some_and(|h| h.key_salt == piece.copy.header.identity).then_some(image))
    }

    /// What a store with an archive lets go is in there by then.
    fn read_archived(&self, piece: &Piece) -> Result<Vec<u8>> {
        let number = piece.number;
        if let Some(dir) = self.archive {
            let (path, name) = (archive::path(dir, number), archive::file_name(number));
            let pack =
                PackReader::open(self.vfs(), &path, &format!("archive/{name}"), self.archive_key)?;
            if pack.header.identity == piece.copy.header.identity {
                return pack.read_all(self.record.log_file_bytes);
            }
        }
        Err(BackupError::MissingLog { after: number.saturating_sub(1), found: number }.into())
    }

    /// Follows the log from the backup to the moment that is asked for.
    pub(crate) fn history(&self, to: RestorePoint) -> Result<History> {
        let copies = self.copies()?;
        let mut trace = Trace {
            sources: self,
            to,
            seq: self.record.info.first_seq,
            end: self.record.floor,
            is_stopped: false,
        };
        let mut pieces: Vec<Piece> = Vec::new();
        let first = self.record.floor / self.record.log_file_bytes;
        let mut next = self.first(&copies, first);
        let mut last_number = first;
        while let Some(mut piece) = next {
            let follower = follower(&copies, &self.own(&copies), self.record.commits_end, &piece);
            if let Some(follower) = &follower {
                piece.cut = follower.header.prev_end;
            }
            last_number = piece.number;
            trace.follow(&piece, follower.as_ref())?;
            pieces.push(piece);
            let size = self.record.log_file_bytes;
            next = follower.filter(|_| !trace.is_stopped).map(|copy| whole(copy, size));
        }
        self.check_reached(&trace, &copies, last_number)?;
        // Files that hold nothing of it any more do not come along.
        let base = |piece: &Piece| piece.number * self.record.log_file_bytes;
        let seq = trace.seq;
        pieces.retain(|piece| piece.number == first || base(piece) < trace.end);
        if let Some(last) = pieces.last_mut() {
            last.cut = last.cut.min(trace.end);
        }
        let highest = copies.keys().next_back().copied().unwrap_or(first);
        Ok(History { pieces, seq, highest })
    }

    fn first(&self, copies: &BTreeMap<u64, Vec<Copy>>, number: u64) -> Option<Piece> {
        let own = copies.get(&number)?.first()?;
        let copy = longest(copies, number, &own.header.identity)?;
        Some(whole(copy, self.record.log_file_bytes))
    }

    /// The log files of the backup itself, in order.
    fn own(&self, copies: &BTreeMap<u64, Vec<Copy>>) -> Vec<(u64, [u8; 32])> {
        let is_own = |copy: &&Copy| matches!(copy.source, Source::Pack { in_archive: false, .. });
        let own = copies.iter().filter_map(|(number, list)| {
            Some((*number, list.iter().find(is_own)?.header.identity))
        });
        own.collect()
    }

    /// The backup itself must be there to its end, and the sequence number that was asked for must
    /// have been met.
    fn check_reached(
        &self,
        trace: &Trace<'_>,
        copies: &BTreeMap<u64, Vec<Copy>>,
        last: u64,
    ) -> Result<()> {
        if trace.is_stopped {
            return Ok(());
        }
        let beyond = copies.range(last + 1..).map(|(number, _)| *number).next();
        let short = trace.end < self.record.end && trace.seq < self.record.info.seq;
        let wanted = match self.to_seq(trace.to) {
            Some(wanted) if trace.seq < wanted => Some(wanted),
            _ => None,
        };
        match (beyond, wanted) {
            (Some(found), _) if !matches!(trace.to, RestorePoint::Backup) => {
                // Something is there that does not follow: a gap. Stopping before it silently would
                // lose what came after.
                if wanted.is_some() || !matches!(trace.to, RestorePoint::Seq(_)) {
                    return Err(BackupError::MissingLog { after: last, found }.into());
                }
                Ok(())
            }
            (_, Some(wanted)) => Err(BackupError::NotReached { wanted, reached: trace.seq }.into()),
            _ if short => Err(BackupError::MissingLog { after: last, found: last + 1 }.into()),
            _ => Ok(()),
        }
    }

    fn to_seq(&self, to: RestorePoint) -> Option<u64> {
        match to {
            RestorePoint::Seq(seq) => Some(seq),
            RestorePoint::Backup => Some(self.record.info.seq),
            RestorePoint::Latest | RestorePoint::Time(_) => None,
        }
    }
}

/// Reads records until the moment is reached.
struct Trace<'a> {
    sources: &'a Sources<'a>,
    to: RestorePoint,
    seq: u64,
    /// Where the last record that belongs to it ends.
    end: u64,
    is_stopped: bool,
}

impl Trace<'_> {
    /// Follows one file to where the next one says that it ends.
    fn follow(&mut self, piece: &Piece, follower: Option<&Copy>) -> Result<()> {
        let sources = self.sources;
        let image = sources.read(piece)?;
        let config = sources.config(PathBuf::new());
        let file = format!("wal/{:06}.wal", piece.number);
        let header = wal::read_header(&config, piece.number, &image)
            .ok_or_else(|| Error::corrupt(&file, 0, "the header of the log file is damaged"))?;
        let base = piece.number * config.file_bytes;
        self.end = self.end.max(base + frame::ALIGN);
        let mut walk = Walk::new(&config, piece.number, header, &image, sources.record.floor);
        while let Some(found) = walk.next() {
            if self.stops_before(&found.frame, || walk.payload(&config, &found))? {
                self.is_stopped = true;
                return Ok(());
            }
            let clean = found.frame.kind == FrameType::Mark && found.frame.flags & FLAG_CLEAN != 0;
            // What is restored begins a line of its own, so it never ends in order.
            if !clean {
                self.end = walk.end_lsn(&found);
            }
            if found.frame.kind == FrameType::Commit {
                self.seq = self.seq.max(found.frame.seq);
            }
        }
        // Up to where the next file begins there must be no hole. Its word for the record before it is
        // of no use: recovery may have begun to read behind that one.
        let breaks = match follower {
            Some(follower) => frame::align_up(walk.position()) < follower.header.prev_end,
            None => walk.is_cut_short(),
        };
        if breaks {
            let text = "an acknowledged record is damaged";
            return Err(Error::corrupt(file, self.end.saturating_sub(base), text));
        }
        Ok(())
    }

    fn stops_before(&self, frame: &Frame, payload: impl Fn() -> Result<Vec<u8>>) -> Result<bool> {
        let record = self.sources.record;
        let in_backup = frame.lsn < record.end;
        let is_load = frame.kind == FrameType::Mark && frame.flags & FLAG_LOAD != 0;
        if frame.kind != FrameType::Commit && !is_load {
            return Ok(false);
        }
        let stops = match self.to {
            RestorePoint::Backup => !in_backup,
            RestorePoint::Latest => false,
            RestorePoint::Seq(seq) => frame.seq > seq,
            RestorePoint::Time(ms) => wall_ms(&payload()?).is_some_and(|wall| wall > ms),
        };
        if is_load && !in_backup && !stops {
            return Err(BackupError::LoadInTheWay { seq: frame.seq }.into());
        }
        // A load of the backup itself is in its segments, whatever its number.
        Ok(stops && !(is_load && in_backup))
    }
}

fn whole(copy: Copy, file_bytes: u64) -> Piece {
    Piece { number: copy.header.number, cut: copy.header.end, file_bytes, copy }
}

/// Of the copies of one file the one that holds most.
fn longest(copies: &BTreeMap<u64, Vec<Copy>>, number: u64, identity: &[u8; 32]) -> Option<Copy> {
    let same = copies.get(&number)?.iter().filter(|copy| copy.header.identity == *identity);
    // Of equal ones the first, which is the backup's own.
    same.rev().max_by_key(|copy| copy.header.end).cloned()
}

/// The file that goes on where this one is left. Within the backup it is the backup's own; beyond, of
/// several the one with the highest number, which was begun last.
fn follower(
    copies: &BTreeMap<u64, Vec<Copy>>,
    own: &[(u64, [u8; 32])],
    commits_end: u64,
    piece: &Piece,
) -> Option<Copy> {
    if let Some((number, identity)) = own.iter().find(|(number, _)| *number > piece.number) {
        return longest(copies, *number, identity);
    }
    let is_last_own = own.last().is_some_and(|(number, _)| *number == piece.number);
    let follows = |copy: &&Copy| {
        let (header, cut) = (&copy.header, copy.header.prev_end);
        // A line that left before the backup was made does not hold it.
        header.number > piece.number && piece.is_at(cut) && (!is_last_own || cut >= commits_end)
    };
    copies.range(piece.number + 1..).rev().find_map(|(number, list)| {
        let found = list.iter().find(follows)?;
        longest(copies, *number, &found.header.identity)
    })
}
