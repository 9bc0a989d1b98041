//! A file as it is served: its representations with their validators and header fields.

use std::{
    fs::{File, Metadata},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use hearth_http_core::{
    AcceptEncoding, Coding, ContentEncoder, FileBody, HeaderValue, Headers, StatusCode, header,
};
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    conditional::Validators,
    media::{self, Overrides},
    multipart::Source,
    policy::{self, Rule},
};

/// What one path answers with: one representation, or one for each content coding.
#[derive(Debug)]
pub(crate) struct Page {
    /// The file's path beneath the root, which may be an index file of the path that was asked for.
    pub(crate) path: Box<str>,
    pub(crate) status: StatusCode,
    /// Best coding first, identity last; never empty.
    pub(crate) variants: Variants,
    /// Codings in which it could be had too, once somebody asks.
    offers: Offers,
    /// When it was last compared with the disk, in the clock's milliseconds.
    pub(crate) checked: AtomicU64,
    /// Set by a hit, cleared by the hand that looks for something to evict.
    pub(crate) used: AtomicBool,
    /// No longer in the store: whoever still holds it must not serve it.
    pub(crate) retired: AtomicBool,
}

pub(crate) type Variants = SmallVec<[Arc<Variant>; 1]>;
type Offers = SmallVec<[Coding; 4]>;

/// What a client gets of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// A variant that has to be made first.
    Offer(Coding),
    /// The variant of this index.
    Variant(usize),
}

/// One representation.
#[derive(Debug)]
pub(crate) struct Variant {
    pub(crate) coding: Coding,
    pub(crate) source: Source,
    pub(crate) len: u64,
    pub(crate) etag: HeaderValue,
    pub(crate) modified: Option<u64>,
    pub(crate) content_type: HeaderValue,
    /// The fields of a response with content.
    pub(crate) headers: Headers,
    /// The fields of a 304 (RFC 9110 §15.4.5).
    pub(crate) headers_unmodified: Headers,
    /// Of the file, or of the file that this was encoded from.
    stamp: Stamp,
    /// Whether it was encoded here rather than read from a file of its own.
    is_derived: bool,
    /// Whether the file was at rest when it was read. If not, it may have changed again without a trace in
    /// its times, so it is read again at the next check.
    settled: bool,
}

/// What tells one version of a file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file that was found for a path, opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) coding: Coding,
    pub(crate) file: File,
    pub(crate) metadata: Metadata,
}

/// What decides how files are presented.
pub(crate) struct Presentation {
    pub(crate) media_types: Overrides,
    pub(crate) rules: Vec<Rule>,
    pub(crate) immutable_hashed: bool,
    /// Files up to this size are kept in memory.
    pub(crate) hot_file_bytes_max: u64,
    /// Makes encoded variants of files that have no precompressed sibling.
    pub(crate) encoder: Option<Arc<dyn ContentEncoder>>,
    /// Files up to this size are encoded.
    pub(crate) encoded_file_bytes_max: u64,
}

impl Page {
    /// Reads or wraps the opened files.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn load(
        path: &str,
        status: StatusCode,
        opened: impl IntoIterator<Item = Opened>,
        presentation: &Presentation,
        now: u64,
    ) -> io::Result<Self> {
        let opened: SmallVec<[Opened; 4]> = opened.into_iter().collect();
        let offers = presentation.offers(path, &opened);
        let negotiated = opened.len() + offers.len() > 1;
        let look = Look::new(path, status, negotiated, presentation);
        let variants = opened
            .into_iter()
            .map(|opened| Variant::load(opened, &look, presentation.hot_file_bytes_max))
            .map(|variant| variant.map(Arc::new))
            .collect::<io::Result<_>>()?;
        Ok(Self::new(path, status, variants, offers, now))
    }

    fn new(
        path: &str,
        status: StatusCode,
        variants: Variants,
        offers: Offers,
        checked: u64,
    ) -> Self {
        Self {
            path: path.into(),
            status,
            variants,
            offers,
            checked: AtomicU64::new(checked),
            used: AtomicBool::new(false),
            retired: AtomicBool::new(false),
        }
    }

    /// The same page with a variant in `coding`, or without the offer of it where encoding gains nothing.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn with_encoded(
        &self,
        coding: Coding,
        presentation: &Presentation,
    ) -> io::Result<Self> {
        let mut variants = self.variants.clone();
        if let (Some(encoder), Some(identity)) = (&presentation.encoder, variants.last()) {
            let look = Look::new(&self.path, self.status, true, presentation);
            if let Some(variant) = identity.encoded(coding, &**encoder, &look)? {
                variants.insert(self.identity(), Arc::new(variant));
            }
        }
        let offers = self.offers.iter().copied().filter(|offer| *offer != coding).collect();
        let checked = self.checked.load(Ordering::Relaxed);
        Ok(Self::new(&self.path, self.status, variants, offers, checked))
    }

    /// Whether these files are still those that the page was made of.
    pub(crate) fn is_current(&self, path: &str, opened: &[Opened]) -> bool {
        *self.path == *path
            && self.stored_as_files().count() == opened.len()
            && self.stored_as_files().zip(opened).all(|(variant, opened)| {
                variant.settled
                    && variant.coding == opened.coding
                    && variant.stamp == Stamp::of(&opened.metadata)
            })
    }

    /// Whether a file of this page was written to in place, so that responses under way were mixed or cut.
    pub(crate) fn was_overwritten(&self, opened: &[Opened]) -> bool {
        self.stored_as_files().zip(opened).any(|(variant, opened)| {
            let now = Stamp::of(&opened.metadata);
            matches!(variant.source, Source::File(_))
                && (now.device, now.inode) == (variant.stamp.device, variant.stamp.inode)
                && (now.modified, now.len) != (variant.stamp.modified, variant.stamp.len)
        })
    }

    /// What the client wants most; of codings that it likes equally, one that is there. Identity is the answer
    /// where it accepts nothing that there is: a response that it may be able to use is better than 406.
    pub(crate) fn choose(&self, accept: AcceptEncoding) -> Choice {
        let (encoded, identity) = self.variants.split_at(self.identity());
        let coding = accept.choose(
            encoded
                .iter()
                .map(|variant| variant.coding)
                .chain(self.offers.iter().copied())
                .chain(identity.iter().map(|variant| variant.coding)),
        );
        let Some(coding) = coding else { return Choice::Variant(self.identity()) };
        match self.variants.iter().position(|variant| variant.coding == coding) {
            Some(index) => Choice::Variant(index),
            None => Choice::Offer(coding),
        }
    }

    /// Whether there is anything to choose between.
    pub(crate) fn is_negotiated(&self) -> bool {
        self.variants.len() > 1 || !self.offers.is_empty()
    }

    fn stored_as_files(&self) -> impl Iterator<Item = &Arc<Variant>> {
        self.variants.iter().filter(|variant| !variant.is_derived)
    }

    pub(crate) fn identity(&self) -> usize {
        self.variants.len().saturating_sub(1)
    }

    /// Bytes of memory it is charged for.
    pub(crate) fn memory(&self) -> usize {
        let of = |variant: &Arc<Variant>| match &variant.source {
            Source::File(_) => PAGE_OVERHEAD,
            Source::Memory(bytes) => PAGE_OVERHEAD + bytes.len(),
        };
        self.variants.iter().map(of).sum()
    }

    /// File descriptors it holds.
    pub(crate) fn files(&self) -> usize {
        self.variants.iter().filter(|variant| matches!(variant.source, Source::File(_))).count()
    }
}

impl Presentation {
    /// The codings that a file without siblings in them could be encoded in.
    fn offers(&self, path: &str, opened: &[Opened]) -> Offers {
        let (Some(encoder), Some(identity)) = (&self.encoder, opened.last()) else {
            return Offers::new();
        };
        if identity.metadata.len() > self.encoded_file_bytes_max {
            return Offers::new();
        }
        let (content_type, _) = media::content_type(path, &self.media_types);
        let codings = encoder.codings(content_type.as_bytes()).iter().copied();
        codings.filter(|coding| opened.iter().all(|known| known.coding != *coding)).collect()
    }
}

impl std::fmt::Debug for Presentation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presentation").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// What the variants of a page have in common.
struct Look {
    status: StatusCode,
    content_type: HeaderValue,
    cache_control: Option<HeaderValue>,
    negotiated: bool,
}

impl Look {
    fn new(path: &str, status: StatusCode, negotiated: bool, shown: &Presentation) -> Self {
        let (content_type, _) = media::content_type(path, &shown.media_types);
        let kind = content_type.as_bytes();
        let cache_control = policy::cache_control(path, kind, &shown.rules, shown.immutable_hashed);
        Self { status, content_type, cache_control, negotiated }
    }
}

impl Variant {
    fn load(opened: Opened, look: &Look, hot_file_bytes_max: u64) -> io::Result<Self> {
        let Opened { coding, file, metadata } = opened;
        let stamp = Stamp::of(&metadata);
        let (source, etag) = if metadata.len() <= hot_file_bytes_max {
            let source = Source::Memory(read(&file, metadata.len())?);
            let etag = source.etag().unwrap_or_default();
            (source, etag)
        } else {
            let len = metadata.len();
            (Source::File(FileBody { file: Arc::new(file), offset: 0, len }), stamp.etag())
        };
        let mut variant = Self::new(coding, source, &etag, stamp, look)?;
        variant.settled &= stamp.len == variant.len;
        Ok(variant)
    }

    /// This representation, encoded.
    fn encoded(
        &self,
        coding: Coding,
        encoder: &dyn ContentEncoder,
        look: &Look,
    ) -> io::Result<Option<Self>> {
        let encoded = match &self.source {
            Source::File(file) => encoder.encode(coding, &read(&file.file, file.len)?),
            Source::Memory(bytes) => encoder.encode(coding, bytes),
        };
        let Some(encoded) = encoded else { return Ok(None) };
        let source = Source::Memory(encoded.into());
        let etag = source.etag().unwrap_or_default();
        let mut variant = Self::new(coding, source, &etag, self.stamp, look)?;
        variant.is_derived = true;
        Ok(Some(variant))
    }

    fn new(
        coding: Coding,
        source: Source,
        etag: &str,
        stamp: Stamp,
        look: &Look,
    ) -> io::Result<Self> {
        let len = match &source {
            Source::File(file) => file.len,
            Source::Memory(bytes) => bytes.len() as u64,
        };
        let mut variant = Self {
            coding,
            source,
            len,
            etag: HeaderValue::try_from(etag).map_err(io::Error::other)?,
            modified: stamp.modified_seconds(),
            content_type: look.content_type.clone(),
            headers: Headers::new(),
            headers_unmodified: Headers::new(),
            stamp,
            is_derived: false,
            settled: stamp.is_settled(),
        };
        variant.describe(look);
        Ok(variant)
    }

    pub(crate) fn validators(&self) -> Validators<'_> {
        Validators { etag: self.etag.as_bytes(), modified: self.modified }
    }

    fn describe(&mut self, look: &Look) {
        let fixed = HeaderValue::from_static;
        self.headers.append(header::CONTENT_TYPE, look.content_type.clone());
        if self.coding != Coding::Identity {
            self.headers.append(header::CONTENT_ENCODING, fixed(self.coding.name()));
        }
        let mut both = |name: header::HeaderName, value: HeaderValue| {
            self.headers.append(name.clone(), value.clone());
            self.headers_unmodified.append(name, value);
        };
        if look.negotiated {
            both(header::VARY, fixed("accept-encoding"));
        }
        if let Some(cache_control) = &look.cache_control {
            both(header::CACHE_CONTROL, cache_control.clone());
        }
        self.headers.append(header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
        // A page that explains an error is no representation of what was asked for.
        if look.status != StatusCode::OK {
            return;
        }
        self.headers.append(header::ETAG, self.etag.clone());
        self.headers_unmodified.append(header::ETAG, self.etag.clone());
        self.headers.append(header::ACCEPT_RANGES, fixed("bytes"));
        let date = self.modified.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        if let Some(Ok(date)) =
            date.map(|date| HeaderValue::try_from(httpdate::fmt_http_date(date)))
        {
            self.headers.append(header::LAST_MODIFIED, date);
        }
    }
}

impl Source {
    /// A tag made of the content, where that is in memory.
    fn etag(&self) -> Option<String> {
        match self {
            Self::File(_) => None,
            Self::Memory(bytes) => Some(format!("\"{:016x}-{:x}\"", xxh3_64(bytes), bytes.len())),
        }
    }
}

impl Stamp {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Elsewhere files have no numbers; a file that is replaced has another time of birth.
    #[cfg(not(unix))]
    fn of(metadata: &Metadata) -> Self {
        let since = |time: io::Result<SystemTime>| {
            let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let since = since.unwrap_or_default();
            (since.as_secs().cast_signed(), i64::from(since.subsec_nanos()))
        };
        let (modified, changed) = (since(metadata.modified()), since(metadata.created()));
        Self { device: 0, inode: 0, len: metadata.len(), modified, changed }
    }

    /// Strong enough: a file that is replaced gets another inode, one that is rewritten another time.
    fn etag(&self) -> String {
        let (seconds, nanos) = self.modified;
        format!("\"{:x}-{seconds:x}.{nanos:x}-{:x}\"", self.len, self.inode)
    }

    /// RFC 9110 §8.8.2.1: never a time in the future.
    fn modified_seconds(&self) -> Option<u64> {
        let seconds = u64::try_from(self.modified.0).ok()?;
        // The year 9999 is the last that the date format knows.
        (seconds <= now_seconds() && seconds < 253_402_300_800).then_some(seconds)
    }

    fn is_settled(&self) -> bool {
        let last = self.modified.0.max(self.changed.0);
        u64::try_from(last).is_ok_and(|last| last.saturating_add(SETTLE_SECONDS) < now_seconds())
    }
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn read_at(file: &File, room: &mut [u8], offset: u64) -> io::Result<usize> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_at(file, room, offset);
    #[cfg(windows)]
    return std::os::windows::fs::FileExt::seek_read(file, room, offset);
}

/// The whole file, whatever its size is by now; `len` is a good guess.
fn read(file: &File, len: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default() + 1];
    let mut filled = 0;
    // One byte more than expected, so that the end is seen without another read.
    loop {
        let Some(space) = bytes.get_mut(filled..).filter(|space| !space.is_empty()) else {
            // It grew while it was read: what is there is a consistent prefix only, try on.
            bytes.resize(bytes.len() * 2, 0);
            continue;
        };
        match read_at(file, space, filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if filled > GROWTH_MAX {
            return Err(io::Error::other("the file grows while it is read"));
        }
    }
    bytes.truncate(filled);
    bytes.shrink_to_fit();
    Ok(bytes.into())
}

/// What one variant costs beside its content, roughly: header fields, encoded heads, keys, in the store and in a lane.
const PAGE_OVERHEAD: usize = 4096;
/// The coarsest time stamps of a file system in use (FAT).
const SETTLE_SECONDS: u64 = 2;
const GROWTH_MAX: usize = 64 * 1024 * 1024;
