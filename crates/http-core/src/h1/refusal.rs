//! Why a request is refused, and with which status.

use http::StatusCode;

/// What is wrong with a request; each variant names its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// RFC 9112 §2.2: every line ends with CRLF; a lone LF is where parsers disagree.
    BareLf,
    /// RFC 9112 §7.1: chunk sizes, chunk ends, chunk extensions.
    Chunk,
    /// RFC 9112 §6.3: both lengths at once invite smuggling.
    ConflictingLength,
    /// No tunnels are offered here (RFC 9110 §9.3.6).
    Connect,
    /// RFC 9110 §7.6.1: the connection option names a field that frames or routes the message.
    ConnectionOption,
    /// RFC 9110 §10.1.1: no other expectation is defined.
    Expectation,
    /// More than `head_bytes_max`.
    HeadTooLarge,
    /// The head did not arrive in its time.
    HeadTooSlow,
    /// RFC 9112 §3.2: missing, repeated, malformed or contradicting the target.
    Host,
    /// RFC 9110 §8.6: decimal digits, once.
    Length,
    /// Anything that is no request line or field line.
    Malformed,
    /// RFC 9112 §3: longer than any method that there is.
    Method,
    /// RFC 9112 §3.2: none of the four forms, or not the form for this method.
    Target,
    /// More than `target_bytes_max`.
    TargetTooLong,
    /// RFC 9112 §6.1: repeated, not last, with parameters, or on HTTP/1.0.
    TransferCoding,
    /// RFC 9112 §6.1: a coding that nobody here knows.
    TransferCodingUnknown,
    /// RFC 9110 §6.5.1: too large, malformed, or with fields that may not come so late.
    Trailers,
    /// More than `header_count_max`.
    TooManyFields,
    /// RFC 9112 §2.3: not HTTP/1.1 or HTTP/1.0.
    Version,
}

impl Refusal {
    /// What the peer is told before the connection is closed.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::BareLf
            | Self::Chunk
            | Self::ConflictingLength
            | Self::ConnectionOption
            | Self::Host
            | Self::Length
            | Self::Malformed
            | Self::Target
            | Self::TransferCoding
            | Self::Trailers => StatusCode::BAD_REQUEST,
            Self::HeadTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::HeadTooLarge | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Connect | Self::Method | Self::TransferCodingUnknown => {
                StatusCode::NOT_IMPLEMENTED
            }
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }

    /// The rule in words, for the log.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::BareLf => "a line of the head does not end with CR LF",
            Self::Chunk => "malformed chunk",
            Self::ConflictingLength => "both content-length and transfer-encoding",
            Self::Connect => "CONNECT is not offered",
            Self::ConnectionOption => "malformed connection field",
            Self::Expectation => "unknown expectation",
            Self::HeadTooLarge => "the head is too large",
            Self::HeadTooSlow => "the head arrived too slowly",
            Self::Host => "missing, repeated or malformed host",
            Self::Length => "malformed or repeated content-length",
            Self::Malformed => "malformed head",
            Self::Method => "the method is too long",
            Self::Target => "malformed request target",
            Self::TargetTooLong => "the request target is too long",
            Self::TransferCoding => "malformed transfer-encoding",
            Self::TransferCodingUnknown => "unknown transfer coding",
            Self::Trailers => "malformed trailer section",
            Self::TooManyFields => "too many field lines",
            Self::Version => "unsupported protocol version",
        }
    }
}
