//! What is done about the way from the internet to this machine.

use std::{fmt, fs, path::PathBuf, time::Duration};

use hearth_config::{Secret, Spanned};
use hearth_netsvc::{
    ddns::{self, InvalidSettings, ProviderSettings},
    dns::Name,
    portmap::Method,
};

use super::{Checks, host};
use crate::{
    codes,
    config::{self, Challenge, Config, MapMethod},
    outside::check_token,
};

/// Everything about the network but listeners.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Who issues certificates; `None` where nobody is asked.
    pub acme: Option<Acme>,
    /// Who is told this machine's address.
    pub ddns: Option<Ddns>,
    /// How the router is asked.
    pub port_map: PortMap,
    /// STUN servers; `None`: the usual ones.
    pub stun: Option<Vec<String>>,
    /// URLs that answer with an address; `None`: the usual ones.
    pub echo: Option<Vec<String>>,
    /// Who vouches for these URLs, in PEM form; `None`: the public authorities.
    pub echo_roots: Option<Vec<u8>>,
    /// The probe that looks from outside.
    pub probe: Option<Probe>,
    /// The server that tells the time.
    pub time: String,
}

/// Who looks from outside.
#[derive(Clone)]
pub struct Probe {
    /// Where it is asked.
    pub url: String,
    /// What it is told.
    pub token: Option<String>,
}

/// Who issues certificates.
#[derive(Clone)]
pub struct Acme {
    /// Where it may write to.
    pub email: Option<String>,
    /// Its directory.
    pub directory: String,
    /// Its directory for trials.
    pub staging: Option<String>,
    /// Who vouches for the directory.
    pub ca_file: Option<PathBuf>,
    /// How control over names is shown.
    pub challenge: Option<Challenge>,
    /// Key identifier and HMAC key of an external account binding.
    pub eab: Option<(String, String)>,
    /// Who is asked where it fails, best first.
    pub fallback: Vec<Fallback>,
    /// The profile.
    pub profile: Option<String>,
    /// The program that sets TXT records.
    pub dns_hook: Option<PathBuf>,
    /// Where certificates are kept.
    pub storage: PathBuf,
    /// Names that certificates are had for on demand.
    pub allow: Vec<String>,
    /// Who is asked about others.
    pub ask: Option<String>,
    /// How long a handshake waits for a certificate on demand.
    pub wait: Duration,
}

/// Who issues where the first authority fails.
#[derive(Clone)]
pub struct Fallback {
    /// Its directory.
    pub directory: String,
    /// Who vouches for the directory.
    pub ca_file: Option<PathBuf>,
    /// Key identifier and HMAC key of an external account binding.
    pub eab: Option<(String, String)>,
}

/// Who is told this machine's address.
#[derive(Debug, Clone)]
pub struct Ddns {
    /// The service.
    pub settings: ProviderSettings,
    /// The names; empty: the hosts of the sites.
    pub hosts: Vec<Name>,
}

/// How the router is asked.
#[derive(Debug, Clone)]
pub struct PortMap {
    /// Whether it is.
    pub is_enabled: bool,
    /// For how long at a time.
    pub lease: Duration,
    /// In which languages.
    pub methods: Vec<Method>,
}

impl Default for PortMap {
    fn default() -> Self {
        let methods = vec![Method::Pcp, Method::NatPmp, Method::Upnp];
        Self { is_enabled: true, lease: Duration::from_secs(7200), methods }
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("url", &self.url).finish_non_exhaustive()
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, challenge, storage, .. } = self;
        f.debug_struct("Acme")
            .field("directory", directory)
            .field("challenge", challenge)
            .field("storage", storage)
            .finish_non_exhaustive()
    }
}

impl Default for Acme {
    fn default() -> Self {
        let config = config::Acme::default();
        Self {
            email: None,
            directory: config.directory.into_value(),
            staging: None,
            ca_file: None,
            challenge: None,
            eab: None,
            fallback: Vec::new(),
            profile: None,
            dns_hook: None,
            storage: crate::state::folder().join("certificates"),
            allow: Vec::new(),
            ask: None,
            wait: config.on_demand.wait.get(),
        }
    }
}

pub(super) fn plan(checks: &mut Checks<'_>, config: &Config) -> Network {
    let texts = |list: &Option<Spanned<Vec<Spanned<String>>>>| {
        let list = list.as_ref()?;
        Some(list.iter().map(|text| text.value().clone()).collect::<Vec<_>>())
    };
    let port_map = &config.port_map;
    for url in config.address.echo.iter().flat_map(|list| list.iter()) {
        if !url.starts_with("https://") {
            let message = format!("`{url}` cannot be asked for the public address");
            let help = "without TLS anybody on the way could answer: begin with https://";
            checks.error(codes::SERVICE, message, url.span(), "", help);
        }
    }
    Network {
        acme: config.tls.acme.as_ref().map(|acme| self::acme(checks, acme)),
        ddns: config.ddns.as_ref().and_then(|ddns| self::ddns(checks, ddns)),
        port_map: PortMap {
            is_enabled: port_map.enabled,
            lease: port_map.lease.get(),
            methods: port_map.methods.iter().map(|method| (**method).into()).collect(),
        },
        stun: texts(&config.address.stun),
        echo: texts(&config.address.echo),
        echo_roots: config.address.ca_file.as_ref().and_then(|file| pem(checks, file)),
        probe: probe(checks, &config.outside),
        time: config.outside.time.value().clone(),
    }
}

fn probe(checks: &mut Checks<'_>, outside: &config::Outside) -> Option<Probe> {
    if let Some(token) = &outside.token {
        if outside.probe.is_none() {
            let message = "`outside.token` without `outside.probe`";
            let help = "name the probe that wants it, or remove it";
            checks.error(codes::SERVICE, message, token.span(), "", help);
        }
        if let Err(error) = check_token(token.expose()) {
            let help = "copy the line from the file that the probe was started with";
            checks.error(codes::SERVICE, error.to_string(), token.span(), "", help);
        }
    }
    let url = outside.probe.as_ref()?.value().clone();
    let token = outside.token.as_ref().map(|token| token.expose().clone());
    Some(Probe { url, token })
}

fn acme(checks: &mut Checks<'_>, acme: &config::Acme) -> Acme {
    let others = acme.fallback.iter().map(|other| &other.directory);
    for url in [Some(&acme.directory), acme.staging.as_ref()].into_iter().flatten().chain(others) {
        if !url.starts_with("https://") {
            let message = format!("`{}` is not a directory of an authority", url.value());
            let help = "an authority is spoken to over TLS: begin with https://";
            checks.error(codes::SERVICE, message, url.span(), "", help);
        }
    }
    if let Some(file) = &acme.ca_file {
        let _ = pem(checks, file);
    }
    let eab = binding(checks, acme.eab_key_id.as_ref(), acme.eab_hmac_key.as_ref());
    let fallback = acme.fallback.iter().map(|other| fallback(checks, other)).collect();
    for name in &acme.on_demand.allow {
        if let Err(error) = host::parse(name) {
            let message = format!("`{name}` is not a host name");
            checks.error(codes::HOST, message, name.span(), "", error.to_string());
        }
    }
    let text = |value: &Option<Spanned<String>>| value.as_ref().map(|text| text.value().clone());
    let storage = acme.storage.as_ref().map(|path| checks.resolve(path));
    Acme {
        email: text(&acme.email),
        directory: acme.directory.value().clone(),
        staging: text(&acme.staging),
        ca_file: acme.ca_file.as_ref().map(|path| checks.resolve(path)),
        challenge: acme.challenge.as_ref().map(|challenge| **challenge),
        eab,
        fallback,
        profile: text(&acme.profile),
        dns_hook: acme.dns_hook.as_ref().map(|path| checks.resolve(path)),
        storage: storage.unwrap_or_else(|| Acme::default().storage),
        allow: acme.on_demand.allow.iter().map(|name| name.to_ascii_lowercase()).collect(),
        ask: text(&acme.on_demand.ask),
        wait: acme.on_demand.wait.get(),
    }
}

fn fallback(checks: &mut Checks<'_>, other: &config::FallbackAuthority) -> Fallback {
    if let Some(file) = &other.ca_file {
        let _ = pem(checks, file);
    }
    Fallback {
        directory: other.directory.value().clone(),
        ca_file: other.ca_file.as_ref().map(|path| checks.resolve(path)),
        eab: binding(checks, other.eab_key_id.as_ref(), other.eab_hmac_key.as_ref()),
    }
}

/// An external account binding, of which both halves are there or none.
fn binding(
    checks: &mut Checks<'_>,
    id: Option<&Spanned<String>>,
    key: Option<&Spanned<Secret<String>>>,
) -> Option<(String, String)> {
    let (message, span) = match (id, key) {
        (Some(id), Some(key)) => return Some((id.value().clone(), key.expose().clone())),
        (Some(id), None) => ("`eab_key_id` without `eab_hmac_key`", id.span()),
        (None, Some(key)) => ("`eab_hmac_key` without `eab_key_id`", key.span()),
        (None, None) => return None,
    };
    checks.error(codes::SERVICE, message, span, "", "give both, or none");
    None
}

fn ddns(checks: &mut Checks<'_>, ddns: &Spanned<config::Ddns>) -> Option<Ddns> {
    let hosts = ddns.hosts.iter().filter_map(|host| match host.parse::<Name>() {
        Ok(name) => Some(name),
        Err(error) => {
            let message = format!("`{host}` is not a host name");
            checks.error(codes::HOST, message, host.span(), "", error.to_string());
            None
        }
    });
    let hosts = hosts.collect();
    let pair = |(key, value): (&Spanned<String>, &Secret<String>)| {
        (key.value().clone(), ddns::Secret::from(value.expose().as_str()))
    };
    let pairs: Vec<_> = ddns.settings.iter().map(pair).collect();
    match ProviderSettings::new(&ddns.provider, pairs) {
        Ok(settings) => Some(Ddns { settings, hosts }),
        Err(error) => {
            let span = match &error {
                InvalidSettings::UnknownKey { key, .. } => {
                    let key = ddns.settings.keys().find(|known| known.value() == key);
                    key.map_or(ddns.span(), Spanned::span)
                }
                _ => ddns.provider.span(),
            };
            let help = "the chapter on dynamic DNS says what each service takes";
            checks.error(codes::SERVICE, error.to_string(), span, "", help);
            None
        }
    }
}

fn pem(checks: &mut Checks<'_>, file: &Spanned<PathBuf>) -> Option<Vec<u8>> {
    let path = checks.resolve(file);
    let problem = match fs::read(&path) {
        Ok(text) if text.windows(CERTIFICATE.len()).any(|part| part == CERTIFICATE) => {
            return Some(text);
        }
        Ok(_) => "it holds no certificate in PEM form".to_owned(),
        Err(error) => error.to_string(),
    };
    let message = format!("{} cannot be used: {problem}", path.display());
    checks.error(
        codes::CERTIFICATE,
        message,
        file.span(),
        "",
        "name a file with a root in PEM form",
    );
    None
}

impl From<MapMethod> for Method {
    fn from(method: MapMethod) -> Self {
        match method {
            MapMethod::Pcp => Self::Pcp,
            MapMethod::NatPmp => Self::NatPmp,
            MapMethod::Upnp => Self::Upnp,
        }
    }
}

const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";
