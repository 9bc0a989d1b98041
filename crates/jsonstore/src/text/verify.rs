//! Proving that an index is what the documents say.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    api::TextStats,
    list::{NONE, Postings},
    state::{Dead, SnapshotPages, TextState, View, read_terms},
    terms::Terms,
};
use crate::{
    engine::Core,
    error::{Error, Result},
};

/// Postings of one document: term, count, positions.
type Content = BTreeMap<Vec<u8>, (u32, Vec<u32>)>;

impl TextState {
    pub(crate) fn stats(&self, core: &Core, seq: u64) -> Result<TextStats> {
        let view = self.view(core, seq)?;
        let mut stats = TextStats {
            is_ready: view.roster.is_ready(),
            parts: view.roster.parts.len() as u64,
            ..TextStats::default()
        };
        for part in &view.roster.parts {
            stats.documents += u64::from(part.docs);
            stats.dead += u64::from(part.dead);
        }
        let mut iter = core.iter(self.keyspace, &[], seq)?;
        while let Some(entry) = iter.next_visible()? {
            stats.changes += u64::from(entry.key.first() == Some(&super::roster::CHANGE));
            stats.bytes += (entry.key.len() + entry.value.unwrap_or_default().len()) as u64;
        }
        Ok(stats)
    }

    /// Compares documents and postings both ways, and every counter with what it counts.
    pub(crate) fn verify(&self, core: &Core, seq: u64) -> Result<()> {
        let view = self.view(core, seq)?;
        if !view.roster.is_ready() {
            return Ok(());
        }
        let pages = SnapshotPages { core, keyspace: self.keyspace, snapshot: seq, cache: None };
        let mut indexed: BTreeMap<Bytes, Content> = BTreeMap::new();
        let mut net: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        self.read_parts(&view, &pages, &mut indexed, &mut net)?;
        self.read_changes(&view, &mut indexed, &mut net)?;
        let mut counted: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        for content in indexed.values() {
            for term in content.keys() {
                *counted.entry(term.clone()).or_default() += 1;
            }
        }
        net.retain(|_, count| *count != 0);
        if counted != net {
            let differs = counted.iter().find(|(term, n)| net.get(*term) != Some(n));
            let term = differs
                .map(|(term, _)| term.clone())
                .or_else(|| net.keys().find(|term| !counted.contains_key(*term)).cloned());
            let term = String::from_utf8_lossy(&term.unwrap_or_default()).into_owned();
            return Err(self.wrong(&format!("how many documents contain {term:?}")));
        }
        self.compare(core, seq, &view, indexed)
    }

    /// What the parts hold that is neither dead nor changed since.
    fn read_parts(
        &self,
        view: &View,
        pages: &SnapshotPages<'_>,
        indexed: &mut BTreeMap<Bytes, Content>,
        net: &mut BTreeMap<Vec<u8>, i64>,
    ) -> Result<()> {
        for (entry, header) in view.parts() {
            let reader = pages.part(header, entry.number);
            if header.docs != entry.docs {
                return Err(self.wrong(&format!("documents of part {}", entry.number)));
            }
            let mut dead = Dead::new(pages, entry);
            let mut ids = reader.ids();
            let (mut names, mut dead_count) = (Vec::new(), 0);
            for doc in 0..header.docs {
                let id = Bytes::copy_from_slice(ids.get(doc)?);
                let is_dead = dead.contains(doc)?;
                dead_count += u32::from(is_dead);
                let counts = !is_dead && !view.shadow.contains(&id);
                if counts && indexed.insert(id.clone(), Content::new()).is_some() {
                    return Err(self.wrong(&format!("{} is in two parts", name(&id))));
                }
                names.push(counts.then_some(id));
            }
            if dead_count != entry.dead {
                return Err(self.wrong(&format!("the dead of part {}", entry.number)));
            }
            reader.scan(&[], &mut |term, info| {
                *net.entry(term.to_vec()).or_default() +=
                    i64::from(info.extent.df) + info.adjustment;
                if info.extent.df == 0 {
                    return Ok(true);
                }
                let mut postings = Postings::default();
                reader.cursor(term[0], &info)?.read_all(&mut postings)?;
                let mut at = 0;
                for (doc, count) in postings.docs.iter().zip(&postings.counts) {
                    let positions = postings.positions.get(at..at + *count as usize);
                    at += *count as usize;
                    if *doc == NONE || *doc as usize >= names.len() {
                        return Err(self.wrong("a posting of no document"));
                    }
                    if let Some(id) = &names[*doc as usize] {
                        let content = indexed.entry(id.clone()).or_default();
                        let positions = positions.unwrap_or_default().to_vec();
                        content.insert(term.to_vec(), (*count, positions));
                    }
                }
                Ok(true)
            })?;
        }
        Ok(())
    }

    fn read_changes(
        &self,
        view: &View,
        indexed: &mut BTreeMap<Bytes, Content>,
        net: &mut BTreeMap<Vec<u8>, i64>,
    ) -> Result<()> {
        for takes in &view.taken {
            for entry in read_terms(takes)?.into_iter().flat_map(Terms::iter) {
                *net.entry(entry.term.to_vec()).or_default() -= 1;
            }
        }
        for (id, adds) in &view.fresh {
            let mut content = Content::new();
            for entry in read_terms(adds)?.into_iter().flat_map(Terms::iter) {
                let mut positions = Vec::new();
                entry.positions(&mut positions);
                content.insert(entry.term.to_vec(), (entry.count, positions));
                *net.entry(entry.term.to_vec()).or_default() += 1;
            }
            if indexed.insert(id.clone(), content).is_some() {
                return Err(self.wrong(&format!("{} is in a part and changed", name(id))));
            }
        }
        Ok(())
    }

    fn compare(
        &self,
        core: &Core,
        seq: u64,
        view: &View,
        mut indexed: BTreeMap<Bytes, Content>,
    ) -> Result<()> {
        let mut totals = vec![(0, 0); self.scheme.fields()];
        let mut iter = core.iter(self.documents, &[], seq)?;
        while let Some(entry) = iter.next_visible()? {
            let mut want = Content::new();
            self.scheme.occurrences(&entry.value.unwrap_or_default(), |term, position| {
                let (count, positions) = want.entry(term.to_vec()).or_default();
                *count += 1;
                if self.scheme.settings.positions {
                    positions.push(position);
                }
            });
            for (field, (docs, terms)) in totals.iter_mut().enumerate() {
                let own = want.iter().filter(|(term, _)| usize::from(term[0]) == field);
                let length: i64 = own.map(|(_, (count, _))| i64::from(*count)).sum();
                *docs += i64::from(length > 0);
                *terms += length;
            }
            let found = indexed.remove(&entry.key).unwrap_or_default();
            if found != want {
                return Err(self.wrong(&format!("the terms of {}", name(&entry.key))));
            }
        }
        if let Some(id) = indexed.keys().next() {
            return Err(self.wrong(&format!("{}, which does not exist", name(id))));
        }
        let kept: Vec<(i64, i64)> = view.fields.iter().map(|f| (f.docs, f.terms)).collect();
        if kept != totals {
            return Err(self.wrong(&format!("the totals {kept:?}, they are {totals:?}")));
        }
        Ok(())
    }

    fn wrong(&self, what: &str) -> Error {
        Error::corrupt("text index", 0, format!("{}: wrong about {what}", self.name()))
    }
}

fn name(id: &Bytes) -> String {
    crate::key::Id(id.to_vec()).to_json()
}
