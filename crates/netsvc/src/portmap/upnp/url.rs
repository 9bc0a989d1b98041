//! URLs of devices on the local network: `http`, an address, a port, a path.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// Where a device has its description, or one of its services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalUrl {
    address: SocketAddr,
    path: String,
}

impl LocalUrl {
    /// Parses an absolute URL. `None` for anything but `http` to an address: a name would be looked
    /// up, and could lead anywhere.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let scheme = url.get(..7)?;
        if !scheme.eq_ignore_ascii_case("http://") {
            return None;
        }
        let rest = url.get(7..)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        let address = match authority.parse::<SocketAddr>() {
            Ok(address) => address,
            Err(_) => {
                let host = authority.trim_start_matches('[').trim_end_matches(']');
                SocketAddr::new(host.parse().ok()?, 80)
            }
        };
        Some(Self { address, path: clean_path(path, "/")? })
    }

    /// What `reference` means when it stands in a document from here. `None` where it leads to another
    /// machine, or is malformed.
    #[must_use]
    pub fn resolve(&self, reference: &str) -> Option<Self> {
        if reference.contains("://") || reference.starts_with("//") {
            return Self::parse(reference).filter(|url| url.host() == self.host());
        }
        let folder_end = self.path.rfind('/').map_or(0, |at| at + 1);
        let folder = self.path.get(..folder_end).unwrap_or("/");
        Some(Self { address: self.address, path: clean_path(reference, folder)? })
    }

    /// The machine.
    #[must_use]
    pub fn host(&self) -> IpAddr {
        self.address.ip()
    }

    /// The same port and path of another address, which the caller knows to be the same machine's.
    pub(crate) fn with_host(&self, host: IpAddr) -> Self {
        Self { address: SocketAddr::new(host, self.address.port()), path: self.path.clone() }
    }

    /// The machine and the port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Display for LocalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.address, self.path)
    }
}

/// An absolute path, from one that may be relative to `folder`, without its fragment.
fn clean_path(path: &str, folder: &str) -> Option<String> {
    let path = path.split('#').next().unwrap_or_default();
    if path.len() > PATH_BYTES_MAX || !path.bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
        return None;
    }
    Some(if path.starts_with('/') { path.to_owned() } else { format!("{folder}{path}") })
}

const PATH_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute() {
        let check = |url: &str, want: Option<&str>| {
            let got = LocalUrl::parse(url).map(|url| url.to_string());
            assert_eq!(got.as_deref(), want, "{url}");
        };
        check("http://192.168.1.1:5000/root.xml", Some("http://192.168.1.1:5000/root.xml"));
        check("HTTP://192.168.1.1", Some("http://192.168.1.1:80/"));
        check("http://[fe80::1]:49152/a?b#c", Some("http://[fe80::1]:49152/a?b"));
        check("http://[fd00::1]/a", Some("http://[fd00::1]:80/a"));
        for refused in [
            "",
            "http://",
            "https://192.168.1.1/",
            "http://router/",
            "http://user@192.168.1.1/",
            "http://192.168.1.1:99999/",
            "ftp://192.168.1.1/",
            "http://192.168.1.1/a b",
            "http://192.168.1.1\r\n/",
            "/root.xml",
            "http://192.168.1.1/\u{e4}",
        ] {
            check(refused, None);
        }
        check(&format!("http://192.168.1.1/{}", "a".repeat(2000)), None);
    }

    #[test]
    fn references() {
        let base = LocalUrl::parse("http://192.168.1.1:5000/igd/root.xml").unwrap();
        let check = |reference: &str, want: Option<&str>| {
            let got = base.resolve(reference).map(|url| url.to_string());
            assert_eq!(got.as_deref(), want, "{reference}");
        };
        check("/ctl", Some("http://192.168.1.1:5000/ctl"));
        check("ctl", Some("http://192.168.1.1:5000/igd/ctl"));
        check("http://192.168.1.1:6000/ctl", Some("http://192.168.1.1:6000/ctl"));
        check("http://192.168.1.2:5000/ctl", None);
        check("http://example.com/ctl", None);
        check("//192.168.1.2/ctl", None);
        check("a\r\nb", None);
    }
}
