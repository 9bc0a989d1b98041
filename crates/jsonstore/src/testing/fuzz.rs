//! Fuzz targets as functions: bytes go in; the property is "an error or an answer, never a panic".

use std::{path::Path, sync::Arc};

use super::{SimEnv, env::Random, small_options};
use crate::{
    Store, block_on,
    frame::ALIGN,
    jb1, manifest,
    segment::{Dictionaries, Segment, SegmentBuilder},
    testing::SimVfs,
    vfs::{OpenMode, Vfs, write_all_at},
    wal::{WalConfig, recover},
};

/// Names of the targets.
pub const TARGETS: [&str; 8] =
    ["jb1", "json", "key", "manifest", "query", "segment", "text", "wal"];

/// Runs a target on untrusted bytes.
///
/// # Panics
/// On a bug: that is what fuzzing looks for.
pub fn run_target(name: &str, bytes: &[u8]) {
    match name {
        "jb1" => jb1_target(bytes),
        "json" => json_target(bytes),
        "key" => {
            let _ = crate::key::decode_untrusted(bytes);
        }
        "manifest" => {
            manifest::decode_untrusted(bytes);
        }
        "query" => query_target(bytes),
        "segment" => segment_target(bytes),
        "text" => crate::text::probe::try_bytes(bytes),
        "wal" => wal_target(bytes),
        _ => panic!("no target {name}"),
    }
}

/// A valid input of a target, to mutate.
pub fn sample(name: &str) -> Vec<u8> {
    let text =
        br#"{"_id":1,"a":[1,2.5,"x\n"],"b":{"c":null},"d":true,"e":"y","f":2,"g":3,"h":4,"i":5}"#;
    match name {
        "jb1" => jb1::parse(text, &jb1::Limits::default()).expect("the sample is valid"),
        "json" => text.to_vec(),
        "key" => crate::Id::tuple(&["a\0b".into(), 7.into(), u64::MAX.into()]).0,
        "query" => QUERY.to_vec(),
        "segment" => segment_image(),
        "text" => crate::text::probe::SAMPLE.to_vec(),
        _ => {
            let vfs = small_store();
            let path =
                if name == "wal" { "/store/wal/000001.wal" } else { "/store/MANIFEST-000001" };
            vfs.contents(Path::new(path)).unwrap_or_default()
        }
    }
}

/// Puts the sample where the environment variable `E2E_SEED_DIR` says, for a fuzzer to begin with.
/// It is made by the build that reads it, because a fuzzing build leaves out checksums.
pub fn write_seed(name: &str) {
    let Some(folder) = std::env::var_os("E2E_SEED_DIR") else { return };
    let _ = std::fs::create_dir_all(&folder);
    let _ = std::fs::write(Path::new(&folder).join("sample"), sample(name));
}

/// Bytes changed, cut, repeated: a plain mutator for machines without a fuzzer.
pub fn mutate(sample: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut out = sample.to_vec();
    for _ in 0..1 + random.below(8) {
        if out.is_empty() {
            out.push(0);
        }
        let at = random.below(out.len() as u64) as usize;
        match random.below(6) {
            0 => out[at] = random.next() as u8,
            1 => out[at] ^= 1 << random.below(8),
            2 => out.truncate(at),
            3 => out.insert(at, random.next() as u8),
            4 => out[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5) as usize],
            _ => {
                let len = (random.below(16) as usize).min(out.len() - at);
                let piece = out[at..at + len].to_vec();
                let to = random.below(out.len() as u64) as usize;
                out.splice(to..to, piece);
            }
        }
    }
    out
}

/// Something of every language, in one object.
const QUERY: &[u8] = br#"{"$or":[{"a":{"$in":[1,"x"]}},{"b.c":{"$not":{"$regex":"^x+$"}}}],
"a":{"$elemMatch":{"$gt":1,"$type":"number"}},"$expr":{"$gt":[{"$add":["$f",1]},"$g"]},
"$set":{"b.c":[1]},"$inc":{"a.$[e]":1,"a.$[].b":2,"a.$":3},"$setOnInsert":{"_id":4},
"$push":{"a":{"$each":[1],"$slice":2,"$sort":-1}},"$pull":{"a":{"$gte":2}},
"$group":{"_id":"$d","n":{"$sum":"$f"}},"$unwind":{"path":"$a"},"op":"add","path":"/b/c","value":1}"#;

/// Any JSON is tried as everything that is JSON; what parses runs on the sample document.
fn query_target(bytes: &[u8]) {
    if let Some(path) = std::str::from_utf8(bytes).ok().and_then(|t| crate::JsonPath::parse(t).ok())
    {
        let _ = path.query_located(&serde_json::json!({"a": [{"b": 1}, "x"], "c": {"a": null}}));
    }
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    let document = sample("jb1");
    let limits = jb1::Limits::default();
    if let Ok(filter) = crate::Filter::from_json(&value) {
        filter.matches(&document);
        filter.shape();
    }
    let updates = [
        crate::Update::from_json(&value),
        crate::Update::merge_patch(&value),
        crate::Update::json_patch(&serde_json::json!([value])),
    ];
    for update in updates.into_iter().flatten() {
        if let Ok(after) = crate::query::apply(&document, &update.stamped(0), &limits) {
            let mut text = Vec::new();
            jb1::print(&after, &mut text).expect("what an update writes prints");
            let again = jb1::parse(&text, &limits).expect("what is printed is JSON");
            assert_eq!(again, after, "an update writes other bytes than the parser");
        }
    }
    let filter = crate::Filter::from_json(&value).unwrap_or_default();
    if let Ok(update) = crate::Update::from_json(&value) {
        let _ = update.insert_json(&filter);
        let update = update.clone().array_filters(&serde_json::json!([value])).unwrap_or(update);
        let _ = update.apply_json_found_by(&filter, &serde_json::json!({"a": [1, {"b": 2}]}));
    }
    if let Ok(projection) = crate::Projection::from_json(&value) {
        let _ = projection.apply(&document);
    }
    let _ = crate::Sort::from_json(&value);
    // Each member is a stage by itself, too.
    for (name, operand) in value.as_object().into_iter().flatten() {
        let _ = crate::Pipeline::from_json(&serde_json::json!([{ (name.as_str()): operand }]));
        let _ = crate::Filter::from_json(&serde_json::json!({ (name.as_str()): operand }));
        let _ = crate::Update::from_json(&serde_json::json!({ (name.as_str()): operand }));
    }
}

fn jb1_target(bytes: &[u8]) {
    let mut out = Vec::new();
    let _ = jb1::print(bytes, &mut out);
    let _ = crate::key::encode(bytes, &mut Vec::new());
    let _ = jb1::get(bytes, b"a");
    let update = crate::Update::new().set("a.b", 1).inc("f", 2).push("l", 3).unset("b.c");
    let _ = jb1::apply(bytes, &update, &jb1::Limits::default());
}

fn json_target(bytes: &[u8]) {
    let ours = jb1::parse(bytes, &jb1::Limits::default());
    let theirs: Result<serde_json::Value, _> = serde_json::from_slice(bytes);
    if let (Ok(ours), Ok(theirs)) = (&ours, &theirs) {
        let mut out = Vec::new();
        jb1::print(ours, &mut out).expect("what was parsed prints");
        let back: serde_json::Value =
            serde_json::from_slice(&out).expect("what is printed is JSON");
        assert_eq!(back, *theirs, "two parsers disagree");
    }
    assert!(ours.is_err() || theirs.is_ok() || !is_plain(bytes), "only one of two parsers accepts");
}

/// Numbers beyond f64 are fine for us and not for the other parser.
fn is_plain(bytes: &[u8]) -> bool {
    !bytes.iter().any(|b| matches!(b, b'e' | b'E' | b'0'..=b'9'))
}

fn segment_target(bytes: &[u8]) {
    let vfs = SimVfs::new();
    put_file(&vfs, "/s/00000001.seg", bytes);
    let mut info = segment_info();
    info.bytes = bytes.len() as u64;
    if info.bytes < 240 {
        return;
    }
    let segment = open_segment(&vfs, info);
    let _ = segment.verify(&mut |_| Ok(()));
    let full = crate::lsm::full_key(1, &[0, 0, 0, 7]);
    let hash = crate::codec::hash_key(1, &full[4..]);
    let probe = crate::segment::Probe { full: &full, hash, place: 0, is_found: false };
    let _ = segment.find_all(&mut [probe], u64::MAX, &mut |_, _, _| Ok(()));
}

fn segment_image() -> Vec<u8> {
    let vfs = SimVfs::new();
    build_segment(&vfs);
    vfs.contents(Path::new("/s/00000001.seg")).unwrap_or_default()
}

fn segment_info() -> crate::segment::SegmentInfo {
    static INFO: std::sync::OnceLock<crate::segment::SegmentInfo> = std::sync::OnceLock::new();
    INFO.get_or_init(|| build_segment(&SimVfs::new())).clone()
}

fn build_segment(vfs: &SimVfs) -> crate::segment::SegmentInfo {
    let dictionaries = Dictionaries::default();
    let path = Path::new("/s/00000001.seg");
    let env = SimEnv::new(1);
    let mut builder = SegmentBuilder::create(vfs, &env, &dictionaries, path, 1, [7; 16], None)
        .expect("the simulated disk works");
    for i in 0..200_u32 {
        let value = format!("value {i} {}", "abc".repeat(i as usize % 50));
        let value = (i % 9 != 0).then_some(value.as_bytes());
        builder
            .add(1, &i.to_be_bytes(), u64::from(i) + 1, value)
            .expect("the simulated disk works");
    }
    builder.finish(Path::new("/s")).expect("the simulated disk works")
}

fn open_segment(vfs: &SimVfs, info: crate::segment::SegmentInfo) -> Segment {
    let cache = Arc::new(crate::cache::BlockCache::new(1 << 16, 0));
    let path = "/s/00000001.seg".into();
    Segment::new(Arc::new(vfs.clone()), cache, Arc::default(), path, [7; 16], None, info)
}

fn wal_target(bytes: &[u8]) {
    let vfs = SimVfs::new();
    put_file(&vfs, "/w/000001.wal", bytes);
    let Some(store_id) = bytes.get(60..76).and_then(|b| b.try_into().ok()) else { return };
    let config = WalConfig {
        dir: "/w".into(),
        file_bytes: 48 << 10,
        grow_bytes: 8 << 10,
        store_id,
        key: None,
    };
    let floor = config.file_bytes + ALIGN;
    for salvage in [false, true] {
        if let Ok(found) = recover(&vfs.fork(), &config, floor, salvage, false, &mut |_, _| {}) {
            for (_, payload) in found.commits {
                let _ = crate::commit::decode(&payload, 1);
            }
        }
    }
}

fn put_file(vfs: &SimVfs, path: &str, bytes: &[u8]) {
    let file = vfs.open(Path::new(path), OpenMode::Create).expect("the simulated disk works");
    write_all_at(&*file, bytes, 0).expect("the simulated disk works");
}

/// A store with a few documents, as files.
fn small_store() -> SimVfs {
    let vfs = SimVfs::new();
    let env = Arc::new(SimEnv::new(1));
    block_on(async {
        let store = Store::open(small_options(&vfs, &env)).await.expect("the simulated disk works");
        let docs = store.collection("docs").expect("the name is valid");
        for i in 0..10 {
            docs.put(&format!("{{\"_id\":{i},\"v\":\"{}\"}}", "x".repeat(i * 10)))
                .await
                .expect("it works");
        }
    });
    vfs
}
