//! By handles of directories: what is checked is what is opened, whatever others rename meanwhile.

use std::{
    fs::{File, Metadata},
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
#[cfg(target_os = "linux")]
use rustix::fs::ResolveFlags;
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, statat},
    io::Errno,
};

use super::{Entry, OpenError, Symlinks, is_listed};

/// The root directory, opened, and how paths beneath it are resolved.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    symlinks: Symlinks,
    /// Whether the kernel confines look-ups itself (`openat2`, Linux 5.6).
    kernel: bool,
    current: RwLock<Current>,
}

#[derive(Debug, Clone)]
struct Current {
    directory: Arc<OwnedFd>,
    id: (u64, u64),
    checked: u64,
}

impl Root {
    pub(crate) fn open(path: &Path, symlinks: Symlinks, now: u64) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let (directory, id) = open_directory(&path)?;
        let kernel = confines(&directory);
        if !kernel {
            tracing::info!("openat2 is not available: paths are resolved one component at a time");
        }
        let current = Current { directory: Arc::new(directory), id, checked: now };
        Ok(Self { path, symlinks, kernel, current: RwLock::new(current) })
    }

    /// Resolves paths without the kernel's help, as on systems that have no `openat2`.
    #[cfg(test)]
    pub(crate) fn without_kernel(mut self) -> Self {
        self.kernel = false;
        self
    }

    /// Notices that the root was replaced, which is how many sites are deployed.
    pub(crate) fn refresh(&self, now: u64, every: u64) {
        if now.saturating_sub(self.current.read().checked) < every {
            return;
        }
        let mut current = self.current.write();
        // Somebody else may have done it while this thread waited for the lock.
        if now.saturating_sub(current.checked) < every {
            return;
        }
        current.checked = now;
        match open_directory(&self.path) {
            Ok((_, id)) if id == current.id => {}
            Ok((directory, id)) => {
                tracing::debug!(root = %self.path.display(), "the root was replaced");
                *current = Current { directory: Arc::new(directory), id, checked: now };
            }
            // Between two renames there may be no root for a moment: what was open stays good.
            Err(error) => {
                tracing::warn!(root = %self.path.display(), %error, "the root cannot be opened");
            }
        }
    }

    /// Opens a file or directory for reading. `path` has passed [`check`](crate::path::check); `""` is the root.
    pub(crate) fn find(&self, path: &str) -> Result<(File, Metadata), OpenError> {
        let directory = Arc::clone(&self.current.read().directory);
        let path = if path.is_empty() { "." } else { path };
        let fd = self.resolve(&directory, path)?;
        let file = File::from(fd);
        let metadata = file.metadata().map_err(OpenError::Failed)?;
        // Devices, pipes and sockets are no content.
        if !metadata.is_file() && !metadata.is_dir() {
            return Err(OpenError::NotFound);
        }
        Ok((file, metadata))
    }

    /// What is in a directory that was found, at most `count_max` of it, and whether that is all. Only what could be
    /// served is listed.
    pub(crate) fn entries(
        &self,
        directory: &File,
        _path: &str,
        hidden: bool,
        count_max: usize,
    ) -> io::Result<(Vec<Entry>, bool)> {
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if !is_listed(name, hidden) {
                continue;
            }
            if entries.len() == count_max {
                return Ok((entries, false));
            }
            let mut flags = AtFlags::SYMLINK_NOFOLLOW;
            let is_link = entry.file_type() == FileType::Symlink;
            match self.symlinks {
                Symlinks::Deny if is_link => continue,
                Symlinks::Follow => flags = AtFlags::empty(),
                _ => {}
            }
            let Ok(stat) = statat(directory, name, flags) else { continue };
            let file_type = FileType::from_raw_mode(stat.st_mode);
            let is_directory = file_type == FileType::Directory;
            // Where a link leads is not looked into: it may be outside. Its target is checked when it is opened.
            let is_content = is_directory || file_type == FileType::RegularFile || is_link;
            if !is_content {
                continue;
            }
            entries.push(Entry {
                name: name.to_owned(),
                is_directory,
                len: u64::try_from(stat.st_size).unwrap_or_default(),
                modified: u64::try_from(stat.st_mtime).ok().filter(|_| !is_link),
            });
        }
        Ok((entries, true))
    }

    fn resolve(&self, directory: &OwnedFd, path: &str) -> Result<OwnedFd, OpenError> {
        if self.symlinks == Symlinks::Follow {
            return Ok(rustix::fs::openat(directory, path, READ, Mode::empty())?);
        }
        if !self.kernel {
            return match self.symlinks {
                Symlinks::WithinRoot => self.open_canonical(directory, path),
                _ => open_by_component(directory, path),
            };
        }
        self.resolve_by_kernel(directory, path)
    }

    #[cfg(target_os = "linux")]
    fn resolve_by_kernel(&self, directory: &OwnedFd, path: &str) -> Result<OwnedFd, OpenError> {
        let flags = match self.symlinks {
            Symlinks::WithinRoot => BENEATH,
            _ => BENEATH.union(ResolveFlags::NO_SYMLINKS),
        };
        for _ in 0..RETRY_COUNT {
            match rustix::fs::openat2(directory, path, READ, Mode::empty(), flags) {
                // A rename elsewhere made the kernel unsure whether `..` in a link stayed inside.
                Err(Errno::AGAIN) => {}
                // A link that is absolute may still end within the root, which the kernel cannot tell.
                Err(Errno::XDEV) if self.symlinks == Symlinks::WithinRoot => {
                    return self.open_canonical(directory, path);
                }
                result => return Ok(result?),
            }
        }
        Err(OpenError::Failed(Errno::AGAIN.into()))
    }

    /// Never called: [`confines`] says no there. No path leads out this way either.
    #[cfg(not(target_os = "linux"))]
    fn resolve_by_kernel(&self, directory: &OwnedFd, path: &str) -> Result<OwnedFd, OpenError> {
        open_by_component(directory, path)
    }

    /// Resolves links in user space, then opens the result without following any: a link that is put there
    /// in between is not followed.
    fn open_canonical(&self, directory: &OwnedFd, path: &str) -> Result<OwnedFd, OpenError> {
        let root = self.path.canonicalize().map_err(OpenError::from_io)?;
        let target = root.join(path).canonicalize().map_err(OpenError::from_io)?;
        let inside = target.strip_prefix(&root).map_err(|_| OpenError::NotFound)?;
        let inside = inside.to_str().ok_or(OpenError::NotFound)?;
        if !inside.is_empty() && path.ends_with('/') {
            return open_by_component(directory, &format!("{inside}/"));
        }
        open_by_component(directory, if inside.is_empty() { "." } else { inside })
    }
}

impl OpenError {
    fn from_io(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(errno) => errno.into(),
            None => Self::Failed(error),
        }
    }
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        match errno {
            // ENXIO: a socket, or a pipe without a reader.
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NAMETOOLONG
            | Errno::NXIO
            | Errno::INVAL => Self::NotFound,
            Errno::ACCESS | Errno::PERM => Self::Denied(errno.into()),
            _ => Self::Failed(errno.into()),
        }
    }
}

fn open_directory(path: &Path) -> io::Result<(OwnedFd, (u64, u64))> {
    let flags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
    let directory = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    let metadata = directory.metadata()?;
    Ok((directory.into(), (metadata.dev(), metadata.ino())))
}

/// Whether `openat2` works. Containers may forbid what the kernel knows, in more than one way.
#[cfg(target_os = "linux")]
fn confines(directory: &OwnedFd) -> bool {
    rustix::fs::openat2(directory, ".", READ, Mode::empty(), BENEATH).is_ok()
}

/// Other systems have nothing like it.
#[cfg(not(target_os = "linux"))]
fn confines(_directory: &OwnedFd) -> bool {
    false
}

/// Follows no link at all: each component is opened in the directory before it.
fn open_by_component(directory: &OwnedFd, path: &str) -> Result<OwnedFd, OpenError> {
    let must_be_directory = path.ends_with('/');
    let mut components = path.split('/').filter(|name| !name.is_empty()).peekable();
    let mut opened: Option<OwnedFd> = None;
    while let Some(name) = components.next() {
        let is_last = components.peek().is_none();
        let mut flags = READ.union(OFlags::NOFOLLOW);
        if !is_last || must_be_directory {
            flags |= OFlags::DIRECTORY;
        }
        let within = opened.as_ref().unwrap_or(directory);
        opened = Some(rustix::fs::openat(within, name, flags, Mode::empty())?);
    }
    opened.ok_or(OpenError::NotFound)
}

/// Non-blocking, so that opening a pipe returns at once; no effect on files.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
#[cfg(target_os = "linux")]
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
#[cfg(target_os = "linux")]
const RETRY_COUNT: usize = 16;
