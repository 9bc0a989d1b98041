//! Hearth's store: queries prepared once, as an application has them.

use std::path::Path;

use anyhow::Result;
use hearth_jsonstore::{Collection, Document, Index, Options, Prepared, Sort, Store, block_on};
use serde_json::json;

use crate::{CACHE_BYTES, Engine, Query};

pub struct Ours {
    store: Store,
    docs: Collection,
    eq: Prepared,
    range: Prepared,
    prefix: Prepared,
    sort: Prepared,
}

pub fn open(dir: &Path) -> Result<Ours> {
    let mut options = Options::new(dir.join("hearth"));
    // Three quarters of it are caches.
    options.memory_budget = CACHE_BYTES / 3 * 4;
    let store = block_on(Store::open(options))?;
    let docs = store.collection("docs")?;
    for index in [
        Index::on("email"),
        Index::on("created"),
        Index::on("city").and("score"),
        Index::on("kind").and("created"),
    ] {
        block_on(docs.create_index(index))?;
    }
    let p = |n: u64| json!({"$param": n});
    let eq = docs.prepare(&json!({"email": p(0)}))?;
    let range = docs.prepare(&json!({"created": {"$gte": p(0)}}))?;
    let range = range.sort(Sort::new().ascending("created")?);
    let prefix = docs.prepare(&json!({"city": p(0), "score": {"$gte": p(1), "$lt": p(2)}}))?;
    let sort = docs.prepare(&json!({"kind": p(0)}))?;
    let sort = sort.sort(Sort::new().descending("created")?);
    Ok(Ours { store, docs, eq, range, prefix, sort })
}

impl Engine for Ours {
    fn load(&self, documents: &mut dyn Iterator<Item = String>) -> Result<()> {
        let mut load = block_on(self.store.load())?;
        for document in documents {
            load.put(&self.docs, &document)?;
        }
        block_on(load.finish())?;
        Ok(block_on(self.store.checkpoint())?)
    }

    fn ask(&self, query: &Query) -> Result<Vec<Vec<u8>>> {
        let found = match query {
            Query::Eq(email) => block_on(self.eq.collect(&[email.as_str().into()]))?,
            Query::Range(from, limit) => block_on(self.range.take(&[(*from).into()], *limit))?,
            Query::Prefix(city, from, to) => {
                let values = [city.as_str().into(), (*from).into(), (*to).into()];
                block_on(self.prefix.collect(&values))?
            }
            Query::Sort(kind, limit) => block_on(self.sort.take(&[kind.as_str().into()], *limit))?,
        };
        Ok(found.into_iter().map(Document::into_vec).collect())
    }
}
