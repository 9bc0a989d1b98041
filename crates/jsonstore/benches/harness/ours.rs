//! Adapter for `store-bench` (`with-hearth PROJECT crates/jsonstore/benches/harness/ours.rs …`).
//! The two secondary indexes are indexes of the collection, the queries go through the planner.
use super::{Opts, Store as Bench};
use crate::gen::Doc;
use anyhow::Result;
use hearth_jsonstore::{
    block_on, Collection, Document, Durability, Index, Isolation, Options, Prepared, Sort, Store,
    TextIndex, TextQuery, Update,
};
use serde_json::json;
use std::path::Path;

struct Ours {
    store: Store,
    docs: Collection,
    by_email: Prepared,
    by_created: Prepared,
}

pub fn open(dir: &Path, o: Opts) -> Result<Box<dyn Bench>> {
    let mut options = Options::new(dir.join("hearth"));
    // `cache` is the engine's cache, as for the other stores; write buffers come on top.
    options.memory_budget = o.cache / 3 * 4;
    // The engine frees what the allocator then keeps for threads that are gone.
    options.on_memory_freed = Some(|| {
        unsafe { libc::malloc_trim(0) };
    });
    if !o.durable {
        options.durability = Durability::Interval;
    }
    if o.big_wal {
        options.memtable_bytes = 1 << 30;
        options.wal_bytes_max = 4 << 30;
    }
    let store = block_on(Store::open(options))?;
    let docs = store.collection("docs")?;
    if o.fts {
        // With positions, as FTS5 keeps them.
        let positions = std::env::var_os("HEARTH_NO_POSITIONS").is_none();
        let index = TextIndex::new("body").field("body").positions(positions);
        block_on(docs.create_text_index(index))?;
    } else {
        block_on(docs.create_index(Index::on("email")))?;
        block_on(docs.create_index(Index::on("created")))?;
    }
    let by_email = docs.prepare(&json!({"email": {"$param": 0}}))?;
    let by_created = docs.prepare(&json!({"created": {"$gte": {"$param": 0}}}))?;
    let by_created = by_created.sort(Sort::new().ascending("created")?);
    Ok(Box::new(Ours { store, docs, by_email, by_created }))
}

fn texts(found: Vec<Document>) -> Vec<Vec<u8>> {
    found.into_iter().map(Document::into_vec).collect()
}

impl Bench for Ours {
    fn put(&self, d: &Doc) -> Result<()> {
        Ok(block_on(self.docs.put(&d.json)).map(|_| ())?)
    }
    fn put_many(&self, ds: &[Doc]) -> Result<()> {
        block_on(async {
            let tx = self.store.begin(Isolation::Latest);
            for d in ds {
                tx.put(&self.docs, &d.json).await?;
            }
            tx.commit().await?;
            Ok(())
        })
    }
    fn load(&self, docs: &mut dyn Iterator<Item = Doc>) -> Result<()> {
        let mut load = block_on(self.store.load())?;
        for d in docs {
            load.put(&self.docs, &d.json)?;
        }
        Ok(block_on(load.finish())?)
    }
    fn get(&self, id: u64) -> Result<Option<Vec<u8>>> {
        Ok(block_on(self.docs.get(id))?.map(Document::into_vec))
    }
    fn find_email(&self, email: &str) -> Result<Vec<Vec<u8>>> {
        Ok(texts(block_on(self.by_email.collect(&[email.into()]))?))
    }
    fn range_created(&self, from: i64, n: usize) -> Result<Vec<Vec<u8>>> {
        Ok(texts(block_on(self.by_created.take(&[from.into()], n as u64))?))
    }
    fn set_score(&self, id: u64, v: i64) -> Result<()> {
        block_on(self.docs.update(id, &Update::new().set("score", v)))?;
        Ok(())
    }
    fn fts(&self, a: &str, b: &str, top: Option<usize>) -> Result<Option<usize>> {
        let both = [a, b].map(|word| TextQuery::Word(word.into())).to_vec();
        let search = self.docs.search_query(TextQuery::All(both));
        Ok(Some(match top {
            // The ids themselves, as an application needs them.
            None => block_on(search.ids())?.len(),
            Some(limit) => block_on(search.limit(limit).hits())?.len(),
        }))
    }
    fn sync(&self) -> Result<()> {
        Ok(block_on(self.store.checkpoint())?)
    }
}
