//! The services. What each of them speaks stands in its own file.

mod cloudflare;
mod desec;
mod duckdns;
mod dyndns2;
mod hetzner;
mod http;
mod json;
mod namecheap;
mod rfc2136;
mod route53;
mod settings;
mod sigv4;
mod xml;

use std::{
    future::Future,
    net::{Ipv4Addr, Ipv6Addr},
    pin::Pin,
    time::Duration,
};

pub use self::settings::{
    InvalidSettings, KeyInfo, PROVIDERS, ProviderContext, ProviderInfo, ProviderSettings,
};
use super::ProviderError;
use crate::dns::Name;

/// What a provider answers, in a while.
pub type ProviderFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, ProviderError>> + Send + 'a>>;

/// A result for each name, in a while.
pub type ResultsFuture<'a> =
    Pin<Box<dyn Future<Output = Vec<Result<Outcome, ProviderError>>> + Send + 'a>>;

/// A service that holds records. The same for dynamic addresses and for DNS-01 challenges.
///
/// # Cancel safety
/// Dropping a future closes its connection; the service may have acted.
pub trait DnsProvider: Send + Sync {
    /// The name of the service, as in configurations.
    fn name(&self) -> &'static str;

    /// What the service can do.
    fn capabilities(&self) -> Capabilities;

    /// Points a name to these addresses. A family that is `None` stays as it is.
    fn set_addresses<'a>(
        &'a self,
        host: &'a Name,
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
    ) -> ProviderFuture<'a, Outcome>;

    /// Points several names to these addresses, in one request where the service can.
    ///
    /// There are as many results as names. Without an own implementation the names are done one by
    /// one, up to the first error that concerns the whole account.
    fn set_addresses_of<'a>(
        &'a self,
        hosts: &'a [Name],
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
    ) -> ResultsFuture<'a> {
        Box::pin(async move {
            let mut results = Vec::with_capacity(hosts.len());
            for host in hosts {
                let result = self.set_addresses(host, v4, v6).await;
                let stop = result
                    .as_ref()
                    .err()
                    .filter(|error| error.kind().remedy() != super::Remedy::StopHost);
                let stop = stop.map(ProviderError::copy);
                results.push(result);
                if let Some(error) = stop {
                    results.resize_with(hosts.len(), || Err(error.copy()));
                    break;
                }
            }
            results
        })
    }

    /// Adds a text record. Others of the name stay, and adding the same twice is no error.
    fn add_txt<'a>(&'a self, name: &'a Name, value: &'a str) -> ProviderFuture<'a, ()>;

    /// Removes a text record. Others of the name stay, and a missing one is no error.
    fn remove_txt<'a>(&'a self, name: &'a Name, value: &'a str) -> ProviderFuture<'a, ()>;

    /// A short digest of the settings, secrets included, that changes when they do. It is kept in the
    /// state, so it must be made with [`settings_digest`].
    fn settings_digest(&self, salt: &[u8]) -> String;
}

/// What a service did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The service took the update and says that it knew the address. Services lock names for which
    /// that happens often.
    Repeated,
    /// The records were looked at and are as wanted; nothing was written.
    Unchanged,
    /// The records are as wanted now.
    Updated,
}

/// What a service can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// `A` records.
    pub has_v4: bool,
    /// `AAAA` records.
    pub has_v6: bool,
    /// How many text records one name can have; 0 if there are none.
    pub txt_count_max: u32,
    /// How many names one request can update.
    pub hosts_per_request_max: usize,
    /// The least time between two requests of this account.
    pub interval_min: Duration,
    /// Whether an update must hold both families, since the service makes up one that is missing.
    pub needs_all_families: bool,
}

impl Capabilities {
    /// All of it, one name at a time.
    pub const FULL: Self = Self {
        has_v4: true,
        has_v6: true,
        txt_count_max: u32::MAX,
        hosts_per_request_max: 1,
        interval_min: Duration::ZERO,
        needs_all_families: false,
    };
}

/// A digest of settings that tells a change and little else: 32 bits of SHA-256 over a salt and the
/// parts. Whoever steals it can tell that a guess of a password is wrong, not that it is right.
#[must_use]
pub fn settings_digest(salt: &[u8], parts: &[&str]) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new_with_prefix(salt);
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
