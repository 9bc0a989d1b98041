//! Bit rot: every byte of a small store, flipped one at a time, is harmless or named.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hearth_jsonstore::{
    Error, MasterKey, Options, Recovery, Result, Store, block_on,
    testing::{FaultKind, FaultPlan, SimEnv, SimVfs, hooks, small_options},
};

fn options(vfs: &SimVfs, encrypted: bool) -> Options {
    let mut options = small_options(vfs, &Arc::new(SimEnv::new(5)));
    options.key = encrypted.then(|| MasterKey::new([3; 32]));
    options
}

/// A store with segments, a log with several groups, and an orderly end.
fn build(encrypted: bool) -> SimVfs {
    let vfs = SimVfs::new();
    block_on(async {
        let store = Store::open(options(&vfs, encrypted)).await.unwrap();
        let c = store.collection("c").unwrap();
        for i in 0..6 {
            c.put(&format!("{{\"_id\":{i},\"v\":\"{}\"}}", "abc".repeat(30))).await.unwrap();
        }
        store.checkpoint().await.unwrap();
        c.delete(3).await.unwrap();
        c.put("{\"_id\":9,\"v\":1}").await.unwrap();
        hooks::mark(&store);
        c.put("{\"_id\":10,\"v\":1}").await.unwrap();
        drop(c);
        store.close().await.unwrap();
    });
    vfs
}

fn read(vfs: &SimVfs, encrypted: bool, recovery: Recovery) -> Result<BTreeMap<String, String>> {
    block_on(async {
        let mut options = options(vfs, encrypted);
        options.recovery = recovery;
        let store = Store::open(options).await?;
        let documents = store.collection("c")?.scan(..).collect().await?;
        let all =
            documents.iter().map(|d| (d.value()["_id"].to_string(), d.json().to_owned())).collect();
        store.verify().await?;
        Ok(all)
    })
}

/// All bytes in the long run and where an optimised build is at hand (`cargo xtask test` makes
/// one); otherwise a sample of the padding and of the encrypted store.
#[test]
fn every_flipped_byte_is_harmless_or_named() {
    let every = ["E2E_EVERY_BYTE", "E2E_LONG"].iter().any(|name| std::env::var(name).is_ok());
    for encrypted in [false, true] {
        let vfs = build(encrypted);
        let want = read(&vfs.fork(), encrypted, Recovery::Strict).unwrap();
        assert_eq!(want.len(), 7);
        let mut places = Vec::new();
        let mut total = 0;
        for (path, len) in vfs.files() {
            let content = vfs.contents(&path).unwrap();
            total += len;
            places.extend(
                (0..len)
                    .filter(|byte| every || is_sampled(&content, *byte, encrypted))
                    .map(|byte| (path.clone(), byte)),
            );
        }
        let (next, named) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| {
                    while let Some((path, byte)) = places.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        if is_named(&vfs, encrypted, path, *byte, &want) {
                            named.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let (tried, named) = (places.len(), named.into_inner());
        println!(
            "encrypted={encrypted}: {tried} of {total} bytes flipped: {named} named, {} harmless, 0 other",
            tried - named
        );
        assert!(named > 250 && (!every || tried as u64 == total));
    }
}

/// Zero padding is the larger part of a small store.
fn is_sampled(content: &[u8], byte: u64, encrypted: bool) -> bool {
    let at = byte as usize;
    let zeros = content[at..(at + 8).min(content.len())].iter().all(|b| *b == 0);
    (!zeros || byte.is_multiple_of(61)) && (!encrypted || byte.is_multiple_of(5))
}

/// Flips a bit: true if the damage was named, false if the data was the same.
fn is_named(
    vfs: &SimVfs,
    encrypted: bool,
    path: &Path,
    byte: u64,
    want: &BTreeMap<String, String>,
) -> bool {
    let fork = vfs.fork();
    fork.flip_bit(path, byte, (byte % 8) as u8);
    match read(&fork, encrypted, Recovery::Strict) {
        Ok(found) => {
            assert_eq!(found, *want, "{path:?} byte {byte}: other data");
            false
        }
        Err(Error::Corruption { .. } | Error::UnknownFormat { .. } | Error::WrongKey(_)) => true,
        Err(e) => panic!("{path:?} byte {byte}: {e:?}"),
    }
}

#[test]
fn a_zeroed_or_misdirected_sector_is_noticed() {
    let vfs = build(false);
    let want = read(&vfs.fork(), false, Recovery::Strict).unwrap();
    for (path, len) in vfs.files() {
        for sector in 0..len.div_ceil(512) {
            for bytes in [[0; 512], [0xa5; 512]] {
                let fork = vfs.fork();
                fork.scribble(&path, sector * 512, &bytes);
                if let Ok(found) = read(&fork, false, Recovery::Strict) {
                    assert_eq!(found, want, "{path:?} sector {sector}");
                }
            }
        }
    }
}

#[test]
fn the_scrubber_finds_rot_nobody_reads() {
    let vfs = build(false);
    let env = Arc::new(SimEnv::new(5));
    let (path, len) = vfs.files().into_iter().find(|(p, _)| p.starts_with("/store/seg")).unwrap();
    let store = block_on(Store::open(small_options(&vfs, &env))).unwrap();
    assert!(hooks::scrub(&store));
    assert!(!hooks::scrub(&store), "the rate is limited");
    assert!(store.stats().scrubbed_bytes >= len && store.stats().damage.is_empty());
    vfs.flip_bit(&path, 100, 3);
    env.advance(std::time::Duration::from_secs(61));
    assert!(hooks::scrub(&store));
    assert_eq!(store.stats().damage.len(), 1, "{:?}", store.stats().damage);
}

#[test]
fn torn_tail_and_rot_are_told_apart() {
    let log = PathBuf::from("/store/wal/000001.wal");
    let vfs = SimVfs::new();
    block_on(async {
        let store = Store::open(options(&vfs, false)).await.unwrap();
        let c = store.collection("c").unwrap();
        for i in 0..3 {
            c.put(&format!("{{\"_id\":{i}}}")).await.unwrap();
        }
        vfs.crash_after(Some(0));
    });
    vfs.kill_process();
    // The catalogue and the first document share a group at 4096; the others follow at 8192, 12288.
    let rotten = vfs.fork();
    rotten.flip_bit(&log, 8192 + 60, 1);
    let Err(Error::Corruption { lost_lsn_range: Some((from, to)), .. }) =
        read(&rotten.fork(), false, Recovery::Strict)
    else {
        panic!("a damaged record with a later witness is corruption")
    };
    assert!(from < to);
    let salvaged = read(&rotten, false, Recovery::Salvage).unwrap();
    assert_eq!(salvaged.keys().collect::<Vec<_>>(), ["0", "2"], "salvage steps over the hole");
    let torn = vfs.fork();
    torn.flip_bit(&log, 12288 + 60, 1);
    let cut = read(&torn, false, Recovery::Strict).unwrap();
    assert_eq!(cut.len(), 2, "without a witness it counts as torn");
}

/// What memory answers, and what no segment covers, is answered though no file can be read.
#[test]
fn a_batch_opens_no_segment_that_it_does_not_need() {
    let vfs = SimVfs::new();
    block_on(async {
        for round in 0..2 {
            let store = Store::open(options(&vfs, false)).await.unwrap();
            let c = store.collection("c").unwrap();
            // The second segment holds documents alone, so that opening the store need not read it.
            for from in [0, 3] {
                for id in from..from + 3 {
                    c.put(&format!("{{\"_id\":{id},\"round\":{round}}}")).await.unwrap();
                }
                if round == 0 {
                    store.checkpoint().await.unwrap();
                }
            }
            if round == 1 {
                vfs.set_fault(Some(FaultPlan {
                    countdown: 0,
                    kind: FaultKind::Eio,
                    forever: true,
                }));
                let found = c.get_many([3, 4, 5, 800, 900]).await.unwrap();
                let rounds = found.iter().map(|d| d.as_ref().map(|d| d.value()["round"].clone()));
                let one = Some(serde_json::json!(1));
                assert!(rounds.eq([one.clone(), one.clone(), one, None, None]));
                assert_eq!(vfs.faults_hit(), 0);
                vfs.set_fault(None);
            }
            drop(c);
            store.close().await.unwrap();
        }
    });
}
