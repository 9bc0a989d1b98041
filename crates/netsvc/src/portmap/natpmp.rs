//! NAT-PMP (RFC 6886): requests to bytes, bytes to responses. No sockets here.

use std::net::Ipv4Addr;

use super::Protocol;

/// What a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// §3.2: the external address.
    ExternalAddress,
    /// §3.3: a mapping. A lifetime of 0 deletes it (§3.4).
    Map {
        /// TCP or UDP.
        protocol: Protocol,
        /// Our port.
        internal_port: u16,
        /// The port that we would like the world to see.
        external_port: u16,
        /// Seconds.
        lifetime: u32,
    },
}

/// What a router answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// Seconds since the router's table began (§3.6).
    pub epoch: u32,
    /// The answer proper.
    pub answer: Answer,
}

/// The part of a response that depends on the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// The request failed with this result (§3.5).
    Failed {
        /// The request's operation.
        operation: u8,
        /// The result code.
        result: u16,
    },
    /// The external address.
    ExternalAddress(Ipv4Addr),
    /// A mapping.
    Map {
        /// TCP or UDP.
        protocol: Protocol,
        /// Our port.
        internal_port: u16,
        /// The port that the world sees.
        external_port: u16,
        /// Seconds that were granted.
        lifetime: u32,
    },
}

impl Request {
    /// The datagram.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, self.operation()];
        if let Self::Map { internal_port, external_port, lifetime, .. } = *self {
            bytes.extend([0, 0]);
            bytes.extend(internal_port.to_be_bytes());
            bytes.extend(external_port.to_be_bytes());
            bytes.extend(lifetime.to_be_bytes());
        }
        bytes
    }

    /// Whether the response is to this request. NAT-PMP has no transaction ids.
    #[must_use]
    pub fn is_answered_by(&self, response: &Response) -> bool {
        match (self, response.answer) {
            (_, Answer::Failed { operation, .. }) => operation == self.operation(),
            (Self::ExternalAddress, Answer::ExternalAddress(_)) => true,
            (
                Self::Map { protocol, internal_port, .. },
                Answer::Map { protocol: of, internal_port: from, .. },
            ) => *protocol == of && *internal_port == from,
            _ => false,
        }
    }

    fn operation(&self) -> u8 {
        match self {
            Self::ExternalAddress => 0,
            Self::Map { protocol: Protocol::Udp, .. } => 1,
            Self::Map { protocol: Protocol::Tcp, .. } => 2,
        }
    }
}

impl Response {
    /// Reads a datagram. `None`: it is no response of this protocol.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let [version, operation, result @ ..] = datagram.first_chunk::<4>()?;
        if *version != VERSION || operation & IS_RESPONSE == 0 {
            return None;
        }
        let operation = operation & !IS_RESPONSE;
        let result = u16::from_be_bytes(*result);
        let u16_at = |at: usize| read::<2>(datagram, at).map(u16::from_be_bytes);
        let u32_at = |at: usize| read::<4>(datagram, at).map(u32::from_be_bytes);
        if result != 0 {
            // §3.5: a refused version may come without epoch.
            let epoch = u32_at(4).unwrap_or(0);
            return Some(Self { epoch, answer: Answer::Failed { operation, result } });
        }
        let answer = match operation {
            0 => Answer::ExternalAddress(read::<4>(datagram, 8)?.into()),
            1 | 2 => Answer::Map {
                protocol: if operation == 1 { Protocol::Udp } else { Protocol::Tcp },
                internal_port: u16_at(8)?,
                external_port: u16_at(10)?,
                lifetime: u32_at(12)?,
            },
            _ => return None,
        };
        Some(Self { epoch: u32_at(4)?, answer })
    }

    /// The datagram: what a router sends. For tests and stand-ins.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (operation, result) = match self.answer {
            Answer::Failed { operation, result } => (operation & !IS_RESPONSE, result),
            Answer::ExternalAddress(_) => (0, 0),
            Answer::Map { protocol: Protocol::Udp, .. } => (1, 0),
            Answer::Map { protocol: Protocol::Tcp, .. } => (2, 0),
        };
        let mut bytes = vec![VERSION, operation | IS_RESPONSE];
        bytes.extend(result.to_be_bytes());
        bytes.extend(self.epoch.to_be_bytes());
        match self.answer {
            Answer::Failed { .. } => {}
            Answer::ExternalAddress(address) => bytes.extend(address.octets()),
            Answer::Map { internal_port, external_port, lifetime, .. } => {
                bytes.extend(internal_port.to_be_bytes());
                bytes.extend(external_port.to_be_bytes());
                bytes.extend(lifetime.to_be_bytes());
            }
        }
        bytes
    }
}

/// §3.5: the name of a result code.
#[must_use]
pub fn result_name(result: u16) -> &'static str {
    match result {
        0 => "success",
        1 => "unsupported version",
        2 => "not authorized",
        3 => "network failure",
        4 => "out of resources",
        5 => "unsupported opcode",
        _ => "",
    }
}

pub(super) fn read<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

const VERSION: u8 = 0;
const IS_RESPONSE: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: Request = Request::Map {
        protocol: Protocol::Tcp,
        internal_port: 8080,
        external_port: 80,
        lifetime: 7200,
    };

    #[test]
    fn requests() {
        assert_eq!(Request::ExternalAddress.encode(), [0, 0]);
        assert_eq!(MAP.encode(), [0, 2, 0, 0, 0x1f, 0x90, 0, 80, 0, 0, 0x1c, 0x20]);
    }

    #[track_caller]
    fn check(datagram: &[u8], want: Option<(u32, Answer)>) {
        let want = want.map(|(epoch, answer)| Response { epoch, answer });
        assert_eq!(Response::parse(datagram), want, "{datagram:?}");
    }

    #[test]
    fn responses() {
        check(
            &[0, 128, 0, 0, 0, 0, 1, 0, 203, 0, 113, 7],
            Some((256, Answer::ExternalAddress(Ipv4Addr::new(203, 0, 113, 7)))),
        );
        let mapped = Answer::Map {
            protocol: Protocol::Tcp,
            internal_port: 8080,
            external_port: 81,
            lifetime: 60,
        };
        let datagram = [0, 130, 0, 0, 0, 0, 0, 9, 0x1f, 0x90, 0, 81, 0, 0, 0, 60];
        check(&datagram, Some((9, mapped)));
        check(&[0, 128, 0, 3, 0, 0, 0, 1], Some((1, Answer::Failed { operation: 0, result: 3 })));
        check(&[0, 128, 0, 1], Some((0, Answer::Failed { operation: 0, result: 1 })));
        for length in 0..datagram.len() {
            check(&datagram[..length], None);
        }
        check(&[2, 128, 0, 0, 0, 0, 1, 0, 203, 0, 113, 7], None); // another version
        check(&[0, 0, 0, 0, 0, 0, 1, 0, 203, 0, 113, 7], None); // a request
        check(&[0, 131, 0, 0, 0, 0, 1, 0, 203, 0, 113, 7], None); // an operation of the future
    }

    #[test]
    fn answers_belong_to_requests() {
        let mapped = |protocol, internal_port| Response {
            epoch: 0,
            answer: Answer::Map { protocol, internal_port, external_port: 80, lifetime: 1 },
        };
        assert!(MAP.is_answered_by(&mapped(Protocol::Tcp, 8080)));
        assert!(!MAP.is_answered_by(&mapped(Protocol::Udp, 8080)));
        assert!(!MAP.is_answered_by(&mapped(Protocol::Tcp, 8081)));
        let failed = Response { epoch: 0, answer: Answer::Failed { operation: 2, result: 2 } };
        assert!(MAP.is_answered_by(&failed));
        assert!(!Request::ExternalAddress.is_answered_by(&failed));
    }
}
