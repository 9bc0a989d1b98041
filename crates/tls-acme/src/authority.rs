//! Who issues.

use std::{fmt, path::PathBuf, time::Duration};

use crate::ledger::RateLimits;

/// An authority that speaks ACME.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Authority {
    /// What it is called here; also the name of its account's file: `[a-z0-9-]`.
    pub name: String,
    /// The URL of its directory.
    pub directory: String,
    /// The URL of a directory for trials, whose limits are wide. After a failure orders are tried there
    /// first. Default none.
    pub staging: Option<String>,
    /// Who vouches for the directory's own TLS certificate. Default: the public authorities.
    pub roots: Roots,
    /// What binds our account to one that exists there. Default none.
    pub eab: Option<Eab>,
    /// The profile that is ordered where a request names none. Default: the authority's.
    pub profile: Option<String>,
    /// Its limits. Default: ten orders in ten seconds.
    pub limits: RateLimits,
    /// How long one exchange may take. Default 30 s.
    pub timeout: Duration,
}

/// Who vouches for a directory.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Roots {
    /// The authorities in a PEM file, read when they are needed.
    File(PathBuf),
    /// These authorities.
    Pem(Vec<u8>),
    /// The authorities that Mozilla trusted when this program was built.
    #[default]
    Public,
}

/// An external account binding (RFC 8555 §7.3.4).
#[derive(Clone)]
pub struct Eab {
    key_id: String,
    hmac_key: Vec<u8>,
}

/// The HMAC key is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the HMAC key of the external account binding is not base64: copy it again from the authority's page"
)]
pub struct InvalidEab;

impl Authority {
    /// An authority by its directory URL.
    pub fn new(name: impl Into<String>, directory: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            directory: directory.into(),
            staging: None,
            roots: Roots::default(),
            eab: None,
            profile: None,
            limits: RateLimits::polite(),
            timeout: Duration::from_secs(30),
        }
    }

    /// Let's Encrypt, with its staging directory, its limits and its profile for servers.
    #[must_use]
    pub fn lets_encrypt() -> Self {
        let mut this = Self::new("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory");
        this.staging = Some("https://acme-staging-v02.api.letsencrypt.org/directory".to_owned());
        this.profile = Some("tlsserver".to_owned());
        this.limits = RateLimits::lets_encrypt();
        this
    }

    /// ZeroSSL, which wants an external account binding.
    #[must_use]
    pub fn zerossl(eab: Eab) -> Self {
        let mut this = Self::new("zerossl", "https://acme.zerossl.com/v2/DV90");
        this.eab = Some(eab);
        this
    }

    /// Google Trust Services, which wants an external account binding.
    #[must_use]
    pub fn google(eab: Eab) -> Self {
        let mut this = Self::new("google", "https://dv.acme-v02.api.pki.goog/directory");
        this.eab = Some(eab);
        this
    }

    /// The staging directory as an authority of its own.
    pub(crate) fn as_staging(&self) -> Option<Self> {
        let mut this = self.clone();
        this.directory = self.staging.clone()?;
        this.name = format!("{}-staging", self.name);
        this.staging = None;
        this.limits = RateLimits::polite();
        Some(this)
    }
}

impl Eab {
    /// A binding from what the authority's page shows: key identifier, and HMAC key in base64 (of either
    /// alphabet).
    ///
    /// # Errors
    /// [`InvalidEab`].
    pub fn new(key_id: impl Into<String>, hmac_key: &str) -> Result<Self, InvalidEab> {
        let hmac_key =
            decode_base64(hmac_key.trim()).filter(|key| !key.is_empty()).ok_or(InvalidEab)?;
        Ok(Self { key_id: key_id.into(), hmac_key })
    }

    pub(crate) fn external_account_key(&self) -> instant_acme::ExternalAccountKey {
        instant_acme::ExternalAccountKey::new(self.key_id.clone(), &self.hmac_key)
    }
}

impl fmt::Debug for Eab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Eab").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// Both alphabets, with or without padding.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').bytes().map(|byte| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    });
    let digits: Vec<u8> = digits.collect::<Option<_>>()?;
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let bits = group.iter().fold(0u32, |bits, digit| bits << 6 | u32::from(*digit));
        let bits = bits << (6 * (4 - group.len()));
        bytes.extend(bits.to_be_bytes().into_iter().skip(1).take(group.len() - 1));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_base64() {
        for (text, want) in [
            ("", ""),
            ("Zg", "f"),
            ("Zg==", "f"),
            ("Zm8", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYmE=", "fooba"),
        ] {
            assert_eq!(decode_base64(text).as_deref(), Some(want.as_bytes()), "{text}");
        }
        assert_eq!(decode_base64("-_+/"), Some(vec![0xfb, 0xff, 0xbf]));
        assert_eq!(decode_base64("Zm9v!"), None);
        assert_eq!(decode_base64("Zm9vY"), None);
        assert!(Eab::new("kid", "").is_err());
    }
}
