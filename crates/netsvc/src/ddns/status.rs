//! What is known about the names, for people and programs.

use std::net::IpAddr;

use serde::Serialize;

use crate::dns::Name;

/// How all names are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DdnsStatus {
    /// Each name.
    pub hosts: Vec<HostStatus>,
    /// The state cannot be kept: a restart may send an update again.
    pub is_state_unwritable: bool,
}

/// How one name is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HostStatus {
    /// The name.
    #[serde(serialize_with = "as_text")]
    pub name: Name,
    /// The account that holds it.
    pub account: String,
    /// Its `A` record.
    pub v4: FamilyStatus,
    /// Its `AAAA` record.
    pub v6: FamilyStatus,
}

/// How one record is. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FamilyStatus {
    /// The record is as it should be, as far as the service says.
    Current {
        /// The address.
        address: IpAddr,
        /// Since when.
        since: u64,
        /// Whether the authoritative servers show it; `None` while that is not known.
        is_shown: Option<bool>,
    },
    /// The address is not published, since the internet cannot reach it.
    NotPublic {
        /// The address.
        address: IpAddr,
    },
    /// The plan does not care for this family.
    Off,
    /// The address changes to and fro; it is published when it has settled.
    Settling {
        /// The address.
        address: IpAddr,
        /// When it will be taken for settled.
        until: u64,
    },
    /// Nothing is sent any more until somebody acts.
    Stopped {
        /// Why.
        trouble: Trouble,
    },
    /// The machine's address is not known.
    Unknown,
    /// An update is due, but not yet.
    Waiting {
        /// The address that will be sent.
        address: IpAddr,
        /// When.
        until: u64,
        /// What went wrong, if that is the reason.
        trouble: Option<Trouble>,
    },
}

/// What is the matter, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Trouble {
    /// The stable code.
    pub code: String,
    /// What is the matter.
    pub text: String,
    /// What to do.
    pub fix: &'static str,
    /// Since when, in seconds since 1970.
    pub at: u64,
}

/// What a single update came to, for exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Every name is as it should be.
    Done,
    /// Trying again later can help.
    Later,
    /// Somebody must act first.
    Refused,
}

impl DdnsStatus {
    /// What it comes to: the worst of all records that are cared for.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let families = self.hosts.iter().flat_map(|host| [&host.v4, &host.v6]);
        let mut verdict = Verdict::Done;
        for family in families {
            match family {
                FamilyStatus::Stopped { .. } | FamilyStatus::NotPublic { .. } => {
                    return Verdict::Refused;
                }
                FamilyStatus::Settling { .. }
                | FamilyStatus::Unknown
                | FamilyStatus::Waiting { .. } => verdict = Verdict::Later,
                FamilyStatus::Current { .. } | FamilyStatus::Off => {}
            }
        }
        verdict
    }
}

fn as_text<S: serde::Serializer>(name: &Name, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}
