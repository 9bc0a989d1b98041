//! Cloudflare's API, version 4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Method;
use serde_json::{Value, json};

use super::{
    Capabilities, DnsProvider, Outcome, ProviderFuture,
    http::{Reply, Service, escape, excerpt},
    json::{is_text, list, quoted, text, with_json},
    settings_digest,
};
use crate::{
    ddns::{ProviderError, ProviderErrorKind, Secret},
    dns::Name,
};

pub(super) struct Cloudflare {
    pub(super) service: Service,
    pub(super) token: Secret,
    pub(super) zone: Option<Name>,
}

impl DnsProvider for Cloudflare {
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
            let zone = self.zone_id(host).await?;
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
            let zone = self.zone_id(name).await?;
            let record = json!({
                "type": "TXT", "name": name.to_string(), "content": quoted(value), "ttl": 60,
            });
            let reply = self
                .send(Method::POST, &format!("/zones/{zone}/dns_records"), Some(&record))
                .await?;
            // 81057, 81058: there is one like it.
            let is_there = error_codes(&reply).iter().any(|code| matches!(code, 81_057 | 81_058));
            match is_there {
                true => Ok(()),
                false => self.result(&reply).map(drop),
            }
        })
    }

    fn remove_txt<'a>(&'a self, name: &'a Name, value: &'a str) -> ProviderFuture<'a, ()> {
        Box::pin(async move {
            let zone = self.zone_id(name).await?;
            for record in self.records(&zone, name, "TXT").await? {
                let holds = text(&record, "/content").is_some_and(|held| is_text(held, value));
                if let (true, Some(id)) = (holds, text(&record, "/id")) {
                    let path = format!("/zones/{zone}/dns_records/{}", escape(id));
                    let reply = self.send(Method::DELETE, &path, None).await?;
                    self.result(&reply)?;
                }
            }
            Ok(())
        })
    }

    fn settings_digest(&self, salt: &[u8]) -> String {
        let zone = self.zone.as_ref().map(Name::to_string).unwrap_or_default();
        let parts = [self.name(), self.service.endpoint(), &zone, self.token.expose()];
        settings_digest(salt, &parts)
    }
}

impl Cloudflare {
    /// The zone that holds a name: the configured one, or the longest that the token can see.
    async fn zone_id(&self, name: &Name) -> Result<String, ProviderError> {
        let candidates: Vec<_> = match &self.zone {
            Some(zone) => vec![zone.clone()],
            None => name.ancestors().filter(|zone| zone.label_count() > 1).collect(),
        };
        for zone in &candidates {
            let reply = self.send(Method::GET, &format!("/zones?name={zone}"), None).await?;
            let result = self.result(&reply)?;
            // Not compared by name: Cloudflare shows `xn--` names in their own letters.
            if let Some(id) = text(&result, "/0/id") {
                return Ok(escape(id));
            }
        }
        let what = format!("the token sees no zone for {name}");
        Err(self.service.error(ProviderErrorKind::NoHost, what))
    }

    async fn set_address(
        &self,
        zone: &str,
        host: &Name,
        address: IpAddr,
    ) -> Result<Outcome, ProviderError> {
        let kind = if address.is_ipv4() { "A" } else { "AAAA" };
        let records = self.records(zone, host, kind).await?;
        let (method, path, content) = match records.as_slice() {
            [] => {
                // `ttl` 1 means automatic.
                let record = json!({
                    "type": kind, "name": host.to_string(), "content": address.to_string(), "ttl": 1,
                });
                (Method::POST, format!("/zones/{zone}/dns_records"), record)
            }
            [record] => {
                let held = text(record, "/content").and_then(|held| held.parse::<IpAddr>().ok());
                if held == Some(address) {
                    return Ok(Outcome::Unchanged);
                }
                let id = text(record, "/id").map(escape).unwrap_or_default();
                // The content alone, so that `proxied` and everything else stay as they are.
                let change = json!({ "content": address.to_string() });
                (Method::PATCH, format!("/zones/{zone}/dns_records/{id}"), change)
            }
            records => {
                let count = records.len();
                let what = format!("{host} has {count} {kind} records; delete all but one");
                return Err(self.service.error(ProviderErrorKind::Refused, what));
            }
        };
        let reply = self.send(method, &path, Some(&content)).await?;
        self.result(&reply)?;
        Ok(Outcome::Updated)
    }

    async fn records(
        &self,
        zone: &str,
        name: &Name,
        kind: &str,
    ) -> Result<Vec<Value>, ProviderError> {
        let path =
            format!("/zones/{zone}/dns_records?type={kind}&name={}", escape(&name.to_string()));
        let reply = self.send(Method::GET, &path, None).await?;
        Ok(list(&self.result(&reply)?, "").to_vec())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content: Option<&Value>,
    ) -> Result<Reply, ProviderError> {
        let request = self.service.request(method, &format!("/client/v4{path}"))?;
        let credentials = format!("Bearer {}", self.token.expose());
        let mut request = self.service.authorized(request, &credentials)?;
        if let Some(content) = content {
            request = with_json(request, content);
        }
        self.service.send(request).await
    }

    /// The `result` of an answer that says `success`.
    fn result(&self, reply: &Reply) -> Result<Value, ProviderError> {
        let parsed = reply.json(&self.service);
        if let Ok(json) = &parsed
            && reply.status.is_success()
            && json.pointer("/success") == Some(&Value::Bool(true))
        {
            return Ok(json.pointer("/result").cloned().unwrap_or_default());
        }
        let codes = error_codes(reply);
        // 6003, 6111: the token is malformed; 9109, 10000: it is wrong or may not do this.
        let is_auth = codes.iter().any(|code| matches!(code, 6003 | 6111 | 9109 | 10_000));
        let message = parsed.as_ref().ok().and_then(|json| text(json, "/errors/0/message"));
        let message = message.map(excerpt).unwrap_or_default();
        if is_auth {
            return Err(self.service.error(ProviderErrorKind::BadAuth, message));
        }
        self.service.check_status(reply)?;
        parsed?;
        Err(self.service.error(ProviderErrorKind::Refused, message))
    }
}

fn error_codes(reply: &Reply) -> Vec<u64> {
    let json: Value = serde_json::from_str(&reply.text).unwrap_or_default();
    let errors = list(&json, "/errors").iter();
    errors.filter_map(|error| error.pointer("/code")?.as_u64()).collect()
}
