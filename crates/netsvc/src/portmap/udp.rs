//! Requests over UDP to one server, repeated until it answers.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

/// When a request is sent again, and when it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// The first pause; each further one is twice as long (RFC 6886 §3.1).
    pub(crate) first: Duration,
    /// From the first sending to giving up.
    pub(crate) total: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    Io(io::Error),
    /// The server's machine says that nobody listens there.
    Refused,
    Timeout,
}

/// Sends `request` until `accept` likes an answer.
///
/// The socket is connected, so datagrams of anybody but the server never get here.
pub(crate) async fn exchange<T>(
    server: SocketAddr,
    local: IpAddr,
    request: &[u8],
    schedule: Schedule,
    mut accept: impl FnMut(&[u8]) -> Option<T>,
) -> Result<T, NoAnswer> {
    let socket = UdpSocket::bind((local, 0)).await.map_err(NoAnswer::Io)?;
    socket.connect(server).await.map_err(NoAnswer::Io)?;
    let began = Instant::now();
    let deadline = began + schedule.total;
    let mut pause = schedule.first;
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    loop {
        socket.send(request).await.map_err(classify)?;
        let until = (Instant::now() + pause).min(deadline);
        // However many datagrams that are no answer arrive, the time for them is bounded.
        while let Ok(received) = timeout_at(until, socket.recv(&mut buffer)).await {
            let length = received.map_err(classify)?;
            if let Some(answer) = accept(buffer.get(..length).unwrap_or_default()) {
                return Ok(answer);
            }
        }
        if Instant::now() >= deadline {
            return Err(NoAnswer::Timeout);
        }
        pause *= 2;
    }
}

fn classify(error: io::Error) -> NoAnswer {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => NoAnswer::Refused,
        _ => NoAnswer::Io(error),
    }
}

/// PCP allows 1100 bytes; a STUN answer stays below the smallest MTU of IPv6.
const DATAGRAM_BYTES_MAX: usize = 1280;
