//! What a certificate can be for.

use std::{fmt, net::IpAddr, str::FromStr};

use instant_acme::Identifier;

/// A host name, a wildcard or an IP address: what can stand in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Kind);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Host(Box<str>),
    /// By what stands behind the `*.`.
    Wildcard(Box<str>),
    Ip(IpAddr),
}

/// This is no name that a certificate can be for; who wrote it must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no host name, `*.` and a domain, or IP address ({reason})")]
pub struct InvalidName {
    /// What was written.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Name {
    /// Whether it is a wildcard.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        matches!(self.0, Kind::Wildcard(_))
    }

    /// The address, if it is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.0 {
            Kind::Ip(ip) => Some(ip),
            _ => None,
        }
    }

    /// The host name, or what stands behind the `*.`.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        match &self.0 {
            Kind::Host(host) | Kind::Wildcard(host) => Some(host),
            Kind::Ip(_) => None,
        }
    }

    /// What authorities count issuance by: the last two labels, or three where the second is one of those
    /// under which countries register. A guess: the list of public suffixes is not consulted.
    #[must_use]
    pub fn registered_domain(&self) -> String {
        let Some(domain) = self.domain() else { return self.to_string() };
        let labels: Vec<&str> = domain.rsplit('.').collect();
        let is_second_level = |label: &str| {
            matches!(label, "co" | "com" | "net" | "org" | "gov" | "edu" | "ac" | "or" | "ne")
        };
        let take = match labels.as_slice() {
            [top, second, ..] if top.len() == 2 && is_second_level(second) => 3,
            _ => 2,
        };
        let mut last: Vec<&str> = labels.into_iter().take(take).collect();
        last.reverse();
        last.join(".")
    }

    /// As part of a file's name.
    pub(crate) fn as_id(&self) -> String {
        match &self.0 {
            Kind::Host(host) => host.to_string(),
            Kind::Wildcard(domain) => format!("_wildcard.{domain}"),
            Kind::Ip(ip) => ip.to_string().replace(':', "-"),
        }
    }

    /// In the words of ACME.
    pub(crate) fn identifier(&self) -> Identifier {
        match &self.0 {
            Kind::Host(host) => Identifier::Dns(host.to_string()),
            Kind::Wildcard(domain) => Identifier::Dns(format!("*.{domain}")),
            Kind::Ip(ip) => Identifier::Ip(*ip),
        }
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = |reason| InvalidName { text: text.to_owned(), reason };
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse() {
            return Ok(Self(Kind::Ip(ip)));
        }
        let lower = text.to_ascii_lowercase();
        let lower = lower.strip_suffix('.').unwrap_or(&lower);
        let (domain, is_wildcard) = match lower.strip_prefix("*.") {
            Some(domain) => (domain, true),
            None => (lower, false),
        };
        if !domain.is_ascii() {
            return Err(invalid("write it in its ASCII form, beginning with xn--"));
        }
        if domain.is_empty() || domain.len() > 253 {
            return Err(invalid("it must have 1 to 253 bytes"));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        for label in domain.split('.') {
            if label.is_empty() || label.len() > 63 || !label.bytes().all(allowed) {
                return Err(invalid("labels are 1 to 63 letters, digits and hyphens"));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(invalid("labels neither begin nor end with a hyphen"));
            }
        }
        // RFC 1123 §2.1: what ends in a number is an address, and this one is malformed.
        if domain.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
            return Err(invalid("the last label is a number"));
        }
        Ok(Self(if is_wildcard {
            Kind::Wildcard(domain.into())
        } else {
            Kind::Host(domain.into())
        }))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Host(host) => f.write_str(host),
            Kind::Wildcard(domain) => write!(f, "*.{domain}"),
            Kind::Ip(ip) => ip.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names() {
        let rows = [
            ("Example.COM.", "example.com", "example.com", "example.com"),
            ("*.a.example.com", "*.a.example.com", "_wildcard.a.example.com", "example.com"),
            ("a.b.example.co.uk", "a.b.example.co.uk", "a.b.example.co.uk", "example.co.uk"),
            ("localhost", "localhost", "localhost", "localhost"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1"),
            ("[2001:DB8::1]", "2001:db8::1", "2001-db8--1", "2001:db8::1"),
        ];
        for (text, shown, id, registered) in rows {
            let name: Name = text.parse().expect(text);
            assert_eq!(name.to_string(), shown);
            assert_eq!(name.as_id(), id);
            assert_eq!(name.registered_domain(), registered);
        }
        let long = "a".repeat(64);
        for text in [
            "",
            "*",
            "*.",
            "a..b",
            "a b",
            "*.*.a",
            "a/b",
            "-a.b",
            "a-.b",
            "1.2.3.4.5",
            "ä.de",
            &long,
        ] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
    }
}
