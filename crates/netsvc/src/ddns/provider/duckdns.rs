//! Duck DNS: one GET, `OK` or `KO`.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    Capabilities, DnsProvider, Outcome, ProviderFuture,
    http::{Service, escape},
    settings_digest,
};
use crate::{
    ddns::{ProviderError, ProviderErrorKind, Secret},
    dns::Name,
};

pub(super) struct DuckDns {
    pub(super) service: Service,
    pub(super) token: Secret,
}

impl DnsProvider for DuckDns {
    fn name(&self) -> &'static str {
        self.service.name
    }

    fn capabilities(&self) -> Capabilities {
        // One text for a domain and everything below it.
        Capabilities { txt_count_max: 1, needs_all_families: true, ..Capabilities::FULL }
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
            // Without `ip` Duck DNS takes the sender's IPv4 address; it has no way to say "leave it".
            let v4 = v4.map(|v4| format!("&ip={v4}")).unwrap_or_default();
            let v6 = v6.map(|v6| format!("&ipv6={v6}")).unwrap_or_default();
            self.update(host, &format!("{v4}{v6}")).await
        })
    }

    fn add_txt<'a>(&'a self, name: &'a Name, value: &'a str) -> ProviderFuture<'a, ()> {
        Box::pin(async move {
            self.update(name, &format!("&txt={}", escape(value))).await?;
            Ok(())
        })
    }

    fn remove_txt<'a>(&'a self, name: &'a Name, value: &'a str) -> ProviderFuture<'a, ()> {
        Box::pin(async move {
            self.update(name, &format!("&txt={}&clear=true", escape(value))).await?;
            Ok(())
        })
    }

    fn settings_digest(&self, salt: &[u8]) -> String {
        let parts = [self.name(), self.service.endpoint(), self.token.expose()];
        settings_digest(salt, &parts)
    }
}

impl DuckDns {
    async fn update(&self, host: &Name, rest: &str) -> Result<Outcome, ProviderError> {
        let zone: Name = "duckdns.org".parse().expect("a name");
        let relative = host.relative_to(&zone).filter(|relative| !relative.is_empty());
        // Everything below a domain is the domain: `www.x.duckdns.org` answers like `x.duckdns.org`.
        let Some(domain) = relative.as_deref().and_then(|name| name.rsplit('.').next()) else {
            let what = format!("{host} is not within duckdns.org");
            return Err(self.service.error(ProviderErrorKind::NoHost, what));
        };
        let token = escape(self.token.expose());
        let path = format!("/update?domains={}&token={token}{rest}", escape(domain));
        let reply = self.service.send(self.service.get(&path)?).await?;
        match reply.text.trim() {
            _ if !reply.status.is_success() => {
                self.service.check_status(&reply)?;
                Err(self.service.bad_reply(ProviderErrorKind::Garbled, &reply))
            }
            "OK" => Ok(Outcome::Updated),
            "KO" => {
                let what = "KO: token and domain do not belong together";
                Err(self.service.error(ProviderErrorKind::BadAuth, what))
            }
            _ => Err(self.service.bad_reply(ProviderErrorKind::Garbled, &reply)),
        }
    }
}
