//! Accounts at authorities: made once, kept, and made again when they are lost.

use std::time::Duration;

use instant_acme::{Account, AccountCredentials, NewAccount};

use crate::{
    attention::{Attention, Code, Failure, FailureKind},
    authority::Authority,
    clock::{Clock, unix},
    problem::again,
    storage::{Storage, lock_within},
    transport::{Session, Transport},
};

/// What is needed to get at accounts.
pub(crate) struct Accounts<'a> {
    pub(crate) storage: &'a dyn Storage,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) contact: &'a [String],
    pub(crate) attention: &'a (dyn Fn(Attention) + Sync),
}

const LOCK_PATIENCE: Duration = Duration::from_secs(60);

impl Accounts<'_> {
    /// The account at `authority`; makes one where there is none.
    pub(crate) async fn open(
        &self,
        authority: &Authority,
        transport: &Transport,
    ) -> Result<(Account, Session), Failure> {
        let key = current(authority);
        let _lock = self.lock(authority).await?;
        let session = transport.session();
        for (key, is_current) in [(key.clone(), true), (previous(authority), false)] {
            let Some(bytes) = self.storage.load(&key).await? else { continue };
            let Some(credentials) = read(&bytes, &authority.directory) else {
                self.set_aside(authority, &key, &bytes).await?;
                continue;
            };
            let account = open_from(&session, authority, credentials).await?;
            if !is_current {
                self.storage.store(&current(authority), &bytes).await?;
            }
            return Ok((account, session));
        }
        let account = self.register(authority, &session).await?;
        Ok((account, session))
    }

    /// How the authority reaches a person.
    fn contact_urls(&self) -> Vec<String> {
        self.contact.iter().map(|one| as_url(one)).collect()
    }

    /// Forgets an account that the authority does not know.
    pub(crate) async fn forget(&self, authority: &Authority) -> Result<(), Failure> {
        let _lock = self.lock(authority).await?;
        self.storage.remove(&current(authority)).await?;
        self.storage.remove(&previous(authority)).await?;
        Ok(())
    }

    /// Gives the account a new key (RFC 8555 §7.3.5).
    pub(crate) async fn roll_key(
        &self,
        authority: &Authority,
        transport: &Transport,
    ) -> Result<(), Failure> {
        let (mut account, session) = self.open(authority, transport).await?;
        let _lock = self.lock(authority).await?;
        let credentials = again!(&session, &authority.name, account.update_key())?;
        // No generation is kept: the authority knows the old key no longer.
        self.storage.remove(&previous(authority)).await?;
        self.save(authority, &credentials).await
    }

    async fn register(&self, authority: &Authority, session: &Session) -> Result<Account, Failure> {
        let directory = session.transport().directory().await?;
        if directory.meta.external_account_required && authority.eab.is_none() {
            let sentence =
                "The authority issues only to accounts that are bound to one on its site.";
            return Err(Failure::of(
                FailureKind::Permanent,
                Code::EabRequired,
                &authority.name,
                sentence,
            ));
        }
        let contact = self.contact_urls();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let account = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let eab = authority.eab.as_ref().map(crate::Eab::external_account_key);
        let create = || {
            Account::builder_with_http(Box::new(session.clone())).create(
                &account,
                authority.directory.clone(),
                eab.as_ref(),
            )
        };
        let (account, credentials) = again!(session, &authority.name, create())?;
        self.save(authority, &credentials).await?;
        tracing::info!(authority = authority.name, "an account was made");
        Ok(account)
    }

    async fn save(
        &self,
        authority: &Authority,
        credentials: &AccountCredentials,
    ) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(credentials).map_err(|error| {
            Failure::of(FailureKind::Local, Code::Storage, &authority.name, format!("{error}."))
        })?;
        // Twice, so that one damaged file does not lose the account.
        self.storage.store(&current(authority), &bytes).await?;
        self.storage.store(&previous(authority), &bytes).await?;
        Ok(())
    }

    async fn set_aside(
        &self,
        authority: &Authority,
        key: &str,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let now = unix(self.clock.now());
        let aside = format!("accounts/{}.damaged-{now}", authority.name);
        self.storage.store(&aside, bytes).await?;
        self.storage.remove(key).await?;
        let sentence = format!("The account's file was damaged and is now {aside}.");
        (self.attention)(Attention::new(Code::AccountDamaged, &authority.name, sentence));
        Ok(())
    }

    async fn lock(&self, authority: &Authority) -> Result<crate::StorageLock, Failure> {
        let name = format!("account-{}", authority.name);
        let lock = lock_within(self.storage, &name, LOCK_PATIENCE).await?;
        lock.ok_or_else(|| {
            let sentence = "Another instance is working on the account.";
            Failure::of(FailureKind::Local, Code::StorageBusy, &authority.name, sentence)
        })
    }
}

async fn open_from(
    session: &Session,
    authority: &Authority,
    credentials: AccountCredentials,
) -> Result<Account, Failure> {
    let opened =
        Account::builder_with_http(Box::new(session.clone())).from_credentials(credentials).await;
    opened.map_err(|error| crate::problem::of_request(session, &authority.name, error))
}

/// The credentials, if they can be read, belong to that directory and hold a key.
fn read(bytes: &[u8], directory: &str) -> Option<AccountCredentials> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    if value.get("directory")?.as_str()? != directory {
        return None;
    }
    let credentials: AccountCredentials = serde_json::from_slice(bytes).ok()?;
    instant_acme::Key::from_pkcs8_der(credentials.private_key().clone_key()).ok()?;
    Some(credentials)
}

fn as_url(contact: &str) -> String {
    if contact.contains(':') { contact.to_owned() } else { format!("mailto:{contact}") }
}

fn current(authority: &Authority) -> String {
    format!("accounts/{}.json", authority.name)
}

fn previous(authority: &Authority) -> String {
    format!("accounts/{}.previous.json", authority.name)
}
