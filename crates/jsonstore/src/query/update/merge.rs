//! RFC 7396 Merge Patch on JB1.

use serde_json::Value;

use super::{edit::put, refuse};
use crate::{
    error::{DocumentError, Result},
    jb1::{self, Container, Kind, Limits, Name, get, members, put_name},
};

/// The value after the patch.
pub(crate) fn merge(target: &[u8], patch: &Value, limits: &Limits) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(target.len() + 64);
    put_merged(Some(target), patch, 0, limits, &mut out)?;
    Ok(out)
}

fn put_merged(
    target: Option<&[u8]>,
    patch: &Value,
    depth: usize,
    limits: &Limits,
    out: &mut Vec<u8>,
) -> Result<()> {
    let Value::Object(changes) = patch else {
        return put(patch, depth, limits, out);
    };
    if depth >= limits.depth_max {
        return Err(DocumentError::TooDeep { limit: limits.depth_max }.into());
    }
    let target = target.filter(|target| jb1::kind(target) == Some(Kind::Object));
    let mut container = Container::begin(out, true);
    for member in target.and_then(members).into_iter().flatten() {
        let (name, item) = member.ok_or(DocumentError::Malformed)?;
        let change = changes.get(&*name.unescaped().ok_or(DocumentError::Malformed)?);
        if change == Some(&Value::Null) {
            continue;
        }
        container.next(out);
        put_name(out, name);
        match change {
            Some(change) => put_merged(Some(item), change, depth + 1, limits, out)?,
            None => out.extend_from_slice(item),
        }
    }
    for (name, change) in changes {
        let mut escaped = Vec::with_capacity(name.len());
        let has_escapes = jb1::escape(name, &mut escaped);
        if change.is_null() || target.is_some_and(|target| get(target, &escaped).is_some()) {
            continue;
        }
        container.next(out);
        put_name(out, Name { escaped: &escaped, has_escapes });
        put_merged(None, change, depth + 1, limits, out)?;
    }
    container.finish(out).map_err(|_| DocumentError::Malformed.into())
}

/// What the patch touches, as dotted paths.
pub(super) fn paths(patch: &Value) -> Result<Vec<String>> {
    if !patch.is_object() {
        return Err(refuse("", "a merge patch of a document is an object"));
    }
    let mut found = Vec::new();
    collect(patch, "", &mut found);
    Ok(found)
}

fn collect(patch: &Value, path: &str, found: &mut Vec<String>) {
    let members = patch.as_object().filter(|members| {
        // A dotted path cannot say such a name, so what holds it stands for it.
        !members.is_empty() && members.keys().all(|name| is_plain(name))
    });
    let Some(members) = members else {
        // The patch of nothing at all touches nothing.
        if !path.is_empty() || patch.as_object().is_some_and(|members| !members.is_empty()) {
            found.push(path.to_owned());
        }
        return;
    };
    for (name, value) in members {
        let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(value, &inner, found);
    }
}

/// True if the name can be a step of a dotted path.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains('.')
}
