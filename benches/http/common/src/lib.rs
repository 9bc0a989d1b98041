//! What the Rust peers share: environment, certificate, allocator.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

pub use mimalloc::MiMalloc;
pub const TEXT: &str = "Hello, World!";

pub fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("the environment variable {name} is not set"))
}

pub fn listener(port: &str) -> std::net::TcpListener {
    let port: u16 = env(port).parse().expect("a port is a number");
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("bind");
    listener.set_nonblocking(true).expect("non-blocking");
    listener
}

pub fn tls() -> rustls::ServerConfig {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let chain = CertificateDer::pem_file_iter(env("CERT")).expect("certificate");
    let chain = chain.collect::<Result<_, _>>().expect("certificate");
    let key = PrivateKeyDer::from_pem_file(env("KEY")).expect("key");
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let mut config = config.with_single_cert(chain, key).expect("key that matches");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
