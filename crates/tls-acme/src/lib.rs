//! Certificates: kept on disk, swapped while in use, had by ACME, renewed before they end.
//!
//! A [`Manager`] has certificates from [authorities](Authority), keeps them in a [`Storage`], and gives them to
//! TLS by [`Manager::resolver`]. What goes wrong becomes an [`Attention`]: a code, a sentence, and what
//! to do. [`import`] reads certificates from elsewhere, [`LocalCa`] makes them here.
//! Not here: TLS itself and the table of certificates by name (`hearth-net`), DNS providers (they come
//! through [`DnsSolver`]), configuration and commands (`hearth-server`).
#![forbid(unsafe_code)]

mod account;
mod attention;
mod authority;
mod challenge;
mod client_auth;
mod clock;
mod facts;
mod import;
mod ladder;
mod ledger;
mod local_ca;
mod manager;
mod name;
mod order;
mod problem;
mod renewal;
mod request;
mod responder;
mod revocation;
mod storage;
mod tickets;
mod transport;
mod vault;

pub use crate::{
    attention::{Attention, Code, Outcome, Who},
    authority::{Authority, Eab, InvalidEab, Roots},
    challenge::{
        ACME_TLS_ALPN, AcmeResolver, ChallengeKind, Challenges, DnsSolver, HookSolver, Http01,
        SolverError, SolverFuture, TlsAlpn01, UnknownChallenge,
    },
    client_auth::{ClientAuthorities, ClientAuthoritiesError},
    clock::{Clock, SystemClock},
    import::{ImportError, Imported, import},
    ledger::RateLimits,
    local_ca::{LocalCa, LocalCaError, PemPair, TrustStore, self_signed},
    manager::{
        AuthorityLimit, Event, ExpiryGauge, ExpiryLevel, Manager, ManagerOptions, OnDemand,
        OnDemandResolver, RevocationReason,
    },
    name::{InvalidName, Name},
    renewal::Reason,
    request::{CertRequest, KeyKind, NoNames},
    responder::{Responder, ResponderError},
    revocation::{RevocationLists, RevocationListsError},
    storage::{
        FileStorage, LockKind, MemoryStorage, Storage, StorageError, StorageFuture, StorageLock,
        check_key,
    },
    tickets::{AdoptTicketsError, TicketFile, TicketFileError, TicketSecret},
    vault::{Loaded, Origin, StoredCertificate, Vault, VaultError},
};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
