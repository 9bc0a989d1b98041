//! Which clients are not let in any more although an authority vouches for them: lists of revocations.

use std::time::SystemTime;

use rustls::pki_types::{CertificateRevocationListDer, pem::PemObject};
use x509_parser::{parse_x509_crl, x509::X509Name};

use crate::clock::from_unix;

/// Lists of certificates that are void before their time (CRL, RFC 5280 §5), from a PEM file. Equal where they are the
/// same lists in whatever order.
#[derive(Debug, Clone, Default)]
pub struct RevocationLists {
    /// Sorted, none twice.
    lists: Vec<List>,
}

#[derive(Debug, Clone)]
struct List {
    der: CertificateRevocationListDer<'static>,
    /// Whose clients it is about, as in certificates.
    issuer: Vec<u8>,
    /// The same for people.
    shown: String,
    /// When the next one is there at the latest.
    next_update: Option<SystemTime>,
}

/// Why a text is no list. Who wrote the file must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationListsError {
    /// What is between the markers is no list.
    #[error("list number {position} is damaged")]
    Malformed {
        /// Its place in the file, from 1.
        position: usize,
    },
    /// There is none.
    #[error("it holds no list of revocations")]
    NoList,
    /// A list of a kind that is not read: a delta, an indirect one, one without an end.
    #[error("list number {position} ({issuer}) is of a kind that is not supported: {reason}")]
    Unsupported {
        /// Its place among the lists, from 1.
        position: usize,
        /// Whose it is.
        issuer: String,
        /// What is said of it.
        reason: String,
    },
}

impl RevocationLists {
    /// Reads lists. Who signed them is looked at when a client comes.
    ///
    /// # Errors
    /// [`RevocationListsError`] names the first list that is wrong.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RevocationListsError> {
        let mut lists = Vec::new();
        for (index, der) in CertificateRevocationListDer::pem_slice_iter(pem).enumerate() {
            let malformed = RevocationListsError::Malformed { position: index + 1 };
            let Ok(der) = der else { return Err(malformed) };
            lists.push(List::read(der).ok_or(malformed)?);
        }
        if lists.is_empty() {
            return Err(RevocationListsError::NoList);
        }
        lists.sort_by(|one, other| one.der.as_ref().cmp(other.der.as_ref()));
        lists.dedup_by(|one, other| one.der == other.der);
        Ok(Self { lists })
    }

    /// Whose lists have ended at that time: none of their clients is let in until there are newer ones.
    #[must_use]
    pub fn ended_at(&self, now: SystemTime) -> Vec<String> {
        let is_ended = |list: &&List| list.next_update.is_some_and(|until| until < now);
        self.lists.iter().filter(is_ended).map(|list| list.shown.clone()).collect()
    }

    /// Whether one is about the clients of an authority with this subject, in DER form.
    pub(crate) fn has_issuer(&self, subject: &[u8]) -> bool {
        self.lists.iter().any(|list| list.issuer == subject)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// For rustls.
    pub(crate) fn ders(&self) -> impl Iterator<Item = CertificateRevocationListDer<'static>> {
        self.lists.iter().map(|list| list.der.clone())
    }

    /// Whose the list with this place is.
    pub(crate) fn shown(&self, index: usize) -> String {
        self.lists.get(index).map(|list| list.shown.clone()).unwrap_or_default()
    }
}

impl List {
    fn read(der: CertificateRevocationListDer<'static>) -> Option<Self> {
        let (rest, parsed) = parse_x509_crl(&der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let name: &X509Name<'_> = parsed.issuer();
        let (issuer, shown) = (name.as_raw().to_vec(), name.to_string());
        let until = parsed.next_update().map(|until| until.timestamp());
        let next_update = until.map(|until| from_unix(u64::try_from(until).unwrap_or(0)));
        Some(Self { der, issuer, shown, next_update })
    }
}

impl PartialEq for RevocationLists {
    fn eq(&self, other: &Self) -> bool {
        self.ders().eq(other.ders())
    }
}

impl Eq for RevocationLists {}
