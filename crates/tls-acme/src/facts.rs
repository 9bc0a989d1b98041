//! What has to be known of a certificate to renew it, order its chain and name it to its authority.

use std::{net::IpAddr, time::SystemTime};

use aws_lc_rs::digest;
use x509_parser::{
    extensions::{GeneralName, ParsedExtension},
    parse_x509_certificate,
};

use crate::{clock::from_unix, name::Name};

/// Facts of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) names: Vec<Name>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) issuer: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) is_authority: bool,
    /// RFC 9773 §4.1: what an authority knows the certificate by.
    pub(crate) ari_id: Option<AriId>,
    /// SHA-256 of the whole certificate, in hexadecimal digits.
    pub(crate) fingerprint: String,
}

/// Authority key identifier and serial number, as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AriId {
    pub(crate) authority_key: Vec<u8>,
    pub(crate) serial: Vec<u8>,
}

/// Reads the facts; `None` where `der` is no certificate.
pub(crate) fn read(der: &[u8]) -> Option<Facts> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let time = |seconds: i64| from_unix(u64::try_from(seconds).unwrap_or(0));
    let mut facts = Facts {
        names: Vec::new(),
        not_before: time(certificate.validity().not_before.timestamp()),
        not_after: time(certificate.validity().not_after.timestamp()),
        issuer: certificate.issuer().as_raw().to_vec(),
        subject: certificate.subject().as_raw().to_vec(),
        is_authority: certificate.is_ca(),
        ari_id: None,
        fingerprint: hex(digest::digest(&digest::SHA256, der).as_ref()),
    };
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(list) => {
                facts.names.extend(list.general_names.iter().filter_map(name));
            }
            ParsedExtension::AuthorityKeyIdentifier(authority) => {
                facts.ari_id = authority.key_identifier.as_ref().map(|key| AriId {
                    authority_key: key.0.to_vec(),
                    serial: certificate.tbs_certificate.raw_serial().to_vec(),
                });
            }
            _ => {}
        }
    }
    Some(facts)
}

/// Whose certificate it is, for people.
pub(crate) fn show_subject(der: &[u8]) -> String {
    let parsed = parse_x509_certificate(der);
    parsed.map_or_else(|_| "?".to_owned(), |(_, certificate)| certificate.subject().to_string())
}

fn name(name: &GeneralName<'_>) -> Option<Name> {
    match name {
        GeneralName::DNSName(text) => text.parse().ok(),
        GeneralName::IPAddress(bytes) => {
            let ip: IpAddr = match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok()?.into(),
                16 => <[u8; 16]>::try_from(*bytes).ok()?.into(),
                _ => return None,
            };
            ip.to_string().parse().ok()
        }
        _ => None,
    }
}

/// As hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// A number that is as good as drawn at random from 0 to 1, and the same for the same `seed`: what it
/// decides must not change with every start of the program.
pub(crate) fn fraction(seed: &str) -> f64 {
    let hash = digest::digest(&digest::SHA256, seed.as_bytes());
    let mut first = [0; 4];
    for (to, from) in first.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    f64::from(u32::from_be_bytes(first)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_names_of_both_kinds() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let names = ["a.test", "*.b.test", "192.0.2.1", "2001:db8::1"];
        let params = rcgen::CertificateParams::new(names.map(String::from)).expect("names");
        let facts = read(params.self_signed(&key).expect("a certificate").der()).expect("facts");
        let shown: Vec<String> = facts.names.iter().map(ToString::to_string).collect();
        assert_eq!(shown, names);
        assert_eq!(facts.issuer, facts.subject);
        assert_eq!(facts.fingerprint.len(), 64);
    }

    #[test]
    fn fractions_are_spread_and_lasting() {
        let mean = (0..1000).map(|seed| fraction(&seed.to_string())).sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
        assert_eq!(fraction("a").to_bits(), fraction("a").to_bits());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
