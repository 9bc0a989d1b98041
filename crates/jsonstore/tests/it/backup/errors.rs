//! What can be missing or wrong: named errors, nothing lost, the store goes on.

use std::path::Path;

use hearth_jsonstore::{
    BackupError, BackupKind, Error, MasterKey, RestoreOptions, RestorePoint, Retention, Vfs,
    block_on, testing::hooks,
};

use super::{ARCHIVE, REPOSITORY, Random, World, assert_same, remove};

/// A full backup, an incremental one, another, and some commits after each.
fn chain(world: &World) {
    let mut random = Random(5);
    for kind in [BackupKind::Full, BackupKind::Incremental, BackupKind::Incremental] {
        (0..20).for_each(|_| world.act(&mut random).unwrap());
        block_on(world.store().checkpoint()).unwrap();
        world.backup(kind).unwrap();
    }
    (0..30).for_each(|_| world.act(&mut random).unwrap());
}

fn backup_error(result: hearth_jsonstore::Result<super::State>) -> BackupError {
    match result {
        Err(Error::Backup(e)) => e,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missing_link_is_named_and_the_store_goes_on() {
    let world = World::new(1);
    chain(&world);
    for (path, _) in world.vfs.files() {
        if path.starts_with("/backups/000002-incremental") {
            let to = Path::new("/elsewhere").join(path.strip_prefix(REPOSITORY).unwrap());
            world.vfs.rename(&path, &to).unwrap();
        }
    }
    let missing = BackupError::MissingLink {
        backup: "000003-incremental".into(),
        needs: "000002-incremental".into(),
    };
    assert_eq!(backup_error(world.restore("/back", RestorePoint::Backup)), missing);
    let verified = block_on(world.backups().verify("000003-incremental"));
    assert!(matches!(verified, Err(Error::Backup(e)) if e == missing));
    // The full one is whole, and a new full backup needs none of them.
    block_on(world.backups().verify("000001-full")).unwrap();
    world.act(&mut Random(3)).unwrap();
    world.backup(BackupKind::Full).unwrap();
    let want = world.model.lock().unwrap().at(u64::MAX);
    assert_same(&world.restore("/back", RestorePoint::Backup).unwrap(), &want, "a new full");
    // Another backup in its place, of the same name: also no link.
    let other = World::new(2);
    chain(&other);
    for (path, _) in other.vfs.files() {
        if path.starts_with("/backups/000002-incremental") {
            let content = other.vfs.contents(&path).unwrap();
            let file = world.vfs.open(&path, hearth_jsonstore::OpenMode::Create).unwrap();
            file.pwrite(&content, 0).unwrap();
        }
    }
    let verified = block_on(world.backups().verify("000003-incremental"));
    assert!(matches!(verified, Err(Error::Backup(e)) if e == missing));
    let foreign = world.backup(BackupKind::Full).unwrap_err();
    assert!(matches!(foreign, Error::Backup(BackupError::OtherStore { .. })), "{foreign:?}");
}

#[test]
fn wrong_keys_are_named_and_no_secret_is_written_down() {
    let mut world = World::with_keys(1, Some(0x5a), Some(0xa7));
    world.open().unwrap();
    chain(&world);
    world.restore("/back", RestorePoint::Latest).unwrap();
    for (path, _) in world.vfs.files() {
        let outside = path.starts_with(REPOSITORY) || path.starts_with(ARCHIVE);
        let content = world.vfs.contents(&path).unwrap();
        for secret in [&[0x5a; 16][..], &[0xa7; 16], b"5a5a5a5a5a", b"a7a7a7a7a7", b"\"pad\""] {
            let found = content.windows(secret.len()).any(|part| part == secret);
            assert!(!outside || !found, "{} holds {secret:?}", path.display());
        }
    }
    let right = world.backup_key.clone();
    for wrong in [None, Some(MasterKey::new([1; 32]))] {
        world.backup_key = wrong;
        let restored = world.restore("/back", RestorePoint::Latest);
        assert!(matches!(restored, Err(Error::WrongKey(_))), "{restored:?}");
        let made = world.backup(BackupKind::Incremental);
        assert!(matches!(made, Err(Error::WrongKey(_))), "{made:?}");
    }
    world.backup_key = right;
    world.store_key = Some(MasterKey::new([1; 32]));
    let opened = world.restore("/back", RestorePoint::Backup);
    assert!(matches!(opened, Err(Error::WrongKey(_))), "{opened:?}");
    // A clear store with a key for its backups leaves nothing in clear.
    let world = World::with_keys(1, None, Some(0xa7));
    world.open().unwrap();
    chain(&world);
    for (path, _) in world.vfs.files() {
        let content = world.vfs.contents(&path).unwrap();
        let found = content.windows(5).any(|part| part == b"\"pad\"" || part == b"xxxxx");
        assert!(!path.starts_with(REPOSITORY) || !found, "{}", path.display());
    }
}

#[test]
fn moments_that_are_not_there_are_named() {
    let world = World::new(1);
    let mut random = Random(9);
    (0..20).for_each(|_| world.act(&mut random).unwrap());
    block_on(world.store().checkpoint()).unwrap();
    let none = backup_error(world.restore("/back", RestorePoint::Latest));
    assert!(matches!(none, BackupError::NoBackup { .. }), "{none:?}");
    let info = world.backup(BackupKind::Full).unwrap();
    let early = backup_error(world.restore("/back", RestorePoint::Seq(info.first_seq - 1)));
    assert!(matches!(early, BackupError::TooEarly { .. }), "{early:?}");
    let early = backup_error(world.restore("/back", RestorePoint::Time(1)));
    assert!(matches!(early, BackupError::TooEarly { .. }), "{early:?}");
    (0..20).for_each(|_| world.act(&mut random).unwrap());
    let last = world.model.lock().unwrap().last();
    let far = backup_error(world.restore("/back", RestorePoint::Seq(last + 1)));
    assert_eq!(far, BackupError::NotReached { wanted: last + 1, reached: last });
    // A bulk load is not in the log.
    world.load(&mut random).unwrap();
    let load = world.model.lock().unwrap().last();
    let way = backup_error(world.restore("/back", RestorePoint::Latest));
    assert_eq!(way, BackupError::LoadInTheWay { seq: load });
    world.restore("/back", RestorePoint::Seq(load - 1)).unwrap();
    world.backup(BackupKind::Incremental).unwrap();
    let want = world.model.lock().unwrap().at(load);
    assert_same(&world.restore("/back", RestorePoint::Latest).unwrap(), &want, "after the load");
    // A target that holds something is left alone.
    let file = world.vfs.open(Path::new("/back/mine"), hearth_jsonstore::OpenMode::Create);
    file.unwrap();
    let exists = block_on(world.backups().restore(RestoreOptions::new("/back"))).unwrap_err();
    assert!(matches!(exists, Error::Backup(BackupError::TargetExists { .. })), "{exists:?}");
}

#[test]
fn a_missing_piece_of_the_log_is_named() {
    let world = World::new(1);
    let mut random = Random(21);
    let some = |random: &mut Random| {
        for _ in 0..60 {
            world.act(random).unwrap();
        }
        block_on(world.store().checkpoint()).unwrap();
        while hooks::step_archive(&world.store()).unwrap() {}
    };
    (0..5).for_each(|_| world.act(&mut random).unwrap());
    let info = world.backup(BackupKind::Full).unwrap();
    some(&mut random);
    some(&mut random);
    let middle = world.model.lock().unwrap().last();
    some(&mut random);
    world.restore("/back", RestorePoint::Latest).unwrap();
    let archived = world.vfs.list(Path::new(ARCHIVE)).unwrap();
    assert!(archived.len() > 3, "{archived:?}");
    let gone = &archived[archived.len() - 2];
    remove(&world.vfs, &format!("{ARCHIVE}/{gone}"));
    let missing = backup_error(world.restore("/back", RestorePoint::Latest));
    assert!(matches!(missing, BackupError::MissingLog { .. }), "{missing:?}");
    let last = world.model.lock().unwrap().last();
    let missing = backup_error(world.restore("/back", RestorePoint::Seq(last)));
    assert!(matches!(missing, BackupError::MissingLog { .. }), "{missing:?}");
    // What lies before the gap is there.
    for seq in [info.seq, info.seq + 3, middle.min(info.seq + 20)] {
        let want = world.model.lock().unwrap().at(seq);
        let found = world.restore("/back", RestorePoint::Seq(seq)).unwrap();
        assert_same(&found, &want, "before the gap");
    }
    // A damaged archive is named, too.
    let victim = Path::new(ARCHIVE).join(&archived[1]);
    world.vfs.flip_bit(&victim, 300, 1);
    let damaged = world.restore("/back", RestorePoint::Seq(middle)).unwrap_err();
    let name = format!("archive/{}", archived[1]);
    assert!(matches!(&damaged, Error::Corruption { file, .. } if *file == name), "{damaged:?}");
}

#[test]
fn an_archive_of_another_store_is_refused() {
    let world = World::new(1);
    let mut random = Random(2);
    (0..40).for_each(|_| world.act(&mut random).unwrap());
    block_on(world.store().checkpoint()).unwrap();
    while hooks::step_archive(&world.store()).unwrap() {}
    *world.store.lock().unwrap() = None;
    remove(&world.vfs, "/store");
    let refused = world.open().unwrap_err();
    assert!(matches!(refused, Error::Backup(BackupError::ForeignArchive { .. })), "{refused:?}");
}

#[test]
fn the_archive_is_kept_within_its_limits() {
    let mut world = World::with_keys(1, None, None);
    world.has_archive = false;
    let mut options = world.options("/store");
    let mut archive = hearth_jsonstore::Archive::new(ARCHIVE);
    archive.bytes_max = Some(6 << 10);
    options.archive = Some(archive);
    *world.store.lock().unwrap() = Some(block_on(hearth_jsonstore::Store::open(options)).unwrap());
    let mut random = Random(2);
    for _ in 0..40 {
        (0..10).for_each(|_| world.act(&mut random).unwrap());
        block_on(world.store().checkpoint()).unwrap();
        while hooks::step_archive(&world.store()).unwrap() {}
    }
    let kept: Vec<_> =
        world.vfs.files().into_iter().filter(|(path, _)| path.starts_with(ARCHIVE)).collect();
    let bytes: u64 = kept.iter().map(|(_, len)| len).sum();
    assert!(!kept.is_empty() && bytes <= 6 << 10, "{kept:?}");
    assert!(!kept.iter().any(|(path, _)| path.ends_with("000001.log")), "the oldest goes first");
}

#[test]
fn retention_keeps_what_kept_backups_build_on_and_one_sound_full() {
    let world = World::new(1);
    let mut random = Random(4);
    let day = std::time::Duration::from_secs(86_400);
    for kind in [
        BackupKind::Full,
        BackupKind::Incremental,
        BackupKind::Full,
        BackupKind::Incremental,
        BackupKind::Incremental,
    ] {
        (0..15).for_each(|_| world.act(&mut random).unwrap());
        block_on(world.store().checkpoint()).unwrap();
        world.backup(kind).unwrap();
        world.env.advance(day);
    }
    let names = || -> Vec<String> {
        block_on(world.backups().list()).unwrap().into_iter().map(|info| info.name).collect()
    };
    let mut retention = Retention::default();
    (retention.last, retention.daily, retention.weekly) = (1, 0, 0);
    (retention.monthly, retention.yearly) = (0, 0);
    // The newest full is damaged: so the one before it, the last sound one, stays as well.
    let victim = world.vfs.files().into_iter().map(|(path, _)| path);
    let victim = victim.into_iter().find(|path| path.starts_with("/backups/000003-full/seg"));
    world.vfs.flip_bit(&victim.clone().unwrap(), 100, 1);
    let removed = block_on(world.backups().retain(retention)).unwrap();
    assert_eq!(removed, ["000002-incremental"]);
    world.vfs.flip_bit(&victim.unwrap(), 100, 1);
    let removed = block_on(world.backups().retain(retention)).unwrap();
    assert_eq!(removed, ["000001-full"]);
    assert_eq!(names(), ["000003-full", "000004-incremental", "000005-incremental"]);
    let model = world.model.lock().unwrap().clone();
    for info in block_on(world.backups().list()).unwrap() {
        let mut options = RestoreOptions::new("/back");
        options.backup = Some(info.name.clone());
        let found = world.restore_as(options).unwrap();
        assert_same(&found, &model.at(info.seq), &info.name);
    }
    // With no sound full left nothing goes.
    world.backup(BackupKind::Incremental).unwrap();
    let victim = world.vfs.files().into_iter().map(|(path, _)| path);
    let victim = victim.into_iter().find(|path| path.starts_with("/backups/000003-full/seg"));
    world.vfs.flip_bit(&victim.unwrap(), 100, 1);
    let refused = block_on(world.backups().retain(retention)).unwrap_err();
    assert!(matches!(refused, Error::Backup(BackupError::NoSoundFull)), "{refused:?}");
    assert_eq!(names().len(), 4);
}

#[test]
fn a_drill_restores_for_real() {
    let world = World::with_keys(1, Some(1), None);
    world.open().unwrap();
    chain(&world);
    let key = world.store_key.clone();
    let report = block_on(world.backups().drill("/scratch", key, |_| {})).unwrap();
    assert_eq!(report.backup, "000003-incremental");
    assert!(report.restored.0 > 0 && report.verified.0.documents > 0, "{report:?}");
    let left = world.vfs.files().iter().any(|(path, _)| path.starts_with("/scratch"));
    assert!(!left, "nothing stays");
}

#[test]
fn what_rots_in_the_store_does_not_become_a_backup() {
    let world = World::new(1);
    let mut random = Random(4);
    (0..30).for_each(|_| world.act(&mut random).unwrap());
    block_on(world.store().checkpoint()).unwrap();
    let segment = world.vfs.files().into_iter().map(|(path, _)| path);
    let segment = segment.into_iter().find(|path| path.starts_with("/store/seg")).unwrap();
    world.vfs.flip_bit(&segment, 200, 3);
    let refused = world.backup(BackupKind::Full).unwrap_err();
    let name = segment.strip_prefix("/store").unwrap().to_str().unwrap();
    assert!(matches!(&refused, Error::Corruption { file, .. } if file == name), "{refused:?}");
    assert!(block_on(world.backups().list()).unwrap().is_empty());
    world.act(&mut random).unwrap();
    world.vfs.flip_bit(&segment, 200, 3);
    world.backup(BackupKind::Full).unwrap();
}
