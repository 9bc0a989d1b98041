//! The header fields of a response: an ordered list, not a map.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::pool::{self, Pool};

/// Header fields in the order in which they are sent.
///
/// Responses have few fields, so a linear list is faster than a hash map, and it keeps the order
/// and the repeats (`set-cookie`) as they were given.
#[derive(Debug, Default)]
pub struct Headers {
    /// Recycled: see [`POOL`].
    list: Vec<Field>,
}

type Field = (HeaderName, HeaderValue);

thread_local! {
    /// Emptied lists, so that a response with fields allocates nothing.
    static POOL: Pool<Vec<Field>> = const { Pool::new(64) };
}

impl Headers {
    /// No fields.
    #[must_use]
    pub const fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// How many field lines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The first value of `name`.
    #[must_use]
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Every value of `name`, in order.
    pub fn get_all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a HeaderValue> {
        self.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Whether a field of that name is there.
    #[must_use]
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// Adds a field line behind those of the same name.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.push((name, value));
    }

    /// Makes this the only field of that name.
    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        if !self.contains(&name) {
            return self.push((name, value));
        }
        let mut found = false;
        let mut value = Some(value);
        self.list.retain_mut(|(known, old)| {
            if *known != name {
                return true;
            }
            if let Some(value) = value.take() {
                *old = value;
                found = true;
                return true;
            }
            false
        });
        if let (false, Some(value)) = (found, value) {
            self.push((name, value));
        }
    }

    /// Removes every field of that name; answers the first.
    pub fn remove(&mut self, name: &HeaderName) -> Option<HeaderValue> {
        let first = self.list.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.list.remove(first);
        self.list.retain(|(known, _)| known != name);
        Some(value)
    }

    /// Keeps the field lines for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&HeaderName, &HeaderValue) -> bool) {
        self.list.retain(|(name, value)| keep(name, value));
    }

    /// Every field line, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.list.iter().map(|(name, value)| (name, value))
    }

    /// No fields, in the memory of these where that is worth keeping.
    pub(crate) fn clear(&mut self) {
        if self.list.capacity() > CAPACITY_MAX {
            self.list = Vec::new();
        }
        self.list.clear();
    }

    fn push(&mut self, field: Field) {
        if self.list.capacity() == 0 {
            self.list = pool::take(&POOL).unwrap_or_else(|| Vec::with_capacity(8));
        }
        self.list.push(field);
    }
}

/// A list that grew far beyond the usual is not worth keeping.
const CAPACITY_MAX: usize = 64;

impl Drop for Headers {
    fn drop(&mut self) {
        if (1..=CAPACITY_MAX).contains(&self.list.capacity()) {
            self.list.clear();
            pool::give(&POOL, std::mem::take(&mut self.list));
        }
    }
}

impl Clone for Headers {
    fn clone(&self) -> Self {
        let mut copy = Self::new();
        for field in &self.list {
            copy.push(field.clone());
        }
        copy
    }
}

impl From<HeaderMap> for Headers {
    fn from(map: HeaderMap) -> Self {
        let mut headers = Self::new();
        let mut last = None;
        for (name, value) in map {
            // `HeaderMap` names a repeated field only once.
            if name.is_some() {
                last = name;
            }
            if let Some(name) = &last {
                headers.append(name.clone(), value);
            }
        }
        headers
    }
}

impl From<Headers> for HeaderMap {
    fn from(mut headers: Headers) -> Self {
        let mut map = Self::with_capacity(headers.list.len());
        for (name, value) in headers.list.drain(..) {
            map.append(name, value);
        }
        map
    }
}
