//! Alert rules that fire by what they are about.

use std::time::Duration;

use hearth_jsonstore::{
    AlertRule, Error, Filter, Health, Index, Options, Principal, Rate, Store, TextIndex, block_on,
    testing::{FaultKind, FaultPlan, SimEnv, hooks},
};
use serde_json::json;

use super::{captured, real, simulated};

const CALM: Duration = Duration::from_secs(120);

fn rules(health: &Health) -> Vec<AlertRule> {
    health.alerts.iter().map(|alert| alert.rule).collect()
}

/// Looks now and when every limit has been exceeded for long enough.
fn look(store: &Store, env: &SimEnv) -> Health {
    store.health();
    env.advance(Duration::from_secs(11));
    store.health()
}

/// Nothing else is wrong with a store of the simulator, which is tiny.
fn open(
    change: impl FnOnce(&mut Options),
) -> (Store, std::sync::Arc<SimEnv>, hearth_jsonstore::testing::SimVfs) {
    let (store, env, vfs) = simulated(|options| {
        options.alerts.disk_free_bytes_min = 1 << 20;
        change(options);
    });
    assert_eq!(look(&store, &env).score, 100);
    (store, env, vfs)
}

fn fill(store: &Store, count: i32) {
    let all = store.collection("c").unwrap();
    for n in 0..count {
        block_on(all.put(&json!({"_id": n, "n": n, "text": format!("word{n} {n:0100}")}))).unwrap();
    }
}

#[test]
fn a_disk_that_fills_up() {
    let (store, env, vfs) = open(|_| {});
    vfs.set_free(Some(1 << 19));
    let health = look(&store, &env);
    assert_eq!(rules(&health), [AlertRule::DiskNearlyFull]);
    assert!(!health.alerts[0].is_critical && health.alerts[0].detail.contains("524288"));
    vfs.set_free(Some(100));
    assert!(store.health().alerts[0].is_critical);
    vfs.set_free(Some(2 << 20));
    store.health();
    env.advance(CALM);
    assert_eq!(store.health().score, 100);
}

#[test]
fn an_alert_is_logged_when_it_begins_and_when_it_ends() {
    let (store, env, vfs) = open(|_| {});
    let logged = captured(|| {
        vfs.set_free(Some(1 << 19));
        (0..5).for_each(|_| drop(look(&store, &env)));
        vfs.set_free(None);
        store.health();
        env.advance(CALM);
        (0..5).for_each(|_| drop(store.health()));
    });
    let lines: Vec<&str> = logged.lines().collect();
    assert_eq!(lines.len(), 2, "{logged}");
    assert!(lines[0].contains("WARN jsonstore::alert: the disk is nearly full"), "{logged}");
    assert!(lines[0].contains("H-DB-005") && lines[0].contains("524288 bytes"), "{logged}");
    assert!(lines[1].contains("INFO jsonstore::alert: over code=\"H-DB-005\""), "{logged}");
}

#[test]
fn a_snapshot_that_was_forgotten() {
    let (store, env, _vfs) = open(|_| {});
    fill(&store, 1);
    let snapshot = store.snapshot();
    env.advance(Duration::from_secs(290));
    assert_eq!(store.health().score, 100);
    env.advance(Duration::from_secs(20));
    assert_eq!(rules(&look(&store, &env)), [AlertRule::SnapshotHeld]);
    drop(snapshot);
    store.health();
    env.advance(CALM);
    assert_eq!(store.health().score, 100);
}

#[test]
fn writers_outrun_the_compaction() {
    let (store, env, _vfs) = open(|options| {
        options.compaction = false;
        options.alerts.level0_segments_max = 3;
    });
    fill(&store, 400);
    while hooks::step_flush(&store).unwrap() {}
    assert!(store.stats().segments[0] > 3);
    assert_eq!(rules(&look(&store, &env)), [AlertRule::CompactionBehind]);
}

#[test]
fn slow_queries_of_the_last_minute() {
    let (store, env, _vfs) = open(|options| {
        options.slow_query = Some(Duration::ZERO);
        options.alerts.slow_queries_per_minute_max = 5.0;
    });
    fill(&store, 1);
    let all = store.collection("c").unwrap();
    let ask = || block_on(all.find(Filter::default()).count()).unwrap();
    (0..5).for_each(|_| assert_eq!(ask(), 1));
    assert_eq!(look(&store, &env).score, 100);
    assert_eq!(ask(), 1);
    assert_eq!(rules(&look(&store, &env)), [AlertRule::SlowQueries]);
    env.advance(CALM);
    store.health();
    env.advance(CALM);
    assert_eq!(store.health().score, 100);
}

#[test]
fn a_text_index_falls_behind() {
    let (store, env, _vfs) = open(|options| options.alerts.text_pending_max = 20);
    let all = store.collection("c").unwrap();
    block_on(all.create_text_index(TextIndex::new("words").field("text"))).unwrap();
    fill(&store, 30);
    assert_eq!(rules(&look(&store, &env)), [AlertRule::TextBehind]);
    while hooks::step_text(&store).unwrap() {}
    store.health();
    env.advance(CALM);
    assert!(!rules(&store.health()).contains(&AlertRule::TextBehind));
}

#[test]
fn documents_expire_and_nobody_deletes_them() {
    let (store, env, _vfs) = open(|_| {});
    let all = store.collection("c").unwrap();
    block_on(all.create_index(Index::on("at").expire_after(Duration::from_secs(1)))).unwrap();
    while hooks::has_index_jobs(&store) {
        hooks::step_indexes(&store);
    }
    // One pass, which has pauses.
    let sweep = || {
        for _ in 0..10 {
            hooks::step_expiry(&store).unwrap();
            env.advance(Duration::from_millis(20));
        }
    };
    sweep();
    let now = hearth_jsonstore::Env::wall_ms(&*env);
    block_on(all.put(&json!({"_id": 1, "at": now}))).unwrap();
    // The sweeper of this store runs when the test says so: an hour late.
    env.advance(Duration::from_secs(3600));
    sweep();
    assert_eq!(rules(&look(&store, &env)), [AlertRule::ExpiryBehind]);
}

#[test]
fn sessions_are_refused() {
    let (store, env, _vfs) = open(|options| {
        options.guard.operation_rate = Some(Rate { per_second: 1, burst: 45 });
        options.guard.queue_timeout = Duration::ZERO;
    });
    let ada = Principal { user: Some("ada".to_owned()), ip: None };
    let all = store.guarded(&ada).unwrap().collection("c").unwrap();
    let put = |n: i32| block_on(all.put(&json!({"_id": n})));
    for n in 0..45 {
        put(n).unwrap();
    }
    assert_eq!(look(&store, &env).score, 100);
    let refused = (0..60).filter(|n| matches!(put(*n), Err(Error::Busy { .. }))).count();
    assert!(refused > 40, "{refused}");
    assert_eq!(rules(&look(&store, &env)), [AlertRule::SessionsThrottled]);
}

#[test]
fn a_disk_that_fails() {
    let (store, env, vfs) = open(|_| {});
    fill(&store, 400);
    vfs.set_fault(Some(FaultPlan { countdown: 0, kind: FaultKind::Eio, forever: true }));
    assert!(hooks::step_flush(&store).is_err());
    let found = store.health();
    assert!(rules(&found).contains(&AlertRule::BackgroundFailing), "at once: {found:?}");
    let all = store.collection("c").unwrap();
    block_on(all.put(&json!({"_id": 1}))).unwrap_err();
    let found = look(&store, &env);
    assert_eq!((found.score, found.alerts[0].rule), (0, AlertRule::WritesStopped));
    assert!(found.to_string().contains("H-DB-012"), "{found}");
}

#[test]
fn most_look_ups_miss_a_cache_that_is_too_small() {
    for (memory_budget, is_too_small) in [(1 << 20, true), (64 << 20, false)] {
        let (_dir, store) = real(|options| {
            options.memory_budget = memory_budget;
            // A look-up in the filters of a segment is one, too, and is always answered.
            options.alerts.cache_hit_rate_min = 0.7;
            options.alerts.fires_after = Duration::ZERO;
        });
        let all = store.collection("c").unwrap();
        let mut load = block_on(store.load()).unwrap();
        for n in 0..30_000_u64 {
            let noise = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            load.put(&all, &json!({"_id": n, "noise": format!("{noise:x}").repeat(16)})).unwrap();
        }
        block_on(load.finish()).unwrap();
        assert!(!rules(&store.health()).contains(&AlertRule::CacheTooSmall));
        for n in 0..4_000_u64 {
            block_on(all.get(n * 7919 % 30_000)).unwrap().unwrap();
        }
        let fires = rules(&store.health()).contains(&AlertRule::CacheTooSmall);
        assert_eq!(fires, is_too_small, "{:?}", store.stats());
    }
}

#[test]
fn every_code_is_documented() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
    let errors = std::fs::read_to_string(format!("{folder}/errors.md")).unwrap();
    let page = std::fs::read_to_string(format!("{folder}/src/store-monitoring.md")).unwrap();
    for rule in AlertRule::ALL {
        let heading = format!("### {}\n", rule.code());
        assert_eq!(errors.matches(&heading).count(), 1, "{}", rule.code());
        assert!(page.contains(rule.code()), "{}", rule.code());
    }
}

#[test]
fn the_report_is_written_for_others_to_read() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["report.json", "metrics.prom"] {
        let path = dir.path().join(name);
        let mut options = Options::new(dir.path().join(format!("{name}.store")));
        options.report = Some(path.clone());
        // The first look comes five seconds after the opening of a clock that began long ago.
        options.env = std::sync::Arc::new(Late(hearth_jsonstore::RealEnv::new()));
        let store = block_on(Store::open(options)).unwrap();
        let begun = std::time::Instant::now();
        while !path.exists() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        if name.ends_with(".prom") {
            assert!(text.contains("jsonstore_uptime_seconds"), "{text}");
        } else {
            let report: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(report["health"]["score"].is_u64() && report["slow"].is_array(), "{text}");
            assert!(report["metrics"]["operations"]["sync"]["count"].is_u64());
        }
        block_on(store.close()).unwrap();
    }
}

/// A clock that started an hour ago.
#[derive(Debug)]
struct Late(hearth_jsonstore::RealEnv);

impl hearth_jsonstore::Env for Late {
    fn now(&self) -> Duration {
        self.0.now() + Duration::from_secs(3600)
    }

    fn wall_ms(&self) -> u64 {
        self.0.wall_ms()
    }

    fn random(&self) -> u64 {
        self.0.random()
    }

    fn has_threads(&self) -> bool {
        true
    }
}
