//! Port owners where the system is not Linux.

use std::net::SocketAddr;

use listeners::Protocol;

use super::{PortOwner, clean};

pub(super) fn find(address: SocketAddr, is_udp: bool) -> Option<PortOwner> {
    let protocol = if is_udp { Protocol::UDP } else { Protocol::TCP };
    let process = listeners::get_process_by_port(address.port(), protocol).ok()?;
    let command = if process.path.is_empty() { &process.name } else { &process.path };
    Some(PortOwner::Process { pid: process.pid, command: clean(command) })
}

/// macOS has let everybody listen below 1024 on all addresses since 10.14, and Windows always has.
pub(super) fn unprivileged_port_start() -> u16 {
    if cfg!(any(windows, target_os = "macos")) { 0 } else { 1024 }
}
