//! Opens files beneath one directory and nowhere else.

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
    fs::{CWD, Mode, OFlags},
    io::Errno,
};

/// Which symbolic links beneath the root are followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Symlinks {
    /// None: a path with a symbolic link in it does not exist.
    Deny,
    /// All, wherever they lead. Whoever can create a link beneath the root can publish any file that the
    /// server may read.
    Follow,
    /// Those that stay within the root. The default.
    #[default]
    WithinRoot,
}

/// Why a path cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("no such file beneath the root")]
    NotFound,
    #[error("the file may not be read by the server")]
    Denied(#[source] io::Error),
    #[error("the file cannot be opened")]
    Failed(#[source] io::Error),
}

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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::{Root, Symlinks};

    /// What each policy makes of each path, with and without `openat2`.
    #[test]
    fn policies() {
        let outside = tempfile::tempdir().expect("a directory");
        fs::write(outside.path().join("secret"), "secret").expect("a file");
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("d/e")).expect("directories");
        fs::write(at("d/file"), "file").expect("a file");
        symlink("file", at("d/relative")).expect("a link");
        symlink("../d/file", at("d/upward")).expect("a link");
        symlink(at("d/file"), at("absolute")).expect("a link");
        symlink("d", at("directory")).expect("a link");
        symlink(outside.path().join("secret"), at("out")).expect("a link");
        symlink(outside.path(), at("outdir")).expect("a link");
        symlink("../../../../../../../../etc/passwd", at("d/climb")).expect("a link");
        symlink("loop", at("loop")).expect("a link");
        symlink("/proc/self/root", at("magic")).expect("a link");
        let rows = [
            ("d/file", true, true, true),
            ("d/missing", false, false, false),
            ("d/file/", false, false, false),
            ("d/file/x", false, false, false),
            ("d", true, true, true),
            ("d/", true, true, true),
            ("", true, true, true),
            ("d/relative", false, true, true),
            ("d/upward", false, true, true),
            ("absolute", false, true, true),
            ("directory/file", false, true, true),
            ("directory/", false, true, true),
            ("out", false, false, true),
            ("outdir/secret", false, false, true),
            ("d/climb", false, false, true),
            ("loop", false, false, false),
            ("magic/etc/passwd", false, false, true),
        ];
        for (path, deny, within, follow) in rows {
            for (symlinks, want) in
                [(Symlinks::Deny, deny), (Symlinks::WithinRoot, within), (Symlinks::Follow, follow)]
            {
                let open = || Root::open(root.path(), symlinks, 0).expect("a root");
                for root in [open(), open().without_kernel()] {
                    let found = root.find(path).is_ok();
                    assert_eq!(found, want, "{path:?}, {symlinks:?}, kernel {}", root.kernel);
                }
            }
        }
    }

    #[test]
    fn a_replaced_root_is_noticed() {
        let parent = tempfile::tempdir().expect("a directory");
        for release in ["1", "2"] {
            fs::create_dir(parent.path().join(release)).expect("a directory");
        }
        fs::write(parent.path().join("2/new"), "").expect("a file");
        let link = parent.path().join("current");
        symlink("1", &link).expect("a link");
        let root = Root::open(&link, Symlinks::Deny, 0).expect("a root");
        fs::remove_file(&link).expect("the link");
        root.refresh(1000, 1000); // no root at all: the old one stays
        symlink("2", &link).expect("a link");
        root.refresh(1999, 1000);
        assert!(root.find("new").is_err(), "checked only once a second");
        root.refresh(2000, 1000);
        assert!(root.find("new").is_ok());
    }
}
