//! UPnP Internet Gateway Devices: found by SSDP, described in XML, asked by SOAP.
//!
//! Anybody on the local network can answer a search. So only an answer from the default gateway, or
//! from a private address of its network, is looked at, what it points to must be on the machine
//! that answered, nothing is followed elsewhere, and every answer has a bound in bytes, in elements
//! and in time.

pub mod description;
mod igd;
mod mapping;
pub mod soap;
pub mod ssdp;
mod url;
mod xml;

pub(crate) use self::igd::Igd;
pub use self::{url::LocalUrl, xml::Refusal};
