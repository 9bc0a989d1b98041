//! A crash, a full disk or a failing one at every call of a backup, an archive and a restore.

use std::path::Path;

use hearth_jsonstore::{
    BackupKind, Error, RestorePoint, Vfs, block_on,
    testing::{FaultKind, FaultPlan, hooks},
};

use super::{ARCHIVE, REPOSITORY, Random, World, assert_same, is_corruption_of, read, remove};

/// Every so many-th call; all of them in the long run.
fn stride() -> usize {
    if std::env::var_os("E2E_LONG").is_some() { 1 } else { 5 }
}

/// A store with segments, a log of several files and a full backup.
fn build() -> World {
    let world = World::new(11);
    let mut random = Random(17);
    for step in 0..60 {
        world.act(&mut random).unwrap();
        if step == 25 {
            world.backup(BackupKind::Full).unwrap();
        }
    }
    world
}

/// The world is what the model says, every backup is sound, and both go on.
fn check(world: &World, what: &str) {
    let store = world.store();
    let model = world.model.lock().unwrap().clone();
    assert_same(&read(&store).unwrap(), &model.at(u64::MAX), what);
    let backups = world.backups();
    for info in block_on(backups.list()).unwrap_or_else(|e| panic!("{what}: {e:?}")) {
        block_on(backups.verify(&info.name)).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    }
    let newest = block_on(backups.list()).unwrap().pop().unwrap();
    let found = world.restore("/back", RestorePoint::Backup);
    let found = found.unwrap_or_else(|e| panic!("{what}: {e:?}"));
    assert_same(&found, &model.at(newest.seq), &format!("{what}: {}", newest.name));
    let mut random = Random(3);
    for _ in 0..5 {
        world.act(&mut random).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    }
    let info = world.backup(BackupKind::Incremental).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    let want = world.model.lock().unwrap().at(info.seq);
    assert_same(&world.restore("/back", RestorePoint::Backup).unwrap(), &want, what);
    let leftovers = world.vfs.files().into_iter().filter(|(path, _)| {
        path.starts_with(REPOSITORY) && path.to_string_lossy().contains("tmp-")
    });
    assert_eq!(leftovers.count(), 0, "{what}: what was not finished is gone");
}

/// Calls of the disk that an operation makes.
fn calls(act: impl Fn(&World)) -> u64 {
    let world = build();
    let before = world.vfs.calls();
    act(&world);
    world.vfs.calls() - before
}

#[test]
fn a_crash_at_any_call_of_a_backup_loses_nothing() {
    for kind in [BackupKind::Full, BackupKind::Incremental] {
        let total = calls(|world| drop(world.backup(kind).unwrap()));
        for at in (0..total).step_by(stride()) {
            for kept in 0..3 {
                let world = build();
                world.vfs.crash_after(Some(at));
                let _ = world.backup(kind);
                *world.store.lock().unwrap() = None;
                let mut random = Random(at);
                world.vfs.power_cut(&mut |n| match kept {
                    0 => 0,
                    1 => n - 1,
                    _ => random.below(u64::from(n)) as u32,
                });
                world.open().unwrap();
                check(&world, &format!("{kind:?}, call {at} of {total}, kept {kept}"));
            }
        }
    }
}

#[test]
fn a_failing_disk_in_any_phase_of_a_backup_is_named_and_the_store_goes_on() {
    let total = calls(|world| drop(world.backup(BackupKind::Incremental).unwrap()));
    for kind in [FaultKind::Enospc, FaultKind::Eio] {
        for countdown in (0..total).step_by(stride()) {
            let world = build();
            world.vfs.set_fault(Some(FaultPlan { countdown, kind, forever: true }));
            let failed = world.backup(BackupKind::Incremental);
            let hit = world.vfs.faults_hit() > 0;
            world.vfs.set_fault(None);
            let what = format!("{kind:?} at call {countdown} of {total}");
            match failed {
                Err(Error::Io { source, .. }) => {
                    let is_full = source.kind() == std::io::ErrorKind::StorageFull;
                    assert!(hit && (is_full || kind == FaultKind::Eio), "{what}: {source}");
                }
                // A full disk does not hinder reading, and at the end only cleaning is left.
                Ok(_) => assert!(!hit || countdown + 6 > total, "{what}"),
                Err(e) => panic!("{what}: {e:?}"),
            }
            check(&world, &what);
        }
    }
}

#[test]
fn a_crash_or_failure_at_any_call_of_a_restore_leaves_all_or_nothing() {
    let restore = |world: &World| {
        let mut options = hearth_jsonstore::RestoreOptions::new("/back");
        options.to = RestorePoint::Latest;
        options.archive = Some(ARCHIVE.into());
        options.log = Some("/store".into());
        block_on(world.backups().restore(options))
    };
    let total = calls(|world| drop(restore(world).unwrap()));
    let want = build().model.lock().unwrap().at(u64::MAX);
    for at in (0..total).step_by(stride()).chain([total]) {
        for kept in 0..2 {
            let world = build();
            world.vfs.crash_after(Some(at));
            let is_done = restore(&world).is_ok();
            *world.store.lock().unwrap() = None;
            world.vfs.power_cut(&mut |n| kept.min(n - 1));
            let what = format!("call {at} of {total}, kept {kept}");
            let is_there = world.vfs.files().iter().any(|(path, _)| path.starts_with("/back/"));
            assert!(is_there || !is_done, "{what}: done and not there");
            if is_there {
                let found = world.read_at("/back").unwrap_or_else(|e| panic!("{what}: {e:?}"));
                assert_same(&found, &want, &what);
            }
        }
        let world = build();
        let plan = FaultPlan { countdown: at, kind: FaultKind::Enospc, forever: true };
        world.vfs.set_fault(Some(plan));
        let failed = restore(&world);
        world.vfs.set_fault(None);
        if let Err(e) = failed {
            assert!(matches!(e, Error::Io { .. }), "call {at}: {e:?}");
            let is_there = world.vfs.files().iter().any(|(path, _)| path.starts_with("/back/"));
            assert!(!is_there, "call {at}: a store in part");
            restore(&world).unwrap();
        }
        assert_same(&world.read_at("/back").unwrap(), &want, "after the disk was full");
    }
}

/// The log goes round and round, with a crash somewhere; each moment since the backup stays.
#[test]
fn the_archive_never_loses_a_piece_of_the_log() {
    let rounds = if stride() == 1 { 300 } else { 40 };
    for round in 0..rounds {
        let world = World::new(round);
        let mut random = Random(round * 31 + 7);
        for _ in 0..10 {
            world.act(&mut random).unwrap();
        }
        let base = world.backup(BackupKind::Full).unwrap();
        for _ in 0..4 {
            if random.below(2) == 0 {
                let plan = FaultPlan {
                    countdown: random.below(80),
                    kind: FaultKind::Enospc,
                    forever: false,
                };
                world.vfs.set_fault(Some(plan));
            } else {
                world.vfs.crash_after(Some(random.below(120)));
            }
            for _ in 0..25 {
                let done = world.act(&mut random).and_then(|()| {
                    let store = world.store();
                    block_on(store.checkpoint())?;
                    let _ = hooks::step_archive(&store);
                    Ok(())
                });
                if done.is_err() {
                    break;
                }
            }
            world.vfs.set_fault(None);
            world.crash(&mut random);
        }
        while hooks::step_archive(&world.store()).unwrap() {}
        let model = world.model.lock().unwrap().clone();
        let archived = world.vfs.list(Path::new(ARCHIVE)).unwrap();
        assert!(archived.iter().any(|name| name.ends_with(".log")), "{archived:?}");
        for seq in [base.seq, (base.seq + model.last()) / 2, model.last()] {
            let what = format!("round {round}, {seq} of {}, {archived:?}", model.last());
            let found = world.restore("/back", RestorePoint::Seq(seq));
            assert_same(&found.unwrap_or_else(|e| panic!("{what}: {e:?}")), &model.at(seq), &what);
        }
    }
}

/// Any flipped bit anywhere in any file of a backup is found, and the file is named.
#[test]
fn every_flipped_byte_of_a_backup_is_found_and_named() {
    let every = ["E2E_EVERY_BYTE", "E2E_LONG"].iter().any(|name| std::env::var(name).is_ok());
    for (store_key, backup_key) in [(None, None), (None, Some(1)), (Some(2), None)] {
        let world = World::with_keys(4, store_key, backup_key);
        world.open().unwrap();
        let mut random = Random(8);
        for kind in [BackupKind::Full, BackupKind::Incremental, BackupKind::Differential] {
            (0..12).for_each(|_| world.act(&mut random).unwrap());
            block_on(world.store().checkpoint()).unwrap();
            world.backup(kind).unwrap();
        }
        let backups = world.backups();
        let names: Vec<String> =
            block_on(backups.list()).unwrap().into_iter().map(|info| info.name).collect();
        for name in &names {
            block_on(backups.verify(name)).unwrap();
        }
        let (mut flips, mut bytes) = (0, 0);
        for (path, len) in world.vfs.files() {
            let Ok(rest) = path.strip_prefix(REPOSITORY) else { continue };
            let Some(name) = names.iter().find(|name| rest.starts_with(name)) else { continue };
            bytes += len;
            for byte in (0..len).step_by(if every { 1 } else { 23 }) {
                let bit = (byte % 8) as u8;
                world.vfs.flip_bit(&path, byte, bit);
                match block_on(backups.verify(name)) {
                    Err(e) if is_corruption_of(&e, &path) => {}
                    other => panic!("{} byte {byte}: {other:?}", path.display()),
                }
                world.vfs.flip_bit(&path, byte, bit);
                flips += 1;
            }
        }
        println!("{bytes} bytes, {flips} flips, all found and named");
        assert!(flips > 300, "{flips} flips are too few");
        // A file that is gone, one that is cut.
        let victim = world.vfs.files().into_iter().map(|(path, _)| path);
        let victim = victim.into_iter().find(|path| path.starts_with("/backups/000001-full/seg"));
        let victim = victim.unwrap();
        let content = world.vfs.contents(&victim).unwrap();
        let file = world.vfs.open(&victim, hearth_jsonstore::OpenMode::Write).unwrap();
        file.set_len(content.len() as u64 - 1).unwrap();
        let cut = block_on(backups.verify("000001-full")).unwrap_err();
        assert!(is_corruption_of(&cut, &victim), "{cut:?}");
        remove(&world.vfs, victim.to_str().unwrap());
        let gone = block_on(backups.verify("000001-full")).unwrap_err();
        assert!(is_corruption_of(&gone, &victim), "{gone:?}");
    }
}
