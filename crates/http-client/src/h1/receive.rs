//! The receiving half of an exchange: content out of the input.

use bytes::{Bytes, BytesMut};
use hearth_http_core::{
    BodyError, Limits,
    client::{ChunkedDecoder, ChunkedPiece},
};
use http::HeaderMap;

use super::head::Incoming;
use crate::ClientLimits;

/// Takes content off the input, by its framing.
pub(crate) enum Receiver {
    Chunked(Box<(ChunkedDecoder, Limits)>),
    Length(u64),
    UntilClose,
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
    NeedMore,
}

impl Receiver {
    pub(crate) fn new(framing: Incoming, limits: &ClientLimits) -> Self {
        match framing {
            Incoming::Length(len) => Self::Length(len),
            Incoming::UntilClose => Self::UntilClose,
            Incoming::Chunked => {
                let mut chunk_limits = Limits::default();
                chunk_limits.trailer_bytes_max = limits.trailer_bytes_max;
                chunk_limits.trailer_count_max = limits.trailer_count_max;
                Self::Chunked(Box::new((ChunkedDecoder::default(), chunk_limits)))
            }
        }
    }

    /// The next piece of what lies in `input`.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Piece, BodyError> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            Self::Length(rest) => {
                let len = usize::try_from(*rest).map_or(input.len(), |rest| rest.min(input.len()));
                *rest -= len as u64;
                Ok(data_or_more(input.split_to(len)))
            }
            Self::UntilClose => Ok(data_or_more(input.split())),
            Self::Chunked(chunked) => {
                let (decoder, limits) = &mut **chunked;
                match decoder.decode(input, limits)? {
                    ChunkedPiece::Data(data) => Ok(Piece::Data(data)),
                    ChunkedPiece::Trailers(trailers) => Ok(Piece::Trailers(trailers)),
                    ChunkedPiece::End => Ok(Piece::End),
                    _ => Ok(Piece::NeedMore),
                }
            }
        }
    }

    /// Bytes of content that are still to come, where that is known.
    pub(crate) fn rest(&self) -> Option<u64> {
        if let Self::Length(rest) = self { Some(*rest) } else { None }
    }

    /// Whether the end of the stream is the end of the content (RFC 9112 §6.3 rule 8).
    pub(crate) fn ends_with_stream(&self) -> bool {
        matches!(self, Self::UntilClose)
    }
}

fn data_or_more(data: BytesMut) -> Piece {
    if data.is_empty() { Piece::NeedMore } else { Piece::Data(data.freeze()) }
}
