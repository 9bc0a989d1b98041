//! A certificate resolver that remembers which name was asked for.

use std::{cell::Cell, sync::Arc};

use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

thread_local! {
    /// rustls asks for a certificate in the middle of a call that we made, so this is the name of
    /// the handshake whose call this thread is in. Its unbuffered interface has no other way out.
    static SERVER_NAME: Cell<Option<Box<str>>> = const { Cell::new(None) };
}

/// Asks `inner`, and remembers the name.
#[derive(Debug)]
struct Remembering {
    inner: Arc<dyn ResolvesServerCert>,
}

impl ResolvesServerCert for Remembering {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        SERVER_NAME.set(client_hello.server_name().map(Into::into));
        self.inner.resolve(client_hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.inner.only_raw_public_keys()
    }
}

/// Makes the name of a handshake known to [`take_server_name`].
pub(super) fn remember_server_name(config: &mut ServerConfig) {
    config.cert_resolver = Arc::new(Remembering { inner: config.cert_resolver.clone() });
}

/// The name that was asked for on this thread since the last call.
pub(super) fn take_server_name() -> Option<Box<str>> {
    SERVER_NAME.take()
}
