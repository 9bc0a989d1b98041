//! `jsonstore DIR backup`, `restore`, `verify-backup`, `backups`.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    BackupInfo, BackupKind, BackupOptions, BackupProgress, BackupStep, Backups, MasterKey, Options,
    RestoreOptions, RestorePoint, Retention, Store, block_on,
};
use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::{bar, parse_key};

/// The folder of backups and its key.
#[derive(Debug, Args)]
struct Repository {
    /// The folder of backups.
    folder: PathBuf,
    /// Key of the backups: 64 hex digits. It is not the store's.
    #[arg(long, env = "JSONSTORE_BACKUP_KEY", hide_env_values = true)]
    backup_key: Option<String>,
}

impl Repository {
    fn key(&self) -> Result<Option<MasterKey>> {
        self.backup_key.as_deref().map(parse_key).transpose()
    }

    fn open(&self) -> Result<Backups> {
        let backups = Backups::new(&self.folder);
        Ok(match self.key()? {
            Some(key) => backups.with_key(key),
            None => backups,
        })
    }
}

#[derive(Debug, Args)]
pub(super) struct Make {
    #[command(flatten)]
    repository: Repository,
    /// Only what the previous backup does not hold.
    #[arg(long, conflicts_with = "differential")]
    incremental: bool,
    /// Only what the last full backup does not hold.
    #[arg(long)]
    differential: bool,
    /// Hard-link segments where the file system can.
    #[arg(long)]
    link: bool,
    /// Mebibytes to copy per second at most; 0 is no limit.
    #[arg(long, default_value_t = 128)]
    rate: u64,
}

impl Make {
    pub(super) async fn run(self, store: &Store, as_json: bool) -> Result<()> {
        let mut options = BackupOptions::new(&self.repository.folder);
        options.kind = match (self.incremental, self.differential) {
            (true, _) => BackupKind::Incremental,
            (_, true) => BackupKind::Differential,
            _ => BackupKind::Full,
        };
        options.key = self.repository.key()?;
        options.link = self.link;
        options.bytes_per_second_max = self.rate << 20;
        let (bar, show) = shown();
        let start = Instant::now();
        let report = store.backup_with_progress(options, show).await.context("no backup made")?;
        bar.finish_and_clear();
        let [copied, linked, reused] = report.segments;
        if as_json {
            let mut value = info_to_json(&report.info);
            value["segments"] = json!({"copied": copied, "linked": linked, "reused": reused});
            value["seconds"] = json!(start.elapsed().as_secs_f64());
            println!("{value}");
        } else {
            println!(
                "{}: up to commit {}, {} bytes; segments: {copied} copied, {linked} linked, {reused} \
                 in earlier backups; {:.1?}",
                report.info.name,
                report.info.seq,
                report.info.bytes,
                start.elapsed()
            );
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    #[command(flatten)]
    repository: Repository,
    /// The backup to begin with; by default the newest that reaches back far enough.
    #[arg(long)]
    name: Option<String>,
    /// Stop after the commit with this number.
    #[arg(long, conflicts_with_all = ["to_time", "latest"])]
    to_seq: Option<u64>,
    /// Stop before the first commit after this time, like 2026-11-28T10:00:00Z.
    #[arg(long, conflicts_with = "latest")]
    to_time: Option<String>,
    /// Go as far as the log goes.
    #[arg(long)]
    latest: bool,
    /// The archive of the log.
    #[arg(long, value_name = "FOLDER")]
    from_archive: Option<PathBuf>,
    /// The old store, for the log that was not archived yet.
    #[arg(long, value_name = "FOLDER")]
    from_log: Option<PathBuf>,
}

impl Restore {
    pub(super) fn run(self, store: &Options, as_json: bool) -> Result<()> {
        let mut options = RestoreOptions::new(&store.path);
        options.backup = self.name.clone();
        options.to = match (self.to_seq, &self.to_time, self.latest) {
            (Some(seq), ..) => RestorePoint::Seq(seq),
            (_, Some(text), _) => RestorePoint::Time(parse_time(text)?),
            (_, _, true) => RestorePoint::Latest,
            _ => RestorePoint::Backup,
        };
        options.archive = self.from_archive;
        options.archive_key = self.repository.key()?;
        options.log = self.from_log;
        options.key = store.key.clone();
        let backups = self.repository.open()?;
        let (bar, show) = shown();
        let start = Instant::now();
        let report = block_on(backups.restore_with_progress(options, show))
            .with_context(|| format!("cannot restore into {}", store.path.display()))?;
        bar.finish_and_clear();
        let seconds = start.elapsed().as_secs_f64();
        let rate = report.bytes as f64 / seconds / 1e6;
        if as_json {
            let (backup, seq, bytes) = (&report.backup, report.seq, report.bytes);
            println!(
                "{}",
                json!({"backup": backup, "seq": seq, "bytes": bytes, "seconds": seconds})
            );
        } else {
            println!(
                "{}: restored up to commit {}, {} bytes in {seconds:.1} s, {rate:.0} MB/s",
                report.backup, report.seq, report.bytes
            );
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    repository: Repository,
    /// The backup; by default all of them.
    #[arg(long)]
    name: Option<String>,
    /// Restore each aside and read every block and document.
    #[arg(long)]
    deep: bool,
    /// Restore the newest for real into this folder, open it, read everything, remove it.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["deep", "name"])]
    drill: Option<PathBuf>,
}

impl Verify {
    pub(super) fn run(self, key: Option<MasterKey>, as_json: bool) -> Result<()> {
        let backups = self.repository.open()?;
        if let Some(scratch) = self.drill {
            return drill(&backups, scratch, key, as_json);
        }
        let names = match self.name {
            Some(name) => vec![name],
            None => block_on(backups.list())?.into_iter().map(|info| info.name).collect(),
        };
        if names.is_empty() {
            bail!("there is no backup in {}", self.repository.folder.display());
        }
        for name in names {
            let (bar, show) = shown();
            let (bytes, documents) = if self.deep {
                let report = block_on(backups.verify_deep(&name, key.clone(), show))?;
                (report.bytes, Some(report.store.documents))
            } else {
                (block_on(backups.verify_with_progress(&name, show))?, None)
            };
            bar.finish_and_clear();
            match (as_json, documents) {
                (true, _) => {
                    println!("{}", json!({"name": name, "bytes": bytes, "documents": documents}));
                }
                (false, Some(documents)) => {
                    println!("{name}: {bytes} bytes, {documents} documents: sound");
                }
                (false, None) => println!("{name}: {bytes} bytes: sound"),
            }
        }
        Ok(())
    }
}

fn drill(backups: &Backups, scratch: PathBuf, key: Option<MasterKey>, as_json: bool) -> Result<()> {
    let (bar, show) = shown();
    let report = block_on(backups.drill(scratch, key, show))?;
    bar.finish_and_clear();
    let ((bytes, restoring), (found, reading)) = (report.restored, report.verified);
    if as_json {
        println!(
            "{}",
            json!({
                "backup": report.backup,
                "bytes": bytes,
                "documents": found.documents,
                "restore_seconds": restoring.as_secs_f64(),
                "verify_seconds": reading.as_secs_f64(),
            })
        );
    } else {
        println!(
            "{}: {bytes} bytes restored in {restoring:.1?}; {} documents read in {reading:.1?}: sound",
            report.backup, found.documents
        );
    }
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    repository: Repository,
    /// Remove what `--last` … `--yearly` do not keep.
    #[arg(long)]
    prune: bool,
    /// Keep so many, whenever they were made.
    #[arg(long, default_value_t = Retention::default().last)]
    last: usize,
    /// Keep the newest of each of so many days.
    #[arg(long, default_value_t = Retention::default().daily)]
    daily: usize,
    /// Of each of so many weeks.
    #[arg(long, default_value_t = Retention::default().weekly)]
    weekly: usize,
    /// Of each of so many months.
    #[arg(long, default_value_t = Retention::default().monthly)]
    monthly: usize,
    /// Of each of so many years.
    #[arg(long, default_value_t = Retention::default().yearly)]
    yearly: usize,
}

impl List {
    pub(super) fn run(self, as_json: bool) -> Result<()> {
        let backups = self.repository.open()?;
        let mut removed = Vec::new();
        if self.prune {
            let mut retention = Retention::default();
            (retention.last, retention.daily, retention.weekly) =
                (self.last, self.daily, self.weekly);
            (retention.monthly, retention.yearly) = (self.monthly, self.yearly);
            removed = block_on(backups.retain(retention))?;
        }
        let infos = block_on(backups.list())?;
        if as_json {
            let list: Vec<Value> = infos.iter().map(info_to_json).collect();
            println!("{}", json!({"backups": list, "removed": removed}));
            return Ok(());
        }
        for name in removed {
            println!("{name:<24} removed");
        }
        for info in infos {
            let time = info.time();
            println!("{:<24} {time}  commit {:>10}  {:>14} bytes", info.name, info.seq, info.bytes);
        }
        Ok(())
    }
}

fn info_to_json(info: &BackupInfo) -> Value {
    json!({
        "name": info.name,
        "kind": info.kind.name(),
        "parent": info.parent,
        "seq": info.seq,
        "first_seq": info.first_seq,
        "time": info.time(),
        "bytes": info.bytes,
        "sealed": info.is_sealed,
        "encrypted": info.is_encrypted,
    })
}

fn parse_time(text: &str) -> Result<u64> {
    match RestorePoint::from_rfc3339(text) {
        Some(RestorePoint::Time(ms)) => Ok(ms),
        _ => bail!("{text} is no time like 2026-11-28T10:00:00Z"),
    }
}

/// A bar, and what moves it.
fn shown() -> (ProgressBar, impl FnMut(BackupProgress) + Send + 'static) {
    let bar = bar("beginning");
    bar.enable_steady_tick(Duration::from_millis(200));
    let shown = bar.clone();
    let mut last = None;
    let show = move |progress: BackupProgress| {
        if last != Some(progress.step) {
            last = Some(progress.step);
            shown.set_message(match progress.step {
                BackupStep::Segments => "segments",
                BackupStep::Log => "log",
                BackupStep::Checking => "checking",
                BackupStep::Finishing => "finishing",
                _ => "beginning",
            });
            shown.set_length(progress.total);
        }
        shown.set_position(progress.done);
    };
    (bar, show)
}
