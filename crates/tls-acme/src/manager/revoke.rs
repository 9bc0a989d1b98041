//! Revocation, and new keys for accounts.

use std::time::Duration;

use instant_acme::RevocationRequest;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{Event, Manager};
use crate::{
    account::Accounts,
    attention::{Attention, Code, Failure, FailureKind, Outcome},
    authority::Authority,
    problem::again,
};

/// Why a certificate is revoked (RFC 5280 §5.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RevocationReason {
    /// It is not said.
    #[default]
    Unspecified,
    /// Somebody else has, or may have, the key.
    KeyCompromise,
    /// There is a newer one.
    Superseded,
    /// The name is not ours any more, or the site is closed.
    CessationOfOperation,
}

impl Manager {
    /// Revokes the stored certificate `id` and removes it, with the one before it.
    ///
    /// # Cancel safety
    /// It may be revoked and still be stored.
    pub async fn revoke(&self, id: &str, reason: RevocationReason) -> Outcome<()> {
        match self.try_revoke(id, reason).await {
            Ok(()) => {
                let _nobody_listens = self.0.events.send(Event::Revoked { id: id.to_owned() });
                Outcome::Done(())
            }
            Err(failure) => self.ended(id, &failure, self.now() + Duration::from_secs(60)),
        }
    }

    /// Gives the account at the authority of that name a new key.
    ///
    /// # Cancel safety
    /// The authority may know the new key while only the old one is stored: then a new account is made
    /// when it is needed.
    pub async fn roll_account_key(&self, authority: &str) -> Outcome<()> {
        let found = self.0.options.authorities.iter().find(|one| one.name == authority);
        let Some(found) = found else {
            let sentence = "There is no authority of that name.";
            return Outcome::Refused(Box::new(Attention::new(
                Code::AccountRefused,
                authority,
                sentence,
            )));
        };
        let attend = |attention| self.attend(attention);
        let rolled = match self.transport(found) {
            Ok(transport) => self.accounts(&attend).roll_key(found, &transport).await,
            Err(failure) => Err(failure),
        };
        match rolled {
            Ok(()) => Outcome::Done(()),
            Err(failure) => self.ended(authority, &failure, self.now() + Duration::from_secs(60)),
        }
    }

    fn accounts<'a>(&'a self, attention: &'a (dyn Fn(Attention) + Sync)) -> Accounts<'a> {
        Accounts {
            storage: self.storage(),
            clock: self.0.options.clock.as_ref(),
            contact: &self.0.options.contact,
            attention,
        }
    }

    async fn try_revoke(&self, id: &str, reason: RevocationReason) -> Result<(), Failure> {
        let _turn = self.turn(id).await;
        let refused = |sentence: &str| {
            Failure::of(FailureKind::Permanent, Code::CertificateUnusable, id, sentence)
        };
        let stored =
            self.load(id).await?.ok_or_else(|| refused("There is no certificate of that name."))?;
        let by_directory = |one: &&Authority| one.directory == stored.origin.directory;
        let authority = self.0.options.authorities.iter().find(by_directory);
        let authority =
            authority.ok_or_else(|| refused("The authority that issued it is not configured."))?;
        let transport = self.transport(authority)?;
        let attend = |attention| self.attend(attention);
        let (account, session) = self.accounts(&attend).open(authority, &transport).await?;
        let own = CertificateDer::from_pem_slice(stored.chain_pem.as_bytes())
            .map_err(|_| refused("The stored certificate is damaged."))?;
        let request = RevocationRequest { certificate: &own, reason: Some(reason.acme()) };
        let revoked = again!(&session, id, account.revoke(&request));
        match revoked {
            // RFC 8555 §7.6: it was revoked before.
            Err(failure) if failure.attention.sentence.to_ascii_lowercase().contains("already") => {
            }
            other => other?,
        }
        self.0.vault.remove(id).await?;
        self.0.served.lock().managed.remove(id);
        self.rebuild();
        Ok(())
    }
}

impl RevocationReason {
    fn acme(self) -> instant_acme::RevocationReason {
        match self {
            Self::Unspecified => instant_acme::RevocationReason::Unspecified,
            Self::KeyCompromise => instant_acme::RevocationReason::KeyCompromise,
            Self::Superseded => instant_acme::RevocationReason::Superseded,
            Self::CessationOfOperation => instant_acme::RevocationReason::CessationOfOperation,
        }
    }
}
