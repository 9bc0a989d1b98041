//! Why there is no mapping, and who can do something about it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use super::{Method, Protocol};

/// A mapping that could not be had.
///
/// [`actor`](Self::actor) tells who can help, [`router_code`](Self::router_code) what the router said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The system's network functions failed.
    #[error("the system cannot be asked about its network: {what}")]
    Io {
        /// What it said.
        what: String,
    },
    /// A mapping of another machine stands in the way of a change that was asked for by port only.
    #[error(
        "{protocol} port {external_port} of the router belongs to {owner}, not to this machine"
    )]
    Foreign {
        /// TCP or UDP.
        protocol: Protocol,
        /// The port at the router.
        external_port: u16,
        /// Whose it is.
        owner: IpAddr,
    },
    /// An answer that no honest router gives: too large, too slow, redirected, from or to another host.
    #[error("{from} gave an answer that is refused: {what}")]
    Hostile {
        /// Who sent it.
        from: IpAddr,
        /// What is wrong with it.
        what: &'static str,
    },
    /// UPnP 402 whatever lease is asked for: usually its table is full, or the port is reserved.
    #[error("the router refuses every lease ({code}): its table is full, or it reserves the port")]
    LeaseRefused {
        /// What it said last.
        code: RouterCode,
    },
    /// UPnP 729: the router's owner has forwarded this port by hand.
    #[error("the router forwards {protocol} port {external_port} already, by a rule made by hand")]
    ManualForward {
        /// TCP or UDP.
        protocol: Protocol,
        /// The port.
        external_port: u16,
    },
    /// There is no default route, so no router to ask.
    #[error("this machine has no default gateway")]
    NoGateway,
    /// Nobody answered to any protocol: UPnP and NAT-PMP are switched off, or there is no NAT.
    #[error("the router at {gateway} answers neither PCP nor NAT-PMP nor UPnP")]
    NoRouter {
        /// Whom we asked.
        gateway: IpAddr,
    },
    /// The router has no connection to the internet.
    #[error("the router has no connection to the internet")]
    NotConnected {
        /// What it said, where it said something.
        code: Option<RouterCode>,
    },
    /// The router said yes, but its table does not show the mapping.
    #[error("the router confirmed {protocol} port {external_port} but did not keep the mapping")]
    NotKept {
        /// TCP or UDP.
        protocol: Protocol,
        /// The port.
        external_port: u16,
    },
    /// UPnP 718: another machine has the port.
    #[error("{protocol} port {external_port} of the router is taken{}", by(*.owner))]
    PortTaken {
        /// TCP or UDP.
        protocol: Protocol,
        /// The port.
        external_port: u16,
        /// Whose it is, where the router tells.
        owner: Option<IpAddr>,
        /// What its owner says it is for.
        description: String,
    },
    /// UPnP 724: the router cannot map a port to another one.
    #[error("the router only maps a port to the same port inside")]
    PortsMustMatch,
    /// The router answers something that is not its protocol.
    #[error("the router's {method} answer makes no sense: {what}")]
    Protocol {
        /// What was spoken.
        method: Method,
        /// What is wrong.
        what: &'static str,
    },
    /// The router may do it but does not want to: switched off, or not for this machine.
    #[error("the router refuses by {method} ({code})")]
    Refused {
        /// What was spoken.
        method: Method,
        /// What it said.
        code: RouterCode,
    },
    /// The router does it only for the machine that asks ("secure mode").
    #[error("the router maps ports only to the machine that asks, not to {internal} ({code})")]
    SecureMode {
        /// Where the mapping should have led.
        internal: IpAddr,
        /// What it said.
        code: RouterCode,
    },
    /// The router has no room for another mapping.
    #[error("the router has no room for another mapping ({code})")]
    TableFull {
        /// What it said.
        code: RouterCode,
    },
    /// The router did not answer in time.
    #[error("the router's {method} service did not answer in time")]
    Timeout {
        /// What was spoken.
        method: Method,
    },
    /// The router cannot do this at all.
    #[error("the router's {method} service cannot {what}")]
    Unsupported {
        /// What was spoken.
        method: Method,
        /// What it cannot do.
        what: &'static str,
    },
    /// Anything else that the router said.
    #[error("the router's {method} service failed ({code})")]
    Router {
        /// What was spoken.
        method: Method,
        /// What it said.
        code: RouterCode,
    },
}

/// A router's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouterCode {
    /// The number: a UPnP error, or a PCP or NAT-PMP result.
    pub number: u16,
    /// The text that came with it, shortened and without control characters; else the RFC's name.
    pub text: String,
}

/// Who can do something about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Actor {
    /// The provider of the internet connection.
    Isp,
    /// Who runs the router: a setting, a reboot, or a newer firmware.
    RouterOwner,
    /// Who runs this machine.
    User,
}

impl MapError {
    /// Who can do something about it.
    #[must_use]
    pub fn actor(&self) -> Actor {
        match self {
            Self::Io { .. } | Self::NoGateway | Self::PortsMustMatch | Self::SecureMode { .. } => {
                Actor::User
            }
            Self::NotConnected { .. } => Actor::Isp,
            _ => Actor::RouterOwner,
        }
    }

    /// The router's own words, where it had any.
    #[must_use]
    pub fn router_code(&self) -> Option<&RouterCode> {
        match self {
            Self::LeaseRefused { code }
            | Self::Refused { code, .. }
            | Self::Router { code, .. }
            | Self::SecureMode { code, .. }
            | Self::TableFull { code } => Some(code),
            Self::NotConnected { code } => code.as_ref(),
            _ => None,
        }
    }

    /// Whether asking again without any change may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Io { .. }
                | Self::NoGateway
                | Self::NotConnected { .. }
                | Self::NotKept { .. }
                | Self::TableFull { .. }
                | Self::Timeout { .. }
        )
    }

    /// How much an error tells the operator. Where several protocols failed, the one that tells
    /// most is reported.
    pub(crate) fn weight(&self) -> u8 {
        match self {
            Self::NoGateway | Self::NoRouter { .. } => 0,
            Self::Timeout { .. } | Self::Unsupported { .. } => 1,
            Self::Io { .. } | Self::Protocol { .. } => 2,
            // By PCP and NAT-PMP "another port" may also mean that this one is forbidden.
            Self::Hostile { .. } | Self::Router { .. } | Self::PortTaken { owner: None, .. } => 3,
            Self::Refused { .. } => 4,
            _ => 5,
        }
    }
}

impl From<std::io::Error> for MapError {
    fn from(error: std::io::Error) -> Self {
        Self::Io { what: error.to_string() }
    }
}

impl RouterCode {
    /// A number and the name that a standard gives it.
    pub(crate) fn named(number: u16, name: &str) -> Self {
        Self { number, text: name.to_owned() }
    }

    /// A number and what the router wrote beside it, which may be anything.
    pub(crate) fn foreign(number: u16, text: &str) -> Self {
        let clean = text.trim().chars().filter(|char| !char.is_control());
        Self { number, text: clean.take(TEXT_CHARS_MAX).collect() }
    }
}

impl fmt::Display for RouterCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.as_str() {
            "" => write!(f, "{}", self.number),
            text => write!(f, "{} {text}", self.number),
        }
    }
}

fn by(owner: Option<IpAddr>) -> String {
    match owner {
        // Some routers list what they hold themselves under no address.
        None | Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => String::new(),
        Some(owner) => format!(" by {owner}"),
    }
}

const TEXT_CHARS_MAX: usize = 80;
