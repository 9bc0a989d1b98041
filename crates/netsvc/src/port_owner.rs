//! Who holds a port that we want.

use std::net::SocketAddr;

/// The process that listens where we want to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortOwner {
    /// It could be found.
    Process {
        /// Its id.
        pid: u32,
        /// Its command line, shortened.
        command: String,
    },
    /// Something listens, but it belongs to another user, and only root may see whose it is.
    Hidden,
}

impl std::fmt::Display for PortOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process { pid, command } => write!(f, "`{command}` (process {pid})"),
            Self::Hidden => f.write_str("a process of another user"),
        }
    }
}

/// Finds who listens on the port of `address`, at an address that collides with it.
#[cfg(target_os = "linux")]
#[must_use]
pub fn find(address: SocketAddr) -> Option<PortOwner> {
    let mut inodes = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        inodes.extend(text.lines().skip(1).filter_map(|line| linux::listener(line, address)));
    }
    // A socket without an inode is one whose process is gone already.
    inodes.retain(|inode| *inode != 0);
    if inodes.is_empty() {
        return None;
    }
    Some(linux::process_of(&inodes).unwrap_or(PortOwner::Hidden))
}

/// Elsewhere there is no way to tell without another program.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn find(_address: SocketAddr) -> Option<PortOwner> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        fs,
        net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    };

    use super::PortOwner;

    /// Socket state `TCP_LISTEN` in the kernel's tables.
    const LISTEN: &str = "0A";
    const COMMAND_CHARS_MAX: usize = 80;

    /// The inode of the listening socket that a line of `/proc/net/tcp{,6}` describes, if it is in the
    /// way of `wanted`.
    pub(super) fn listener(line: &str, wanted: SocketAddr) -> Option<u64> {
        let mut words = line.split_ascii_whitespace();
        let (address, port) = words.nth(1)?.split_once(':')?;
        if words.nth(1)? != LISTEN || u16::from_str_radix(port, 16).ok()? != wanted.port() {
            return None;
        }
        let held = parse_address(address)?;
        let collides = held == wanted.ip() || held.is_unspecified() || wanted.ip().is_unspecified();
        let inode = words.nth(5)?.parse().ok()?;
        collides.then_some(inode)
    }

    /// Groups of four bytes, each in the byte order of the machine.
    fn parse_address(hex: &str) -> Option<IpAddr> {
        let mut bytes = Vec::with_capacity(16);
        for at in (0..hex.len()).step_by(8) {
            let group = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
            bytes.extend(group.to_ne_bytes());
        }
        if let Ok(v4) = <[u8; 4]>::try_from(bytes.as_slice()) {
            return Some(Ipv4Addr::from(v4).into());
        }
        let v6 = Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?);
        Some(IpAddr::V6(v6).to_canonical())
    }

    /// The first process with one of these sockets among its open files.
    pub(super) fn process_of(inodes: &[u64]) -> Option<PortOwner> {
        let links: Vec<_> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
        for entry in fs::read_dir("/proc").ok()?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
            let holds = files.flatten().any(|file| {
                fs::read_link(file.path()).is_ok_and(|target| {
                    links.iter().any(|link| target.as_os_str() == link.as_str())
                })
            });
            if holds {
                return Some(PortOwner::Process { pid, command: command(pid) });
            }
        }
        None
    }

    fn command(pid: u32) -> String {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&arguments).trim_end_matches('\0').replace('\0', " ");
        let text = if text.is_empty() {
            fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
        } else {
            text
        };
        // A process chooses its own command line: no byte of it may steer the terminal.
        let clean = text.chars().map(|char| if char.is_control() { '?' } else { char });
        let mut short: String = clean.clone().take(COMMAND_CHARS_MAX).collect();
        if clean.count() > COMMAND_CHARS_MAX {
            short.push('…');
        }
        short
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[track_caller]
        fn check(line: &str, wanted: &str, want: Option<u64>) {
            assert_eq!(listener(line, wanted.parse().unwrap()), want, "{line} for {wanted}");
        }

        #[cfg(target_endian = "little")]
        #[test]
        fn lines_of_the_kernel() {
            let v4 = "  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  \
                      1000        0 4242 1 0000000000000000 100 0 0 10 0";
            check(v4, "127.0.0.1:8080", Some(4242));
            check(v4, "0.0.0.0:8080", Some(4242));
            check(v4, "127.0.0.1:8081", None);
            check(v4, "127.0.0.2:8080", None);
            check(&v4.replace(" 0A ", " 01 "), "127.0.0.1:8080", None);
            let v6 = "  1: 00000000000000000000000000000000:01BB \
                      00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 \
                      00000000     0        0 99 1 0000000000000000 100 0 0 10 0";
            check(v6, "127.0.0.1:443", Some(99));
            let loopback = v6.replacen(
                "00000000000000000000000000000000",
                "00000000000000000000000001000000",
                1,
            );
            check(&loopback, "[::1]:443", Some(99));
            check(&loopback, "127.0.0.1:443", None);
            check("garbage", "127.0.0.1:443", None);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn finds_ourselves() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let Some(PortOwner::Process { pid, command }) = find(address) else {
            panic!("nobody holds {address}")
        };
        assert_eq!(pid, std::process::id());
        assert!(command.contains("netsvc"), "{command}");
        drop(listener);
        assert_eq!(find(address), None);
    }
}
