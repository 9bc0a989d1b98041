//! One index of a collection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use super::{
    Collation, Direction, Index, IndexKind,
    entry::{Encoding, Entries, Shape},
    load::IndexLoader,
};
use crate::{
    bugs::bug,
    commit::Op,
    engine::Core,
    error::{Error, Result, Unindexable},
    follow::{Change, Claim, Effects, Follower, Loader, Mark},
    key::Id,
    query::{Filter, Path},
};

/// A field of an index.
#[derive(Debug)]
pub(crate) struct IndexField {
    pub(crate) path: Path,
    pub(crate) descending: bool,
}

/// An index as the planner and the writers see it. It never changes but for `flags`; another state
/// of it is another value.
///
/// Readers take their snapshot first and look at the indexes then: what is in a snapshot, the flags
/// have said before.
#[derive(Debug)]
pub(crate) struct BTreeIndex {
    /// Where its entries lie.
    pub(crate) keyspace: u32,
    pub(crate) definition: Index,
    pub(crate) state: BuildState,
    fields: Vec<IndexField>,
    shape: Arc<Shape>,
    partial: Option<Filter>,
    /// Where it is kept that an index has met arrays.
    marks: u32,
    flags: Arc<Flags>,
}

/// How far an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BuildState {
    /// Writers keep it up, but older documents may be missing.
    Building,
    /// Complete in this snapshot and every later one.
    Ready { since: u64 },
}

/// What was learnt about the documents of an index; lives as long as its keyspace.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    /// Fields, as bits, on which an array was met by a change that may be visible.
    pub(crate) multikey: AtomicU32,
    /// Those of them of which a mark is durable.
    marked: AtomicU32,
    /// Queries that read it, since the store was opened.
    uses: AtomicU64,
    /// Since when they are counted, on the monotonic clock.
    known_since: Duration,
}

/// The mark of an automatic index that could not take a document. No field of one has this number.
const INCOMPLETE: usize = 31;

impl Flags {
    pub(crate) fn new(known_since: Duration) -> Self {
        Self { known_since, ..Self::default() }
    }

    pub(crate) fn note_marked(&self, fields: u32) {
        self.multikey.fetch_or(fields, Ordering::SeqCst);
        self.marked.fetch_or(fields, Ordering::SeqCst);
    }
}

impl BTreeIndex {
    /// # Errors
    /// `InvalidIndex`, `InvalidFilter`.
    pub(crate) fn new(
        definition: Index,
        keyspace: u32,
        marks: u32,
        state: BuildState,
        flags: Arc<Flags>,
    ) -> Result<Self> {
        let checked = definition.check()?;
        let mut paths = checked.paths.into_iter();
        let hash = definition.kind == IndexKind::Hash;
        let (mut fields, mut encoded) = (Vec::new(), Vec::new());
        for ((_, direction), path) in definition.fields.iter().zip(paths.by_ref()) {
            let descending = *direction == Direction::Descending;
            let encoding = Encoding { descending, hash, collation: definition.collation };
            encoded.push((path.clone(), encoding));
            fields.push(IndexField { path, descending });
        }
        let shape = Arc::new(Shape {
            name: checked.name,
            fields: encoded,
            include: paths.collect(),
            sparse: definition.sparse,
        });
        let partial = checked.partial;
        Ok(Self { keyspace, definition, state, fields, shape, partial, marks, flags })
    }

    /// The same index in another state, or with another time after which documents expire.
    pub(crate) fn with(&self, definition: Index, state: BuildState) -> Result<Self> {
        Self::new(definition, self.keyspace, self.marks, state, Arc::clone(&self.flags))
    }

    pub(crate) fn name(&self) -> &str {
        &self.shape.name
    }

    pub(crate) fn fields(&self) -> &[IndexField] {
        &self.fields
    }

    /// Kept beside the key.
    pub(crate) fn include(&self) -> &[Path] {
        &self.shape.include
    }

    /// Whether it is complete for new snapshots.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, BuildState::Ready { .. })
    }

    /// Whether it is complete in a snapshot: one that is older than the index may not use it.
    pub(crate) fn is_ready_at(&self, snapshot: u64) -> bool {
        matches!(self.state, BuildState::Ready { since } if since <= snapshot)
            && !self.is_incomplete()
    }

    /// The store made it by itself.
    pub(crate) fn is_automatic(&self) -> bool {
        self.definition.automatic
    }

    /// It is automatic and could not take a document: no query uses it any more.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.definition.automatic
            && self.flags.multikey.load(Ordering::SeqCst) >> INCOMPLETE & 1 != 0
    }

    /// A query reads it. Of two that do so at once one may not count: an exact count would be
    /// what threads contend for.
    pub(crate) fn note_use(&self) {
        let uses = &self.flags.uses;
        uses.store(uses.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// About how many queries read it since `known_since`.
    pub(crate) fn uses(&self) -> u64 {
        self.flags.uses.load(Ordering::Relaxed)
    }

    /// On the monotonic clock: when the store was opened, or the index made.
    pub(crate) fn known_since(&self) -> Duration {
        self.flags.known_since
    }

    /// Whether a document may have several entries.
    pub(crate) fn is_multikey(&self) -> bool {
        self.flags.multikey.load(Ordering::SeqCst) != 0
    }

    /// Documents that have none of the fields are not in it.
    pub(crate) fn is_sparse(&self) -> bool {
        self.definition.sparse
    }

    pub(crate) fn is_unique(&self) -> bool {
        self.definition.unique
    }

    /// Keys are hashes: of use for equality only, and what is found must be compared.
    pub(crate) fn is_hash(&self) -> bool {
        self.definition.kind == IndexKind::Hash
    }

    /// With another collation than binary, an equal value has an equal key but not the other way
    /// round, and the order is another.
    pub(crate) fn collation(&self) -> Collation {
        self.definition.collation
    }

    /// Documents that do not match it are not in the index.
    pub(crate) fn partial(&self) -> Option<&Filter> {
        self.partial.as_ref()
    }

    /// Appends a value (missing is null) as the part of a key that the field is: equal values have
    /// equal bytes, and the bytes sort in the direction of the field. `None` if it is not JB1.
    pub(crate) fn encode_value(
        &self,
        field: usize,
        value: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        self.shape.fields.get(field)?.1.encode(value, out)
    }

    /// The key of the document that an entry belongs to.
    pub(crate) fn id_of(&self, entry: &Bytes) -> Result<Bytes> {
        self.id_in(entry).map(|id| entry.slice_ref(id))
    }

    /// As `id_of`, of an entry that is not shared.
    pub(crate) fn id_in<'a>(&self, entry: &'a [u8]) -> Result<&'a [u8]> {
        let id = self.shape.id_at(entry).and_then(|at| entry.get(at..));
        id.ok_or_else(|| self.damaged(entry))
    }

    /// How many bytes of the key are the values: entries with the same ones have them in common.
    pub(crate) fn values_of(&self, entry: &Bytes) -> Result<Bytes> {
        let at = self.shape.id_at(entry).ok_or_else(|| self.damaged(entry))?;
        Ok(entry.slice(..at))
    }

    /// The value of the first field as JB1, as far as an entry tells it.
    pub(crate) fn first_value(&self, entry: &[u8]) -> Option<Vec<u8>> {
        self.shape.first_value(entry)
    }

    /// The values of a key as JSON text, for people.
    pub(crate) fn describe(&self, values: &[u8]) -> String {
        self.shape.describe(values)
    }

    /// A JB1 object with `_id`, the fields and what is included, exactly as the document has them.
    /// `None` if the entry cannot tell, for example because of an array: read the document then.
    pub(crate) fn covered(&self, key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        self.shape.covered(key, value)
    }

    /// The entries that a document must have.
    pub(crate) fn entries(&self, key: &Bytes, document: &[u8]) -> Result<Entries> {
        if self.partial.as_ref().is_some_and(|filter| !filter.matches(document)) {
            return Ok(Entries::default());
        }
        let unindexable = |reason| self.unindexable(key, reason);
        self.shape.entries(key, document).map_err(unindexable)
    }

    /// The entries of a document as it becomes and as it was. An automatic index refuses no document:
    /// one that it cannot take ends its use, in the record of that document.
    pub(super) fn entries_of_change(
        &self,
        change: &Change<'_>,
        effects: &mut Effects,
    ) -> Result<(Entries, Entries)> {
        let of = |image: Option<&[u8]>| {
            image.map_or_else(|| Ok(Entries::default()), |image| self.entries(change.key, image))
        };
        let new = match of(change.new) {
            Err(Error::Unindexable { .. }) if self.definition.automatic => {
                self.note_multikey(INCOMPLETE, effects);
                Entries::default()
            }
            new => new?,
        };
        // What is stored could be indexed when it came, or the index would be of no use.
        Ok((new, of(change.old).unwrap_or_default()))
    }

    /// Keys of the marks that say that arrays were met.
    pub(crate) fn mark_key(&self, field: u8) -> Bytes {
        let mut key = self.keyspace.to_be_bytes().to_vec();
        key.push(field);
        Bytes::from(key)
    }

    /// Notes that an array was met, in memory at once and with `effects` durably.
    pub(super) fn note_multikey(&self, field: usize, effects: &mut Effects) {
        let bit = 1 << field;
        self.flags.multikey.fetch_or(bit, Ordering::SeqCst);
        if self.flags.marked.load(Ordering::SeqCst) & bit != 0 {
            return;
        }
        let key = self.mark_key(field as u8);
        let value = Some(Bytes::new());
        effects.ops.push(Op { keyspace: self.marks, key, value });
        effects.marks.push(Mark { flags: Arc::clone(&self.flags), fields: bit });
    }

    fn unindexable(&self, key: &Bytes, reason: Unindexable) -> Error {
        let id = Id(key.to_vec()).to_json();
        Error::Unindexable { index: self.name().to_owned(), id, reason }
    }

    pub(crate) fn damaged(&self, entry: &[u8]) -> Error {
        let detail = format!("an entry is malformed: {entry:02x?}");
        Error::corrupt(format!("index {}", self.name()), 0, detail)
    }

    /// What must come after a claim of these values.
    pub(super) fn claim(&self, values: Bytes, key: &Bytes) -> Claim {
        Claim {
            keyspace: self.keyspace,
            prefix: values,
            key: key.clone(),
            shape: Arc::clone(&self.shape),
        }
    }
}

impl Follower for BTreeIndex {
    fn follow(&self, change: &Change<'_>, effects: &mut Effects) -> Result<()> {
        let (mut new, old) = self.entries_of_change(change, effects)?;
        if bug("partial_by_old_image") && self.partial.is_some() && old.pairs.is_empty() {
            new = Entries::default();
        }
        if old == new {
            return Ok(());
        }
        if let Some(field) = new.multikey {
            self.note_multikey(field, effects);
        }
        let (mut old_pairs, mut new_pairs) = (old.pairs.iter(), new.pairs.iter());
        let (mut before, mut after) = (old_pairs.next(), new_pairs.next());
        let keyspace = self.keyspace;
        loop {
            match (before, after) {
                (None, None) => return Ok(()),
                (Some(a), Some(b)) if a.0 == b.0 => {
                    if a.1 != b.1 {
                        let value = Some(b.1.clone());
                        effects.ops.push(Op { keyspace, key: b.0.clone(), value });
                    }
                    (before, after) = (old_pairs.next(), new_pairs.next());
                }
                (Some(a), b) if b.is_none_or(|b| a.0 < b.0) => {
                    if !bug("forget_index_delete") {
                        effects.ops.push(Op { keyspace, key: a.0.clone(), value: None });
                    }
                    before = old_pairs.next();
                }
                (_, Some(b)) => {
                    if self.definition.unique && !bug("skip_unique_check") {
                        effects.claims.push(self.claim(self.values_of(&b.0)?, &b.0));
                    }
                    effects.ops.push(Op { keyspace, key: b.0.clone(), value: Some(b.1.clone()) });
                    after = new_pairs.next();
                }
                (Some(_), None) => before = old_pairs.next(),
            }
        }
    }

    fn loader(self: Arc<Self>, core: &Arc<Core>) -> Result<Option<Box<dyn Loader>>> {
        Ok(Some(Box::new(IndexLoader::new(core, self)?)))
    }

    fn concerns(&self, paths: &[&str]) -> bool {
        let own = self.shape.fields.iter().map(|(path, _)| path).chain(&self.shape.include);
        let mut own: Vec<&str> = own.map(Path::as_str).collect();
        if let Some(partial) = &self.partial
            && !partial.each_path(&mut |path| own.push(path.as_str()))
        {
            return true;
        }
        paths.iter().any(|path| own.iter().any(|own| overlap(path, own)))
    }
}

/// Whether one path may lie in the other. Positions in arrays do not count: `a.0.b` is part of what
/// `a.b` reaches. The empty path is the whole document.
fn overlap(a: &str, b: &str) -> bool {
    let is_position = |step: &&str| {
        step.starts_with('$') || !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit())
    };
    let mut a = a.split('.').filter(|step| !is_position(step));
    let mut b = b.split('.').filter(|step| !is_position(step));
    loop {
        match (a.next(), b.next()) {
            (Some(a), Some(b)) if a == b => {}
            (Some("") | None, _) | (_, Some("") | None) => return true,
            _ => return false,
        }
    }
}
