//! Our address as the internet sees it, believed only when two kinds of witnesses agree.
//!
//! A router, a STUN server, a name server and a web server each can be wrong, or lie. So
//! [`ExternalAddress::find`] asks them all at once and takes the address that witnesses of at least two
//! kinds name. Comparing it with the router's own tells which NATs stand between us and the internet.

mod consensus;
mod source;
pub mod stun;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use tokio::{task::JoinSet, time::timeout};

pub use self::{
    consensus::{Nat, Verdict, consensus},
    source::{
        AddressSource, DnsWhoami, Family, HttpsEcho, SourceError, SourceFuture, SourceKind,
        StunServer, TellsAddress,
    },
};
use crate::gateway;

/// What is asked, and how. Start from [`new`](Self::new) and change fields.
#[derive(Clone)]
#[non_exhaustive]
pub struct AddressOptions {
    /// The witnesses.
    pub sources: Vec<Arc<dyn AddressSource>>,
    /// How long all of them together may take. Default 5 s.
    pub timeout: Duration,
    /// How many kinds of witnesses must agree. Default 2.
    pub kinds_min: usize,
    /// What the router says its external IPv4 address is, where it says so. It is a witness, and
    /// shows which NATs there are. Default `None`.
    pub router: Option<Ipv4Addr>,
}

/// Our address as the internet sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExternalAddress {
    /// The address.
    pub address: IpAddr,
    /// What stands between us and the internet.
    pub nat: Nat,
    /// What each witness said.
    pub answers: Vec<SourceAnswer>,
}

/// What a witness said.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceAnswer {
    /// Its name.
    pub source: String,
    /// Its kind.
    pub kind: SourceKind,
    /// The address, or why there is none.
    pub address: Result<IpAddr, SourceError>,
}

/// Why no address is believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Witnesses contradict each other, and none of their addresses has the majority. Somebody lies, or
    /// there are several ways out: the user must say which.
    #[error("the sources name different addresses")]
    Disagree {
        /// What each said.
        answers: Vec<SourceAnswer>,
    },
    /// Nobody answered: there is no way out for this family, or everything is blocked.
    #[error("no source told an address")]
    NoAnswer {
        /// What each said.
        answers: Vec<SourceAnswer>,
    },
    /// Only one kind of witness named an address, which is not enough to believe it.
    #[error("{address} was named by {kind} only, and two kinds of sources must agree")]
    OneKindOnly {
        /// The address.
        address: IpAddr,
        /// Who named it.
        kind: SourceKind,
        /// What each said.
        answers: Vec<SourceAnswer>,
    },
}

impl AddressOptions {
    /// Asks these witnesses.
    #[must_use]
    pub fn new(sources: Vec<Arc<dyn AddressSource>>) -> Self {
        Self { sources, timeout: Duration::from_secs(5), kinds_min: 2, router: None }
    }

    /// What the router says about itself.
    #[must_use]
    pub fn with_router(mut self, address: Ipv4Addr) -> Self {
        self.router = Some(address);
        self
    }
}

impl AddressError {
    /// What each witness said.
    #[must_use]
    pub fn answers(&self) -> &[SourceAnswer] {
        match self {
            Self::Disagree { answers }
            | Self::NoAnswer { answers }
            | Self::OneKindOnly { answers, .. } => answers,
        }
    }
}

impl ExternalAddress {
    /// Asks all witnesses at once and compares what they say.
    ///
    /// It returns as soon as all have answered; who has not answered in time is counted as silent.
    ///
    /// # Errors
    /// [`AddressError`], with what each said.
    ///
    /// # Cancel safety
    /// Nothing is changed anywhere by dropping the future.
    pub async fn find(family: Family, options: &AddressOptions) -> Result<Self, AddressError> {
        let mut answers = ask(family, options).await;
        if let (Family::V4, Some(router)) = (family, options.router) {
            answers.push(SourceAnswer {
                source: "router".to_owned(),
                kind: SourceKind::Router,
                address: Ok(router.into()),
            });
        }
        let claims: Vec<_> = answers
            .iter()
            .filter_map(|answer| Some((answer.kind, answer.address.as_ref().ok().copied()?)))
            .collect();
        match consensus(&claims, options.kinds_min) {
            Verdict::Agreed(address) => {
                let local = gateway::addresses().unwrap_or_default();
                let is_ours = local.iter().any(|local| local.address == address);
                let nat = Nat::between(is_ours, options.router, address);
                Ok(Self { address, nat, answers })
            }
            Verdict::Disagreed => Err(AddressError::Disagree { answers }),
            Verdict::Silence => Err(AddressError::NoAnswer { answers }),
            Verdict::OneKindOnly(address, kind) => {
                Err(AddressError::OneKindOnly { address, kind, answers })
            }
        }
    }
}

/// The answers in the order of the sources.
async fn ask(family: Family, options: &AddressOptions) -> Vec<SourceAnswer> {
    let mut tasks = JoinSet::new();
    for (index, source) in options.sources.iter().enumerate() {
        let (source, limit) = (Arc::clone(source), options.timeout);
        tasks.spawn(async move {
            let answer = timeout(limit, source.ask(family)).await;
            let address = answer.unwrap_or(Err(SourceError::Timeout)).and_then(|address| {
                let is_right = address.is_ipv4() == (family == Family::V4);
                if is_right { Ok(address) } else { Err(SourceError::Nonsense("another family")) }
            });
            (index, SourceAnswer { source: source.name(), kind: source.kind(), address })
        });
    }
    // Dropping the set aborts what is left of it.
    let mut answers = Vec::new();
    while let Some(answer) = tasks.join_next().await {
        answers.extend(answer.ok());
    }
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

impl std::fmt::Debug for AddressOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.sources.iter().map(|source| source.name()).collect();
        f.debug_struct("AddressOptions")
            .field("sources", &names)
            .field("timeout", &self.timeout)
            .field("kinds_min", &self.kinds_min)
            .field("router", &self.router)
            .finish()
    }
}
