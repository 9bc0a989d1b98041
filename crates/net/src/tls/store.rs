//! Which certificate answers which name.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{CertError, Certificate};

/// Certificates by name. Built as a whole, then given to a [`CertStore`].
#[derive(Debug, Clone, Default)]
pub struct CertMap {
    exact: HashMap<Box<str>, Vec<Certificate>>,
    /// By what stands behind the `*.`.
    wildcard: HashMap<Box<str>, Vec<Certificate>>,
    default: Vec<Certificate>,
}

impl CertMap {
    /// No certificates.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a certificate for every name in it.
    ///
    /// # Errors
    /// [`CertError::NoNames`] if it has none.
    pub fn add(&mut self, certificate: &Certificate) -> Result<(), CertError> {
        if certificate.names().is_empty() {
            return Err(CertError::NoNames);
        }
        for name in certificate.names() {
            // A name that no client can ask for does no harm.
            let _odd = self.add_as(name, certificate.clone());
        }
        Ok(())
    }

    /// Adds a certificate for `name`: a host name, or `*.` and a domain for one label below that.
    /// Several certificates for a name are chosen from by what the client supports.
    ///
    /// # Errors
    /// [`CertError::InvalidName`] if `name` is neither.
    pub fn add_as(&mut self, name: &str, certificate: Certificate) -> Result<(), CertError> {
        let lower = name.to_ascii_lowercase();
        let lower = lower.trim_end_matches('.');
        let (table, key) = match lower.strip_prefix("*.") {
            Some(domain) => (&mut self.wildcard, domain),
            None => (&mut self.exact, lower),
        };
        let is_label_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_label_byte);
        if key.len() > 253 || !key.split('.').all(is_label) {
            return Err(CertError::InvalidName { name: name.to_owned() });
        }
        table.entry(key.into()).or_default().push(certificate);
        Ok(())
    }

    /// The certificate for clients that name no host, or one that no other certificate is for.
    /// Without it such handshakes fail.
    pub fn set_default(&mut self, certificate: Certificate) {
        self.default = vec![certificate];
    }

    /// Every certificate with the name it answers to; the default one's is empty.
    pub fn iter(&self) -> impl Iterator<Item = (String, &Certificate)> {
        let exact = self.exact.iter().map(|(name, list)| (name.to_string(), list));
        let wildcard = self.wildcard.iter().map(|(name, list)| (format!("*.{name}"), list));
        let default = std::iter::once((String::new(), &self.default));
        let all = exact.chain(wildcard).chain(default);
        all.flat_map(|(name, list)| list.iter().map(move |one| (name.clone(), one)))
    }

    /// Whether a certificate that is valid at that time is for `name`, by that name or by a wildcard. The
    /// default certificate does not count.
    #[must_use]
    pub fn covers(&self, name: &str, now: SystemTime) -> bool {
        let name = name.to_ascii_lowercase();
        let name = name.trim_end_matches('.');
        let wildcard = name.split_once('.').and_then(|(_, domain)| self.wildcard.get(domain));
        let lists = [self.exact.get(name), wildcard];
        lists.iter().flatten().flat_map(|list| list.iter()).any(|one| one.is_valid_at(now))
    }

    /// The best certificate for `name`: the most specific that is valid now, and failing that the
    /// most specific. `suits` says whether the client can do with it.
    fn find(
        &self,
        name: Option<&str>,
        now: SystemTime,
        suits: impl Fn(&Certificate) -> bool,
    ) -> Option<&Certificate> {
        // rustls gives names in lower case.
        let name = name.map(|name| name.strip_suffix('.').unwrap_or(name));
        let exact = name.and_then(|name| self.exact.get(name));
        let domain = name.and_then(|name| name.split_once('.')).map(|(_, domain)| domain);
        let wildcard = domain.and_then(|domain| self.wildcard.get(domain));
        let lists = [exact, wildcard, Some(&self.default)];
        let candidates = || lists.iter().flatten().flat_map(|list| list.iter());
        let mut suitable = candidates().filter(|one| suits(one));
        let valid = suitable.find(|one| one.is_valid_at(now));
        valid.or_else(|| candidates().find(|one| suits(one))).or_else(|| candidates().next())
    }
}

/// A [`CertMap`] that can be replaced while it is in use. Give it to
/// [`TlsConfig::builder`](super::TlsConfig::builder) as an `Arc`, and keep a clone of that.
#[derive(Debug)]
pub struct CertStore {
    map: ArcSwap<CertMap>,
}

impl CertStore {
    /// A store with these certificates.
    #[must_use]
    pub fn new(map: CertMap) -> Self {
        Self { map: ArcSwap::from_pointee(map) }
    }

    /// Replaces all certificates. Handshakes that begin after this see the new ones; connections
    /// and tickets live on.
    pub fn replace(&self, map: CertMap) {
        self.map.store(Arc::new(map));
    }

    /// The certificates of this moment.
    #[must_use]
    pub fn load(&self) -> Arc<CertMap> {
        self.map.load_full()
    }
}

impl ResolvesServerCert for CertStore {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = client_hello.signature_schemes();
        let suits = |one: &Certificate| one.key().key.choose_scheme(schemes).is_some();
        let map = self.map.load();
        let found = map.find(client_hello.server_name(), SystemTime::now(), suits);
        found.map(|certificate| certificate.key().clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tls::testing::{certificate, expired};

    fn map(names: &[&str]) -> CertMap {
        let mut map = CertMap::new();
        for name in names {
            match *name {
                "" => map.set_default(certificate(&["default"])),
                name => map.add(&certificate(&[name])).expect("has a name"),
            }
        }
        map
    }

    #[track_caller]
    fn check(map: &CertMap, name: Option<&str>, want: Option<&str>) {
        let found = map.find(name, SystemTime::now(), |_| true);
        let found = found.map(|certificate| certificate.names()[0].as_ref());
        assert_eq!(found, want, "asked for {name:?}");
    }

    #[test]
    fn the_most_specific_name_wins() {
        let all = map(&["a.test", "*.a.test", "x.a.test", ""]);
        check(&all, Some("a.test"), Some("a.test"));
        check(&all, Some("x.a.test"), Some("x.a.test"));
        check(&all, Some("y.a.test"), Some("*.a.test"));
        // RFC 9525 §6.3: a wildcard stands for one label.
        check(&all, Some("z.y.a.test"), Some("default"));
        check(&all, Some("test"), Some("default"));
        check(&all, None, Some("default"));
        let now = SystemTime::now();
        for (name, want) in
            [("A.test.", true), ("y.a.test", true), ("z.y.a.test", false), ("b", false)]
        {
            assert_eq!(all.covers(name, now), want, "{name}");
            assert!(!all.covers(name, now + Duration::from_secs(1 << 40)), "{name} has ended");
        }
        check(&map(&["a.test"]), Some("b.test"), None);
        check(&map(&["a.test"]), None, None);
    }

    #[test]
    fn an_expired_certificate_is_the_last_resort() {
        let mut both = map(&["*.a.test"]);
        both.add_as("x.a.test", expired(&["x.a.test"])).expect("a name");
        check(&both, Some("x.a.test"), Some("*.a.test"));
        let mut alone = CertMap::new();
        alone.add_as("x.a.test", expired(&["x.a.test"])).expect("a name");
        check(&alone, Some("x.a.test"), Some("x.a.test"));
    }

    #[test]
    fn a_client_gets_what_it_can_verify() {
        let mut two = CertMap::new();
        two.add_as("a.test", certificate(&["first"])).expect("a name");
        two.add_as("a.test", certificate(&["second"])).expect("a name");
        let suits = |one: &Certificate| one.names()[0].as_ref() == "second";
        let now = SystemTime::now() + Duration::from_secs(1);
        let found = two.find(Some("a.test"), now, suits).expect("one of them");
        assert_eq!(found.names()[0].as_ref(), "second");
    }

    #[test]
    fn names_are_checked() {
        let mut map = CertMap::new();
        for name in ["", "*", "*.", "a..b", "a b", "*.*.a", "a/b", &"a".repeat(254)] {
            let added = map.add_as(name, certificate(&["a.test"]));
            assert!(matches!(added, Err(CertError::InvalidName { .. })), "{name:?}");
        }
        map.add_as("EXAMPLE.test.", certificate(&["a.test"])).expect("a name");
        check(&map, Some("example.test"), Some("a.test"));
    }
}
