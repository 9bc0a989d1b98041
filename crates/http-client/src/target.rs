//! From a URL to what a request needs of it.

use std::{net::Ipv6Addr, sync::Arc};

use crate::{ClientError, ErrorKind};

/// The parts of an `http` or `https` URL. A clone costs reference counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) is_tls: bool,
    /// Lower case; an IPv6 literal without its brackets.
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    /// Path and query, beginning with `/`.
    pub(crate) path: Arc<str>,
    /// Host and port for messages, and for `host` and `:authority`: the default port is left out.
    authority: Arc<str>,
}

impl Target {
    /// Parses an absolute URL. A fragment is left out (RFC 9110 §4.2.4).
    pub(crate) fn parse(url: &str) -> Result<Self, ClientError> {
        let invalid = |what| Err(ClientError::new(ErrorKind::Request, what));
        let url = url.split('#').next().unwrap_or_default();
        if url.len() > URL_BYTES_MAX {
            return invalid("the URL is too long");
        }
        if !url.bytes().all(|byte| matches!(byte, 0x21..=0x7e)) {
            return invalid("the URL has a character that must be percent-encoded");
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return invalid("the URL does not begin with http:// or https://");
        };
        let is_tls = scheme.eq_ignore_ascii_case("https");
        if !is_tls && !scheme.eq_ignore_ascii_case("http") {
            return invalid("the URL does not begin with http:// or https://");
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if authority.contains('@') {
            return invalid("credentials belong into a field, not into the URL");
        }
        let Some((host, port)) = split_authority(authority) else {
            return invalid("the URL's host or port is malformed");
        };
        let default_port = if is_tls { 443 } else { 80 };
        let path = if path.starts_with('/') { path.into() } else { format!("/{path}").into() };
        let port = port.unwrap_or(default_port);
        let is_ipv6 = host.contains(':');
        let (open, close) = if is_ipv6 { ("[", "]") } else { ("", "") };
        let authority = match port == default_port {
            true if !is_ipv6 => host.clone(),
            true => format!("[{host}]").into(),
            false => format!("{open}{host}{close}:{port}").into(),
        };
        Ok(Self { is_tls, host, port, path, authority })
    }

    /// The URL that `reference` means when it stands in a response from here (RFC 3986 §5.2).
    pub(crate) fn resolve(&self, reference: &[u8]) -> Result<Self, ClientError> {
        let reference = encode(reference);
        let reference = reference.split('#').next().unwrap_or_default();
        let (base_path, _) = split_query(&self.path);
        if has_scheme(reference) {
            return Self::parse(reference);
        }
        if reference.starts_with("//") {
            let scheme = if self.is_tls { "https:" } else { "http:" };
            return Self::parse(&format!("{scheme}{reference}"));
        }
        let path = match reference.as_bytes().first() {
            None => self.path.to_string(),
            Some(b'?') => format!("{base_path}{reference}"),
            Some(b'/') => remove_dot_segments(reference),
            Some(_) => {
                let folder =
                    base_path.rfind('/').map_or("", |at| base_path.get(..at).unwrap_or(""));
                remove_dot_segments(&format!("{folder}/{reference}"))
            }
        };
        Ok(Self { path: path.into(), ..self.clone() })
    }

    /// Host and port, without the default port.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The URL in full.
    pub(crate) fn to_url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// Whether credentials for one may be sent to the other (RFC 9110 §4.3.1).
    pub(crate) fn is_same_origin(&self, other: &Self) -> bool {
        self.is_tls == other.is_tls && self.host == other.host && self.port == other.port
    }
}

/// Host in lower case and without brackets, and the port where there is one.
fn split_authority(authority: &str) -> Option<(Arc<str>, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (literal, rest) = rest.split_once(']')?;
            let address: Ipv6Addr = literal.parse().ok()?;
            let port = if rest.is_empty() { "" } else { rest.strip_prefix(':')? };
            (address.to_string(), port)
        }
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
            let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(is_name) {
                return None;
            }
            (host.to_ascii_lowercase(), port)
        }
    };
    if port.is_empty() {
        return Some((host.into(), None));
    }
    let is_number = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = is_number.then(|| port.parse().ok())?.filter(|&port| port > 0)?;
    Some((host.into(), Some(port)))
}

/// Whether a reference begins with a scheme (RFC 3986 §3.1).
fn has_scheme(reference: &str) -> bool {
    let end = reference.find(['/', '?']).unwrap_or(reference.len());
    let first = reference.get(..end).unwrap_or_default();
    let Some((scheme, _)) = first.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// Servers send raw UTF-8 and spaces in `location`; their escapes mean the same.
fn encode(reference: &[u8]) -> String {
    let mut text = String::with_capacity(reference.len());
    for &byte in reference.trim_ascii() {
        match byte {
            0x21..=0x7e => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn split_query(path: &str) -> (&str, &str) {
    path.split_at_checked(path.find('?').unwrap_or(path.len())).unwrap_or((path, ""))
}

/// RFC 3986 §5.2.4 for a path that begins with `/`; the query stays as it is.
fn remove_dot_segments(path: &str) -> String {
    let (path, query) = split_query(path);
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_folder = false;
    for segment in path.split('/').skip(1) {
        ends_in_folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    let mut clean = String::with_capacity(path.len() + query.len());
    for segment in &kept {
        clean.push('/');
        clean.push_str(segment);
    }
    if ends_in_folder || clean.is_empty() {
        clean.push('/');
    }
    clean.push_str(query);
    clean
}

/// Longer request targets are refused by most servers.
const URL_BYTES_MAX: usize = 32 * 1024;
/// RFC 1035 §3.1.
const HOST_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::Target;

    #[track_caller]
    fn check(url: &str, want: &str) {
        assert_eq!(Target::parse(url).expect(url).to_url(), want, "{url}");
    }

    #[test]
    fn urls() {
        check("http://example.org", "http://example.org/");
        check("HTTP://Example.ORG:80/A?b#c", "http://example.org/A?b");
        check("https://example.org:8443?x=/", "https://example.org:8443/?x=/");
        check("http://[::1]:8080/", "http://[::1]:8080/");
        check("http://127.0.0.1:/x", "http://127.0.0.1/x");
        check("https://a:443/", "https://a/");
        check("http://a:443/", "http://a:443/");
    }

    #[test]
    fn refused_urls() {
        for url in [
            "",
            "/",
            "example.org",
            "ftp://a/",
            "http://",
            "http:///x",
            "http://a:0/",
            "http://a:65536/",
            "http://a:+1/",
            "http://a:b/",
            "http://[::1/",
            "http://[::1]x/",
            "http://[1]/",
            "http://a b/",
            "http://a/b c",
            "http://a/\u{e4}",
            "http://u:p@a/",
            "http://a\\b/",
            "http://a/\r\nx: y",
        ] {
            let error = Target::parse(url).expect_err(url);
            assert!(!error.to_string().contains("u:p"), "{error}");
        }
    }

    #[test]
    fn references() {
        // RFC 3986 §5.4, as far as it concerns http.
        let base = Target::parse("http://a/b/c/d;p?q").expect("base");
        for (reference, want) in [
            ("http://h:81/x", "http://h:81/x"),
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("g#s", "http://a/b/c/g"),
            (";x", "http://a/b/c/;x"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            ("..g", "http://a/b/c/..g"),
            ("./g/.", "http://a/b/c/g/"),
            ("g/../h", "http://a/b/c/h"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("a b\u{e4}", "http://a/b/c/a%20b%C3%A4"),
        ] {
            let target = base.resolve(reference.as_bytes()).expect(reference);
            assert_eq!(target.to_url(), want, "{reference}");
        }
        assert!(base.resolve(b"ftp://x/").is_err());
        assert!(base.resolve(b"javascript:alert(1)").is_err());
    }
}
