//! One text index of a collection: what is shared by those who change, keep and search it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    pages::{Pages, Section},
    part::{Header, PartReader},
    roster::{self, FieldTotals, PartEntry, Roster},
    terms::{Scheme, Terms},
};
use crate::{cache::Clock, codec::StableBuilder, engine::Core, error::Result};

/// Headers kept in memory; a part that was merged away ages out.
const HEADERS_MAX: usize = 256;

/// A text index; one for each keyspace, however often the collection's settings are read.
#[derive(Debug)]
pub(crate) struct TextState {
    pub(crate) scheme: Scheme,
    /// The keyspace of the index.
    pub(crate) keyspace: u32,
    /// The keyspace of the documents.
    pub(crate) documents: u32,
    /// Changes since the last fold, about.
    pub(crate) pending: AtomicU64,
    /// Held by whoever folds, merges or builds.
    pub(crate) upkeep: Mutex<super::upkeep::Progress>,
    headers: Mutex<HashMap<u64, Arc<Header>>>,
    pub(crate) cache: PageCache,
    /// The view of the newest snapshot somebody searched.
    view: Mutex<Option<(u64, Arc<View>)>>,
}

impl TextState {
    pub(crate) fn new(scheme: Scheme, keyspace: u32, documents: u32, cache_bytes: usize) -> Self {
        Self {
            scheme,
            keyspace,
            documents,
            pending: AtomicU64::new(0),
            upkeep: Mutex::default(),
            headers: Mutex::default(),
            cache: PageCache::new(cache_bytes),
            view: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.scheme.settings.name
    }

    /// The index as a registered snapshot sees it.
    pub(crate) fn view(&self, core: &Core, snapshot: u64) -> Result<Arc<View>> {
        if let Some((at, view)) = &*self.view.lock()
            && *at == snapshot
        {
            return Ok(Arc::clone(view));
        }
        let view = Arc::new(self.read_view(core, snapshot)?);
        let mut kept = self.view.lock();
        if kept.as_ref().is_none_or(|(at, _)| *at < snapshot) {
            *kept = Some((snapshot, Arc::clone(&view)));
        }
        Ok(view)
    }

    fn read_view(&self, core: &Core, snapshot: u64) -> Result<View> {
        let roster = self.roster(core, snapshot)?;
        let pages = SnapshotPages { core, keyspace: self.keyspace, snapshot, cache: None };
        let headers = roster
            .parts
            .iter()
            .map(|part| self.header(&pages, part.number))
            .collect::<Result<_>>()?;
        let changes = self.changes(core, snapshot, roster.changes_from)?;
        View::new(roster, headers, &changes)
    }

    /// The roster of a registered snapshot.
    pub(crate) fn roster(&self, core: &Core, snapshot: u64) -> Result<Roster> {
        let found = core.read_at(self.keyspace, &roster::roster_key(), snapshot)?;
        match found.and_then(|(_, value)| value) {
            None => Ok(Roster::new(self.scheme.fields())),
            Some(value) => Roster::decode(&value)
                .filter(|r| r.fields.len() == self.scheme.fields())
                .ok_or_else(|| super::damaged("roster")),
        }
    }

    /// The changes that are not folded yet, in the order in which each document changed.
    pub(crate) fn changes(
        &self,
        core: &Core,
        snapshot: u64,
        changes_from: u64,
    ) -> Result<Vec<Changed>> {
        let mut all = Vec::new();
        let mut iter =
            core.iter(self.keyspace, &roster::change_key(changes_from, &[]), snapshot)?;
        while let Some(entry) = iter.next_visible()? {
            let split = roster::split_change(&entry.key);
            let (number, id) = split.ok_or_else(|| super::damaged("change"))?;
            let value = entry.value.unwrap_or_default();
            let (takes, adds) =
                roster::split_value(&value).ok_or_else(|| super::damaged("change"))?;
            all.push(Changed { number, id, takes, adds });
        }
        Ok(all)
    }

    pub(crate) fn header(&self, pages: &dyn Pages, part: u64) -> Result<Arc<Header>> {
        if let Some(header) = self.headers.lock().get(&part) {
            return Ok(Arc::clone(header));
        }
        let page = pages.page(part, Section::Header as u8, 0)?;
        let header = Header::decode(&page).ok_or_else(|| super::damaged("header"))?;
        let header = Arc::new(header);
        let mut headers = self.headers.lock();
        if headers.len() >= HEADERS_MAX {
            headers.clear();
        }
        headers.insert(part, Arc::clone(&header));
        Ok(header)
    }

    pub(crate) fn note_change(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }
}

/// One change of a document that is not in a part yet.
#[derive(Debug, Clone)]
pub(crate) struct Changed {
    pub(crate) number: u64,
    pub(crate) id: Bytes,
    /// Encoded terms; empty for none.
    pub(crate) takes: Bytes,
    pub(crate) adds: Bytes,
}

impl Changed {
    pub(crate) fn key(&self) -> Bytes {
        Bytes::from(roster::change_key(self.number, &self.id))
    }
}

/// All changes of one document as one: what the parts hold of it, and what it is now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chain {
    pub(crate) takes: Bytes,
    pub(crate) adds: Bytes,
}

/// The changes of each document, joined.
pub(crate) fn chains(changes: &[Changed]) -> BTreeMap<Bytes, Chain> {
    let mut chains: BTreeMap<Bytes, Chain> = BTreeMap::new();
    for change in changes {
        chains
            .entry(change.id.clone())
            .or_insert_with(|| Chain { takes: change.takes.clone(), adds: Bytes::new() })
            .adds
            .clone_from(&change.adds);
    }
    chains
}

pub(crate) fn read_terms(bytes: &Bytes) -> Result<Option<Terms<'_>>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    Terms::read(bytes).map(Some).ok_or_else(|| super::damaged("change"))
}

/// The index at one snapshot.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) roster: Roster,
    pub(crate) headers: Vec<Arc<Header>>,
    /// Documents whose place in the parts no longer counts.
    pub(crate) shadow: HashSet<Bytes, StableBuilder>,
    /// What changed documents are now, by id.
    pub(crate) fresh: Vec<(Bytes, Bytes)>,
    /// What the parts hold of changed documents.
    pub(crate) taken: Vec<Bytes>,
    /// Of the whole index.
    pub(crate) fields: Vec<FieldTotals>,
}

impl View {
    fn new(roster: Roster, headers: Vec<Arc<Header>>, changes: &[Changed]) -> Result<Self> {
        let mut view = Self {
            fields: roster.fields.clone(),
            roster,
            headers,
            shadow: HashSet::default(),
            fresh: Vec::new(),
            taken: Vec::new(),
        };
        for (id, chain) in chains(changes) {
            add_totals(&mut view.fields, &chain.takes, -1)?;
            add_totals(&mut view.fields, &chain.adds, 1)?;
            if !chain.takes.is_empty() {
                view.shadow.insert(id.clone());
                view.taken.push(chain.takes);
            }
            if !chain.adds.is_empty() {
                view.fresh.push((id, chain.adds));
            }
        }
        Ok(view)
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = (&PartEntry, &Arc<Header>)> {
        self.roster.parts.iter().zip(&self.headers)
    }
}

/// Adds a document to totals, or takes it away.
pub(crate) fn add_totals(fields: &mut [FieldTotals], terms: &Bytes, sign: i64) -> Result<()> {
    let Some(terms) = read_terms(terms)? else { return Ok(()) };
    for (field, length) in fields.iter_mut().zip(terms.lengths()) {
        field.docs += sign * i64::from(length > 0);
        field.terms += sign * i64::from(length);
    }
    Ok(())
}

/// Pages of parts as they are read: the store keeps values compressed. A page never changes, and the
/// number of a part is never given twice, so what is here is true for every snapshot that names it.
pub(crate) struct PageCache {
    pages: Mutex<Clock<PageId, Bytes>>,
    bytes_max: usize,
}

/// Part, section, page.
type PageId = (u64, u8, u32);

impl std::fmt::Debug for PageCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageCache").field("bytes_max", &self.bytes_max).finish_non_exhaustive()
    }
}

impl PageCache {
    fn new(bytes_max: usize) -> Self {
        let counters = (bytes_max / 4096).next_power_of_two().clamp(64, 1 << 16);
        Self { pages: Mutex::new(Clock::new(Some(counters))), bytes_max }
    }

    fn hash((part, section, page): PageId) -> u64 {
        let mixed = part.rotate_left(40) ^ u64::from(section) << 32 ^ u64::from(page);
        let mixed = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ mixed >> 32
    }

    fn get(&self, id: PageId) -> Option<Bytes> {
        self.pages.lock().get(Self::hash(id), |key| *key == id).cloned()
    }

    fn insert(&self, id: PageId, page: &Bytes) {
        let weight = page.len() + 96;
        self.pages.lock().insert(Self::hash(id), weight, self.bytes_max, || (id, page.clone()));
    }
}

/// Pages as a registered snapshot sees them.
pub(crate) struct SnapshotPages<'a> {
    pub(crate) core: &'a Core,
    pub(crate) keyspace: u32,
    pub(crate) snapshot: u64,
    /// For searches; who reads everything once goes without.
    pub(crate) cache: Option<&'a PageCache>,
}

impl Pages for SnapshotPages<'_> {
    fn page(&self, part: u64, section: u8, page: u32) -> Result<Bytes> {
        let id = (part, section, page);
        if let Some(page) = self.cache.and_then(|cache| cache.get(id)) {
            return Ok(page);
        }
        let key = roster::page_key(part, section, page);
        let found = self.core.read_at(self.keyspace, &key, self.snapshot)?;
        let bytes = found.and_then(|(_, value)| value);
        let bytes = bytes.ok_or_else(|| super::damaged("missing page"))?;
        if let Some(cache) = self.cache {
            cache.insert(id, &bytes);
        }
        Ok(bytes)
    }
}

impl SnapshotPages<'_> {
    pub(crate) fn part<'a>(&'a self, header: &'a Header, part: u64) -> PartReader<'a> {
        PartReader { header, pages: self, part }
    }

    /// A page of the bitmap of a part's dead; empty if none there is dead.
    pub(crate) fn dead_page(&self, part: u64, page: u32) -> Result<Bytes> {
        let key = roster::dead_key(part, page);
        let found = self.core.read_at(self.keyspace, &key, self.snapshot)?;
        Ok(found.and_then(|(_, value)| value).unwrap_or_default())
    }
}

/// Which documents of a part are dead.
pub(crate) struct Dead<'a> {
    pages: &'a SnapshotPages<'a>,
    part: u64,
    any: bool,
    page: (u32, Bytes),
}

impl<'a> Dead<'a> {
    pub(crate) fn new(pages: &'a SnapshotPages<'a>, part: &PartEntry) -> Self {
        Self { pages, part: part.number, any: part.dead > 0, page: (u32::MAX, Bytes::new()) }
    }

    #[inline]
    pub(crate) fn contains(&mut self, doc: u32) -> Result<bool> {
        if !self.any {
            return Ok(false);
        }
        let page = doc / roster::DEAD_PAGE_DOCS;
        if self.page.0 != page {
            self.page = (page, self.pages.dead_page(self.part, page)?);
        }
        let bit = doc % roster::DEAD_PAGE_DOCS;
        let byte = self.page.1.get(bit as usize / 8).copied().unwrap_or(0);
        Ok(byte >> (bit % 8) & 1 == 1)
    }
}
