//! `multipart/byteranges`: several ranges of one representation in one body (RFC 9110 §14.6).

use std::{
    collections::VecDeque,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hearth_http_core::{Body, BodyError, BodyStream, FileBody, HeaderValue};

/// What parts are cut from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    File(FileBody),
    Memory(Bytes),
}

impl Source {
    /// A part of it; `range` lies within.
    pub(crate) fn slice(&self, range: Range<u64>) -> Body {
        match self {
            Self::File(file) => Body::File(Self::of_file(file, range)),
            Self::Memory(bytes) => Body::Bytes(Self::of_memory(bytes, range)),
        }
    }

    fn of_file(file: &FileBody, range: Range<u64>) -> FileBody {
        FileBody {
            file: std::sync::Arc::clone(&file.file),
            offset: file.offset + range.start,
            len: range.end - range.start,
        }
    }

    fn of_memory(bytes: &Bytes, range: Range<u64>) -> Bytes {
        let at = |offset| usize::try_from(offset).map_or(bytes.len(), |at| at.min(bytes.len()));
        let end = at(range.end);
        bytes.slice(at(range.start).min(end)..end)
    }
}

/// The body and its `content-type`. A file is read piece by piece, on the thread that sends it.
pub(crate) fn byteranges(
    source: &Source,
    parts: &[Range<u64>],
    len: u64,
    content_type: &HeaderValue,
    boundary: &str,
) -> (Body, HeaderValue) {
    let mut pieces = VecDeque::with_capacity(parts.len() * 2 + 1);
    let kind = content_type.as_bytes();
    for (index, range) in parts.iter().enumerate() {
        let line_end = if index == 0 { "" } else { "\r\n" };
        let last = range.end - 1;
        let mut head = format!("{line_end}--{boundary}\r\ncontent-type: ").into_bytes();
        head.extend_from_slice(kind);
        let at = format!("\r\ncontent-range: bytes {}-{last}/{len}\r\n\r\n", range.start);
        head.extend_from_slice(at.as_bytes());
        pieces.push_back(Piece::Memory(head.into()));
        pieces.push_back(match source {
            Source::File(file) => Piece::File(Source::of_file(file, range.clone())),
            Source::Memory(bytes) => Piece::Memory(Source::of_memory(bytes, range.clone())),
        });
    }
    pieces.push_back(Piece::Memory(format!("\r\n--{boundary}--\r\n").into()));
    let left = pieces.iter().map(Piece::len).sum();
    let content_type = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}"))
        .unwrap_or(HeaderValue::from_static("multipart/byteranges"));
    (Body::stream(Pieces { pieces, left }), content_type)
}

#[derive(Debug)]
enum Piece {
    File(FileBody),
    Memory(Bytes),
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::File(file) => file.len,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }
}

struct Pieces {
    pieces: VecDeque<Piece>,
    left: u64,
}

impl Pieces {
    fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        loop {
            match self.pieces.front_mut()? {
                Piece::File(file) if file.len > 0 => {
                    return Some(file.read_piece().map_err(BodyError::File));
                }
                Piece::Memory(bytes) if !bytes.is_empty() => {
                    return Some(Ok(std::mem::take(bytes)));
                }
                _ => {
                    self.pieces.pop_front();
                }
            }
        }
    }
}

impl BodyStream for Pieces {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        let next = self.next();
        if let Some(Ok(data)) = &next {
            self.left -= data.len() as u64;
        }
        Poll::Ready(next.map(|piece| piece.map(http_body::Frame::data)))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}
