//! A disk in memory that can lose power, fail, tear and rot.
//!
//! Each file has *synced* bytes and a list of pending events. A power cut keeps, drops or tears the
//! pending events in any combination, per 512-byte sector; lengths and directory entries are events
//! of their own. Who chooses is a parameter: a random generator, or an enumeration of every subset.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{LockGuard, OpenMode, VFile, Vfs};

/// The unit in which a power cut tears a write.
pub const SECTOR: usize = 512;

/// Picks one of `n` outcomes at a crash.
pub type Chooser<'a> = &'a mut dyn FnMut(u32) -> u32;

/// What an injected fault looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The device reports an error; a write may have been done in part.
    Eio,
    /// No space is left; only calls that can need space fail.
    Enospc,
    /// The call was interrupted before it did anything.
    Eintr,
    /// Reads and writes do half of what was asked, successfully.
    Short,
}

/// Which calls fail: the `countdown`-th from now, and all later ones if `forever`.
#[derive(Debug, Clone, Copy)]
pub struct FaultPlan {
    /// Calls to let pass first.
    pub countdown: u64,
    /// What happens.
    pub kind: FaultKind,
    /// True: every later call fails too.
    pub forever: bool,
}

#[derive(Debug, Clone)]
enum Event {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    synced: Vec<u8>,
    cached: Vec<u8>,
    pending: Vec<Event>,
}

#[derive(Debug, Clone)]
enum DirEvent {
    Link(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
}

impl DirEvent {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Link(path, _) | Self::Rename(_, path) | Self::Unlink(path) => path.parent(),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Disk {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    synced_names: BTreeMap<PathBuf, u64>,
    dir_events: Vec<DirEvent>,
    next_inode: u64,
    locked: BTreeSet<PathBuf>,
    calls: u64,
    fault: Option<FaultPlan>,
    faults_hit: u64,
    free: Option<u64>,
    /// Crash after this many more calls that change something.
    crash_after: Option<u64>,
    dead: bool,
}

/// The simulated disk. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SimVfs {
    disk: Arc<Mutex<Disk>>,
}

impl SimVfs {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Arms or disarms a fault.
    pub fn set_fault(&self, fault: Option<FaultPlan>) {
        self.disk.lock().fault = fault;
    }

    /// How many calls were made so far.
    pub fn calls(&self) -> u64 {
        self.disk.lock().calls
    }

    /// How many calls an injected fault hit.
    pub fn faults_hit(&self) -> u64 {
        self.disk.lock().faults_hit
    }

    /// What `free_space` reports; `None` is plenty.
    pub fn set_free(&self, free: Option<u64>) {
        self.disk.lock().free = free;
    }

    /// After `calls` more calls, nothing reaches the disk and every call fails.
    pub fn crash_after(&self, calls: Option<u64>) {
        self.disk.lock().crash_after = calls;
    }

    /// True if the point of `crash_after` was passed.
    pub fn is_dead(&self) -> bool {
        self.disk.lock().dead
    }

    /// A copy of the disk as it is, for trying several outcomes of one crash.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { disk: Arc::new(Mutex::new(self.disk.lock().clone())) }
    }

    /// The process dies; the operating system and its cache live on.
    pub fn kill_process(&self) {
        let mut disk = self.disk.lock();
        disk.locked.clear();
        disk.dead = false;
        disk.crash_after = None;
        disk.fault = None;
    }

    /// The power fails: what was not synced survives as `choose` says.
    pub fn power_cut(&self, choose: Chooser<'_>) {
        let mut disk = self.disk.lock();
        let disk = &mut *disk;
        let events = std::mem::take(&mut disk.dir_events);
        for event in events {
            if choose(2) == 1 {
                apply_name(&mut disk.synced_names, &event);
            }
        }
        disk.names = disk.synced_names.clone();
        for inode in disk.inodes.values_mut() {
            settle(inode, choose);
        }
        let live: BTreeSet<u64> = disk.names.values().copied().collect();
        disk.inodes.retain(|id, _| live.contains(id));
        disk.locked.clear();
        disk.dead = false;
        disk.crash_after = None;
        disk.fault = None;
    }

    /// Flips one bit of synced data, as a worn medium does.
    pub fn flip_bit(&self, path: &Path, byte: u64, bit: u8) {
        let mut disk = self.disk.lock();
        let Some(id) = disk.names.get(path).copied() else { return };
        if let Some(inode) = disk.inodes.get_mut(&id) {
            let at = byte as usize;
            for image in [&mut inode.synced, &mut inode.cached] {
                if let Some(b) = image.get_mut(at) {
                    *b ^= 1 << bit;
                }
            }
        }
    }

    /// Overwrites synced bytes, as a misdirected write does.
    pub fn scribble(&self, path: &Path, offset: u64, bytes: &[u8]) {
        let mut disk = self.disk.lock();
        let Some(id) = disk.names.get(path).copied() else { return };
        if let Some(inode) = disk.inodes.get_mut(&id) {
            for image in [&mut inode.synced, &mut inode.cached] {
                for (i, byte) in bytes.iter().enumerate() {
                    if let Some(b) = image.get_mut(offset as usize + i) {
                        *b = *byte;
                    }
                }
            }
        }
    }

    /// Every file with its length.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let disk = self.disk.lock();
        let length = |id: &u64| disk.inodes.get(id).map_or(0, |i| i.cached.len() as u64);
        disk.names.iter().map(|(path, id)| (path.clone(), length(id))).collect()
    }

    /// The bytes of a file as a reader sees them.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk.lock();
        let id = disk.names.get(path)?;
        disk.inodes.get(id).map(|i| i.cached.clone())
    }

    /// A checksum of everything a reader could see, to compare two replays.
    pub fn fingerprint(&self) -> u64 {
        let disk = self.disk.lock();
        let mut hash = disk.calls;
        for (path, id) in &disk.names {
            let name = path.as_os_str().as_encoded_bytes();
            hash = xxhash_rust::xxh3::xxh3_64_with_seed(name, hash);
            if let Some(inode) = disk.inodes.get(id) {
                hash = xxhash_rust::xxh3::xxh3_64_with_seed(&inode.cached, hash);
            }
        }
        hash
    }
}

impl Disk {
    /// Counts a call and says whether a fault strikes it.
    fn step(&mut self, may_need_space: bool) -> io::Result<Option<FaultKind>> {
        self.calls += 1;
        if self.dead {
            return Err(io::Error::other("simulated crash"));
        }
        if let Some(left) = &mut self.crash_after {
            if *left == 0 {
                self.dead = true;
                return Err(io::Error::other("simulated crash"));
            }
            *left -= 1;
        }
        let Some(plan) = &mut self.fault else { return Ok(None) };
        if plan.countdown > 0 {
            plan.countdown -= 1;
            return Ok(None);
        }
        let kind = plan.kind;
        if !plan.forever {
            self.fault = None;
        }
        if kind == FaultKind::Enospc && !may_need_space {
            return Ok(None);
        }
        self.faults_hit += 1;
        Ok(Some(kind))
    }

    /// A call that either works or fails as a whole.
    fn simple(&mut self, may_need_space: bool) -> io::Result<()> {
        match self.step(may_need_space)? {
            None | Some(FaultKind::Short | FaultKind::Eintr) => Ok(()),
            Some(kind) => Err(fault(kind)),
        }
    }
}

impl Vfs for SimVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VFile>> {
        let mut disk = self.disk.lock();
        disk.simple(mode == OpenMode::Create)?;
        let inode = match (disk.names.get(path).copied(), mode) {
            (Some(id), OpenMode::Create) => {
                if let Some(inode) = disk.inodes.get_mut(&id) {
                    inode.cached.clear();
                    inode.pending.push(Event::Length(0));
                }
                id
            }
            (Some(id), _) => id,
            (None, OpenMode::Create) => {
                disk.next_inode += 1;
                let id = disk.next_inode;
                disk.inodes.insert(id, Inode::default());
                disk.names.insert(path.to_path_buf(), id);
                disk.dir_events.push(DirEvent::Link(path.to_path_buf(), id));
                id
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(SimFile { disk: Arc::clone(&self.disk), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.simple(true)?;
        let event = DirEvent::Rename(from.to_path_buf(), to.to_path_buf());
        if !apply_name(&mut disk.names, &event) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.dir_events.push(event);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.simple(false)?;
        let event = DirEvent::Unlink(path.to_path_buf());
        if !apply_name(&mut disk.names, &event) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.dir_events.push(event);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.simple(true)?;
        let disk = &mut *disk;
        let (now, later) = std::mem::take(&mut disk.dir_events)
            .into_iter()
            .partition(|event| event.dir() == Some(path));
        disk.dir_events = later;
        let now: Vec<DirEvent> = now;
        for event in &now {
            apply_name(&mut disk.synced_names, event);
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut disk = self.disk.lock();
        disk.simple(false)?;
        // A directory is there if anything is in it.
        let name = |p: &PathBuf| {
            let first = p.strip_prefix(path).ok()?.components().next()?;
            Some(first.as_os_str().to_string_lossy().into_owned())
        };
        let names: BTreeSet<String> = disk.names.keys().filter_map(name).collect();
        Ok(names.into_iter().collect())
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        self.disk.lock().simple(true)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.simple(true)?;
        if disk.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = *disk.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_path_buf(), id);
        disk.dir_events.push(DirEvent::Link(to.to_path_buf(), id));
        Ok(())
    }

    fn remove_dir(&self, _path: &Path) -> io::Result<()> {
        self.disk.lock().simple(false)
    }

    fn lock(&self, path: &Path) -> io::Result<LockGuard> {
        let mut disk = self.disk.lock();
        if !disk.locked.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock(Arc::clone(&self.disk), path.to_path_buf())))
    }

    fn free_space(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.disk.lock().free.unwrap_or(u64::MAX / 2))
    }
}

struct SimLock(Arc<Mutex<Disk>>, PathBuf);

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.lock().locked.remove(&self.1);
    }
}

#[derive(Debug)]
struct SimFile {
    disk: Arc<Mutex<Disk>>,
    inode: u64,
}

impl SimFile {
    fn with<T>(
        &self,
        may_need_space: bool,
        act: impl FnOnce(&mut Inode, Option<FaultKind>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut disk = self.disk.lock();
        let fault = disk.step(may_need_space)?;
        // A file whose name is gone lives on while it is open.
        let inode = disk.inodes.entry(self.inode).or_default();
        act(inode, fault)
    }
}

impl VFile for SimFile {
    fn pread(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(false, |inode, struck| {
            let from = inode.cached.get(offset as usize..).unwrap_or_default();
            let mut n = from.len().min(into.len());
            match struck {
                Some(FaultKind::Short) if n > 1 => n /= 2,
                None | Some(FaultKind::Short) => {}
                Some(kind) => return Err(fault(kind)),
            }
            into[..n].copy_from_slice(&from[..n]);
            Ok(n)
        })
    }

    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.with(true, |inode, struck| {
            let at = offset as usize;
            match struck {
                None => {
                    inode.write(at, bytes);
                    Ok(bytes.len())
                }
                Some(FaultKind::Short) => {
                    let n = bytes.len().div_ceil(2);
                    inode.write(at, &bytes[..n]);
                    Ok(n)
                }
                Some(FaultKind::Eintr) => Err(fault(FaultKind::Eintr)),
                Some(kind) => {
                    inode.write(at, &bytes[..bytes.len() / 2]);
                    Err(fault(kind))
                }
            }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(true, |inode, struck| match struck {
            None | Some(FaultKind::Short | FaultKind::Eintr) => {
                for event in std::mem::take(&mut inode.pending) {
                    apply(&mut inode.synced, &event);
                }
                Ok(())
            }
            Some(kind) => {
                // The dirty pages are dropped: readable until evicted, never written.
                inode.pending.clear();
                Err(fault(kind))
            }
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(true, |inode, struck| {
            if let Some(kind @ (FaultKind::Eio | FaultKind::Enospc)) = struck {
                return Err(fault(kind));
            }
            inode.cached.resize(len as usize, 0);
            inode.pending.push(Event::Length(len as usize));
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(false, |inode, _| Ok(inode.cached.len() as u64))
    }
}

impl Inode {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.cached.len() {
            self.cached.resize(end, 0);
            self.pending.push(Event::Length(end));
        }
        self.cached[offset..end].copy_from_slice(bytes);
        self.pending.push(Event::Write { offset, bytes: bytes.to_vec() });
    }
}

fn fault(kind: FaultKind) -> io::Error {
    match kind {
        FaultKind::Eio => io::Error::other("simulated I/O error"),
        FaultKind::Enospc => io::ErrorKind::StorageFull.into(),
        FaultKind::Eintr | FaultKind::Short => io::ErrorKind::Interrupted.into(),
    }
}

fn apply(image: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Write { offset, bytes } => {
            let end = offset + bytes.len();
            if end > image.len() {
                image.resize(end, 0);
            }
            image[*offset..end].copy_from_slice(bytes);
        }
        Event::Length(len) => image.resize(*len, 0),
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, u64>, event: &DirEvent) -> bool {
    match event {
        DirEvent::Link(path, id) => {
            names.insert(path.clone(), *id);
            true
        }
        DirEvent::Unlink(path) => names.remove(path).is_some(),
        DirEvent::Rename(from, to) => match names.remove(from) {
            Some(id) => {
                names.insert(to.clone(), id);
                true
            }
            None => rename_dir(names, from, to),
        },
    }
}

/// A directory that is not empty is no target.
fn rename_dir(names: &mut BTreeMap<PathBuf, u64>, from: &Path, to: &Path) -> bool {
    let inside = |dir: &Path, path: &PathBuf| path.starts_with(dir);
    let moved: Vec<PathBuf> = names.keys().filter(|path| inside(from, path)).cloned().collect();
    if moved.is_empty() || names.keys().any(|path| inside(to, path)) {
        return false;
    }
    for path in moved {
        if let (Ok(rest), Some(id)) = (path.strip_prefix(from), names.get(&path).copied()) {
            names.insert(to.join(rest), id);
            names.remove(&path);
        }
    }
    true
}

/// Decides the fate of a file's pending events at a power cut.
fn settle(inode: &mut Inode, choose: Chooser<'_>) {
    let events = std::mem::take(&mut inode.pending);
    let mut image = std::mem::take(&mut inode.synced);
    let mut length = image.len();
    // Data that lies beyond the surviving length is lost whatever happened to its sectors.
    for event in &events {
        match event {
            Event::Length(len) => {
                if *len != length && choose(2) == 1 {
                    length = *len;
                    if *len < image.len() {
                        image.truncate(*len);
                    }
                }
            }
            Event::Write { offset, bytes } => settle_write(&mut image, *offset, bytes, choose),
        }
    }
    image.resize(length, 0);
    inode.cached.clone_from(&image);
    inode.synced = image;
}

fn settle_write(image: &mut Vec<u8>, offset: usize, bytes: &[u8], choose: Chooser<'_>) {
    let end = offset + bytes.len();
    if end > image.len() {
        image.resize(end, 0);
    }
    let mut at = offset;
    while at < end {
        let stop = ((at / SECTOR + 1) * SECTOR).min(end);
        let new = &bytes[at - offset..stop - offset];
        // A sector that already holds these bytes has only one outcome.
        if image[at..stop] != *new && choose(2) == 1 {
            image[at..stop].copy_from_slice(new);
        }
        at = stop;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::write_all_at;

    #[test]
    fn power_cut_keeps_synced_and_chooses_the_rest() {
        let vfs = SimVfs::new();
        let path = Path::new("/d/a");
        let file = vfs.open(path, OpenMode::Create).unwrap();
        write_all_at(&*file, &[1; 1024], 0).unwrap();
        file.sync_data().unwrap();
        vfs.sync_dir(Path::new("/d")).unwrap();
        write_all_at(&*file, &[2; 1024], 0).unwrap();
        let fork = vfs.fork();
        vfs.power_cut(&mut |_| 0);
        assert_eq!(vfs.contents(path).unwrap(), vec![1; 1024]);
        let mut n = 0;
        fork.power_cut(&mut |_| {
            n += 1;
            u32::from(n == 2)
        });
        let torn = fork.contents(path).unwrap();
        assert_eq!((torn[0], torn[512]), (1, 2), "one sector of two survived");
    }

    #[test]
    fn names_need_a_directory_sync() {
        let vfs = SimVfs::new();
        let file = vfs.open(Path::new("/d/a"), OpenMode::Create).unwrap();
        file.sync_all().unwrap();
        vfs.power_cut(&mut |_| 0);
        assert!(vfs.open(Path::new("/d/a"), OpenMode::Read).is_err());
    }
}
