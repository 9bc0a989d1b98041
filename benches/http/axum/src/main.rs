//! axum with tower-http, on one thread.

use std::sync::Arc;

use axum::{Json, Router, extract::Path, routing::get};
use tower_http::{compression::CompressionLayer, services::ServeDir};

#[global_allocator]
static ALLOCATOR: peer_common::MiMalloc = peer_common::MiMalloc;

#[derive(serde::Serialize)]
struct Message {
    message: &'static str,
}

fn main() {
    let root = peer_common::env("ROOT");
    let compressed = Router::new()
        .fallback_service(ServeDir::new(format!("{root}/z")))
        .layer(CompressionLayer::new());
    let app = Router::new()
        .route("/plaintext", get(async || peer_common::TEXT))
        .route("/json", get(async || Json(Message { message: peer_common::TEXT })))
        .route("/users/{id}", get(async |Path(id): Path<String>| id))
        .nest_service("/s", ServeDir::new(format!("{root}/s")))
        .nest_service("/z", compressed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("runtime").block_on(async {
        let tls = axum_server::tls_rustls::RustlsConfig::from_config(Arc::new(peer_common::tls()));
        let tls = axum_server::from_tcp_rustls(peer_common::listener("TPORT"), tls).expect("TLS");
        let plain = tokio::net::TcpListener::from_std(peer_common::listener("PORT")).expect("plain");
        let plain = axum::serve::ListenerExt::tap_io(plain, |stream| {
            let _ = stream.set_nodelay(true);
        });
        let plain = axum::serve(plain, app.clone());
        let _ = tokio::join!(plain.into_future(), tls.serve(app.into_make_service()));
    });
}
