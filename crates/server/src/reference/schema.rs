//! `docs/reference/config.schema.json`: JSON Schema, draft 2020-12, for editors.

use serde_json::{Map, Value, json};

use crate::config::{
    Config,
    describe::{Describe, Field, Shape, Table},
};

/// The schema.
pub(super) fn text() -> String {
    let mut definitions = Map::new();
    let root = schema(&Config::shape(), &mut definitions);
    let document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Hearth configuration",
        "$ref": root.get("$ref").cloned().unwrap_or_default(),
        "$defs": definitions,
    });
    // Numbers, texts and maps of them can always be written.
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

fn schema(shape: &Shape, definitions: &mut Map<String, Value>) -> Value {
    match shape {
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Duration => json!({
            "type": "string",
            "pattern": "^(0|([0-9]+(\\.[0-9]+)? ?(us|ms|s|m|min|h|d|w) ?)+)$",
            "examples": ["10s", "1h 30m"],
        }),
        Shape::Integer { max } => json!({ "type": "integer", "minimum": 0, "maximum": max }),
        Shape::List(shape) => json!({ "type": "array", "items": schema(shape, definitions) }),
        Shape::Map(shape) => {
            json!({ "type": "object", "additionalProperties": schema(shape, definitions) })
        }
        Shape::Path | Shape::Text(_) => json!({ "type": "string" }),
        Shape::Size => json!({
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?([kKmMgGtT]i?[bB]?|[bB])?$" },
            ],
            "examples": [65536, "64 KiB"],
        }),
        Shape::Table(table) => {
            if !definitions.contains_key(table.name) {
                // Claimed first, so that a table within itself would not be followed for ever.
                definitions.insert(table.name.to_owned(), Value::Null);
                let definition = self::table(table, definitions);
                definitions.insert(table.name.to_owned(), definition);
            }
            json!({ "$ref": format!("#/$defs/{}", table.name) })
        }
        Shape::Word(words) => {
            let one = |word: &crate::config::describe::Word| json!({ "const": word.word, "description": word.doc });
            json!({ "oneOf": words.iter().map(one).collect::<Vec<_>>() })
        }
    }
}

fn table(table: &Table, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for field in &table.fields {
        properties.insert(field.name.to_owned(), property(field, definitions));
    }
    let required: Vec<_> =
        table.fields.iter().filter(|field| field.is_required).map(|field| field.name).collect();
    let mut definition = json!({
        "type": "object",
        "description": table.doc,
        "additionalProperties": false,
        "properties": properties,
    });
    if let (Some(map), false) = (definition.as_object_mut(), required.is_empty()) {
        map.insert("required".to_owned(), json!(required));
    }
    definition
}

fn property(field: &Field, definitions: &mut Map<String, Value>) -> Value {
    let mut property = schema(&field.shape, definitions);
    if let Some(map) = property.as_object_mut() {
        map.insert("description".to_owned(), json!(field.doc));
        if let Some(default) = &field.default
            && !matches!(field.shape, Shape::Table(_))
        {
            map.insert("default".to_owned(), default.clone());
        }
    }
    property
}
