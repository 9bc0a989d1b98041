//! What `hearth doctor` can say.

use hearth_config::Code;

/// The router maps no ports.
pub const NO_MAPPING: Code = Code::new("H-NET-101", "the router maps no ports by itself");
/// The router says yes to a mapping and does not have it.
pub const MAPPING_NOT_KEPT: Code = Code::new("H-NET-102", "the router does not keep its word");
/// The provider shares addresses.
pub const CARRIER_NAT: Code = Code::new("H-NET-103", "the provider gives no public address");
/// A router behind a router.
pub const DOUBLE_NAT: Code = Code::new("H-NET-104", "two routers in a row");
/// Port 80 is mapped, but nothing arrives.
pub const PORT_80_BLOCKED: Code = Code::new("H-NET-105", "port 80 is blocked on the way");
/// Only port 443 can be had.
pub const ONLY_443: Code = Code::new("H-NET-106", "only port 443 is mapped");
/// The public address does not work from inside.
pub const NO_HAIRPIN: Code = Code::new("H-NET-107", "the public address does not work at home");
/// The router refuses.
pub const MAPPING_REFUSED: Code = Code::new("H-NET-108", "the router refuses the mapping");
/// No gateway.
pub const NO_GATEWAY: Code = Code::new("H-NET-109", "no way to the internet");
/// A port of the router belongs to another machine.
pub const PORT_ELSEWHERE: Code =
    Code::new("H-NET-110", "the router's port belongs to another machine");
/// Mapped, and nothing arrives.
pub const BLOCKED: Code = Code::new("H-NET-111", "connections do not arrive");
/// Who answers at the public address is not this machine.
pub const ANOTHER_SERVER: Code = Code::new("H-NET-112", "another server answers");
/// Nobody outside was asked.
pub const NOT_SEEN: Code = Code::new("H-NET-113", "nobody has looked from outside");
/// Nobody knows the public address.
pub const NO_ADDRESS: Code = Code::new("H-NET-114", "the public address is unknown");

/// The record has another address.
pub const STALE: Code = Code::new("H-DNS-101", "the name leads to another address");
/// An IPv6 address that does not work.
pub const DEAD_IPV6: Code =
    Code::new("H-DNS-102", "the name has an IPv6 address that does not work");
/// CAA forbids.
pub const CAA: Code = Code::new("H-DNS-103", "CAA forbids the certification authority");
/// Name servers disagree.
pub const LAGGING: Code = Code::new("H-DNS-104", "the name servers disagree");
/// The record may not be changed.
pub const NOT_OURS: Code = Code::new("H-DNS-105", "the record belongs to somebody else");
/// No record.
pub const NO_RECORD: Code = Code::new("H-DNS-106", "the name has no address");
/// Name servers do not answer.
pub const NO_NAME_SERVER: Code = Code::new("H-DNS-107", "the name servers do not answer");

/// The authority takes no orders for now.
pub const CA_LIMIT: Code = Code::new("H-CRT-101", "the certification authority asks to wait");
/// The authority cannot be reached.
pub const CA_UNREACHABLE: Code =
    Code::new("H-CRT-102", "the certification authority cannot be reached");
/// The authority wants an account that is bound to one that exists.
pub const CA_ACCOUNT: Code =
    Code::new("H-CRT-104", "the certification authority wants an account of its own");
/// Something else is wrong with the certificate.
pub const CERTIFICATE: Code = Code::new("H-CRT-103", "there is no good certificate");

/// The clock is wrong.
pub const CLOCK: Code = Code::new("H-SYS-101", "the clock is wrong");
/// A port is taken.
pub const PORT_TAKEN: Code = Code::new("H-SYS-102", "another program has the port");
/// A port may not be used.
pub const PORT_REFUSED: Code = Code::new("H-SYS-103", "the port may not be used");
/// The disk is full.
pub const DISK: Code = Code::new("H-SYS-104", "the disk is full");

/// All of them.
pub const ALL: &[Code] = &[
    NO_MAPPING,
    MAPPING_NOT_KEPT,
    CARRIER_NAT,
    DOUBLE_NAT,
    PORT_80_BLOCKED,
    ONLY_443,
    NO_HAIRPIN,
    MAPPING_REFUSED,
    NO_GATEWAY,
    PORT_ELSEWHERE,
    BLOCKED,
    ANOTHER_SERVER,
    NOT_SEEN,
    NO_ADDRESS,
    STALE,
    DEAD_IPV6,
    CAA,
    LAGGING,
    NOT_OURS,
    NO_RECORD,
    NO_NAME_SERVER,
    CA_LIMIT,
    CA_UNREACHABLE,
    CERTIFICATE,
    CA_ACCOUNT,
    CLOCK,
    PORT_TAKEN,
    PORT_REFUSED,
    DISK,
];
