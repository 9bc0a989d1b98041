//! Finding, indexing, searching and following documents.

use std::{io::Write, time::Duration};

use crate::{
    Collection, Cursor, Filter, Find, Index, Language, Pipeline, Projection, Since, Sort, Store,
    TextIndex, Update, Upserted,
};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// What to find.
#[derive(Debug, Args)]
pub(crate) struct FindCommand {
    collection: String,
    /// `{"age": {"$gte": 18}}`; all documents if there is none.
    #[arg(default_value = "{}")]
    filter: String,
    /// `{"name": 1}`, or `[{"name": 1}, {"age": -1}]`.
    #[arg(long)]
    sort: Option<String>,
    #[arg(long, default_value_t = 0)]
    skip: u64,
    #[arg(long)]
    limit: Option<u64>,
    /// Only these fields: `{"name": 1, "age": 1}`.
    #[arg(long)]
    fields: Option<String>,
    /// The index to use, or `_id` for none.
    #[arg(long)]
    hint: Option<String>,
    /// Print only how many there are.
    #[arg(long)]
    count: bool,
    /// Answer it, and say how that went instead.
    #[arg(long)]
    explain: bool,
}

/// What to change.
#[derive(Debug, Args)]
pub(crate) struct ModifyCommand {
    collection: String,
    /// `{"age": {"$gte": 18}}`
    filter: String,
    /// `{"$set": {"a.b": 1}, "$inc": {"l.$[big]": 2}}`
    update: String,
    /// Only one of them.
    #[arg(long)]
    one: bool,
    /// Store a new document if none matches; prints its id.
    #[arg(long)]
    upsert: bool,
    /// What `$[name]` in a path means: `[{"big": {"$gt": 9}}]`.
    #[arg(long, value_name = "FILTERS")]
    array_filters: Option<String>,
}

/// What to do about indexes.
#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    /// Make an index, by fields (`city`, `-population`) or as JSON (`{"fields": …, "unique": true}`).
    Create {
        collection: String,
        fields: Vec<String>,
        /// Documents expire so long after the date in the field: `30d`, `12h`, `90s`, `500ms`.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expire_after: Option<Duration>,
    },
    /// Change after how long documents expire by an index, `30d`, or that they do not: `never`.
    Expire { collection: String, name: String, after: String },
    /// Drop an index by its name, of a text index too.
    Drop { collection: String, name: String },
    /// List the indexes.
    List { collection: String },
    /// Make a full-text index on fields.
    Text {
        collection: String,
        name: String,
        fields: Vec<String>,
        /// The language of the words, for their stems: `english`.
        #[arg(long)]
        language: Option<String>,
    },
}

impl FindCommand {
    pub(crate) async fn run(&self, store: &Store, as_json: bool) -> Result<()> {
        let find = self.find(store)?;
        if self.explain {
            let explanation = find.explain_analyze().await?;
            match as_json {
                true => println!("{}", explanation.json()),
                false => print!("{explanation}"),
            }
            return Ok(());
        }
        if self.count {
            println!("{}", find.count().await?);
            return Ok(());
        }
        let mut cursor = find.cursor();
        let mut out = std::io::stdout().lock();
        while let Some(document) = cursor.next().await? {
            writeln!(out, "{}", document.json())?;
        }
        Ok(())
    }

    /// Documents are wanted, not their number or a plan.
    pub(crate) fn finds_documents(&self) -> bool {
        !self.count && !self.explain
    }

    pub(crate) fn cursor(&self, store: &Store) -> Result<Cursor> {
        Ok(self.find(store)?.cursor())
    }

    fn find(&self, store: &Store) -> Result<Find> {
        let collection = store.collection(&self.collection)?;
        let filter = Filter::from_json(&parsed("the filter", &self.filter)?)?;
        let mut find = collection.find(filter).skip(self.skip);
        if let Some(sort) = &self.sort {
            find = find.sort(Sort::from_json(&parsed("the sort", sort)?)?);
        }
        if let Some(limit) = self.limit {
            find = find.limit(limit);
        }
        if let Some(fields) = &self.fields {
            find = find.projection(Projection::from_json(&parsed("the fields", fields)?)?);
        }
        if let Some(hint) = &self.hint {
            find = find.hint(hint);
        }
        Ok(find)
    }
}

impl ModifyCommand {
    pub(crate) async fn run(&self, store: &Store) -> Result<()> {
        let collection = store.collection(&self.collection)?;
        let filter = Filter::from_json(&parsed("the filter", &self.filter)?)?;
        let mut update = Update::from_json(&parsed("the update", &self.update)?)?;
        if let Some(filters) = &self.array_filters {
            update = update.array_filters(&parsed("the array filters", filters)?)?;
        }
        let done = match (self.one, self.upsert) {
            (true, true) => collection.upsert_one(&filter, &update).await?,
            (false, true) => collection.upsert_many(&filter, &update).await?,
            (true, false) => {
                println!("{}", u8::from(collection.update_one(&filter, &update).await?));
                return Ok(());
            }
            (false, false) => {
                println!("{}", collection.update_many(&filter, &update).await?);
                return Ok(());
            }
        };
        match done {
            Upserted::Inserted(id) => println!("{}", id.to_json()),
            Upserted::Updated(count) => println!("{count}"),
        }
        Ok(())
    }
}

impl IndexCommand {
    pub(crate) async fn run(&self, store: &Store, as_json: bool) -> Result<()> {
        match self {
            Self::Create { collection, fields, expire_after } => {
                let mut index = index(fields)?;
                if let Some(after) = expire_after {
                    index = index.expire_after(*after);
                }
                let made = store.collection(collection)?.create_index(index).await?;
                println!("{}", made.name);
            }
            Self::Expire { collection, name, after } => {
                let after = match after.as_str() {
                    "never" => None,
                    after => Some(duration(after).map_err(anyhow::Error::msg)?),
                };
                store.collection(collection)?.set_expire_after(name, after).await?;
            }
            Self::Drop { collection, name } => {
                let collection = store.collection(collection)?;
                if !collection.drop_text_index(name).await? {
                    collection.drop_index(name).await?;
                }
            }
            Self::List { collection } => list(&store.collection(collection)?, as_json),
            Self::Text { collection, name, fields, language } => {
                let mut index = fields.iter().fold(TextIndex::new(name), TextIndex::field);
                if let Some(language) = language {
                    let known = Language::from_name(language);
                    index = index.language(known.context("that language is not known")?);
                }
                store.collection(collection)?.create_text_index(index).await?;
            }
        }
        Ok(())
    }
}

pub(crate) fn pipeline(store: &Store, collection: &str, pipeline: &str) -> Result<Cursor> {
    let pipeline = Pipeline::from_json(&parsed("the pipeline", pipeline)?)?;
    Ok(store.collection(collection)?.aggregate(&pipeline))
}

pub(crate) async fn aggregate(store: &Store, collection: &str, pipeline: &str) -> Result<()> {
    let mut rows = self::pipeline(store, collection, pipeline)?;
    let mut out = std::io::stdout().lock();
    while let Some(row) = rows.next().await? {
        writeln!(out, "{}", row.json())?;
    }
    Ok(())
}

pub(crate) async fn search(
    store: &Store,
    collection: &str,
    words: &str,
    limit: usize,
    as_json: bool,
) -> Result<()> {
    let found = store.collection(collection)?.search(words).limit(limit).documents().await?;
    for found in found {
        let (score, document) = (found.score, found.document.json());
        match as_json {
            true => println!("{{\"score\":{score},\"document\":{document}}}"),
            false => println!("{score:>8.3}  {document}"),
        }
    }
    Ok(())
}

/// Prints changes until the program is ended.
pub(crate) async fn watch(store: &Store, collection: &str, filter: &str) -> Result<()> {
    let filter = Filter::from_json(&parsed("the filter", filter)?)?;
    let mut watch = store.collection(collection)?.watch(filter, Since::Now).await?;
    loop {
        let changes = watch.next().await?;
        for event in changes.events {
            let value = |document: Option<crate::Document>| document.map(|d| d.value());
            let (before, after) = (value(event.before), value(event.after));
            let id = event.id.to_json();
            println!("{}", json!({"seq": changes.seq, "id": id, "before": before, "after": after}));
        }
    }
}

fn list(collection: &Collection, as_json: bool) {
    for info in collection.indexes() {
        let state = if info.is_ready { "ready" } else { "building" };
        match as_json {
            true => println!(
                "{}",
                json!({"name": info.name, "state": state, "index": info.index.to_json()})
            ),
            false => println!("{:<24} {state:<9} {}", info.name, info.index.to_json()),
        }
    }
    for index in collection.text_indexes() {
        println!("{:<24} {:<9} {index:?}", index.name, "text");
    }
}

fn index(fields: &[String]) -> Result<Index> {
    if let [one] = fields
        && one.starts_with('{')
    {
        return Ok(Index::from_json(&parsed("the index", one)?)?);
    }
    Ok(fields.iter().fold(Index::default(), |index, field| match field.strip_prefix('-') {
        Some(field) => index.and_descending(field),
        None => index.and(field),
    }))
}

/// A number with its unit.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let bad = || format!("`{text}` is no time: 500ms, 90s, 15m, 12h, 30d");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    number.checked_mul(ms).map(Duration::from_millis).ok_or_else(bad)
}

fn parsed(what: &str, text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| format!("{what} is no JSON: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, want) in [
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("90s", Some(90_000)),
            ("15m", Some(900_000)),
            ("12h", Some(43_200_000)),
            ("30d", Some(2_592_000_000)),
            ("30", None),
            ("d", None),
            ("-1d", None),
            ("1w", None),
            ("300000000000000d", None),
        ] {
            let got = duration(text).ok().map(|found| found.as_millis());
            assert_eq!(got, want, "{text}");
        }
    }
}
