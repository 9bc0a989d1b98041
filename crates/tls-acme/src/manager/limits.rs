//! What keeps an authority from being asked, as the storage knows it.

use std::time::{Duration, SystemTime};

use super::state::State;
use crate::{
    authority::Authority,
    clock::from_unix,
    ledger::{Ledger, Reached},
    request::CertRequest,
    storage::{Storage, StorageError},
};

/// Why no order is made at an authority for now, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthorityLimit {
    /// When orders are made again.
    pub until: SystemTime,
    /// Why not before that, as a part of a sentence.
    pub why: String,
}

impl Authority {
    /// What keeps this authority from being asked for a certificate: it said so itself, or what it was asked lately
    /// reaches the limits that it publishes. `None` where nothing does for more than some seconds.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn limit(
        &self,
        storage: &dyn Storage,
        request: &CertRequest,
        now: SystemTime,
    ) -> Result<Option<AuthorityLimit>, StorageError> {
        let state = State::load(storage, &request.id()).await?;
        if let Some(until) = state.limited_until(&self.name).map(from_unix)
            && until > now
        {
            let why = "it limits how many certificates one may have".to_owned();
            return Ok(Some(AuthorityLimit { until, why }));
        }
        let bytes = storage.load(&Ledger::key(&self.name)).await?;
        let ledger: Ledger =
            bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let reached = ledger.check(&self.limits, &request.names, false, now).err();
        let reached = reached.filter(|reached| reached.until > now + WORTH_TELLING);
        Ok(reached.map(|Reached { until, limit }| AuthorityLimit {
            until,
            why: format!("it allows only {limit}"),
        }))
    }
}

/// What passes sooner is waited for.
const WORTH_TELLING: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        attention::{Code, Failure, FailureKind},
        storage::MemoryStorage,
    };

    #[tokio::test]
    async fn limits_are_those_of_one_authority() {
        let storage = MemoryStorage::new();
        let now = from_unix(1_800_000_000);
        let request = CertRequest::new(["a.test".parse().expect("a name")]).expect("names");
        let (one, other) =
            (Authority::new("one", "https://1/"), Authority::new("other", "https://2/"));
        let mut state = State::default();
        let mut failure = Failure::of(FailureKind::RateLimited, Code::RateLimited, "a", "Slow.");
        failure.retry_after = Some(Duration::from_secs(7200));
        state.failed("one", &failure, now, false, "x");
        let server = Failure::of(FailureKind::Authority, Code::ServerError, "a", "It failed.");
        state.failed("other", &server, now, false, "x");
        state.save(&storage, &request.id()).await.expect("saved");
        let limit = one.limit(&storage, &request, now).await.expect("read").expect("a limit");
        assert_eq!(limit.until, now + Duration::from_secs(7200));
        assert_eq!(other.limit(&storage, &request, now).await.expect("read"), None);
        let later = now + Duration::from_secs(7200);
        assert_eq!(one.limit(&storage, &request, later).await.expect("read"), None);
        // What was asked of it lately counts as well.
        let mut ledger = Ledger::default();
        for _ in 0..5 {
            ledger.failed("a.test", now);
        }
        let bytes = serde_json::to_vec(&ledger).expect("JSON");
        storage.store(&Ledger::key("le"), &bytes).await.expect("saved");
        let mut public = Authority::lets_encrypt();
        public.name = "le".to_owned();
        let limit = public.limit(&storage, &request, now).await.expect("read").expect("a limit");
        assert_eq!(limit.until, now + Duration::from_secs(3600));
        assert_eq!(limit.why, "it allows only 5 failed validations of a.test in an hour");
    }
}
