//! Who holds a port that we want, and which one is free.

use std::{
    fmt,
    net::{SocketAddr, TcpListener},
};

#[cfg(target_os = "linux")]
mod linux;
// On Linux only to be tested.
#[cfg(any(test, not(target_os = "linux")))]
mod portable;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use portable as system;

/// The process that listens where we want to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortOwner {
    /// It could be found.
    Process {
        /// Its id.
        pid: u32,
        /// Its command line, shortened and without control characters.
        command: String,
    },
    /// Something listens, but it belongs to another user, and only root may see whose it is.
    Hidden,
}

/// What sort of program holds a port, where stopping the process alone would not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OwnerKind {
    /// Docker, Podman or another engine listens for a container.
    ContainerProxy,
    /// Windows itself: HTTP.sys, for IIS and others.
    HttpSys,
    /// A program like any other, or one that nothing is known of.
    Ordinary,
    /// A systemd socket unit: the service behind it is started when somebody connects.
    SocketUnit,
    /// AirPlay of macOS, which takes 5000 and 7000.
    SystemService,
}

impl PortOwner {
    /// What sort of program it is.
    #[must_use]
    pub fn kind(&self) -> OwnerKind {
        let Self::Process { pid, command } = self else { return OwnerKind::Ordinary };
        let program = command.split(' ').next().unwrap_or_default();
        let program = program.rsplit(['/', '\\']).next().unwrap_or_default();
        match program {
            "docker-proxy" | "rootlessport" | "rootlesskit" | "slirp4netns" | "pasta" => {
                OwnerKind::ContainerProxy
            }
            "systemd" | "init" => OwnerKind::SocketUnit,
            "ControlCenter" | "ControlCe" => OwnerKind::SystemService,
            _ if cfg!(windows) && *pid == 4 => OwnerKind::HttpSys,
            _ => OwnerKind::Ordinary,
        }
    }

    /// What whoever runs this machine can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match (self, self.kind()) {
            (Self::Hidden, _) => "run this as root to see whose it is",
            (_, OwnerKind::ContainerProxy) => "stop the container, or publish another of its ports",
            (_, OwnerKind::HttpSys) => "`net stop http` shows and stops what uses HTTP.sys",
            (_, OwnerKind::Ordinary) => "stop it, or listen on another port",
            (_, OwnerKind::SocketUnit) => {
                "`systemctl list-sockets` names the unit; `systemctl disable --now` stops it"
            }
            (_, OwnerKind::SystemService) => {
                "switch AirPlay Receiver off in the settings, or listen on another port"
            }
        }
    }
}

impl fmt::Display for PortOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command } => write!(f, "`{command}` (process {pid})"),
            Self::Hidden => f.write_str("a process of another user"),
        }
    }
}

/// Finds who listens for TCP on the port of `address`, at an address that collides with it.
///
/// Blocks for milliseconds: on Linux it asks the kernel for the sockets and looks through the open
/// files of all processes.
#[must_use]
pub fn find(address: SocketAddr) -> Option<PortOwner> {
    system::find(address, false)
}

/// Finds who receives UDP on the port of `address`, as [`find`] does.
#[must_use]
pub fn find_udp(address: SocketAddr) -> Option<PortOwner> {
    system::find(address, true)
}

/// The first address from `address` on, counting ports upwards, that can be listened on now.
///
/// Somebody may take it before we do, so whoever binds it must be ready to ask again.
#[must_use]
pub fn next_free(address: SocketAddr, tries: u16) -> Option<SocketAddr> {
    let last = address.port().saturating_add(tries.saturating_sub(1));
    (address.port()..=last)
        .map(|port| SocketAddr::new(address.ip(), port))
        .find(|candidate| TcpListener::bind(candidate).is_ok())
}

/// The first port that needs no privilege.
#[must_use]
pub fn unprivileged_port_start() -> u16 {
    system::unprivileged_port_start()
}

/// A process chooses its own command line: no byte of it may steer the terminal.
fn clean(command: &str) -> String {
    let clean = command.chars().map(|char| if char.is_control() { '?' } else { char });
    let mut short: String = clean.clone().take(COMMAND_CHARS_MAX).collect();
    if clean.count() > COMMAND_CHARS_MAX {
        short.push('…');
    }
    short
}

const COMMAND_CHARS_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn finds_ourselves() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(local).unwrap();
            let address = listener.local_addr().unwrap();
            let Some(PortOwner::Process { pid, command }) = find(address) else {
                panic!("nobody holds {address}")
            };
            assert_eq!(pid, std::process::id());
            assert!(command.contains("netsvc"), "{command}");
            drop(listener);
            assert_eq!(find(address), None);
        }
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let owner = find_udp(socket.local_addr().unwrap());
        assert!(matches!(owner, Some(PortOwner::Process { .. })), "{owner:?}");
    }

    #[test]
    fn the_next_free_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap();
        assert_eq!(next_free(taken, 1), None);
        let free = next_free(taken, 50).unwrap();
        assert!(free.port() > taken.port());
        assert_eq!(next_free(free, 1), Some(free));
    }

    #[test]
    fn kinds() {
        let kind = |command: &str| PortOwner::Process { pid: 9, command: command.into() }.kind();
        assert_eq!(kind("/usr/bin/docker-proxy -proto tcp"), OwnerKind::ContainerProxy);
        assert_eq!(kind("/usr/lib/systemd/systemd --system"), OwnerKind::SocketUnit);
        assert_eq!(kind("nginx: master process"), OwnerKind::Ordinary);
        assert_eq!(PortOwner::Hidden.kind(), OwnerKind::Ordinary);
        assert_eq!(clean("a\x1b[2Jb"), "a?[2Jb");
    }
}
