//! What shows that it was this machine that was reached.

use std::{collections::VecDeque, fmt::Write as _, sync::Arc};

use parking_lot::Mutex;

/// A path that only we know, and the content that only we answer there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    nonce: String,
    content: String,
}

/// Challenges that are to be answered now. Cheap to clone; clones share them.
///
/// Whoever serves the site asks [`answer`](Self::answer) first, before redirects and access rules.
#[derive(Debug, Clone, Default)]
pub struct Challenges(Arc<Mutex<VecDeque<Challenge>>>);

impl Challenge {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self {
            nonce: hex(&crate::random::bytes::<16>()),
            content: hex(&crate::random::bytes::<16>()),
        }
    }

    /// The path, from the first `/`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{PATH_PREFIX}{}", self.nonce)
    }

    /// What is answered there.
    #[must_use]
    pub fn content(&self) -> &str {
        &self.content
    }
}

impl Challenges {
    /// Begins to answer a new challenge; the oldest of many is forgotten.
    #[must_use]
    pub fn add(&self) -> Challenge {
        let challenge = Challenge::random();
        let mut open = self.0.lock();
        if open.len() >= CHALLENGES_MAX {
            open.pop_front();
        }
        open.push_back(challenge.clone());
        challenge
    }

    /// Stops answering.
    pub fn remove(&self, challenge: &Challenge) {
        self.0.lock().retain(|open| open != challenge);
    }

    /// The content for a request's path, if it is one of ours. Costs a comparison for all others.
    #[must_use]
    pub fn answer(&self, path: &str) -> Option<String> {
        let nonce = path.strip_prefix(PATH_PREFIX)?;
        let open = self.0.lock();
        open.iter().find(|open| open.nonce == nonce).map(|open| open.content.clone())
    }
}

/// Whether a probe would fetch this path: nobody shall make it fetch anything else.
pub(super) fn is_challenge_path(path: &str) -> bool {
    path.strip_prefix(PATH_PREFIX).is_some_and(|nonce| {
        (16..=64).contains(&nonce.len()) && nonce.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

const PATH_PREFIX: &str = "/.well-known/hearth-probe/";
/// More than one check at a time is unusual.
const CHALLENGES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let challenges = Challenges::default();
        let first = challenges.add();
        assert_eq!(challenges.answer(&first.path()).as_deref(), Some(first.content()));
        assert!(is_challenge_path(&first.path()));
        for path in ["/", "/.well-known/hearth-probe/", "/.well-known/hearth-probe/../../secret"] {
            assert_eq!(challenges.answer(path), None);
            assert!(!is_challenge_path(path), "{path}");
        }
        let others: Vec<_> = (0..CHALLENGES_MAX).map(|_| challenges.add()).collect();
        assert_eq!(challenges.answer(&first.path()), None, "the oldest is forgotten");
        challenges.remove(&others[3]);
        assert_eq!(challenges.answer(&others[3].path()), None);
        assert!(challenges.answer(&others[4].path()).is_some());
    }
}
