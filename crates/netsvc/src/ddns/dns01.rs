//! Answers to DNS-01 challenges (RFC 8555 §8.4).

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::Mutex;
use tracing::{info, warn};

use super::{DnsProvider, Notice, ProviderError, Remedy};
use crate::dns::{DnsClient, DnsError, Expected, InvalidName, Name, Propagation, Waiting};

/// Shows the answers to DNS-01 challenges, and takes them away again.
///
/// Several answers for one name stand beside each other, as a certificate for a domain and its
/// wildcard needs them.
pub struct Dns01 {
    provider: Arc<dyn DnsProvider>,
    dns: DnsClient,
    waiting: Waiting,
    /// What is shown now, by domain. Held during changes too: services read and write whole sets of records.
    shown: Mutex<Vec<(Name, Dns01Record)>>,
}

/// An answer that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dns01Record {
    /// Where it stands: `_acme-challenge.` before the domain, or where an alias from there leads.
    pub name: Name,
    /// The answer.
    pub value: String,
}

/// Why an answer is not shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Dns01Error {
    /// The alias of the challenge cannot be followed. Who runs the zone must act.
    #[error("the alias of {name} cannot be followed")]
    Alias {
        /// Where it begins.
        name: Name,
        /// Why not.
        source: DnsError,
    },
    /// The domain is no name.
    #[error("{domain} is no domain name")]
    InvalidDomain {
        /// What was asked for.
        domain: String,
        /// What is wrong.
        source: InvalidName,
    },
    /// The name servers cannot be found or asked.
    #[error("the name servers of {name} cannot be asked")]
    Lookup {
        /// The name.
        name: Name,
        /// Why not.
        source: DnsError,
    },
    /// Not every name server shows the answer in time.
    #[error("{0}")]
    NotPropagated(Propagation),
    /// The service did not do it.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The service can show fewer answers at once than are needed.
    #[error("{provider} holds {count_max} text records for a name: order the names one by one")]
    TooMany {
        /// The service.
        provider: &'static str,
        /// How many it holds.
        count_max: u32,
    },
}

impl Dns01Error {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Alias { .. } => Notice::BrokenDelegation.code(),
            Self::InvalidDomain { .. } => super::ProviderErrorKind::NotFqdn.code(),
            Self::Lookup { .. } => Notice::NoAnswer.code(),
            Self::NotPropagated(_) => Notice::NotPropagated.code(),
            Self::Provider(error) => error.kind().code(),
            Self::TooMany { .. } => super::ProviderErrorKind::Unsupported.code(),
        }
    }

    /// Whether somebody must act before trying again can help.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Lookup { .. } | Self::NotPropagated(_) => false,
            Self::Alias { source, .. } => matches!(source, DnsError::AliasLoop { .. }),
            Self::InvalidDomain { .. } | Self::TooMany { .. } => true,
            Self::Provider(error) => error.kind().remedy() != Remedy::Later,
        }
    }

    /// How long the service wants to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Provider(error) => error.retry_after(),
            _ => None,
        }
    }

    /// What whoever must act can do.
    #[must_use]
    pub fn fix(&self) -> &'static str {
        match self {
            Self::Alias { .. } => Notice::BrokenDelegation.fix(),
            Self::InvalidDomain { .. } => super::ProviderErrorKind::NotFqdn.fix(),
            Self::Lookup { .. } => Notice::NoAnswer.fix(),
            Self::NotPropagated(_) => Notice::NotPropagated.fix(),
            Self::Provider(error) => error.kind().fix(),
            Self::TooMany { .. } => "order the names one by one, or use another service",
        }
    }
}

impl Dns01 {
    /// Answers through a service; the DNS client follows aliases and watches the name servers.
    #[must_use]
    pub fn new(provider: Arc<dyn DnsProvider>, dns: DnsClient) -> Self {
        let shown = Mutex::new(Vec::new());
        Self { provider, dns, waiting: Waiting::default(), shown }
    }

    /// Changes how long name servers are waited for.
    #[must_use]
    pub fn with_waiting(mut self, waiting: Waiting) -> Self {
        self.waiting = waiting;
        self
    }

    /// Where the answer for a domain belongs, for whoever has not kept what [`present`](Self::present)
    /// returned: what is shown already, or else what the aliases say now.
    ///
    /// # Errors
    /// [`Dns01Error::Alias`] or [`Dns01Error::InvalidDomain`].
    pub async fn record(&self, domain: &str, value: &str) -> Result<Dns01Record, Dns01Error> {
        let base = base_of(domain)?;
        let shown = self.shown.lock().await;
        let held = shown.iter().find(|(of, held)| *of == base && held.value == value);
        if let Some((_, held)) = held {
            return Ok(held.clone());
        }
        drop(shown);
        Ok(Dns01Record { name: self.place(&base).await?, value: value.to_owned() })
    }

    /// Shows an answer for a domain, with or without `*.` or `_acme-challenge.` before it. Aliases are followed, so that a
    /// zone without an interface can point its challenges to one that has one.
    ///
    /// # Errors
    /// [`Dns01Error`].
    ///
    /// # Cancel safety
    /// The record may be there or not; it is removed by the `clean_up` of an answer with that value.
    pub async fn present(&self, domain: &str, value: &str) -> Result<Dns01Record, Dns01Error> {
        let base = base_of(domain)?;
        let record = Dns01Record { name: self.place(&base).await?, value: value.to_owned() };
        let mut shown = self.shown.lock().await;
        let others = shown.iter().map(|(_, other)| other);
        let beside = others.filter(|other| other.name == record.name && **other != record);
        let count_max = self.provider.capabilities().txt_count_max;
        if u32::try_from(beside.count()).unwrap_or(u32::MAX) >= count_max {
            return Err(Dns01Error::TooMany { provider: self.provider.name(), count_max });
        }
        self.provider.add_txt(&record.name, value).await?;
        shown.push((base, record.clone()));
        info!(name = %record.name, "the answer to a challenge was handed to the service");
        Ok(record)
    }

    /// Waits until every authoritative name server shows an answer.
    ///
    /// # Errors
    /// [`Dns01Error::NotPropagated`] says which one does not.
    pub async fn wait(&self, record: &Dns01Record) -> Result<Propagation, Dns01Error> {
        let expected = Expected::Text(record.value.clone());
        let state = self.dns.wait_for_propagation(&record.name, &expected, self.waiting).await;
        let state =
            state.map_err(|source| Dns01Error::Lookup { name: record.name.clone(), source })?;
        match state.is_complete_among_reachable() {
            true => Ok(state),
            false => Err(Dns01Error::NotPropagated(state)),
        }
    }

    /// Takes an answer away. Others of the name stay.
    ///
    /// # Errors
    /// [`Dns01Error::Provider`]; what is left does no harm, and the next attempt removes it.
    pub async fn clean_up(&self, record: &Dns01Record) -> Result<(), Dns01Error> {
        let mut shown = self.shown.lock().await;
        let removed = self.provider.remove_txt(&record.name, &record.value).await;
        if let Err(error) = &removed {
            warn!(code = error.kind().code(), name = %record.name, "an answer is left over: {error}");
        }
        shown.retain(|(_, other)| other != record);
        Ok(removed?)
    }

    /// Where the answer for a domain belongs.
    async fn place(&self, base: &Name) -> Result<Name, Dns01Error> {
        let name = base
            .child(LABEL)
            .map_err(|source| Dns01Error::InvalidDomain { domain: base.to_string(), source })?;
        match self.dns.follow_aliases(&name).await {
            Ok(target) => Ok(target),
            // Nobody to ask: the plain name is right unless there is an alias.
            Err(DnsError::NoResolver) => Ok(name),
            Err(source) => Err(Dns01Error::Alias { name, source }),
        }
    }
}

impl fmt::Debug for Dns01 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns01").field("provider", &self.provider.name()).finish_non_exhaustive()
    }
}

/// The domain itself: without `*.`, and without the label that answers stand under.
fn base_of(domain: &str) -> Result<Name, Dns01Error> {
    let base = domain.strip_prefix("*.").unwrap_or(domain);
    let base = base.strip_prefix(LABEL).and_then(|rest| rest.strip_prefix('.')).unwrap_or(base);
    base.parse().map_err(|source| Dns01Error::InvalidDomain { domain: domain.to_owned(), source })
}

/// RFC 8555 §8.4.
const LABEL: &str = "_acme-challenge";
