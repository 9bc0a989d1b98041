use std::{sync::Arc, task::Waker};

use super::*;

const LONG: Duration = Duration::from_secs(3600);

fn record(n: u8) -> LockId {
    LockId::Record(1, Bytes::copy_from_slice(&[n]))
}

fn is_granted(wait: &mut Option<Wait>) -> bool {
    match wait {
        None => true,
        Some(wait) => matches!(wait.poll(Waker::noop()), Poll::Ready(Ok(()))),
    }
}

#[test]
fn the_matrix_is_the_textbook_one() {
    // IS IX S SIX U X
    let want = [
        [1, 1, 1, 1, 1, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 0, 1, 0, 1, 0],
        [1, 0, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ];
    for (i, a) in LockMode::ALL.iter().enumerate() {
        for (j, b) in LockMode::ALL.iter().enumerate() {
            assert_eq!(a.is_compatible(*b), want[i][j] == 1, "{a:?} {b:?}");
            let join = a.join(*b);
            assert_eq!(join, b.join(*a));
            for c in LockMode::ALL {
                let both = a.is_compatible(c) && b.is_compatible(c);
                assert!(
                    !join.is_compatible(c) || both,
                    "{a:?} + {b:?} = {join:?} must be as strong"
                );
            }
        }
    }
}

#[test]
fn the_queue_is_fair() {
    let locks = Arc::new(LockManager::new());
    let owners: Vec<_> = (0..4).map(|_| locks.owner(0)).collect();
    assert!(locks.request(&owners[0], record(1), LockMode::Shared, LONG).is_none());
    let mut writer = locks.request(&owners[1], record(1), LockMode::Exclusive, LONG);
    let mut reader = locks.request(&owners[2], record(1), LockMode::Shared, LONG);
    assert!(!is_granted(&mut reader), "a reader must not pass a writer that waits");
    locks.release_all(&owners[0]);
    assert!(is_granted(&mut writer));
    assert!(!is_granted(&mut reader));
    locks.release_all(&owners[1]);
    assert!(is_granted(&mut reader));
    locks.release_all(&owners[2]);
    assert_eq!(locks.entries(), 0);
}

#[test]
fn a_conversion_goes_first() {
    let locks = Arc::new(LockManager::new());
    let owners: Vec<_> = (0..3).map(|_| locks.owner(0)).collect();
    assert!(locks.request(&owners[0], record(1), LockMode::Shared, LONG).is_none());
    assert!(locks.request(&owners[1], record(1), LockMode::Update, LONG).is_none());
    let mut late = locks.request(&owners[2], record(1), LockMode::Exclusive, LONG);
    let mut convert = locks.request(&owners[1], record(1), LockMode::Exclusive, LONG);
    locks.release_all(&owners[0]);
    assert!(is_granted(&mut convert));
    assert!(!is_granted(&mut late));
    locks.release_all(&owners[1]);
    assert!(is_granted(&mut late));
}

#[test]
fn a_withdrawn_request_lets_others_pass() {
    let locks = Arc::new(LockManager::new());
    let owners: Vec<_> = (0..3).map(|_| locks.owner(0)).collect();
    assert!(locks.request(&owners[0], record(1), LockMode::Shared, LONG).is_none());
    let writer = locks.request(&owners[1], record(1), LockMode::Exclusive, LONG);
    let mut reader = locks.request(&owners[2], record(1), LockMode::Shared, LONG);
    drop(writer);
    assert!(is_granted(&mut reader));
    locks.release_all(&owners[0]);
    locks.release_all(&owners[2]);
    assert_eq!(locks.entries(), 0);
    assert!(!locks.has_waiters() || reader.is_some());
}

#[test]
fn a_ring_has_one_victim_and_names_the_ring() {
    let locks = Arc::new(LockManager::new());
    let owners: Vec<_> = (0..3).map(|_| locks.owner(0)).collect();
    for (i, owner) in owners.iter().enumerate() {
        assert!(locks.request(owner, record(i as u8), LockMode::Exclusive, LONG).is_none());
    }
    owners[0].work.store(100, Ordering::Relaxed);
    owners[2].work.store(100, Ordering::Relaxed);
    let mut waits: Vec<_> = (0..3)
        .map(|i| locks.request(&owners[i], record((i as u8 + 1) % 3), LockMode::Exclusive, LONG))
        .collect();
    assert_eq!(locks.detect(), 1);
    let Poll::Ready(Err(Error::Deadlock { cycle })) =
        waits[1].as_mut().unwrap().poll(Waker::noop())
    else {
        panic!("the one with the least work is the victim")
    };
    assert_eq!(cycle.len(), 3);
    locks.release_all(&owners[1]);
    assert!(is_granted(&mut waits[0]));
    assert_eq!(locks.detect(), 0);
}

#[test]
fn nobody_is_the_victim_for_ever() {
    let locks = Arc::new(LockManager::new());
    let mut unlucky_count = 0;
    let mut victims = Vec::new();
    for _ in 0..5 {
        let (unlucky, other) = (locks.owner(unlucky_count), locks.owner(0));
        other.work.store(1000, Ordering::Relaxed);
        assert!(locks.request(&unlucky, record(1), LockMode::Exclusive, LONG).is_none());
        assert!(locks.request(&other, record(2), LockMode::Exclusive, LONG).is_none());
        let mut a = locks.request(&unlucky, record(2), LockMode::Exclusive, LONG).unwrap();
        let mut b = locks.request(&other, record(1), LockMode::Exclusive, LONG).unwrap();
        locks.detect();
        let unlucky_lost = matches!(a.poll(Waker::noop()), Poll::Ready(Err(_)));
        let other_lost = matches!(b.poll(Waker::noop()), Poll::Ready(Err(_)));
        assert!(unlucky_lost != other_lost);
        victims.push(unlucky_lost);
        unlucky_count = unlucky.victim_count.load(Ordering::Relaxed);
        drop((a, b));
        locks.release_all(&unlucky);
        locks.release_all(&other);
    }
    assert_eq!(victims, [true, true, true, false, false]);
}

#[test]
fn a_ring_through_the_queue_needs_no_victim() {
    let locks = Arc::new(LockManager::new());
    let [a, b, c] = [(); 3].map(|()| locks.owner(0));
    // A holds S on 1; B waits for X on 1; C holds X on 2 and waits for S on 1, behind B only.
    assert!(locks.request(&a, record(1), LockMode::Shared, LONG).is_none());
    assert!(locks.request(&c, record(2), LockMode::Exclusive, LONG).is_none());
    let mut b_waits = locks.request(&b, record(1), LockMode::Exclusive, LONG);
    let mut c_waits = locks.request(&c, record(1), LockMode::Shared, LONG);
    // A waits for 2: A -> C -> B -> A, and C -> B is only the order of the queue.
    let mut a_waits = locks.request(&a, record(2), LockMode::Shared, LONG);
    assert_eq!(locks.detect(), 1);
    assert!(is_granted(&mut c_waits), "C passes B");
    assert_eq!(locks.stats.deadlocks.load(Ordering::Relaxed), 0);
    locks.release_all(&c);
    assert!(is_granted(&mut a_waits));
    locks.release_all(&a);
    assert!(is_granted(&mut b_waits));
}

#[test]
fn a_wait_ends_in_time() {
    let locks = Arc::new(LockManager::new());
    let [a, b, c] = [(); 3].map(|()| locks.owner(0));
    assert!(locks.request(&a, record(1), LockMode::Shared, LONG).is_none());
    let soon = Duration::from_millis(5);
    let mut late = locks.request(&b, record(1), LockMode::Exclusive, soon).unwrap();
    let mut behind = locks.request(&c, record(1), LockMode::Shared, LONG);
    locks.expire(Duration::from_millis(4));
    assert!(late.poll(Waker::noop()).is_pending());
    locks.expire(soon);
    assert!(matches!(late.poll(Waker::noop()), Poll::Ready(Err(Error::LockTimeout { .. }))));
    assert!(is_granted(&mut behind), "who waited behind it goes on");
}

/// Every transaction locks two records in some order, in any mode, so that queues, conversions and
/// rings all happen; each waiter counts who came later, conflicts with it, and went before it.
#[test]
fn overtaking_is_bounded() {
    for seed in 0..200 {
        let worst = crowd(seed, 12, 400);
        assert!(worst <= queue::OVERTAKEN_MAX, "seed {seed}: passed {worst} times");
    }
}

struct Queued {
    wait: Wait,
    record: u8,
    mode: LockMode,
    passed: u32,
}

fn crowd(seed: u64, count: usize, steps: u64) -> u32 {
    let mut state = seed;
    let mut below = |n: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let locks = Arc::new(LockManager::new());
    let mut owners: Vec<_> = (0..count).map(|_| locks.owner(0)).collect();
    // In the order of their coming.
    let mut queue: Vec<(usize, Queued)> = Vec::new();
    let mut worst = 0;
    for _ in 0..steps {
        let at = below(count as u64) as usize;
        match below(8) {
            0 => {
                locks.detect();
            }
            1 | 2 => {
                // Ends, whether it waits or not.
                queue.retain(|(owner, _)| *owner != at);
                locks.release_all(&owners[at]);
                owners[at] = locks.owner(0);
            }
            _ if queue.iter().any(|(owner, _)| *owner == at) => {}
            _ => {
                let (record_no, mode) = (below(2) as u8, LockMode::ALL[below(6) as usize]);
                let converts = locks
                    .shard(&record(record_no))
                    .lock()
                    .queue(&record(record_no))
                    .held(owners[at].id);
                match locks.request(&owners[at], record(record_no), mode, LONG) {
                    // Granted at once: a newcomer must not have passed anybody it conflicts with.
                    None if converts.is_none() => {
                        for (_, waiter) in queue.iter_mut().filter(|(_, w)| w.record == record_no) {
                            waiter.passed += u32::from(!waiter.mode.is_compatible(mode));
                        }
                    }
                    None => {}
                    // A conversion goes first by rule, and is not counted.
                    Some(wait) if converts.is_none() => {
                        queue.push((at, Queued { wait, record: record_no, mode, passed: 0 }));
                    }
                    Some(wait) => drop(wait),
                }
            }
        }
        let mut i = 0;
        while i < queue.len() {
            let Poll::Ready(result) = queue[i].1.wait.poll(Waker::noop()) else {
                i += 1;
                continue;
            };
            let (owner, gone) = queue.remove(i);
            if result.is_ok() {
                for (_, waiter) in queue[..i].iter_mut().filter(|(_, w)| w.record == gone.record) {
                    waiter.passed += u32::from(!waiter.mode.is_compatible(gone.mode));
                }
            } else {
                locks.release_all(&owners[owner]);
            }
        }
        worst = worst.max(queue.iter().map(|(_, w)| w.passed).max().unwrap_or(0));
    }
    worst
}
