//! What shows that it was this machine that was reached.

use std::fmt::{self, Write as _};

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// A path that nobody has asked for before, and the content that only we answer there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    nonce: String,
    content: String,
}

/// Makes challenges and answers them. Whoever has the same secret answers the same, so that one process
/// can ask a probe about a site that another one serves.
///
/// Whoever serves the site asks [`answer`](Self::answer) first, before redirects and access rules.
#[derive(Clone)]
pub struct Challenges {
    secret: [u8; 32],
}

impl Challenge {
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
    /// Answers with what only those who know `secret` can tell.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// Answers with what only this process and its clones can tell.
    #[must_use]
    pub fn random() -> Self {
        Self::new(crate::random::bytes())
    }

    /// A new challenge.
    #[must_use]
    pub fn challenge(&self) -> Challenge {
        let nonce = hex(&crate::random::bytes::<16>());
        let content = self.proof(&nonce);
        Challenge { nonce, content }
    }

    /// The content for a request's path, if it is that of a challenge. Costs a comparison for all others.
    #[must_use]
    pub fn answer(&self, path: &str) -> Option<String> {
        let nonce = path.strip_prefix(PATH_PREFIX)?;
        is_nonce(nonce).then(|| self.proof(nonce))
    }

    fn proof(&self, nonce: &str) -> String {
        let mut hmac = <Hmac<Sha256> as Mac>::new_from_slice(&self.secret)
            .expect("an HMAC takes keys of any length");
        hmac.update(PATH_PREFIX.as_bytes());
        hmac.update(nonce.as_bytes());
        hex(&hmac.finalize().into_bytes())
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenges").finish_non_exhaustive()
    }
}

/// Whether a probe would fetch this path: nobody shall make it fetch anything else.
pub(super) fn is_challenge_path(path: &str) -> bool {
    path.strip_prefix(PATH_PREFIX).is_some_and(is_nonce)
}

fn is_nonce(text: &str) -> bool {
    (16..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

const PATH_PREFIX: &str = "/.well-known/hearth-probe/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let [challenges, same, other] = [[1; 32], [1; 32], [2; 32]].map(Challenges::new);
        let first = challenges.challenge();
        assert!(is_challenge_path(&first.path()));
        assert_eq!(challenges.answer(&first.path()).as_deref(), Some(first.content()));
        assert_eq!(same.answer(&first.path()).as_deref(), Some(first.content()));
        assert_ne!(other.answer(&first.path()).as_deref(), Some(first.content()));
        assert_ne!(challenges.challenge(), first);
        for path in [
            "/",
            "/.well-known/hearth-probe/",
            "/.well-known/hearth-probe/0123456789abcde",
            "/.well-known/hearth-probe/0123456789abcdeg",
            "/.well-known/hearth-probe/../../0123456789abcdef",
        ] {
            assert_eq!(challenges.answer(path), None, "{path}");
            assert!(!is_challenge_path(path), "{path}");
        }
        assert!(!format!("{challenges:?}").contains('1'), "a secret is not for logs");
    }
}
