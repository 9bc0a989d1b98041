//! deSEC: its update address for addresses, its REST interface for texts.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use http::Method;
use serde_json::json;

use super::{
    Capabilities, DnsProvider, Outcome, ProviderFuture, dyndns2,
    http::{Reply, Service},
    json::{is_text, list, quoted, text, with_json},
    settings_digest,
};
use crate::{
    ddns::{ProviderError, ProviderErrorKind, Secret},
    dns::Name,
};

pub(super) struct DeSec {
    pub(super) update: Service,
    pub(super) rest: Service,
    pub(super) token: Secret,
}

impl DnsProvider for DeSec {
    fn name(&self) -> &'static str {
        self.update.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { interval_min: Duration::from_secs(61), ..Capabilities::FULL }
    }

    fn set_addresses<'a>(
        &'a self,
        host: &'a Name,
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
    ) -> ProviderFuture<'a, Outcome> {
        Box::pin(async move {
            if v4.is_none() && v6.is_none() {
                return Ok(Outcome::Unchanged);
            }
            let keep = || "preserve".to_owned();
            let path = format!(
                "/?hostname={host}&myipv4={}&myipv6={}",
                v4.map_or_else(keep, |v4| v4.to_string()),
                v6.map_or_else(keep, |v6| v6.to_string()),
            );
            let request = self.update.get(&path)?;
            let request = self.update.authorized(request, &self.credentials())?;
            let reply = self.update.send(request).await?;
            let mut results = dyndns2::parse(&self.update, &reply, 1, None);
            results.pop().unwrap_or(Ok(Outcome::Unchanged))
        })
    }

    fn add_txt<'a>(&'a self, name: &'a Name, value: &'a str) -> ProviderFuture<'a, ()> {
        Box::pin(async move {
            self.change_txt(name, |values| {
                let is_new = !values.iter().any(|held| is_text(held, value));
                if is_new {
                    values.push(quoted(value));
                }
                is_new
            })
            .await
        })
    }

    fn remove_txt<'a>(&'a self, name: &'a Name, value: &'a str) -> ProviderFuture<'a, ()> {
        Box::pin(async move {
            self.change_txt(name, |values| {
                let before = values.len();
                values.retain(|held| !is_text(held, value));
                values.len() != before
            })
            .await
        })
    }

    fn settings_digest(&self, salt: &[u8]) -> String {
        let parts = [self.name(), self.update.endpoint(), self.token.expose()];
        settings_digest(salt, &parts)
    }
}

impl DeSec {
    fn credentials(&self) -> String {
        format!("Token {}", self.token.expose())
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        content: Option<&serde_json::Value>,
    ) -> Result<Reply, ProviderError> {
        let request = self.rest.request(method, path)?;
        let mut request = self.rest.authorized(request, &self.credentials())?;
        if let Some(content) = content {
            request = with_json(request, content);
        }
        self.rest.send(request).await
    }

    /// The zone of a name, and how short its records may live.
    async fn zone_of(&self, name: &Name) -> Result<(Name, u64), ProviderError> {
        let path = format!("/api/v1/domains/?owns_qname={name}");
        let reply = self.call(Method::GET, &path, None).await?;
        self.rest.check_status(&reply)?;
        let zones = reply.json(&self.rest)?;
        if !zones.is_array() {
            return Err(self.rest.bad_reply(ProviderErrorKind::Garbled, &reply));
        }
        let zone = text(&zones, "/0/name").and_then(|zone| zone.parse().ok());
        let Some(zone) = zone else {
            let what = format!("the account has no zone for {name}");
            return Err(self.rest.error(ProviderErrorKind::NoHost, what));
        };
        let ttl = zones.pointer("/0/minimum_ttl").and_then(serde_json::Value::as_u64);
        Ok((zone, ttl.unwrap_or(3600)))
    }

    async fn change_txt(
        &self,
        name: &Name,
        change: impl FnOnce(&mut Vec<String>) -> bool,
    ) -> Result<(), ProviderError> {
        let (zone, ttl) = self.zone_of(name).await?;
        let relative = name.relative_to(&zone).unwrap_or_default();
        let in_url = if relative.is_empty() { "@" } else { &relative };
        let path = format!("/api/v1/domains/{zone}/rrsets/{in_url}/TXT/");
        let reply = self.call(Method::GET, &path, None).await?;
        let mut values = match reply.status.as_u16() {
            404 => Vec::new(),
            _ => {
                self.rest.check_status(&reply)?;
                let set = reply.json(&self.rest)?;
                let values = list(&set, "/records").iter().filter_map(|value| value.as_str());
                values.map(str::to_owned).collect()
            }
        };
        if !change(&mut values) {
            return Ok(());
        }
        // An empty list removes the set.
        let set = json!([{ "subname": relative, "type": "TXT", "ttl": ttl, "records": values }]);
        let path = format!("/api/v1/domains/{zone}/rrsets/");
        let reply = self.call(Method::PUT, &path, Some(&set)).await?;
        self.rest.check_status(&reply)
    }
}
