//! Who vouches for clients: the authorities of a PEM file.

use std::{sync::Arc, time::SystemTime};

use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use crate::{
    facts,
    revocation::{RevocationLists, RevocationListsError},
};

/// Authorities whose clients are let in, and which of these are not any more. Equal where they are the same in whatever
/// order.
#[derive(Debug, Clone)]
pub struct ClientAuthorities {
    /// Sorted, none twice.
    certificates: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
    revoked: RevocationLists,
}

/// Why a text names no authorities. Who wrote the file must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientAuthoritiesError {
    /// What is between the markers is no certificate.
    #[error("certificate number {position} is damaged")]
    Malformed {
        /// Its place in the file, from 1.
        position: usize,
    },
    /// There is none.
    #[error("it holds no certificate")]
    NoCertificate,
    /// A certificate that was issued by somebody else and may not issue others: nobody can have one of it.
    #[error("certificate number {position} ({subject}) is not an authority's")]
    NotAuthority {
        /// Its place in the file, from 1.
        position: usize,
        /// Whose it is.
        subject: String,
    },
}

impl ClientAuthorities {
    /// Reads the certificates of authorities. One that signed itself may also be a client's own.
    ///
    /// # Errors
    /// [`ClientAuthoritiesError`] names the first certificate that is wrong.
    pub fn from_pem(pem: &[u8]) -> Result<Self, ClientAuthoritiesError> {
        let mut certificates = Vec::new();
        let mut roots = RootCertStore::empty();
        for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let position = index + 1;
            let malformed = ClientAuthoritiesError::Malformed { position };
            let Ok(certificate) = certificate else { return Err(malformed) };
            let Some(facts) = facts::read(&certificate) else { return Err(malformed) };
            if !facts.is_authority && facts.subject != facts.issuer {
                let subject = facts::show_subject(&certificate);
                return Err(ClientAuthoritiesError::NotAuthority { position, subject });
            }
            roots.add(certificate.clone()).map_err(|_| malformed)?;
            certificates.push(certificate);
        }
        if certificates.is_empty() {
            return Err(ClientAuthoritiesError::NoCertificate);
        }
        certificates.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
        certificates.dedup();
        let revoked = RevocationLists::default();
        Ok(Self { certificates, roots: Arc::new(roots), revoked })
    }

    /// Sends clients away that are on one of these lists, or whose authority has no list among them that has not ended:
    /// a list that was kept back lets nobody in. Authorities between are looked up, too.
    ///
    /// # Errors
    /// [`RevocationListsError::Unsupported`].
    pub fn with_revocations(
        mut self,
        lists: RevocationLists,
    ) -> Result<Self, RevocationListsError> {
        for (index, list) in lists.ders().enumerate() {
            let provider = Arc::new(aws_lc_rs::default_provider());
            let builder = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider);
            if let Err(error) = builder.with_crls([list]).build() {
                return Err(RevocationListsError::Unsupported {
                    position: index + 1,
                    issuer: lists.shown(index),
                    reason: error.to_string(),
                });
            }
        }
        self.revoked = lists;
        Ok(self)
    }

    /// The authorities that no list is about, where there are lists: none of their clients is let in.
    #[must_use]
    pub fn without_list(&self) -> Vec<String> {
        let is_without = |certificate: &&CertificateDer<'_>| {
            let subject = facts::read(certificate).map(|facts| facts.subject);
            subject.is_some_and(|subject| !self.revoked.has_issuer(&subject))
        };
        let has_lists = !self.revoked.is_empty();
        let without = self.certificates.iter().filter(|_| has_lists).filter(is_without);
        without.map(|certificate| facts::show_subject(certificate)).collect()
    }

    /// Whose lists have ended at that time.
    #[must_use]
    pub fn lists_ended_at(&self, now: SystemTime) -> Vec<String> {
        self.revoked.ended_at(now)
    }

    /// Whose certificates are not valid at that time. They vouch all the same: an authority's own dates bind
    /// nobody who has chosen to trust it (RFC 5280 §6.1.1 (d)), but other servers may see it differently.
    #[must_use]
    pub fn ended_at(&self, now: SystemTime) -> Vec<String> {
        let is_ended = |certificate: &&CertificateDer<'_>| {
            facts::read(certificate).is_some_and(|facts| facts.not_after < now)
        };
        let ended = self.certificates.iter().filter(is_ended);
        ended.map(|certificate| facts::show_subject(certificate)).collect()
    }

    /// Lets clients in that one of these vouches for. `may_do_without` lets those in, too, that show no
    /// certificate; a wrong one is refused even then.
    ///
    /// Clients are told the authorities, so that browsers offer fitting certificates only.
    ///
    /// # Errors
    /// What rustls says; the authorities were looked at before, so there should be none.
    pub fn verifier(
        &self,
        may_do_without: bool,
    ) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut builder = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider);
        let told: usize = self.roots.subjects().iter().map(|name| name.as_ref().len() + 2).sum();
        if told > TOLD_BYTES_MAX {
            builder = builder.clear_root_hint_subjects();
        }
        if !self.revoked.is_empty() {
            builder = builder.with_crls(self.revoked.ders()).enforce_revocation_expiration();
        }
        if may_do_without {
            builder = builder.allow_unauthenticated();
        }
        builder.build()
    }
}

impl PartialEq for ClientAuthorities {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates && self.revoked == other.revoked
    }
}

impl Eq for ClientAuthorities {}

/// Above this, clients are not told the authorities: a handshake would become too large for some of them, and
/// the list is optional (RFC 8446 §4.2.4).
const TOLD_BYTES_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    use rustls::pki_types::UnixTime;

    use super::*;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn authority(name: &str) -> Authority {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed")
    }

    fn client(authority: &Authority) -> rcgen::Certificate {
        let key = KeyPair::generate().expect("a key");
        params("client").signed_by(&key, authority).expect("signed")
    }

    fn pem(authority: &Authority) -> String {
        let certificate: &rcgen::Certificate = authority.as_ref();
        certificate.pem()
    }

    #[test]
    fn what_is_wrong_is_named() {
        let one = authority("one");
        let leaf = client(&one).pem();
        let not = |position| ClientAuthoritiesError::NotAuthority {
            position,
            subject: "CN=client".to_owned(),
        };
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, want) in [
            (String::new(), ClientAuthoritiesError::NoCertificate),
            ("hello".to_owned(), ClientAuthoritiesError::NoCertificate),
            (leaf.clone(), not(1)),
            (format!("{}{leaf}", pem(&one)), not(2)),
            (format!("{}{damaged}", pem(&one)), ClientAuthoritiesError::Malformed { position: 2 }),
            (
                pem(&one).replacen("MII", "!!!", 1),
                ClientAuthoritiesError::Malformed { position: 1 },
            ),
        ] {
            let error = ClientAuthorities::from_pem(text.as_bytes()).expect_err("it is wrong");
            assert_eq!(error, want, "{text}");
        }
    }

    #[test]
    fn the_same_authorities_are_equal_in_any_order() {
        let (one, two) = (pem(&authority("one")), pem(&authority("two")));
        let read = |text: String| ClientAuthorities::from_pem(text.as_bytes()).expect("fine");
        assert_eq!(read(format!("{one}{two}")), read(format!("{two}{one}{two}")));
        assert_ne!(read(one.clone()), read(two));
        let later = SystemTime::now() + Duration::from_secs(100 * 365 * 86_400);
        assert_eq!(read(one.clone()).ended_at(SystemTime::now()), [""; 0]);
        assert_eq!(read(one).ended_at(later), ["CN=one"]);
    }

    #[test]
    fn who_is_vouched_for_is_let_in() {
        let (one, two) = (authority("one"), authority("two"));
        let own = params("own").self_signed(&KeyPair::generate().expect("a key")).expect("signed");
        let rows = [
            ("of one of them", client(&one), true),
            ("of the other", client(&two), true),
            ("of nobody here", client(&authority("three")), false),
            // Named by itself.
            ("its own authority", own.clone(), true),
        ];
        let text = format!("{}{}{}", pem(&one), pem(&two), own.pem());
        let known = ClientAuthorities::from_pem(text.as_bytes()).expect("fine");
        for may_do_without in [false, true] {
            let verifier = known.verifier(may_do_without).expect("roots");
            assert_eq!(verifier.client_auth_mandatory(), !may_do_without);
            assert_eq!(verifier.root_hint_subjects().len(), 3);
            for (who, certificate, want) in &rows {
                let found = verifier.verify_client_cert(certificate.der(), &[], UnixTime::now());
                assert_eq!(found.is_ok(), *want, "{who}: {found:?}");
            }
        }
    }

    /// A list of `authority`, with these serial numbers on it, that ends so many days from now.
    fn list(authority: &Authority, serials: &[u64], days: i64) -> String {
        let now = time::OffsetDateTime::now_utc();
        let revoked = |serial: &u64| rcgen::RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: now - time::Duration::days(20),
            reason_code: Some(rcgen::RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let params = rcgen::CertificateRevocationListParams {
            this_update: now - time::Duration::days(30),
            next_update: now + time::Duration::days(days),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(authority).expect("signed").pem().expect("PEM")
    }

    fn numbered(authority: &Authority, serial: u64) -> rcgen::Certificate {
        let mut params = params("client");
        params.serial_number = Some(serial.into());
        params.signed_by(&KeyPair::generate().expect("a key"), authority).expect("signed")
    }

    #[test]
    fn who_is_revoked_is_not_let_in() {
        let (one, two) = (authority("one"), authority("two"));
        let forged = {
            let mut params = params("one");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
        };
        let forged = forged.expect("signed");
        let pem = format!("{}{}", pem(&one), pem(&two));
        let known = ClientAuthorities::from_pem(pem.as_bytes()).expect("fine");
        let (good, revoked, of_two) = (numbered(&one, 1), numbered(&one, 2), numbered(&two, 2));
        // Lists; whether each of the three is let in; who has no list.
        let without: &[&str] = &["CN=two"];
        let both = format!("{}{}", list(&one, &[2], 1), list(&two, &[7], 1));
        let rows: &[(&str, String, [bool; 3], &[&str])] = &[
            ("both have one", both, [true, false, true], &[]),
            ("one has one", list(&one, &[2], 1), [true, false, false], without),
            ("an empty one", list(&one, &[], 1), [true, true, false], without),
            ("one that has ended", list(&one, &[2], -1), [false, false, false], without),
            ("one that is forged", list(&forged, &[], 1), [false, false, false], without),
        ];
        for (what, text, want, without) in rows {
            let lists = RevocationLists::from_pem(text.as_bytes()).expect("lists");
            let has_ended = !lists.ended_at(SystemTime::now()).is_empty();
            assert_eq!(has_ended, *what == "one that has ended", "{what}");
            let known = known.clone().with_revocations(lists).expect(what);
            assert_eq!(known.without_list(), *without, "{what}");
            let verifier = known.verifier(true).expect("roots");
            let is_let_in = |certificate: &rcgen::Certificate| {
                verifier.verify_client_cert(certificate.der(), &[], UnixTime::now()).is_ok()
            };
            assert_eq!([&good, &revoked, &of_two].map(is_let_in), *want, "{what}");
        }
        assert_eq!(known.without_list(), [""; 0], "there are no lists at all");
    }

    #[test]
    fn lists_are_told_apart() {
        let (one, two) = (authority("one"), authority("two"));
        let (first, second) = (list(&one, &[1], 1), list(&two, &[], 1));
        let read = |text: &str| RevocationLists::from_pem(text.as_bytes());
        let both = read(&format!("{first}{second}"));
        assert_eq!(both, read(&format!("{second}{first}{second}")));
        assert_ne!(both, read(&first));
        let damaged = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
        for (text, want) in [
            (pem(&one), RevocationListsError::NoList),
            (String::new(), RevocationListsError::NoList),
            (damaged.to_owned(), RevocationListsError::Malformed { position: 1 }),
            (format!("{first}{damaged}"), RevocationListsError::Malformed { position: 2 }),
            (
                first.replacen("MII", "!!!", 1).replacen("MIH", "!!!", 1),
                RevocationListsError::Malformed { position: 1 },
            ),
        ] {
            assert_eq!(read(&text), Err(want), "{text}");
        }
        let known = ClientAuthorities::from_pem(pem(&one).as_bytes()).expect("fine");
        let with = known.clone().with_revocations(read(&first).expect("a list")).expect("usable");
        assert_ne!(known, with, "other clients are let in");
    }

    #[test]
    fn a_list_that_is_too_long_is_not_told() {
        let name = |number: usize| format!("{number:0>100}");
        let long: String = (0..100).map(|number| pem(&authority(&name(number)))).collect();
        let known = ClientAuthorities::from_pem(long.as_bytes()).expect("fine");
        assert!(known.verifier(false).expect("roots").root_hint_subjects().is_empty());
    }
}
