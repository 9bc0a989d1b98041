//! Undoes an accident: a store is backed up and its log archived; somebody deletes everything; the
//! store is restored to the commit before. `point-in-time-restore [FOLDER]`, by default a new one.

use std::path::PathBuf;

use anyhow::{Context, Result};
use hearth_jsonstore::{
    Archive, BackupOptions, Backups, Options, RestoreOptions, RestorePoint, Store, block_on,
};
use serde_json::json;

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).map_or_else(
        || std::env::temp_dir().join(format!("point-in-time-restore-{}", std::process::id())),
        PathBuf::from,
    );
    let documents = block_on(run(&folder))?;
    println!("{documents} orders are back in {}", folder.join("restored").display());
    Ok(())
}

async fn run(folder: &std::path::Path) -> Result<usize> {
    let mut options = Options::new(folder.join("store"));
    // Log files are copied there before their space is used again.
    options.archive = Some(Archive::new(folder.join("archive")));
    let store = Store::open(options).await?;
    let orders = store.collection("orders")?;
    for number in 0..100 {
        orders.put(&json!({"_id": number, "total": number * 5})).await?;
    }
    let backup = store.backup(BackupOptions::new(folder.join("backups"))).await?;
    println!("{} holds everything up to commit {}", backup.info.name, backup.info.seq);
    for number in 100..150 {
        orders.put(&json!({"_id": number, "total": number * 5})).await?;
    }
    let good = store.snapshot().seq();
    for number in 0..150 {
        orders.delete(number).await?;
    }
    println!("commit {good} was the last before the accident");

    let mut options = RestoreOptions::new(folder.join("restored"));
    options.to = RestorePoint::Seq(good);
    options.archive = Some(folder.join("archive"));
    // What is not archived yet is still in the store's own log.
    options.log = Some(folder.join("store"));
    let report = Backups::new(folder.join("backups")).restore(options).await?;
    println!("{}: restored up to commit {}", report.backup, report.seq);

    let restored = Store::open(Options::new(folder.join("restored"))).await?;
    let orders = restored.collection("orders")?.scan(..).collect().await?;
    let last = orders.last().context("the orders are there")?;
    anyhow::ensure!(last.value()["total"] == 149 * 5, "the last order is {}", last.json());
    Ok(orders.len())
}
