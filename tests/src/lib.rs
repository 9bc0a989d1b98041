//! What the end-to-end tests share: programs of this workspace, peers, certificates, clients.
#![forbid(unsafe_code)]

pub mod certificate;
pub mod frames;
pub mod h1;
pub mod h2;
pub mod lab;
pub mod peers;
pub mod program;
