//! Amazon Route 53.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue, Method};
use tokio::time::{Instant, sleep};

use super::{
    Capabilities, DnsProvider, Outcome, ProviderFuture,
    http::{Reply, Service, escape, excerpt},
    json::{is_text, quoted},
    settings_digest,
    sigv4::{Signable, Signer, date_time},
    xml,
};
use crate::{
    ddns::{ProviderError, ProviderErrorKind, Secret, WallClock},
    dns::Name,
};

pub(super) struct Route53 {
    pub(super) service: Service,
    pub(super) access_key_id: String,
    pub(super) secret_access_key: Secret,
    pub(super) session_token: Option<Secret>,
    pub(super) zone_id: Option<String>,
    pub(super) clock: Arc<dyn WallClock>,
}

/// The texts of a name, and how long they live.
struct Texts {
    ttl: u32,
    values: Vec<String>,
}

impl DnsProvider for Route53 {
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
            let addresses = [v4.map(IpAddr::from), v6.map(IpAddr::from)].into_iter().flatten();
            let changes: String = addresses
                .map(|address| {
                    let kind = if address.is_ipv4() { "A" } else { "AAAA" };
                    change("UPSERT", host, kind, TTL, &[address.to_string()])
                })
                .collect();
            if changes.is_empty() {
                return Ok(Outcome::Unchanged);
            }
            let zone = self.zone_of(host).await?;
            self.change(&zone, &changes).await?;
            Ok(Outcome::Updated)
        })
    }

    fn add_txt<'a>(&'a self, name: &'a Name, value: &'a str) -> ProviderFuture<'a, ()> {
        Box::pin(async move {
            let zone = self.zone_of(name).await?;
            let mut texts = self.texts(&zone, name).await?;
            if texts.values.iter().any(|held| is_text(held, value)) {
                return Ok(());
            }
            texts.values.push(quoted(value));
            self.change(&zone, &change("UPSERT", name, "TXT", texts.ttl, &texts.values)).await
        })
    }

    fn remove_txt<'a>(&'a self, name: &'a Name, value: &'a str) -> ProviderFuture<'a, ()> {
        Box::pin(async move {
            let zone = self.zone_of(name).await?;
            let Texts { ttl, values } = self.texts(&zone, name).await?;
            let (removed, left): (Vec<_>, Vec<_>) =
                values.into_iter().partition(|held| is_text(held, value));
            if removed.is_empty() {
                return Ok(());
            }
            let changes = match left.is_empty() {
                // A set is deleted by repeating it, time to live included.
                true => change("DELETE", name, "TXT", ttl, &removed),
                false => change("UPSERT", name, "TXT", ttl, &left),
            };
            self.change(&zone, &changes).await
        })
    }

    fn settings_digest(&self, salt: &[u8]) -> String {
        let zone = self.zone_id.as_deref().unwrap_or_default();
        let secret = self.secret_access_key.expose();
        let parts = [self.name(), self.service.endpoint(), &self.access_key_id, zone, secret];
        settings_digest(salt, &parts)
    }
}

impl Route53 {
    async fn zone_of(&self, name: &Name) -> Result<String, ProviderError> {
        if let Some(zone) = &self.zone_id {
            return Ok(escape(zone.trim_start_matches("/hostedzone/")));
        }
        for zone in name.ancestors().filter(|zone| zone.label_count() > 1) {
            let query = format!("dnsname={zone}&maxitems=1");
            let reply = self.send(Method::GET, "/hostedzonesbyname", &query, "").await?;
            self.checked(&reply)?;
            // The list begins at the name; without such a zone it begins at the next one.
            let found = xml::first(&reply.text, "Name").and_then(|found| found.parse().ok());
            let id = xml::first(&reply.text, "Id");
            if let (true, Some(id)) = (found == Some(zone), id) {
                return Ok(escape(id.trim_start_matches("/hostedzone/")));
            }
        }
        let what = format!("the account has no zone for {name}");
        Err(self.service.error(ProviderErrorKind::NoHost, what))
    }

    async fn texts(&self, zone: &str, name: &Name) -> Result<Texts, ProviderError> {
        let path = format!("/hostedzone/{zone}/rrset");
        let query = format!("maxitems=1&name={name}&type=TXT");
        let reply = self.send(Method::GET, &path, &query, "").await?;
        self.checked(&reply)?;
        // Route 53 writes `*` as \052; the list begins at the name, or at the next one.
        let found = xml::first(&reply.text, "Name").map(|found| found.replace("\\052", "*"));
        let is_name = found.and_then(|found| found.parse::<Name>().ok()).as_ref() == Some(name);
        if !is_name || xml::first(&reply.text, "Type").as_deref() != Some("TXT") {
            return Ok(Texts { ttl: TTL, values: Vec::new() });
        }
        let ttl = xml::first(&reply.text, "TTL").and_then(|ttl| ttl.parse().ok()).unwrap_or(TTL);
        Ok(Texts { ttl, values: xml::all(&reply.text, "Value") })
    }

    /// Sends changes and waits until all of Amazon's name servers have them.
    async fn change(&self, zone: &str, changes: &str) -> Result<(), ProviderError> {
        let content = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
             <ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
             <ChangeBatch><Changes>{changes}</Changes></ChangeBatch>\
             </ChangeResourceRecordSetsRequest>"
        );
        let path = format!("/hostedzone/{zone}/rrset");
        let mut reply = self.send(Method::POST, &path, "", &content).await?;
        let deadline = Instant::now() + CHANGE_TIMEOUT;
        loop {
            self.checked(&reply)?;
            match xml::first(&reply.text, "Status").as_deref() {
                Some("INSYNC") => return Ok(()),
                Some("PENDING") if Instant::now() < deadline => {}
                Some("PENDING") => {
                    let what = "the change takes too long";
                    return Err(self.service.error(ProviderErrorKind::Busy, what));
                }
                _ => return Err(self.service.bad_reply(ProviderErrorKind::Garbled, &reply)),
            }
            let id = xml::first(&reply.text, "Id").unwrap_or_default();
            sleep(CHANGE_INTERVAL).await;
            let path = format!("/change/{}", escape(id.trim_start_matches("/change/")));
            reply = self.send(Method::GET, &path, "", "").await?;
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &str,
        content: &str,
    ) -> Result<Reply, ProviderError> {
        let path = format!("/2013-04-01{path}");
        let now = self.clock.unix_seconds();
        let signer = Signer {
            access_key_id: &self.access_key_id,
            secret_access_key: &self.secret_access_key,
            // Route 53 lives in one region for all.
            region: "us-east-1",
            service: "route53",
        };
        let token = self.session_token.as_ref().map(Secret::expose);
        let signable = Signable {
            method: method.as_str(),
            host: self.service.authority(),
            path: &path,
            query,
            token,
            content: content.as_bytes(),
        };
        let authorization = signer.authorization(&signable, now);
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        let request = self.service.request(method, &target)?;
        let mut request = self.service.authorized(request, &authorization)?;
        let time = HeaderValue::from_str(&date_time(now)).expect("digits");
        request = request.with_header(HeaderName::from_static("x-amz-date"), time);
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token).map_err(|_| {
                self.service.error(ProviderErrorKind::BadAuth, "the session token is malformed")
            })?;
            value.set_sensitive(true);
            request = request.with_header(HeaderName::from_static("x-amz-security-token"), value);
        }
        if !content.is_empty() {
            request = request.with_body(content.to_owned());
        }
        self.service.send(request).await
    }

    fn checked(&self, reply: &Reply) -> Result<(), ProviderError> {
        if reply.status.is_success() {
            // A login page has no zones either, but that is no reason to stop for good.
            return match xml::root(&reply.text) {
                Some(root) if root.ends_with("Response") => Ok(()),
                _ => Err(self.service.bad_reply(ProviderErrorKind::Garbled, reply)),
            };
        }
        let code = xml::first(&reply.text, "Code").unwrap_or_default();
        let message = xml::first(&reply.text, "Message").unwrap_or_default();
        let is_expired = message.contains("expired") || message.contains("not yet current");
        let kind = match code.as_str() {
            "RequestExpired" | "RequestTimeTooSkewed" => ProviderErrorKind::ClockWrong,
            "SignatureDoesNotMatch" if is_expired => ProviderErrorKind::ClockWrong,
            "SignatureDoesNotMatch"
            | "InvalidClientTokenId"
            | "AccessDenied"
            | "UnrecognizedClientException"
            | "MissingAuthenticationToken"
            | "ExpiredToken" => ProviderErrorKind::BadAuth,
            "Throttling" | "ThrottlingException" => ProviderErrorKind::RateLimited,
            "PriorRequestNotComplete" => ProviderErrorKind::Busy,
            "NoSuchHostedZone" => ProviderErrorKind::NoHost,
            "InvalidChangeBatch" | "InvalidInput" => ProviderErrorKind::Refused,
            _ => {
                self.service.check_status(reply)?;
                ProviderErrorKind::Garbled
            }
        };
        let what = excerpt(&format!("{code}: {message}"));
        Err(self.service.error(kind, what).with_retry_after(reply.retry_after))
    }
}

fn change(action: &str, name: &Name, kind: &str, ttl: u32, values: &[String]) -> String {
    let values: String = values
        .iter()
        .map(|value| {
            format!("<ResourceRecord><Value>{}</Value></ResourceRecord>", xml::escape(value))
        })
        .collect();
    format!(
        "<Change><Action>{action}</Action><ResourceRecordSet><Name>{name}</Name><Type>{kind}</Type>\
         <TTL>{ttl}</TTL><ResourceRecords>{values}</ResourceRecords></ResourceRecordSet></Change>"
    )
}

const TTL: u32 = 60;

/// Route 53 allows five requests a second for the whole account.
const CHANGE_INTERVAL: Duration = Duration::from_secs(2);
const CHANGE_TIMEOUT: Duration = Duration::from_secs(120);
