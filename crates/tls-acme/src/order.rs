//! One order, from its making to its certificate, in steps that a crash does not undo.
//!
//! Before anything is asked of the authority the key and the wish are stored; the order's URL is stored
//! as soon as it is known. Whoever comes after a crash goes on with that order, so that none is made
//! twice and no certificate is lost.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, Error, NewOrder, Order,
    OrderStatus,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::Der;
use serde::{Deserialize, Serialize};

use crate::{
    attention::{Code, Failure, FailureKind},
    authority::Authority,
    challenge::{ChallengeKind, Challenges, Http01, TlsAlpn01},
    clock::{Clock, unix},
    facts::AriId,
    name::Name,
    problem::{again, of_challenge, of_problem, of_request},
    request::CertRequest,
    storage::Storage,
    transport::Session,
};

/// What is stored of an order that is under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OrderRecord {
    pub(crate) directory: String,
    pub(crate) names: Vec<String>,
    pub(crate) profile: Option<String>,
    key_pem: String,
    /// `None` between the wish and the authority's answer to it.
    pub(crate) url: Option<String>,
    created: u64,
}

/// What an order brought.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
    pub(crate) url: String,
    pub(crate) profile: Option<String>,
}

/// Makes one order for one certificate.
pub(crate) struct Ordering<'a> {
    pub(crate) storage: &'a dyn Storage,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) challenges: &'a Challenges,
    pub(crate) http01: &'a Http01,
    pub(crate) tls_alpn01: &'a TlsAlpn01,
    pub(crate) authority: &'a Authority,
    pub(crate) account: Account,
    pub(crate) session: Session,
    pub(crate) request: &'a CertRequest,
    pub(crate) replaces: Option<AriId>,
    /// How often this failed before: the kinds of challenge take turns.
    pub(crate) failures: u32,
    pub(crate) timeout: Duration,
}

/// A challenge that is being solved.
struct Solving {
    /// Of the authorization.
    url: String,
    name: Name,
    kind: ChallengeKind,
    token: String,
    text: String,
    digest: Vec<u8>,
    dns_value: String,
}

/// Orders of an account that are looked through for one whose URL was lost.
const LOST_ORDERS_MAX: usize = 20;

/// Pages of that list, which begins with the oldest.
const ORDER_PAGES_MAX: usize = 500;

pub(crate) fn record_key(id: &str) -> String {
    format!("orders/{id}.json")
}

/// The order that is under way for `id`, unless its record is unreadable.
pub(crate) async fn load_record(
    storage: &dyn Storage,
    id: &str,
) -> Result<Option<OrderRecord>, Failure> {
    let bytes = storage.load(&record_key(id)).await?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

impl Ordering<'_> {
    /// Goes on with the order that is under way, or makes one, and brings the certificate. The record stays
    /// until the caller has stored that; where the order failed for good it is removed.
    pub(crate) async fn run(&mut self, before: Option<OrderRecord>) -> Result<Issued, Failure> {
        let fits = |record: &OrderRecord| {
            record.directory == self.authority.directory && record.names == self.names()
        };
        let before = before.filter(fits);
        let (mut record, mut order) = match before {
            Some(record) => match self.resume(&record).await? {
                Some(order) => (OrderRecord { url: Some(order.url().to_owned()), ..record }, order),
                None if record.url.is_none() => self.place(Some(record)).await?,
                None => self.place(None).await?,
            },
            None => self.place(None).await?,
        };
        self.save(&mut record).await?;
        let result = self.drive(&mut order, &record).await;
        if let Err(failure) = &result
            && !matches!(
                failure.kind,
                FailureKind::Authority | FailureKind::RateLimited | FailureKind::Local
            )
        {
            self.storage.remove(&record_key(&self.request.id())).await?;
        }
        let chain_pem = result?;
        Ok(Issued {
            chain_pem,
            key_pem: record.key_pem,
            url: order.url().to_owned(),
            profile: record.profile,
        })
    }

    /// The order of a record, if the authority still knows it and it can still succeed.
    async fn resume(&self, record: &OrderRecord) -> Result<Option<Order>, Failure> {
        let Some(url) = &record.url else { return self.find_lost(record).await };
        let fetched = again!(&self.session, &self.authority.name, self.account.order(url.clone()));
        match fetched {
            Ok(mut order) => {
                let can_succeed = order.state().status != OrderStatus::Invalid;
                Ok(can_succeed.then_some(order))
            }
            // It is forgotten, or belongs to an account that is.
            Err(failure)
                if failure.attention.code == Code::ServerError
                    || failure.kind == FailureKind::Permanent =>
            {
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Looks among the account's orders for one that was made, and whose URL a crash kept from being stored.
    /// Not all authorities tell (RFC 8555 §7.1.2.1); those that do not mostly answer the same wish
    /// with the same order.
    async fn find_lost(&self, record: &OrderRecord) -> Result<Option<Order>, Failure> {
        #[derive(Deserialize)]
        struct AccountObject {
            orders: Option<String>,
        }
        #[derive(Deserialize)]
        struct Orders {
            orders: Vec<String>,
        }
        let Some(AccountObject { orders: Some(first) }) = self.read(self.account.id()).await else {
            return Ok(None);
        };
        let (mut orders, mut page) = (Vec::new(), Some(first));
        for _ in 0..ORDER_PAGES_MAX {
            let Some(url) = page.take() else { break };
            let Some(Orders { orders: more }) = self.read(&url).await else { break };
            orders.extend(more);
            page = self.session.next_page();
        }
        for url in orders.into_iter().rev().take(LOST_ORDERS_MAX) {
            let order =
                again!(&self.session, &self.authority.name, self.account.order(url.clone()));
            let Ok(mut order) = order else { continue };
            let is_open = matches!(order.state().status, OrderStatus::Pending | OrderStatus::Ready);
            if is_open && self.answer_is_for(&record.names) {
                return Ok(Some(order));
            }
        }
        Ok(None)
    }

    /// Reads an object that instant-acme has no call for: the request is its own, and the answer is read on
    /// its way.
    async fn read<T: serde::de::DeserializeOwned>(&self, url: &str) -> Option<T> {
        for _ in 0..10 {
            let outcome = self.account.order(url.to_owned()).await;
            match outcome {
                Err(Error::Api(problem))
                    if of_problem("", &problem).kind == FailureKind::BadNonce => {}
                _ => return serde_json::from_slice(&self.session.answer()?).ok(),
            }
        }
        None
    }

    /// Whether the last answer was an order for just these names.
    fn answer_is_for(&self, names: &[String]) -> bool {
        #[derive(Deserialize)]
        struct OrderObject {
            identifiers: Vec<IdentifierObject>,
        }
        #[derive(Deserialize)]
        struct IdentifierObject {
            value: String,
        }
        let order = self.session.answer().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        order.is_some_and(|order: OrderObject| {
            let found: HashSet<String> =
                order.identifiers.into_iter().map(|one| one.value).collect();
            found.len() == names.len() && names.iter().all(|name| found.contains(name))
        })
    }

    /// Makes an order. The key is stored before that, the URL after it.
    async fn place(
        &mut self,
        before: Option<OrderRecord>,
    ) -> Result<(OrderRecord, Order), Failure> {
        let profile = self.profile().await?;
        let mut record = match before {
            Some(record) => record,
            None => OrderRecord {
                directory: self.authority.directory.clone(),
                names: self.names(),
                profile: profile.clone(),
                key_pem: self
                    .request
                    .key
                    .generate()
                    .map_err(|error| self.bug(&error))?
                    .serialize_pem(),
                url: None,
                created: unix(self.clock.now()),
            },
        };
        record.profile = profile;
        self.save(&mut record).await?;
        let identifiers: Vec<_> = self.request.names.iter().map(Name::identifier).collect();
        let has_ari = self.session.transport().directory().await?.renewal_info.is_some();
        let replaces = self.replaces.clone().filter(|_| has_ari);
        let mut wish = NewOrder::new(&identifiers);
        if let Some(profile) = record.profile.as_deref() {
            wish = wish.profile(profile);
        }
        if let Some(id) = &replaces {
            let (key, serial) = (Der::from_slice(&id.authority_key), Der::from_slice(&id.serial));
            wish = wish.replaces(CertificateIdentifier::new(key, serial));
        }
        let order = again!(&self.session, &self.authority.name, self.account.new_order(&wish));
        let order = match order {
            Err(failure) if replaces.is_some() && failure.kind == FailureKind::Replaces => {
                let mut wish = NewOrder::new(&identifiers);
                if let Some(profile) = record.profile.as_deref() {
                    wish = wish.profile(profile);
                }
                again!(&self.session, &self.authority.name, self.account.new_order(&wish))
            }
            other => other,
        };
        if let Err(failure) = &order
            && !matches!(failure.attention.code, Code::Unreachable | Code::Garbage)
        {
            // It was refused, so there is no order to be found again.
            self.storage.remove(&record_key(&self.request.id())).await?;
        }
        let order = order?;
        record.url = Some(order.url().to_owned());
        Ok((record, order))
    }

    /// The profile to order, if the authority has profiles.
    async fn profile(&self) -> Result<Option<String>, Failure> {
        let offered = self.session.transport().directory().await?.meta.profiles;
        if let Some(wanted) = &self.request.profile {
            if offered.contains_key(wanted) {
                return Ok(Some(wanted.clone()));
            }
            let mut names: Vec<_> = offered.into_keys().collect();
            names.sort();
            let list = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let sentence =
                format!("The authority does not know the profile {wanted:?}; it offers {list}.");
            return Err(Failure::of(
                FailureKind::Permanent,
                Code::Profile,
                self.request.id(),
                sentence,
            ));
        }
        let has_ip = self.request.names.iter().any(|name| name.ip().is_some());
        // Addresses change hands, so authorities issue for them only for a few days.
        if has_ip && offered.contains_key("shortlived") {
            return Ok(Some("shortlived".to_owned()));
        }
        Ok(self.authority.profile.clone().filter(|profile| offered.contains_key(profile)))
    }

    /// From whatever state the order is in to its certificate.
    async fn drive(&self, order: &mut Order, record: &OrderRecord) -> Result<String, Failure> {
        let subject = self.authority.name.clone();
        if order.state().status == OrderStatus::Pending {
            let mut solving = Vec::new();
            let solved = self.solve(order, &mut solving).await;
            // Whatever came of it, nothing is left behind.
            self.clean_up(&solving).await;
            solved?;
        }
        if order.state().status == OrderStatus::Ready {
            let csr = self.csr(record)?;
            let finalized = again!(&self.session, &subject, order.finalize_csr(&csr));
            if let Err(failure) = finalized {
                // It may have been heard all the same.
                again!(&self.session, &subject, async { order.refresh().await.map(|_| ()) })?;
                if !matches!(order.state().status, OrderStatus::Processing | OrderStatus::Valid) {
                    return Err(failure);
                }
            }
        }
        self.poll(order, |status| matches!(status, OrderStatus::Valid)).await?;
        let pem = again!(&self.session, &subject, order.certificate())?;
        pem.ok_or_else(|| self.session.transport().garbage())
    }

    /// Solves what is to be solved, until the order is ready.
    async fn solve(&self, order: &mut Order, solving: &mut Vec<Solving>) -> Result<(), Failure> {
        self.plan(order, solving).await?;
        for one in solving.iter() {
            self.present(one).await?;
        }
        for one in solving.iter().filter(|one| one.kind == ChallengeKind::Dns01) {
            if let Some(solver) = &self.challenges.dns01 {
                let waited = solver.wait(&record_name(&one.name), &one.dns_value).await;
                waited.map_err(|error| solver_failed(&one.name, &error))?;
            }
        }
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization
                .map_err(|error| of_request(&self.session, &self.authority.name, error))?;
            let url = authorization.url().to_owned();
            let Some(one) = solving.iter().find(|one| one.url == url) else { continue };
            let Some(mut challenge) = authorization.challenge(one.kind.acme()) else { continue };
            if challenge.status == ChallengeStatus::Pending {
                again!(&self.session, &one.name.to_string(), challenge.set_ready())?;
            }
        }
        let settled = |status| !matches!(status, OrderStatus::Pending);
        match self.poll(order, settled).await {
            Err(failure) if failure.attention.code == Code::OrderLost => {
                Err(self.explain(order, solving).await.unwrap_or(failure))
            }
            other => other,
        }
    }

    /// Finds out which authorizations are missing, and how each is had.
    async fn plan(&self, order: &mut Order, solving: &mut Vec<Solving>) -> Result<(), Failure> {
        let mut left = 10_u32;
        'again: loop {
            solving.clear();
            let mut authorizations = order.authorizations();
            while let Some(authorization) = authorizations.next().await {
                let mut authorization = match authorization {
                    Ok(authorization) => authorization,
                    Err(error) => {
                        let failure = of_request(&self.session, &self.authority.name, error);
                        left -= 1;
                        if failure.kind != FailureKind::BadNonce || left == 0 {
                            return Err(failure);
                        }
                        continue 'again;
                    }
                };
                let name: Name = authorization
                    .identifier()
                    .to_string()
                    .parse()
                    .map_err(|_| self.session.transport().garbage())?;
                if authorization.status == AuthorizationStatus::Valid {
                    continue;
                }
                let url = authorization.url().to_owned();
                let offered: Vec<_> =
                    authorization.challenges.iter().map(|one| one.r#type.clone()).collect();
                let kind = self.choose(&name, &offered)?;
                let Some(challenge) = authorization.challenge(kind.acme()) else { continue };
                let key = challenge.key_authorization();
                let token = challenge.token.clone();
                solving.push(Solving {
                    url,
                    name,
                    kind,
                    token,
                    text: key.as_str().to_owned(),
                    digest: key.digest().as_ref().to_vec(),
                    dns_value: key.dns_value(),
                });
            }
            return Ok(());
        }
    }

    fn choose(
        &self,
        name: &Name,
        offered: &[instant_acme::ChallengeType],
    ) -> Result<ChallengeKind, Failure> {
        let ours = self.challenges.kinds(name.is_wildcard(), name.ip().is_some());
        let wanted = |kind: &ChallengeKind| self.request.challenge.is_none_or(|only| only == *kind);
        let both: Vec<_> =
            ours.into_iter().filter(wanted).filter(|kind| offered.contains(&kind.acme())).collect();
        let turn = self.failures as usize % both.len().max(1);
        both.get(turn).copied().ok_or_else(|| {
            let list: Vec<String> = offered.iter().map(|kind| format!("{kind:?}")).collect();
            let sentence = format!(
                "The authority offers {} for {name}, and none of it can be done here.",
                list.join(", ")
            );
            Failure::of(FailureKind::Permanent, Code::NoChallenge, name.to_string(), sentence)
        })
    }

    async fn present(&self, one: &Solving) -> Result<(), Failure> {
        match one.kind {
            ChallengeKind::Http01 => {
                if !crate::challenge::is_token(&one.token) {
                    return Err(self.session.transport().garbage());
                }
                Ok(self.http01.present(&one.token, &one.text).await?)
            }
            ChallengeKind::TlsAlpn01 => {
                self.tls_alpn01.present(&one.name, &one.digest).map_err(|error| self.bug(&error))
            }
            ChallengeKind::Dns01 => {
                let Some(solver) = &self.challenges.dns01 else { return Ok(()) };
                let presented = solver.present(&record_name(&one.name), &one.dns_value).await;
                presented.map_err(|error| solver_failed(&one.name, &error))
            }
        }
    }

    async fn clean_up(&self, solving: &[Solving]) {
        for one in solving {
            match (one.kind, &self.challenges.dns01) {
                (ChallengeKind::Http01, _) => {
                    let _ = self.http01.remove(&one.token).await;
                }
                (ChallengeKind::TlsAlpn01, _) => self.tls_alpn01.remove(&one.name),
                (ChallengeKind::Dns01, Some(solver)) => {
                    let removed = solver.cleanup(&record_name(&one.name), &one.dns_value).await;
                    if let Err(error) = removed {
                        tracing::warn!(name = %one.name, %error, "a challenge's TXT record was left behind");
                    }
                }
                (ChallengeKind::Dns01, None) => {}
            }
        }
    }

    /// Asks until the order is as wanted. The authority says how often.
    async fn poll(
        &self,
        order: &mut Order,
        is_done: impl Fn(OrderStatus) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + self.timeout;
        let mut pause = Duration::from_millis(20);
        loop {
            let status = order.state().status;
            if status == OrderStatus::Invalid {
                let problem = order.state().error.as_ref();
                return Err(problem.map_or_else(
                    || self.lost("The order failed."),
                    |problem| {
                        let mut failure = of_challenge(&self.request.id(), "challenge", problem);
                        if failure.kind == FailureKind::Authority {
                            failure = self.lost(&failure.attention.sentence);
                        }
                        failure
                    },
                ));
            }
            if is_done(status) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let sentence =
                    format!("The order was not done within {} s.", self.timeout.as_secs());
                return Err(Failure::of(
                    FailureKind::Authority,
                    Code::ServerError,
                    &self.authority.name,
                    sentence,
                ));
            }
            let wait = self.session.retry_after().filter(|wait| !wait.is_zero()).unwrap_or(pause);
            let left = deadline.saturating_duration_since(Instant::now());
            tokio::time::sleep(wait.min(left).min(Duration::from_secs(30))).await;
            pause = (pause * 3 / 2).min(Duration::from_secs(5));
            again!(&self.session, &self.authority.name, async {
                order.refresh().await.map(|_| ())
            })?;
        }
    }

    /// Why an order became invalid: the errors stand in its challenges.
    async fn explain(&self, order: &mut Order, solving: &[Solving]) -> Option<Failure> {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let refreshed = again!(&self.session, &self.authority.name, async {
                authorization.refresh().await.map(|_| ())
            });
            refreshed.ok()?;
            let name = authorization.identifier().to_string();
            let how = solving.iter().find(|one| one.url == authorization.url());
            let how = how.map_or("challenge", |one| one.kind.as_str());
            let error =
                authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref());
            if let Some(problem) = error {
                return Some(of_challenge(&name, how, problem));
            }
        }
        None
    }

    fn csr(&self, record: &OrderRecord) -> Result<Vec<u8>, Failure> {
        let make = || -> Result<Vec<u8>, rcgen::Error> {
            let key = KeyPair::from_pem(&record.key_pem)?;
            let mut params = CertificateParams::new(record.names.clone())?;
            // No common name: an address has none, and nobody reads it.
            params.distinguished_name = DistinguishedName::new();
            Ok(params.serialize_request(&key)?.der().to_vec())
        };
        make().map_err(|error| self.bug(&error))
    }

    async fn save(&self, record: &mut OrderRecord) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(record).map_err(|error| self.bug(&error))?;
        Ok(self.storage.store(&record_key(&self.request.id()), &bytes).await?)
    }

    fn names(&self) -> Vec<String> {
        self.request.names.iter().map(ToString::to_string).collect()
    }

    fn lost(&self, sentence: &str) -> Failure {
        Failure::of(FailureKind::Validation, Code::OrderLost, self.request.id(), sentence)
    }

    fn bug(&self, error: &dyn std::fmt::Display) -> Failure {
        let sentence = format!("A key or certificate could not be made: {error}.");
        Failure::of(FailureKind::Permanent, Code::CertificateUnusable, self.request.id(), sentence)
    }
}

/// RFC 8555 §8.4; a wildcard's record is its domain's.
fn record_name(name: &Name) -> String {
    format!("_acme-challenge.{}", name.domain().unwrap_or_default())
}

fn solver_failed(name: &Name, error: &crate::SolverError) -> Failure {
    let kind = if error.is_permanent { FailureKind::Permanent } else { FailureKind::Validation };
    let sentence = format!("The TXT record could not be set: {error}.");
    let mut failure = Failure::of(kind, Code::DnsSolver, name.to_string(), sentence);
    failure.retry_after = error.retry_after;
    failure
}
