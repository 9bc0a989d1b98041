//! The content of a request on its way from the connection to the handler.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

use super::{
    chunked::{ChunkedDecoder, Piece},
    fields::Framing,
    refusal::Refusal,
};
use crate::{Body, BodyError, BodyStream, Limits};

/// The connection's end of a request body.
///
/// The handler's end is a [`Body::Stream`] over the same [`Cell`]: it asks, the connection reads
/// and decodes, and only then. A body that came whole with its head needs no cell at all.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    decoder: Decoder,
    cell: Option<Arc<Cell>>,
}

#[derive(Debug, Default)]
enum Decoder {
    Chunked(ChunkedDecoder),
    Length(u64),
    /// Everything was decoded, or there was nothing.
    #[default]
    Done,
    /// Framing, time or peer failed: nothing behind this point can be understood.
    Broken,
}

/// Where the two ends meet. The lock is never contended while the handler runs in its
/// connection's task, which is where handlers run unless they move the body elsewhere.
#[derive(Debug)]
struct Cell(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Decoded content that was not taken yet.
    data: Bytes,
    trailers: Option<HeaderMap>,
    is_at_end: bool,
    /// What the reader will be told, once, in place of the rest.
    error: Option<BodyError>,
    /// Content still to come, where the length was announced; `data` included.
    remaining: Option<u64>,
    delivered: u64,
    bytes_max: u64,
    /// The reader found nothing and waits.
    is_wanted: bool,
    reader: Option<Waker>,
    connection: Option<Waker>,
    /// The reader asked for more than it may have.
    is_too_large: bool,
}

/// The handler's end.
struct Stream(Arc<Cell>);

impl Incoming {
    /// Starts the body of a request whose head was just taken off `input`. What is there already is
    /// decoded at once: a small request is complete, and checked, before its handler is called.
    pub(crate) fn start(
        framing: Framing,
        input: &mut BytesMut,
        limits: &Limits,
    ) -> Result<(Self, Body), Refusal> {
        match framing {
            Framing::None => Ok((Self::default(), Body::Empty)),
            Framing::Length(len) => Ok(Self::start_length(len, input, limits)),
            Framing::Chunked => Self::start_chunked(input, limits),
        }
    }

    fn start_length(len: u64, input: &mut BytesMut, limits: &Limits) -> (Self, Body) {
        if len <= limits.body_bytes_max
            && let Ok(len) = usize::try_from(len)
            && len <= input.len()
        {
            let body = Body::Bytes(input.split_to(len).freeze());
            return (Self::default(), body);
        }
        let state =
            State { remaining: Some(len), bytes_max: limits.body_bytes_max, ..State::default() };
        Self::with_cell(Decoder::Length(len), state)
    }

    fn start_chunked(input: &mut BytesMut, limits: &Limits) -> Result<(Self, Body), Refusal> {
        let mut decoder = ChunkedDecoder::default();
        let mut state = State { bytes_max: limits.body_bytes_max, ..State::default() };
        let mut joined = Vec::new();
        loop {
            match decoder.decode(input, limits)? {
                Piece::Data(data) if state.data.is_empty() => state.data = data,
                Piece::Data(data) => {
                    // The input is bounded, so joining its chunks is too.
                    if joined.is_empty() {
                        joined.extend_from_slice(&state.data);
                    }
                    joined.extend_from_slice(&data);
                }
                Piece::Trailers(trailers) => state.trailers = Some(trailers),
                Piece::End => state.is_at_end = true,
                Piece::NeedMore => break,
            }
            if state.is_at_end {
                break;
            }
        }
        if !joined.is_empty() {
            state.data = joined.into();
        }
        if !state.is_at_end {
            return Ok(Self::with_cell(Decoder::Chunked(decoder), state));
        }
        state.remaining = Some(state.data.len() as u64);
        if state.trailers.is_none() && state.data.len() as u64 <= state.bytes_max {
            let body = if state.data.is_empty() { Body::Empty } else { Body::Bytes(state.data) };
            return Ok((Self::default(), body));
        }
        Ok(Self::with_cell(Decoder::Done, state))
    }

    fn with_cell(decoder: Decoder, state: State) -> (Self, Body) {
        let cell = Arc::new(Cell(Mutex::new(state)));
        let body = Body::stream(Stream(cell.clone()));
        (Self { decoder, cell: Some(cell) }, body)
    }

    /// Whether there never was a body.
    pub(crate) fn is_fresh(&self) -> bool {
        self.cell.is_none() && self.is_done()
    }

    /// Whether the reader waits for something that this end has not given it.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.is_done() && self.cell.as_ref().is_some_and(|cell| cell.0.lock().is_wanted)
    }

    /// Whether all of the body was taken off the input.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.decoder, Decoder::Done)
    }

    /// Whether nothing behind this body can be understood.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.decoder, Decoder::Broken)
    }

    /// Whether the reader was refused for the size of the body.
    pub(crate) fn is_too_large(&self) -> bool {
        self.cell.as_ref().is_some_and(|cell| cell.0.lock().is_too_large)
    }

    /// What is still to come, where that is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match self.decoder {
            Decoder::Done => Some(0),
            Decoder::Length(remaining) => Some(remaining),
            Decoder::Chunked(_) | Decoder::Broken => None,
        }
    }

    /// Decodes the next piece for the reader; answers whether it got one, or the end.
    pub(crate) fn feed(&mut self, input: &mut BytesMut, limits: &Limits) -> Result<bool, Refusal> {
        let piece = self.decode(input, limits)?;
        let Some(cell) = &self.cell else { return Ok(piece != Piece::NeedMore) };
        let mut state = cell.0.lock();
        match piece {
            Piece::NeedMore => return Ok(false),
            Piece::Data(data) => {
                state.data = data;
                // Knowing the end at once spares the reader a turn.
                state.is_at_end = matches!(self.decoder, Decoder::Done);
            }
            Piece::Trailers(trailers) => state.trailers = Some(trailers),
            Piece::End => state.is_at_end = true,
        }
        state.wake_reader();
        Ok(true)
    }

    /// Decodes and drops; answers how much content there was, `None` where more input is needed.
    pub(crate) fn discard(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
    ) -> Result<Option<u64>, Refusal> {
        match self.decode(input, limits)? {
            Piece::NeedMore => Ok(None),
            Piece::Data(data) => Ok(Some(data.len() as u64)),
            Piece::End | Piece::Trailers(_) => Ok(Some(0)),
        }
    }

    fn decode(&mut self, input: &mut BytesMut, limits: &Limits) -> Result<Piece, Refusal> {
        match &mut self.decoder {
            Decoder::Broken | Decoder::Done => Ok(Piece::End),
            Decoder::Length(remaining) => {
                if input.is_empty() {
                    return Ok(Piece::NeedMore);
                }
                let len = usize::try_from(*remaining).map_or(input.len(), |n| n.min(input.len()));
                *remaining -= len as u64;
                if *remaining == 0 {
                    self.decoder = Decoder::Done;
                }
                Ok(Piece::Data(input.split_to(len).freeze()))
            }
            Decoder::Chunked(decoder) => {
                let piece = decoder.decode(input, limits)?;
                if decoder.is_at_end() && piece == Piece::End {
                    self.decoder = Decoder::Done;
                }
                Ok(piece)
            }
        }
    }

    /// Tells the reader that nothing more will come, and why.
    pub(crate) fn fail(&mut self, error: BodyError) {
        if self.is_done() {
            return;
        }
        self.decoder = Decoder::Broken;
        if let Some(cell) = &self.cell {
            let mut state = cell.0.lock();
            state.error = Some(error);
            state.wake_reader();
        }
    }

    /// Cuts the reader off, so that the rest can be discarded.
    pub(crate) fn detach(&mut self) {
        if let (Some(cell), false) = (self.cell.take(), self.is_done()) {
            let mut state = cell.0.lock();
            state.error = Some(BodyError::Aborted);
            state.wake_reader();
        }
    }

    /// Has `waker` woken when the reader asks for more.
    pub(crate) fn wake_when_wanted(&self, waker: &Waker) {
        let Some(cell) = &self.cell else { return };
        if self.is_done() {
            return;
        }
        let mut state = cell.0.lock();
        if !state.connection.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.connection = Some(waker.clone());
        }
    }
}

impl Drop for Incoming {
    /// The exchange is over; a reader that is left learns that.
    fn drop(&mut self) {
        self.detach();
    }
}

impl State {
    fn wake_reader(&mut self) {
        self.is_wanted = false;
        // A reader within the connection's own task is polled next anyway.
        if let Some(reader) = self.reader.take()
            && !self.connection.as_ref().is_some_and(|own| own.will_wake(&reader))
        {
            reader.wake();
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_too_large {
            return Poll::Ready(None);
        }
        let announced = self.remaining.unwrap_or(self.data.len() as u64);
        if self.delivered + announced > self.bytes_max {
            self.is_too_large = true;
            self.data.clear();
            let error = BodyError::TooLarge { limit: self.bytes_max };
            return Poll::Ready(Some(Err(error)));
        }
        if !self.data.is_empty() {
            let data = std::mem::take(&mut self.data);
            self.delivered += data.len() as u64;
            self.remaining = self.remaining.map(|rest| rest - data.len() as u64);
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        if self.is_at_end {
            return Poll::Ready(None);
        }
        if let Some(error) = self.error.take() {
            self.is_at_end = true;
            return Poll::Ready(Some(Err(error)));
        }
        self.is_wanted = true;
        if !self.reader.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.reader = Some(cx.waker().clone());
        }
        if let Some(connection) = &self.connection
            && !connection.will_wake(cx.waker())
        {
            connection.wake_by_ref();
        }
        Poll::Pending
    }
}

impl BodyStream for Stream {
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.0.lock().poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.0.0.lock();
        match state.remaining {
            Some(remaining) => SizeHint::with_exact(remaining),
            None => SizeHint::default(),
        }
    }

    fn set_limit(self: Pin<&mut Self>, bytes_max: u64) {
        self.0.0.lock().bytes_max = bytes_max;
    }
}
