//! The view from outside: a machine elsewhere tries to reach this one, and both can tell that it was this one.
//!
//! Whoever wants to be seen asks a probe over HTTP; the probe connects back to the address that the question came
//! from, to no other, so that it cannot be used to reach third parties. What it fetches there is a nonce of its
//! client's; only this machine knows what has to come back.

mod address;
mod ask;
mod front;
mod listen;

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use self::{
    address::{echoes, public_v4},
    ask::{AskError, Asker, check_directly, client},
    front::Front,
    listen::{Prober, causes, is_nonce},
};

/// Below this path stands the nonce.
pub const PATH: &str = "/.well-known/hearth-probe/";

/// What a machine answers to a nonce; only those with its secret can tell.
#[must_use]
pub fn proof(secret: &[u8; 32], nonce: &str) -> String {
    let hash = Sha256::new().chain_update(secret).chain_update(nonce.as_bytes()).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a probe saw.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sight {
    /// Where the question came from, and where it looked.
    pub address: IpAddr,
    /// Each port that it tried.
    pub ports: BTreeMap<u16, PortSight>,
}

/// What a probe saw at a port.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PortSight {
    /// Whether somebody accepted the connection.
    pub is_open: bool,
    /// What came back for the nonce.
    pub answer: Option<String>,
    /// Why nothing did.
    pub error: Option<String>,
}
