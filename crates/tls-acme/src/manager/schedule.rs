//! What is due, and how much time is left.

use std::time::{Duration, SystemTime};

use hearth_net::Certificate;
use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::task::JoinSet;

use super::{Manager, state::State};
use crate::{
    attention::{Attention, Code, Failure},
    authority::Authority,
    clock::{from_unix, unix},
    facts::AriId,
    renewal::{self, Suggestion},
    vault::StoredCertificate,
};

/// How much life a certificate has left.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExpiryGauge {
    /// By what it is stored.
    pub id: String,
    /// Seconds; negative after its end.
    pub seconds_left: i64,
    /// How bad that is.
    pub level: ExpiryLevel,
    /// When it will be renewed, as far as is known.
    pub renewal_at: SystemTime,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ExpiryLevel {
    /// More than a third of its life is left.
    Fine,
    /// Less than a third.
    Warning,
    /// Less than a twentieth.
    Error,
    /// It has ended.
    Expired,
}

impl ExpiryGauge {
    /// Of a certificate that somebody else renews.
    #[must_use]
    pub fn of(certificate: &Certificate, now: SystemTime) -> Self {
        let id = certificate.names().first().map_or("imported", |name| name).to_owned();
        let validity = certificate.validity();
        gauge(id, validity, validity.end, now)
    }
}

impl Manager {
    /// Looks at every managed certificate once, and has anew what is due. [`run`](Self::run) does this
    /// again and again.
    ///
    /// # Cancel safety
    /// Orders under way are given up, and gone on with by the next call.
    pub async fn tick(&self) {
        self.renew_fallback().await;
        let requests: Vec<_> = self.0.requests.lock().values().cloned().collect();
        let mut waiting = requests.into_iter();
        let mut tasks = JoinSet::new();
        loop {
            while tasks.len() < self.0.options.concurrency.max(1) {
                let Some(request) = waiting.next() else { break };
                let this = self.clone();
                tasks.spawn(async move {
                    let id = request.id();
                    if let Err(failure) = this.refresh_suggestion(&id).await {
                        tracing::debug!(
                            id,
                            sentence = failure.attention.sentence,
                            "no renewal information"
                        );
                    }
                    let state = State::load(this.storage(), &id).await.unwrap_or_default();
                    let stored = this.0.served.lock().managed.get(&id).cloned();
                    if this.reason(&request, stored.as_ref(), &state, None).is_some() {
                        let _told_by_event = this.obtain(&request, None, false).await;
                    }
                });
            }
            match tasks.join_next().await {
                None => break,
                Some(Err(error)) => {
                    tracing::error!(%error, "a task of the certificate manager failed");
                }
                Some(Ok(())) => {}
            }
        }
        self.raise_alarms();
    }

    /// How much life the managed and the imported certificates have left.
    #[must_use]
    pub fn gauges(&self) -> Vec<ExpiryGauge> {
        let now = self.now();
        let served = self.0.served.lock();
        let managed = served.managed.values().map(|one| {
            let facts = self.renewal_facts(one, &State::default());
            (one.id.clone(), one.not_before..one.not_after, renewal::due_at(&facts))
        });
        let managed =
            managed.map(|(id, validity, renewal_at)| gauge(id, &validity, renewal_at, now));
        let imported = served.imported.iter().map(|one| ExpiryGauge::of(one, now));
        managed.chain(imported).collect()
    }

    pub(super) fn renewal_facts(
        &self,
        stored: &StoredCertificate,
        state: &State,
    ) -> renewal::Facts {
        let suggestion =
            state.suggestion.as_ref().filter(|one| one.certificate == stored.fingerprint);
        renewal::Facts {
            not_before: stored.not_before,
            not_after: stored.not_after,
            ari: suggestion.map(Suggestion::selected),
            check_interval: self.0.options.check_interval,
        }
    }

    /// How long until there may be something to do.
    pub(super) async fn next_wait(&self) -> Duration {
        const LEAST: Duration = Duration::from_secs(1);
        let ids: Vec<String> = self.0.requests.lock().keys().cloned().collect();
        let now = unix(self.now());
        let mut wait = self.0.options.check_interval;
        for id in ids {
            let state = State::load(self.storage(), &id).await.unwrap_or_default();
            if state.failures > 0 {
                wait = wait.min(Duration::from_secs(state.retry_at.saturating_sub(now)));
            }
        }
        wait.max(LEAST)
    }

    /// Asks the authority when to renew (RFC 9773), if it is time to ask.
    async fn refresh_suggestion(&self, id: &str) -> Result<(), Failure> {
        let Some(stored) = self.0.served.lock().managed.get(id).cloned() else { return Ok(()) };
        let mut state = State::load(self.storage(), id).await?;
        let before = state.suggestion.take().filter(|one| one.certificate == stored.fingerprint);
        if before.as_ref().is_some_and(|one| from_unix(one.refresh_at) > self.now()) {
            return Ok(());
        }
        let by_directory = |one: &&Authority| one.directory == stored.origin.directory;
        let authority = self.0.options.authorities.iter().find(by_directory);
        let (Some(authority), Some(ari)) = (authority, &stored.facts.ari_id) else { return Ok(()) };
        let transport = self.transport(authority)?;
        let Some(url) = transport.directory().await?.renewal_info else { return Ok(()) };
        let (bytes, retry_after) = transport.get(&format!("{url}/{}", ari.to_text())).await?;
        let (window, explanation) = parse_window(&bytes).ok_or_else(|| transport.garbage())?;
        let now = self.now();
        let mut chosen =
            Suggestion::choose(&stored.fingerprint, window, now, retry_after, before.as_ref());
        chosen.explanation = explanation;
        // Somebody else may be at work on this certificate: only what is ours is changed.
        let mut state = State::load(self.storage(), id).await?;
        state.suggestion = Some(chosen);
        Ok(state.save(self.storage(), id).await?)
    }

    /// Says which certificates end soon or have ended, and takes back what is so no longer: one that somebody
    /// brought may have been replaced by somebody.
    fn raise_alarms(&self) {
        let alarms = self.gauges().into_iter().filter_map(|gauge| {
            let (code, sentence) = match gauge.level {
                ExpiryLevel::Error => {
                    let hours = gauge.seconds_left / 3600;
                    (Code::CertificateExpiring, format!("The certificate ends in {hours} hours."))
                }
                ExpiryLevel::Expired => {
                    (Code::CertificateExpired, "The certificate has ended.".to_owned())
                }
                ExpiryLevel::Fine | ExpiryLevel::Warning => return None,
            };
            Some(Attention::new(code, gauge.id, sentence))
        });
        let alarms: Vec<_> = alarms.collect();
        let about_the_end = [Code::CertificateExpiring, Code::CertificateExpired];
        self.0.attentions.lock().retain(|_, told| {
            !about_the_end.contains(&told.code)
                || alarms.iter().any(|new| (new.code, &new.subject) == (told.code, &told.subject))
        });
        for alarm in alarms {
            self.attend(alarm);
        }
    }
}

impl AriId {
    /// As it stands in a URL.
    fn to_text(&self) -> String {
        use rustls::pki_types::Der;
        let (key, serial) = (Der::from_slice(&self.authority_key), Der::from_slice(&self.serial));
        instant_acme::CertificateIdentifier::new(key, serial).to_string()
    }
}

fn gauge(
    id: String,
    validity: &std::ops::Range<SystemTime>,
    renewal_at: SystemTime,
    now: SystemTime,
) -> ExpiryGauge {
    let left = match validity.end.duration_since(now) {
        Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        Err(over) => -i64::try_from(over.duration().as_secs().max(1)).unwrap_or(i64::MAX),
    };
    let life = validity.end.duration_since(validity.start).unwrap_or_default().as_secs();
    let life = i64::try_from(life).unwrap_or(i64::MAX);
    let level = match left {
        left if left < 0 => ExpiryLevel::Expired,
        left if left < life / 20 => ExpiryLevel::Error,
        left if left < life / 3 => ExpiryLevel::Warning,
        _ => ExpiryLevel::Fine,
    };
    ExpiryGauge { id, seconds_left: left, level, renewal_at }
}

type Window = (SystemTime, SystemTime);

/// RFC 9773 §4.2.
fn parse_window(bytes: &[u8]) -> Option<(Window, Option<String>)> {
    #[derive(Deserialize)]
    struct Info {
        #[serde(rename = "suggestedWindow")]
        window: InfoWindow,
        #[serde(rename = "explanationURL")]
        explanation: Option<String>,
    }
    #[derive(Deserialize)]
    struct InfoWindow {
        start: String,
        end: String,
    }
    let info: Info = serde_json::from_slice(bytes).ok()?;
    let time = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from);
    Some(((time(&info.window.start)?, time(&info.window.end)?), info.explanation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_fall() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let level = |now: u64| {
            let gauge = gauge("a".into(), &(at(1000), at(7000)).into_range(), at(5000), at(now));
            (gauge.seconds_left, gauge.level)
        };
        assert_eq!(level(2000), (5000, ExpiryLevel::Fine));
        assert_eq!(level(5001), (1999, ExpiryLevel::Warning));
        assert_eq!(level(6701), (299, ExpiryLevel::Error));
        assert_eq!(level(7000), (0, ExpiryLevel::Error), "its last second is its own");
        assert_eq!(level(7001), (-1, ExpiryLevel::Expired));
    }

    trait IntoRange {
        fn into_range(self) -> std::ops::Range<SystemTime>;
    }

    impl IntoRange for (SystemTime, SystemTime) {
        fn into_range(self) -> std::ops::Range<SystemTime> {
            self.0..self.1
        }
    }

    #[test]
    fn reads_windows() {
        let text = br#"{"suggestedWindow":{"start":"1970-01-01T00:00:10Z","end":"1970-01-01T01:00:20.5+01:00"},"explanationURL":"https://a.test/"}"#;
        let ((start, end), explanation) = parse_window(text).expect("a window");
        assert_eq!((unix(start), unix(end)), (10, 20));
        assert_eq!(explanation.as_deref(), Some("https://a.test/"));
        assert!(parse_window(b"{}").is_none());
        assert!(parse_window(br#"{"suggestedWindow":{"start":"x","end":"y"}}"#).is_none());
    }
}
