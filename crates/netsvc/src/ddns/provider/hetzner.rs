//! Hetzner's Cloud API, which took the place of its DNS API.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    Capabilities, DnsProvider, Outcome, ProviderFuture,
    http::{Reply, Service, escape, excerpt},
    json::{list, quoted, text, with_json},
    settings_digest,
};
use crate::{
    ddns::{ProviderError, ProviderErrorKind, Secret},
    dns::Name,
};

pub(super) struct Hetzner {
    pub(super) service: Service,
    pub(super) token: Secret,
    pub(super) zone: Option<Name>,
}

impl DnsProvider for Hetzner {
    fn name(&self) -> &'static str {
        self.service.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::FULL
    }

    fn set_addresses<'a>(
        &'a self,
        host: &'a Name,
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
    ) -> ProviderFuture<'a, Outcome> {
        Box::pin(async move {
            let zone = self.zone_of(host).await?;
            let mut outcome = Outcome::Unchanged;
            for address in [v4.map(IpAddr::from), v6.map(IpAddr::from)].into_iter().flatten() {
                if self.set_address(&zone, host, address).await? == Outcome::Updated {
                    outcome = Outcome::Updated;
                }
            }
            Ok(outcome)
        })
    }

    fn add_txt<'a>(&'a self, name: &'a Name, value: &'a str) -> ProviderFuture<'a, ()> {
        Box::pin(async move {
            let zone = self.zone_of(name).await?;
            let set = self.set_path(&zone, name, "TXT");
            let reply = self.send(Method::GET, &set, None).await?;
            if reply.status != 404 {
                let held = self.checked(&reply)?;
                if values(&held).any(|held| held == quoted(value)) {
                    return Ok(());
                }
            }
            let records = json!({ "ttl": TTL, "records": [{ "value": quoted(value) }] });
            // The set comes into being with its first record.
            self.act(&format!("{set}/actions/add_records"), &records).await
        })
    }

    fn remove_txt<'a>(&'a self, name: &'a Name, value: &'a str) -> ProviderFuture<'a, ()> {
        Box::pin(async move {
            let zone = self.zone_of(name).await?;
            let set = self.set_path(&zone, name, "TXT");
            let reply = self.send(Method::GET, &set, None).await?;
            if reply.status == 404 {
                return Ok(());
            }
            let held = self.checked(&reply)?;
            if !values(&held).any(|held| held == quoted(value)) {
                return Ok(());
            }
            let records = json!({ "records": [{ "value": quoted(value) }] });
            self.act(&format!("{set}/actions/remove_records"), &records).await
        })
    }

    fn settings_digest(&self, salt: &[u8]) -> String {
        let zone = self.zone.as_ref().map(Name::to_string).unwrap_or_default();
        let parts = [self.name(), self.service.endpoint(), &zone, self.token.expose()];
        settings_digest(salt, &parts)
    }
}

impl Hetzner {
    async fn zone_of(&self, name: &Name) -> Result<Name, ProviderError> {
        if let Some(zone) = &self.zone {
            return match name.is_within(zone) {
                true => Ok(zone.clone()),
                false => {
                    let what = format!("{name} is not within {zone}");
                    Err(self.service.error(ProviderErrorKind::NoHost, what))
                }
            };
        }
        for zone in name.ancestors().filter(|zone| zone.label_count() > 1) {
            let reply = self.send(Method::GET, &format!("/v1/zones?name={zone}"), None).await?;
            let answer = self.checked(&reply)?;
            match answer.pointer("/zones").and_then(Value::as_array) {
                Some(zones) if zones.is_empty() => {}
                Some(_) => return Ok(zone),
                None => return Err(self.service.bad_reply(ProviderErrorKind::Garbled, &reply)),
            }
        }
        let what = format!("the project has no zone for {name}");
        Err(self.service.error(ProviderErrorKind::NoHost, what))
    }

    fn set_path(&self, zone: &Name, name: &Name, kind: &str) -> String {
        let relative = relative(name, zone);
        format!("/v1/zones/{zone}/rrsets/{}/{kind}", escape(&relative).replace("%40", "@"))
    }

    async fn set_address(
        &self,
        zone: &Name,
        host: &Name,
        address: IpAddr,
    ) -> Result<Outcome, ProviderError> {
        let kind = if address.is_ipv4() { "A" } else { "AAAA" };
        let set = self.set_path(zone, host, kind);
        let reply = self.send(Method::GET, &set, None).await?;
        let records = json!([{ "value": address.to_string() }]);
        if reply.status == 404 {
            let name = relative(host, zone);
            let set = json!({ "name": name, "type": kind, "ttl": TTL, "records": records });
            self.act(&format!("/v1/zones/{zone}/rrsets"), &set).await?;
            return Ok(Outcome::Updated);
        }
        let held = self.checked(&reply)?;
        let mut addresses = values(&held).map(|held| held.parse::<IpAddr>().ok());
        if addresses.next() == Some(Some(address)) && addresses.next().is_none() {
            return Ok(Outcome::Unchanged);
        }
        self.act(&format!("{set}/actions/set_records"), &json!({ "records": records })).await?;
        Ok(Outcome::Updated)
    }

    /// Sends a change and waits until it has been made.
    async fn act(&self, path: &str, content: &Value) -> Result<(), ProviderError> {
        let reply = self.send(Method::POST, path, Some(content)).await?;
        let mut answer = self.checked(&reply)?;
        let deadline = Instant::now() + ACTION_TIMEOUT;
        loop {
            match text(&answer, "/action/status") {
                Some("success") => return Ok(()),
                Some("running") if Instant::now() < deadline => {}
                Some("running") => {
                    let what = "the change takes too long";
                    return Err(self.service.error(ProviderErrorKind::Busy, what));
                }
                Some("error") => {
                    let message = text(&answer, "/action/error/message").unwrap_or_default();
                    let message = excerpt(message);
                    return Err(self.service.error(ProviderErrorKind::Refused, message));
                }
                _ => return Err(self.service.bad_reply(ProviderErrorKind::Garbled, &reply)),
            }
            let Some(id) = answer.pointer("/action/id").and_then(Value::as_u64) else {
                return Err(self.service.bad_reply(ProviderErrorKind::Garbled, &reply));
            };
            sleep(ACTION_INTERVAL).await;
            let reply = self.send(Method::GET, &format!("/v1/actions/{id}"), None).await?;
            answer = self.checked(&reply)?;
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content: Option<&Value>,
    ) -> Result<Reply, ProviderError> {
        let request = self.service.request(method, path)?;
        let credentials = format!("Bearer {}", self.token.expose());
        let mut request = self.service.authorized(request, &credentials)?;
        if let Some(content) = content {
            request = with_json(request, content);
        }
        self.service.send(request).await
    }

    fn checked(&self, reply: &Reply) -> Result<Value, ProviderError> {
        self.service.check_status(reply)?;
        reply.json(&self.service)
    }
}

/// The values of a record set.
fn values(answer: &Value) -> impl Iterator<Item = &str> {
    list(answer, "/rrset/records").iter().filter_map(|record| text(record, "/value"))
}

/// The name within its zone; the zone itself is `@`, and not the empty text.
fn relative(name: &Name, zone: &Name) -> String {
    let relative = name.relative_to(zone).unwrap_or_default();
    if relative.is_empty() { "@".to_owned() } else { relative }
}

/// Hetzner's least time to live.
const TTL: u32 = 60;

const ACTION_INTERVAL: Duration = Duration::from_secs(1);
const ACTION_TIMEOUT: Duration = Duration::from_secs(30);
