//! From the configuration to who has certificates.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::SystemTime};

use hearth_netsvc::{
    ddns::{Dns01, Dns01Error, Dns01Record, ProviderContext, Remedy},
    dns::{DnsClient, DnsOptions},
};
use hearth_tls_acme::{
    Authority, CertRequest, Challenges, Code, DnsSolver, Eab, FileStorage, HookSolver, Http01,
    Loaded, Manager, ManagerOptions, Name, OnDemand, Roots, SolverError, SolverFuture, Storage,
    Vault,
};
use tokio::sync::Mutex;

use crate::{
    config::{Challenge, LETS_ENCRYPT},
    doctor::facts::CertificateFacts,
    outside,
    plan::network::{Acme, Ddns},
    state,
};

/// The manager that a configuration describes.
///
/// # Errors
/// Why there is none, in a sentence.
pub fn manager(acme: &Acme, ddns: Option<&Ddns>) -> Result<Manager, String> {
    let storage = storage(acme)?;
    let mut options = ManagerOptions::new(storage.clone());
    // Of several servers with one store any may be asked.
    options.http01 = Http01::shared(storage);
    options.authorities = authorities(acme)?;
    options.contact = acme.email.iter().cloned().collect();
    options.challenges = challenges(acme, ddns)?;
    if !acme.allow.is_empty() || acme.ask.is_some() {
        let allow = acme.allow.iter().map(|name| name.parse::<Name>());
        let allow = allow.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        let mut on_demand = OnDemand::allow(allow);
        on_demand.ask.clone_from(&acme.ask);
        on_demand.handshake_wait = acme.wait;
        options.on_demand = Some(on_demand);
    }
    Ok(Manager::new(options))
}

/// A request for these names.
///
/// # Errors
/// Which of them is none.
pub fn request(names: &[String], acme: &Acme) -> Result<CertRequest, String> {
    let names = names.iter().map(|name| name.parse::<Name>());
    let names = names.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    let mut request = CertRequest::new(names).map_err(|error| error.to_string())?;
    request.profile.clone_from(&acme.profile);
    Ok(request)
}

/// What is known of the certificate for a name and of the last attempt to have one.
pub async fn known(acme: &Acme, name: &str) -> CertificateFacts {
    let mut facts = CertificateFacts::default();
    let Ok(request) = request(&[name.to_owned()], acme) else { return facts };
    // A doctor makes no folders.
    let Some(storage) = acme.storage.is_dir().then(|| storage(acme).ok()).flatten() else {
        return facts;
    };
    let id = request.id();
    let unix = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    };
    let now = unix(SystemTime::now());
    if let Ok(Loaded::Current(stored) | Loaded::Previous(stored, _)) =
        Vault::new(storage.clone()).load(&id).await
    {
        let left = unix(stored.not_after).cast_signed() - now.cast_signed();
        facts.seconds_left = Some(left);
    }
    let state = storage.load(&format!("state/{id}.json")).await.ok().flatten();
    let state = state.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    let Some(state) = state else { return facts };
    let code = Code::ALL.iter().find(|code| state["last_code"] == code.as_str());
    if let Some(code) = code
        && !matches!(code, Code::RateLimited | Code::LedgerLimit)
        && state["failures"].as_u64().is_some_and(|count| count > 0)
    {
        facts.failed = Some((code.as_str().to_owned(), code.fix().to_owned()));
    }
    facts
}

/// For how many seconds an authority takes no order for this name, and why.
pub async fn limited(acme: &Acme, authority: &Authority, name: &str) -> Option<(u64, String)> {
    let request = request(&[name.to_owned()], acme).ok()?;
    // A doctor makes no folders.
    let storage = acme.storage.is_dir().then(|| storage(acme).ok()).flatten()?;
    let now = SystemTime::now();
    let limit = authority.limit(storage.as_ref(), &request, now).await.ok().flatten()?;
    let left = limit.until.duration_since(now).unwrap_or_default();
    Some((left.as_secs(), limit.why))
}

/// Where certificates are kept.
///
/// # Errors
/// Why they cannot be.
pub fn storage(acme: &Acme) -> Result<Arc<dyn Storage>, String> {
    let folder = &acme.storage;
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", folder.display());
    state::make_private(folder).map_err(|error| failed(&error))?;
    Ok(Arc::new(FileStorage::open(folder).map_err(|error| failed(&error))?))
}

/// What the first authority is called here.
///
/// # Errors
/// Why it is none.
pub fn authority_name(acme: &Acme) -> Result<String, String> {
    Ok(authorities(acme)?.swap_remove(0).name)
}

/// Those who are asked, best first.
///
/// # Errors
/// Why one of them is none.
pub fn authorities(acme: &Acme) -> Result<Vec<Authority>, String> {
    let mut first = authority(&acme.directory, acme.ca_file.as_ref(), acme.eab.as_ref())?;
    if let Some(staging) = &acme.staging {
        first.staging = Some(staging.clone());
    }
    let mut all = vec![first];
    for other in &acme.fallback {
        let mut next = authority(&other.directory, other.ca_file.as_ref(), other.eab.as_ref())?;
        // One of another path on the same host has an account of its own.
        while let Some(same) = all.iter().find(|known| known.name == next.name) {
            if same.directory == next.directory {
                return Err(format!("`{}` is among the authorities twice", next.directory));
            }
            next.name.push_str("-2");
        }
        all.push(next);
    }
    Ok(all)
}

fn authority(
    directory: &str,
    ca_file: Option<&PathBuf>,
    eab: Option<&(String, String)>,
) -> Result<Authority, String> {
    let mut authority = if directory == LETS_ENCRYPT {
        Authority::lets_encrypt()
    } else {
        // The account's file is named after the host.
        let host = directory.trim_start_matches("https://").split('/').next();
        let keep =
            |char: char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '-' };
        let name: String = host.unwrap_or_default().chars().map(keep).collect();
        Authority::new(name, directory)
    };
    if let Some(file) = ca_file {
        authority.roots = Roots::File(file.clone());
    }
    if let Some((id, key)) = eab {
        authority.eab = Some(Eab::new(id, key).map_err(|error| error.to_string())?);
    }
    Ok(authority)
}

fn challenges(acme: &Acme, ddns: Option<&Ddns>) -> Result<Challenges, String> {
    let wants = |challenge| acme.challenge.is_none_or(|wanted| wanted == challenge);
    let mut challenges = Challenges::default();
    challenges.http01 = wants(Challenge::Http01);
    challenges.tls_alpn01 = wants(Challenge::TlsAlpn01);
    if wants(Challenge::Dns01) {
        challenges.dns01 = solver(acme, ddns)?;
        if challenges.dns01.is_none() && acme.challenge.is_some() {
            return Err("dns-01 needs `ddns` or `tls.acme.dns_hook`".to_owned());
        }
    }
    Ok(challenges)
}

fn solver(acme: &Acme, ddns: Option<&Ddns>) -> Result<Option<Arc<dyn DnsSolver>>, String> {
    if let Some(program) = &acme.dns_hook {
        return Ok(Some(Arc::new(HookSolver::new(program))));
    }
    let Some(ddns) = ddns.filter(|ddns| ddns.settings.info().has_txt) else { return Ok(None) };
    let dns = DnsClient::new(DnsOptions::from_system());
    let client = outside::client(None).map_err(|error| error.to_string())?;
    let context = ProviderContext::new(client, dns.clone());
    let provider = ddns.settings.build(&context).map_err(|error| error.to_string())?;
    Ok(Some(Arc::new(ByProvider { dns01: Dns01::new(provider, dns), shown: Mutex::default() })))
}

/// Answers to DNS-01 through the service of dynamic DNS.
struct ByProvider {
    dns01: Dns01,
    /// By the name and value that the manager knows.
    shown: Mutex<HashMap<(String, String), Dns01Record>>,
}

impl ByProvider {
    async fn record(&self, name: &str, value: &str) -> Option<Dns01Record> {
        let key = (name.to_owned(), value.to_owned());
        self.shown.lock().await.get(&key).cloned()
    }
}

impl DnsSolver for ByProvider {
    fn present<'a>(&'a self, name: &'a str, value: &'a str) -> SolverFuture<'a> {
        Box::pin(async move {
            let domain = name.strip_prefix("_acme-challenge.").unwrap_or(name);
            let record = self.dns01.present(domain, value).await.map_err(|error| told(&error))?;
            self.shown.lock().await.insert((name.to_owned(), value.to_owned()), record);
            Ok(())
        })
    }

    fn wait<'a>(&'a self, name: &'a str, value: &'a str) -> SolverFuture<'a> {
        Box::pin(async move {
            match self.record(name, value).await {
                Some(record) => match self.dns01.wait(&record).await {
                    Ok(_) => Ok(()),
                    Err(error) => Err(told(&error)),
                },
                None => Ok(()),
            }
        })
    }

    fn cleanup<'a>(&'a self, name: &'a str, value: &'a str) -> SolverFuture<'a> {
        Box::pin(async move {
            if let Some(record) = self.record(name, value).await {
                self.dns01.clean_up(&record).await.map_err(|error| told(&error))?;
                self.shown.lock().await.remove(&(name.to_owned(), value.to_owned()));
            }
            Ok(())
        })
    }
}

impl std::fmt::Debug for ByProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ByProvider")
    }
}

fn told(error: &Dns01Error) -> SolverError {
    let text = format!("{} [{}]", outside::causes(error), error.code());
    match error {
        Dns01Error::Provider(inner) if inner.kind().remedy() == Remedy::Later => {
            let told = SolverError::new(text);
            match inner.retry_after() {
                Some(wait) => told.with_retry_after(wait),
                None => told,
            }
        }
        Dns01Error::NotPropagated(_) | Dns01Error::Lookup { .. } => SolverError::new(text),
        _ => SolverError::permanent(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::network::Fallback;

    fn other(directory: &str, eab: Option<(&str, &str)>) -> Fallback {
        let eab = eab.map(|(id, key)| (id.to_owned(), key.to_owned()));
        Fallback { directory: directory.to_owned(), ca_file: None, eab }
    }

    /// The authority may be led to the other one of two servers with one store.
    #[tokio::test]
    async fn each_server_answers_for_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let acme = Acme { storage: dir.path().join("store"), ..Acme::default() };
        let http01 = manager(&acme, None).unwrap().http01();
        let path = "/.well-known/acme-challenge/token";
        assert!(http01.respond(path).await.is_none());
        storage(&acme).unwrap().store("challenges/token", b"token.key").await.unwrap();
        let mut answered = http01.respond(path).await.unwrap();
        assert_eq!(answered.take_body().collect(1024).await.unwrap(), "token.key");
    }

    #[test]
    fn authorities_are_asked_in_turn() {
        let mut acme = Acme { staging: Some("https://trial.test/".to_owned()), ..Acme::default() };
        acme.fallback = vec![
            other("https://ca.test/one", Some(("kid", "a2V5"))),
            other("https://CA.test/two", None),
        ];
        let all = authorities(&acme).unwrap();
        let shown: Vec<_> = all.iter().map(|one| (&one.name[..], &one.directory[..])).collect();
        let wanted = [
            ("letsencrypt", LETS_ENCRYPT),
            ("ca-test", "https://ca.test/one"),
            ("ca-test-2", "https://CA.test/two"),
        ];
        assert_eq!(shown, wanted, "accounts of their own");
        assert_eq!(all[0].staging, acme.staging);
        assert!(all[1].eab.is_some() && all[2].eab.is_none() && all[1].staging.is_none());
        acme.fallback.push(other("https://ca.test/one", None));
        assert!(authorities(&acme).unwrap_err().contains("twice"));
        acme.fallback = vec![other("https://ca.test/one", Some(("kid", "?")))];
        assert!(authorities(&acme).unwrap_err().contains("base64"));
    }
}
