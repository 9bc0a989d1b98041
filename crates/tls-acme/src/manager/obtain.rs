//! One certificate, at one authority after the other.

use std::time::{Duration, SystemTime};

use super::{Event, Manager, state::State};
use crate::{
    account::Accounts,
    attention::{Attention, Code, Failure, FailureKind, Outcome},
    authority::Authority,
    clock::unix,
    ledger::Ledger,
    order::{Issued, Ordering, load_record, record_key},
    renewal::{self, Reason},
    request::CertRequest,
    storage::lock_within,
    vault::{Origin, StoredCertificate, VaultError},
};

/// A limit that passes so soon is waited for.
const LIMIT_PATIENCE: Duration = Duration::from_secs(15);

impl Manager {
    /// Has the certificate: the stored one where that is good for a while, or a new one.
    ///
    /// One attempt is made at once, whatever failed before; the authority's own limits are kept.
    ///
    /// # Cancel safety
    /// An order that was made is gone on with by the next call.
    pub async fn issue(&self, request: &CertRequest) -> Outcome<StoredCertificate> {
        self.obtain(request, None, true).await
    }

    /// Has a new certificate in place of the stored one, however good that is.
    ///
    /// # Cancel safety
    /// As [`issue`](Self::issue).
    pub async fn renew(&self, request: &CertRequest) -> Outcome<StoredCertificate> {
        let id = request.id();
        match self.load(&id).await {
            Ok(before) => {
                let before = before.map(|found| found.fingerprint).unwrap_or_default();
                self.obtain(request, Some(before), true).await
            }
            Err(error) => self.ended(&id, &error.into(), self.now() + Duration::from_secs(60)),
        }
    }

    /// Has a certificate. With `unlike` the one of that fingerprint is not good enough; `at_once` leaves
    /// out the wait that earlier failures ask for.
    pub(super) async fn obtain(
        &self,
        request: &CertRequest,
        unlike: Option<String>,
        at_once: bool,
    ) -> Outcome<StoredCertificate> {
        let id = request.id();
        let soon = self.now() + Duration::from_secs(60);
        let _turn = self.turn(&id).await;
        let lock =
            lock_within(self.storage(), &format!("cert-{id}"), self.0.options.lock_patience).await;
        let _lock = match lock {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                let sentence = "Another instance is working on this certificate.";
                let busy = Failure::of(FailureKind::Local, Code::StorageBusy, &id, sentence);
                return self.ended(&id, &busy, soon);
            }
            Err(error) => return self.ended(&id, &error.into(), soon),
        };
        match self.obtain_alone(request, &id, unlike, at_once).await {
            Ok(outcome) => outcome,
            Err(failure) => self.ended(&id, &failure, soon),
        }
    }

    async fn obtain_alone(
        &self,
        request: &CertRequest,
        id: &str,
        unlike: Option<String>,
        at_once: bool,
    ) -> Result<Outcome<StoredCertificate>, Failure> {
        let mut state = State::load(self.storage(), id).await?;
        let stored = self.load(id).await?;
        let reason = self.reason(request, stored.as_ref(), &state, unlike.as_deref());
        let (Some(reason), _) = (reason, ()) else {
            // Another instance may have had it in the meantime.
            let Some(stored) = stored else { return Ok(self.bug(id)) };
            // A crash may have come between storing the certificate and forgetting its order.
            if load_record(self.storage(), id).await?.and_then(|record| record.url)
                == stored.origin.order
                && stored.origin.order.is_some()
            {
                self.storage().remove(&record_key(id)).await?;
            }
            self.adopt(id, stored.clone());
            return Ok(Outcome::Done(stored));
        };
        if !at_once && state.retry_at() > self.now() {
            let sentence = "An earlier attempt failed; the next one has its time.";
            let code = state.last_code.as_deref();
            let code = Code::ALL
                .iter()
                .find(|one| Some(one.as_str()) == code)
                .copied()
                .unwrap_or(Code::ServerError);
            let why = Box::new(Attention::new(code, id, sentence));
            return Ok(Outcome::TryLater { at: state.retry_at(), why });
        }
        self.try_authorities(request, id, &mut state, stored.as_ref(), reason).await
    }

    /// Why a new certificate is needed; `None` where it is not.
    pub(super) fn reason(
        &self,
        request: &CertRequest,
        stored: Option<&StoredCertificate>,
        state: &State,
        unlike: Option<&str>,
    ) -> Option<Reason> {
        let Some(stored) = stored else { return Some(Reason::Missing) };
        if !request.is_for(&stored.names) {
            return Some(Reason::NamesChanged);
        }
        if unlike.is_some_and(|unlike| unlike == stored.fingerprint) {
            return Some(Reason::Asked);
        }
        renewal::decide(&self.renewal_facts(stored, state), self.now())
    }

    async fn try_authorities(
        &self,
        request: &CertRequest,
        id: &str,
        state: &mut State,
        stored: Option<&StoredCertificate>,
        reason: Reason,
    ) -> Result<Outcome<StoredCertificate>, Failure> {
        let wanted =
            |one: &&Authority| request.authority.as_ref().is_none_or(|name| *name == one.name);
        let authorities: Vec<&Authority> =
            self.0.options.authorities.iter().filter(wanted).collect();
        let names: Vec<&str> = authorities.iter().map(|one| one.name.as_str()).collect();
        let mut last = None;
        for index in state.rank(&names) {
            let Some(authority) = authorities.get(index).copied() else { continue };
            match self.try_one(request, id, authority, state, stored).await {
                Ok(issued) => {
                    let stored = self.keep(request, id, authority, issued).await?;
                    state.succeeded(&authority.name);
                    state.save(self.storage(), id).await?;
                    let mut over: Vec<String> =
                        request.names.iter().map(ToString::to_string).collect();
                    over.extend([id.to_owned(), authority.name.clone()]);
                    self.settle(&over);
                    tracing::info!(
                        id,
                        authority = authority.name,
                        ?reason,
                        "a certificate was had"
                    );
                    let (not_after, authority) = (stored.not_after, authority.name.clone());
                    let event = Event::Issued { id: id.to_owned(), not_after, authority, reason };
                    let _nobody_listens = self.0.events.send(event);
                    return Ok(Outcome::Done(stored));
                }
                Err((failure, is_staging)) => {
                    let moves_on =
                        state.failed(&authority.name, &failure, self.now(), is_staging, id);
                    state.save(self.storage(), id).await?;
                    self.attend((*failure.attention).clone());
                    last = Some(failure);
                    if !moves_on {
                        break;
                    }
                }
            }
        }
        let Some(failure) = last else {
            let sentence = "No authority is configured for this certificate.";
            return Err(Failure::of(FailureKind::Permanent, Code::AccountRefused, id, sentence));
        };
        Ok(self.ended(id, &failure, state.retry_at()))
    }

    /// One attempt at one authority, by way of its staging directory if that is wise. Also tells whether it
    /// was staging that failed.
    async fn try_one(
        &self,
        request: &CertRequest,
        id: &str,
        authority: &Authority,
        state: &State,
        stored: Option<&StoredCertificate>,
    ) -> Result<Issued, (Failure, bool)> {
        let under_way =
            load_record(self.storage(), id).await.map_err(|failure| (failure, false))?;
        let is_under_way = under_way.is_some_and(|record| record.directory == authority.directory);
        if state.wants_staging()
            && !is_under_way
            && let Some(staging) = authority.as_staging()
        {
            let tried = self.order(request, id, &staging, state, None).await;
            tried.map_err(|failure| (failure, true))?;
            // A certificate for trials is good for nothing but to know that it would be had.
            let removed = self.storage().remove(&record_key(id)).await;
            removed.map_err(|error| (error.into(), true))?;
        }
        let replaced =
            stored.filter(|one| one.origin.directory == authority.directory && state.failures != 1);
        let order = self.order(request, id, authority, state, replaced).await;
        order.map_err(|failure| (failure, false))
    }

    async fn order(
        &self,
        request: &CertRequest,
        id: &str,
        authority: &Authority,
        state: &State,
        replaced: Option<&StoredCertificate>,
    ) -> Result<Issued, Failure> {
        let storage = self.storage();
        let before = load_record(storage, id).await?;
        let resumes = before
            .as_ref()
            .is_some_and(|record| record.directory == authority.directory && record.url.is_some());
        let transport = self.transport(authority)?;
        let replaces = match replaced {
            Some(replaced) if transport.directory().await?.renewal_info.is_some() => {
                replaced.facts.ari_id.clone()
            }
            _ => None,
        };
        if !resumes {
            self.enter_order(request, authority, replaces.is_some()).await?;
        }
        let attend = |attention| self.attend(attention);
        let accounts = Accounts {
            storage,
            clock: self.0.options.clock.as_ref(),
            contact: &self.0.options.contact,
            attention: &attend,
        };
        let mut is_new_account = false;
        loop {
            let (account, session) = accounts.open(authority, &transport).await?;
            let mut ordering = Ordering {
                storage,
                clock: self.0.options.clock.as_ref(),
                challenges: &self.0.options.challenges,
                http01: &self.0.options.http01,
                tls_alpn01: &self.0.tls_alpn01,
                authority,
                account,
                session,
                request,
                replaces: replaces.clone(),
                failures: state.failures,
                timeout: self.0.options.order_timeout,
            };
            let result = ordering.run(load_record(storage, id).await?).await;
            match result {
                Err(failure) if failure.kind == FailureKind::AccountGone && !is_new_account => {
                    is_new_account = true;
                    storage.remove(&record_key(id)).await?;
                    accounts.forget(authority).await?;
                }
                Err(failure) if failure.kind == FailureKind::Validation => {
                    let name = failure.attention.subject.clone();
                    self.with_ledger(authority, |ledger, now| ledger.failed(&name, now)).await?;
                    return Err(failure);
                }
                other => return other,
            }
        }
    }

    /// Stores what was had, serves it, and only then forgets the order.
    async fn keep(
        &self,
        request: &CertRequest,
        id: &str,
        authority: &Authority,
        issued: Issued,
    ) -> Result<StoredCertificate, Failure> {
        let origin = Origin {
            directory: authority.directory.clone(),
            profile: issued.profile,
            stored_at: unix(self.now()),
            order: Some(issued.url),
        };
        let stored = self.0.vault.store(id, &issued.chain_pem, &issued.key_pem, &origin).await;
        let stored = stored.map_err(|error| match error {
            VaultError::Storage(error) => Failure::from(error),
            error @ VaultError::Unusable { .. } => {
                let sentence = format!("The authority's certificate cannot be used: {error}.");
                Failure::of(FailureKind::Authority, Code::Garbage, &authority.name, sentence)
            }
        })?;
        self.adopt(id, stored.clone());
        self.storage().remove(&record_key(id)).await?;
        self.with_ledger(authority, |ledger, now| ledger.issued(&request.names, now)).await?;
        Ok(stored)
    }

    /// Enters an order into the ledger, if the limits allow it.
    async fn enter_order(
        &self,
        request: &CertRequest,
        authority: &Authority,
        is_exempt: bool,
    ) -> Result<(), Failure> {
        loop {
            let checked = self
                .with_ledger(authority, |ledger, now| {
                    ledger.check(&authority.limits, &request.names, is_exempt, now)?;
                    ledger.ordered(now);
                    Ok(())
                })
                .await?;
            let Err(reached): Result<(), crate::ledger::Reached> = checked else { return Ok(()) };
            let wait = reached.until.duration_since(self.now()).unwrap_or_default();
            if wait > LIMIT_PATIENCE {
                let sentence = format!("The authority allows only {}.", reached.limit);
                let mut failure = Failure::of(
                    FailureKind::RateLimited,
                    Code::LedgerLimit,
                    request.id(),
                    sentence,
                );
                failure.retry_after = Some(wait);
                return Err(failure);
            }
            tokio::time::sleep(wait.max(Duration::from_millis(50))).await;
        }
    }

    async fn with_ledger<T>(
        &self,
        authority: &Authority,
        change: impl FnOnce(&mut Ledger, SystemTime) -> T,
    ) -> Result<T, Failure> {
        let key = Ledger::key(&authority.name);
        let _turn = self.turn(&key).await;
        let lock_name = format!("ledger-{}", authority.name);
        // Without the lock a limit may be counted wrong by one, which is better than no certificate.
        let _lock = lock_within(self.storage(), &lock_name, Duration::from_secs(2)).await?;
        let bytes = self.storage().load(&key).await?;
        let mut ledger: Ledger =
            bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let result = change(&mut ledger, self.now());
        self.storage().store(&key, &serde_json::to_vec(&ledger).unwrap_or_default()).await?;
        Ok(result)
    }

    /// How a failure is told.
    pub(super) fn ended<T>(&self, id: &str, failure: &Failure, retry_at: SystemTime) -> Outcome<T> {
        self.attend((*failure.attention).clone());
        let attention = (*failure.attention).clone();
        let event = Event::Failed { id: id.to_owned(), retry_at, attention };
        let _nobody_listens = self.0.events.send(event);
        let why = failure.attention.clone();
        match failure.kind {
            FailureKind::Permanent => Outcome::Refused(why),
            _ => Outcome::TryLater { at: retry_at, why },
        }
    }

    fn bug<T>(&self, id: &str) -> Outcome<T> {
        let sentence = "The stored certificate went away.";
        let failure = Failure::of(FailureKind::Local, Code::Storage, id, sentence);
        self.ended(id, &failure, self.now())
    }
}
