//! Response fields by configuration.

use hearth_http_core::{
    HeaderName, HeaderValue, Headers, Middleware, Next, Request, Response, header,
};

/// Sets, adds and removes fields of every response, in the order in which that was asked for.
#[derive(Debug, Clone, Default)]
pub struct ResponseHeaders {
    edits: Vec<Edit>,
}

/// The connection writes this field; a response that set it could break its own framing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the field {0} belongs to the connection and cannot be set")]
pub struct FramingField(HeaderName);

#[derive(Debug, Clone)]
enum Edit {
    Append(HeaderName, HeaderValue),
    Remove(HeaderName),
    Set(HeaderName, HeaderValue),
    SetDefault(HeaderName, HeaderValue),
}

impl ResponseHeaders {
    /// Changes nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes this the only field of that name.
    ///
    /// # Errors
    /// [`FramingField`]: the connection writes that one.
    pub fn set(self, name: HeaderName, value: HeaderValue) -> Result<Self, FramingField> {
        self.edit(name, |name| Edit::Set(name, value))
    }

    /// Sets the field where the handler did not.
    ///
    /// # Errors
    /// [`FramingField`]: the connection writes that one.
    pub fn set_default(self, name: HeaderName, value: HeaderValue) -> Result<Self, FramingField> {
        self.edit(name, |name| Edit::SetDefault(name, value))
    }

    /// Adds a field behind those of the same name.
    ///
    /// # Errors
    /// [`FramingField`]: the connection writes that one.
    pub fn append(self, name: HeaderName, value: HeaderValue) -> Result<Self, FramingField> {
        self.edit(name, |name| Edit::Append(name, value))
    }

    /// Removes every field of that name.
    ///
    /// # Errors
    /// [`FramingField`]: the connection writes that one.
    pub fn remove(self, name: HeaderName) -> Result<Self, FramingField> {
        self.edit(name, Edit::Remove)
    }

    fn edit(
        mut self,
        name: HeaderName,
        edit: impl FnOnce(HeaderName) -> Edit,
    ) -> Result<Self, FramingField> {
        if FRAMING.contains(&name) {
            return Err(FramingField(name));
        }
        self.edits.push(edit(name));
        Ok(self)
    }
}

impl Middleware for ResponseHeaders {
    async fn handle(&self, req: Request, next: Next<'_>) -> Response {
        let mut response = next.run(req).await;
        let changes = self.edits.iter().any(|edit| edit.changes(response.headers()));
        if changes {
            let headers = response.headers_mut();
            for edit in &self.edits {
                edit.apply(headers);
            }
        }
        response
    }
}

impl Edit {
    /// A response that was prepared loses its prepared form when it is touched, so it is not touched in vain.
    fn changes(&self, headers: &Headers) -> bool {
        match self {
            Self::Append(..) | Self::Set(..) => true,
            Self::Remove(name) => headers.contains(name),
            Self::SetDefault(name, _) => !headers.contains(name),
        }
    }

    fn apply(&self, headers: &mut Headers) {
        match self {
            Self::Append(name, value) => headers.append(name.clone(), value.clone()),
            Self::Remove(name) => {
                headers.remove(name);
            }
            Self::Set(name, value) => headers.insert(name.clone(), value.clone()),
            Self::SetDefault(name, value) => {
                if !headers.contains(name) {
                    headers.append(name.clone(), value.clone());
                }
            }
        }
    }
}

const FRAMING: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::DATE,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
