//! Putting a transaction into the log.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{Transaction, Write};
use crate::{
    bugs::bug,
    codec::hash_key,
    commit::{Op, ReadSet, Ticket},
    engine::Hold,
    error::{Error, Result},
    follow::Effects,
};

impl Transaction {
    /// Puts the write set into the log. Locks go as soon as the order is fixed: whoever reads the
    /// changes comes later in the same log.
    pub(super) fn submit(&self, is_async: bool) -> Result<Option<Arc<Ticket>>> {
        let core = self.core();
        let mut state = self.shared.state.lock();
        if std::mem::replace(&mut state.finished, true) {
            return Err(Error::Closed);
        }
        let writes = std::mem::take(&mut state.writes);
        let reads = std::mem::take(&mut state.reads);
        let followed = std::mem::take(&mut state.followed);
        let hold = state.hold.take();
        let provisional = state.provisional;
        drop(state);
        // Even without changes of its own it must not outrun what it read: an empty record waits
        // for everything before it.
        let result = if writes.is_empty() && provisional <= core.log.visible() {
            Ok(None)
        } else {
            self.submit_writes(writes, followed, &reads, hold.as_ref(), is_async).map(Some)
        };
        drop(hold);
        if !bug("leak_locks") {
            core.locks.release_all(&self.shared.owner);
        }
        result
    }

    fn submit_writes(
        &self,
        writes: BTreeMap<(u32, Bytes), Write>,
        mut followed: Effects,
        reads: &ReadSet,
        hold: Option<&Hold>,
        is_async: bool,
    ) -> Result<Arc<Ticket>> {
        let core = self.core();
        let patched = writes.iter().filter(|(_, w)| matches!(w, Write::Patch(_)));
        let mut hashes = patched.map(|((ks, key), _)| hash_key(*ks, key));
        // Two writers of different fields meet here; each sees the other's result.
        let _latches = core.latches(&mut hashes);
        let more = followed.ops.len() + followed.stamped.len();
        let mut ops = Vec::with_capacity(writes.len() + more);
        for ((keyspace, key), write) in writes {
            let value = match write {
                Write::Put(value) => Some(value),
                Write::Delete => None,
                Write::Patch(patches) => match core.read_latest(keyspace, &key)? {
                    Some((_, Some(value))) => Some(self.patched(&value, &patches)?),
                    _ => return Err(Error::Conflict),
                },
            };
            ops.push(Op { keyspace, key, value });
        }
        ops.extend(followed.ops);
        let _stamped = core.stamp(&mut followed.stamped);
        ops.extend(followed.stamped);
        let reads = hold.filter(|h| h.serializable).map(|h| (reads, h.seq));
        core.submit_with(&ops, reads, followed.notices, is_async)
    }
}
