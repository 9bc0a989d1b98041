//! Register histories: whole values are written over and read back.
//!
//! A list shows in which order it was appended to; a register does not. The order of its versions
//! follows from what is certain: the initial state comes first, and who read a version and then
//! wrote put its own after it. What stays unordered adds no edge, so a ring that is found is real.

use std::collections::{BTreeMap, BTreeSet};

use super::cycles::{Anomaly, Edge, Graph, Outcome, real_time, rings};

/// One operation of a recorded transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Wrote a value, unique in the history, to a key.
    Write(u64, u64),
    /// Read a key; `None` if nothing was there.
    Read(u64, Option<u64>),
}

/// What clients recorded. Begin and end are positions on one clock.
#[derive(Debug, Clone, Default)]
pub struct Registers {
    /// Accesses, outcome, begin and end of each transaction.
    pub transactions: Vec<(Vec<Access>, Outcome, u64, u64)>,
}

/// Which version directly replaced which, per key; `None` is the initial state.
type Order = BTreeMap<u64, BTreeMap<Option<u64>, BTreeSet<u64>>>;
/// Who wrote a version of a key, aborted ones too.
type Writers = BTreeMap<(u64, u64), usize>;

/// Every kind of anomaly the history shows, with one example of each.
pub fn check_registers(history: &Registers) -> Vec<Anomaly> {
    let mut found = Vec::new();
    let mut writers = Writers::new();
    for (at, (accesses, ..)) in history.transactions.iter().enumerate() {
        for access in accesses {
            if let Access::Write(key, value) = access {
                writers.insert((*key, *value), at);
            }
        }
    }
    direct(history, &writers, &mut found);
    let orders = orders(history, &writers, &mut found);
    let mut graph = Graph::new();
    let mut add = |from: usize, to: usize, edge| {
        if from != to {
            graph.entry(from).or_default().insert((to, edge));
        }
    };
    dependencies(history, &writers, &orders, &mut add);
    let times: Vec<_> = history
        .transactions
        .iter()
        .map(|(_, outcome, begin, end)| (*outcome, *begin, *end))
        .collect();
    real_time(&times, &mut add);
    rings(&graph, &mut found);
    found.sort();
    found.dedup();
    found
}

fn committed(history: &Registers) -> impl Iterator<Item = (usize, &Vec<Access>)> {
    let all = history.transactions.iter().enumerate();
    all.filter(|(_, t)| t.1 == Outcome::Committed).map(|(at, t)| (at, &t.0))
}

/// Reads of aborted and of intermediate values, and of values nobody wrote.
fn direct(history: &Registers, writers: &Writers, found: &mut Vec<Anomaly>) {
    for (reader, accesses) in committed(history) {
        for access in accesses {
            let Access::Read(key, Some(value)) = access else { continue };
            let Some(writer) = writers.get(&(*key, *value)).copied() else {
                found.push(Anomaly::Incompatible(*key));
                continue;
            };
            if writer == reader {
                continue;
            }
            if history.transactions[writer].1 == Outcome::Aborted {
                found.push(Anomaly::G1a(reader));
            }
            if last_write(&history.transactions[writer].0, *key) != Some(*value) {
                found.push(Anomaly::G1b(reader));
            }
        }
    }
}

fn last_write(accesses: &[Access], key: u64) -> Option<u64> {
    accesses.iter().rev().find_map(|access| match access {
        Access::Write(k, value) if *k == key => Some(*value),
        _ => None,
    })
}

/// The first thing a transaction read of a key from others, before it wrote it.
fn first_read(accesses: &[Access], key: u64) -> Option<Option<u64>> {
    let of_key = |access: &&Access| match access {
        Access::Write(k, _) | Access::Read(k, _) => *k == key,
    };
    match accesses.iter().find(of_key)? {
        Access::Read(_, value) => Some(*value),
        Access::Write(..) => None,
    }
}

/// Writes follow reads. Two committed ones that read the same version and both replaced it have
/// lost an update, whatever the order.
fn orders(history: &Registers, writers: &Writers, found: &mut Vec<Anomaly>) -> Order {
    let mut orders = Order::new();
    for ((key, value), writer) in writers {
        let (accesses, outcome, ..) = &history.transactions[*writer];
        if *outcome != Outcome::Committed || last_write(accesses, *key) != Some(*value) {
            continue;
        }
        let order = orders.entry(*key).or_default();
        match first_read(accesses, *key) {
            Some(old) => {
                let next = order.entry(old).or_default();
                let replaced_already = next.iter().any(|v| {
                    first_read(&history.transactions[writers[&(*key, *v)]].0, *key).is_some()
                });
                if replaced_already {
                    found.push(Anomaly::LostUpdate(*key));
                }
                next.insert(*value);
            }
            // A blind write comes after the initial state, and nothing else is known.
            None => {
                order.entry(None).or_default().insert(*value);
            }
        }
    }
    orders
}

fn dependencies(
    history: &Registers,
    writers: &Writers,
    orders: &Order,
    add: &mut impl FnMut(usize, usize, Edge),
) {
    for (key, order) in orders {
        for (old, next) in order {
            let old = old.and_then(|old| writers.get(&(*key, old)));
            for new in next.iter().filter_map(|new| writers.get(&(*key, *new))) {
                if let Some(old) = old {
                    add(*old, *new, Edge::WriteWrite);
                }
            }
        }
    }
    for (reader, accesses) in committed(history) {
        for access in accesses {
            let Access::Read(key, value) = access else { continue };
            if let Some(writer) = value.and_then(|value| writers.get(&(*key, value))) {
                add(*writer, reader, Edge::WriteRead);
            }
            let next = orders.get(key).and_then(|order| order.get(value));
            for writer in next.into_iter().flatten().filter_map(|new| writers.get(&(*key, *new))) {
                add(reader, *writer, Edge::ReadWrite);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Access::*, Outcome::*, *};

    #[track_caller]
    fn check(transactions: &[(&[Access], Outcome)], want: &str) {
        let transactions = transactions.iter().map(|(a, o)| (a.to_vec(), *o, 0, 100)).collect();
        let found = check_registers(&Registers { transactions });
        let names: Vec<String> = found.iter().map(|a| format!("{a:?}")).collect();
        if want.is_empty() {
            assert!(names.is_empty(), "{names:?}");
        } else {
            assert!(names.iter().any(|n| n.starts_with(want)), "{names:?}, want {want}");
        }
    }

    #[test]
    fn sound_histories_pass() {
        check(
            &[
                (&[Read(1, None), Write(1, 1)], Committed),
                (&[Read(1, Some(1)), Write(1, 2), Read(1, Some(2))], Committed),
                (&[Read(1, Some(1)), Write(1, 3)], Aborted),
                (&[Write(2, 9), Read(1, Some(2))], Committed),
                (&[Read(2, Some(9)), Read(3, None)], Committed),
            ],
            "",
        );
    }

    #[test]
    fn seeded_anomalies_are_found() {
        check(&[(&[Write(1, 1)], Aborted), (&[Read(1, Some(1))], Committed)], "G1a");
        check(&[(&[Write(1, 1), Write(1, 2)], Committed), (&[Read(1, Some(1))], Committed)], "G1b");
        check(
            &[
                (&[Write(1, 1), Read(2, Some(2))], Committed),
                (&[Write(2, 2), Read(1, Some(1))], Committed),
            ],
            "G1c",
        );
        // Dirty writes: each replaced the other's version, on different keys.
        check(
            &[
                (&[Read(1, None), Write(1, 1), Read(2, Some(4)), Write(2, 3)], Committed),
                (&[Read(1, Some(1)), Write(1, 2), Read(2, None), Write(2, 4)], Committed),
            ],
            "G0",
        );
        // Read skew: the first key before, the second after the same writer.
        check(
            &[
                (&[Read(1, None), Write(1, 1), Read(2, None), Write(2, 2)], Committed),
                (&[Read(1, None), Read(2, Some(2))], Committed),
            ],
            "GSingle",
        );
        check(
            &[
                (&[Read(1, None), Read(2, None), Write(1, 1)], Committed),
                (&[Read(1, None), Read(2, None), Write(2, 2)], Committed),
            ],
            "G2",
        );
        check(
            &[
                (&[Read(1, None), Write(1, 1)], Committed),
                (&[Read(1, None), Write(1, 2)], Committed),
            ],
            "LostUpdate",
        );
        check(&[(&[Read(1, Some(7))], Committed)], "Incompatible");
    }

    #[test]
    fn a_stale_read_in_real_time_is_found() {
        let transactions = vec![
            (vec![Read(1, None), Write(1, 1)], Committed, 0, 10),
            (vec![Read(1, None)], Committed, 20, 30),
        ];
        let found = check_registers(&Registers { transactions });
        assert!(matches!(found[..], [Anomaly::RealTime(_)]), "{found:?}");
    }
}
