//! The application that the tests talk to.

use std::{
    io::Write,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hearth_http_core::{
    Body, BodyError, BodyStream, FileBody, Handler, HeaderValue, Headers, Prepared, Request,
    Response, StatusCode, header,
};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One path for each thing that a handler can do.
#[derive(Clone, Copy)]
pub(crate) struct App;

impl Handler for App {
    async fn call(&self, mut req: Request) -> Response {
        let path = req.path().to_owned();
        let number = path.rsplit('/').next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        match path.as_str() {
            "/" => Response::text("home"),
            "/empty" => Response::new(()),
            "/static" => Response::new("static"),
            "/prepared" => {
                let mut headers = Headers::new();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/css"));
                let body = Bytes::from_static(b"prepared");
                Response::prepared(Arc::new(Prepared::new(StatusCode::OK, headers, body)))
            }
            "/panic" => panic!("the handler's own fault"),
            "/never" => std::future::pending().await,
            "/status/101" => Response::status_only(StatusCode::SWITCHING_PROTOCOLS),
            "/echo" => Response::new(req.take_body()),
            "/length" => count(req.take_body()).await,
            "/limit/10" => {
                req.body_mut().limit(10);
                count(req.take_body()).await
            }
            "/head" => describe(&req),
            "/hints" => {
                req.early_hints(&[HeaderValue::from_static("</style.css>; rel=preload")]);
                tokio::time::sleep(Duration::from_millis(1)).await;
                Response::text("hinted")
            }
            "/push" => {
                req.push("/static");
                Response::text("pushed")
            }
            "/socket" => socket(&req),
            "/trailers" => Response::new(Body::stream(Pieces::new(3, 5).with_trailers())),
            "/quiet" => Response::new(Body::stream(Pieces::new(1, 5).that_stall())),
            "/broken/source" => Response::new(Body::stream(Pieces::new(1, 5).that_fail())),
            "/broken/panic" => Response::new(Body::stream(Pieces::new(1, 5).that_panic())),
            "/broken/length" => Response::new(Body::stream(Pieces::new(2, 5).that_lie())),
            "/broken/file" => Response::new(file(number, 10)),
            path if path.starts_with("/bytes/") => Response::new(Bytes::from(pattern(number))),
            path if path.starts_with("/owned/") => Response::new(pattern(number)),
            path if path.starts_with("/file/") => Response::new(file(number, 0)),
            path if path.starts_with("/stream/") => {
                Response::new(Body::stream(Pieces::new(number / 1000, 1000)))
            }
            path if path.starts_with("/after/") => {
                tokio::time::sleep(Duration::from_secs(number as u64)).await;
                Response::text("at last")
            }
            path if path.starts_with("/status/") => {
                let status = u16::try_from(number).ok().and_then(|s| StatusCode::from_u16(s).ok());
                Response::text("content").with_status(status.expect("status"))
            }
            _ => Response::status_text(StatusCode::NOT_FOUND),
        }
    }
}

/// Bytes in which a displacement shows.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

async fn count(mut body: Body) -> Response {
    let mut len = 0;
    let mut trailers = 0;
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => len += data.len(),
            Ok(Err(frame)) => trailers = frame.trailers_ref().map_or(0, HeaderMap::len),
            Err(error) => return Response::text(format!("{error}")),
        }
    }
    Response::text(format!("{len} {trailers}"))
}

fn describe(req: &Request) -> Response {
    let mut text =
        format!("{} {} {:?}\n", req.method(), req.head().target(), req.head().authority());
    for (name, value) in req.head().fields() {
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        text += &format!("{name}: {value}\n");
    }
    Response::text(text)
}

/// An echo of bytes.
fn socket(req: &Request) -> Response {
    if req.head().protocol() != Some("test") {
        return Response::status_text(StatusCode::BAD_REQUEST);
    }
    Response::upgrade(HeaderValue::from_static("test"), async |mut io| {
        let mut bytes = vec![0; 1000];
        while let Ok(len @ 1..) = io.read(&mut bytes).await {
            io.write_all(&bytes[..len]).await.expect("echo");
        }
    })
}

/// A file whose promised length is `missing` bytes too much.
fn file(len: usize, missing: u64) -> FileBody {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&pattern(len)).expect("written");
    FileBody { file: Arc::new(file), offset: 0, len: len as u64 + missing }
}

/// A body in pieces, of unknown length.
struct Pieces {
    left: usize,
    len: usize,
    end: End,
    promised: Option<u64>,
}

#[derive(Clone, Copy)]
enum End {
    Plain,
    Trailers,
    Stall,
    Fail,
    Panic,
}

impl Pieces {
    fn new(count: usize, len: usize) -> Self {
        Self { left: count, len, end: End::Plain, promised: None }
    }

    fn with_trailers(self) -> Self {
        Self { end: End::Trailers, ..self }
    }

    fn that_stall(self) -> Self {
        Self { end: End::Stall, ..self }
    }

    fn that_fail(self) -> Self {
        Self { end: End::Fail, ..self }
    }

    fn that_panic(self) -> Self {
        Self { end: End::Panic, ..self }
    }

    fn that_lie(self) -> Self {
        Self { promised: Some(7), ..self }
    }
}

impl BodyStream for Pieces {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.left > 0 {
            self.left -= 1;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from(pattern(self.len))))));
        }
        match std::mem::replace(&mut self.end, End::Plain) {
            End::Plain => Poll::Ready(None),
            End::Stall => {
                self.end = End::Stall;
                Poll::Pending
            }
            End::Trailers => {
                let mut fields = HeaderMap::new();
                fields.insert("x-checksum", HeaderValue::from_static("15"));
                Poll::Ready(Some(Ok(Frame::trailers(fields))))
            }
            End::Fail => Poll::Ready(Some(Err(BodyError::Source("out of paper".into())))),
            End::Panic => panic!("the body's own fault"),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.promised.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
