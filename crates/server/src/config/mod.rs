//! The configuration file: its keys, and nothing about what they do.

mod connections;
pub mod describe;
mod limits;
mod network;
mod range;
mod sections;
mod site_tls;

pub use self::{
    connections::Connections,
    limits::{H2Limits, Limits},
    network::{
        Acme, Address, Challenge, Ddns, FallbackAuthority, LETS_ENCRYPT, MapMethod, OnDemand,
        Outside, PortMap,
    },
    sections::{
        AccessFormat, AccessLog, CacheRule, Compression, Config, Encoding, Io, Listener, Log,
        LogFormat, Mount, Protocol, Redirect, Site, Symlinks, Tls, TlsVersion,
    },
    site_tls::{ClientAuth, ClientAuthMode, Hsts, SiteTls},
};
