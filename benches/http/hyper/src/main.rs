//! hyper without anything around it, on one thread.

use std::{convert::Infallible, sync::Arc};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[global_allocator]
static ALLOCATOR: peer_common::MiMalloc = peer_common::MiMalloc;

#[derive(serde::Serialize)]
struct Message {
    message: &'static str,
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let (kind, body) = match path {
        "/plaintext" => ("text/plain", Bytes::from_static(peer_common::TEXT.as_bytes())),
        "/json" => {
            let json = serde_json::to_vec(&Message { message: peer_common::TEXT }).expect("JSON");
            ("application/json", json.into())
        }
        _ => match path.strip_prefix("/users/") {
            Some(id) => ("text/plain", Bytes::copy_from_slice(id.as_bytes())),
            None => {
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::NOT_FOUND;
                return Ok(response);
            }
        },
    };
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

#[derive(Clone)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

async fn accept(listener: std::net::TcpListener, tls: Option<TlsAcceptor>) {
    let listener = TcpListener::from_std(listener).expect("listener");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let tls = tls.clone();
        tokio::task::spawn_local(async move {
            let mut h1 = http1::Builder::new();
            h1.pipeline_flush(true);
            let Some(tls) = tls else {
                let _ = h1.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
                return;
            };
            let Ok(stream) = tls.accept(stream).await else { return };
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let io = TokioIo::new(stream);
            if h2 {
                let mut h2 = http2::Builder::new(Local);
                let _ = h2.max_concurrent_streams(250).serve_connection(io, service_fn(answer)).await;
            } else {
                let _ = h1.serve_connection(io, service_fn(answer)).await;
            }
        });
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let tls = TlsAcceptor::from(Arc::new(peer_common::tls()));
    tokio::task::LocalSet::new().block_on(&runtime.expect("runtime"), async {
        let plain = accept(peer_common::listener("PORT"), None);
        tokio::join!(plain, accept(peer_common::listener("TPORT"), Some(tls)));
    });
}
