//! Namecheap's dynamic DNS: one GET per name, always 200, XML that says what happened.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    Capabilities, DnsProvider, Outcome, ProviderFuture,
    dyndns2::no_txt,
    http::{Service, escape, excerpt},
    settings_digest, xml,
};
use crate::{
    ddns::{ProviderError, ProviderErrorKind, Secret},
    dns::Name,
};

pub(super) struct Namecheap {
    pub(super) service: Service,
    pub(super) domain: Name,
    pub(super) password: Secret,
}

impl DnsProvider for Namecheap {
    fn name(&self) -> &'static str {
        self.service.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { has_v6: false, txt_count_max: 0, ..Capabilities::FULL }
    }

    fn set_addresses<'a>(
        &'a self,
        host: &'a Name,
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
    ) -> ProviderFuture<'a, Outcome> {
        Box::pin(async move {
            if v6.is_some() {
                let what = "it takes IPv4 addresses only";
                return Err(self.service.error(ProviderErrorKind::Unsupported, what));
            }
            match v4 {
                Some(v4) => self.update(host, v4).await,
                None => Ok(Outcome::Unchanged),
            }
        })
    }

    fn add_txt<'a>(&'a self, _: &'a Name, _: &'a str) -> ProviderFuture<'a, ()> {
        Box::pin(async { Err(no_txt(&self.service)) })
    }

    fn remove_txt<'a>(&'a self, _: &'a Name, _: &'a str) -> ProviderFuture<'a, ()> {
        Box::pin(async { Err(no_txt(&self.service)) })
    }

    fn settings_digest(&self, salt: &[u8]) -> String {
        let domain = self.domain.to_string();
        let parts = [self.name(), self.service.endpoint(), &domain, self.password.expose()];
        settings_digest(salt, &parts)
    }
}

impl Namecheap {
    async fn update(&self, host: &Name, v4: Ipv4Addr) -> Result<Outcome, ProviderError> {
        let Some(relative) = host.relative_to(&self.domain) else {
            let what = format!("{host} is not within {}", self.domain);
            return Err(self.service.error(ProviderErrorKind::NoHost, what));
        };
        let relative = if relative.is_empty() { "@" } else { &relative };
        // The address always: without one Namecheap takes the sender's, which a proxy may have changed.
        let path = format!(
            "/update?host={}&domain={}&password={}&ip={v4}",
            escape(relative),
            self.domain,
            escape(self.password.expose())
        );
        let reply = self.service.send(self.service.get(&path)?).await?;
        self.service.check_status(&reply)?;
        match xml::first(&reply.text, "ErrCount").as_deref() {
            Some("0") => {}
            Some(_) => {
                let message = xml::first(&reply.text, "Err1").unwrap_or_default();
                return Err(self.service.error(kind_of(&message), excerpt(&message)));
            }
            None => return Err(self.service.bad_reply(ProviderErrorKind::Garbled, &reply)),
        }
        match xml::first(&reply.text, "IP").filter(|ip| *ip != v4.to_string()) {
            Some(other) => {
                let what = format!("it recorded {}", excerpt(&other));
                Err(self.service.error(ProviderErrorKind::Garbled, what))
            }
            None => Ok(Outcome::Updated),
        }
    }
}

fn kind_of(message: &str) -> ProviderErrorKind {
    let message = message.to_ascii_lowercase();
    let has = |word: &str| message.contains(word);
    if has("password") || has("passwords do not match") {
        ProviderErrorKind::BadAuth
    } else if has("not found") || has("does not exist") || has("no records updated") {
        ProviderErrorKind::NoHost
    } else if has("too many") || has("try again") {
        ProviderErrorKind::Busy
    } else {
        ProviderErrorKind::Refused
    }
}
