//! The tests have teeth: each deliberate bug must be caught by the suite.
//!
//! `cargo xtask test` builds the suite once with `--cfg hearth_bug="any"`, where an environment
//! variable arms one bug, and then runs this program, which runs the suite once per bug. Without
//! such a build there is nothing to do here.
#![allow(clippy::unwrap_used, reason = "a test of tests")]

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Each bug, and the part of the suite that has to notice it. The slow ones come first.
const BUGS: &[(&str, &str)] = &[
    ("skip_current_sync", "small_worlds::every_crash"),
    ("skip_manifest_dir_sync", "small_worlds::every_crash"),
    ("act_on_cached_manifest", "small_worlds::a_crash"),
    ("roll_without_sync", "order::a_new"),
    ("ack_before_write", "order::nothing"),
    ("archive_not_synced", "backup::faults::the_archive"),
    ("backup_forgets_segment", "backup::history::every_backup"),
    ("backup_log_before_pin", "backup::history::every_backup"),
    ("backup_trusts_numbers", "backup::history::a_restored"),
    ("backup_without_pin", "backup::history::every_backup"),
    ("level_0_in_order", "simulation::random"),
    ("load_in_doubt", "simulation::random"),
    ("load_seen_early", "simulation::random"),
    ("load_unflushed", "simulation::random"),
    ("load_unmarked", "backup::errors::moments"),
    ("recycle_before_archive", "backup::faults::the_archive"),
    ("restore_without_dir_sync", "backup::faults::a_crash_or"),
    ("retention_forgets_parents", "backup::errors::retention"),
    ("drop_tombstones_early", "order::what_is_deleted"),
    ("count_expired", "expiry::"),
    ("expire_by_now", "expiry::"),
    ("expire_unfollowed", "simulation::random"),
    ("expire_unseen", "expiry::"),
    ("floor_too_high", "simulation::random"),
    ("forget_change_floor", "live::"),
    ("forget_change_record", "live::"),
    ("forget_index_delete", "index::"),
    ("gc_ignores_snapshots", "simulation::random"),
    ("gc_off_by_one", "simulation::random"),
    ("ignore_block_crc", "rot::"),
    ("ignore_chain", "chain::"),
    ("ignore_frame_crc", "simulation::random"),
    ("ignore_salt", "chain::"),
    ("leak_locks", "cancel::every"),
    ("lose_last_op", "simulation::random"),
    ("no_cache_invalidation", "simulation::random"),
    ("no_padding", "order::blocks"),
    ("no_range_validation", "api::isolation"),
    ("no_validation", "isolation::simulated"),
    ("no_witness", "rot::torn"),
    ("no_write_conflict", "isolation::simulated"),
    ("partial_by_old_image", "index::"),
    ("publish_before_sync", "simulation::random"),
    ("ready_before_scanned", "index::"),
    ("recovery_without_sync", "simulation::random"),
    ("remove_before_manifest", "simulation::random"),
    ("replay_flushed", "order::what_is_in"),
    ("replay_stops_early", "simulation::random"),
    ("same_victim", "unit:lock::tests::nobody"),
    ("skip_log_sync", "simulation::random"),
    ("skip_manifest_sync", "simulation::random"),
    ("skip_unique_check", "index::"),
    ("skip_segment_dir_sync", "simulation::random"),
    ("skip_segment_sync", "simulation::random"),
    ("skip_wal_dir_sync", "simulation::random"),
    ("text_build_keeps_changes", "text::"),
    ("text_finds_dead", "text::"),
    ("text_finds_shadows", "text::"),
    ("text_fold_forgets_dead", "text::"),
    ("text_forgets_adjustment", "text::"),
    ("text_forgets_old", "text::"),
    ("text_phrase_ignores_order", "text::"),
    ("trust_the_cache", "small_worlds::every_call"),
    ("unique_beside_expired", "simulation::random"),
    ("unfair_locks", "isolation::nobody"),
];

/// A bug that makes the suite hang is caught as well.
const HANGS_AFTER: Duration = Duration::from_secs(120);

#[test]
fn every_bug_is_caught() {
    let Ok(suite) = std::env::var("E2E_TEETH_SUITE") else {
        println!("skipped: `cargo xtask test` builds what this needs");
        return;
    };
    let unit = std::env::var("E2E_TEETH_UNIT").unwrap();
    let only = std::env::var("E2E_TEETH_ONLY").unwrap_or_default();
    let parts = BUGS.iter().filter(|(bug, _)| bug.contains(&only));
    let runs: Vec<_> = parts
        .map(|(bug, part)| match part.strip_prefix("unit:") {
            Some(part) => (*bug, unit.as_str(), part),
            None => (*bug, suite.as_str(), *part),
        })
        .collect();
    for (binary, part) in distinct(&runs) {
        assert!(passes(Path::new(binary), "", part, "2"), "{part} fails without a bug");
    }
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((bug, binary, part)) = runs.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let start = Instant::now();
                    let passed = passes(Path::new(binary), bug, part, "60");
                    let verdict = if passed { "MISSED" } else { "caught" };
                    println!("{bug:<24} {verdict} after {:.1?} ({part})", start.elapsed());
                    if passed {
                        missed.lock().unwrap().push(*bug);
                    }
                }
            });
        }
    });
    assert!(missed.lock().unwrap().is_empty(), "not caught: {missed:?}");
    println!("{} deliberate bugs, all caught", runs.len());
}

/// The parts of the suite that are used, each once.
fn distinct<'a>(
    runs: &[(&str, &'a str, &'a str)],
) -> std::collections::BTreeSet<(&'a str, &'a str)> {
    runs.iter().map(|(_, binary, part)| (*binary, *part)).collect()
}

/// True if the suite does not notice.
fn passes(binary: &Path, bug: &str, part: &str, seconds: &str) -> bool {
    let mut child = Command::new(binary)
        .arg(part)
        .env("E2E_BUG", bug)
        .env("E2E_SIM_SECONDS", seconds)
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        if start.elapsed() > HANGS_AFTER {
            child.kill().unwrap();
            child.wait().unwrap();
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
