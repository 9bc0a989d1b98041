//! What a person should know: a code, a sentence, and what to do.

use std::{fmt, time::Duration, time::SystemTime};

use serde::{Deserialize, Serialize};

/// Something that needs a person's attention, or will if it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attention {
    /// Which of the documented cases it is.
    pub code: Code,
    /// The certificate, authority or file it is about.
    pub subject: String,
    /// What happened, as one sentence.
    pub sentence: String,
    /// What to do.
    pub fix: String,
    /// Who can do it.
    pub who: Who,
}

/// Who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Who {
    /// The authority, or the network on the way to it.
    Authority,
    /// Nobody: it will be tried again.
    Nobody,
    /// Who runs this machine: configuration, name service, router, disk.
    Operator,
}

macro_rules! codes {
    ($($(#[$doc:meta])+ $variant:ident $text:literal $who:ident $fix:literal;)*) => {
        /// The documented cases. Their text, such as `acme-rate-limited`, never changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])+ #[serde(rename = $text)] $variant,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code as it is written.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What to do.
            #[must_use]
            pub fn fix(self) -> &'static str {
                match self { $(Self::$variant => $fix,)* }
            }

            /// Who can do it.
            #[must_use]
            pub fn who(self) -> Who {
                match self { $(Self::$variant => Who::$who,)* }
            }
        }
    };
}

codes! {
    /// The account's file cannot be read; the generation before it, or a new account, took its place.
    AccountDamaged "account-damaged" Nobody
        "Nothing has to be done. If it happens again, check the disk.";
    /// The authority does not accept the account, or what is bound to it.
    AccountRefused "account-refused" Operator
        "Check the contact address and the external account binding of this authority in the configuration.";
    /// A CAA record forbids this authority to issue.
    Caa "acme-caa" Operator
        "Add a CAA record that names this authority, or remove the CAA records of the domain.";
    /// The authority could not connect to this machine.
    ChallengeConnection "acme-challenge-connection" Operator
        "Let the port through router and firewall (80 for http-01, 443 for tls-alpn-01), check that the name's address is this machine's, or use dns-01.";
    /// The authority found no usable record of the name.
    ChallengeDns "acme-challenge-dns" Operator
        "Give the name an A or AAAA record with this machine's address; for dns-01 check the TXT record at every name server.";
    /// The authority's TLS connection to this machine failed.
    ChallengeTls "acme-challenge-tls" Operator
        "Check that nothing between (a proxy, a CDN) ends TLS for this name, or use http-01 or dns-01.";
    /// Another answer came than the one expected: somebody else answers for the name.
    ChallengeWrongAnswer "acme-challenge-wrong-answer" Operator
        "Check that the name's address is this machine's, and that no other server answers on that port.";
    /// A certificate file is damaged; the one before it, if any, is used.
    CertificateDamaged "certificate-damaged" Nobody
        "A new certificate is being ordered. If it happens again, check the disk.";
    /// A certificate has ended.
    CertificateExpired "certificate-expired" Operator
        "See the other messages about this certificate for what keeps it from being renewed.";
    /// A certificate ends soon and was not renewed.
    CertificateExpiring "certificate-expiring" Operator
        "See the other messages about this certificate for what keeps it from being renewed.";
    /// An imported certificate or its key cannot be used.
    CertificateUnusable "certificate-unusable" Operator
        "Replace the files; the sentence says what is wrong with them.";
    /// The program or provider that sets DNS records failed.
    DnsSolver "dns-solver-failed" Operator
        "Check the provider's credentials, or run the hook program by hand.";
    /// The authority wants an external account binding and none is configured.
    EabRequired "acme-eab-required" Operator
        "Get a key identifier and an HMAC key from the authority, and configure them as external account binding.";
    /// What the authority answers is not ACME.
    Garbage "acme-garbage" Operator
        "Check the directory URL: something else answers there, perhaps a proxy or a captive portal.";
    /// A limit of the authority would be reached, so nothing was sent.
    LedgerLimit "acme-limit-near" Nobody
        "Nothing has to be done: the order is made when the limit allows it.";
    /// No challenge that the authority offers can be solved here.
    NoChallenge "acme-no-challenge" Operator
        "Configure dns-01 for wildcards; otherwise let one of the challenges that the sentence names be solved.";
    /// A name is not on the list of names for which certificates are had on demand.
    OnDemandRefused "on-demand-refused" Operator
        "Add the name to the allow-list, or let the ask endpoint answer with 2xx for it.";
    /// The order is gone, or its state makes no sense.
    OrderLost "acme-order-lost" Nobody
        "Nothing has to be done: a new order is made.";
    /// The authority does not know the profile.
    Profile "acme-profile-unknown" Operator
        "Choose one of the profiles that the authority offers, or none.";
    /// The authority limits us.
    RateLimited "acme-rate-limited" Nobody
        "Nothing has to be done: it is tried again when the authority allows it. If it happens often, order fewer names.";
    /// The authority will not issue for this name.
    RejectedIdentifier "acme-rejected-identifier" Operator
        "Use another name or another authority: this one does not issue for it.";
    /// The authority failed by itself.
    ServerError "acme-server-error" Authority
        "Nothing has to be done: it is tried again. The authority's status page may say more.";
    /// The storage failed.
    Storage "storage-failed" Operator
        "Check the disk's space, and that this user may write to the certificate folder.";
    /// Another instance works on the same certificate.
    StorageBusy "storage-busy" Nobody
        "Nothing has to be done: the other instance's certificate is used when it is there.";
    /// The keys of session tickets that the process before this one left were not taken over.
    TicketsRefused "tickets-refused" Nobody
        "Nothing has to be done: visitors shake hands anew. If it happens again, see who else writes to the state folder.";
    /// The authority wants the user to do something, such as agreeing to new terms.
    UserAction "acme-user-action" Operator
        "Open the page that the authority names and follow it.";
    /// The authority cannot be reached.
    Unreachable "acme-unreachable" Operator
        "Check this machine's internet connection, its name service, and that outgoing port 443 is open.";
    /// The authority's own certificate is not trusted.
    Untrusted "acme-untrusted" Operator
        "For a private authority give its root as CA file; otherwise check this machine's clock and who intercepts TLS.";
}

impl Attention {
    /// A message with the code's own fix.
    pub fn new(code: Code, subject: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self {
            code,
            subject: subject.into(),
            sentence: sentence.into(),
            fix: code.fix().to_owned(),
            who: code.who(),
        }
    }
}

impl fmt::Display for Attention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}] {}", self.subject, self.sentence, self.code.as_str(), self.fix)
    }
}

/// How an operation ended, where "not yet" is an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Outcome<T> {
    /// It is done.
    Done(T),
    /// It may succeed later.
    TryLater {
        /// Not before that time.
        at: SystemTime,
        /// Why.
        why: Box<Attention>,
    },
    /// It will not succeed before somebody changes something.
    Refused(Box<Attention>),
}

impl<T> Outcome<T> {
    /// The result, if it is done.
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(value) => Some(value),
            _ => None,
        }
    }

    /// Why it is not done.
    #[must_use]
    pub fn why(&self) -> Option<&Attention> {
        match self {
            Self::Done(_) => None,
            Self::TryLater { why, .. } | Self::Refused(why) => Some(why),
        }
    }
}

/// A failed step, inside this crate.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) attention: Box<Attention>,
    pub(crate) kind: FailureKind,
    /// How long the authority wants us to wait.
    pub(crate) retry_after: Option<Duration>,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The account is unknown to the authority: make a new one, once.
    AccountGone,
    /// The authority or the way to it; another authority may do better.
    Authority,
    /// The authority's random refusal of a nonce: again at once.
    BadNonce,
    /// Somebody must change something first.
    Permanent,
    /// Too many requests.
    RateLimited,
    /// The certificate that was to be replaced is not accepted as such: again without naming it.
    Replaces,
    /// This machine: storage, lock.
    Local,
    /// Our names, ports or records; no other authority would do better.
    Validation,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, attention: Attention) -> Self {
        Self { attention: Box::new(attention), kind, retry_after: None }
    }

    pub(crate) fn of(
        kind: FailureKind,
        code: Code,
        subject: impl Into<String>,
        sentence: impl Into<String>,
    ) -> Self {
        Self::new(kind, Attention::new(code, subject, sentence))
    }
}

impl From<crate::storage::StorageError> for Failure {
    fn from(error: crate::storage::StorageError) -> Self {
        let source = std::error::Error::source(&error).map(|source| format!(" ({source})"));
        let sentence = format!("{error}{}", source.unwrap_or_default());
        Self::of(FailureKind::Local, Code::Storage, "the certificate folder", sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_have_fixes() {
        let mut seen = std::collections::HashSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{}", code.as_str());
            assert!(code.fix().ends_with('.'), "{}", code.as_str());
        }
    }

    #[test]
    fn every_code_is_in_the_book() {
        let book = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/certificates.md");
        let book = std::fs::read_to_string(book).expect("the chapter on certificates");
        for code in Code::ALL {
            assert!(book.contains(&format!("`{}`", code.as_str())), "{} is missing", code.as_str());
        }
    }
}
