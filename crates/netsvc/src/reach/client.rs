//! The side that asks.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hearth_http_client::{Client, ClientRequest};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::{Challenge, Reach, handler::fetch};

/// Asks a `hearth probe` elsewhere to look at us.
#[derive(Clone)]
pub struct ProbeClient {
    client: Client,
    url: String,
    token: Option<String>,
}

/// Why the probe did not look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// It cannot be reached. Who runs it, or this machine's network, must act.
    #[error("the probe cannot be asked: {what}")]
    Failed {
        /// Why.
        what: String,
    },
    /// What answers is no probe. Who configured its URL must act.
    #[error("what answers is no probe: {what}")]
    NoProbe {
        /// What is wrong.
        what: &'static str,
    },
    /// It does not want to. Its sentence tells who must act.
    #[error("the probe refuses: {what}")]
    Refused {
        /// Its sentence.
        what: String,
    },
    /// It was asked too often.
    #[error("the probe was asked too often")]
    TooOften {
        /// When it may be asked again.
        retry_after: Option<Duration>,
    },
}

impl ProbeClient {
    /// Asks the probe at `url`, with its token where one is known.
    #[must_use]
    pub fn new(client: Client, url: impl Into<String>, token: Option<String>) -> Self {
        Self { client, url: url.into(), token }
    }

    /// Asks what a connection to `origin`, such as `https://example.com`, meets. The site must
    /// answer the challenge meanwhile.
    ///
    /// Returns that, and the address from which the probe sees us.
    ///
    /// # Errors
    /// [`ProbeError`], which says nothing about the site.
    ///
    /// # Cancel safety
    /// The probe may look all the same.
    pub async fn check(
        &self,
        origin: &str,
        challenge: &Challenge,
    ) -> Result<(Reach, Option<IpAddr>), ProbeError> {
        let url = format!("{}{}", origin.trim_end_matches('/'), challenge.path());
        let question = json!({ "url": url, "expect": challenge.content() }).to_string();
        let failed = |error: hearth_http_client::ClientError| {
            let what = match std::error::Error::source(&error) {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            };
            ProbeError::Failed { what }
        };
        let json = HeaderValue::from_static("application/json");
        let mut request = ClientRequest::post(&self.url, question)
            .map_err(failed)?
            .with_header(header::CONTENT_TYPE, json)
            .with_timeout(PROBE_TIMEOUT);
        if let Some(token) = &self.token {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|_| ProbeError::Failed {
                what: "the token has a character that no field may have".to_owned(),
            })?;
            value.set_sensitive(true);
            request = request.with_header(header::AUTHORIZATION, value);
        }
        let response = self.client.send(request).await.map_err(failed)?;
        let (status, retry_after) = (response.status(), response.retry_after());
        let text = response.text(ANSWER_BYTES_MAX).await.map_err(failed)?;
        match status {
            StatusCode::OK => parse(&text),
            StatusCode::TOO_MANY_REQUESTS => Err(ProbeError::TooOften { retry_after }),
            StatusCode::FORBIDDEN
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::SERVICE_UNAVAILABLE => {
                let clean = text.chars().filter(|char| !char.is_control());
                Err(ProbeError::Refused { what: clean.take(120).collect() })
            }
            _ => Err(ProbeError::NoProbe { what: "its status" }),
        }
    }
}

fn parse(text: &str) -> Result<(Reach, Option<IpAddr>), ProbeError> {
    let no_probe = |what| ProbeError::NoProbe { what };
    let value: Value = serde_json::from_str(text).map_err(|_| no_probe("its content"))?;
    let word = |name| value.get(name).and_then(Value::as_str);
    let reach = word("outcome").and_then(Reach::parse).ok_or(no_probe("its outcome"))?;
    Ok((reach, word("seen_from").and_then(|address| address.parse().ok())))
}

/// What a connection from this machine to `to` meets, in the name of `origin`.
///
/// At our own public address only [`Reach::Open`] says something about the internet: many routers do
/// not lead a connection from inside back inside ("hairpin"), and what answers then may be their own
/// page.
///
/// # Cancel safety
/// Nothing is changed by dropping the future.
pub async fn look(client: &Client, origin: &str, to: SocketAddr, challenge: &Challenge) -> Reach {
    let url = format!("{}{}", origin.trim_end_matches('/'), challenge.path());
    fetch(client, &url, challenge.content(), to, LOOK_TIMEOUT).await
}

/// Longer than the probe's own.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 4096;
