//! A small DNS client: it asks the servers it is told, and says what each of them answered.
//!
//! It is made for watching: which servers are in charge of a name, what each of them shows, which
//! authorities may issue certificates for it. Not here: caching, DNSSEC, search lists. Whoever only
//! wants an address asks the operating system.
//!
//! ```
//! use hearth_netsvc::dns::{DnsClient, DnsOptions, Expected, Name, RecordType};
//!
//! # async fn example() -> Result<(), hearth_netsvc::dns::DnsError> {
//! let dns = DnsClient::new(DnsOptions::from_system());
//! let name: Name = "www.example.com".parse().expect("a name");
//! let expected = Expected::Address([192, 0, 2, 1].into());
//! let state = dns.propagation(&name, RecordType::A, &expected).await?;
//! println!("{state}"); // 1 of 2 name servers of example.com show it; ns2.example.com shows …
//! # Ok(())
//! # }
//! ```

mod alias;
mod authority;
mod caa;
mod client;
mod error;
pub(crate) mod message;
mod name;
mod propagation;
mod tsig;

pub use self::{
    authority::{Authority, AuthorityServer},
    caa::{Caa, CaaRecord, CaaRequest, CaaVerdict},
    client::{Addresses, Answer, DnsClient, DnsOptions},
    error::DnsError,
    message::{Class, MessageError, Rcode, Record, RecordData, RecordType},
    name::{InvalidName, Name},
    propagation::{Expected, Propagation, ServerState, Shows, Waiting},
    tsig::{InvalidTsigKey, TsigError, TsigKey},
};
