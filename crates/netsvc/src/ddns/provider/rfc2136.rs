//! Any name server that takes updates (RFC 2136), such as BIND, Knot and PowerDNS.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::time::timeout;

use super::{Capabilities, DnsProvider, Outcome, ProviderFuture, settings_digest};
use crate::{
    ddns::{ProviderError, ProviderErrorKind, Secret, WallClock},
    dns::{
        Class, DnsClient, DnsError, Name, Rcode, Record, RecordData, RecordType, TsigError,
        TsigKey, message::Message,
    },
};

pub(super) struct Rfc2136 {
    /// Host and port.
    pub(super) server: String,
    pub(super) zone: Option<Name>,
    pub(super) key: Option<TsigKey>,
    pub(super) key_name: String,
    pub(super) key_secret: Option<Secret>,
    pub(super) ttl: u32,
    pub(super) dns: DnsClient,
    pub(super) clock: Arc<dyn WallClock>,
}

impl DnsProvider for Rfc2136 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { hosts_per_request_max: 1, ..Capabilities::FULL }
    }

    fn set_addresses<'a>(
        &'a self,
        host: &'a Name,
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
    ) -> ProviderFuture<'a, Outcome> {
        Box::pin(async move {
            let addresses = v4.map(RecordData::A).into_iter().chain(v6.map(RecordData::Aaaa));
            let mut updates = Vec::new();
            for data in addresses {
                let added = Record::new(host.clone(), self.ttl, data);
                updates.push(deletion(host, added.kind, Class::Any, RecordData::Other(Vec::new())));
                updates.push(added);
            }
            if updates.is_empty() {
                return Ok(Outcome::Unchanged);
            }
            self.update(host, updates).await?;
            Ok(Outcome::Updated)
        })
    }

    fn add_txt<'a>(&'a self, name: &'a Name, value: &'a str) -> ProviderFuture<'a, ()> {
        // Adding what is there already changes nothing (RFC 2136 §3.4.2.2).
        let record = Record::new(name.clone(), self.ttl, RecordData::of_text(value));
        Box::pin(self.update(name, vec![record]))
    }

    fn remove_txt<'a>(&'a self, name: &'a Name, value: &'a str) -> ProviderFuture<'a, ()> {
        let text = RecordData::of_text(value);
        Box::pin(self.update(name, vec![deletion(name, RecordType::Txt, Class::None, text)]))
    }

    fn settings_digest(&self, salt: &[u8]) -> String {
        let zone = self.zone.as_ref().map(Name::to_string).unwrap_or_default();
        let secret = self.key_secret.as_ref().map(Secret::expose).unwrap_or_default();
        settings_digest(salt, &[NAME, &self.server, &zone, &self.key_name, secret])
    }
}

impl Rfc2136 {
    async fn update(&self, name: &Name, updates: Vec<Record>) -> Result<(), ProviderError> {
        let server = self.address().await?;
        let zone = match &self.zone {
            Some(zone) => zone.clone(),
            None => self.dns.zone_at(server, name).await.map_err(failed)?,
        };
        if !name.is_within(&zone) {
            let what = format!("{name} is not within {zone}");
            return Err(ProviderError::new(NAME, ProviderErrorKind::NoHost, what));
        }
        let mut message = Message::update(0, zone.clone(), updates);
        let now = self.clock.unix_seconds();
        let rcode = self.dns.update(server, &mut message, self.key.as_ref(), now).await;
        let (kind, what) = match rcode.map_err(failed)? {
            Rcode::NO_ERROR => return Ok(()),
            Rcode::REFUSED => (
                ProviderErrorKind::BadAuth,
                format!("the server's policy does not let the key change {name} in {zone}"),
            ),
            Rcode::NOT_AUTHORITATIVE | Rcode::NOT_ZONE => {
                (ProviderErrorKind::NoHost, format!("the server is not in charge of {zone}"))
            }
            Rcode::SERVER_FAILURE => (
                ProviderErrorKind::Busy,
                "SERVFAIL: often it may not write the zone's journal".to_owned(),
            ),
            rcode => (ProviderErrorKind::Refused, rcode.to_string()),
        };
        Err(ProviderError::new(NAME, kind, what))
    }

    /// Where the server is. Its name is looked up by the operating system.
    async fn address(&self) -> Result<SocketAddr, ProviderError> {
        let unknown = |what: String| {
            ProviderError::new(NAME, ProviderErrorKind::Unreachable, what).with_unsent()
        };
        let found = timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(self.server.as_str())).await;
        let not_found = || unknown(format!("{} has no address", self.server));
        match found {
            Ok(Ok(mut addresses)) => addresses.next().ok_or_else(not_found),
            Ok(Err(error)) => Err(not_found().with_source(error)),
            Err(_) => Err(not_found()),
        }
    }
}

fn deletion(name: &Name, kind: RecordType, class: Class, data: RecordData) -> Record {
    let mut record = Record::new(name.clone(), 0, data);
    record.kind = kind;
    record.class = class;
    record
}

fn failed(error: DnsError) -> ProviderError {
    let kind = match &error {
        DnsError::Signature { source: TsigError::BadTime(_), .. } => ProviderErrorKind::ClockWrong,
        DnsError::Signature { source: TsigError::Forged, .. } => ProviderErrorKind::Garbled,
        DnsError::Signature { .. } => ProviderErrorKind::BadAuth,
        DnsError::Malformed { .. } | DnsError::Unexpected { .. } => ProviderErrorKind::Garbled,
        DnsError::NoAuthority { .. } => ProviderErrorKind::NoHost,
        DnsError::Rcode { .. } => ProviderErrorKind::Refused,
        _ => ProviderErrorKind::Unreachable,
    };
    let detail = match &error {
        DnsError::Signature { source, .. } => format!("{error}: {source}"),
        _ => error.to_string(),
    };
    ProviderError::new(NAME, kind, detail).with_source(error)
}

const NAME: &str = "rfc2136";

const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
