//! The limits: each with the word for it, its default, and the range that makes sense.

use std::time::Duration;

use hearth_config::{ByteSize, HumanDuration, Report, Spanned};
use hearth_http_core::Limits as CoreLimits;

use super::{describe::section, range::Check};

fn size(get: impl Fn(&CoreLimits) -> u64) -> Spanned<ByteSize> {
    Spanned::unknown(ByteSize(get(&CoreLimits::default())))
}

fn count(get: impl Fn(&CoreLimits) -> u64) -> Spanned<u64> {
    Spanned::unknown(get(&CoreLimits::default()))
}

fn time(get: impl Fn(&CoreLimits) -> Duration) -> Spanned<HumanDuration> {
    Spanned::unknown(HumanDuration(get(&CoreLimits::default())))
}

section! {
    /// Bounds on what a client may make the server hold, and for how long; the same for every protocol.
    pub struct Limits {
        /// Request line and header section together; above: 431.
        max_header_size: Spanned<ByteSize> = size(|l| l.head_bytes_max as u64),
        /// Header lines; above: 431.
        max_headers: Spanned<u64> = count(|l| l.header_count_max as u64),
        /// The request target; above: 414.
        max_uri_size: Spanned<ByteSize> = size(|l| l.target_bytes_max as u64),
        /// The content of a request; above: 413.
        max_body_size: Spanned<ByteSize> = size(|l| l.body_bytes_max),
        /// The trailer section; above: 400.
        max_trailer_size: Spanned<ByteSize> = size(|l| l.trailer_bytes_max as u64),
        /// Trailer lines.
        max_trailers: Spanned<u64> = count(|l| l.trailer_count_max as u64),
        /// The extensions of one chunk; above: 400.
        max_chunk_extension_size: Spanned<ByteSize> = size(|l| l.chunk_extension_bytes_max as u64),
        /// The extensions of all chunks of one body.
        max_chunk_extensions_size: Spanned<ByteSize> = size(|l| l.chunk_extensions_bytes_max as u64),
        /// Requests on one connection.
        max_requests_per_connection: Spanned<u64> = count(|l| l.requests_per_connection_max),
        /// Pipelined responses that are written together.
        max_pipelined: Spanned<u64> = count(|l| l.pipeline_depth_max as u64),
        /// Output that waits for the client, above which nothing more is read.
        max_pending_output: Spanned<ByteSize> = size(|l| l.output_bytes_max as u64),
        /// Unread content that is read and thrown away to keep a connection.
        max_discarded_body: Spanned<ByteSize> = size(|l| l.drain_bytes_max),
        /// The TLS handshake.
        handshake_timeout: Spanned<HumanDuration> = time(|l| l.handshake_timeout),
        /// From the first byte of a request to the end of its header section; answer: 408.
        header_timeout: Spanned<HumanDuration> = time(|l| l.head_timeout),
        /// How long a header section may take whatever its size; one second while connections are scarce.
        header_grace: Spanned<HumanDuration> = time(|l| l.head_rate_grace),
        /// Bytes per second at which a header section must come after its grace; 0 is any.
        min_header_rate: Spanned<ByteSize> = size(|l| l.head_rate_min),
        /// From the connection to the first byte of its first request.
        first_request_timeout: Spanned<HumanDuration> = time(|l| l.first_request_timeout),
        /// Between requests of a connection.
        keepalive_timeout: Spanned<HumanDuration> = time(|l| l.idle_timeout),
        /// Without any byte of the content that is due; answer: 408.
        body_timeout: Spanned<HumanDuration> = time(|l| l.body_stall_timeout),
        /// Bytes per second at which content must come, averaged over five seconds; 0 is any.
        min_body_rate: Spanned<ByteSize> = size(|l| l.body_rate_min),
        /// Without the client taking any byte.
        send_timeout: Spanned<HumanDuration> = time(|l| l.write_stall_timeout),
        /// Until a response begins; answer: 503. Not set: for ever.
        handler_timeout: Option<Spanned<HumanDuration>> = None,
        /// How long an answered connection is read on, so that the answer is not lost.
        linger_timeout: Spanned<HumanDuration> = time(|l| l.linger_timeout),
        /// Age at which a connection is closed after its current request.
        max_connection_age: Spanned<HumanDuration> = time(|l| l.connection_age_max),
        /// HTTP/2.
        h2: H2Limits = H2Limits::default(),
    }
}

section! {
    /// Bounds that only HTTP/2 knows.
    pub struct H2Limits {
        /// Requests at the same time on one connection.
        max_streams: Spanned<u64> = count(|l| u64::from(l.h2_streams_max)),
        /// Content of one request that may come before it is read.
        stream_window: Spanned<ByteSize> = size(|l| u64::from(l.h2_stream_window)),
        /// Content of all requests of a connection that may come before it is read.
        connection_window: Spanned<ByteSize> = size(|l| u64::from(l.h2_connection_window)),
        /// The largest frame that is taken.
        max_frame_size: Spanned<ByteSize> = size(|l| u64::from(l.h2_frame_bytes_max)),
        /// Output that is held for one stream.
        max_send_buffer: Spanned<ByteSize> = size(|l| l.h2_send_buffer_max as u64),
        /// Requests that a client may cancel at once.
        reset_burst: Spanned<u64> = count(|l| u64::from(l.h2_reset_burst)),
        /// Cancelled requests that are forgiven per second.
        resets_per_second: Spanned<u64> = count(|l| u64::from(l.h2_resets_per_second)),
        /// Bytes that may come while no request makes progress.
        max_idle_bytes: Spanned<ByteSize> = size(|l| l.h2_idle_bytes_max as u64),
    }
}

impl Limits {
    /// The limits as connections know them; reports every number that is out of its range.
    pub fn check(&self, report: &mut Report) -> CoreLimits {
        let mut limits = CoreLimits::default();
        let mut check = Check { report, section: "limits" };
        let kib = |n: u64| n << 10;
        let gib = |n: u64| n << 30;
        // A request head is addressed by 16 bits.
        let head = kib(1)..=kib(64) - 1;
        limits.head_bytes_max = check.size("max_header_size", &self.max_header_size, head);
        limits.header_count_max = check.count("max_headers", &self.max_headers, 1..=1000);
        limits.target_bytes_max = check.size("max_uri_size", &self.max_uri_size, 64..=kib(63));
        limits.body_bytes_max = check.bytes("max_body_size", &self.max_body_size, 0..=u64::MAX);
        limits.trailer_bytes_max =
            check.size("max_trailer_size", &self.max_trailer_size, 0..=kib(63));
        limits.trailer_count_max = check.count("max_trailers", &self.max_trailers, 0..=1000);
        let extensions = 0..=kib(63);
        limits.chunk_extension_bytes_max = check.size(
            "max_chunk_extension_size",
            &self.max_chunk_extension_size,
            extensions.clone(),
        );
        limits.chunk_extensions_bytes_max =
            check.size("max_chunk_extensions_size", &self.max_chunk_extensions_size, extensions);
        limits.requests_per_connection_max = check.number(
            "max_requests_per_connection",
            &self.max_requests_per_connection,
            1..=u64::MAX,
        );
        limits.pipeline_depth_max = check.count("max_pipelined", &self.max_pipelined, 1..=1024);
        limits.output_bytes_max =
            check.size("max_pending_output", &self.max_pending_output, kib(4)..=gib(1));
        limits.drain_bytes_max =
            check.bytes("max_discarded_body", &self.max_discarded_body, 0..=gib(1));
        limits.head_rate_min = check.bytes("min_header_rate", &self.min_header_rate, 0..=gib(1));
        limits.body_rate_min = check.bytes("min_body_rate", &self.min_body_rate, 0..=gib(1));
        self.check_times(&mut check, &mut limits);
        self.h2.check(&mut check, &mut limits);
        limits
    }

    fn check_times(&self, check: &mut Check<'_>, limits: &mut CoreLimits) {
        let times = [
            (&mut limits.handshake_timeout, "handshake_timeout", &self.handshake_timeout),
            (&mut limits.head_timeout, "header_timeout", &self.header_timeout),
            (&mut limits.head_rate_grace, "header_grace", &self.header_grace),
            (
                &mut limits.first_request_timeout,
                "first_request_timeout",
                &self.first_request_timeout,
            ),
            (&mut limits.idle_timeout, "keepalive_timeout", &self.keepalive_timeout),
            (&mut limits.body_stall_timeout, "body_timeout", &self.body_timeout),
            (&mut limits.write_stall_timeout, "send_timeout", &self.send_timeout),
            (&mut limits.linger_timeout, "linger_timeout", &self.linger_timeout),
            (&mut limits.connection_age_max, "max_connection_age", &self.max_connection_age),
        ];
        for (limit, key, value) in times {
            *limit = check.time(key, value);
        }
        limits.handler_timeout =
            self.handler_timeout.as_ref().map(|value| check.time("handler_timeout", value));
    }
}

impl H2Limits {
    fn check(&self, check: &mut Check<'_>, limits: &mut CoreLimits) {
        // RFC 9113 §6.5.2 and §6.9.1 bound windows and frames.
        let window = 65_535..=(1 << 31) - 1;
        limits.h2_streams_max = check.small("h2.max_streams", &self.max_streams, 1..=10_000);
        limits.h2_stream_window =
            check.small_size("h2.stream_window", &self.stream_window, window.clone());
        limits.h2_connection_window =
            check.small_size("h2.connection_window", &self.connection_window, window);
        limits.h2_frame_bytes_max =
            check.small_size("h2.max_frame_size", &self.max_frame_size, 16_384..=(1 << 24) - 1);
        limits.h2_send_buffer_max =
            check.size("h2.max_send_buffer", &self.max_send_buffer, 4096..=1 << 30);
        limits.h2_reset_burst = check.small("h2.reset_burst", &self.reset_burst, 1..=1_000_000);
        limits.h2_resets_per_second =
            check.small("h2.resets_per_second", &self.resets_per_second, 0..=1_000_000);
        limits.h2_idle_bytes_max =
            check.size("h2.max_idle_bytes", &self.max_idle_bytes, 4096..=1 << 30);
    }
}

#[cfg(test)]
mod tests {
    use hearth_config::{Diagnostic, Format, Loader};

    use super::*;

    #[test]
    fn defaults_are_those_of_the_core_and_within_their_ranges() {
        let loaded = Loader::new().load::<crate::config::Config>().unwrap();
        let mut report = loaded.document.report();
        let limits = loaded.config.limits.check(&mut report);
        assert!(report.is_empty(), "{report}");
        assert_eq!(format!("{limits:?}"), format!("{:?}", CoreLimits::default()));
    }

    #[test]
    fn out_of_range() {
        let text = "[limits]\nmax_headers = 0\nkeepalive_timeout = '1ms'\nh2.max_frame_size = 1\n";
        let loader = Loader::new().text("t", Format::Toml, text);
        let loaded = loader.load::<crate::config::Config>().unwrap();
        let mut report = loaded.document.report();
        loaded.config.limits.check(&mut report);
        let messages: Vec<_> = report.diagnostics().iter().map(Diagnostic::message).collect();
        assert_eq!(
            messages,
            [
                "`limits.max_headers` is too small: 0",
                "`limits.keepalive_timeout` is too small: 1ms",
                "`limits.h2.max_frame_size` is too small: 1"
            ]
        );
    }
}
