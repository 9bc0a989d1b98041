//! `$jsonSchema`: documents that a schema describes.

use std::{fmt, sync::Arc};

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

use super::{
    filter::{REGEX_COMPILED_BYTES_MAX, REGEXES_MAX},
    to_value,
};

/// Bytes of a schema in a filter.
pub(crate) const SCHEMA_BYTES_MAX: usize = 64 << 10;

/// A compiled JSON Schema of draft 2020-12.
#[derive(Clone)]
pub(crate) struct Schema(Arc<Validator>);

impl Schema {
    /// # Errors
    /// The reason: no schema, too large, or a keyword that a filter does not take.
    pub(crate) fn from_json(schema: &Value) -> Result<Self, String> {
        if !schema.is_object() {
            return Err("a schema is an object".to_owned());
        }
        if schema.to_string().len() > SCHEMA_BYTES_MAX {
            return Err(format!("the schema is larger than {SCHEMA_BYTES_MAX} bytes"));
        }
        let mut patterns = 0;
        check(schema, &mut patterns)?;
        if patterns > REGEXES_MAX {
            return Err(format!("the schema has more than {REGEXES_MAX} expressions"));
        }
        // Linear in time; the default would try every way a pattern can match.
        let patterns = PatternOptions::regex()
            .size_limit(REGEX_COMPILED_BYTES_MAX)
            .dfa_size_limit(REGEX_COMPILED_BYTES_MAX);
        let options =
            jsonschema::options().with_draft(Draft::Draft202012).with_pattern_options(patterns);
        match options.build(schema) {
            Ok(validator) => Ok(Self(Arc::new(validator))),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(crate) fn describes(&self, document: &[u8]) -> bool {
        to_value(document).is_some_and(|value| self.0.is_valid(&value))
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema(..)")
    }
}

/// References are refused as in MongoDB: they can go round in circles. So is its `bsonType`, which
/// would be ignored.
fn check(schema: &Value, patterns: &mut usize) -> Result<(), String> {
    match schema {
        Value::Array(items) => items.iter().try_for_each(|item| check(item, patterns)),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            match name.as_str() {
                "$ref" | "$dynamicRef" | "$recursiveRef" | "$schema" | "bsonType" => {
                    return Err(format!("a schema in a filter does not take {name}"));
                }
                "pattern" => *patterns += 1,
                "patternProperties" => *patterns += value.as_object().map_or(0, Map::len),
                _ => {}
            }
            check(value, patterns)
        }),
        _ => Ok(()),
    }
}
