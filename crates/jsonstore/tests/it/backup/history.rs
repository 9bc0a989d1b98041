//! Over random histories: every backup, and every moment between, is what the model says.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use hearth_jsonstore::{
    BackupError, BackupKind, BackupProgress, Error, RestorePoint, block_on, testing::hooks,
};

use super::{Random, World, assert_same};

const KINDS: [BackupKind; 3] =
    [BackupKind::Full, BackupKind::Incremental, BackupKind::Differential];

fn seeds() -> std::ops::Range<u64> {
    if std::env::var_os("E2E_LONG").is_some() { 0..400 } else { 0..6 }
}

/// While the backup runs, clients write, and the background flushes, compacts and recycles.
fn backup_amid_writes(world: &World, random: &mut Random) {
    let kind = KINDS[random.below(3) as usize];
    let (busy, inner) = (world.clone(), Arc::new(Mutex::new(Random(random.below(1 << 40)))));
    let progress = move |_: BackupProgress| {
        let mut random = inner.lock().unwrap();
        for _ in 0..random.below(4) {
            busy.act(&mut random).unwrap();
        }
        let store = busy.store();
        while random.below(2) == 1 && hooks::step_archive(&store).unwrap() {}
    };
    let options = world.backup_options(kind);
    block_on(world.store().backup_with_progress(options, progress)).unwrap();
}

#[test]
fn every_backup_and_every_moment_is_what_it_was() {
    let mut moments = 0;
    for seed in seeds() {
        let mut random = Random(seed * 7919 + 1);
        let pick = |n: u64| (seed % n == n - 1).then_some(n as u8);
        let world = World::with_keys(seed, pick(4), pick(3));
        world.open().unwrap();
        for _ in 0..5 {
            for _ in 0..random.below(25) {
                world.act(&mut random).unwrap();
            }
            match random.below(6) {
                0 => world.crash(&mut random),
                1 if seed % 2 == 1 => world.load(&mut random).unwrap(),
                _ => {}
            }
            backup_amid_writes(&world, &mut random);
        }
        for _ in 0..random.below(20) {
            world.act(&mut random).unwrap();
        }
        check_backups(&world, seed);
        moments += check_moments(&world, seed);
    }
    println!("{moments} moments restored");
    assert!(moments > 200, "{moments} moments are too few");
}

/// full ∘ incremental = full ∘ differential = the store as it was.
fn check_backups(world: &World, seed: u64) {
    let backups = world.backups();
    let model = world.model.lock().unwrap().clone();
    for info in block_on(backups.list()).unwrap() {
        let what = format!("seed {seed}, {}", info.name);
        block_on(backups.verify(&info.name)).unwrap_or_else(|e| panic!("{what}: {e:?}"));
        let mut options = hearth_jsonstore::RestoreOptions::new("/back");
        options.backup = Some(info.name.clone());
        let found = world.restore_as(options).unwrap_or_else(|e| panic!("{what}: {e:?}"));
        assert_same(&found, &model.at(info.seq), &what);
    }
    let newest = block_on(backups.list()).unwrap().pop().unwrap().name;
    let key = world.store_key.clone();
    let deep = block_on(backups.verify_deep(&newest, key, |_| {}));
    deep.unwrap_or_else(|e| panic!("seed {seed}, {newest}: {e:?}"));
}

fn check_moments(world: &World, seed: u64) -> u64 {
    let infos = block_on(world.backups().list()).unwrap();
    let model = world.model.lock().unwrap().clone();
    let (first, last) = (infos[0].first_seq, model.last());
    let mut moments = 0;
    let mut check = |seq: u64, to: RestorePoint, base: u64| {
        let what = format!("seed {seed}, {to:?} is {seq} of {last}");
        match world.restore("/back", to) {
            Ok(found) => {
                assert_same(&found, &model.at(seq), &what);
                moments += 1;
            }
            Err(Error::Backup(BackupError::LoadInTheWay { seq: load })) => {
                assert!(model.loads.contains(&load) && load > base, "{what}: load {load}");
            }
            Err(e) => panic!("{what}: {e:?}"),
        }
    };
    // Loads leave gaps in the numbers; a moment in one is the commit before.
    let near = |seq: &u64| [seq.saturating_sub(1), *seq];
    let seqs: BTreeSet<u64> = model.states.keys().flat_map(near).chain([first]).collect();
    for seq in seqs.range(first..=last).copied() {
        let base = infos.iter().rev().find(|info| info.first_seq <= seq).unwrap();
        check(seq, RestorePoint::Seq(seq), base.seq);
    }
    let newest = infos.last().unwrap();
    check(last, RestorePoint::Latest, newest.seq);
    // Moments by the clock: between the newest backup and now, just when a commit was made.
    for (seq, ms) in model.times.iter().filter(|(_, ms)| **ms >= newest.wall_ms) {
        let later = model.times.iter().filter(|(_, other)| **other == *ms).map(|(seq, _)| *seq);
        check(later.max().unwrap_or(*seq), RestorePoint::Time(*ms), newest.seq);
    }
    moments
}

#[test]
fn a_restored_store_begins_a_line_of_its_own() {
    for seed in 0..4 {
        let mut random = Random(seed + 99);
        let mut world = World::new(seed);
        let some = |world: &World, random: &mut Random, count: u64| {
            (0..count).for_each(|_| world.act(random).unwrap());
        };
        some(&world, &mut random, 30);
        world.backup(BackupKind::Full).unwrap();
        some(&world, &mut random, 40);
        world.backup(BackupKind::Incremental).unwrap();
        let turn = world.model.lock().unwrap().last();
        some(&world, &mut random, 40);
        block_on(world.store().checkpoint()).unwrap();
        while hooks::step_archive(&world.store()).unwrap() {}
        // This one will be of a line that was left.
        world.backup(BackupKind::Incremental).unwrap();
        // Back to the past; the archive and the folder of backups stay the same.
        let mut options = hearth_jsonstore::RestoreOptions::new("/past");
        options.to = RestorePoint::Seq(turn);
        options.archive = Some(super::ARCHIVE.into());
        options.log = Some("/store".into());
        block_on(world.backups().restore(options)).unwrap();
        *world.store.lock().unwrap() = None;
        super::remove(&world.vfs, "/store");
        for (path, _) in world.vfs.files() {
            if let Ok(rest) = path.strip_prefix("/past") {
                use hearth_jsonstore::Vfs;
                let to = std::path::Path::new("/store").join(rest);
                world.vfs.rename(&path, &to).unwrap();
                world.vfs.sync_dir(to.parent().unwrap()).unwrap();
            }
        }
        world.open().unwrap();
        {
            let mut model = world.model.lock().unwrap();
            model.states.retain(|seq, _| *seq <= turn);
            model.times.retain(|seq, _| *seq <= turn);
        }
        // Numbers of segments and commits are given out again, with other content.
        some(&world, &mut random, 60);
        let info = world.backup(BackupKind::Incremental).unwrap();
        let want = world.model.lock().unwrap().at(info.seq);
        let found = world.restore("/back", RestorePoint::Backup).unwrap();
        assert_same(&found, &want, &format!("seed {seed}"));
        some(&world, &mut random, 30);
        world.crash(&mut random);
        some(&world, &mut random, 10);
        check_moments(&world, seed);
        world.has_archive = false;
    }
}

#[test]
fn linked_backups_equal_copied_ones() {
    let world = World::new(3);
    let mut random = Random(5);
    for _ in 0..40 {
        world.act(&mut random).unwrap();
    }
    block_on(world.store().checkpoint()).unwrap();
    let mut options = world.backup_options(BackupKind::Full);
    options.link = true;
    let report = block_on(world.store().backup(options)).unwrap();
    let [copied, linked, reused] = report.segments;
    assert!(copied == 0 && linked > 0 && reused == 0, "{report:?}");
    for _ in 0..40 {
        world.act(&mut random).unwrap();
    }
    block_on(world.store().compact()).unwrap();
    let want = world.model.lock().unwrap().at(report.info.seq);
    assert_eq!(world.restore("/back", RestorePoint::Backup).unwrap(), want);
}
