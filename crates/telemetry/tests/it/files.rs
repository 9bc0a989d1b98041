//! Log files: rotation, reopening, a full disk, a writer that is gone.

use std::{fs, path::Path};

use hearth_telemetry::{AccessFormat, AccessLog, Output, Rotation, Target};

use crate::{connection, exchange, head};

fn output(path: &Path) -> Output {
    Output::to(Target::File(path.into()))
}

fn targets(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.split(' ').nth(6).unwrap().to_owned()).collect()
}

#[test]
fn writes_what_waits_when_the_guard_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    fs::write(&path, "0 1 2 3 4 5 /before\n").unwrap();
    let (log, guard) = AccessLog::start(AccessFormat::Common, &output(&path)).unwrap();
    let connection = connection();
    for number in 0..10_000 {
        exchange(&log, &connection, &head(&format!("/{number}")));
    }
    let dropped = usize::try_from(guard.stats().dropped_lines).unwrap();
    drop(guard);
    let lines = targets(&path);
    assert_eq!(lines.len() + dropped, 10_001);
    assert_eq!(lines[0], "/before");
    // Nothing is written any more, and nothing breaks.
    exchange(&log, &connection, &head("/late"));
    assert_eq!(targets(&path).len(), lines.len());
}

#[test]
fn keeps_the_youngest_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let output = output(&path).rotation(Rotation::by_size(1000, 2));
    let (log, guard) = AccessLog::start(AccessFormat::Common, &output).unwrap();
    for number in 0..100 {
        exchange(&log, &connection(), &head(&format!("/{number}")));
    }
    drop(guard);
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["access.log", "access.log.1", "access.log.2"]);
    let mut all = targets(&dir.path().join("access.log.2"));
    all.extend(targets(&dir.path().join("access.log.1")));
    all.extend(targets(&path));
    let want: Vec<_> = (100 - all.len()..100).map(|number| format!("/{number}")).collect();
    assert_eq!(all, want);
    for name in names {
        assert!(fs::metadata(dir.path().join(name)).unwrap().len() <= 1000);
    }
}

#[test]
fn goes_on_in_a_new_file_after_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("access.log"), dir.path().join("moved"));
    let (log, guard) = AccessLog::start(AccessFormat::Common, &output(&path)).unwrap();
    exchange(&log, &connection(), &head("/before"));
    fs::rename(&path, &moved).unwrap();
    guard.reopen();
    while !path.exists() {
        std::thread::yield_now();
    }
    exchange(&log, &connection(), &head("/after"));
    drop(guard);
    assert_eq!(targets(&moved), ["/before"]);
    assert_eq!(targets(&path), ["/after"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_trouble() {
    let mut output = output(Path::new("/dev/full"));
    output.flush_interval = std::time::Duration::ZERO;
    let (log, guard) = AccessLog::start(AccessFormat::Json, &output).unwrap();
    for _ in 0..100 {
        exchange(&log, &connection(), &head("/"));
        std::thread::yield_now();
    }
    while guard.stats().troubles == 0 {
        std::thread::yield_now();
    }
    for _ in 0..100 {
        exchange(&log, &connection(), &head("/"));
        std::thread::yield_now();
    }
    assert_eq!(guard.stats().troubles, 1);
}

#[test]
fn a_folder_that_is_missing_is_an_error() {
    let error = AccessLog::start(AccessFormat::Json, &output(Path::new("/nowhere/access.log")));
    let error = error.unwrap_err();
    assert_eq!(error.to_string(), "cannot open the log `/nowhere/access.log`");
    assert_eq!(error.source.kind(), std::io::ErrorKind::NotFound);
}
