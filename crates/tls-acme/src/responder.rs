//! Answers challenges where no server does: for one-shot commands.

use std::{net::SocketAddr, sync::Arc};

use hearth_http_core::{BoxHandler, BoxMiddleware, Chain, Response, handler_fn};
use hearth_net::{BindError, Handle, Listener, Server, StartError, TlsConfig, TlsError};
use http::StatusCode;

use crate::{challenge::ACME_TLS_ALPN, manager::Manager};

/// Listeners that answer HTTP-01 and TLS-ALPN-01, and nothing else, until this is dropped.
#[derive(Debug)]
pub struct Responder {
    handle: Handle,
    addresses: Vec<SocketAddr>,
}

/// The listeners could not be started; whoever runs this machine must act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResponderError {
    /// A port is taken, or forbidden.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The threads could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Responder {
    /// Listens for the challenges of `manager`: on `http` for HTTP-01, on `tls` for TLS-ALPN-01.
    ///
    /// # Errors
    /// [`ResponderError`].
    pub fn start(
        manager: &Manager,
        http: impl IntoIterator<Item = SocketAddr>,
        tls: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<Self, ResponderError> {
        let nothing = handler_fn(async |_request| Response::status_text(StatusCode::NOT_FOUND));
        let chain = Chain::new([BoxMiddleware::new(manager.http01())], BoxHandler::new(nothing));
        let handler = Arc::new(chain);
        let mut server = Server::builder().workers(1);
        for address in http {
            server = server.listen(Listener::bind(address), handler.clone());
        }
        for address in tls {
            let config = TlsConfig::builder(manager.resolver())
                .alpn([b"http/1.1".as_slice(), ACME_TLS_ALPN])
                .build()?;
            server = server.listen(Listener::bind(address).tls(config), handler.clone());
        }
        let server = server.bind()?;
        let addresses = server.local_addrs().to_vec();
        Ok(Self { handle: server.start()?, addresses })
    }

    /// Where it listens, HTTP first.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
