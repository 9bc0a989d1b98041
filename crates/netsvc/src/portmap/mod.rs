//! Port mappings: PCP, NAT-PMP and UPnP behind one interface.
//!
//! [`PortMapper`] finds the router and makes mappings one by one; [`MappingKeeper`] keeps a set of them
//! alive through leases, reboots and changes of network, and takes them away at the end.

mod error;
mod keeper;
mod mapper;
pub mod natpmp;
mod notices;
pub mod pcp;
mod types;
pub(crate) mod udp;
pub mod upnp;

pub(crate) use self::types::Handle;
pub use self::{
    error::{Actor, MapError, RouterCode},
    keeper::{
        FoundLater, KeeperOptions, KeeperState, KeptMapping, MappingKeeper, MappingStatus, Router,
    },
    mapper::{MapperOptions, PortMapper},
    types::{ListedMapping, MapRequest, Mapping, Method, Presence, Protocol, RouterClock},
};
