//! How a directory is served.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hearth_http_core::{Coding, ContentEncoder, HeaderValue};

use crate::{
    StaticFiles, Symlinks,
    cache::{Bounds, Cache},
    clock::{Clock, ManualClock},
    handler::{Options, Site},
    page::Presentation,
    path,
    policy::{Pattern, Rule},
    root::Root,
};

/// Builds a [`StaticFiles`]; every option has a default.
#[derive(Clone)]
#[must_use]
pub struct Builder {
    root: PathBuf,
    symlinks: Symlinks,
    hidden_files: bool,
    index: Vec<String>,
    listing: bool,
    fallback: Option<String>,
    not_found_page: Option<String>,
    rules: Vec<(String, String)>,
    immutable_hashed: bool,
    media_types: Vec<(String, String)>,
    precompressed: bool,
    hot_file_bytes_max: u64,
    hot_bytes_max: usize,
    open_files_max: usize,
    encoder: Option<Arc<dyn ContentEncoder>>,
    encoded_file_bytes_max: u64,
    check_interval: Duration,
    clock: Clock,
}

/// Why a directory cannot be served. The operator has to act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A file name in an option is no path that could be served.
    #[error("{option}: {name:?} is not a file name beneath the root")]
    InvalidName {
        /// The option.
        option: &'static str,
        /// What it was set to.
        name: String,
    },
    /// A value in an option cannot be sent in a header field.
    #[error("{option}: {value:?} has a character that no header field may have")]
    InvalidValue {
        /// The option.
        option: &'static str,
        /// What it was set to.
        value: String,
    },
    /// The root does not exist, is no directory, or may not be read.
    #[error("cannot open the directory {}", path.display())]
    Root {
        /// The root.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Builder {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            symlinks: Symlinks::default(),
            hidden_files: false,
            index: vec!["index.html".into()],
            listing: false,
            fallback: None,
            not_found_page: None,
            rules: Vec::new(),
            immutable_hashed: true,
            media_types: Vec::new(),
            precompressed: true,
            hot_file_bytes_max: 64 * 1024,
            hot_bytes_max: 32 * 1024 * 1024,
            open_files_max: 256,
            encoder: None,
            encoded_file_bytes_max: 256 * 1024,
            check_interval: Duration::from_secs(1),
            clock: Clock::default(),
        }
    }

    /// Which symbolic links are followed. Default: those that stay within the root.
    pub fn symlinks(mut self, symlinks: Symlinks) -> Self {
        self.symlinks = symlinks;
        self
    }

    /// Whether files and directories whose name begins with a dot are served. Default no, except for
    /// `/.well-known` (RFC 8615).
    pub fn hidden_files(mut self, hidden_files: bool) -> Self {
        self.hidden_files = hidden_files;
        self
    }

    /// Files that answer for their directory, the first that exists. Default `index.html`.
    pub fn index<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.index = names.into_iter().map(Into::into).collect();
        self
    }

    /// Whether a directory without an index file is listed. Default no.
    pub fn listing(mut self, listing: bool) -> Self {
        self.listing = listing;
        self
    }

    /// A file that answers, with status 200, for every path that leads nowhere: what an application that
    /// routes in the browser needs. Default none.
    ///
    /// A path whose extension is that of a known media type other than HTML (`/app.js`) still answers 404:
    /// a page in place of a missing script or image would only hide the mistake.
    pub fn fallback(mut self, path: impl Into<String>) -> Self {
        self.fallback = Some(path.into());
        self
    }

    /// A file that is the content of 404 responses. Default none.
    pub fn not_found_page(mut self, path: impl Into<String>) -> Self {
        self.not_found_page = Some(path.into());
        self
    }

    /// Sets `cache-control` for files whose path or media type matches `pattern`; the first rule that matches
    /// wins. Patterns: `text/css`, `image/*`, `*.pdf` (by name), `assets/**` (by path).
    ///
    /// Without a rule HTML gets `no-cache`, hashed names (see [`immutable_hashed`](Self::immutable_hashed)) a
    /// year, everything else none.
    pub fn cache_control(mut self, pattern: impl Into<String>, value: impl Into<String>) -> Self {
        self.rules.push((pattern.into(), value.into()));
        self
    }

    /// Whether files with a content hash in their name (`app.3f2a9c1b.js`) get
    /// `public, max-age=31536000, immutable`. Default yes.
    pub fn immutable_hashed(mut self, immutable_hashed: bool) -> Self {
        self.immutable_hashed = immutable_hashed;
        self
    }

    /// Sets the `content-type` of an extension (without its dot).
    pub fn media_type(mut self, extension: impl Into<String>, value: impl Into<String>) -> Self {
        self.media_types.push((extension.into(), value.into()));
        self
    }

    /// Whether `name.br`, `name.zst` and `name.gz` beside `name` are sent in its place to clients that accept
    /// the coding. Default yes.
    pub fn precompressed(mut self, precompressed: bool) -> Self {
        self.precompressed = precompressed;
        self
    }

    /// Encodes files that have no precompressed sibling, once for each version of the file, when a client first
    /// asks for it; the result is kept in memory like a small file. Default none: then compression, if any, is
    /// done for each response by whatever stands around this handler.
    ///
    /// The first request for a file and a coding waits for the encoder, on the thread that serves it.
    pub fn encoder(mut self, encoder: Arc<dyn ContentEncoder>) -> Self {
        self.encoder = Some(encoder);
        self
    }

    /// The largest file that [`encoder`](Self::encoder) is given. Default 256 KiB.
    pub fn encoded_file_bytes_max(mut self, bytes: u64) -> Self {
        self.encoded_file_bytes_max = bytes;
        self
    }

    /// The largest file that is kept in memory, and whose entity tag is a hash of its content. Default 64 KiB.
    pub fn hot_file_bytes_max(mut self, bytes: u64) -> Self {
        self.hot_file_bytes_max = bytes;
        self
    }

    /// Memory for files that are kept, in all: their content and about 4 KiB for each. Default 32 MiB; 0 keeps
    /// nothing, and opens for each request.
    pub fn hot_bytes_max(mut self, bytes: usize) -> Self {
        self.hot_bytes_max = bytes;
        self
    }

    /// Larger files that are kept open. Default 256.
    pub fn open_files_max(mut self, count: usize) -> Self {
        self.open_files_max = count;
        self
    }

    /// How long a file that is kept is believed to be unchanged. Default one second.
    pub fn check_interval(mut self, interval: Duration) -> Self {
        self.check_interval = interval;
        self
    }

    /// Measures [`check_interval`](Self::check_interval) with this clock, for tests.
    pub fn clock(mut self, clock: ManualClock) -> Self {
        self.clock = Clock::Manual(clock);
        self
    }

    /// Opens the root.
    ///
    /// # Errors
    /// [`BuildError`] names the option that is wrong.
    pub fn build(self) -> Result<StaticFiles, BuildError> {
        for name in &self.index {
            checked("index", name)?;
        }
        if let Some(name) = &self.fallback {
            checked("fallback", name)?;
        }
        if let Some(name) = &self.not_found_page {
            checked("not_found_page", name)?;
        }
        let now = self.clock.now();
        let root = Root::open(&self.root, self.symlinks, now)
            .map_err(|source| BuildError::Root { path: self.root.clone(), source })?;
        let presentation = self.presentation()?;
        let check_interval = u64::try_from(self.check_interval.as_millis()).unwrap_or(u64::MAX);
        let bounds = Bounds {
            memory_max: self.hot_bytes_max,
            files_max: self.open_files_max,
            check_interval,
        };
        let codings: &[_] = if self.precompressed { &SIBLINGS } else { &[] };
        let options = Options {
            hidden_files: self.hidden_files,
            index: self.index,
            listing: self.listing,
            fallback: self.fallback,
            not_found_page: self.not_found_page,
            siblings: codings,
            check_interval,
        };
        let cache = Cache::new(bounds);
        Ok(StaticFiles::new(Site { root, cache, clock: self.clock, presentation, options }))
    }

    fn presentation(&self) -> Result<Presentation, BuildError> {
        let mut rules = Vec::with_capacity(self.rules.len());
        for (pattern, text) in &self.rules {
            let value = value("cache_control", text)?;
            rules.push(Rule { pattern: Pattern::parse(pattern), value });
        }
        let mut media_types = Vec::with_capacity(self.media_types.len());
        for (extension, text) in &self.media_types {
            let extension = extension.trim_start_matches('.').into();
            media_types.push((extension, value("media_type", text)?));
        }
        Ok(Presentation {
            media_types,
            rules,
            immutable_hashed: self.immutable_hashed,
            hot_file_bytes_max: self.hot_file_bytes_max,
            encoder: self.encoder.clone(),
            encoded_file_bytes_max: self.encoded_file_bytes_max,
        })
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("root", &self.root).finish_non_exhaustive()
    }
}

/// Such a file is ours to name, so it may be hidden, but it must lie beneath the root.
fn checked(option: &'static str, name: &str) -> Result<(), BuildError> {
    let is_file = !name.is_empty() && !name.starts_with('/') && !name.ends_with('/');
    if is_file && path::check(name, true).is_ok() {
        return Ok(());
    }
    Err(BuildError::InvalidName { option, name: name.to_owned() })
}

fn value(option: &'static str, text: &str) -> Result<HeaderValue, BuildError> {
    HeaderValue::try_from(text)
        .map_err(|_| BuildError::InvalidValue { option, value: text.to_owned() })
}

/// Suffixes of precompressed files, the smallest result first.
const SIBLINGS: [(Coding, &str); 3] =
    [(Coding::Brotli, ".br"), (Coding::Zstd, ".zst"), (Coding::Gzip, ".gz")];
