//! The programs under test, started with what most tests need.

use std::{net::SocketAddr, path::Path, process::Command};

use hearth_e2e::{
    certificate::Certificate,
    program::{self, Program},
};
use tempfile::TempDir;

/// A running server with a cleartext and a TLS port, and a folder that goes when it does.
pub(crate) struct Server {
    pub(crate) program: Program,
    pub(crate) tls: SocketAddr,
    pub(crate) certificate: Certificate,
    pub(crate) folder: TempDir,
}

impl Server {
    /// The address without TLS.
    pub(crate) fn address(&self) -> SocketAddr {
        self.program.address
    }
}

/// `hearth serve -c` with one site that serves `root`, and `more` configuration behind it.
pub(crate) fn hearth(root: &Path, more: &str) -> Server {
    let folder = TempDir::new().expect("a folder");
    let certificate = Certificate::new(folder.path(), &["localhost"]).expect("a certificate");
    let plain = loopback();
    let tls = loopback();
    let config = format!(
        "[[listeners]]\naddress = \"{plain}\"\n\n[[listeners]]\naddress = \"{tls}\"\ntls = true\n\n\
         [[sites]]\nroot = {:?}\ntls = {{ certificate = {:?}, key = {:?} }}\n{more}",
        root.display().to_string(),
        certificate.chain.display().to_string(),
        certificate.key.display().to_string(),
    );
    let path = folder.path().join("hearth.toml");
    std::fs::write(&path, config).expect("the configuration");
    let program = start_hearth(folder.path(), plain);
    Server { program, tls, certificate, folder }
}

/// Starts a server that was stopped again, with the same configuration and the same ports.
pub(crate) fn restart(server: &mut Server) {
    server.program = start_hearth(server.folder.path(), server.address());
}

fn start_hearth(folder: &Path, address: SocketAddr) -> Program {
    Program::start(&mut serve(folder), address, &folder.join("hearth.log")).expect("hearth")
}

/// `hearth serve` with the `hearth.toml` of a folder, in which it also has its state.
pub(crate) fn serve(folder: &Path) -> Command {
    let mut command = Command::new(program::built("hearth-server", "hearth").expect("the binary"));
    command.env("STATE_DIRECTORY", folder.join("state"));
    command.arg("serve").arg("-c").arg(folder.join("hearth.toml"));
    command
}

/// `examples/referee` with these additional environment variables.
pub(crate) fn referee(root: &Path, env: &[(&str, &str)]) -> Server {
    let folder = TempDir::new().expect("a folder");
    let certificate = Certificate::new(folder.path(), &["localhost"]).expect("a certificate");
    let plain = loopback();
    let tls = loopback();
    let binary = program::built("example-referee", "referee").expect("the binary");
    let mut command = Command::new(binary);
    command.env("PORT", plain.port().to_string()).env("TPORT", tls.port().to_string());
    command.env("CERT", &certificate.chain).env("KEY", &certificate.key).env("ROOT", root);
    command.env("DIR", folder.path()).envs(env.iter().copied());
    let log = folder.path().join("referee.log");
    let program = Program::start(&mut command, plain, &log).expect("referee");
    Server { program, tls, certificate, folder }
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], program::free_port().expect("a port")).into()
}
