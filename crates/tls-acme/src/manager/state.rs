//! What is remembered of a certificate's past attempts.

use std::{collections::HashMap, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::{
    attention::{Failure, FailureKind},
    clock::{from_unix, unix},
    ladder,
    renewal::Suggestion,
    storage::{Storage, StorageError},
};

/// Failures at one authority after which the next is asked.
const FAILURES_PER_AUTHORITY: u32 = 3;

/// The state of one certificate; kept in the storage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// In a row.
    pub(super) failures: u32,
    pub(super) failed_since: u64,
    pub(super) retry_at: u64,
    /// In a row and at one authority, by its name; those that are not about our names.
    pub(super) at_authority: HashMap<String, u32>,
    /// The authority that issued last.
    pub(super) good_authority: Option<String>,
    /// The last failure was a limit of the production directory, about which staging tells nothing.
    pub(super) is_pinned: bool,
    pub(super) suggestion: Option<Suggestion>,
    /// Until when authorities asked to wait, in seconds since 1970, by their names.
    pub(super) limited: HashMap<String, u64>,
    /// The code of the last failure.
    pub(super) last_code: Option<String>,
}

impl State {
    pub(super) async fn load(storage: &dyn Storage, id: &str) -> Result<Self, StorageError> {
        let bytes = storage.load(&key(id)).await?;
        // A damaged state is no state: at worst an attempt is made too early.
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    pub(super) async fn save(&self, storage: &dyn Storage, id: &str) -> Result<(), StorageError> {
        storage.store(&key(id), &serde_json::to_vec(self).unwrap_or_default()).await
    }

    pub(super) fn retry_at(&self) -> SystemTime {
        from_unix(self.retry_at)
    }

    /// Whether the next attempt goes to a staging directory first.
    pub(super) fn wants_staging(&self) -> bool {
        self.failures > 0 && !self.is_pinned
    }

    pub(super) fn succeeded(&mut self, authority: &str) {
        let suggestion = self.suggestion.take();
        // One authority's limit is none of another's.
        let mut limited = std::mem::take(&mut self.limited);
        limited.remove(authority);
        let good_authority = Some(authority.to_owned());
        *self = Self { good_authority, suggestion, limited, ..Self::default() };
    }

    /// Takes note of a failure; answers whether another authority should be asked.
    pub(super) fn failed(
        &mut self,
        authority: &str,
        failure: &Failure,
        now: SystemTime,
        is_staging: bool,
        seed: &str,
    ) -> bool {
        if self.failures == 0 {
            self.failed_since = unix(now);
        }
        self.failures = self.failures.saturating_add(1);
        self.last_code = Some(failure.attention.code.as_str().to_owned());
        self.is_pinned = failure.kind == FailureKind::RateLimited && !is_staging;
        let mut wait = ladder::delay(self.failures, seed);
        if failure.kind == FailureKind::Permanent {
            // Somebody may put it right without telling us.
            wait = wait.max(ladder::delay(u32::MAX, seed));
        }
        if let Some(asked) = failure.retry_after {
            wait = wait.max(asked);
        }
        self.retry_at = unix(now).saturating_add(wait.as_secs().max(1));
        if failure.kind == FailureKind::RateLimited && !is_staging {
            self.limited.insert(authority.to_owned(), self.retry_at);
        }
        match failure.kind {
            FailureKind::Validation | FailureKind::Local => false,
            FailureKind::Permanent => {
                self.at_authority.insert(authority.to_owned(), FAILURES_PER_AUTHORITY);
                true
            }
            _ => {
                let count = self.at_authority.entry(authority.to_owned()).or_default();
                *count += 1;
                *count >= FAILURES_PER_AUTHORITY
            }
        }
    }

    /// Until when this authority asked to wait, in seconds since 1970.
    pub(super) fn limited_until(&self, authority: &str) -> Option<u64> {
        self.limited.get(authority).copied()
    }

    /// The order in which authorities are asked: the one that worked last, then as configured; those that
    /// failed too often come last.
    pub(super) fn rank(&self, names: &[&str]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by_key(|index| {
            let name = names.get(*index).copied().unwrap_or_default();
            let is_tired =
                self.at_authority.get(name).is_some_and(|count| *count >= FAILURES_PER_AUTHORITY);
            (is_tired, self.good_authority.as_deref() != Some(name), *index)
        });
        order
    }
}

fn key(id: &str) -> String {
    format!("state/{id}.json")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::attention::Code;

    fn failure(kind: FailureKind) -> Failure {
        Failure::of(kind, Code::ServerError, "a", "It failed.")
    }

    #[test]
    fn moves_on_and_comes_back() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut state = State::default();
        assert_eq!(state.rank(&["a", "b"]), [0, 1]);
        assert!(!state.wants_staging());
        assert!(!state.failed("a", &failure(FailureKind::Authority), now, false, "x"));
        assert!(state.wants_staging());
        assert!(
            !state.failed("a", &failure(FailureKind::Validation), now, false, "x"),
            "not its fault"
        );
        assert!(!state.failed("a", &failure(FailureKind::Authority), now, false, "x"));
        assert!(state.failed("a", &failure(FailureKind::Authority), now, false, "x"));
        assert_eq!(state.rank(&["a", "b"]), [1, 0]);
        state.succeeded("b");
        assert_eq!(state.rank(&["a", "b"]), [1, 0], "what worked is asked first");
        assert_eq!(state.failures, 0);
    }

    #[test]
    fn a_limit_pins_production_and_sets_the_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut state = State::default();
        let mut limited = failure(FailureKind::RateLimited);
        limited.retry_after = Some(Duration::from_secs(7200));
        state.failed("a", &limited, now, false, "x");
        assert!(!state.wants_staging(), "staging would tell nothing");
        assert_eq!(state.retry_at, 1_007_200);
        state.failed("a", &limited, now, true, "x");
        assert!(state.wants_staging(), "it was staging's limit");
        state.failed("a", &failure(FailureKind::Permanent), now, false, "x");
        assert!(state.retry_at >= 1_000_000 + 5 * 3600);
    }
}
