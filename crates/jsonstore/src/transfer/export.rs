//! Export: one snapshot, in the order of the ids.

use std::{
    collections::BTreeSet,
    io::{BufWriter, Write},
};

use super::{ExportOptions, Format, TransferProgress, csv, extended};
use crate::{
    api::Collection,
    engine::Hold,
    error::{Error, Result},
    jb1,
};

const WRITE_BUFFER: usize = 256 << 10;
/// Progress is told each time so many documents are written.
const TELL: u64 = 1000;

/// What an export did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportReport {
    /// Documents written.
    pub documents: u64,
    /// Bytes written.
    pub bytes: u64,
    /// The commit whose state was written.
    pub seq: u64,
}

/// Exports a collection to `output`.
pub(crate) fn export(
    collection: &Collection,
    output: impl Write,
    options: &ExportOptions,
    progress: &mut dyn FnMut(TransferProgress),
) -> Result<ExportReport> {
    let hold = Hold::new(collection.core(), false, collection.store.session.seq());
    let mut counted = Counted { output: BufWriter::with_capacity(WRITE_BUFFER, output), bytes: 0 };
    let mut report = ExportReport { seq: hold.seq, ..ExportReport::default() };
    let mut columns = options.fields.clone();
    if options.format == Format::Csv {
        if columns.is_empty() {
            let mut found = BTreeSet::new();
            each(collection, &hold, &mut |value| csv::columns_of(value, "", &mut found))?;
            // The id goes first.
            columns.extend(found.take("_id"));
            columns.extend(found);
        }
        write_row(&mut counted, &columns)?;
    }
    let mut text = Vec::new();
    each(collection, &hold, &mut |value| {
        text.clear();
        match (options.format, options.extended) {
            (Format::Csv, _) => write_row(&mut counted, &csv::to_row(value, &columns)?)?,
            (Format::Json, true) => extended::canonical(value, &mut text)?,
            (Format::Json, false) => jb1::print(value, &mut text)?,
        }
        if options.format == Format::Json {
            text.push(b'\n');
            counted.write_all(&text).map_err(write_error)?;
        }
        report.documents += 1;
        if report.documents.is_multiple_of(TELL) {
            progress(TransferProgress { bytes: counted.bytes, documents: report.documents });
        }
        Ok(())
    })?;
    counted.flush().map_err(write_error)?;
    report.bytes = counted.bytes;
    progress(TransferProgress { bytes: report.bytes, documents: report.documents });
    Ok(report)
}

fn each(
    collection: &Collection,
    hold: &Hold,
    act: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let core = collection.core();
    core.check_open()?;
    let Some(keyspace) = collection.existing() else { return Ok(()) };
    let hide = core.hide(keyspace, hold);
    let mut iter = core.iter(keyspace, &[], hold.seq)?;
    while let Some(entry) = iter.next_visible()? {
        // A snapshot that was given up shows holes from then on.
        core.log.check_snapshot(hold.seq)?;
        let value = entry.value.unwrap_or_default();
        if !hide.hides(&value) {
            act(&value)?;
        }
    }
    Ok(())
}

fn write_row(output: &mut impl Write, cells: &[String]) -> Result<()> {
    let mut writer = ::csv::WriterBuilder::new().flexible(true).from_writer(output);
    let written = writer.write_record(cells).map_err(std::io::Error::from);
    written.and_then(|()| writer.flush()).map_err(write_error)
}

fn write_error(e: std::io::Error) -> Error {
    Error::io("write", "the output", e)
}

struct Counted<W> {
    output: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.output.flush()
    }
}
