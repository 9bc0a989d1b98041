//! `jsonstore DIR import` and `export`.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
    time::Instant,
};

use crate::{ExportOptions, Format, ImportOptions, OnDuplicate, Store, TransferProgress};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::bar;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    /// One document a line; an import takes a JSON array, too.
    Json,
    /// MongoDB's extended JSON, as mongoexport writes it.
    Extended,
    /// A header of field paths, then one document a line.
    Csv,
}

impl Form {
    /// The format, and whether it is extended JSON.
    fn format(self) -> (Format, bool) {
        match self {
            Self::Json => (Format::Json, false),
            Self::Extended => (Format::Json, true),
            Self::Csv => (Format::Csv, false),
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Existing {
    Keep,
    Refuse,
    Replace,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    collection: String,
    /// The file; standard input if there is none.
    file: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "json")]
    format: Form,
    /// What happens to documents that exist.
    #[arg(long, value_enum, default_value = "replace")]
    existing: Existing,
    /// Go on where an import of this name stopped; its progress is stored with the documents.
    #[arg(long, value_name = "NAME")]
    resume: Option<String>,
    /// Write refused documents here, with line numbers and reasons.
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,
    /// Stop at so many refused documents.
    #[arg(long, default_value_t = ImportOptions::default().errors_max)]
    errors_max: u64,
}

impl Import {
    /// It reads standard input.
    pub(super) fn is_piped(&self) -> bool {
        self.file.is_none()
    }

    pub(super) async fn run(self, store: &Store, as_json: bool) -> Result<()> {
        let mut options = ImportOptions::default();
        (options.format, options.extended) = self.format.format();
        options.on_duplicate = match self.existing {
            Existing::Keep => OnDuplicate::Keep,
            Existing::Refuse => OnDuplicate::Refuse,
            Existing::Replace => OnDuplicate::Replace,
        };
        (options.resume, options.errors) = (self.resume, self.errors);
        options.errors_max = self.errors_max;
        let bar = bar("bytes read");
        let input: Box<dyn Read + Send> = match &self.file {
            Some(path) => {
                let file =
                    File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
                bar.set_length(file.metadata()?.len());
                Box::new(file)
            }
            None => Box::new(io::stdin()),
        };
        let (shown, start) = (bar.clone(), Instant::now());
        let show = move |progress: TransferProgress| shown.set_position(progress.bytes);
        let collection = store.collection(&self.collection)?;
        let report = collection.import(input, options, show).await.context("import stopped")?;
        bar.finish_and_clear();
        let seconds = start.elapsed().as_secs_f64();
        if as_json {
            println!(
                "{}",
                json!({
                    "read": report.read,
                    "imported": report.imported,
                    "kept": report.kept,
                    "refused": report.refused,
                    "resumed": report.resumed,
                    "bytes": report.bytes,
                    "seconds": seconds,
                })
            );
        } else {
            println!(
                "{} documents read: {} stored, {} kept, {} refused; {seconds:.1} s",
                report.read, report.imported, report.kept, report.refused
            );
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(super) struct Export {
    collection: String,
    /// The file; standard output if there is none.
    file: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "json")]
    format: Form,
    /// Columns of a CSV file, as field paths; by default all there are.
    #[arg(long, value_delimiter = ',')]
    fields: Vec<String>,
}

impl Export {
    pub(super) async fn run(self, store: &Store, as_json: bool) -> Result<()> {
        let mut options = ExportOptions::default();
        (options.format, options.extended) = self.format.format();
        options.fields = self.fields;
        let output: Box<dyn Write + Send> = match &self.file {
            Some(path) => Box::new(
                File::create(path).with_context(|| format!("cannot create {}", path.display()))?,
            ),
            None => Box::new(io::stdout()),
        };
        let bar = bar("documents written");
        let shown = bar.clone();
        let show = move |progress: TransferProgress| shown.set_position(progress.documents);
        let collection = store.collection(&self.collection)?;
        let report = collection.export(output, options, show).await.context("export stopped")?;
        bar.finish_and_clear();
        // Standard output holds the documents then.
        if self.file.is_none() {
            return Ok(());
        }
        if as_json {
            println!("{}", json!({"documents": report.documents, "bytes": report.bytes}));
        } else {
            println!("{} documents, {} bytes", report.documents, report.bytes);
        }
        Ok(())
    }
}
