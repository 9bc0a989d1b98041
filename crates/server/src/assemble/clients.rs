//! Who decides about clients, and how that changes while connections are open.

use std::{collections::HashMap, fmt, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};
use hearth_http_core::{ClientCertificate, TlsInfo};
use hearth_net::{ChooseConfig, TlsConfig};
use hearth_tls_acme::ACME_TLS_ALPN;
use parking_lot::Mutex;
use rustls::{
    pki_types::{CertificateDer, UnixTime},
    server::{ClientHello, danger::ClientCertVerifier},
};

use super::{Failure, bug, trust::Trusts};
use crate::plan::{ClientAuth, ClientFiles, ClientFilesProblem, Plan, Site, doubts};

/// Builds the configuration of a listener for clients who are verified so.
type Build = Box<dyn Fn(Arc<dyn ClientCertVerifier>) -> Result<TlsConfig, Failure> + Send + Sync>;

/// Who decides about the clients of all sites that ask for certificates.
pub(super) struct Clients {
    /// Whose clients handshakes are for; `None` where no site asks any more.
    trusts: Arc<ArcSwapOption<Trusts>>,
    current: ArcSwap<Vec<Decider>>,
    /// Held while files are read.
    asked: Mutex<Vec<ClientAuth>>,
    listeners: Mutex<Vec<Arc<ByName>>>,
}

/// Who decides about one kind of clients.
#[derive(Clone)]
struct Decider {
    verifier: Arc<dyn ClientCertVerifier>,
    /// How often it has changed.
    generation: u16,
    /// What came of looking again at clients that were let in by one before, by their fingerprint.
    seen_again: Arc<Mutex<HashMap<[u8; 32], bool>>>,
}

/// Asks those for a certificate who name a site that wants one.
pub(super) struct ByName {
    trusts: Arc<ArcSwapOption<Trusts>>,
    build: Build,
    /// By the number of the trust less one.
    configs: ArcSwap<Vec<TlsConfig>>,
    has_challenges: bool,
}

impl Clients {
    /// `None` where no site asks.
    pub(super) fn new(plan: &Plan, trusts: Option<Arc<Trusts>>) -> Result<Option<Self>, Failure> {
        let Some(trusts) = trusts else { return Ok(None) };
        let mut asked: Vec<ClientAuth> = Vec::new();
        // Numbers go up by one in the order of the sites.
        for asks in plan.sites.iter().filter_map(|site| site.client_auth.as_ref()) {
            if asks.number as usize == asked.len() + 1 {
                asked.push(asks.clone());
            }
        }
        check_room(asked.len())?;
        let deciders = asked.iter().map(|asks| Decider::new(asks, 0)).collect::<Result<_, _>>()?;
        Ok(Some(Self {
            trusts: Arc::new(ArcSwapOption::from(Some(trusts))),
            current: ArcSwap::from_pointee(deciders),
            asked: Mutex::new(asked),
            listeners: Mutex::default(),
        }))
    }

    /// Gives whom these sites let in the numbers by which they are known, and new ones to whom is not known yet.
    ///
    /// Those that no site lets in any more keep theirs, as connections may be marked with it.
    pub(super) fn number(&self, sites: &mut [Site]) -> Result<(), Failure> {
        let mut asked = self.asked.lock();
        let mut all = asked.clone();
        let mut deciders = Vec::clone(&self.current.load());
        for asks in sites.iter_mut().filter_map(|site| site.client_auth.as_mut()) {
            let known = all.iter().position(|known| known.is_same(asks));
            let place = known.unwrap_or(all.len());
            asks.number = u32::try_from(place + 1).unwrap_or(u32::MAX);
            if known.is_none() {
                deciders.push(Decider::new(asks, 0)?);
                all.push(asks.clone());
            }
        }
        check_room(all.len())?;
        if all.len() > asked.len() {
            self.decide_by(deciders)?;
            *asked = all;
        }
        Ok(())
    }

    /// Handshakes from now on are for the sites that these are about.
    pub(super) fn ask_for(&self, trusts: Option<Arc<Trusts>>) {
        self.trusts.store(trusts);
    }

    /// Chooses the configurations of a listener.
    pub(super) fn by_name(
        &self,
        build: Build,
        has_challenges: bool,
    ) -> Result<Arc<ByName>, Failure> {
        let configs = configs(&build, &self.current.load())?;
        let trusts = self.trusts.clone();
        let chooses = Arc::new(ByName {
            trusts,
            build,
            configs: ArcSwap::from_pointee(configs),
            has_challenges,
        });
        self.listeners.lock().push(chooses.clone());
        Ok(chooses)
    }

    /// The files that say who is let in.
    pub(super) fn files(&self) -> Vec<ClientFiles> {
        self.asked.lock().iter().map(|asks| asks.files.clone()).collect()
    }

    /// Reads the files again. Those that cannot be used leave everything as it was; so does what has not changed.
    pub(super) fn reload(&self) {
        let mut asked = self.asked.lock();
        let mut deciders = Vec::clone(&self.current.load());
        let mut changed = 0;
        for (asks, decider) in asked.iter_mut().zip(&mut deciders) {
            match asks.files.read() {
                Ok(authorities) if authorities == asks.authorities => {}
                Ok(authorities) => {
                    let next = ClientAuth { authorities, ..asks.clone() };
                    match Decider::new(&next, decider.generation.wrapping_add(1)) {
                        Ok(fresh) => (*decider, *asks, changed) = (fresh, next, changed + 1),
                        Err(failure) => tell_failure(&failure),
                    }
                }
                Err(problem) => tell(&problem, "clients are let in as before"),
            }
            for doubt in doubts(&asks.authorities) {
                tell(&doubt, "clients are told apart by the files as they are");
            }
        }
        if changed == 0 {
            return;
        }
        match self.decide_by(deciders) {
            Ok(()) => {
                tracing::info!(target: "hearth", changed, "who vouches for clients was read anew");
            }
            Err(failure) => tell_failure(&failure),
        }
    }

    fn decide_by(&self, deciders: Vec<Decider>) -> Result<(), Failure> {
        let listeners = self.listeners.lock();
        let built = listeners.iter().map(|listener| configs(&listener.build, &deciders));
        let built: Vec<_> = built.collect::<Result<_, _>>()?;
        // First handshakes, then requests: a connection that is older than what requests are judged by is looked at again.
        for (listener, configs) in listeners.iter().zip(built) {
            listener.configs.store(Arc::new(configs));
        }
        self.current.store(Arc::new(deciders));
        Ok(())
    }

    /// Whether who is at the other end may visit this site.
    pub(super) fn lets_in(&self, trusts: &Trusts, tls: &TlsInfo, host: Option<&[u8]>) -> bool {
        let (number, generation) = split(tls.client_trust);
        if number != trusts.of_host(host) {
            return false;
        }
        let Some(place) = number.checked_sub(1) else { return true };
        let current = self.current.load();
        let Some(decider) = usize::try_from(place).ok().and_then(|place| current.get(place)) else {
            return false;
        };
        decider.generation == generation || decider.still_lets_in(tls.client_certificate.as_ref())
    }
}

impl Decider {
    fn new(asks: &ClientAuth, generation: u16) -> Result<Self, Failure> {
        let verifier = asks.authorities.verifier(!asks.is_required).map_err(|error| bug(&error))?;
        Ok(Self { verifier, generation, seen_again: Arc::default() })
    }

    /// Looks at a client again that was let in before a change. Certificates between it and its authority are not kept:
    /// who needs them is asked to connect anew.
    fn still_lets_in(&self, client: Option<&ClientCertificate>) -> bool {
        let Some(client) = client else { return !self.verifier.client_auth_mandatory() };
        if let Some(known) = self.seen_again.lock().get(&client.sha256) {
            return *known;
        }
        let der = CertificateDer::from(client.der.as_ref());
        let is_good = self.verifier.verify_client_cert(&der, &[], UnixTime::now()).is_ok();
        let mut seen = self.seen_again.lock();
        if seen.len() < SEEN_MAX {
            seen.insert(client.sha256, is_good);
        }
        is_good
    }
}

impl ChooseConfig for ByName {
    fn choose(&self, hello: &ClientHello<'_>) -> Option<TlsConfig> {
        // An authority shows no certificate (RFC 8737 §3). Whoever else comes this way has the number of those
        // that anybody may visit, and is misdirected elsewhere.
        let mut offered = hello.alpn().into_iter().flatten();
        let only = (offered.next(), offered.next());
        if self.has_challenges && only == (Some(ACME_TLS_ALPN), None) {
            return None;
        }
        let number = self.trusts.load().as_ref()?.of_server_name(hello.server_name());
        let place = usize::try_from(number.checked_sub(1)?).ok()?;
        self.configs.load().get(place).cloned()
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients")
    }
}

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByName")
    }
}

fn check_room(kinds: usize) -> Result<(), Failure> {
    if kinds > NUMBER_MAX {
        return Err(super::refused(&format!("more than {NUMBER_MAX} different `client_auth`")));
    }
    Ok(())
}

/// What a connection is marked with: whose clients it is for, and by which generation of files they were let in.
fn mark(number: u32, generation: u16) -> u32 {
    number | u32::from(generation) << NUMBER_BITS
}

fn split(mark: u32) -> (u32, u16) {
    let generation = u16::try_from(mark >> NUMBER_BITS).unwrap_or_default();
    (mark & ((1 << NUMBER_BITS) - 1), generation)
}

/// One for each decider.
fn configs(build: &Build, deciders: &[Decider]) -> Result<Vec<TlsConfig>, Failure> {
    let numbered = (1..).zip(deciders);
    let one = |(number, decider): (u32, &Decider)| {
        let config = build(decider.verifier.clone())?;
        Ok(config.with_client_trust(mark(number, decider.generation)))
    };
    numbered.map(one).collect()
}

fn tell(problem: &ClientFilesProblem, meanwhile: &str) {
    let ClientFilesProblem { code, message, help } = problem;
    tracing::warn!(target: "hearth", code = code.id(), fix = help, "{message}; {meanwhile}");
}

fn tell_failure(failure: &Failure) {
    tracing::error!(target: "hearth", "clients are let in as before: {:?}", failure.diagnostic);
}

const NUMBER_BITS: u32 = 16;
/// Kinds of clients that there are numbers for.
const NUMBER_MAX: usize = (1 << NUMBER_BITS) - 1;
/// Clients of open connections that are remembered after a change; others are looked at with each request.
const SEEN_MAX: usize = 10_000;
