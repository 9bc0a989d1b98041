//! PCP (RFC 6887): requests to bytes, bytes to responses. No sockets here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Protocol, natpmp::read};

/// What a client asks, from the address `client`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// Our address. The server refuses the request if a NAT has changed it on the way (§8.1).
    pub client: IpAddr,
    /// The request proper.
    pub operation: Operation,
}

/// The part of a request that depends on the opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// §14.1: nothing but a sign of life.
    Announce,
    /// §11: a mapping. A lifetime of 0 deletes it (§15).
    Map {
        /// Who knows it may change the mapping.
        nonce: [u8; 12],
        /// TCP or UDP.
        protocol: Protocol,
        /// Our port.
        internal_port: u16,
        /// The port that we would like the world to see; 0 is any.
        external_port: u16,
        /// The external address that we would like; unspecified is any.
        external_address: IpAddr,
        /// Seconds.
        lifetime: u32,
        /// §13.2: rather fail than give another port.
        prefers_failure: bool,
    },
}

/// What a router answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// Seconds since the server's table began (§8.5).
    pub epoch: u32,
    /// The result code (§7.4); 0 is success.
    pub result: u8,
    /// Seconds: of the mapping, or for how long the error will last.
    pub lifetime: u32,
    /// The answer proper.
    pub answer: Answer,
}

/// The part of a response that depends on the opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// To [`Operation::Announce`].
    Announce,
    /// To [`Operation::Map`]; errors repeat what was asked.
    Map {
        /// The request's nonce.
        nonce: [u8; 12],
        /// TCP or UDP.
        protocol: Protocol,
        /// Our port.
        internal_port: u16,
        /// The port that the world sees.
        external_port: u16,
        /// The address that the world sees.
        external_address: IpAddr,
    },
    /// A server that speaks another version only (§9); its answers have no more than a head.
    UnsupportedVersion {
        /// The version that it speaks: 0 is NAT-PMP.
        version: u8,
    },
}

impl Request {
    /// A request from our address `client`.
    #[must_use]
    pub fn new(client: IpAddr, operation: Operation) -> Self {
        Self { client, operation }
    }

    /// The datagram.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (opcode, lifetime) = match self.operation {
            Operation::Announce => (ANNOUNCE, 0),
            Operation::Map { lifetime, .. } => (MAP, lifetime),
        };
        let mut bytes = vec![VERSION, opcode, 0, 0];
        bytes.extend(lifetime.to_be_bytes());
        bytes.extend(to_v6(self.client).octets());
        if let Operation::Map {
            nonce,
            protocol,
            internal_port,
            external_port,
            external_address,
            lifetime,
            prefers_failure,
        } = self.operation
        {
            bytes.extend(nonce);
            bytes.extend([protocol.number(), 0, 0, 0]);
            bytes.extend(internal_port.to_be_bytes());
            // §15: a deletion asks for no port in particular.
            let external_port = if lifetime == 0 { 0 } else { external_port };
            bytes.extend(external_port.to_be_bytes());
            bytes.extend(to_v6(external_address).octets());
            if prefers_failure {
                bytes.extend([OPTION_PREFER_FAILURE, 0, 0, 0]);
            }
        }
        bytes
    }

    /// Whether the response is to this request (§8.3, §11.4).
    #[must_use]
    pub fn is_answered_by(&self, response: &Response) -> bool {
        match (self.operation, response.answer) {
            (_, Answer::UnsupportedVersion { .. }) | (Operation::Announce, Answer::Announce) => {
                true
            }
            (
                Operation::Map { nonce, protocol, internal_port, .. },
                Answer::Map { nonce: echoed, protocol: of, internal_port: from, .. },
            ) => nonce == echoed && protocol == of && internal_port == from,
            _ => false,
        }
    }
}

impl Response {
    /// Reads a datagram. `None`: it is no response of this protocol.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return None;
        }
        let [version, opcode, reserved_or_result, result] = *datagram.first_chunk::<4>()?;
        if opcode & IS_RESPONSE == 0 {
            return None;
        }
        if version != VERSION {
            // NAT-PMP servers (version 0) answer with a result of two bytes, RFC 6886 §3.5.
            let is_refusal =
                result == UNSUPPORTED_VERSION && (version != 0 || reserved_or_result == 0);
            return is_refusal.then_some(Self {
                epoch: 0,
                result: UNSUPPORTED_VERSION,
                lifetime: 0,
                answer: Answer::UnsupportedVersion { version },
            });
        }
        let lifetime = u32::from_be_bytes(read(datagram, 4)?);
        let epoch = u32::from_be_bytes(read(datagram, 8)?);
        let answer = if result == UNSUPPORTED_VERSION {
            Answer::UnsupportedVersion { version }
        } else {
            match opcode & !IS_RESPONSE {
                ANNOUNCE => Answer::Announce,
                MAP => Self::parse_map(datagram.get(HEADER_BYTES..)?)?,
                _ => return None,
            }
        };
        Some(Self { epoch, result, lifetime, answer })
    }

    fn parse_map(bytes: &[u8]) -> Option<Answer> {
        let protocol = match *bytes.get(12)? {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            _ => return None,
        };
        Some(Answer::Map {
            nonce: read(bytes, 0)?,
            protocol,
            internal_port: u16::from_be_bytes(read(bytes, 16)?),
            external_port: u16::from_be_bytes(read(bytes, 18)?),
            external_address: IpAddr::V6(Ipv6Addr::from(read::<16>(bytes, 20)?)).to_canonical(),
        })
    }

    /// The datagram: what a router sends. For tests and stand-ins.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (version, opcode) = match self.answer {
            Answer::Announce => (VERSION, ANNOUNCE),
            Answer::Map { .. } => (VERSION, MAP),
            Answer::UnsupportedVersion { version } => (version, ANNOUNCE),
        };
        let mut bytes = vec![version, opcode | IS_RESPONSE, 0, self.result];
        bytes.extend(self.lifetime.to_be_bytes());
        bytes.extend(self.epoch.to_be_bytes());
        bytes.extend([0; 12]);
        if let Answer::Map { nonce, protocol, internal_port, external_port, external_address } =
            self.answer
        {
            bytes.extend(nonce);
            bytes.extend([protocol.number(), 0, 0, 0]);
            bytes.extend(internal_port.to_be_bytes());
            bytes.extend(external_port.to_be_bytes());
            bytes.extend(to_v6(external_address).octets());
        }
        bytes
    }
}

/// §7.4: the name of a result code.
#[must_use]
pub fn result_name(result: u8) -> &'static str {
    match result {
        0 => "success",
        UNSUPPORTED_VERSION => "unsupported version",
        NOT_AUTHORIZED => "not authorized",
        3 => "malformed request",
        UNSUPPORTED_OPCODE => "unsupported opcode",
        5 => "unsupported option",
        6 => "malformed option",
        NETWORK_FAILURE => "network failure",
        NO_RESOURCES => "no resources",
        9 => "unsupported protocol",
        USER_EX_QUOTA => "user exceeds quota",
        CANNOT_PROVIDE_EXTERNAL => "cannot provide external port",
        ADDRESS_MISMATCH => "address mismatch",
        13 => "excessive remote peers",
        _ => "",
    }
}

/// §5: IPv4 addresses travel as IPv4-mapped ones.
fn to_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// "Any address" of the same family, as a suggestion (§11.1).
pub(crate) fn any_address(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

const VERSION: u8 = 2;
const IS_RESPONSE: u8 = 0x80;
const ANNOUNCE: u8 = 0;
const MAP: u8 = 1;
const OPTION_PREFER_FAILURE: u8 = 2;
const HEADER_BYTES: usize = 24;
/// §7: larger datagrams are no PCP.
const DATAGRAM_BYTES_MAX: usize = 1100;
pub(crate) const UNSUPPORTED_VERSION: u8 = 1;
pub(crate) const NOT_AUTHORIZED: u8 = 2;
pub(crate) const UNSUPPORTED_OPCODE: u8 = 4;
pub(crate) const NETWORK_FAILURE: u8 = 7;
pub(crate) const NO_RESOURCES: u8 = 8;
pub(crate) const USER_EX_QUOTA: u8 = 10;
pub(crate) const CANNOT_PROVIDE_EXTERNAL: u8 = 11;
pub(crate) const ADDRESS_MISMATCH: u8 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lifetime: u32, prefers_failure: bool) -> Request {
        Request::new(
            "192.168.1.2".parse().unwrap(),
            Operation::Map {
                nonce: *b"abcdefghijkl",
                protocol: Protocol::Tcp,
                internal_port: 8443,
                external_port: 443,
                external_address: Ipv4Addr::UNSPECIFIED.into(),
                lifetime,
                prefers_failure,
            },
        )
    }

    #[test]
    fn requests() {
        let mut head = vec![2, 0, 0, 0, 0, 0, 0, 0];
        let client = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 168, 1, 2];
        head.extend(client);
        let announce = Request::new("192.168.1.2".parse().unwrap(), Operation::Announce);
        assert_eq!(announce.encode(), head);
        let bytes = map(7200, true).encode();
        assert_eq!(bytes[..8], [2, 1, 0, 0, 0, 0, 0x1c, 0x20]);
        assert_eq!(bytes[24..36], *b"abcdefghijkl");
        assert_eq!(bytes[36..44], [6, 0, 0, 0, 0x20, 0xfb, 1, 0xbb]);
        assert_eq!(bytes[44..60], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0]);
        assert_eq!(bytes[60..], [2, 0, 0, 0]);
        assert_eq!(map(0, false).encode()[42..44], [0, 0], "a deletion names no external port");
    }

    #[test]
    fn responses() {
        let response = Response {
            epoch: 77,
            result: 0,
            lifetime: 3600,
            answer: Answer::Map {
                nonce: *b"abcdefghijkl",
                protocol: Protocol::Tcp,
                internal_port: 8443,
                external_port: 443,
                external_address: "203.0.113.9".parse().unwrap(),
            },
        };
        let bytes = response.encode();
        assert_eq!(Response::parse(&bytes), Some(response));
        assert!(map(7200, true).is_answered_by(&response));
        for length in 0..bytes.len() {
            assert_eq!(Response::parse(&bytes[..length]), None, "{length} bytes");
        }
        let mut other = bytes.clone();
        other[24] ^= 1;
        assert!(!map(7200, true).is_answered_by(&Response::parse(&other).unwrap()), "nonce");
        let mut request = bytes.clone();
        request[1] &= 0x7f;
        assert_eq!(Response::parse(&request), None, "a request");
        let mut large = bytes;
        large.resize(1101, 0);
        assert_eq!(Response::parse(&large), None, "too large");
    }

    #[test]
    fn refused_versions() {
        let check = |datagram: &[u8], want: Option<u8>| {
            let got = Response::parse(datagram).map(|response| response.answer);
            assert_eq!(got, want.map(|version| Answer::UnsupportedVersion { version }));
        };
        check(&[0, 128, 0, 1, 0, 0, 0, 5], Some(0)); // a NAT-PMP server
        check(&[1, 128, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5], Some(1));
        check(&[0, 128, 0, 0, 0, 0, 0, 5], None);
    }
}
