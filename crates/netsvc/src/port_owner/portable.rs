//! Port owners where the system is not Linux.

use std::net::SocketAddr;

use listeners::Protocol;

use super::{PortOwner, clean};

/// Processes come and go while they are looked through, which may hide the one that is looked for.
const LOOKS: u32 = 5;

pub(super) fn find(address: SocketAddr, is_udp: bool) -> Option<PortOwner> {
    let protocol = if is_udp { Protocol::UDP } else { Protocol::TCP };
    let look = |_| listeners::get_process_by_port(address.port(), protocol).ok();
    let process = (0..LOOKS).find_map(look)?;
    let command = if process.path.is_empty() { &process.name } else { &process.path };
    Some(PortOwner::Process { pid: process.pid, command: clean(command) })
}

/// macOS has let everybody listen below 1024 on all addresses since 10.14, and Windows always has.
#[cfg_attr(target_os = "linux", allow(dead_code, reason = "only `find` is tested on Linux"))]
pub(super) fn unprivileged_port_start() -> u16 {
    if cfg!(any(windows, target_os = "macos")) { 0 } else { 1024 }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn finds_ourselves() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(local).unwrap();
            let address = listener.local_addr().unwrap();
            let Some(PortOwner::Process { pid, command }) = find(address, false) else {
                panic!("nobody holds {address}")
            };
            assert_eq!(pid, std::process::id());
            assert!(command.contains("netsvc"), "{command}");
            drop(listener);
            assert_eq!(find(address, false), None);
        }
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let owner = find(socket.local_addr().unwrap(), true);
        assert!(matches!(owner, Some(PortOwner::Process { .. })), "{owner:?}");
    }
}
