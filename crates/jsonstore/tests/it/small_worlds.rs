//! Exhaustive small worlds: a crash at every call, and every outcome of each crash.

use std::{collections::BTreeMap, sync::Arc};

use hearth_jsonstore::{
    Error, Options, Result, Store, block_on,
    testing::{FaultKind, FaultPlan, SimEnv, SimVfs, hooks, small_options},
};

/// One step of a workload.
#[derive(Debug, Clone, Copy)]
enum Step {
    Put(i64, u64),
    Delete(i64),
    Both(i64, i64, u64),
    Checkpoint,
    Compact,
    Mark,
    Reopen,
}

use Step::{Both, Checkpoint, Compact, Delete, Mark, Put, Reopen};

const WORKLOADS: [&[Step]; 6] = [
    &[Put(1, 1), Put(2, 2), Put(1, 3)],
    &[Put(1, 1), Checkpoint, Put(1, 2), Put(2, 2)],
    &[Both(1, 2, 1), Reopen, Both(1, 2, 2), Delete(1)],
    &[Put(1, 1), Checkpoint, Delete(1), Checkpoint, Compact],
    &[Put(1, 1), Mark, Put(2, 1), Reopen, Mark, Put(3, 1)],
    &[Put(1, 1), Reopen, Checkpoint, Put(2, 1), Reopen, Put(3, 3)],
];

type State = BTreeMap<i64, u64>;

/// What must and what may be there after a crash.
#[derive(Debug, Clone, Default)]
struct Expected {
    acked: State,
    /// After the operation that was under way.
    next: Option<State>,
}

fn options(vfs: &SimVfs) -> Options {
    small_options(vfs, &Arc::new(SimEnv::new(5)))
}

async fn put(store: &Store, id: i64, v: u64) -> Result<()> {
    store.collection("c")?.put(&format!("{{\"_id\":{id},\"v\":{v}}}")).await.map(drop)
}

/// Runs a workload as far as it gets.
fn run(vfs: &SimVfs, steps: &[Step], expected: &mut Expected) -> Result<()> {
    block_on(async {
        let mut store = Store::open(options(vfs)).await?;
        for step in steps {
            let mut next = expected.acked.clone();
            match *step {
                Put(id, v) => {
                    next.insert(id, v);
                }
                Delete(id) => {
                    next.remove(&id);
                }
                Both(a, b, v) => {
                    next.insert(a, v);
                    next.insert(b, v);
                }
                _ => {}
            }
            expected.next = Some(next.clone());
            match *step {
                Put(id, v) => put(&store, id, v).await?,
                Delete(id) => {
                    store.collection("c")?.delete(id).await?;
                }
                Both(a, b, v) => {
                    let c = &store.collection("c")?;
                    store
                        .transact(|tx| async move {
                            tx.put(c, &format!("{{\"_id\":{a},\"v\":{v}}}")).await?;
                            tx.put(c, &format!("{{\"_id\":{b},\"v\":{v}}}")).await?;
                            Ok(())
                        })
                        .await?;
                }
                Checkpoint => store.checkpoint().await?,
                Compact => store.compact().await?,
                Mark => hooks::mark(&store),
                Reopen => {
                    // An orderly close every other time.
                    if expected.acked.len().is_multiple_of(2) {
                        store.close().await?;
                    } else {
                        drop(store);
                    }
                    store = Store::open(options(vfs)).await?;
                }
            }
            expected.acked = next;
            expected.next = None;
        }
        Ok(())
    })
}

fn read_all(store: &Store) -> Result<State> {
    let documents = block_on(async { store.collection("c")?.scan(..).collect().await })?;
    let pair = |d: hearth_jsonstore::Document| {
        (d.value()["_id"].as_i64().unwrap(), d.value()["v"].as_u64().unwrap())
    };
    Ok(documents.into_iter().map(pair).collect())
}

#[track_caller]
fn check(vfs: &SimVfs, expected: &Expected, what: &str) {
    let store = match block_on(Store::open(options(vfs))) {
        Ok(store) => store,
        Err(e) => panic!("{what}: does not open: {e:?}"),
    };
    let found = read_all(&store).unwrap();
    let fits = found == expected.acked || expected.next.as_ref() == Some(&found);
    assert!(fits, "{what}: found {found:?}, expected {expected:?}");
    // It must go on working, and twice recovered must be the same as once.
    block_on(put(&store, 50, 1)).unwrap();
    drop(store);
    let store = block_on(Store::open(options(vfs))).unwrap();
    let mut want = found;
    want.insert(50, 1);
    assert_eq!(read_all(&store).unwrap(), want, "{what}: after going on");
}

/// What is seen after a crash, a power cut must not take. After a failed sync the cache calls
/// bytes clean that are not on the disk, and the next process reads them there.
#[track_caller]
fn check_seen(vfs: &SimVfs, what: &str) {
    vfs.kill_process();
    let Ok(store) = block_on(Store::open(options(vfs))) else { return };
    let seen = read_all(&store).unwrap();
    vfs.crash_after(Some(0));
    drop(store);
    // Of what is pending nothing survives, or all of it: names that recovery removed, too.
    for kept in [0, 1] {
        let fork = vfs.fork();
        fork.power_cut(&mut |n| kept.min(n - 1));
        let store = block_on(Store::open(options(&fork)));
        let store = store.unwrap_or_else(|e| panic!("{what}, kept {kept}: {e:?}"));
        assert_eq!(read_all(&store).unwrap(), seen, "{what}: seen, and lost by a power cut");
    }
}

#[test]
fn every_crash_point_and_every_outcome() {
    let (mut points, mut outcomes) = (0, 0);
    for steps in WORKLOADS {
        let probe = SimVfs::new();
        run(&probe, steps, &mut Expected::default()).unwrap();
        let total = probe.calls();
        for point in 0..=total {
            let vfs = SimVfs::new();
            vfs.crash_after(Some(point));
            let mut expected = Expected::default();
            let _ = run(&vfs, steps, &mut expected);
            points += 1;
            let mut choices = 0;
            vfs.fork().power_cut(&mut |_| {
                choices += 1;
                0
            });
            let tried = subsets(choices);
            for subset in &tried {
                let fork = vfs.fork();
                let mut at = 0;
                fork.power_cut(&mut |_| {
                    at += 1;
                    u32::from(subset.contains(&(at - 1)))
                });
                outcomes += 1;
                check(
                    &fork,
                    &expected,
                    &format!("{steps:?} at {point} of {total}, kept {subset:?} of {choices}"),
                );
            }
            vfs.kill_process();
            check(&vfs, &expected, &format!("{steps:?} killed at {point} of {total}"));
        }
    }
    println!("{points} crash points, {outcomes} outcomes");
}

/// Every subset of up to 8 pending events; of more, a selection that includes each one alone and
/// all but each one.
fn subsets(choices: usize) -> Vec<Vec<usize>> {
    if choices <= 8 {
        let member = |set: u32| (0..choices).filter(|i| set & 1 << i != 0).collect();
        return (0..1_u32 << choices).map(member).collect();
    }
    let all: Vec<usize> = (0..choices).collect();
    let mut sets = vec![vec![], all.clone()];
    for i in 0..choices {
        sets.push(vec![i]);
        sets.push(all.iter().copied().filter(|j| *j != i).collect());
    }
    sets.push(all.iter().copied().filter(|i| i % 2 == 0).collect());
    sets.push(all.iter().copied().filter(|i| i % 2 == 1).collect());
    sets
}

#[test]
fn every_call_fails_once_and_for_ever() {
    let mut runs = 0;
    let quick = std::env::var("E2E_LONG").is_err();
    for steps in WORKLOADS.iter().skip(if quick { 3 } else { 0 }).copied() {
        let probe = SimVfs::new();
        run(&probe, steps, &mut Expected::default()).unwrap();
        for kind in [FaultKind::Eio, FaultKind::Enospc, FaultKind::Eintr, FaultKind::Short] {
            for forever in [false, true] {
                if forever && kind == FaultKind::Eintr {
                    continue; // A call that is interrupted for ever never returns; nothing to test.
                }
                for countdown in 0..probe.calls() {
                    let vfs = SimVfs::new();
                    vfs.set_fault(Some(FaultPlan { countdown, kind, forever }));
                    let mut expected = Expected::default();
                    let result = run(&vfs, steps, &mut expected);
                    runs += 1;
                    let what = format!(
                        "{steps:?}, call {countdown} {kind:?} forever={forever}: {result:?}"
                    );
                    if matches!(kind, FaultKind::Eintr | FaultKind::Short) {
                        assert!(result.is_ok(), "{what}");
                    }
                    if let Err(e) = result {
                        let named = matches!(
                            e,
                            Error::Io { .. } | Error::Poisoned { .. } | Error::DiskFull { .. }
                        );
                        assert!(named, "{what}");
                    }
                    vfs.set_fault(None);
                    check_seen(&vfs.fork(), &what);
                    let killed = vfs.fork();
                    killed.kill_process();
                    check(&killed, &expected, &what);
                    vfs.power_cut(&mut |_| 0);
                    check(&vfs, &expected, &what);
                }
            }
        }
    }
    println!("{runs} runs with a fault");
}

/// Recovery acts on what it reads, and what it reads may be only in the cache: a call failed, the
/// process died, and the power fails at any call of the recovery that follows.
#[test]
fn a_crash_at_every_call_of_a_recovery_after_a_failed_call() {
    // Enough of a log that the checkpoint begins another file and lets go of the first.
    let steps: &[Step] = &[Put(1, 1), Put(2, 1), Put(3, 1), Put(4, 1), Put(5, 1), Checkpoint];
    let probe = SimVfs::new();
    run(&probe, steps, &mut Expected::default()).unwrap();
    let mut runs = 0;
    for countdown in 0..probe.calls() {
        let vfs = SimVfs::new();
        vfs.set_fault(Some(FaultPlan { countdown, kind: FaultKind::Eio, forever: false }));
        let mut expected = Expected::default();
        let _ = run(&vfs, steps, &mut expected);
        vfs.kill_process();
        for point in 0.. {
            let fork = vfs.fork();
            fork.crash_after(Some(point));
            let opened = block_on(Store::open(options(&fork)));
            let done = !fork.is_dead();
            fork.crash_after(Some(0));
            drop(opened);
            for kept in [0, 1] {
                let disk = fork.fork();
                disk.power_cut(&mut |n| kept.min(n - 1));
                runs += 1;
                let what = format!("call {countdown}, then {point}, kept {kept}");
                check(&disk, &expected, &what);
            }
            if done {
                break;
            }
        }
    }
    println!("{runs} runs");
}
