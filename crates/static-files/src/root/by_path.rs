//! By paths, for systems without handles of directories. Who may rename what is beneath the root while a file is
//! looked up can let a link be followed that was none before.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use parking_lot::RwLock;

use super::{Entry, OpenError, Symlinks, is_listed};

/// The root directory, and how paths beneath it are resolved.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    symlinks: Symlinks,
    current: RwLock<Current>,
}

#[derive(Debug, Clone)]
struct Current {
    /// Without links.
    directory: PathBuf,
    checked: u64,
}

impl Root {
    pub(crate) fn open(path: &Path, symlinks: Symlinks, now: u64) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let directory = directory(&path)?;
        let current = RwLock::new(Current { directory, checked: now });
        Ok(Self { path, symlinks, current })
    }

    /// Notices that the root was replaced, which is how many sites are deployed.
    #[cfg_attr(unix, expect(dead_code, reason = "only look-ups are tested there"))]
    pub(crate) fn refresh(&self, now: u64, every: u64) {
        if now.saturating_sub(self.current.read().checked) < every {
            return;
        }
        let mut current = self.current.write();
        current.checked = now;
        match directory(&self.path) {
            Ok(directory) => current.directory = directory,
            // Between two renames there may be no root for a moment: what there was stays good.
            Err(error) => {
                tracing::warn!(root = %self.path.display(), %error, "the root cannot be opened");
            }
        }
    }

    /// Opens a file or directory for reading. `path` has passed [`check`](crate::path::check); `""` is the root.
    pub(crate) fn find(&self, path: &str) -> Result<(File, Metadata), OpenError> {
        let target = self.resolve(path)?;
        let file = open(&target).map_err(OpenError::from_kind)?;
        let metadata = file.metadata().map_err(OpenError::Failed)?;
        // Devices, pipes and sockets are no content, and a file is no folder.
        let is_content = metadata.is_dir() || metadata.is_file() && !path.ends_with('/');
        is_content.then_some((file, metadata)).ok_or(OpenError::NotFound)
    }

    /// What is in a directory that was found at `path`, at most `count_max` of it, and whether that is all. Only what
    /// could be served is listed.
    pub(crate) fn entries(
        &self,
        _directory: &File,
        path: &str,
        hidden: bool,
        count_max: usize,
    ) -> io::Result<(Vec<Entry>, bool)> {
        let target = self.resolve(path).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
        let mut entries = Vec::new();
        for entry in fs::read_dir(target)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !is_listed(&name, hidden) {
                continue;
            }
            if entries.len() == count_max {
                return Ok((entries, false));
            }
            let Ok(own) = entry.metadata() else { continue };
            let is_link = own.is_symlink();
            let metadata = match self.symlinks {
                Symlinks::Deny if is_link => continue,
                Symlinks::Follow => match fs::metadata(entry.path()) {
                    Ok(metadata) => metadata,
                    Err(_) => continue,
                },
                // Where a link leads is not looked into: it may be outside. Its target is checked when it is opened.
                _ => own,
            };
            if !(metadata.is_dir() || metadata.is_file() || is_link) {
                continue;
            }
            let modified = metadata.modified().ok();
            let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            entries.push(Entry {
                name,
                is_directory: metadata.is_dir(),
                len: metadata.len(),
                modified: modified.map(|since| since.as_secs()).filter(|_| !is_link),
            });
        }
        Ok((entries, true))
    }

    fn resolve(&self, path: &str) -> Result<PathBuf, OpenError> {
        let root = self.current.read().directory.clone();
        let inside = path.trim_end_matches('/');
        if inside.is_empty() {
            return Ok(root);
        }
        // A colon names a stream of a file, or a drive.
        if cfg!(windows) && inside.contains(':') {
            return Err(OpenError::NotFound);
        }
        let target = root.join(inside);
        if self.symlinks == Symlinks::Follow {
            return Ok(target);
        }
        let canonical = target.canonicalize().map_err(OpenError::from_kind)?;
        let beneath = canonical.strip_prefix(&root).map_err(|_| OpenError::NotFound)?;
        // Another name for the same, a link or one that Windows makes up, must not lead to what is hidden.
        let is_hidden = |part: &str| part.starts_with('.');
        let hides =
            beneath.to_str().is_none_or(|beneath| beneath.split(['/', '\\']).any(is_hidden));
        if hides && !inside.split('/').any(is_hidden) {
            return Err(OpenError::NotFound);
        }
        if self.symlinks == Symlinks::Deny && has_link(&root, inside) {
            return Err(OpenError::NotFound);
        }
        Ok(canonical)
    }
}

impl OpenError {
    fn from_kind(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::InvalidInput => Self::NotFound,
            io::ErrorKind::PermissionDenied => Self::Denied(error),
            _ => Self::Failed(error),
        }
    }
}

/// The directory itself, without links on the way to it.
fn directory(path: &Path) -> io::Result<PathBuf> {
    let directory = path.canonicalize()?;
    if !fs::metadata(&directory)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(directory)
}

/// Whether a step from the root to there is a link.
fn has_link(root: &Path, inside: &str) -> bool {
    let mut at = root.to_path_buf();
    inside.split('/').any(|part| {
        at.push(part);
        fs::symlink_metadata(&at).map_or(true, |metadata| metadata.is_symlink())
    })
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(windows)]
    std::os::windows::fs::OpenOptionsExt::custom_flags(&mut options, FILE_FLAG_BACKUP_SEMANTICS);
    options.open(path)
}

/// Without it directories cannot be opened.
#[cfg(windows)]
const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
