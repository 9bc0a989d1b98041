//! Who stands behind our router: the second machine on the way to the internet.
//!
//! Some routers do not tell their external address when it is a private one. The router behind them gives itself away
//! when a packet's time to live ends there.

use std::{
    io::{self, Read as _},
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

/// The second machine on the way to `target`; `None` where it keeps silent.
///
/// Blocks for at most `patience`. Sends one datagram that does not get beyond that machine.
///
/// # Errors
/// What the system says: only root, or who has `CAP_NET_RAW`, may see such answers.
pub fn second_hop(target: Ipv4Addr, patience: Duration) -> io::Result<Option<Ipv4Addr>> {
    let mut answers = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    let question = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    question.set_ttl(2)?;
    let ours = question.local_addr()?.port();
    question.send_to(b"hearth", SocketAddrV4::new(target, PORT))?;
    let deadline = Instant::now() + patience;
    let mut packet = [0; 576];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        answers.set_read_timeout(Some(left))?;
        match answers.read(&mut packet) {
            Ok(length) => {
                let sender = packet.get(..length).and_then(|packet| parse(packet, target, ours));
                if sender.is_some() {
                    return Ok(sender);
                }
            }
            Err(error) if is_timeout(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Who says that our datagram's time to live ended (RFC 792).
fn parse(packet: &[u8], target: Ipv4Addr, ours: u16) -> Option<Ipv4Addr> {
    let (outer, sender, _) = header(packet)?;
    let message = packet.get(outer..)?;
    let quoted = message.get(8..)?;
    let (inner, _, addressee) = header(quoted)?;
    let source_port = quoted.get(inner..inner + 2)?;
    let is_ours = *message.first()? == TIME_EXCEEDED
        && addressee == target
        && *quoted.get(9)? == UDP
        && source_port == ours.to_be_bytes();
    is_ours.then_some(sender)
}

/// Length, source and destination of an IPv4 header.
fn header(packet: &[u8]) -> Option<(usize, Ipv4Addr, Ipv4Addr)> {
    let address = |at: usize| {
        let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    };
    let first = *packet.first()?;
    let length = usize::from(first & 15) * 4;
    (first >> 4 == 4 && length >= 20).then_some((length, address(12)?, address(16)?))
}

/// The first port that `traceroute` uses: nobody listens there.
const PORT: u16 = 33_434;
const TIME_EXCEEDED: u8 = 11;
const UDP: u8 = 17;

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const HOP: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

    fn ip(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        header.extend(source.octets());
        header.extend(destination.octets());
        header
    }

    fn answer(kind: u8, target: Ipv4Addr, port: u16) -> Vec<u8> {
        let here = Ipv4Addr::new(192, 168, 0, 2);
        let mut packet = ip(1, HOP, here);
        packet.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend(ip(UDP, here, target));
        packet.extend(port.to_be_bytes());
        packet.extend(PORT.to_be_bytes());
        packet
    }

    #[test]
    fn only_answers_to_our_question_count() {
        let whole = answer(TIME_EXCEEDED, TARGET, 4000);
        assert_eq!(parse(&whole, TARGET, 4000), Some(HOP));
        assert_eq!(parse(&whole, TARGET, 4001), None);
        assert_eq!(parse(&whole, HOP, 4000), None);
        assert_eq!(parse(&answer(3, TARGET, 4000), TARGET, 4000), None);
        for length in 0..whole.len() - 2 {
            assert_eq!(parse(&whole[..length], TARGET, 4000), None, "{length} bytes");
        }
    }
}
