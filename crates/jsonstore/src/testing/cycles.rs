//! An Elle-style checker: from what transactions appended and read it infers who must come before
//! whom, and looks for rings.

use std::collections::{BTreeMap, BTreeSet};

/// One operation of a recorded transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Appended a value, unique in the history, to the list of a key.
    Append(u64, u64),
    /// Read the list of a key.
    Read(u64, Vec<u64>),
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged.
    Committed,
    /// It was refused.
    Aborted,
    /// The client does not know.
    Unknown,
}

/// What clients recorded. Begin and end are positions on one clock.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Events, outcome, begin and end of each transaction.
    pub transactions: Vec<(Vec<Event>, Outcome, u64, u64)>,
}

/// What must not be, in Adya's words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anomaly {
    /// Dirty write: a ring of write-write dependencies.
    G0(Vec<usize>),
    /// Aborted read.
    G1a(usize),
    /// Intermediate read.
    G1b(usize),
    /// Circular information flow.
    G1c(Vec<usize>),
    /// A ring with exactly one anti-dependency: lost update, read skew.
    GSingle(Vec<usize>),
    /// A ring with several anti-dependencies: write skew, phantoms.
    G2(Vec<usize>),
    /// A ring that only real time closes: a commit was not seen by who began after its end.
    RealTime(Vec<usize>),
    /// Reads of a key that no order of its versions explains, or a version twice.
    Incompatible(u64),
    /// Two committed transactions replaced the same version of a register.
    LostUpdate(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Edge {
    WriteWrite,
    WriteRead,
    ReadWrite,
    RealTime,
}

pub(super) type Graph = BTreeMap<usize, BTreeSet<(usize, Edge)>>;

/// Every kind of anomaly the history shows, with one example of each.
pub fn check_history(history: &History) -> Vec<Anomaly> {
    let mut found = Vec::new();
    let writers = writers(history);
    let orders = orders(history, &mut found);
    direct(history, &writers, &mut found);
    let graph = graph(history, &writers, &orders);
    rings(&graph, &mut found);
    found.sort();
    found
}

/// Who appended a value; aborted ones too.
fn writers(history: &History) -> BTreeMap<(u64, u64), usize> {
    let mut writers = BTreeMap::new();
    for (at, (events, ..)) in history.transactions.iter().enumerate() {
        for event in events {
            if let Event::Append(key, value) = event {
                writers.insert((*key, *value), at);
            }
        }
    }
    writers
}

/// The order of appends per key: the longest read, of which every other must be a prefix.
fn orders(history: &History, found: &mut Vec<Anomaly>) -> BTreeMap<u64, Vec<u64>> {
    let mut orders: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let reads = || {
        let committed = history.transactions.iter().filter(|(_, o, ..)| *o == Outcome::Committed);
        committed.flat_map(|(events, ..)| events).filter_map(|event| match event {
            Event::Read(key, list) => Some((key, list)),
            Event::Append(..) => None,
        })
    };
    for (key, list) in reads() {
        let longest = orders.entry(*key).or_default();
        if list.len() > longest.len() {
            longest.clone_from(list);
        }
    }
    let mut bad = BTreeSet::new();
    for (key, list) in reads() {
        let distinct: BTreeSet<&u64> = list.iter().collect();
        if !orders[key].starts_with(list) || distinct.len() != list.len() {
            bad.insert(*key);
        }
    }
    found.extend(bad.into_iter().map(Anomaly::Incompatible));
    orders
}

/// Reads of aborted and of intermediate values.
fn direct(history: &History, writers: &BTreeMap<(u64, u64), usize>, found: &mut Vec<Anomaly>) {
    for (reader, (events, outcome, ..)) in history.transactions.iter().enumerate() {
        if *outcome != Outcome::Committed {
            continue;
        }
        for event in events {
            let Event::Read(key, list) = event else { continue };
            for value in list {
                let writer = writers.get(&(*key, *value));
                if writer.is_some_and(|w| history.transactions[*w].1 == Outcome::Aborted) {
                    found.push(Anomaly::G1a(reader));
                }
            }
            let Some(last) = list.last() else { continue };
            let Some(writer) = writers.get(&(*key, *last)).filter(|w| **w != reader) else {
                continue;
            };
            let final_value = history.transactions[*writer].0.iter().rev().find_map(|e| match e {
                Event::Append(k, v) if k == key => Some(v),
                _ => None,
            });
            if final_value != Some(last) {
                found.push(Anomaly::G1b(reader));
            }
        }
    }
}

fn graph(
    history: &History,
    writers: &BTreeMap<(u64, u64), usize>,
    orders: &BTreeMap<u64, Vec<u64>>,
) -> Graph {
    let mut graph = Graph::new();
    let mut add = |from: usize, to: usize, edge| {
        if from != to {
            graph.entry(from).or_default().insert((to, edge));
        }
    };
    for (key, order) in orders {
        for pair in order.windows(2) {
            if let (Some(a), Some(b)) =
                (writers.get(&(*key, pair[0])), writers.get(&(*key, pair[1])))
            {
                add(*a, *b, Edge::WriteWrite);
            }
        }
    }
    for (reader, (events, outcome, ..)) in history.transactions.iter().enumerate() {
        if *outcome != Outcome::Committed {
            continue;
        }
        for event in events {
            let Event::Read(key, list) = event else { continue };
            if let Some(writer) = list.last().and_then(|v| writers.get(&(*key, *v))) {
                add(*writer, reader, Edge::WriteRead);
            }
            let next = orders.get(key).and_then(|order| order.get(list.len()));
            if let Some(writer) = next.and_then(|v| writers.get(&(*key, *v))) {
                add(reader, *writer, Edge::ReadWrite);
            }
        }
    }
    let times: Vec<_> =
        history.transactions.iter().map(|(_, o, begin, end)| (*o, *begin, *end)).collect();
    real_time(&times, &mut add);
    graph
}

/// Who ended before another began comes first. Only the nearest are linked; the rest follows.
pub(super) fn real_time(times: &[(Outcome, u64, u64)], add: &mut impl FnMut(usize, usize, Edge)) {
    let mut by_end: Vec<_> = times.iter().enumerate().collect();
    by_end.retain(|(_, t)| t.0 == Outcome::Committed);
    let mut by_begin = by_end.clone();
    by_end.sort_by_key(|(_, t)| t.2);
    by_begin.sort_by_key(|(_, t)| t.1);
    for (from, t) in &by_end {
        // Those that begin after this one ends, but before any of them has ended.
        let mut horizon = u64::MAX;
        let first = by_begin.partition_point(|(_, other)| other.1 <= t.2);
        for (to, other) in &by_begin[first..] {
            if other.1 > horizon {
                break;
            }
            add(*from, *to, Edge::RealTime);
            horizon = horizon.min(other.2);
        }
    }
}

pub(super) fn rings(graph: &Graph, found: &mut Vec<Anomaly>) {
    use Edge::{ReadWrite, RealTime, WriteRead, WriteWrite};
    if let Some(ring) = ring(graph, &[WriteWrite]) {
        found.push(Anomaly::G0(ring));
    }
    if let Some(ring) = ring_through(graph, WriteRead, &[WriteWrite, WriteRead]) {
        found.push(Anomaly::G1c(ring));
    }
    if let Some(ring) = ring_through(graph, ReadWrite, &[WriteWrite, WriteRead]) {
        found.push(Anomaly::GSingle(ring));
    }
    if found.iter().any(|a| matches!(a, Anomaly::G0(_) | Anomaly::G1c(_) | Anomaly::GSingle(_))) {
        return;
    }
    if let Some(ring) = ring(graph, &[WriteWrite, WriteRead, ReadWrite]) {
        found.push(Anomaly::G2(ring));
    } else if let Some(ring) = ring(graph, &[WriteWrite, WriteRead, ReadWrite, RealTime]) {
        found.push(Anomaly::RealTime(ring));
    }
}

/// Some ring over these edges.
fn ring(graph: &Graph, edges: &[Edge]) -> Option<Vec<usize>> {
    let mut done = BTreeSet::new();
    for start in graph.keys() {
        let mut path = vec![*start];
        let mut on_path = BTreeSet::from([*start]);
        let mut rest = vec![targets(graph, *start, edges)];
        if !done.insert(*start) {
            continue;
        }
        while let Some(list) = rest.last_mut() {
            let Some(next) = list.pop() else {
                rest.pop();
                if let Some(left) = path.pop() {
                    on_path.remove(&left);
                }
                continue;
            };
            if on_path.contains(&next) {
                let at = path.iter().position(|n| *n == next).unwrap_or(0);
                return Some(path[at..].to_vec());
            }
            if done.insert(next) {
                path.push(next);
                on_path.insert(next);
                rest.push(targets(graph, next, edges));
            }
        }
    }
    None
}

/// A ring with one edge of kind `one`, closed by a path over `rest`.
fn ring_through(graph: &Graph, one: Edge, rest: &[Edge]) -> Option<Vec<usize>> {
    for (from, list) in graph {
        for (to, edge) in list {
            if *edge != one {
                continue;
            }
            let mut came: BTreeMap<usize, usize> = BTreeMap::from([(*to, *to)]);
            let mut queue = vec![*to];
            while let Some(node) = queue.pop() {
                if node == *from {
                    let mut ring = vec![node];
                    let mut at = node;
                    while at != *to {
                        at = came[&at];
                        ring.push(at);
                    }
                    ring.reverse();
                    return Some(ring);
                }
                for next in targets(graph, node, rest) {
                    came.entry(next).or_insert_with(|| {
                        queue.push(next);
                        node
                    });
                }
            }
        }
    }
    None
}

fn targets(graph: &Graph, node: usize, edges: &[Edge]) -> Vec<usize> {
    let list = graph.get(&node).into_iter().flatten();
    list.filter(|(_, edge)| edges.contains(edge)).map(|(to, _)| *to).collect()
}

#[cfg(test)]
mod tests {
    use super::{Event::*, Outcome::*, *};

    #[track_caller]
    fn check(transactions: Vec<(Vec<Event>, Outcome)>, want: &str) {
        let transactions = transactions.into_iter().map(|(e, o)| (e, o, 0, 100)).collect();
        let found = check_history(&History { transactions });
        let names: Vec<String> = found.iter().map(|a| format!("{a:?}")).collect();
        if want.is_empty() {
            assert!(names.is_empty(), "{names:?}");
        } else {
            assert!(names.iter().any(|n| n.starts_with(want)), "{names:?}, want {want}");
        }
    }

    #[test]
    fn seeded_anomalies_are_found() {
        check(vec![(vec![Append(1, 1)], Committed), (vec![Read(1, vec![1])], Committed)], "");
        check(vec![(vec![Append(1, 1)], Aborted), (vec![Read(1, vec![1])], Committed)], "G1a");
        check(
            vec![
                (vec![Append(1, 1), Append(1, 2)], Committed),
                (vec![Read(1, vec![1])], Committed),
            ],
            "G1b",
        );
        check(
            vec![
                (vec![Append(1, 1), Read(2, vec![2])], Committed),
                (vec![Append(2, 2), Read(1, vec![1])], Committed),
            ],
            "G1c",
        );
        let both = (vec![Read(1, vec![1, 2]), Read(2, vec![4, 3])], Committed);
        check(
            vec![
                (vec![Append(1, 1), Append(2, 3)], Committed),
                (vec![Append(1, 2), Append(2, 4)], Committed),
                both,
            ],
            "G0",
        );
        // Lost update: both read nothing, both append.
        let all = (vec![Read(1, vec![1, 2])], Committed);
        check(
            vec![
                (vec![Read(1, vec![]), Append(1, 1)], Committed),
                (vec![Read(1, vec![]), Append(1, 2)], Committed),
                all,
            ],
            "GSingle",
        );
        // Write skew.
        let all = (vec![Read(1, vec![1]), Read(2, vec![2])], Committed);
        check(
            vec![
                (vec![Read(2, vec![]), Append(1, 1)], Committed),
                (vec![Read(1, vec![]), Append(2, 2)], Committed),
                all,
            ],
            "G2",
        );
        check(
            vec![(vec![Read(1, vec![1, 2])], Committed), (vec![Read(1, vec![2, 1])], Committed)],
            "Incompatible",
        );
    }

    #[test]
    fn a_stale_read_in_real_time_is_found() {
        let transactions = vec![
            (vec![Append(1, 1)], Committed, 0, 10),
            (vec![Read(1, vec![])], Committed, 20, 30),
            (vec![Read(1, vec![1])], Committed, 40, 50),
        ];
        let found = check_history(&History { transactions });
        assert!(matches!(found[..], [Anomaly::RealTime(_)]), "{found:?}");
    }
}
