//! What a router tells everybody when it starts: a reason to look at it now, and no more than that.
//!
//! Anybody on the local network can send such words, and even the router's address can be forged. So nothing they
//! say is believed: the keeper asks the router itself, and not more often than it wants to.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
};

use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};
use tokio::net::UdpSocket;

use super::{natpmp, pcp};
use crate::gateway::Gateway;

/// Ears for the routers of one network.
#[derive(Debug)]
pub(crate) struct Notices {
    gateway: IpAddr,
    /// PCP (RFC 6887 §14.1.3) and NAT-PMP (RFC 6886 §3.2.1).
    epochs: Option<UdpSocket>,
    /// SSDP (UPnP Device Architecture 1.1 §1.2).
    ssdp: Option<UdpSocket>,
    /// The `BOOTID.UPNP.ORG` that was heard last.
    boot_id: Mutex<Option<u32>>,
}

/// What a datagram says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notice {
    /// Nothing about a start.
    None,
    /// Tables are as young as they say, or an address has changed.
    Epoch,
    /// A device is there, and has been since its boot of this number.
    Alive(Option<u32>),
}

impl Notices {
    /// Listens on the network of `gateway`. Where another program holds a port for itself, or the system
    /// does not let us, nothing is heard there.
    pub(crate) fn open(gateway: &Gateway) -> Self {
        let socket = |group| {
            let IpAddr::V4(local) = gateway.local else { return None };
            match join(group, local) {
                Ok(socket) => Some(socket),
                Err(error) => {
                    tracing::debug!(%group, %error, "a router's notices are not heard");
                    None
                }
            }
        };
        Self {
            gateway: gateway.address,
            epochs: socket(EPOCHS),
            ssdp: socket(SSDP),
            boot_id: Mutex::new(None),
        }
    }

    /// Whether these are ears for the network of `gateway`.
    pub(crate) fn are_for(&self, gateway: &Gateway) -> bool {
        self.gateway == gateway.address
    }

    /// Waits until the router says that it has started, or that something has changed.
    ///
    /// # Cancel safety
    /// No notice is lost but one that is being read.
    pub(crate) async fn heard(&self) {
        let (mut one, mut other) = ([0; DATAGRAM_BYTES_MAX], [0; DATAGRAM_BYTES_MAX]);
        loop {
            let (datagram, sender) = tokio::select! {
                (length, sender) = receive(self.epochs.as_ref(), &mut one) => {
                    (one.get(..length).unwrap_or_default(), sender)
                }
                (length, sender) = receive(self.ssdp.as_ref(), &mut other) => {
                    (other.get(..length).unwrap_or_default(), sender)
                }
            };
            if sender.ip().to_canonical() == self.gateway && self.is_news(parse(datagram)) {
                tracing::debug!(%sender, "the router says that something is new");
                return;
            }
        }
    }

    fn is_news(&self, notice: Notice) -> bool {
        match notice {
            Notice::None => false,
            Notice::Epoch | Notice::Alive(None) => true,
            // It is repeated every few minutes, and in bursts.
            Notice::Alive(id) => std::mem::replace(&mut *self.boot_id.lock(), id) != id,
        }
    }
}

/// For ever where there is no socket.
async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> (usize, SocketAddr) {
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        match socket.recv_from(buffer).await {
            Ok(received) => return received,
            // Interfaces come and go. An error that stays must not become a busy loop.
            Err(_) => tokio::time::sleep(ERROR_PAUSE).await,
        }
    }
}

fn parse(datagram: &[u8]) -> Notice {
    if let Some(response) = pcp::Response::parse(datagram)
        && response.answer == pcp::Answer::Announce
    {
        return Notice::Epoch;
    }
    if let Some(response) = natpmp::Response::parse(datagram)
        && matches!(response.answer, natpmp::Answer::ExternalAddress(_))
    {
        return Notice::Epoch;
    }
    let text = String::from_utf8_lossy(datagram);
    let mut lines = text.lines();
    if !lines.next().is_some_and(|line| line.starts_with("NOTIFY * HTTP/1.")) {
        return Notice::None;
    }
    let (mut is_alive, mut boot_id) = (false, None);
    for line in lines.take(LINES_MAX).take_while(|line| !line.trim().is_empty()) {
        let Some((name, value)) = line.split_once(':') else { continue };
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("nts") {
            is_alive = value.eq_ignore_ascii_case("ssdp:alive");
        } else if name.eq_ignore_ascii_case("bootid.upnp.org") {
            boot_id = value.parse().ok();
        }
    }
    if is_alive { Notice::Alive(boot_id) } else { Notice::None }
}

fn join(group: SocketAddrV4, local: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    // Others on this machine listen there, too.
    socket.set_reuse_address(true)?;
    // At the group's own address no question is taken from those who answer searches here. Not every system can.
    let address = if cfg!(unix) { *group.ip() } else { Ipv4Addr::UNSPECIFIED };
    socket.bind(&SocketAddr::from((address, group.port())).into())?;
    socket.join_multicast_v4(group.ip(), &local)?;
    UdpSocket::from_std(socket.into())
}

/// RFC 6886 §3.2.1, RFC 6887 §14.1.3: all hosts, at the port of clients.
const EPOCHS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 1), 5350);
const SSDP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900);
const LINES_MAX: usize = 64;
const DATAGRAM_BYTES_MAX: usize = 2048;
const ERROR_PAUSE: std::time::Duration = std::time::Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(datagram: &[u8], want: Notice) {
        assert_eq!(parse(datagram), want, "{}", String::from_utf8_lossy(datagram));
    }

    #[test]
    fn notices() {
        let announce =
            pcp::Response { epoch: 1, result: 0, lifetime: 0, answer: pcp::Answer::Announce };
        check(&announce.encode(), Notice::Epoch);
        // NAT-PMP: the external address, unasked.
        check(&[0, 128, 0, 0, 0, 0, 0, 1, 11, 0, 0, 1], Notice::Epoch);
        // A mapping is an answer to somebody, not a notice.
        check(&[0, 129, 0, 0, 0, 0, 0, 1, 0, 80, 0, 80, 0, 0, 14, 16], Notice::None);
        let alive = "NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nNTS: ssdp:alive\r\n\
                     BOOTID.UPNP.ORG: 7\r\n\r\n";
        check(alive.as_bytes(), Notice::Alive(Some(7)));
        check(alive.replace("BOOTID", "X").as_bytes(), Notice::Alive(None));
        check(alive.replace(": 7", ": -7").as_bytes(), Notice::Alive(None));
        check(alive.replace("alive", "byebye").as_bytes(), Notice::None);
        check(alive.replace("NOTIFY", "M-SEARCH").as_bytes(), Notice::None);
        check(b"", Notice::None);
    }

    #[test]
    fn a_boot_is_news_once() {
        let gateway = IpAddr::from([192, 168, 1, 1]);
        let boot_id = Mutex::new(None);
        let notices = Notices { gateway, epochs: None, ssdp: None, boot_id };
        let heard = [7, 7, 8, 8].map(|id| notices.is_news(Notice::Alive(Some(id))));
        assert_eq!(heard, [true, false, true, false]);
        assert!(notices.is_news(Notice::Alive(None)) && notices.is_news(Notice::Epoch));
        assert!(!notices.is_news(Notice::None));
    }
}
