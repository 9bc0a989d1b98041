//! SQLite: JSON text in one column, indexes on expressions, statements prepared once.

use std::path::Path;

use anyhow::Result;
use rusqlite::{Connection, Params, params};

use crate::{CACHE_BYTES, Engine, Query};

const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS docs(id INTEGER PRIMARY KEY, doc TEXT NOT NULL);
    CREATE INDEX IF NOT EXISTS by_email ON docs(json_extract(doc,'$.email'));
    CREATE INDEX IF NOT EXISTS by_created ON docs(json_extract(doc,'$.created'));
    CREATE INDEX IF NOT EXISTS by_city
        ON docs(json_extract(doc,'$.city'), json_extract(doc,'$.score'));
    CREATE INDEX IF NOT EXISTS by_kind
        ON docs(json_extract(doc,'$.kind'), json_extract(doc,'$.created'));";
const EQ: &str = "SELECT doc FROM docs WHERE json_extract(doc,'$.email')=?1";
const RANGE: &str = "SELECT doc FROM docs WHERE json_extract(doc,'$.created')>=?1
    ORDER BY json_extract(doc,'$.created') LIMIT ?2";
const PREFIX: &str = "SELECT doc FROM docs WHERE json_extract(doc,'$.city')=?1
    AND json_extract(doc,'$.score')>=?2 AND json_extract(doc,'$.score')<?3";
const SORT: &str = "SELECT doc FROM docs WHERE json_extract(doc,'$.kind')=?1
    ORDER BY json_extract(doc,'$.created') DESC LIMIT ?2";

pub struct Sqlite(Connection);

pub fn open(dir: &Path) -> Result<Sqlite> {
    let connection = Connection::open(dir.join("sqlite.db"))?;
    let cache = CACHE_BYTES / 1024;
    connection.execute_batch(&format!(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-{cache}; {TABLE}"
    ))?;
    Ok(Sqlite(connection))
}

impl Sqlite {
    fn texts(&self, sql: &str, values: impl Params) -> Result<Vec<Vec<u8>>> {
        let mut statement = self.0.prepare_cached(sql)?;
        let text = |row: &rusqlite::Row<'_>| Ok(row.get_ref(0)?.as_str()?.as_bytes().to_vec());
        let found = statement.query_map(values, text)?.collect::<Result<_, _>>()?;
        Ok(found)
    }
}

impl Engine for Sqlite {
    fn load(&self, documents: &mut dyn Iterator<Item = String>) -> Result<()> {
        let transaction = self.0.unchecked_transaction()?;
        for (id, document) in documents.enumerate() {
            let mut put = transaction.prepare_cached("INSERT INTO docs(id,doc) VALUES(?1,?2)")?;
            put.execute(params![id as i64, document])?;
        }
        transaction.commit()?;
        self.0.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    fn ask(&self, query: &Query) -> Result<Vec<Vec<u8>>> {
        match query {
            Query::Eq(email) => self.texts(EQ, [email]),
            Query::Range(from, limit) => self.texts(RANGE, params![from, *limit as i64]),
            Query::Prefix(city, from, to) => self.texts(PREFIX, params![city, from, to]),
            Query::Sort(kind, limit) => self.texts(SORT, params![kind, *limit as i64]),
        }
    }
}
