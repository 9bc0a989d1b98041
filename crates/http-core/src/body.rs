//! One body type for requests and responses.

use std::{
    fs::File,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::pieces::read_file_at;

/// The content of a message.
///
/// All but [`Stream`](Self::Stream) know their exact length, and the connection treats each in its
/// cheapest way: small bytes are copied behind the head, large ones are written beside it, a file
/// goes through `sendfile` where the transport can. It implements [`http_body::Body`].
#[derive(Default)]
#[non_exhaustive]
pub enum Body {
    /// No content.
    #[default]
    Empty,
    /// Bytes that live as long as the program.
    Static(&'static [u8]),
    /// Shared bytes.
    Bytes(Bytes),
    /// Bytes made for this message; spares the allocation that sharing them would cost.
    Owned(Vec<u8>),
    /// A part of a file.
    File(FileBody),
    /// Content that arrives piece by piece, of known or unknown length.
    Stream(Pin<Box<dyn BodyStream>>),
}

/// A source of frames; implemented for every [`http_body::Body`] of `Bytes` and [`BodyError`].
pub trait BodyStream: Send {
    /// The next piece of content or the trailer section; `None` at the end.
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>>;
    /// Bounds on what is still to come.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
    /// Changes the largest size that is accepted, where this stream comes from a peer.
    fn set_limit(self: Pin<&mut Self>, _bytes_max: u64) {}
}

/// A range of an open file.
#[derive(Debug, Clone)]
pub struct FileBody {
    /// The file; shared, so that one descriptor serves many responses.
    pub file: Arc<File>,
    /// Where the content begins.
    pub offset: u64,
    /// How many bytes are sent. If the file turns out shorter, the connection is closed.
    pub len: u64,
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The peer closed, or reset the stream, in the middle of the content.
    #[error("the peer went away before the end of the body")]
    Aborted,
    /// The content violates its framing; the connection will be closed.
    #[error("malformed body: {0}")]
    Malformed(&'static str),
    /// More content than [`Limits::body_bytes_max`](crate::Limits::body_bytes_max) or the handler's own limit.
    #[error("body exceeds {limit} bytes")]
    TooLarge {
        /// The limit that was passed.
        limit: u64,
    },
    /// The content arrived too slowly.
    #[error("timed out while waiting for the body")]
    Timeout,
    /// The file could not be read, or is shorter than promised.
    #[error("cannot read the file to be sent")]
    File(#[source] io::Error),
    /// The producer of the content failed.
    #[error("the body's source failed")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Body {
    /// A body from anything that implements [`http_body::Body`].
    pub fn from_http_body<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self::Stream(Box::pin(HttpBody(Box::pin(body))))
    }

    /// A body from a [`BodyStream`].
    pub fn stream(stream: impl BodyStream + 'static) -> Self {
        Self::Stream(Box::pin(stream))
    }

    /// The exact length in bytes, where it is known.
    #[must_use]
    pub fn len(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Static(bytes) => Some(bytes.len() as u64),
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::Owned(bytes) => Some(bytes.len() as u64),
            Self::File(file) => Some(file.len),
            Self::Stream(stream) => stream.size_hint().exact(),
        }
    }

    /// Whether it is known that nothing will come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// The content, where it lies in memory in one piece.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Empty => Some(b""),
            Self::Static(bytes) => Some(bytes),
            Self::Bytes(bytes) => Some(bytes),
            Self::Owned(bytes) => Some(bytes),
            Self::File(_) | Self::Stream(_) => None,
        }
    }

    /// The next piece of content or the trailer section; `None` at the end.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: a piece that was not returned is returned by the next call.
    pub async fn frame(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The whole content in memory.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] as soon as more than `bytes_max` have come, and whatever the source reports.
    ///
    /// # Cancel safety
    /// Not cancel safe: what was read is lost.
    pub async fn collect(mut self, bytes_max: u64) -> Result<Bytes, BodyError> {
        let too_large = BodyError::TooLarge { limit: bytes_max };
        if self.len().is_some_and(|len| len > bytes_max) {
            return Err(too_large);
        }
        match self {
            Self::Static(bytes) => return Ok(Bytes::from_static(bytes)),
            Self::Bytes(bytes) => return Ok(bytes),
            Self::Owned(bytes) => return Ok(bytes.into()),
            _ => {}
        }
        self.limit(bytes_max);
        let mut first = Bytes::new();
        let mut all = Vec::new();
        while let Some(frame) = self.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if (first.len() + all.len() + data.len()) as u64 > bytes_max {
                return Err(too_large);
            }
            // Most bodies come in one piece, which needs no copy.
            if first.is_empty() && all.is_empty() {
                first = data;
            } else {
                if all.is_empty() {
                    all = std::mem::take(&mut first).to_vec();
                }
                all.extend_from_slice(&data);
            }
        }
        Ok(if all.is_empty() { first } else { all.into() })
    }

    /// Replaces the size limit of an incoming body, for a route that takes more, or less, than
    /// [`Limits::body_bytes_max`](crate::Limits::body_bytes_max). No effect on other bodies.
    pub fn limit(&mut self, bytes_max: u64) {
        if let Self::Stream(stream) = self {
            stream.as_mut().set_limit(bytes_max);
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let data = match self {
            Self::Empty => return Poll::Ready(None),
            Self::Stream(stream) => return stream.as_mut().poll_frame(cx),
            Self::File(file) => match file.read_piece() {
                Ok(data) => data,
                Err(error) => return Poll::Ready(Some(Err(BodyError::File(error)))),
            },
            Self::Static(bytes) => Bytes::from_static(std::mem::take(bytes)),
            Self::Bytes(bytes) => std::mem::take(bytes),
            Self::Owned(bytes) => std::mem::take(bytes).into(),
        };
        if self.is_empty() {
            *self = Self::Empty;
        }
        Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(data))))
    }
}

impl FileBody {
    /// Bytes read from the file at a time, where it cannot be sent by the kernel.
    pub const PIECE: usize = 64 * 1024;

    /// Reads the next piece and moves the range past it. Blocks on the disk.
    ///
    /// # Errors
    /// The read's own, and `UnexpectedEof` where the file is shorter than promised.
    pub fn read_piece(&mut self) -> io::Result<Bytes> {
        let want = usize::try_from(self.len).map_or(Self::PIECE, |len| len.min(Self::PIECE));
        let mut piece = vec![0; want];
        let read = read_file_at(&self.file, &mut piece, self.offset)?;
        if read == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        piece.truncate(read);
        self.offset += read as u64;
        self.len -= read as u64;
        Ok(piece.into())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.get_mut().poll_next(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Stream(stream) => stream.size_hint(),
            other => SizeHint::with_exact(other.len().unwrap_or_default()),
        }
    }
}

/// Pinned by a box of its own: projecting by hand would need unsafe code.
struct HttpBody<B>(Pin<Box<B>>);

impl<B> BodyStream for HttpBody<B>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.get_mut()
            .0
            .as_mut()
            .poll_frame(cx)
            .map(|frame| frame.map(|frame| frame.map_err(|error| BodyError::Source(error.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::Empty
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::Static(text.as_bytes())
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Static(bytes)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Owned(text.into_bytes())
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<FileBody> for Body {
    fn from(file: FileBody) -> Self {
        Self::File(file)
    }
}
