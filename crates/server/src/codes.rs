//! Every code of the server, and what its process can end with.

use hearth_config::Code;

pub use hearth_config::codes as config;

pub use crate::doctor::codes as doctor;

/// A folder of a site is missing, no folder, or unreadable.
pub const ROOT: Code = Code::new("H-SRV-001", "a site's folder cannot be used");
/// A host name that is none.
pub const HOST: Code = Code::new("H-SRV-002", "not a host name");
/// Two sites answer for the same host.
pub const HOST_TWICE: Code = Code::new("H-SRV-003", "two sites for one host");
/// A site can never be reached.
pub const UNREACHABLE: Code = Code::new("H-SRV-004", "nothing leads there");
/// An address that is none.
pub const ADDRESS: Code = Code::new("H-SRV-005", "not an address");
/// Two listeners on the same address.
pub const LISTENER_TWICE: Code = Code::new("H-SRV-006", "two listeners on one address");
/// The address is taken.
pub const ADDRESS_IN_USE: Code = Code::new("H-SRV-007", "the address is in use");
/// The address may not be used, or is not one of this machine.
pub const ADDRESS_REFUSED: Code = Code::new("H-SRV-008", "the address cannot be listened on");
/// A redirect that contradicts another, or leads to itself.
pub const REDIRECT: Code = Code::new("H-SRV-009", "a redirect that cannot work");
/// A header field that no response may have.
pub const HEADER: Code = Code::new("H-SRV-010", "not a header field");
/// A status out of place.
pub const STATUS: Code = Code::new("H-SRV-011", "not a usable status");
/// A number beyond what makes sense.
pub const RANGE: Code = Code::new("H-SRV-012", "a number out of range");
/// A path or file pattern that cannot be understood.
pub const PATTERN: Code = Code::new("H-SRV-013", "not a pattern");
/// A log that cannot be written.
pub const LOG: Code = Code::new("H-SRV-014", "a log cannot be written");
/// Paths that two parts of a site claim.
pub const CONFLICT: Code = Code::new("H-SRV-015", "two answers for one path");
/// An error page that cannot be used.
pub const ERROR_PAGE: Code = Code::new("H-SRV-016", "an error page cannot be used");
/// A name that has no meaning here.
pub const PROTOCOL: Code = Code::new("H-SRV-017", "protocols that do not go together");
/// The process could not start or go on.
pub const RUNTIME: Code = Code::new("H-SRV-018", "the server failed");

/// A change that a running server does not take over.
pub const RESTART: Code = Code::new("H-SRV-020", "that takes a restart");
/// A service of the network, such as dynamic DNS, is not configured rightly.
pub const SERVICE: Code = Code::new("H-SRV-019", "a network service cannot be used so");

/// The certificate file cannot be read.
pub const CERTIFICATE: Code = Code::new("H-TLS-001", "the certificate cannot be used");
/// The key file cannot be read.
pub const KEY: Code = Code::new("H-TLS-002", "the private key cannot be used");
/// The key belongs to another certificate.
pub const KEY_MISMATCH: Code = Code::new("H-TLS-003", "the key does not belong to the certificate");
/// The key is protected by a password.
pub const KEY_PROTECTED: Code = Code::new("H-TLS-004", "the key is protected by a password");
/// A listener that speaks TLS has no certificate.
pub const NO_CERTIFICATE: Code = Code::new("H-TLS-005", "no certificate");
/// A certificate is out of date, or does not name its site.
pub const CERTIFICATE_DOUBTFUL: Code =
    Code::new("H-TLS-006", "clients will refuse the certificate");
/// The file of authorities that vouch for clients cannot be used.
pub const CLIENT_AUTHORITIES: Code =
    Code::new("H-TLS-007", "the authorities of clients cannot be used");
/// The file of clients that were revoked cannot be used, or lets nobody in.
pub const CLIENT_REVOCATIONS: Code =
    Code::new("H-TLS-009", "the lists of revoked clients cannot be used");
/// Client certificates are required in a way that cannot be kept up.
pub const CLIENT_AUTH: Code = Code::new("H-TLS-008", "clients would come in without a certificate");
/// What browsers are told to remember of a site's TLS contradicts itself.
pub const HSTS: Code = Code::new("H-TLS-010", "browsers are told what they do not take");

/// All of the server, for the manual.
pub const ALL: &[Code] = &[
    ROOT,
    HOST,
    HOST_TWICE,
    UNREACHABLE,
    ADDRESS,
    LISTENER_TWICE,
    ADDRESS_IN_USE,
    ADDRESS_REFUSED,
    REDIRECT,
    HEADER,
    STATUS,
    RANGE,
    PATTERN,
    LOG,
    CONFLICT,
    ERROR_PAGE,
    PROTOCOL,
    RUNTIME,
    RESTART,
    SERVICE,
    CERTIFICATE,
    KEY,
    KEY_MISMATCH,
    KEY_PROTECTED,
    NO_CERTIFICATE,
    CERTIFICATE_DOUBTFUL,
    CLIENT_AUTHORITIES,
    CLIENT_AUTH,
    CLIENT_REVOCATIONS,
    HSTS,
];

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything went well; a server was stopped and let its requests end.
    Ok = 0,
    /// The server failed while it ran.
    Failed = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// The configuration is wrong.
    Config = 3,
    /// An address is in use.
    AddressInUse = 4,
    /// An address may not be used, or is not one of this machine.
    AddressRefused = 5,
    /// The server was stopped, and requests were cut off at the end of the grace period or by a second signal.
    CutOff = 6,
    /// It was not done, but the same may succeed later.
    TryLater = 7,
    /// It will not be done before somebody changes something.
    Refused = 8,
    /// Something is wrong, or could not be seen to be right.
    Unwell = 9,
}

impl Exit {
    /// All of them.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Ok, "success; a server was stopped and let its requests end"),
        (Self::Failed, "the server failed while it ran"),
        (Self::Usage, "the command line cannot be understood"),
        (Self::Config, "the configuration is wrong"),
        (Self::AddressInUse, "an address to listen on is in use"),
        (Self::AddressRefused, "an address may not be listened on, or is not of this machine"),
        (Self::CutOff, "the server was stopped, but requests had to be cut off"),
        (Self::TryLater, "it was not done now; the same may succeed later"),
        (Self::Refused, "it will not be done before somebody changes something"),
        (
            Self::Unwell,
            "`doctor` or `probe` found something wrong, or could not see that it is right",
        ),
    ];
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
