//! Dynamic DNS: names that follow this machine's addresses, and texts that answer challenges.
//!
//! A [`DnsProvider`] changes records at one service; it is the same for addresses and for DNS-01.
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
mod error;
mod notice;
mod provider;
mod secret;

pub use self::{
    clock::{SystemClock, WallClock},
    error::{Actor, ProviderError, ProviderErrorKind, Remedy},
    notice::Notice,
    provider::{
        Capabilities, DnsProvider, InvalidSettings, KeyInfo, Outcome, PROVIDERS, ProviderContext,
        ProviderFuture, ProviderInfo, ProviderSettings, ResultsFuture, settings_digest,
    },
    secret::Secret,
};
