//! Proving that what is stored is what was written.

use super::{CATALOGUE, Core, Hold, KeyspaceKind};
use crate::{
    error::{Error, Result},
    jb1, key,
};
use std::sync::Arc;

/// What `Store::verify` looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Segments read in whole.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Versions in them.
    pub versions: u64,
    /// Documents that exist now.
    pub documents: u64,
    /// Entries of indexes, all in agreement with the documents.
    pub index_entries: u64,
    /// Text indexes compared with their documents, both ways.
    pub text_indexes: u64,
}

impl Core {
    /// Reads every block of every segment, then every document as a reader sees it.
    pub(crate) fn verify(
        self: &Arc<Self>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<VerifyReport> {
        self.check_open()?;
        let mut report = VerifyReport::default();
        let levels = Arc::clone(&self.tree().levels);
        let total = levels.all().map(|(_, s)| s.info.bytes).sum();
        for (level, segment) in levels.all() {
            let mut last: Option<(bytes::Bytes, u64)> = None;
            report.bytes += segment.verify(&mut |entry| {
                report.versions += 1;
                let in_order = last.as_ref().is_none_or(|(key, seq)| {
                    *key < entry.key || (*key == entry.key && *seq > entry.seq)
                });
                if !in_order {
                    let name = format!("seg/{:08x}.seg", segment.info.number);
                    return Err(Error::corrupt(name, 0, "entries are out of order"));
                }
                last = Some((entry.key, entry.seq));
                Ok(())
            })?;
            report.segments += 1;
            progress(report.bytes, total);
            let _ = level;
        }
        for (name, number, kind) in self.keyspaces() {
            if kind == KeyspaceKind::Documents && number != CATALOGUE {
                report.documents += self.verify_documents(&name, number)?;
                report.index_entries += self.verify_indexes(number)?;
            }
        }
        let hold = Hold::new(self, false, 0);
        for state in self.text.all() {
            state.verify(self, hold.seq)?;
            report.text_indexes += 1;
        }
        Ok(report)
    }

    fn verify_documents(self: &Arc<Self>, name: &str, keyspace: u32) -> Result<u64> {
        let hold = Hold::new(self, false, 0);
        let mut iter = self.iter(keyspace, &[], hold.seq)?;
        let mut count = 0;
        while let Some(entry) = iter.next_visible()? {
            let value = entry.value.unwrap_or_default();
            let bad = |what: &str| {
                let id = key::Id(entry.key.to_vec()).to_json();
                Error::corrupt(format!("collection {name}"), 0, format!("document {id} {what}"))
            };
            let mut json = Vec::new();
            jb1::print(&value, &mut json).map_err(|_| bad("is malformed"))?;
            let id = jb1::get(&value, b"_id").ok_or_else(|| bad("has no _id"))?;
            if key::Id::from_jb1(id)?.0 != entry.key {
                return Err(bad("lies under another id"));
            }
            count += 1;
        }
        Ok(count)
    }
}
