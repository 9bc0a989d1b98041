//! A body that encodes another piece by piece.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hearth_http_core::{Body, BodyError, BodyStream, Coding};
use http_body::{Body as _, Frame};

use super::encoder::{After, EncodeError, Encoder, Levels};

/// The encoded body; gives `body` back where there is no encoder.
pub(crate) fn encode(body: Body, coding: Coding, levels: Levels) -> Result<Body, Body> {
    match Encoder::new(coding, levels) {
        Some(encoder) => Ok(Body::stream(Encoded {
            source: body,
            encoder: Some(encoder),
            input: Bytes::new(),
            output: Vec::new(),
            is_flushed: true,
            trailers: None,
        })),
        None => Err(body),
    }
}

struct Encoded {
    source: Body,
    /// Gone when the last byte was written.
    encoder: Option<Encoder>,
    /// What came from the source and was not encoded yet.
    input: Bytes,
    output: Vec<u8>,
    is_flushed: bool,
    trailers: Option<Frame<Bytes>>,
}

type Item = Option<Result<Frame<Bytes>, BodyError>>;

impl BodyStream for Encoded {
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Item> {
        let result = ready!(self.poll_output(cx));
        // After an error nothing more comes.
        if result.is_err() {
            self.encoder = None;
        }
        Poll::Ready(result.transpose())
    }
}

impl Encoded {
    fn poll_output(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        loop {
            if self.encoder.is_none() {
                return Poll::Ready(Ok(self.take_output().or_else(|| self.trailers.take())));
            }
            if !self.input.is_empty() {
                let piece = self.input.split_to(self.input.len().min(STEP));
                self.run(&piece, After::Continue)?;
                if self.output.len() >= OUTPUT_MIN {
                    return Poll::Ready(Ok(self.take_output()));
                }
                // Others on this thread get their turn before the next piece.
                if !self.input.is_empty() {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            match Pin::new(&mut self.source).poll_frame(cx) {
                // The source pauses: what it gave so far may be what the reader waits for.
                Poll::Pending if !self.is_flushed => {
                    self.run(&[], After::Flush)?;
                    match self.take_output() {
                        Some(frame) => return Poll::Ready(Ok(Some(frame))),
                        None => return Poll::Pending,
                    }
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => self.finish()?,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.input = data,
                    Err(trailers) => {
                        self.trailers = Some(trailers);
                        self.finish()?;
                    }
                },
            }
        }
    }

    fn run(&mut self, input: &[u8], after: After) -> Result<(), BodyError> {
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        self.is_flushed = after != After::Continue;
        encoder
            .run(input, after, &mut self.output)
            .map_err(|error: EncodeError| BodyError::Source(Box::new(error)))
    }

    fn finish(&mut self) -> Result<(), BodyError> {
        self.run(&[], After::Finish)?;
        self.encoder = None;
        Ok(())
    }

    fn take_output(&mut self) -> Option<Frame<Bytes>> {
        (!self.output.is_empty()).then(|| Frame::data(std::mem::take(&mut self.output).into()))
    }
}

/// Input that is encoded in one turn: a few hundred microseconds at most.
const STEP: usize = 32 * 1024;
/// Less output than this waits for more, as long as the source does not pause.
const OUTPUT_MIN: usize = 4 * 1024;
