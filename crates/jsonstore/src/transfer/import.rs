//! Import: one thread cuts the input into documents, some parse them, one stores them in order.

use std::{
    fs::File,
    io::{BufReader, Read, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use serde_json::{Value, json};

use super::{
    Format, ImportOptions, OnDuplicate, TransferError, TransferProgress, csv, extended,
    split::{Item, Splitter},
};
use crate::{
    api::{Collection, Input, Isolation, Load, Parsed, block_on},
    error::{DocumentError, Error, Result},
    jb1,
    key::Id,
};

/// Documents in one piece of work, which is also one transaction.
const BATCH_ITEMS: usize = 1000;
/// Bytes in one piece of work.
const BATCH_BYTES: usize = 1 << 20;
/// Pieces of work that wait for each thread.
const QUEUE: usize = 2;
const READ_BUFFER: usize = 256 << 10;
/// Text of a refused document that is written to the file of errors.
const ERROR_TEXT_BYTES: usize = 4096;
/// Where the progress of imports that can be resumed is kept.
const CHECKPOINTS: &str = "import-checkpoints";

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// Documents found in the input.
    pub read: u64,
    /// Documents stored.
    pub imported: u64,
    /// Documents left as they were, with [`OnDuplicate::Keep`].
    pub kept: u64,
    /// Documents refused.
    pub refused: u64,
    /// Documents that an earlier run of this import had done.
    pub resumed: u64,
    /// Bytes read.
    pub bytes: u64,
    /// True if it was a bulk load.
    pub is_bulk: bool,
}

/// What the cutting thread found.
enum Raw {
    Text(Item),
    Row(u64, std::result::Result<::csv::StringRecord, String>),
}

struct Batch {
    items: Vec<Raw>,
    /// Of a CSV file.
    columns: Vec<String>,
    /// Bytes of the input read so far.
    bytes: u64,
}

/// A piece of work, or why there are no more.
type Dealt = Result<Batch>;

/// A document, parsed, or why it is refused.
struct Ready {
    line: u64,
    document: std::result::Result<Vec<u8>, (String, Vec<u8>)>,
}

type Parsings = Vec<Receiver<Result<(Vec<Ready>, u64)>>>;

/// Imports `input` into a collection.
pub(crate) fn import(
    collection: &Collection,
    input: impl Read + Send,
    options: &ImportOptions,
    progress: &mut dyn FnMut(TransferProgress),
) -> Result<ImportReport> {
    let mut sink = Sink::open(collection, options)?;
    let limits = collection.core().limits();
    let skip = sink.report.resumed;
    let threads = options.threads.clamp(1, 64);
    std::thread::scope(|scope| {
        let (mut feeds, mut parsings): (Vec<_>, Parsings) = (Vec::new(), Vec::new());
        for _ in 0..threads {
            let (feed, work) = sync_channel::<Dealt>(QUEUE);
            let (done, parsing) = sync_channel(QUEUE);
            feeds.push(feed);
            parsings.push(parsing);
            scope.spawn(move || parse_all(&work, &done, options, &limits));
        }
        let bytes_max = limits.bytes_max.saturating_mul(2);
        scope.spawn(move || cut_all(input, options.format, bytes_max, skip, &feeds));
        // In turn, so that documents are stored in the order of the input.
        for turn in 0.. {
            let Some(Ok(batch)) = parsings.get(turn % threads).map(Receiver::recv) else { break };
            let (ready, bytes) = batch?;
            sink.store(ready)?;
            sink.report.bytes = bytes;
            progress(TransferProgress { bytes, documents: sink.report.read });
        }
        Ok::<(), Error>(())
    })?;
    sink.finish()
}

/// Cuts the input and deals it out in turn. Ends early when nobody takes it any more.
fn cut_all(
    input: impl Read,
    format: Format,
    bytes_max: usize,
    skip: u64,
    feeds: &[SyncSender<Dealt>],
) {
    let mut turn = 0;
    let mut deal = |batch: Dealt| {
        let feed = feeds.get(turn % feeds.len().max(1));
        turn += 1;
        feed.is_some_and(|feed| feed.send(batch).is_ok())
    };
    let done = match format {
        Format::Json => cut_json(input, bytes_max, skip, &mut deal),
        Format::Csv => cut_csv(input, skip, &mut deal),
    };
    if let Err(e) = done {
        deal(Err(e));
    }
}

type Deal<'a> = &'a mut dyn FnMut(Dealt) -> bool;

fn cut_json(input: impl Read, bytes_max: usize, mut skip: u64, deal: Deal<'_>) -> Result<()> {
    let reader = BufReader::with_capacity(READ_BUFFER, input);
    let mut splitter = Splitter::new(reader, bytes_max);
    let mut gather = Gather::default();
    while let Some(item) = splitter.next_item()? {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        let size = item.text.as_ref().map_or(0, Vec::len);
        if gather.add(Raw::Text(item), size, splitter.bytes, &[], deal).is_none() {
            return Ok(());
        }
    }
    gather.end(splitter.bytes, &[], deal);
    Ok(())
}

fn cut_csv(input: impl Read, mut skip: u64, deal: Deal<'_>) -> Result<()> {
    let mut reader =
        ::csv::ReaderBuilder::new().flexible(true).buffer_capacity(READ_BUFFER).from_reader(input);
    let unreadable = |e: &::csv::Error| {
        let line = e.position().map_or(1, ::csv::Position::line);
        Error::from(TransferError::Unreadable { line, reason: e.to_string() })
    };
    let headers = reader.headers().map_err(|e| unreadable(&e))?;
    let columns: Vec<String> = headers.iter().map(str::to_owned).collect();
    let mut gather = Gather::default();
    loop {
        let mut row = ::csv::StringRecord::new();
        let line = reader.position().line();
        let read = match reader.read_record(&mut row) {
            Ok(false) => break,
            Ok(true) if row.len() > columns.len() => {
                let text = format!("{} cells under {} columns", row.len(), columns.len());
                Raw::Row(line, Err(text))
            }
            Ok(true) => Raw::Row(line, Ok(row)),
            Err(e) if e.is_io_error() => return Err(unreadable(&e)),
            Err(e) => Raw::Row(line, Err(e.to_string())),
        };
        if skip > 0 {
            skip -= 1;
            continue;
        }
        let size = if let Raw::Row(_, Ok(row)) = &read { row.as_slice().len() } else { 0 };
        if gather.add(read, size, reader.position().byte(), &columns, deal).is_none() {
            return Ok(());
        }
    }
    gather.end(reader.position().byte(), &columns, deal);
    Ok(())
}

/// A batch in the making.
#[derive(Default)]
struct Gather {
    items: Vec<Raw>,
    size: usize,
}

impl Gather {
    /// `None` if nobody takes it.
    fn add(
        &mut self,
        item: Raw,
        size: usize,
        bytes: u64,
        columns: &[String],
        deal: Deal<'_>,
    ) -> Option<()> {
        self.items.push(item);
        self.size += size;
        if self.items.len() < BATCH_ITEMS && self.size < BATCH_BYTES {
            return Some(());
        }
        self.end(bytes, columns, deal).then_some(())
    }

    fn end(&mut self, bytes: u64, columns: &[String], deal: Deal<'_>) -> bool {
        self.size = 0;
        let items = std::mem::take(&mut self.items);
        deal(Ok(Batch { items, columns: columns.to_vec(), bytes }))
    }
}

fn parse_all(
    work: &Receiver<Dealt>,
    done: &SyncSender<Result<(Vec<Ready>, u64)>>,
    options: &ImportOptions,
    limits: &jb1::Limits,
) {
    for batch in work {
        let parsed = batch.map(|batch| {
            let parse = |raw| parse(raw, &batch.columns, options, limits);
            (batch.items.into_iter().map(parse).collect(), batch.bytes)
        });
        if done.send(parsed).is_err() {
            return;
        }
    }
}

fn parse(raw: Raw, columns: &[String], options: &ImportOptions, limits: &jb1::Limits) -> Ready {
    let (line, text) = match raw {
        Raw::Text(item) => (item.line, item.text),
        Raw::Row(line, row) => (line, row.map(|row| csv::to_json(columns, &row).into_bytes())),
    };
    let document = text.map_err(|reason| (reason, Vec::new())).and_then(|text| {
        let parsed = parse_text(&text, options.extended, limits);
        parsed.map_err(|e| (e.to_string(), text))
    });
    Ready { line, document }
}

fn parse_text(text: &[u8], is_extended: bool, limits: &jb1::Limits) -> Result<Vec<u8>> {
    let parsed = jb1::parse(text.trim_ascii(), limits)?;
    if jb1::kind(&parsed) != Some(jb1::Kind::Object) {
        return Err(DocumentError::NotAnObject.into());
    }
    if !is_extended {
        return Ok(parsed);
    }
    let mut plain = Vec::with_capacity(text.len());
    extended::simplify(&parsed, &mut plain)?;
    Ok(jb1::parse(&plain, limits)?)
}

/// Where documents go.
struct Sink<'a> {
    collection: &'a Collection,
    options: &'a ImportOptions,
    load: Option<Load>,
    errors: Option<File>,
    first_error: Option<(u64, String)>,
    report: ImportReport,
}

impl<'a> Sink<'a> {
    fn open(collection: &'a Collection, options: &'a ImportOptions) -> Result<Self> {
        let mut report = ImportReport::default();
        if let Some(name) = &options.resume {
            report = checkpoint(collection, name)?;
        }
        let is_plain = options.resume.is_none() && options.on_duplicate == OnDuplicate::Replace;
        let is_bulk = options.bulk && is_plain && is_empty(collection)?;
        report.is_bulk = is_bulk;
        let load = if is_bulk { Some(block_on(collection.store.load())?) } else { None };
        let errors = match &options.errors {
            None => None,
            Some(path) => {
                let mut file = std::fs::OpenOptions::new();
                file.create(true).write(true).append(report.resumed > 0);
                file.truncate(report.resumed == 0);
                Some(file.open(path).map_err(|e| Error::io("open", path, e))?)
            }
        };
        Ok(Self { collection, options, load, errors, first_error: None, report })
    }

    fn store(&mut self, batch: Vec<Ready>) -> Result<()> {
        let mut documents = Vec::with_capacity(batch.len());
        for ready in batch {
            self.report.read += 1;
            match ready.document {
                Ok(document) => documents.push((ready.line, document)),
                Err((reason, text)) => self.refuse(ready.line, &reason, &text)?,
            }
        }
        if self.load.is_some() { self.store_in_bulk(documents) } else { self.commit(&documents) }
    }

    fn store_in_bulk(&mut self, documents: Vec<(u64, Vec<u8>)>) -> Result<()> {
        for (line, document) in documents {
            let Some(load) = &mut self.load else { return Err(Error::Closed) };
            match load.put(self.collection, Input::Parsed(Parsed(&document))) {
                Ok(_) => self.report.imported += 1,
                Err(e) if is_of_document(&e) => self.refuse(line, &e.to_string(), &document)?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// One transaction for all; if it is refused, one for each, to find out which it was.
    fn commit(&mut self, documents: &[(u64, Vec<u8>)]) -> Result<()> {
        let before = self.report.clone();
        match self.try_commit(documents, true) {
            Ok(()) => return Ok(()),
            Err(e) if is_of_document(&e) => self.report = before,
            Err(e) => return Err(e),
        }
        for document in documents {
            let before = self.report.clone();
            // The checkpoint counts the whole batch, so it comes last.
            match self.try_commit(std::slice::from_ref(document), false) {
                Ok(()) => {}
                Err(e) if is_of_document(&e) => {
                    self.report = before;
                    self.refuse(document.0, &e.to_string(), &document.1)?;
                }
                Err(e) => return Err(e),
            }
        }
        self.try_commit(&[], true)
    }

    fn try_commit(&mut self, documents: &[(u64, Vec<u8>)], is_whole: bool) -> Result<()> {
        let store = &self.collection.store;
        let attempts_max = store.core().options.transact_attempts_max;
        for attempt in 1.. {
            let mut report = self.report.clone();
            let done = block_on(async {
                let tx = store.begin(Isolation::Latest);
                for (_, document) in documents {
                    let input = Input::Parsed(Parsed(document));
                    self.put(&tx, input, document, &mut report).await?;
                }
                if let Some(name) = self.options.resume.as_ref().filter(|_| is_whole) {
                    let checkpoints = store.keyspace(CHECKPOINTS)?;
                    let value = encode(&report).to_string();
                    tx.put_key(&checkpoints, name.as_bytes(), value.as_bytes()).await?;
                }
                tx.commit().await
            });
            match done {
                Ok(_) => {
                    self.report = report;
                    return Ok(());
                }
                Err(e) if e.is_retryable() && attempt < attempts_max => {
                    std::thread::sleep(std::time::Duration::from_millis(u64::from(attempt)));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    async fn put(
        &self,
        tx: &crate::Transaction,
        input: Input<'_>,
        document: &[u8],
        report: &mut ImportReport,
    ) -> Result<()> {
        let id = jb1::get(document, b"_id");
        let stored = match (self.options.on_duplicate, id) {
            (OnDuplicate::Replace, _) | (_, None) => None,
            (_, Some(id)) => tx.get_for_update(self.collection, Id::from_jb1(id)?).await?,
        };
        if stored.is_some() && self.options.on_duplicate == OnDuplicate::Keep {
            report.kept += 1;
            return Ok(());
        }
        if self.options.on_duplicate == OnDuplicate::Refuse {
            tx.insert(self.collection, input).await?;
        } else {
            tx.put(self.collection, input).await?;
        }
        report.imported += 1;
        Ok(())
    }

    fn refuse(&mut self, line: u64, reason: &str, text: &[u8]) -> Result<()> {
        self.report.refused += 1;
        if let (Some(file), Some(path)) = (&mut self.errors, &self.options.errors) {
            let mut printed = Vec::new();
            let is_text = jb1::print(text, &mut printed).is_err();
            let text = if is_text { text } else { &printed };
            let text = text.get(..ERROR_TEXT_BYTES).unwrap_or(text);
            let text = String::from_utf8_lossy(text);
            let row = json!({"line": line, "error": reason, "text": text});
            writeln!(file, "{row}").map_err(|e| Error::io("write", path, e))?;
        }
        let first = self.first_error.get_or_insert_with(|| (line, reason.to_owned()));
        if self.report.refused >= self.options.errors_max {
            let (line, reason) = first.clone();
            let count = self.report.refused;
            return Err(TransferError::TooManyErrors { count, line, reason }.into());
        }
        Ok(())
    }

    fn finish(mut self) -> Result<ImportReport> {
        if let Some(load) = self.load.take() {
            block_on(load.finish())?;
        }
        if let (Some(file), Some(path)) = (&self.errors, &self.options.errors) {
            file.sync_all().map_err(|e| Error::io("sync", path, e))?;
        }
        if let Some(name) = &self.options.resume {
            let store = &self.collection.store;
            block_on(async {
                let tx = store.begin(Isolation::Latest);
                tx.delete_key(&store.keyspace(CHECKPOINTS)?, name.as_bytes()).await?;
                tx.commit().await
            })?;
        }
        Ok(self.report)
    }
}

/// Errors that one document is to blame for.
fn is_of_document(e: &Error) -> bool {
    matches!(
        e,
        Error::Document(_)
            | Error::DuplicateId { .. }
            | Error::DuplicateKey { .. }
            | Error::Unindexable { .. }
    )
}

fn is_empty(collection: &Collection) -> Result<bool> {
    Ok(block_on(collection.scan(..).next())?.is_none())
}

fn encode(report: &ImportReport) -> Value {
    json!({
        "read": report.read,
        "imported": report.imported,
        "kept": report.kept,
        "refused": report.refused,
    })
}

/// How far an earlier run came.
fn checkpoint(collection: &Collection, name: &str) -> Result<ImportReport> {
    let checkpoints = collection.store.keyspace(CHECKPOINTS)?;
    let Some(found) = block_on(checkpoints.get(name.as_bytes()))? else {
        return Ok(ImportReport::default());
    };
    let value: Value = serde_json::from_slice(&found).unwrap_or_default();
    let count = |member: &str| value[member].as_u64().unwrap_or(0);
    let (read, imported, kept) = (count("read"), count("imported"), count("kept"));
    let refused = count("refused");
    Ok(ImportReport { read, imported, kept, refused, resumed: read, ..ImportReport::default() })
}
