//! Word of changes to addresses and routes.

use std::io;
#[cfg(not(target_os = "linux"))]
use std::time::Duration;

/// Tells when addresses or routes of this machine have changed.
///
/// On Linux the kernel reports them; elsewhere the tables are compared every 30 s.
#[derive(Debug)]
pub struct NetworkChanges {
    #[cfg(target_os = "linux")]
    socket: tokio::net::UdpSocket,
    #[cfg(not(target_os = "linux"))]
    last: Vec<super::LocalAddress>,
}

#[cfg(target_os = "linux")]
impl NetworkChanges {
    /// Begins to listen. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        let socket = crate::netlink::open(None, GROUPS)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        // To the runtime a datagram socket is like another; only `recv` is used, which knows no
        // addresses. `AsyncFd` cannot be had without unsafe code.
        let socket = tokio::net::UdpSocket::from_std(std::net::UdpSocket::from(socket))?;
        Ok(Self { socket })
    }

    /// Waits for a change, or a burst of them.
    ///
    /// # Errors
    /// What the system says. Changes that came too fast to be reported one by one are no error.
    ///
    /// # Cancel safety
    /// A change is told by the next call if this one is dropped.
    pub async fn changed(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let mut has_changed = false;
        while !has_changed {
            self.socket.readable().await?;
            loop {
                match self.socket.try_recv(&mut buffer) {
                    Ok(_) => has_changed = true,
                    // More changes than the kernel could queue, so there are some.
                    Err(error) if error.raw_os_error() == Some(ENOBUFS) => has_changed = true,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
impl NetworkChanges {
    /// Begins to compare.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        Ok(Self { last: super::addresses()? })
    }

    /// Waits for a change.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// A change is told by the next call if this one is dropped.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let now = super::addresses()?;
            let digits = |addresses: &[super::LocalAddress]| -> Vec<_> {
                addresses.iter().map(|local| local.address).collect()
            };
            let has_changed = digits(&now) != digits(&self.last);
            self.last = now;
            if has_changed {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
    }
}

/// RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE.
#[cfg(target_os = "linux")]
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;
#[cfg(target_os = "linux")]
const ENOBUFS: i32 = rustix::io::Errno::NOBUFS.raw_os_error();
