//! Adapter for `store-bench` (`with-hearth PROJECT crates/jsonstore/benches/harness/ours.rs …`).
//! The two secondary indexes are ordered keyspaces, written in the document's own transaction.
use super::{Opts, Store as Bench};
use crate::gen::{Doc, Gen};
use anyhow::Result;
use hearth_jsonstore::{
    block_on, Collection, Durability, Isolation, Keyspace, Options, Store, TextIndex, TextQuery,
    Transaction, Update,
};
use std::path::Path;

struct Ours {
    store: Store,
    docs: Collection,
    email: Keyspace,
    created: Keyspace,
    fts: bool,
}

pub fn open(dir: &Path, o: Opts) -> Result<Box<dyn Bench>> {
    let mut options = Options::new(dir.join("hearth"));
    // `cache` is the engine's cache, as for the other stores; write buffers come on top.
    options.memory_budget = o.cache / 3 * 4;
    if !o.durable {
        options.durability = Durability::Interval;
    }
    if o.big_wal {
        options.memtable_bytes = 1 << 30;
        options.wal_bytes_max = 4 << 30;
    }
    let store = block_on(Store::open(options))?;
    let (docs, email, created) =
        (store.collection("docs")?, store.keyspace("email")?, store.keyspace("created")?);
    if o.fts {
        // With positions, as FTS5 keeps them.
        let positions = std::env::var_os("HEARTH_NO_POSITIONS").is_none();
        let index = TextIndex::new("body").field("body").positions(positions);
        block_on(docs.create_text_index(index))?;
    }
    Ok(Box::new(Ours { store, docs, email, created, fts: o.fts }))
}

fn email_key(email: &str, id: u64) -> Vec<u8> {
    let mut key = email.as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(&id.to_be_bytes());
    key
}

fn created_key(created: i64, id: u64) -> Vec<u8> {
    let mut key = ((created as u64) ^ (1 << 63)).to_be_bytes().to_vec();
    key.extend_from_slice(&id.to_be_bytes());
    key
}

fn id_of(key: &[u8]) -> u64 {
    u64::from_be_bytes(key[key.len() - 8..].try_into().unwrap())
}

impl Ours {
    async fn write(&self, tx: &Transaction, d: &Doc) -> Result<()> {
        if self.fts {
            // The text index follows by itself; the others are not kept, as in the other stores.
            tx.put(&self.docs, &d.json).await?;
            return Ok(());
        }
        if tx.get_for_update(&self.docs, d.id).await?.is_some() {
            // The generator's indexed fields are functions of the id.
            tx.delete_key(&self.email, &email_key(&Gen::email(d.id), d.id)).await?;
            tx.delete_key(&self.created, &created_key(Gen::created(d.id), d.id)).await?;
        }
        tx.put(&self.docs, &d.json).await?;
        tx.put_key(&self.email, &email_key(&d.email, d.id), b"").await?;
        tx.put_key(&self.created, &created_key(d.created, d.id), b"").await?;
        Ok(())
    }
}

impl Bench for Ours {
    fn put(&self, d: &Doc) -> Result<()> {
        self.put_many(std::slice::from_ref(d))
    }
    fn put_many(&self, ds: &[Doc]) -> Result<()> {
        block_on(async {
            let tx = self.store.begin(Isolation::Latest);
            for d in ds {
                self.write(&tx, d).await?;
            }
            tx.commit().await?;
            Ok(())
        })
    }
    fn load(&self, docs: &mut dyn Iterator<Item = Doc>) -> Result<()> {
        let mut load = block_on(self.store.load())?;
        for d in docs {
            load.put(&self.docs, &d.json)?;
            if self.fts {
                continue;
            }
            load.put_key(&self.email, &email_key(&d.email, d.id), b"")?;
            load.put_key(&self.created, &created_key(d.created, d.id), b"")?;
        }
        Ok(block_on(load.finish())?)
    }
    fn get(&self, id: u64) -> Result<Option<Vec<u8>>> {
        Ok(block_on(self.docs.get(id))?.map(|d| d.into_bytes().to_vec()))
    }
    fn find_email(&self, email: &str) -> Result<Vec<Vec<u8>>> {
        let mut from = email.as_bytes().to_vec();
        from.push(0);
        let mut out = vec![];
        for (key, _) in block_on(self.email.range(&from, 4))? {
            if key.starts_with(&from) {
                out.extend(self.get(id_of(&key))?);
            }
        }
        Ok(out)
    }
    fn range_created(&self, from: i64, n: usize) -> Result<Vec<Vec<u8>>> {
        let keys = block_on(self.created.range(&created_key(from, 0), n))?;
        let found = block_on(self.docs.get_many(keys.iter().map(|(key, _)| id_of(key))))?;
        Ok(found.into_iter().flatten().map(|d| d.into_bytes().to_vec()).collect())
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
