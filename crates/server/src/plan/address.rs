//! Addresses as people write them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Why a text is no address; each says what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidAddress {
    #[error("an IPv6 address needs brackets, as in `[::1]:8080`")]
    Brackets,
    #[error("a name cannot be listened on; write an IP address, or `localhost`")]
    Name,
    #[error("the port is missing; write it after a colon, as in `127.0.0.1:8080`")]
    NoPort,
    #[error("a port is a number from 0 to 65535")]
    Port,
    #[error("write it without `http://` and path, as in `127.0.0.1:8080`")]
    Url,
}

/// `127.0.0.1:80`, `[::]:80`, `localhost:80`, `:80` or `*:80` for every IPv4 address, and a port alone for
/// this machine only.
pub(crate) fn parse(text: &str) -> Result<SocketAddr, InvalidAddress> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.contains('/') {
        return Err(InvalidAddress::Url);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return port(text).map(|port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Err(InvalidAddress::Brackets);
    }
    let (host, after) = text.rsplit_once(':').ok_or(InvalidAddress::NoPort)?;
    if host.contains(':') && !host.starts_with('[') {
        return Err(InvalidAddress::Brackets);
    }
    let port = port(after)?;
    let ip = match host {
        "" | "*" => Ipv4Addr::UNSPECIFIED.into(),
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        other => other.parse::<IpAddr>().map_err(|_| InvalidAddress::Name)?,
    };
    Ok(SocketAddr::new(ip, port))
}

fn port(text: &str) -> Result<u16, InvalidAddress> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or(InvalidAddress::Port)
}

/// Whether two listeners cannot both have their address.
pub(crate) fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let same_ip = one.ip().to_canonical() == other.ip().to_canonical();
    // `[::]` takes IPv4 connections too.
    let covers = |all: SocketAddr, one: SocketAddr| {
        all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4())
    };
    let covered = covers(one, other) || covers(other, one);
    // Port 0 is a different one each time.
    one.port() == other.port() && one.port() != 0 && (same_ip || covered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Result<&str, InvalidAddress>) {
        assert_eq!(parse(text), want.map(|text| text.parse().unwrap()), "{text}");
    }

    #[test]
    fn addresses() {
        check("127.0.0.1:80", Ok("127.0.0.1:80"));
        check("[::]:443", Ok("[::]:443"));
        check(":80", Ok("0.0.0.0:80"));
        check("*:80", Ok("0.0.0.0:80"));
        check("localhost:0", Ok("127.0.0.1:0"));
        check("3000", Ok("127.0.0.1:3000"));
        check("127.0.0.1", Err(InvalidAddress::NoPort));
        check("", Err(InvalidAddress::NoPort));
        check("::1", Err(InvalidAddress::Brackets));
        check("fe80::1:2::80", Err(InvalidAddress::Brackets));
        check("example.com:80", Err(InvalidAddress::Name));
        check("127.0.0.256:80", Err(InvalidAddress::Name));
        check("127.0.0.1:http", Err(InvalidAddress::Port));
        check("127.0.0.1:", Err(InvalidAddress::Port));
        check("127.0.0.1:65536", Err(InvalidAddress::Port));
        check("70000", Err(InvalidAddress::Port));
        check("http://127.0.0.1:80/", Err(InvalidAddress::Url));
    }

    #[test]
    fn collisions() {
        for (one, other, want) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "[::1]:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            assert_eq!(
                collide(one.parse().unwrap(), other.parse().unwrap()),
                want,
                "{one} {other}"
            );
        }
    }
}
