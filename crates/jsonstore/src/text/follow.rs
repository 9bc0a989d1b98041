//! A text index follows the documents of its collection.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{
    assemble::Assembly,
    part::PageSink,
    roster::{self, Build, PartEntry, Roster},
    state::{Chain, SnapshotPages, TextState, chains},
};
use crate::{
    bugs::bug,
    commit::Op,
    engine::{Core, Hold},
    error::Result,
    follow::{Change, Effects, Follower, Loader, Sink},
};

/// A bulk load makes a part when it holds this much.
const LOAD_BYTES: usize = 48 << 20;

/// What a commit asks.
#[derive(Debug)]
pub(crate) struct TextFollower(pub(crate) Arc<TextState>);

impl Follower for TextFollower {
    fn follow(&self, change: &Change<'_>, effects: &mut Effects) -> Result<()> {
        let scheme = &self.0.scheme;
        if let (Some(old), Some(new)) = (change.old, change.new)
            && scheme.same(old, new)
        {
            return Ok(());
        }
        let old = change.old.filter(|_| !bug("text_forgets_old"));
        let takes = old.and_then(|old| scheme.terms(old)).unwrap_or_default();
        let adds = change.new.and_then(|new| scheme.terms(new)).unwrap_or_default();
        if takes.is_empty() && adds.is_empty() {
            return Ok(());
        }
        self.0.note_change();
        effects.stamped.push(Op {
            keyspace: self.0.keyspace,
            key: Bytes::from(roster::change_key(0, change.key)),
            value: Some(Bytes::from(roster::change_value(&takes, &adds))),
        });
        Ok(())
    }

    fn concerns(&self, paths: &[&str]) -> bool {
        let touches = |field: &str, path: &str| {
            let (short, long) =
                if field.len() < path.len() { (field, path) } else { (path, field) };
            field == "*"
                || long.strip_prefix(short).is_some_and(|r| r.is_empty() || r.starts_with('.'))
        };
        // A step into an array may be written as a number or not at all.
        let first = |path: &str| path.split('.').next().unwrap_or_default().to_owned();
        self.0.scheme.settings.fields.iter().any(|field| {
            paths.iter().any(|path| touches(&field.path, path) || first(&field.path) == first(path))
        })
    }

    fn loader(self: Arc<Self>, core: &Arc<Core>) -> Result<Option<Box<dyn Loader>>> {
        Ok(Some(Box::new(TextLoader::new(core, &self.0)?)))
    }
}

/// Follows a bulk load: its documents become parts at once. Nobody else writes meanwhile, and the
/// keeper of the index waits.
#[derive(Debug)]
struct TextLoader {
    state: Arc<TextState>,
    hold: Hold,
    roster: Roster,
    /// Parts that were there before.
    known: usize,
    /// Changes that are not in a part yet.
    waiting: BTreeMap<Bytes, Chain>,
    assembly: Assembly,
}

impl TextLoader {
    fn new(core: &Arc<Core>, state: &Arc<TextState>) -> Result<Self> {
        // Whatever was submitted before counts, visible or not: nobody else writes now.
        let hold = Hold::new(core, false, core.log.last_seq());
        let roster = state.roster(core, hold.seq)?;
        let mut assembly = Assembly::new(state);
        let mut changes = state.changes(core, hold.seq, roster.changes_from)?;
        // Where the first build has not come yet, it will read the document itself.
        changes.retain(|change| is_built(&roster, &change.id));
        assembly.consume(&changes);
        let known = roster.parts.len();
        let waiting = chains(&changes);
        Ok(Self { state: Arc::clone(state), hold, roster, known, waiting, assembly })
    }

    fn write_part(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        let number = self.roster.next_part;
        let mut pages = LoadSink { keyspace: self.state.keyspace, part: number, sink };
        let docs = self.assembly.write(&mut pages)?;
        self.roster.next_part += 1;
        self.roster.parts.push(PartEntry { number, docs, dead: 0 });
        Ok(())
    }
}

impl Loader for TextLoader {
    fn add(&mut self, change: &Change<'_>, effects: &mut Effects) -> Result<()> {
        if !is_built(&self.roster, change.key) {
            return Ok(());
        }
        let takes = match self.waiting.remove(change.key) {
            Some(chain) => chain.takes,
            None => Bytes::from(
                change.old.and_then(|old| self.state.scheme.terms(old)).unwrap_or_default(),
            ),
        };
        self.assembly.apply(change.key, &Chain { takes, adds: Bytes::new() })?;
        if let Some(new) = change.new {
            self.assembly.add_document(change.key, new);
        }
        if self.assembly.bytes() >= LOAD_BYTES {
            self.write_part(&mut |keyspace, key, value| {
                effects.ops.push(Op {
                    keyspace,
                    key: Bytes::copy_from_slice(key),
                    value: value.map(Bytes::copy_from_slice),
                });
                Ok(())
            })?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, sink: &mut Sink<'_>) -> Result<()> {
        for (id, chain) in std::mem::take(&mut self.waiting) {
            self.assembly.apply(&id, &chain)?;
        }
        if !self.assembly.is_empty() {
            self.write_part(sink)?;
        }
        let Self { state, hold, mut roster, known, assembly, .. } = *self;
        let pages = SnapshotPages {
            core: &hold.core,
            keyspace: state.keyspace,
            snapshot: hold.seq,
            cache: None,
        };
        for op in assembly.finish(&pages, &mut roster, known)? {
            sink(op.keyspace, &op.key, op.value.as_deref())?;
        }
        sink(state.keyspace, &roster::roster_key(), Some(&roster.encode()))?;
        state.pending.store(0, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
}

fn is_built(roster: &Roster, id: &[u8]) -> bool {
    match &roster.build {
        Build::Done => true,
        Build::Upto(upto) => !upto.is_empty() && id <= &upto[..],
    }
}

/// Pages that go into a load.
struct LoadSink<'a, 'b> {
    keyspace: u32,
    part: u64,
    sink: &'a mut Sink<'b>,
}

impl PageSink for LoadSink<'_, '_> {
    fn put(&mut self, section: u8, page: u32, bytes: &[u8]) -> Result<()> {
        let key = roster::page_key(self.part, section, page);
        (self.sink)(self.keyspace, &key, Some(bytes))
    }
}
