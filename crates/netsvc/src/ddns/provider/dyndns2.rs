//! The protocol that routers speak, and most services understand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Capabilities, DnsProvider, Outcome, ProviderFuture, ResultsFuture,
    http::{Reply, Service, basic, excerpt},
    settings_digest,
};
use crate::{
    ddns::{ProviderError, ProviderErrorKind, Secret},
    dns::Name,
};

/// A service that speaks dyndns2.
pub(super) struct Dyndns2 {
    pub(super) service: Service,
    pub(super) user: String,
    pub(super) password: Secret,
}

impl DnsProvider for Dyndns2 {
    fn name(&self) -> &'static str {
        self.service.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            txt_count_max: 0,
            hosts_per_request_max: 20,
            interval_min: std::time::Duration::from_secs(300),
            ..Capabilities::FULL
        }
    }

    fn set_addresses<'a>(
        &'a self,
        host: &'a Name,
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
    ) -> ProviderFuture<'a, Outcome> {
        Box::pin(async move {
            let mut results = self.update(std::slice::from_ref(host), v4, v6).await;
            results.pop().unwrap_or_else(|| Ok(Outcome::Unchanged))
        })
    }

    fn set_addresses_of<'a>(
        &'a self,
        hosts: &'a [Name],
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
    ) -> ResultsFuture<'a> {
        Box::pin(self.update(hosts, v4, v6))
    }

    fn add_txt<'a>(&'a self, _: &'a Name, _: &'a str) -> ProviderFuture<'a, ()> {
        Box::pin(async { Err(no_txt(&self.service)) })
    }

    fn remove_txt<'a>(&'a self, _: &'a Name, _: &'a str) -> ProviderFuture<'a, ()> {
        Box::pin(async { Err(no_txt(&self.service)) })
    }

    fn settings_digest(&self, salt: &[u8]) -> String {
        let parts = [self.name(), self.service.endpoint(), &self.user, self.password.expose()];
        settings_digest(salt, &parts)
    }
}

impl Dyndns2 {
    async fn update(
        &self,
        hosts: &[Name],
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
    ) -> Vec<Result<Outcome, ProviderError>> {
        if v4.is_none() && v6.is_none() {
            return hosts.iter().map(|_| Ok(Outcome::Unchanged)).collect();
        }
        match self.send(hosts, v4, v6).await {
            Ok(reply) => {
                parse(&self.service, &reply, hosts.len(), v4.map(IpAddr::V4).or(v6.map(Into::into)))
            }
            Err(error) => hosts.iter().map(|_| Err(error.copy())).collect(),
        }
    }

    async fn send(
        &self,
        hosts: &[Name],
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
    ) -> Result<Reply, ProviderError> {
        let hosts: Vec<_> = hosts.iter().map(Name::to_string).collect();
        let mut path = format!("/nic/update?hostname={}", hosts.join(","));
        // Never both in one `myip`: some services lock the name for that.
        if let Some(v4) = v4 {
            path.push_str(&format!("&myip={v4}"));
        }
        if let Some(v6) = v6 {
            path.push_str(&format!("&myipv6={v6}"));
        }
        let request = self.service.get(&path)?;
        let request = self.service.authorized(request, &basic(&self.user, &self.password))?;
        self.service.send(request).await
    }
}

pub(super) fn no_txt(service: &Service) -> ProviderError {
    service.error(ProviderErrorKind::Unsupported, "it holds no text records")
}

/// What the answer says about each of `count` names: a line for each, or one line for all.
pub(super) fn parse(
    service: &Service,
    reply: &Reply,
    count: usize,
    sent: Option<IpAddr>,
) -> Vec<Result<Outcome, ProviderError>> {
    let lines: Vec<_> = reply.text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // The words count even with a status of failure: `badauth` often comes with 401. Without one the
    // status decides, and a text that is neither is none of the service's.
    let first_is_word = lines.first().is_some_and(|line| judge(line, None) != Line::Unknown);
    if !first_is_word {
        let error = match service.check_status(reply) {
            Ok(()) => service.bad_reply(ProviderErrorKind::Garbled, reply),
            Err(error) => error,
        };
        return (0..count).map(|_| Err(error.copy())).collect();
    }
    let line_of = |index: usize| match lines.as_slice() {
        [only] => Some(*only),
        lines => lines.get(index).copied(),
    };
    let results = (0..count).map(|index| {
        let Some(line) = line_of(index) else {
            return Err(service.error(ProviderErrorKind::Garbled, "the answer lacks a line"));
        };
        match judge(line, sent) {
            Line::Outcome(outcome) => Ok(outcome),
            Line::Error(kind) => {
                Err(service.error(kind, excerpt(line)).with_retry_after(reply.retry_after))
            }
            Line::Unknown => Err(service.error(ProviderErrorKind::Garbled, excerpt(line))),
        }
    });
    results.collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Error(ProviderErrorKind),
    Outcome(Outcome),
    Unknown,
}

fn judge(line: &str, sent: Option<IpAddr>) -> Line {
    let mut words = line.split([' ', '\t', ',']).filter(|word| !word.is_empty());
    let word = words.next().unwrap_or_default().to_ascii_lowercase();
    let outcome = match word.as_str() {
        "good" => Outcome::Updated,
        "nochg" => Outcome::Repeated,
        "abuse" | "blocked" | "badagent" => return Line::Error(ProviderErrorKind::Abuse),
        "badauth" | "!active" => return Line::Error(ProviderErrorKind::BadAuth),
        "!donator" => return Line::Error(ProviderErrorKind::NotDonator),
        "nohost" | "!yours" => return Line::Error(ProviderErrorKind::NoHost),
        "notfqdn" => return Line::Error(ProviderErrorKind::NotFqdn),
        "numhost" | "badsys" | "badip" => return Line::Error(ProviderErrorKind::Refused),
        "dnserr" | "911" | "999" | "servererror" => return Line::Error(ProviderErrorKind::Busy),
        _ => return Line::Unknown,
    };
    // `good 127.0.0.1` is how services say that the client is blocked, and another address than ours
    // is one that somebody in between has put there.
    let echoed = words.next().and_then(|word| word.parse::<IpAddr>().ok());
    match (echoed, sent) {
        (Some(echo), _) if echo.is_loopback() => Line::Error(ProviderErrorKind::Abuse),
        (Some(echo), Some(sent)) if echo.is_ipv4() == sent.is_ipv4() && echo != sent => {
            Line::Error(ProviderErrorKind::Garbled)
        }
        _ => Line::Outcome(outcome),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        use ProviderErrorKind as Kind;
        let sent = Some("192.0.2.1".parse().unwrap());
        for (line, expected) in [
            ("good 192.0.2.1", Line::Outcome(Outcome::Updated)),
            ("good", Line::Outcome(Outcome::Updated)),
            ("GOOD 192.0.2.1", Line::Outcome(Outcome::Updated)),
            ("nochg 192.0.2.1", Line::Outcome(Outcome::Repeated)),
            ("good 2001:db8::1", Line::Outcome(Outcome::Updated)),
            ("good 127.0.0.1", Line::Error(Kind::Abuse)),
            ("good 192.0.2.2", Line::Error(Kind::Garbled)),
            ("badauth", Line::Error(Kind::BadAuth)),
            ("abuse", Line::Error(Kind::Abuse)),
            ("911", Line::Error(Kind::Busy)),
            ("dnserr", Line::Error(Kind::Busy)),
            ("!donator", Line::Error(Kind::NotDonator)),
            ("nohost", Line::Error(Kind::NoHost)),
            ("notfqdn", Line::Error(Kind::NotFqdn)),
            ("<!DOCTYPE html>", Line::Unknown),
            ("goo", Line::Unknown),
            ("", Line::Unknown),
        ] {
            assert_eq!(judge(line, sent), expected, "{line}");
        }
    }

    proptest::proptest! {
        /// Nothing but a line that begins with the word of success is a success.
        #[test]
        fn only_success_is_success(line in "\\PC{0,40}") {
            if let Line::Outcome(_) = judge(&line, None) {
                let line = line.trim_start_matches([' ', '\t', ',']).to_ascii_lowercase();
                proptest::prop_assert!(line.starts_with("good") || line.starts_with("nochg"));
            }
        }

        #[test]
        fn every_name_has_a_result(text in "(good|nochg|badauth|x|\n| |1.2.3.4){0,12}", count in 0_usize..8) {
            let client = hearth_http_client::Client::new(Default::default()).unwrap();
            let service = Service::new("dyndns2", client, None, "http://x");
            let reply = Reply { status: http::StatusCode::OK, retry_after: None, text };
            proptest::prop_assert_eq!(parse(&service, &reply, count, None).len(), count);
        }
    }
}
