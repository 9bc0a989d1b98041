//! What systems do each in their own way.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rustls::crypto::aws_lc_rs;

/// Fills with bytes that nobody can guess.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    let random = aws_lc_rs::default_provider().secure_random;
    random.fill(bytes).map_err(|_| io::Error::other("the system has no random numbers"))
}

/// The folder for state that all users of the machine share, where this user may use it.
#[cfg(unix)]
pub(crate) fn shared_state() -> Option<PathBuf> {
    rustix::process::getuid().is_root().then(|| "/var/lib/hearth".into())
}

/// Services of Windows have a profile of their own, too.
#[cfg(not(unix))]
pub(crate) fn shared_state() -> Option<PathBuf> {
    None
}

/// The folder for state of this user, under which programs have theirs.
#[cfg(not(windows))]
pub(crate) fn own_state(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")))
}

/// The folder for state of this user, under which programs have theirs.
#[cfg(windows)]
pub(crate) fn own_state(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable("LOCALAPPDATA")
}

/// Bytes that this user may still write in that folder's file system.
#[cfg(unix)]
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Elsewhere nobody is asked: a full disk is told by the first write.
#[cfg(not(unix))]
pub(crate) fn free_bytes(_folder: &Path) -> Option<u64> {
    None
}

/// Whether files can be made in a folder.
#[cfg(unix)]
pub(crate) fn check_writable(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(folder, rustix::fs::Access::WRITE_OK)?)
}

/// Elsewhere only the first write tells.
#[cfg(not(unix))]
pub(crate) fn check_writable(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// Binds as the server does, without listening, and lets go at once.
#[cfg(unix)]
pub(crate) fn try_bind(address: SocketAddr) -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(bind(&socket, &address)?)
}

/// Binds as the server does, and lets go at once.
#[cfg(not(unix))]
pub(crate) fn try_bind(address: SocketAddr) -> io::Result<()> {
    std::net::TcpListener::bind(address).map(drop)
}

/// Lets the process have as many connections as it may: each takes a file descriptor, and the usual soft limit of
/// 1024 is there for the sake of programs that use `select`.
#[cfg(unix)]
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Refused, it stays as it is, and connections beyond it are shed.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}

/// Sockets of Windows are not counted that way.
#[cfg(not(unix))]
pub(crate) fn raise_file_limit() {}

/// Whether there are descriptors to begin with. Tokio panics where there is none for the pipe of its signals.
#[cfg(unix)]
pub(crate) fn check_room_for_files(count: usize) -> io::Result<()> {
    let files = (0..count).map(|_| std::fs::File::open("/dev/null"));
    files.collect::<io::Result<Vec<_>>>().map(drop)
}

/// Nothing runs short there.
#[cfg(not(unix))]
pub(crate) fn check_room_for_files(_count: usize) -> io::Result<()> {
    Ok(())
}

/// The program that opens an address with what the user prefers, and its arguments before the address.
pub(crate) fn opener() -> (&'static str, &'static [&'static str]) {
    if cfg!(target_os = "macos") {
        ("open", &[])
    } else if cfg!(windows) {
        ("rundll32", &["url.dll,FileProtocolHandler"])
    } else {
        ("xdg-open", &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_found_out() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(try_bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(try_bind(SocketAddr::new(address.ip(), 0)).is_ok());
    }

    #[test]
    fn folders_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_writable(dir.path()).is_ok());
        assert!(check_writable(&dir.path().join("none")).is_err() || cfg!(not(unix)));
        assert!(free_bytes(dir.path()).is_some() || cfg!(not(unix)));
    }

    #[test]
    fn state_is_where_users_of_the_system_look_for_it() {
        let with = |set: &'static [(&str, &str)]| {
            own_state(|name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
            })
        };
        if cfg!(windows) {
            return assert_eq!(with(&[("LOCALAPPDATA", "C:\\x")]), Some("C:\\x".into()));
        }
        assert_eq!(with(&[("HOME", "/h")]), Some("/h/.local/state".into()));
        assert_eq!(with(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s")]), Some("/s".into()));
        assert_eq!(with(&[]), None);
    }
}
