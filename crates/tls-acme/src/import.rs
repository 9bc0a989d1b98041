//! Certificates from elsewhere: PEM files in whatever order.

use std::time::SystemTime;

use hearth_net::{CertError, Certificate};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::facts;

/// A chain in the order in which it has to be sent, and its key.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Imported {
    /// The certificates as PEM: the server's own first, each issued by the one behind it.
    pub chain_pem: String,
    /// The certificate, ready to be served.
    pub certificate: Certificate,
    /// What was put right, for the log; empty where nothing was.
    pub repairs: Vec<String>,
}

/// Why PEM cannot be imported. Who wrote the files must act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The certificate or its key is unusable.
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// One of the issuers in the chain has ended, so clients will not trust it.
    #[error(
        "the chain's certificate number {position} ({subject}) has expired: get the chain anew from the authority"
    )]
    ExpiredIssuer {
        /// Its place in the repaired chain; 1 is the server's own.
        position: usize,
        /// Whose it is.
        subject: String,
    },
    /// What is between the markers is no certificate.
    #[error("certificate number {position} is damaged: write the file again")]
    Malformed {
        /// Its place in the file, from 1.
        position: usize,
    },
    /// No certificate belongs to the key.
    #[error(
        "none of the {count} certificates belongs to the key: check that both come from the same issuance"
    )]
    NoMatch {
        /// How many were there.
        count: usize,
    },
}

/// Reads certificates and a key from PEM, in one text or in two. The server's certificate is the one
/// that the key belongs to; the others are put in order behind it, and what does not belong to the chain
/// is left out, as is a root that signed itself.
///
/// # Errors
/// [`ImportError`] says what is wrong and what to do.
pub fn import(chain_pem: &[u8], key_pem: &[u8], now: SystemTime) -> Result<Imported, ImportError> {
    let found: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain_pem).flatten().collect();
    let mut pool = Vec::new();
    for (index, der) in found.iter().enumerate() {
        let facts = facts::read(der).ok_or(ImportError::Malformed { position: index + 1 })?;
        pool.push((index, der, facts));
    }
    let mut last_error = None;
    // Most files begin with it; the key decides.
    let own = pool.iter().position(|(_, der, _)| {
        match Certificate::from_pem_slices(pem(der).as_bytes(), key_pem) {
            Ok(_) => true,
            Err(error) => {
                last_error = Some(error);
                false
            }
        }
    });
    let Some(own) = own else {
        return Err(match last_error {
            None => Certificate::from_pem_slices(chain_pem, key_pem)
                .map_or_else(ImportError::from, |_| ImportError::NoMatch { count: 0 }),
            Some(CertError::KeyMismatch { .. }) => ImportError::NoMatch { count: pool.len() },
            Some(error) => error.into(),
        });
    };
    let mut repairs = Vec::new();
    let mut order = vec![pool.remove(own)];
    while let Some((_, _, last)) = order.last() {
        if last.issuer == last.subject {
            break;
        }
        let next = pool
            .iter()
            .position(|(_, _, facts)| facts.subject == last.issuer && facts.is_authority);
        let Some(next) = next else { break };
        order.push(pool.remove(next));
    }
    if order.windows(2).any(|pair| matches!(pair, [a, b] if a.0 > b.0)) || own != 0 {
        repairs.push("the certificates were put in order".to_owned());
    }
    let is_root = |facts: &facts::Facts| facts.issuer == facts.subject;
    if order.len() > 1 && order.last().is_some_and(|(_, _, facts)| is_root(facts)) {
        order.pop();
        repairs.push("the root was left out: clients have it".to_owned());
    }
    if !pool.is_empty() {
        repairs.push(format!(
            "{} certificates that do not belong to the chain were left out",
            pool.len()
        ));
    }
    for (index, (_, der, facts)) in order.iter().enumerate().skip(1) {
        if facts.not_after < now {
            return Err(ImportError::ExpiredIssuer {
                position: index + 1,
                subject: facts::show_subject(der),
            });
        }
    }
    let chain_pem: String = order.iter().map(|(_, der, _)| pem(der)).collect();
    let certificate = Certificate::from_pem_slices(chain_pem.as_bytes(), key_pem)?;
    certificate.check(now)?;
    Ok(Imported { chain_pem, certificate, repairs })
}

/// A certificate as PEM (RFC 7468).
pub(crate) fn pem(der: &[u8]) -> String {
    let body = base64(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * place) & 63) as usize);
            let is_padding = place > group.len();
            text.push(if is_padding { '=' } else { digit.map_or('=', |digit| char::from(*digit)) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    struct World {
        root: String,
        middle: String,
        old_middle: String,
        leaf: String,
        key: String,
        expired: String,
        other: String,
        other_key: String,
    }

    fn world() -> World {
        let authority = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).expect("no names");
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let (root_key, middle_key) =
            (KeyPair::generate().expect("key"), KeyPair::generate().expect("key"));
        let root = authority("root");
        let root_pem = root.self_signed(&root_key).expect("root").pem();
        let root = Issuer::new(root, root_key);
        let mut middle = authority("middle");
        let middle_pem = middle.signed_by(&middle_key, &root).expect("middle").pem();
        middle.not_before = rcgen::date_time_ymd(2001, 1, 1);
        middle.not_after = rcgen::date_time_ymd(2002, 1, 1);
        let old_middle = middle.signed_by(&middle_key, &root).expect("middle").pem();
        let middle = Issuer::new(authority("middle"), middle_key);
        let leaf = |expired: bool, key: &KeyPair| {
            let mut params = CertificateParams::new(vec!["a.test".to_owned()]).expect("names");
            if expired {
                params.not_before = rcgen::date_time_ymd(2001, 1, 1);
                params.not_after = rcgen::date_time_ymd(2002, 1, 1);
            }
            params.signed_by(key, &middle).expect("leaf").pem()
        };
        let (key, other_key) =
            (KeyPair::generate().expect("key"), KeyPair::generate().expect("key"));
        World {
            root: root_pem,
            middle: middle_pem,
            old_middle,
            leaf: leaf(false, &key),
            expired: leaf(true, &key),
            other: leaf(false, &other_key),
            key: key.serialize_pem(),
            other_key: other_key.serialize_pem(),
        }
    }

    #[test]
    fn repairs_what_can_be_and_names_what_cannot() {
        let w = world();
        let good = format!("{}{}", w.leaf, w.middle);
        let check = |chain: &[&str], key: &str, want: &str| {
            let result = import(chain.concat().as_bytes(), key.as_bytes(), SystemTime::now());
            let got = match &result {
                Ok(imported) => {
                    assert_eq!(imported.chain_pem.replace('\r', ""), good.replace('\r', ""));
                    format!("ok {}", imported.repairs.join(", "))
                }
                Err(ImportError::Certificate(error)) => format!("{error:?}"),
                Err(error) => format!("{error:?}"),
            };
            assert!(got.starts_with(want), "{got} instead of {want}");
        };
        check(&[&w.leaf, &w.middle], &w.key, "ok ");
        check(&[&w.middle, &w.leaf], &w.key, "ok the certificates were put in order");
        check(
            &[&w.root, &w.middle, &w.leaf],
            &w.key,
            "ok the certificates were put in order, the root was left out",
        );
        check(&[&w.leaf, &w.middle, &w.other], &w.key, "ok 1 certificates that do not belong");
        check(&[&w.key, &w.leaf, &w.middle], &w.key, "ok ");
        check(&[&w.leaf, &w.middle], &w.other_key, "NoMatch { count: 2 }");
        check(&[&w.expired, &w.middle], &w.key, "Expired");
        check(&[&w.leaf, &w.old_middle], &w.key, "ExpiredIssuer { position: 2");
        check(&[], &w.key, "NoCertificate");
        check(&[&w.leaf], "", "NoKey");
        let locked =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        check(&[&w.leaf], locked, "EncryptedKey");
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        check(&[&w.leaf, damaged], &w.key, "Malformed { position: 2 }");
    }

    #[test]
    fn writes_pem() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
