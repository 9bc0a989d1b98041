//! One lock: who holds it, who waits, in which order.

use std::{collections::VecDeque, sync::Arc};

use super::{Cell, LockMode, Owner};
use crate::bugs::bug;

/// How often the deadlock detector may let others pass one waiter.
pub(crate) const OVERTAKEN_MAX: u32 = 3;

#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) owner: Arc<Owner>,
    /// What it will hold when granted.
    pub(crate) mode: LockMode,
    /// It holds the lock already in a weaker mode.
    pub(crate) converts: bool,
    pub(crate) cell: Arc<Cell>,
    /// How often the deadlock detector let another pass it.
    pub(crate) overtaken: u32,
}

#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) owner: Arc<Owner>,
    pub(crate) cell: Arc<Cell>,
    pub(crate) is_new: bool,
}

#[derive(Debug, Default)]
pub(crate) struct LockQueue {
    holders: Vec<(Arc<Owner>, LockMode)>,
    /// Holders by mode, so that a check does not visit them all.
    counts: [u32; 6],
    waiters: VecDeque<Waiter>,
}

impl LockQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.waiters.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.holders.len() + self.waiters.len()
    }

    pub(crate) fn held(&self, owner: u64) -> Option<LockMode> {
        self.holders.iter().find(|(o, _)| o.id == owner).map(|(_, mode)| *mode)
    }

    pub(crate) fn holders(&self) -> &[(Arc<Owner>, LockMode)] {
        &self.holders
    }

    pub(crate) fn waiters(&self) -> &VecDeque<Waiter> {
        &self.waiters
    }

    /// Grants at once if no holder and, unless it converts, no earlier waiter conflicts.
    pub(crate) fn try_grant(&mut self, owner: &Arc<Owner>, mode: LockMode, converts: bool) -> bool {
        let free = self.fits(owner.id, mode)
            && (converts
                || bug("unfair_locks")
                || self.waiters.iter().all(|w| w.mode.is_compatible(mode)));
        if free {
            self.hold(owner, mode);
        }
        free
    }

    /// New requests go to the end; conversions before the first that does not convert.
    pub(crate) fn enqueue(
        &mut self,
        owner: &Arc<Owner>,
        mode: LockMode,
        converts: bool,
        cell: Arc<Cell>,
    ) {
        let waiter = Waiter { owner: Arc::clone(owner), mode, converts, cell, overtaken: 0 };
        let at = if converts {
            self.waiters.iter().position(|w| !w.converts).unwrap_or(self.waiters.len())
        } else {
            self.waiters.len()
        };
        self.waiters.insert(at, waiter);
    }

    pub(crate) fn release(&mut self, owner: u64) -> Vec<Granted> {
        if let Some(at) = self.holders.iter().position(|(o, _)| o.id == owner) {
            let (_, mode) = self.holders.swap_remove(at);
            self.counts[mode as usize] -= 1;
        }
        self.grant_waiters()
    }

    /// A waiter gives up.
    pub(crate) fn withdraw(&mut self, owner: u64, cell: &Arc<Cell>) -> Vec<Granted> {
        self.waiters.retain(|w| w.owner.id != owner || !Arc::ptr_eq(&w.cell, cell));
        self.grant_waiters()
    }

    /// Moves a waiter ahead of another, to undo a deadlock without a victim.
    pub(crate) fn overtake(&mut self, waiter: u64, ahead_of: u64) -> Option<Vec<Granted>> {
        let from = self.waiters.iter().position(|w| w.owner.id == waiter)?;
        let to = self.waiters.iter().position(|w| w.owner.id == ahead_of)?;
        // Everyone who is passed counts it, so nobody is passed for ever.
        let may_pass = |w: &Waiter| w.overtaken < OVERTAKEN_MAX && !w.converts;
        if to > from || !self.waiters.range(to..from).all(may_pass) {
            return None;
        }
        let moved = self.waiters.remove(from)?;
        for passed in self.waiters.range_mut(to..from) {
            passed.overtaken += 1;
        }
        self.waiters.insert(to, moved);
        Some(self.grant_waiters())
    }

    /// Grants from the front; a waiter may pass an earlier one only if they do not conflict.
    fn grant_waiters(&mut self) -> Vec<Granted> {
        let mut granted = Vec::new();
        let mut blocked: Vec<LockMode> = Vec::new();
        let mut at = 0;
        while at < self.waiters.len() {
            let (id, mode, converts) = {
                let w = &self.waiters[at];
                (w.owner.id, w.mode, w.converts)
            };
            let free =
                self.fits(id, mode) && (converts || blocked.iter().all(|b| b.is_compatible(mode)));
            if free {
                let Some(waiter) = self.waiters.remove(at) else { break };
                self.hold(&waiter.owner, mode);
                granted.push(Granted { owner: waiter.owner, cell: waiter.cell, is_new: !converts });
            } else {
                blocked.push(mode);
                if mode == LockMode::Exclusive && !converts {
                    // Nothing is compatible with it, so nobody behind it can go.
                    break;
                }
                at += 1;
            }
        }
        granted
    }

    /// No other holder conflicts.
    fn fits(&self, owner: u64, mode: LockMode) -> bool {
        let own = self.held(owner);
        LockMode::ALL.iter().all(|other| {
            let mine = u32::from(own == Some(*other));
            self.counts[*other as usize] <= mine || mode.is_compatible(*other)
        })
    }

    fn hold(&mut self, owner: &Arc<Owner>, mode: LockMode) {
        self.counts[mode as usize] += 1;
        match self.holders.iter_mut().find(|(o, _)| o.id == owner.id) {
            Some((_, held)) => {
                self.counts[*held as usize] -= 1;
                *held = mode;
            }
            None => self.holders.push((Arc::clone(owner), mode)),
        }
    }
}
