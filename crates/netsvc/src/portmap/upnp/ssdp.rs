//! SSDP: the search for devices (UPnP Device Architecture 1.1 §1.3). The codec is free of I/O.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use super::LocalUrl;

/// A device's answer to a search.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchResponse {
    /// Where its description is.
    pub location: LocalUrl,
    /// What it says it is; empty where it does not say.
    pub search_target: String,
    /// Its software; empty where it does not say.
    pub server: String,
}

/// Why an answer is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SearchRefusal {
    /// It is not an SSDP answer.
    #[error("not an SSDP answer")]
    Malformed,
    /// Its `LOCATION` is missing, or no `http` URL with an address.
    #[error("no usable LOCATION")]
    Location,
    /// Its `LOCATION` is on another machine than the one that answered.
    #[error("LOCATION is on another machine")]
    ForeignLocation,
}

/// Where to search, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    pub(crate) local: Ipv4Addr,
    /// The multicast group and port.
    pub(crate) group: SocketAddrV4,
    /// Asked directly as well: some networks lose multicast.
    pub(crate) gateway: Ipv4Addr,
    pub(crate) duration: Duration,
}

impl SearchResponse {
    /// Reads a datagram that came from `sender`.
    ///
    /// # Errors
    /// [`SearchRefusal`], which includes locations on another machine than the sender.
    pub fn parse(datagram: &[u8], sender: IpAddr) -> Result<Self, SearchRefusal> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(SearchRefusal::Malformed);
        }
        let text = String::from_utf8_lossy(datagram);
        let mut lines = text.lines();
        let status = lines.next().unwrap_or_default();
        let mut words = status.split_ascii_whitespace();
        let is_http = words.next().is_some_and(|version| {
            version.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("HTTP/1."))
        });
        if !is_http || words.next() != Some("200") {
            return Err(SearchRefusal::Malformed);
        }
        let (mut location, mut search_target, mut server) = (None, "", "");
        for line in lines.take(LINES_MAX).take_while(|line| !line.trim().is_empty()) {
            let Some((name, value)) = line.split_once(':') else { continue };
            let (name, value) = (name.trim(), value.trim());
            if name.eq_ignore_ascii_case("location") {
                location.get_or_insert(value);
            } else if name.eq_ignore_ascii_case("st") {
                search_target = value;
            } else if name.eq_ignore_ascii_case("server") {
                server = value;
            }
        }
        let location = location.and_then(LocalUrl::parse).ok_or(SearchRefusal::Location)?;
        if location.host().to_canonical() != sender.to_canonical() {
            return Err(SearchRefusal::ForeignLocation);
        }
        let clean = |text: &str| text.chars().filter(|char| !char.is_control()).take(128).collect();
        Ok(Self { location, search_target: clean(search_target), server: clean(server) })
    }
}

/// The question for devices of one kind.
#[must_use]
pub fn search_message(group: SocketAddrV4, search_target: &str) -> String {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: {group}\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\n\
         ST: {search_target}\r\n\r\n"
    )
}

/// Devices that answer and that `trust` accepts, one for each location, in order of arrival.
///
/// Ends early when the gateway itself has answered. Nothing is lost by dropping the future.
pub(crate) async fn search(
    search: &Search,
    trust: impl Fn(IpAddr) -> bool,
) -> io::Result<Vec<SearchResponse>> {
    let socket = open(search.local)?;
    let began = Instant::now();
    let mut found: Vec<SearchResponse> = Vec::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    for round in 0..ROUNDS {
        send(&socket, search, round == 0).await?;
        let until = began + search.duration * (round + 1) / ROUNDS;
        while let Ok(received) = timeout_at(until, socket.recv_from(&mut buffer)).await {
            // Errors are word of what was sent earlier, such as "port unreachable".
            let Ok((length, sender)) = received else { continue };
            if !trust(sender.ip()) {
                tracing::debug!(%sender, "an SSDP answer from a stranger is ignored");
                continue;
            }
            let datagram = buffer.get(..length).unwrap_or_default();
            match SearchResponse::parse(datagram, sender.ip()) {
                Ok(response) => keep(&mut found, response),
                Err(refusal) => tracing::debug!(%sender, %refusal, "an SSDP answer is ignored"),
            }
            if found.iter().any(|response| response.location.host() == search.gateway) {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

fn keep(found: &mut Vec<SearchResponse>, response: SearchResponse) {
    let is_known = found.iter().any(|known| known.location == response.location);
    if !is_known && found.len() < RESPONSES_MAX {
        found.push(response);
    }
}

fn open(local: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((local, 0)).into())?;
    socket.set_multicast_if_v4(&local)?;
    // Some routers' switches drop what would not leave the first segment.
    socket.set_multicast_ttl_v4(2)?;
    UdpSocket::from_std(socket.into())
}

async fn send(socket: &UdpSocket, search: &Search, to_gateway: bool) -> io::Result<()> {
    let mut last_error = None;
    for target in SEARCH_TARGETS {
        let message = search_message(search.group, target);
        if let Err(error) = socket.send_to(message.as_bytes(), search.group).await {
            last_error = Some(error);
        }
        if to_gateway {
            let gateway = (search.gateway, search.group.port());
            // Most gateways answer the multicast; this is for those whose network loses it.
            let _ = socket.send_to(message.as_bytes(), gateway).await;
        }
    }
    match last_error {
        Some(error) if !to_gateway => Err(error),
        _ => Ok(()),
    }
}

/// The devices and services that can map ports.
const SEARCH_TARGETS: [&str; 5] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];
/// UDP loses datagrams, so each question is put three times.
const ROUNDS: u32 = 3;
const RESPONSES_MAX: usize = 16;
const LINES_MAX: usize = 64;
const DATAGRAM_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(datagram: &str, want: Result<&str, SearchRefusal>) {
        let sender = "192.168.1.1".parse().unwrap();
        let got = SearchResponse::parse(datagram.as_bytes(), sender);
        let location = got.map(|response| response.location.to_string());
        assert_eq!(location, want.map(str::to_owned), "{datagram}");
    }

    #[test]
    fn responses() {
        let good = "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: upnp:rootdevice\r\n\
                    LOCATION: http://192.168.1.1:5000/rootDesc.xml\r\nSERVER: x\r\n\r\n";
        check(good, Ok("http://192.168.1.1:5000/rootDesc.xml"));
        check(
            &good.replace("\r\n", "\n").replace("LOCATION: ", "location:"),
            Ok("http://192.168.1.1:5000/rootDesc.xml"),
        );
        check(&good.replace("192.168.1.1", "192.168.1.66"), Err(SearchRefusal::ForeignLocation));
        check(&good.replace("192.168.1.1", "evil.example"), Err(SearchRefusal::Location));
        check(&good.replace("http:", "https:"), Err(SearchRefusal::Location));
        check(&good.replace("LOCATION", "X"), Err(SearchRefusal::Location));
        check(&good.replace("200 OK", "404 Not Found"), Err(SearchRefusal::Malformed));
        check("NOTIFY * HTTP/1.1\r\n\r\n", Err(SearchRefusal::Malformed));
        check("", Err(SearchRefusal::Malformed));
    }
}
