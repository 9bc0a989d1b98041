//! TLS as strangers see it: scanners, peers that break the protocol, floods.

mod flood;
mod grade;
mod refusals;

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use tempfile::TempDir;

use crate::servers::{self, Server};

/// Longer than anything takes, so that a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The real server with one site, as it is without a word about TLS in its configuration but the certificate.
fn start() -> (TempDir, Server) {
    let root = TempDir::new().expect("a folder");
    std::fs::write(root.path().join("index.html"), "hello").expect("a file");
    let server = servers::hearth(root.path(), "");
    (root, server)
}

/// One answer over a connection that is there already.
fn get(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nhello") {
        let mut piece = [0; 1024];
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => answer.extend_from_slice(&piece[..len]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").expect("a name");
    let mut tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(tls, tcp))
}

/// The folder of a test, for programs.
fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours is text")
}
