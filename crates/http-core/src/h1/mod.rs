//! HTTP/1.1 and 1.0 (RFC 9112).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{Method, Version, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    Body, ConnectionError, ConnectionInfo, Handler, HeadBuilder, Protocol, Request, Settings,
    Transport, Watch,
};

/// Serves a connection.
pub(crate) async fn run<T: Transport, H: Handler, W: Watch>(
    mut transport: T,
    handler: Arc<H>,
    settings: Arc<Settings>,
    info: Arc<ConnectionInfo>,
    _watch: W,
    protocol: Protocol,
) -> Result<(), ConnectionError> {
    let mut input = BytesMut::with_capacity(4096);
    if protocol == Protocol::Http2 {
        return Err(ConnectionError::Protocol("HTTP/2 is not served"));
    }
    loop {
        let read = transport.read_buf(&mut input).await.map_err(ConnectionError::Io)?;
        if read == 0 {
            return Ok(());
        }
        while let Some((request, length)) = parse(&mut input, &settings, &info)? {
            while input.len() < length {
                let read = transport.read_buf(&mut input).await.map_err(ConnectionError::Io)?;
                if read == 0 {
                    return Err(ConnectionError::PeerGone);
                }
            }
            let body: Bytes = input.split_to(length).freeze();
            let mut request = request;
            *request.body_mut() = Body::from(body);
            let mut response = handler.call(request).await;
            let body = response.take_body().collect(u64::MAX).await.unwrap_or_default();
            let mut out = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
            for (name, value) in response.headers().iter() {
                out.extend_from_slice(name.as_str().as_bytes());
                out.extend_from_slice(b": ");
                out.extend_from_slice(value.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            out.extend_from_slice(&body);
            transport.write_all(&out).await.map_err(ConnectionError::Io)?;
        }
    }
}

fn parse(
    input: &mut BytesMut,
    settings: &Settings,
    info: &Arc<ConnectionInfo>,
) -> Result<Option<(Request, usize)>, ConnectionError> {
    let refuse = ConnectionError::Protocol;
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Request::new(&mut fields);
    let status = parsed.parse(input).map_err(|_| refuse("malformed head"))?;
    let httparse::Status::Complete(head_len) = status else {
        let full = input.len() > settings.limits.head_bytes_max;
        return if full { Err(refuse("head too large")) } else { Ok(None) };
    };
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes());
    let method = method.map_err(|_| refuse("malformed method"))?;
    let memory = BytesMut::with_capacity(head_len);
    let target = parsed.path.unwrap_or_default();
    let mut builder = HeadBuilder::new(method, target, Version::HTTP_11, memory);
    let mut length = 0;
    for field in parsed.headers.iter() {
        builder = builder.field(field.name.as_bytes(), field.value);
        if field.name.eq_ignore_ascii_case(header::CONTENT_LENGTH.as_str()) {
            let text = std::str::from_utf8(field.value).unwrap_or_default();
            length = text.parse().map_err(|_| refuse("malformed content-length"))?;
        }
    }
    let head = builder.build().map_err(|_| refuse("malformed target"))?;
    bytes::Buf::advance(input, head_len);
    Ok(Some((Request::new(head, Body::Empty, info.clone()), length)))
}
