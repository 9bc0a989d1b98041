//! RFC 9535 JSONPath, by `serde_json_path`; bounded here.

use std::fmt::{self, Write};

use serde_json::Value;
use serde_json_path::{NormalizedPath, PathElement};

use crate::error::{Error, Result};

/// Bytes of a JSONPath.
pub(crate) const JSONPATH_BYTES_MAX: usize = 4096;
/// Brackets inside brackets in a JSONPath; the parser recurses, and tries some of them twice.
pub(crate) const JSONPATH_DEPTH_MAX: usize = 16;

/// An RFC 9535 JSONPath: `$.store.book[?@.price < 10].title`.
///
/// ```
/// use hearth_jsonstore::JsonPath;
/// use serde_json::json;
///
/// let path = JsonPath::parse("$.items[?@.price > 5].name")?;
/// let document = json!({"items": [{"name": "a", "price": 3}, {"name": "b", "price": 8}]});
/// assert_eq!(path.query(&document), [&json!("b")]);
/// # hearth_jsonstore::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct JsonPath(serde_json_path::JsonPath);

impl JsonPath {
    /// # Errors
    /// `InvalidFilter` if the text is no JSONPath, or one that is too long or nested too deep.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |reason: String| Error::InvalidFilter { path: text.to_owned(), reason };
        if text.len() > JSONPATH_BYTES_MAX {
            let reason = format!("a JSONPath has at most {JSONPATH_BYTES_MAX} bytes");
            return Err(Error::InvalidFilter { path: String::new(), reason });
        }
        if depth(text) > JSONPATH_DEPTH_MAX {
            return Err(bad(format!("brackets nest deeper than {JSONPATH_DEPTH_MAX} levels")));
        }
        serde_json_path::JsonPath::parse(text).map(Self).map_err(|error| bad(error.to_string()))
    }

    /// What the path selects, in its order.
    pub fn query<'a>(&self, document: &'a Value) -> Vec<&'a Value> {
        self.0.query(document).all()
    }

    /// The same, each with its normalized path: `$['store']['book'][0]`.
    pub fn query_located<'a>(&self, document: &'a Value) -> Vec<(String, &'a Value)> {
        let nodes = self.0.query_located(document);
        nodes.iter().map(|node| (normalized(node.location()), node.node())).collect()
    }
}

impl fmt::Debug for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// RFC 9535, section 2.7; `Display` of the library leaves names as they are.
fn normalized(location: &NormalizedPath<'_>) -> String {
    let mut out = String::from("$");
    for element in location.iter() {
        match element {
            PathElement::Index(index) => {
                let _ = write!(out, "[{index}]");
            }
            PathElement::Name(name) => {
                out.push_str("['");
                name.chars().for_each(|char| put_escaped(char, &mut out));
                out.push_str("']");
            }
        }
    }
    out
}

fn put_escaped(char: char, out: &mut String) {
    let short = match char {
        '\u{8}' => 'b',
        '\u{c}' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\'' | '\\' => char,
        '\0'..='\x1f' => {
            let _ = write!(out, "\\u{:04x}", u32::from(char));
            return;
        }
        _ => return out.push(char),
    };
    out.extend(['\\', short]);
}

/// How deep brackets nest outside strings.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match (quote, char) {
            (Some(_), '\\') => {
                chars.next();
            }
            (Some(open), _) if char == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(char),
            // A run of negations nests as well.
            (None, '(' | '[' | '!') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (None, ')' | ']') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
    }
    deepest
}
