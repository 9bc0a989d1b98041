//! Sockets by sock_diag(7), their processes by /proc.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustix::net::netlink::SOCK_DIAG;

use super::{PortOwner, clean};
use crate::netlink::{self, Message, read_u32};

pub(super) fn find(address: SocketAddr, is_udp: bool) -> Option<PortOwner> {
    let mut inodes = sockets_by_netlink(address, is_udp)
        // Containers may forbid netlink; the text tables are there all the same.
        .unwrap_or_else(|_| sockets_by_proc(address, is_udp));
    // A socket without an inode is one whose process is gone already.
    inodes.retain(|inode| *inode != 0);
    if inodes.is_empty() {
        return None;
    }
    Some(process_of(&inodes).unwrap_or(PortOwner::Hidden))
}

pub(super) fn unprivileged_port_start() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

/// The inodes of the sockets in the way of `wanted`.
fn sockets_by_netlink(wanted: SocketAddr, is_udp: bool) -> std::io::Result<Vec<u64>> {
    let mut inodes = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut request = [0; REQUEST_BYTES];
        request[0] = family;
        request[1] = if is_udp { IPPROTO_UDP } else { IPPROTO_TCP };
        let states: u32 = if is_udp { 1 << STATE_UNCONNECTED } else { 1 << STATE_LISTEN };
        request[4..8].copy_from_slice(&states.to_ne_bytes());
        let messages = netlink::dump(Some(SOCK_DIAG), SOCK_DIAG_BY_FAMILY, &request)?;
        inodes.extend(messages.iter().filter_map(|message| socket(message, wanted)));
    }
    Ok(inodes)
}

/// `struct inet_diag_msg`: the inode, if the socket is in the way.
fn socket(message: &Message, wanted: SocketAddr) -> Option<u64> {
    let bytes = &message.payload;
    // The port and the address are in network order.
    let port = u16::from_be_bytes(bytes.get(4..6)?.try_into().ok()?);
    let source: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
    let held: IpAddr = match *bytes.first()? {
        AF_INET => Ipv4Addr::new(source[0], source[1], source[2], source[3]).into(),
        _ => IpAddr::V6(Ipv6Addr::from(source)).to_canonical(),
    };
    let inode = read_u32(bytes, 68)?;
    (port == wanted.port() && collides(held, wanted.ip())).then_some(inode.into())
}

fn collides(held: IpAddr, wanted: IpAddr) -> bool {
    held == wanted || held.is_unspecified() || wanted.is_unspecified()
}

fn sockets_by_proc(wanted: SocketAddr, is_udp: bool) -> Vec<u64> {
    let (tables, state) = if is_udp {
        (["/proc/net/udp", "/proc/net/udp6"], "07")
    } else {
        (["/proc/net/tcp", "/proc/net/tcp6"], "0A")
    };
    let mut inodes = Vec::new();
    for table in tables {
        let text = fs::read_to_string(table).unwrap_or_default();
        inodes.extend(text.lines().skip(1).filter_map(|line| listener(line, wanted, state)));
    }
    inodes
}

/// The inode of the socket that a line of `/proc/net/tcp{,6}` describes, if it is in the way.
fn listener(line: &str, wanted: SocketAddr, state: &str) -> Option<u64> {
    let mut words = line.split_ascii_whitespace();
    let (address, port) = words.nth(1)?.split_once(':')?;
    if words.nth(1)? != state || u16::from_str_radix(port, 16).ok()? != wanted.port() {
        return None;
    }
    let held = parse_address(address)?;
    let inode = words.nth(5)?.parse().ok()?;
    collides(held, wanted.ip()).then_some(inode)
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

/// The process with one of these sockets among its open files. Where systemd shares a socket with
/// the service that it has started, the service is the one to talk about.
fn process_of(inodes: &[u64]) -> Option<PortOwner> {
    let links: Vec<_> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let mut init = None;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        let holds = files.flatten().any(|file| {
            fs::read_link(file.path())
                .is_ok_and(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
        });
        if !holds {
            continue;
        }
        let owner = PortOwner::Process { pid, command: command(pid) };
        if pid != 1 {
            return Some(owner);
        }
        init = Some(owner);
    }
    init
}

fn command(pid: u32) -> String {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&arguments).trim_end_matches('\0').replace('\0', " ");
    if text.is_empty() {
        return clean(fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim());
    }
    clean(&text)
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Bytes of `struct inet_diag_req_v2`.
const REQUEST_BYTES: usize = 56;
const STATE_LISTEN: u32 = 10;
/// UDP has no states of its own; this one is TCP's "closed".
const STATE_UNCONNECTED: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, wanted: &str, want: Option<u64>) {
        assert_eq!(listener(line, wanted.parse().unwrap(), "0A"), want, "{line} for {wanted}");
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
        let loopback =
            v6.replacen("00000000000000000000000000000000", "00000000000000000000000001000000", 1);
        check(&loopback, "[::1]:443", Some(99));
        check(&loopback, "127.0.0.1:443", None);
        check("garbage", "127.0.0.1:443", None);
    }

    /// Both ways to ask must tell the same.
    #[test]
    fn netlink_and_proc_agree() {
        for local in ["127.0.0.1:0", "[::]:0"] {
            let listener = std::net::TcpListener::bind(local).unwrap();
            let address = listener.local_addr().unwrap();
            let by_netlink = sockets_by_netlink(address, false).unwrap();
            assert_eq!(by_netlink.len(), 1, "{address}");
            assert_eq!(by_netlink, sockets_by_proc(address, false));
        }
    }
}
