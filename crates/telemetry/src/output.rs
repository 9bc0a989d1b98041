//! Where log lines go.

use std::{io, path::PathBuf, time::Duration};

/// Where lines end up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// A file, made if it is not there, appended to if it is.
    File(PathBuf),
    /// Standard error.
    Stderr,
    /// Standard output.
    #[default]
    Stdout,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stderr => f.write_str("stderr"),
            Self::Stdout => f.write_str("stdout"),
        }
    }
}

/// When a log file is put aside and how many old ones are kept: `access.log.1` is the youngest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rotation {
    /// Size above which a file is put aside; `None` (default) leaves that to others.
    pub bytes_max: Option<u64>,
    /// Old files that are kept beside the current one. Default 0: the old one is deleted.
    pub files_max: u32,
}

impl Rotation {
    /// Files of at most `bytes_max`, with `files_max` old ones kept.
    #[must_use]
    pub fn by_size(bytes_max: u64, files_max: u32) -> Self {
        Self { bytes_max: Some(bytes_max), files_max }
    }
}

/// A target, and what may wait on the way to it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Output {
    /// Where lines end up. Default standard output.
    pub target: Target,
    /// When a file is put aside.
    pub rotation: Rotation,
    /// Bytes of lines that may wait for the target; what comes beyond is dropped and counted. It is shared
    /// out among `shards`, with at least 128 KiB for each. Default 1 MiB.
    pub queue_bytes_max: usize,
    /// How long a line may wait before it is written. Default 100 ms.
    pub flush_interval: Duration,
    /// Threads that can log without meeting each other; 0 (default) is one per core.
    pub shards: usize,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            target: Target::default(),
            rotation: Rotation::default(),
            queue_bytes_max: 1024 * 1024,
            flush_interval: Duration::from_millis(100),
            shards: 0,
        }
    }
}

impl Output {
    /// Lines to `target`, everything else by default.
    #[must_use]
    pub fn to(target: Target) -> Self {
        Self { target, ..Self::default() }
    }

    /// Changes when a file is put aside.
    #[must_use]
    pub fn rotation(mut self, rotation: Rotation) -> Self {
        self.rotation = rotation;
        self
    }

    pub(crate) fn shard_count(&self) -> usize {
        let wanted = match self.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        };
        wanted.min(64)
    }

    pub(crate) fn shard_bytes_max(&self) -> usize {
        // One line of a hostile request may take 64 KiB, and must not be dropped for that alone.
        (self.queue_bytes_max / self.shard_count()).max(128 * 1024)
    }
}

/// A log could not be opened; the operator must act.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the log `{target}`")]
pub struct OpenError {
    /// What could not be opened.
    pub target: Target,
    /// Why.
    #[source]
    pub source: io::Error,
}
