//! What is said when the server listens: a table for people, a line of JSON for programs.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
};

use serde::Serialize;

/// Everything there is to say.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Banner {
    pub(crate) event: &'static str,
    pub(crate) version: &'static str,
    pub(crate) pid: u32,
    /// What is served, in short.
    pub(crate) serving: String,
    pub(crate) listeners: Vec<Bound>,
    /// Where a browser can be sent, the best first.
    pub(crate) urls: Vec<Url>,
}

/// A listener with the address that it got.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Bound {
    pub(crate) address: SocketAddr,
    pub(crate) tls: bool,
    pub(crate) protocols: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Url {
    /// From where it can be reached.
    pub(crate) reach: &'static str,
    pub(crate) url: String,
}

impl Banner {
    pub(crate) fn new(serving: String, listeners: Vec<Bound>, hosts: &[String]) -> Self {
        let urls = urls(&listeners, hosts, network_address());
        let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
        Self { event: "listening", version, pid, serving, listeners, urls }
    }

    /// One line of JSON.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// A table.
    pub(crate) fn to_human(&self, has_color: bool) -> String {
        let (bold, cyan, dim, reset) = if has_color {
            ("\x1b[1m", "\x1b[36m", "\x1b[2m", "\x1b[0m")
        } else {
            ("", "", "", "")
        };
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n  {bold}Hearth {}{reset}  {}\n", self.version, self.serving);
        let width = self.urls.iter().map(|url| url.reach.len()).max().unwrap_or_default();
        for Url { reach, url } in &self.urls {
            let _ = writeln!(text, "  {dim}{reach:width$}{reset}  {cyan}{url}{reset}");
        }
        let _ = writeln!(text, "\n  {dim}Ctrl-C stops it{reset}\n");
        text
    }
}

fn urls(listeners: &[Bound], hosts: &[String], network: Option<IpAddr>) -> Vec<Url> {
    let mut urls = Vec::new();
    for bound in listeners {
        let mut add = |reach, host: &str| {
            let url = Url { reach, url: url(bound, host) };
            if !urls.contains(&url) {
                urls.push(url);
            }
        };
        let ip = bound.address.ip();
        if ip.is_unspecified() {
            add("Local", "localhost");
            if let Some(network) = network.filter(|network| network.is_ipv4() || ip.is_ipv6()) {
                add("Network", &literal(network));
            }
        } else {
            let reach = if ip.is_loopback() { "Local" } else { "Network" };
            add(reach, &literal(ip));
        }
        for host in hosts.iter().filter(|host| !host.starts_with("*.")) {
            add("Site", host);
        }
    }
    urls
}

fn url(bound: &Bound, host: &str) -> String {
    let (scheme, usual) = if bound.tls { ("https", 443) } else { ("http", 80) };
    match bound.address.port() {
        port if port == usual => format!("{scheme}://{host}/"),
        port => format!("{scheme}://{host}:{port}/"),
    }
}

fn literal(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// The address by which others in the network reach this machine: the one that a packet to the outside
/// would come from. Nothing is sent.
fn network_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // RFC 5737: an address for documentation, which is never on this network.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(address: &str, tls: bool) -> Bound {
        Bound { address: address.parse().unwrap(), tls, protocols: vec!["h1", "h2"] }
    }

    #[track_caller]
    fn check(listeners: &[Bound], hosts: &[&str], want: &[(&str, &str)]) {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let got = urls(listeners, &hosts, Some("192.0.2.7".parse().unwrap()));
        let got: Vec<_> = got.iter().map(|url| (url.reach, url.url.as_str())).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn addresses_become_urls() {
        check(&[bound("127.0.0.1:8080", false)], &[], &[("Local", "http://127.0.0.1:8080/")]);
        check(
            &[bound("0.0.0.0:80", false), bound("[::]:443", true)],
            &["example.com", "*.example.com"],
            &[
                ("Local", "http://localhost/"),
                ("Network", "http://192.0.2.7/"),
                ("Site", "http://example.com/"),
                ("Local", "https://localhost/"),
                ("Network", "https://192.0.2.7/"),
                ("Site", "https://example.com/"),
            ],
        );
        check(&[bound("[::1]:8443", true)], &[], &[("Local", "https://[::1]:8443/")]);
    }

    #[test]
    fn both_forms() {
        let banner = Banner {
            event: "listening",
            version: "0.1.0",
            pid: 7,
            serving: "site".to_owned(),
            listeners: vec![bound("127.0.0.1:8080", false)],
            urls: vec![Url { reach: "Local", url: "http://127.0.0.1:8080/".to_owned() }],
        };
        assert_eq!(
            banner.to_human(false),
            "\n  Hearth 0.1.0  site\n\n  Local  http://127.0.0.1:8080/\n\n  Ctrl-C stops it\n\n"
        );
        assert_eq!(
            banner.to_json(),
            "{\"event\":\"listening\",\"version\":\"0.1.0\",\"pid\":7,\"serving\":\"site\",\
             \"listeners\":[{\"address\":\"127.0.0.1:8080\",\"tls\":false,\
             \"protocols\":[\"h1\",\"h2\"]}],\
             \"urls\":[{\"reach\":\"Local\",\"url\":\"http://127.0.0.1:8080/\"}]}\n"
        );
    }
}
