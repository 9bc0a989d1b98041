//! Wrong files, wrong documents, wrong machines: each a named error, nothing lost.

use std::sync::Arc;

use hearth_jsonstore::{
    DocumentError, Error, MasterKey, Options, Store, Update, block_on,
    testing::{SimEnv, SimVfs, hooks, small_options},
};

fn open(options: Options) -> Result<Store, Error> {
    block_on(Store::open(options))
}

fn sim() -> (SimVfs, Arc<SimEnv>, Options) {
    let (vfs, env) = (SimVfs::new(), Arc::new(SimEnv::new(1)));
    let options = small_options(&vfs, &env);
    (vfs, env, options)
}

#[test]
fn foreign_directories_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("photo.jpg"), "x").unwrap();
    let error = open(Options::new(dir.path())).unwrap_err();
    assert!(
        matches!(error, Error::ForeignDirectory { ref found, .. } if found == "photo.jpg"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let mut options = Options::new(dir.path().join("none"));
    options.create = false;
    assert!(matches!(open(options), Err(Error::Io { .. })));
}

#[test]
fn a_second_opener_is_refused_or_reads_only() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(Options::new(dir.path())).unwrap();
    let c = first.collection("c").unwrap();
    block_on(c.put("{\"_id\":1}")).unwrap();
    assert!(matches!(open(Options::new(dir.path())), Err(Error::Locked { .. })));
    let mut options = Options::new(dir.path());
    options.read_only = true;
    let reader = open(options).unwrap();
    let rc = reader.collection("c").unwrap();
    assert!(block_on(rc.get(1)).unwrap().is_some());
    assert!(matches!(block_on(rc.put("{\"_id\":2}")), Err(Error::ReadOnly)));
    drop((rc, reader));
    block_on(c.put("{\"_id\":2}")).unwrap();
    drop((c, first));
    assert!(open(Options::new(dir.path())).is_ok());
}

#[test]
fn a_newer_format_is_named() {
    let (vfs, _, options) = sim();
    drop(open(options.clone()).unwrap());
    // The header frame with another version and a right checksum, as a newer program writes it.
    let path = std::path::Path::new("/store/MANIFEST-000001");
    let mut block = vfs.contents(path).unwrap();
    block[56] = 9;
    let len = u32::from_le_bytes(block[4..8].try_into().unwrap()) as usize;
    let sum = crc32c(&block[4..48 + len]);
    vfs.scribble(path, 0, &sum.to_le_bytes());
    vfs.scribble(path, 56, &[9]);
    assert!(matches!(open(options), Err(Error::UnknownFormat { found: 9, known: 1, .. })));
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |mut sum, byte| {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
        }
        sum
    })
}

#[test]
fn keys_must_fit() {
    let (_, _, mut options) = sim();
    options.key = Some(MasterKey::new([1; 32]));
    drop(open(options.clone()).unwrap());
    let mut other = options.clone();
    other.key = Some(MasterKey::new([2; 32]));
    assert!(matches!(open(other.clone()), Err(Error::WrongKey(_))));
    other.key = None;
    assert!(matches!(open(other), Err(Error::WrongKey(_))));
    assert!(open(options).is_ok());
    let (_, _, mut clear) = sim();
    drop(open(clear.clone()).unwrap());
    clear.key = Some(MasterKey::new([1; 32]));
    assert!(matches!(open(clear), Err(Error::WrongKey(_))));
}

#[test]
fn an_encrypted_store_holds_no_clear_text() {
    let (vfs, _, mut options) = sim();
    options.key = Some(MasterKey::new([1; 32]));
    let store = open(options).unwrap();
    let c = store.collection("c").unwrap();
    block_on(async {
        for i in 0..50 {
            c.put(&format!("{{\"_id\":{i},\"v\":\"a very secret text\"}}")).await.unwrap();
        }
        store.checkpoint().await.unwrap();
        c.put("{\"_id\":99,\"v\":\"a very secret text\"}").await.unwrap();
    });
    for (path, _) in vfs.files() {
        let bytes = vfs.contents(&path).unwrap();
        let found = bytes.windows(9).any(|w| w == b"very secr");
        assert!(!found, "{path:?} holds clear text");
    }
}

#[test]
fn a_full_disk_refuses_writes_and_recovers() {
    let (vfs, _, options) = sim();
    let store = open(options).unwrap();
    let c = store.collection("c").unwrap();
    block_on(c.put("{\"_id\":1}")).unwrap();
    vfs.set_free(Some(100));
    hooks::tick(&store);
    assert!(matches!(block_on(c.put("{\"_id\":2}")), Err(Error::DiskFull { free: 100, .. })));
    assert!(block_on(c.get(1)).unwrap().is_some(), "reads go on");
    vfs.set_free(None);
    hooks::tick(&store);
    block_on(c.put("{\"_id\":2}")).unwrap();
}

#[test]
fn a_failed_sync_poisons_for_good() {
    use hearth_jsonstore::testing::{FaultKind, FaultPlan};
    let (vfs, _, options) = sim();
    let store = open(options.clone()).unwrap();
    let c = store.collection("c").unwrap();
    block_on(c.put("{\"_id\":1}")).unwrap();
    // The next calls are the write and the sync of a group.
    vfs.set_fault(Some(FaultPlan { countdown: 1, kind: FaultKind::Eio, forever: false }));
    assert!(matches!(block_on(c.put("{\"_id\":2}")), Err(Error::Poisoned { .. })));
    assert!(
        matches!(block_on(c.put("{\"_id\":3}")), Err(Error::Poisoned { .. })),
        "no silent retry"
    );
    assert!(block_on(c.get(1)).unwrap().is_some());
    assert!(block_on(c.get(2)).unwrap().is_none(), "what was not acknowledged is not seen");
    drop((c, store));
    let store = open(options).unwrap();
    let c = store.collection("c").unwrap();
    assert!(block_on(c.get(1)).unwrap().is_some());
    block_on(c.put("{\"_id\":3}")).unwrap();
}

#[test]
fn a_clock_that_goes_back_is_harmless() {
    let (_, env, options) = sim();
    let store = open(options).unwrap();
    let c = store.collection("c").unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for wall in [1_800_000_000_000, 5, 0, u64::MAX >> 20] {
        env.set_wall_ms(wall);
        ids.insert(block_on(c.insert("{\"v\":1}")).unwrap());
    }
    assert_eq!(ids.len(), 4);
}

#[test]
fn documents_that_break_a_rule() {
    let (_, _, mut options) = sim();
    options.wal_file_bytes = 1 << 20;
    options.document_bytes_max = 100_000;
    let store = open(options).unwrap();
    let c = store.collection("c").unwrap();
    let refuse = |text: &[u8]| match block_on(c.insert(text)) {
        Err(Error::Document(e)) => e,
        other => panic!("{other:?}"),
    };
    let deep = |n: usize| format!("{{\"a\":{}1{}}}", "[".repeat(n), "]".repeat(n));
    block_on(c.insert(&deep(127))).unwrap();
    assert_eq!(refuse(deep(128).as_bytes()), DocumentError::TooDeep { limit: 128 });
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(100_000));
    assert_eq!(refuse(long.as_bytes()), DocumentError::TooLarge { limit: 100_000 });
    assert!(matches!(refuse(b"{\"a\":\"\xff\"}"), DocumentError::InvalidUtf8 { offset: 6 }));
    assert!(matches!(refuse(b"{\"a\":1,\"a\":2}"), DocumentError::DuplicateMember { .. }));
    assert_eq!(refuse(b"[1]"), DocumentError::NotAnObject);
    assert_eq!(refuse(b"{\"_id\":null}"), DocumentError::InvalidId);
    assert_eq!(refuse(b"{\"_id\":1e999}"), DocumentError::InvalidId);
    // Numbers beyond i64 and f64 come back as they went in.
    let text = r#"{"_id":1,"big":123456789012345678901234567890,"far":1e999,"exact":0.1000000000000000055}"#;
    block_on(c.insert(text)).unwrap();
    assert_eq!(block_on(c.get(1)).unwrap().unwrap().json(), text);
    assert!(matches!(
        block_on(c.update(1, &Update::new().set("_id", 2))),
        Err(Error::Document(DocumentError::IdChanged))
    ));
    for name in ["", "A", "a/b", &"x".repeat(65)] {
        assert!(matches!(store.collection(name), Err(Error::InvalidName)), "{name}");
    }
    let huge = store.begin(hearth_jsonstore::Isolation::Latest);
    let error = block_on(async {
        for i in 0..30 {
            huge.put(&c, &format!("{{\"_id\":{i},\"a\":\"{}\"}}", "x".repeat(90_000))).await?;
        }
        huge.commit().await
    });
    assert!(matches!(error, Err(Error::TransactionTooLarge { .. })));
}

#[test]
fn a_document_of_16_mib() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(Options::new(dir.path())).unwrap();
    let c = store.collection("c").unwrap();
    let text = format!("{{\"_id\":1,\"a\":\"{}\"}}", "x".repeat((16 << 20) - 100));
    block_on(c.insert(&text)).unwrap();
    let error = block_on(c.insert(&format!("{{\"_id\":2,\"a\":\"{}\"}}", "x".repeat(16 << 20))));
    assert!(matches!(error, Err(Error::Document(DocumentError::TooLarge { .. }))));
    block_on(store.checkpoint()).unwrap();
    drop((c, store));
    let store = open(Options::new(dir.path())).unwrap();
    let found = block_on(store.collection("c").unwrap().get(1)).unwrap().unwrap();
    assert_eq!(found.json(), text);
}

#[test]
fn an_old_snapshot_is_given_up_when_space_is_short() {
    let (vfs, env, options) = sim();
    let age = options.max_snapshot_age;
    let store = open(options).unwrap();
    let c = store.collection("c").unwrap();
    block_on(async {
        c.put("{\"_id\":1,\"v\":1}").await.unwrap();
        let old = store.snapshot();
        let mut cursor = c.scan_at(&old, ..);
        env.advance(age);
        c.put("{\"_id\":1,\"v\":2}").await.unwrap();
        let young = store.snapshot();
        hooks::tick(&store);
        assert!(c.get_at(&old, 1).await.unwrap().is_some(), "there is space");
        vfs.set_free(Some(3 << 10));
        hooks::tick(&store);
        store.compact().await.unwrap();
        assert!(matches!(cursor.next().await, Err(Error::SnapshotTooOld)));
        let scan = c.scan_at(&old, ..).collect().await;
        assert!(matches!(scan, Err(Error::SnapshotTooOld)));
        assert_eq!(c.get_at(&young, 1).await.unwrap().unwrap().value()["v"], 2);
        assert_eq!(store.verify().await.unwrap().versions, 2, "one document, one catalogue entry");
        drop((old, cursor));
        assert_eq!(store.stats().snapshots.0, 1, "letting go of it later changes nothing");
        let newest = store.snapshot();
        env.advance(age * 2);
        hooks::tick(&store);
        assert!(c.get_at(&newest, 1).await.is_ok(), "the newest state pins nothing");
    });
}
