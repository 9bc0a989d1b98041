//! What the client's side of HTTP/1.1 shares with the server's: the chunked transfer coding.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::{BodyError, Limits, h1::chunked};

/// Takes the chunks of one message off the input, and nothing behind the message.
#[derive(Debug, Default)]
pub struct ChunkedDecoder(chunked::ChunkedDecoder);

/// What a [`ChunkedDecoder`] found.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChunkedPiece {
    /// Some content.
    Data(Bytes),
    /// The trailer section; only the end follows.
    Trailers(HeaderMap),
    /// The message is over.
    End,
    /// Nothing without more input.
    NeedMore,
}

impl ChunkedDecoder {
    /// Takes the next piece off the front of `input`.
    ///
    /// # Errors
    /// [`BodyError::Malformed`] names the rule that was broken; the connection must be closed.
    pub fn decode(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
    ) -> Result<ChunkedPiece, BodyError> {
        match self.0.decode(input, limits) {
            Ok(chunked::Piece::Data(data)) => Ok(ChunkedPiece::Data(data)),
            Ok(chunked::Piece::Trailers(map)) => Ok(ChunkedPiece::Trailers(map)),
            Ok(chunked::Piece::End) => Ok(ChunkedPiece::End),
            Ok(chunked::Piece::NeedMore) => Ok(ChunkedPiece::NeedMore),
            Err(refusal) => Err(BodyError::Malformed(refusal.reason())),
        }
    }
}

/// Appends the line before a chunk of `size` bytes: the end of the chunk before it, unless this is
/// the first, and the size.
pub fn put_chunk_size(out: &mut Vec<u8>, is_first: bool, size: usize) {
    chunked::put_size_line(out, is_first, size);
}

/// Appends the end of a message: the end of the chunk before it, the last chunk and the trailer
/// section, without fields that must not stand there (RFC 9110 §6.5.1).
pub fn put_last_chunk(out: &mut Vec<u8>, is_first: bool, trailers: Option<&HeaderMap>) {
    chunked::put_end(out, is_first, trailers);
}
