//! Finding rings of waiting transactions, and breaking them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

use super::{Cell, CellState, LockId, LockManager, LockMode, Owner};
use crate::{bugs::bug, error::CycleEdge};

/// After this often a transaction is no longer chosen while another can be.
const VICTIM_LIMIT: u32 = 3;

struct Waiting {
    owner: Arc<Owner>,
    id: LockId,
    mode: LockMode,
    cell: Arc<Cell>,
    /// Whom it waits for; true if only the queue stands between them.
    edges: BTreeMap<u64, bool>,
}

impl LockManager {
    /// Breaks every ring there is. Returns how many were broken.
    pub(crate) fn detect(&self) -> usize {
        let mut broken = 0;
        // Breaking one ring changes the graph, so look again; the bound is for safety only.
        while broken < 1000 {
            let graph = self.graph();
            let Some(cycle) = find_cycle(&graph) else { break };
            if !self.reorder(&graph, &cycle) {
                self.choose_victim(&graph, &cycle);
            }
            broken += 1;
        }
        broken
    }

    /// Who waits for whom. All shards are held at once, in order, so the picture is consistent.
    fn graph(&self) -> BTreeMap<u64, Waiting> {
        let shards: Vec<_> = self.shards.iter().map(|shard| shard.lock()).collect();
        let mut graph = BTreeMap::new();
        for shard in &shards {
            for (id, queue) in shard.queues.values().flatten() {
                for (at, waiter) in queue.waiters().iter().enumerate() {
                    let mut edges = BTreeMap::new();
                    for (holder, mode) in queue.holders() {
                        if holder.id != waiter.owner.id && !mode.is_compatible(waiter.mode) {
                            edges.insert(holder.id, false);
                        }
                    }
                    for ahead in queue.waiters().iter().take(at) {
                        let conflicts = !ahead.mode.is_compatible(waiter.mode);
                        if conflicts && (!waiter.converts || ahead.converts) {
                            edges.entry(ahead.owner.id).or_insert(true);
                        }
                    }
                    let waiting = Waiting {
                        owner: Arc::clone(&waiter.owner),
                        id: id.clone(),
                        mode: waiter.mode,
                        cell: Arc::clone(&waiter.cell),
                        edges,
                    };
                    graph.insert(waiter.owner.id, waiting);
                }
            }
        }
        graph
    }

    /// If somebody in the ring waits only because of the order of a queue, lets it pass.
    fn reorder(&self, graph: &BTreeMap<u64, Waiting>, cycle: &[u64]) -> bool {
        for (i, from) in cycle.iter().enumerate() {
            let to = cycle[(i + 1) % cycle.len()];
            let Some(waiting) = graph.get(from) else { continue };
            if waiting.edges.get(&to) != Some(&true) {
                continue;
            }
            let mut shard = self.shard(&waiting.id).lock();
            let moved = shard.queue(&waiting.id).overtake(*from, to);
            drop(shard);
            if let Some(granted) = moved {
                self.stats.reordered.fetch_add(1, Ordering::Relaxed);
                self.grant(&waiting.id, granted);
                return true;
            }
        }
        false
    }

    /// The one with the least work gives way; the youngest on a tie; never the same one for ever.
    fn choose_victim(&self, graph: &BTreeMap<u64, Waiting>, cycle: &[u64]) {
        let rank = |id: &&u64| {
            graph.get(*id).map(|w| {
                let often = w.owner.victim_count.load(Ordering::Relaxed);
                let spared = often >= VICTIM_LIMIT && !bug("same_victim");
                (
                    spared,
                    if spared { often } else { 0 },
                    w.owner.work.load(Ordering::Relaxed),
                    u64::MAX - w.owner.id,
                )
            })
        };
        let Some(victim) = cycle.iter().min_by_key(rank).and_then(|id| graph.get(id)) else {
            return;
        };
        let edges = cycle
            .iter()
            .filter_map(|id| graph.get(id))
            .map(|w| CycleEdge {
                transaction: w.owner.id,
                lock: w.id.to_string(),
                mode: w.mode.name(),
            })
            .collect();
        let mut shard = self.shard(&victim.id).lock();
        let queue = shard.queue(&victim.id);
        let still_waits = queue.waiters().iter().any(|w| Arc::ptr_eq(&w.cell, &victim.cell));
        let granted = queue.withdraw(victim.owner.id, &victim.cell);
        shard.tidy(&victim.id);
        drop(shard);
        if still_waits {
            self.stats.deadlocks.fetch_add(1, Ordering::Relaxed);
            victim.owner.victim_count.fetch_add(1, Ordering::Relaxed);
            victim.cell.decide(CellState::Victim(edges));
        }
        self.grant(&victim.id, granted);
    }
}

/// Some ring, as the ids in order.
fn find_cycle(graph: &BTreeMap<u64, Waiting>) -> Option<Vec<u64>> {
    let mut done: BTreeSet<u64> = BTreeSet::new();
    for start in graph.keys() {
        if done.contains(start) {
            continue;
        }
        // Depth first, with the path kept: meeting the path again closes a ring.
        let mut path: Vec<(u64, Vec<u64>)> = vec![(*start, targets(graph, *start))];
        while let Some((node, rest)) = path.last_mut() {
            let Some(next) = rest.pop() else {
                done.insert(*node);
                path.pop();
                continue;
            };
            if let Some(at) = path.iter().position(|(id, _)| *id == next) {
                return Some(path[at..].iter().map(|(id, _)| *id).collect());
            }
            if !done.contains(&next) {
                path.push((next, targets(graph, next)));
            }
        }
    }
    None
}

fn targets(graph: &BTreeMap<u64, Waiting>, id: u64) -> Vec<u64> {
    graph.get(&id).map(|w| w.edges.keys().copied().collect()).unwrap_or_default()
}
