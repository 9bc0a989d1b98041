//! Which response goes first: RFC 9218.

use smallvec::SmallVec;

/// The `priority` field of a request, or of a PRIORITY_UPDATE frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Priority {
    /// 0 goes first, 7 last.
    pub(super) urgency: u8,
    /// Whether pieces are of use before the whole is there, so that sharing helps.
    pub(super) incremental: bool,
}

impl Default for Priority {
    fn default() -> Self {
        Self { urgency: 3, incremental: false }
    }
}

impl Priority {
    /// What a handler may raise or lower is the client's wish; what cannot be read is ignored
    /// (RFC 9218 §4), so this never fails.
    pub(super) fn parse(field: &[u8]) -> Self {
        let mut priority = Self::default();
        for member in field.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            // Parameters of a member mean nothing here.
            let member = member.split(|byte| *byte == b';').next().unwrap_or_default();
            match member {
                [b'u', b'=', digit @ b'0'..=b'7'] => priority.urgency = digit - b'0',
                b"i" | b"i=?1" => priority.incremental = true,
                b"i=?0" => priority.incremental = false,
                _ => {}
            }
        }
        priority
    }
}

/// The order in which streams with something to send get their turns: lower urgency first; within
/// one urgency whole responses in the order of the requests, then the incremental ones in turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: Vec<Turn>,
    /// Counts turns, so that an incremental stream that had one goes behind its equals.
    served: u64,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    slot: usize,
    stream: u32,
    priority: Priority,
    last_served: u64,
}

impl Turn {
    fn rank(&self) -> (u8, bool, u64, u32) {
        let Priority { urgency, incremental } = self.priority;
        (urgency, incremental, if incremental { self.last_served } else { 0 }, self.stream)
    }
}

impl Turns {
    /// Enters a stream; one that is entered already keeps its place.
    pub(super) fn enter(&mut self, slot: usize, stream: u32, priority: Priority) {
        if self.waiting.iter().all(|turn| turn.slot != slot) {
            self.waiting.push(Turn { slot, stream, priority, last_served: self.served });
        }
    }

    /// Takes a stream out.
    pub(super) fn leave(&mut self, slot: usize) {
        self.waiting.retain(|turn| turn.slot != slot);
    }

    /// Whose turn it is. The stream stays entered, but behind its equals if it is incremental.
    pub(super) fn next(&mut self) -> Option<usize> {
        let turn = self.waiting.iter_mut().min_by_key(|turn| turn.rank())?;
        self.served += 1;
        turn.last_served = self.served;
        Some(turn.slot)
    }

    /// Everybody who waits, most urgent first.
    pub(super) fn slots(&mut self) -> SmallVec<[usize; 16]> {
        self.waiting.sort_by_key(Turn::rank);
        self.waiting.iter().map(|turn| turn.slot).collect()
    }

    /// Changes the priority of a stream.
    pub(super) fn change(&mut self, slot: usize, priority: Priority) {
        for turn in self.waiting.iter_mut().filter(|turn| turn.slot == slot) {
            turn.priority = priority;
        }
    }

    /// Whether somebody of this urgency, or a more pressing one, waits.
    pub(super) fn is_waiting(&self, urgency: u8) -> bool {
        self.waiting.iter().any(|turn| turn.priority.urgency <= urgency)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(field: &str, urgency: u8, incremental: bool) {
        let want = Priority { urgency, incremental };
        assert_eq!(Priority::parse(field.as_bytes()), want, "priority: {field}");
    }

    #[test]
    fn priority_fields() {
        check("", 3, false);
        check("u=0", 0, false);
        check("u=7, i", 7, true);
        check("i,u=5", 5, true);
        check("u=8", 3, false);
        check("u=-1", 3, false);
        check("u=10", 3, false);
        check("u=1;x=2, i;y", 1, true);
        check("i=?1", 3, true);
        check("i, i=?0", 3, false);
        check("u=2, u=6", 6, false);
        check("x=\"u=0\"", 3, false);
    }

    fn order(entries: &[(u32, u8, bool)], turns: usize) -> Vec<usize> {
        let mut schedule = Turns::default();
        for (slot, &(stream, urgency, incremental)) in entries.iter().enumerate() {
            schedule.enter(slot, stream, Priority { urgency, incremental });
        }
        (0..turns).filter_map(|_| schedule.next()).collect()
    }

    #[test]
    fn lower_urgency_goes_first() {
        assert_eq!(order(&[(1, 3, false), (3, 0, false), (5, 7, true)], 3), [1, 1, 1]);
    }

    #[test]
    fn whole_responses_go_in_order_of_requests() {
        assert_eq!(order(&[(5, 3, false), (1, 3, false), (3, 3, false)], 2), [1, 1]);
    }

    #[test]
    fn incremental_responses_take_turns() {
        assert_eq!(order(&[(1, 3, true), (3, 3, true), (5, 3, true)], 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn whole_before_incremental_within_an_urgency() {
        assert_eq!(order(&[(1, 3, true), (3, 3, false)], 2), [1, 1]);
    }

    #[test]
    fn leaving_and_changing() {
        let mut schedule = Turns::default();
        schedule.enter(0, 1, Priority::default());
        schedule.enter(1, 3, Priority::default());
        schedule.enter(1, 3, Priority::default());
        schedule.change(1, Priority { urgency: 1, incremental: false });
        assert_eq!(schedule.next(), Some(1));
        schedule.leave(1);
        assert_eq!(schedule.next(), Some(0));
        schedule.leave(0);
        assert!(schedule.is_empty() && schedule.next().is_none());
    }
}
