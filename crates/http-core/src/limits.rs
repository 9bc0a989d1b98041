//! What one peer may make us hold, and for how long.

use std::time::Duration;

/// Bounds on one connection, the same for HTTP/1.1, HTTP/2 and later HTTP/3.
///
/// Reaching a bound is an answer or a close, never a stall.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a request head: request line and header section. Above: 431. Default 16 KiB.
    pub head_bytes_max: usize,
    /// Field lines of a request head. Above: 431. Default 100.
    pub header_count_max: usize,
    /// Bytes of a request target. Above: 414. Default 8 KiB.
    pub target_bytes_max: usize,
    /// Bytes of a request body. Above: 413. A handler may change it for its own request. Default 2 MiB.
    pub body_bytes_max: u64,
    /// Bytes of a trailer section. Above: 400 and close. Default 8 KiB.
    pub trailer_bytes_max: usize,
    /// Field lines of a trailer section. Default 32.
    pub trailer_count_max: usize,
    /// Bytes of one chunk's extensions. Above: 400 and close. Default 256.
    pub chunk_extension_bytes_max: usize,
    /// Bytes of all chunk extensions of one body. Default 4 KiB.
    pub chunk_extensions_bytes_max: usize,
    /// Requests on one connection; the last answer closes it. Default 10,000.
    pub requests_per_connection_max: u64,
    /// Pipelined responses collected before they are written. Default 32.
    pub pipeline_depth_max: usize,
    /// Output waiting for the peer above which nothing more is read or made. Default 64 KiB.
    pub output_bytes_max: usize,
    /// Unread request body that is drained to keep the connection. Above: close. Default 64 KiB.
    pub drain_bytes_max: u64,

    /// From accept to the end of the TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// From the first byte of a head to its end. Answer: 408 and close. Default 40 s.
    pub head_timeout: Duration,
    /// How long a head may take whatever its size: long enough to type one by hand. What takes longer must
    /// have come at `head_rate_min`. One second while connections are scarce. Default 10 s.
    pub head_rate_grace: Duration,
    /// Slowest arrival of a head after its grace; 0 is any. Default 256 bytes per second.
    pub head_rate_min: u64,
    /// From accept to the first byte of the first request. Default 30 s.
    pub first_request_timeout: Duration,
    /// Between requests on a kept connection. Default 75 s.
    pub idle_timeout: Duration,
    /// Without any byte of an expected body. Answer: 408 and close. Default 30 s.
    pub body_stall_timeout: Duration,
    /// Slowest arrival of a body, averaged over five seconds. Default 1 KiB per second.
    pub body_rate_min: u64,
    /// Without the peer taking any byte of output. Close. Default 30 s.
    pub write_stall_timeout: Duration,
    /// How long a handler may take until its response starts; `None` is for ever. Answer: 503. Default none.
    pub handler_timeout: Option<Duration>,
    /// How long an answered connection is read on before it is closed, so that the answer is not lost to
    /// a reset. Default 5 s.
    pub linger_timeout: Duration,
    /// Age above which a connection is closed after its current request. Default 1 h, ±10 % by connection.
    pub connection_age_max: Duration,

    /// HTTP/2: streams open at once. Default 128.
    pub h2_streams_max: u32,
    /// HTTP/2: receive window of a stream. Default 256 KiB.
    pub h2_stream_window: u32,
    /// HTTP/2: receive window of a connection. Default 1 MiB.
    pub h2_connection_window: u32,
    /// HTTP/2: largest frame we accept. Default 16 KiB.
    pub h2_frame_bytes_max: u32,
    /// HTTP/2: output buffered for one stream. Default 64 KiB.
    pub h2_send_buffer_max: usize,
    /// HTTP/2: streams a peer may reset at once before it is sent away. Default 100.
    pub h2_reset_burst: u32,
    /// HTTP/2: resets that are forgiven per second. Default 33.
    pub h2_resets_per_second: u32,
    /// HTTP/2: bytes received without any stream making progress. Default 64 KiB.
    pub h2_idle_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * 1024,
            header_count_max: 100,
            target_bytes_max: 8 * 1024,
            body_bytes_max: 2 * 1024 * 1024,
            trailer_bytes_max: 8 * 1024,
            trailer_count_max: 32,
            chunk_extension_bytes_max: 256,
            chunk_extensions_bytes_max: 4 * 1024,
            requests_per_connection_max: 10_000,
            pipeline_depth_max: 32,
            output_bytes_max: 64 * 1024,
            drain_bytes_max: 64 * 1024,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(40),
            head_rate_grace: Duration::from_secs(10),
            head_rate_min: 256,
            first_request_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            body_stall_timeout: Duration::from_secs(30),
            body_rate_min: 1024,
            write_stall_timeout: Duration::from_secs(30),
            handler_timeout: None,
            linger_timeout: Duration::from_secs(5),
            connection_age_max: Duration::from_secs(3600),
            h2_streams_max: 128,
            h2_stream_window: 256 * 1024,
            h2_connection_window: 1024 * 1024,
            h2_frame_bytes_max: 16 * 1024,
            h2_send_buffer_max: 64 * 1024,
            h2_reset_burst: 100,
            h2_resets_per_second: 33,
            h2_idle_bytes_max: 64 * 1024,
        }
    }
}
