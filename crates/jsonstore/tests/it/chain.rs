//! Stale frames: what an older life of a log file left behind must never come back.

use std::{path::PathBuf, sync::Arc};

use hearth_jsonstore::{
    Store, block_on,
    testing::{SimEnv, SimVfs, small_options},
};

fn put(store: &Store, range: std::ops::Range<i64>) {
    let c = store.collection("c").unwrap();
    for i in range {
        block_on(c.put(&format!("{{\"_id\":{i},\"pad\":\"{}\"}}", "p".repeat(3000)))).unwrap();
    }
}

fn ids(store: &Store) -> Vec<i64> {
    let documents = block_on(store.collection("c").unwrap().scan(..).collect()).unwrap();
    documents.iter().map(|d| d.value()["_id"].as_i64().unwrap()).collect()
}

/// Records copied from one store into another of the same shape, at the same place.
#[test]
fn frames_of_another_generation_are_refused() {
    let log = PathBuf::from("/store/wal/000001.wal");
    let [a, b] = [1, 2].map(|seed| {
        let vfs = SimVfs::new();
        let mut options = small_options(&vfs, &Arc::new(SimEnv::new(seed)));
        options.memtable_bytes = 1 << 20;
        options.wal_grow_bytes = 48 << 10;
        let store = block_on(Store::open(options)).unwrap();
        put(&store, if seed == 1 { 0..6 } else { 0..3 });
        vfs.crash_after(Some(0));
        drop(store);
        vfs.kill_process();
        vfs
    });
    // Beyond the end of b lie frames with right positions and links, but another salt.
    let donor = a.contents(&log).unwrap();
    let end = 4096 * 4;
    b.scribble(&log, end, &donor[end as usize..]);
    let store = block_on(Store::open(small_options(&b, &Arc::new(SimEnv::new(3))))).unwrap();
    assert_eq!(ids(&store), [0, 1, 2]);
}

/// A record that repeats an older one of the same generation breaks the chain.
#[test]
fn a_frame_that_does_not_follow_the_last_is_refused() {
    let log = PathBuf::from("/store/wal/000001.wal");
    let vfs = SimVfs::new();
    let options = small_options(&vfs, &Arc::new(SimEnv::new(1)));
    let store = block_on(Store::open(options.clone())).unwrap();
    put(&store, 0..4);
    vfs.crash_after(Some(0));
    drop(store);
    vfs.kill_process();
    // The third record claims to follow another one than it does, and sums right; the fourth,
    // which would be its witness, is gone.
    let image = vfs.contents(&log).unwrap();
    let mut third = image[4096 * 3..4096 * 4].to_vec();
    third[16] ^= 0x40;
    let salt = u32::from_le_bytes(image[48 + 36..48 + 40].try_into().unwrap());
    let len = u32::from_le_bytes(third[4..8].try_into().unwrap()) as usize;
    let sum = crc32c(salt, &third[4..48 + len]);
    third[..4].copy_from_slice(&sum.to_le_bytes());
    vfs.scribble(&log, 4096 * 3, &third);
    vfs.scribble(&log, 4096 * 4, &[0; 4096]);
    let store = block_on(Store::open(options)).unwrap();
    assert_eq!(ids(&store), [0, 1], "it and what follows count as torn");
}

fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!seed, |mut sum, byte| {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
        }
        sum
    })
}
