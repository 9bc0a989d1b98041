//! Requests and answers in JSON.

use hearth_http_client::ClientRequest;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::http::{Reply, Service, with_field};
use crate::ddns::{ProviderError, ProviderErrorKind};

impl Reply {
    /// The content as JSON.
    pub(super) fn json(&self, service: &Service) -> Result<Value, ProviderError> {
        serde_json::from_str(&self.text)
            .map_err(|_| service.bad_reply(ProviderErrorKind::Garbled, self))
    }
}

/// Sets the content.
pub(super) fn with_json(request: ClientRequest, value: &Value) -> ClientRequest {
    with_field(request, CONTENT_TYPE, "application/json").with_body(value.to_string())
}

/// A member that is a string, a number or a list, anywhere below: `/result/0/id`.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

/// The members of a list; none if there is no such list.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A text record's value as the services write it: in quotes.
pub(super) fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Whether a service's text record holds `value`, in quotes or without.
pub(super) fn is_text(record: &str, value: &str) -> bool {
    record == value || record == quoted(value)
}
