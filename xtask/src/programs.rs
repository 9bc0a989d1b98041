//! Programs that tests and benchmarks use but cargo cannot bring.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A program and the Debian package that brings it.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
}

const fn program(name: &'static str, package: &'static str) -> Program {
    Program { name, package }
}

/// What the tests use.
pub(crate) const TESTS: &[Program] = &[
    program("curl", "curl"),
    program("nghttp", "nghttp2-client"),
    program("chromium", "chromium"),
    program("openssl", "openssl"),
    program("pebble", "pebble"),
    program("python3", "python3-venv"),
    // Fetches public test suites and a public data set for the document store.
    program("npm", "npm"),
    program("sslscan", "sslscan"),
    program("strace", "strace"),
    program("testssl", "testssl.sh"),
    program("unshare", "util-linux"),
    program("named", "bind9"),
    program("dig", "bind9-dnsutils"),
];

/// What the lab is made of (`tests/src/lab`).
pub(crate) const LAB: &[Program] = &[
    program("ip", "iproute2"),
    program("nft", "nftables"),
    program("miniupnpd", "miniupnpd-nftables"),
    program("upnpc", "miniupnpc"),
    program("named", "bind9"),
    program("dig", "bind9-dnsutils"),
    program("pebble", "pebble"),
    program("faketime", "faketime"),
    program("curl", "curl"),
];

/// What the HTTP benchmarks use besides.
pub(crate) const BENCHES: &[Program] = &[
    program("nginx", "nginx-light"),
    program("lighttpd", "lighttpd"),
    program("wrk", "wrk"),
    program("h2load", "nghttp2-client"),
    program("openssl", "openssl"),
];

/// A second authority for tests, from the Python package index.
const ACME2CERTIFIER: &str = "acme2certifier==0.46.3";

/// The Python of a folder of its own in which acme2certifier is; installs it there where it is not. `None`: it
/// cannot be had.
pub(crate) fn acme2certifier(target: &Path) -> Option<PathBuf> {
    let folder = target.join("acme2certifier");
    let (python, done) = (folder.join("bin/python"), folder.join("installed"));
    let wanted = std::fs::read_to_string(&done).is_ok_and(|text| text == ACME2CERTIFIER);
    if wanted && python.is_file() {
        return Some(python);
    }
    eprintln!("xtask: installing {ACME2CERTIFIER}");
    let run = |program: &Path, args: &[&str]| {
        let status = Command::new(program).args(args).stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let is_there = run(&find("python3")?, &["-m", "venv", "--clear", folder.to_str()?])
        && run(&python, &["-m", "pip", "install", "--quiet", ACME2CERTIFIER])
        && std::fs::write(&done, ACME2CERTIFIER).is_ok();
    is_there.then_some(python)
}

/// Where a program is, in `PATH` and where Debian puts daemons.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Installs what is missing, where that is allowed: as root, with apt. Answers what is missing still.
pub(crate) fn install(wanted: &'static [Program]) -> Vec<&'static Program> {
    let missing =
        || wanted.iter().filter(|program| find(program.name).is_none()).collect::<Vec<_>>();
    let before = missing();
    if before.is_empty() || find("apt-get").is_none() || !is_root() {
        return before;
    }
    let packages: Vec<_> = before.iter().map(|program| program.package).collect();
    eprintln!("xtask: installing {}", packages.join(" "));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args).stdout(Stdio::null());
        let _ = command.status();
    };
    apt(&["update", "-qq"]);
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
    args.extend(packages);
    apt(&args);
    missing()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}
