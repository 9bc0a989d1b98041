//! Dynamic DNS: names that follow this machine's addresses, and texts that answer challenges.
//!
//! A [`DnsProvider`] changes records at one service; it is the same for addresses and for DNS-01. An
//! [`Updater`] keeps a [`Plan`] of names at this machine's addresses and is polite about it; a [`Dns01`]
//! shows answers to challenges and waits until every name server shows them.
//! Not here: which address the machine has (see the crate's other modules), certificates.
//!
//! ```
//! use hearth_netsvc::ddns::{ProviderSettings, Secret};
//!
//! let settings = ProviderSettings::new("duckdns", [("token", Secret::from("s3cret"))])?;
//! assert!(settings.info().has_txt);
//! assert!(!format!("{settings:?}").contains("s3cret"));
//! # Ok::<_, hearth_netsvc::ddns::InvalidSettings>(())
//! ```

mod clock;
mod dns01;
mod error;
mod notice;
mod plan;
mod provider;
mod rules;
mod secret;
mod state;
mod status;
mod updater;

pub use self::{
    clock::{SystemClock, WallClock},
    dns01::{Dns01, Dns01Error, Dns01Record},
    error::{Actor, ProviderError, ProviderErrorKind, Remedy},
    notice::Notice,
    plan::{Account, InvalidPlan, Ipv6Source, Observed, Plan, PlannedHost},
    provider::{
        Capabilities, DnsProvider, InvalidSettings, KeyInfo, Outcome, PROVIDERS, ProviderContext,
        ProviderFuture, ProviderInfo, ProviderSettings, ResultsFuture, settings_digest,
    },
    rules::Rules,
    secret::Secret,
    state::StateError,
    status::{DdnsStatus, FamilyStatus, HostStatus, Trouble, Verdict},
    updater::{PublishedFuture, PublishedLookup, Updater, UpdaterOptions},
};
