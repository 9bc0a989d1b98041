//! The public surface, over real files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod allocations;
mod files;
mod observers;

use std::sync::Arc;

use hearth_http_core::{
    Bytes, ConnectionInfo, Exchange, Head, HeadBuilder, Method, Observer, StatusCode, Version,
};

fn head(target: &str) -> Head {
    let memory = Bytes::new().into();
    let builder = HeadBuilder::new(Method::GET, target, Version::HTTP_11, memory);
    builder.field(b"user-agent", b"test").build().unwrap()
}

fn connection() -> Arc<ConnectionInfo> {
    Arc::new(ConnectionInfo::new(1, Some("192.0.2.1:9".parse().unwrap()), None))
}

/// Tells `observer` of one exchange.
fn exchange(observer: &dyn Observer, connection: &Arc<ConnectionInfo>, head: &Head) {
    observer.on_exchange(&Exchange::new(connection, Some(head), StatusCode::OK));
}
