//! Certificates for tests.

use super::Certificate;

/// A chain of one and its key, as PEM.
pub(crate) fn pem(names: &[&str]) -> (String, String) {
    make(names, |_| {})
}

/// A certificate that is valid now.
pub(crate) fn certificate(names: &[&str]) -> Certificate {
    let (chain, key) = pem(names);
    Certificate::from_pem_slices(chain.as_bytes(), key.as_bytes()).expect("a good pair")
}

/// A certificate that was valid in 2001.
pub(crate) fn expired(names: &[&str]) -> Certificate {
    let (chain, key) = make(names, |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 12, 31);
    });
    Certificate::from_pem_slices(chain.as_bytes(), key.as_bytes()).expect("a good pair")
}

fn make(names: &[&str], change: impl FnOnce(&mut rcgen::CertificateParams)) -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = rcgen::CertificateParams::new(names).expect("names");
    change(&mut params);
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}
