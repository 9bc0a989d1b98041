//! How wrong this machine's clock is, by asking a time server once (RFC 4330).
//!
//! For telling people that their clock is wrong, not for setting it.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{net::UdpSocket, time::timeout};

use crate::random;

/// The port of time servers.
pub const PORT: u16 = 123;

/// Seconds by which this machine's clock is ahead of the server's; negative: behind.
///
/// # Errors
/// What the system says, [`io::ErrorKind::TimedOut`] without an answer within `patience`, and
/// [`io::ErrorKind::InvalidData`] where the server does not know the time itself.
///
/// # Cancel safety
/// Nothing is changed by dropping the future.
pub async fn clock_ahead(server: SocketAddr, patience: Duration) -> io::Result<i64> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    // Nobody needs to know our time; a random number in its place shows whose answer it is.
    let cookie: [u8; 8] = random::bytes();
    socket.send(&request(cookie)).await?;
    let answer = async {
        let mut buffer = [0; 128];
        loop {
            let length = socket.recv(&mut buffer).await?;
            if let Some(answer) = buffer.get(..length).and_then(|bytes| parse(bytes, cookie)) {
                return answer;
            }
        }
    };
    let theirs = timeout(patience, answer).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let ours = seconds(SystemTime::now());
    Ok(ours - theirs)
}

fn request(cookie: [u8; 8]) -> [u8; 48] {
    let mut packet = [0; 48];
    packet[0] = 0x23; // Version 4, client.
    packet[40..].copy_from_slice(&cookie);
    packet
}

/// Unix seconds in an answer; `None` if it is not one to our question.
fn parse(packet: &[u8], cookie: [u8; 8]) -> Option<io::Result<i64>> {
    let (first, stratum) = (*packet.first()?, *packet.get(1)?);
    let is_answer = first & 7 == 4 && packet.get(24..32)? == cookie;
    if !is_answer {
        return None;
    }
    let sent: [u8; 4] = packet.get(40..44)?.try_into().ok()?;
    let sent = u32::from_be_bytes(sent);
    // Stratum 0 is a refusal ("kiss of death"), and the two highest bits set an alarm.
    if stratum == 0 || stratum > 15 || first >> 6 == 3 || sent == 0 {
        return Some(Err(io::Error::new(io::ErrorKind::InvalidData, "the server has no time")));
    }
    // The first era ends in 2036; what looks like 1968 and before is the second (RFC 4330 §3).
    let era = if sent & 0x8000_0000 == 0 { 1_i64 << 32 } else { 0 };
    Some(Ok(i64::from(sent) + era - NTP_TO_UNIX))
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Seconds from the epoch of NTP to that of Unix.
const NTP_TO_UNIX: i64 = 2_208_988_800;

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: [u8; 8] = *b"01234567";

    fn packet(change: impl FnOnce(&mut [u8; 48])) -> [u8; 48] {
        let mut packet = [0; 48];
        packet[0] = 0x24;
        packet[1] = 2;
        packet[24..32].copy_from_slice(&COOKIE);
        packet[40..44].copy_from_slice(&3_913_056_000_u32.to_be_bytes());
        change(&mut packet);
        packet
    }

    #[test]
    fn answers() {
        let time = |change: fn(&mut [u8; 48])| parse(&packet(change), COOKIE).map(Result::ok);
        assert_eq!(time(|_| {}), Some(Some(1_704_067_200)), "2024-01-01");
        assert_eq!(time(|p| p[0] = 0x23), None, "a question");
        assert_eq!(time(|p| p[24] = b'x'), None, "to somebody else");
        assert_eq!(time(|p| p[1] = 0), Some(None), "a refusal");
        assert_eq!(time(|p| p[0] = 0xe4), Some(None), "an alarm");
        assert_eq!(time(|p| p[40..44].fill(0)), Some(None), "no time");
        let second_era = time(|p| p[40..44].copy_from_slice(&1_u32.to_be_bytes()));
        assert_eq!(second_era, Some(Some((1 << 32) + 1 - NTP_TO_UNIX)));
        for length in 0..48 {
            let cut = packet(|_| {});
            assert!(length >= 44 || parse(&cut[..length], COOKIE).is_none(), "{length} bytes");
        }
    }

    #[tokio::test]
    async fn asks_a_server() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let asking = tokio::spawn(clock_ahead(address, Duration::from_secs(10)));
        let mut question = [0; 48];
        let (_, from) = server.recv_from(&mut question).await.unwrap();
        let now = seconds(SystemTime::now());
        let slow = u32::try_from(now + NTP_TO_UNIX - 1000).unwrap();
        server.send_to(b"noise", from).await.unwrap();
        let answer = packet(|packet| {
            packet[24..32].copy_from_slice(&question[40..]);
            packet[40..44].copy_from_slice(&slow.to_be_bytes());
        });
        server.send_to(&answer, from).await.unwrap();
        let ahead = asking.await.unwrap().unwrap();
        assert!((1000..1010).contains(&ahead), "{ahead}");
    }
}
