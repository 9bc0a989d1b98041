//! Decoding of request bodies.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use hearth_http_core::{
    Body, BodyError, BodyStream, Coding, Head, HeaderValue, Middleware, Next, Request, Response,
    StatusCode, header,
};
use http_body::{Body as _, Frame};

mod decoder;

use decoder::Decoder;

/// Decodes request bodies whose `Content-Encoding` is zstd, brotli, gzip or deflate, so that handlers get
/// the content as it was before. The field goes with the coding, and so does `content-length`.
///
/// Any other coding, and more than one, is answered with 415 and an `Accept-Encoding` that names these
/// (RFC 9110 §15.5.16).
///
/// A few bytes can stand for gigabytes, so what comes out is bounded twice: as a whole, and by how much more
/// it is than what went in. A handler that reads beyond gets [`BodyError::TooLarge`]; one whose client sent
/// something else than it said gets [`BodyError::Malformed`]. It can be stricter by
/// [`Body::limit`] or [`Body::collect`]. The bound on what arrives
/// ([`Limits::body_bytes_max`](hearth_http_core::Limits::body_bytes_max)) holds besides.
///
/// Each body that is being read holds its decoder's window: up to 32 KiB for gzip and deflate, up to 8 MiB for
/// zstd and 16 MiB for brotli, as far as its client fills it.
#[derive(Debug, Clone, Copy)]
pub struct Decompress {
    bytes_max: u64,
    ratio_max: u64,
}

impl Decompress {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes_max: 8 * 1024 * 1024, ratio_max: 100 }
    }

    /// The largest decoded body. Default 8 MiB.
    #[must_use]
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// How many bytes may come of one, once more than 64 KiB have come. Default 100: text and JSON seldom pass
    /// 20, while gzip reaches 1,000 and the others have no bound.
    #[must_use]
    pub fn ratio_max(mut self, ratio: u64) -> Self {
        self.ratio_max = ratio;
        self
    }
}

impl Default for Decompress {
    fn default() -> Self {
        Self::new()
    }
}

impl Middleware for Decompress {
    async fn handle(&self, mut req: Request, next: Next<'_>) -> Response {
        if req.body().is_empty() {
            return next.run(req).await;
        }
        let coding = match coding_of(req.head()) {
            Ok(Coding::Identity) => return next.run(req).await,
            Ok(coding) => coding,
            Err(Unsupported) => {
                return Response::status_text(StatusCode::UNSUPPORTED_MEDIA_TYPE)
                    .with_header(header::ACCEPT_ENCODING, ACCEPTED);
            }
        };
        let Some(decoder) = Decoder::new(coding) else {
            tracing::error!(coding = coding.name(), "no memory for a decoder");
            return Response::status_text(StatusCode::SERVICE_UNAVAILABLE);
        };
        let source = req.take_body();
        *req.body_mut() = Body::stream(Decoded {
            source,
            decoder: Some(decoder),
            input: Bytes::new(),
            is_full: false,
            taken: 0,
            given: 0,
            since_pause: 0,
            bytes_max: self.bytes_max,
            ratio_max: self.ratio_max,
            trailers: None,
        });
        req.remove_header("content-encoding");
        req.remove_header("content-length");
        next.run(req).await
    }
}

/// A coding that is not known here, or one upon another.
struct Unsupported;

fn coding_of(head: &Head) -> Result<Coding, Unsupported> {
    let mut found = Coding::Identity;
    let members = head.header_all("content-encoding").flat_map(|line| line.split(|&b| b == b','));
    for member in members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
        match Coding::from_name(member) {
            Some(Coding::Identity) => {}
            Some(coding) if found == Coding::Identity => found = coding,
            _ => return Err(Unsupported),
        }
    }
    Ok(found)
}

/// A body that decodes another piece by piece.
struct Decoded {
    source: Body,
    /// Gone after the last byte, or an error.
    decoder: Option<Decoder>,
    /// What came from the source and was not decoded yet.
    input: Bytes,
    /// The last output filled its buffer, so that the decoder may hold more.
    is_full: bool,
    /// Bytes decoded, and bytes that came of them.
    taken: u64,
    given: u64,
    since_pause: usize,
    bytes_max: u64,
    ratio_max: u64,
    trailers: Option<Frame<Bytes>>,
}

impl BodyStream for Decoded {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let result = ready!(self.poll_output(cx));
        // After an error nothing more comes.
        if result.is_err() {
            self.decoder = None;
        }
        Poll::Ready(result.transpose())
    }

    fn set_limit(mut self: Pin<&mut Self>, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }
}

impl Decoded {
    fn poll_output(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        loop {
            if self.decoder.is_none() {
                return Poll::Ready(Ok(self.trailers.take()));
            }
            if self.since_pause >= PAUSE_AFTER {
                // Others on this thread get their turn.
                self.since_pause = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !self.input.is_empty() || self.is_full {
                if let Some(output) = self.decode()? {
                    return Poll::Ready(Ok(Some(Frame::data(output))));
                }
                continue;
            }
            match ready!(Pin::new(&mut self.source).poll_frame(cx)) {
                None => self.finish()?,
                Some(Err(error)) => return Poll::Ready(Err(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.input = data,
                    Err(trailers) => {
                        self.trailers = Some(trailers);
                        self.finish()?;
                    }
                },
            }
        }
    }

    fn decode(&mut self) -> Result<Option<Bytes>, BodyError> {
        let Some(decoder) = &mut self.decoder else { return Ok(None) };
        let mut output = Vec::with_capacity(OUTPUT_STEP);
        let taken = decoder.run(&self.input, &mut output).map_err(|_| MALFORMED)?;
        self.is_full = output.len() == output.capacity();
        if taken == 0 && output.is_empty() && !self.input.is_empty() {
            return Err(MALFORMED);
        }
        self.input.advance(taken);
        self.taken += taken as u64;
        self.given += output.len() as u64;
        self.since_pause += output.len();
        let by_ratio = self.taken.saturating_mul(self.ratio_max).saturating_add(RATIO_FREE);
        let limit = self.bytes_max.min(by_ratio);
        if self.given > limit {
            return Err(BodyError::TooLarge { limit });
        }
        Ok((!output.is_empty()).then(|| output.into()))
    }

    /// The source has ended, and so must the coding.
    fn finish(&mut self) -> Result<(), BodyError> {
        match self.decoder.take() {
            Some(decoder) if self.taken > 0 && !decoder.is_at_end() => Err(MALFORMED),
            _ => Ok(()),
        }
    }
}

const MALFORMED: BodyError = BodyError::Malformed("the content is not in its content-encoding");
const ACCEPTED: HeaderValue = HeaderValue::from_static("zstd, br, gzip, deflate");
/// Output of one turn.
const OUTPUT_STEP: usize = 16 * 1024;
/// So much may come of a few bytes: runs of zeros and blanks in small documents are no attack.
const RATIO_FREE: u64 = 64 * 1024;
const PAUSE_AFTER: usize = 128 * 1024;
