//! An HTTP/2 client on the `h2` crate, with and without TLS.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request};
use rustls::ClientConfig;
use tokio::net::TcpStream;

use crate::h1::Answer;

/// One connection; clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    send: SendRequest<Bytes>,
    scheme: &'static str,
}

impl Client {
    /// Connects; over TLS when `tls` is given.
    ///
    /// # Errors
    /// Those of the socket and of both handshakes.
    pub async fn connect(
        address: SocketAddr,
        tls: Option<Arc<ClientConfig>>,
    ) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(4 << 20);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let send = match tls {
            None => {
                let (send, connection) = builder.handshake(stream).await?;
                tokio::spawn(connection);
                send
            }
            Some(config) => {
                let name = "localhost".try_into()?;
                let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
                anyhow::ensure!(
                    stream.get_ref().1.alpn_protocol() == Some(b"h2"),
                    "the server did not agree on h2"
                );
                let (send, connection) = builder.handshake(stream).await?;
                tokio::spawn(connection);
                send
            }
        };
        Ok(Self { send, scheme })
    }

    /// A GET and its whole answer.
    ///
    /// # Errors
    /// Those of the stream and of the connection.
    pub async fn get(&self, target: &str) -> anyhow::Result<Answer> {
        self.request(Method::GET, target, &[], Bytes::new()).await
    }

    /// A request with content, and its whole answer.
    ///
    /// # Errors
    /// Those of the stream and of the connection.
    pub async fn request(
        &self,
        method: Method,
        target: &str,
        fields: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let uri = format!("{}://localhost{target}", self.scheme);
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut send = self.send.clone().ready().await?;
        let (response, mut content) = send.send_request(request.body(())?, body.is_empty())?;
        if !body.is_empty() {
            content.send_data(body, true)?;
        }
        let response = response.await?;
        let (parts, mut stream) = response.into_parts();
        let mut answer = Answer { status: parts.status.as_u16(), ..Answer::default() };
        for (name, value) in &parts.headers {
            answer.fields.push((name.to_string(), value.to_str().context("a field")?.to_owned()));
        }
        while let Some(data) = stream.data().await {
            let data = data?;
            stream.flow_control().release_capacity(data.len())?;
            answer.body.extend_from_slice(&data);
        }
        Ok(answer)
    }
}
