//! A response as it comes.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use hearth_http_core::{Body, BodyError, Headers, Upgraded};
use http::{HeaderName, StatusCode, Version, header};
use tokio::time::Instant;

use crate::{ClientError, ErrorKind, TimeoutKind, target::Target};

/// A response: its head, and its content as it arrives.
///
/// The connection goes back to the pool when the content was read to its end, and is closed when
/// the response is dropped before that.
pub struct ClientResponse {
    pub(crate) head: ResponseHead,
    pub(crate) body: Body,
    pub(crate) target: Target,
    pub(crate) upgraded: Option<Upgraded>,
    pub(crate) is_idempotent: bool,
    /// When all of it has to be there.
    pub(crate) deadline: Option<Instant>,
}

/// Status line and fields.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: Headers,
}

impl ClientResponse {
    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The protocol version in which the response came.
    #[must_use]
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The fields in the order in which they came.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.head.headers
    }

    /// The first value of the field `name`, if it is UTF-8.
    #[must_use]
    pub fn header_str(&self, name: &HeaderName) -> Option<&str> {
        let value = self.head.headers.get(name)?;
        std::str::from_utf8(value.as_bytes()).ok()
    }

    /// The URL that answered: the last one, where redirects were followed.
    #[must_use]
    pub fn url(&self) -> String {
        self.target.to_url()
    }

    /// How long the peer wants us to wait (RFC 9110 §10.2.3). A date is compared with the response's
    /// own `date`, so that clocks may differ.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.head.headers, SystemTime::now())
    }

    /// The content, as it arrives. Nothing was decoded, no `content-encoding` undone.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    /// Takes the response apart.
    #[must_use]
    pub fn into_parts(self) -> (StatusCode, Headers, Body) {
        (self.head.status, self.head.headers, self.body)
    }

    /// The response in the words of the `http` crate.
    #[must_use]
    pub fn into_http(self) -> http::Response<Body> {
        let mut response = http::Response::new(self.body);
        *response.status_mut() = self.head.status;
        *response.version_mut() = self.head.version;
        *response.headers_mut() = self.head.headers.into();
        response
    }

    /// The whole content.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] above `bytes_max`, and whatever keeps the content from arriving.
    ///
    /// # Cancel safety
    /// What was read is lost and the connection is closed.
    pub async fn bytes(self, bytes_max: u64) -> Result<Bytes, ClientError> {
        self.body.collect(bytes_max).await.map_err(|error| {
            let is_over = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let error = match error {
                BodyError::Timeout if is_over => ClientError::timeout(TimeoutKind::Total),
                error => error.into(),
            };
            error.at(self.target.authority()).idempotent(self.is_idempotent)
        })
    }

    /// The whole content as UTF-8.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), and [`ErrorKind::Protocol`] where it is not UTF-8.
    ///
    /// # Cancel safety
    /// As [`bytes`](Self::bytes).
    pub async fn text(self, bytes_max: u64) -> Result<String, ClientError> {
        let target = self.target.clone();
        let bytes = self.bytes(bytes_max).await?;
        String::from_utf8(bytes.into()).map_err(|error| {
            let what = "the response is not UTF-8";
            ClientError::new(ErrorKind::Protocol, what)
                .at(target.authority())
                .caused_by(error.utf8_error())
        })
    }

    /// The whole content, read as JSON.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), and [`ErrorKind::Protocol`] where it is no JSON, or not a `T`.
    ///
    /// # Cancel safety
    /// As [`bytes`](Self::bytes).
    #[cfg(feature = "json")]
    pub async fn json<T: serde::de::DeserializeOwned>(
        self,
        bytes_max: u64,
    ) -> Result<T, ClientError> {
        let target = self.target.clone();
        let bytes = self.bytes(bytes_max).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let what = "the response is not the JSON that was expected";
            ClientError::new(ErrorKind::Protocol, what).at(target.authority()).caused_by(error)
        })
    }

    /// The byte stream behind a `101 Switching Protocols` to the protocol that was offered with
    /// [`with_upgrade`](crate::ClientRequest::with_upgrade). The connection has left the pool.
    ///
    /// # Errors
    /// The response itself, where the peer did not switch.
    pub fn into_upgraded(mut self) -> Result<Upgraded, Box<Self>> {
        self.upgraded.take().ok_or_else(|| Box::new(self))
    }
}

/// Leaves out the values of fields: they may hold secrets.
impl fmt::Debug for ClientResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientResponse")
            .field("status", &self.head.status)
            .field("version", &self.head.version)
            .field("headers", &self.head.headers.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// `retry-after`: seconds, or a date that is compared with `date`, or with `now` where that is missing.
fn retry_after(headers: &Headers, now: SystemTime) -> Option<Duration> {
    let text = |name| std::str::from_utf8(headers.get(&name)?.as_bytes()).ok();
    let value = text(header::RETRY_AFTER)?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits mean a very long time, not none.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now =
        text(header::DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use hearth_http_core::Headers;
    use http::{HeaderValue, header};

    use super::retry_after;

    #[track_caller]
    fn check(value: &str, date: Option<&'static str>, want: Option<u64>) {
        let mut headers = Headers::new();
        headers.append(header::RETRY_AFTER, HeaderValue::from_str(value).expect("value"));
        if let Some(date) = date {
            headers.append(header::DATE, HeaderValue::from_static(date));
        }
        // 784111777 is Sun, 06 Nov 1994 08:49:37 GMT.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after(&headers, now), want.map(Duration::from_secs), "{value}");
    }

    #[test]
    fn retry_after_values() {
        check("120", None, Some(120));
        check("0", None, Some(0));
        check(" 7 ", None, Some(7));
        check("99999999999999999999", None, Some(u64::MAX));
        check("", None, None);
        check("-1", None, None);
        check("+1", None, None);
        check("soon", None, None);
        check("Sun, 06 Nov 1994 08:50:37 GMT", None, Some(60));
        check("Sun, 06 Nov 1994 08:48:37 GMT", None, Some(0));
        let date = Some("Sun, 06 Nov 1994 08:50:00 GMT");
        check("Sun, 06 Nov 1994 08:50:37 GMT", date, Some(37));
        check("Sunday, 06-Nov-94 08:50:37 GMT", date, Some(37));
    }
}
