//! `serde::Deserializer` over a node of the tree.

use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor, value::StrDeserializer,
};

use super::{DecodeError, Notes};
use crate::{
    source::Span,
    spanned::{SECRET, SPANNED},
    text,
    tree::{Entry, Node, Path, Segment, Value},
};

/// Numbers differ only in what the visitor accepts, and so do strings.
macro_rules! forward_to {
    ($to:ident: $($name:ident)*) => { $(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            self.$to(visitor)
        }
    )* };
}

/// The way from the root to a node, as a list on the stack: no error, no allocation.
#[derive(Clone, Copy)]
pub(super) enum Trail<'a> {
    Index(&'a Trail<'a>, usize),
    Key(&'a Trail<'a>, &'a str),
    Root,
}

impl Trail<'_> {
    fn path(&self) -> Path {
        let mut segments = Vec::new();
        let mut step = self;
        loop {
            step = match step {
                Self::Index(parent, index) => {
                    segments.push(Segment::Index(*index));
                    parent
                }
                Self::Key(parent, key) => {
                    segments.push(Segment::Key((*key).to_owned()));
                    parent
                }
                Self::Root => break,
            }
        }
        segments.reverse();
        Path(segments)
    }
}

#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'a> {
    node: &'a Node,
    trail: Trail<'a>,
    notes: &'a Notes,
}

impl<'a> NodeDeserializer<'a> {
    pub(super) fn new(node: &'a Node, trail: Trail<'a>, notes: &'a Notes) -> Self {
        Self { node, trail, notes }
    }

    fn locate(&self, error: DecodeError) -> DecodeError {
        error.locate(|| self.trail.path(), self.node.span)
    }

    fn wrong_type<T>(&self, expected: &dyn de::Expected) -> Result<T, DecodeError> {
        let error = DecodeError::invalid_type(unexpected(&self.node.value), expected);
        Err(self.locate(error))
    }

    fn visit_scalar<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Array(_) | Value::Table(_) => self.wrong_type(&visitor),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Integer(value) => visit_integer(*value, visitor),
            Value::Null => visitor.visit_unit(),
            Value::Datetime(text) | Value::String(text) | Value::Text(text) => {
                visitor.visit_str(text)
            }
        }
        .map_err(|error| self.locate(error))
    }

    fn visit_array<'de, V: Visitor<'de>>(
        self,
        items: &[Node],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let mut access =
            Items { items: items.iter().enumerate(), trail: self.trail, notes: self.notes };
        let value = visitor.visit_seq(&mut access).map_err(|error| self.locate(error))?;
        // A tuple stops reading when it is full; what is left would be lost without a word.
        match access.items.filter(|(_, item)| !item.pruned).count() {
            0 => Ok(value),
            left => {
                let expected = format!("{} of them", items.len() - left);
                Err(self.locate(DecodeError::invalid_length(items.len(), &expected.as_str())))
            }
        }
    }

    fn visit_table<'de, V: Visitor<'de>>(
        self,
        entries: &[Entry],
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let access = Entries {
            entries: entries.iter(),
            value: None,
            fields,
            trail: self.trail,
            notes: self.notes,
        };
        visitor.visit_map(access).map_err(|error| self.locate(error))
    }

    /// Text as the value it looks like: for targets that take anything.
    fn guessed<R>(self, text: &str, then: impl FnOnce(NodeDeserializer<'_>) -> R) -> R {
        let node = text::guess(text, self.node.span, self.notes.depth_max);
        then(NodeDeserializer { node: &node, ..self })
    }
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Array(items) => self.visit_array(items, visitor),
            Value::Table(table) => self.visit_table(&table.entries, None, visitor),
            Value::Text(text) => self.guessed(text, |node| node.deserialize_any(visitor)),
            _ => self.visit_scalar(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Text(text) if let Some(value) = text::boolean(text) => visitor.visit_bool(value),
            _ => self.visit_scalar(visitor),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Text(text) if let Ok(value) = text.trim().parse() => {
                visit_integer(value, visitor).map_err(|error| self.locate(error))
            }
            _ => self.visit_scalar(visitor),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Text(text) if let Ok(value) = text.trim().parse() => {
                visitor.visit_f64(value).map_err(|error| self.locate(error))
            }
            _ => self.visit_scalar(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_scalar(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
        .map_err(|error| self.locate(error))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match name {
            SPANNED => visitor.visit_seq(SpanThenValue { node: self, step: 0 }),
            SECRET => {
                self.notes.secrets.borrow_mut().insert(self.node.span);
                visitor.visit_newtype_struct(self)
            }
            _ => visitor.visit_newtype_struct(self),
        }
        .map_err(|error| self.locate(error))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Array(items) => self.visit_array(items, visitor),
            Value::Text(text) => {
                self.visit_array(&text::list(text, self.node.span, self.notes.depth_max), visitor)
            }
            _ => self.wrong_type(&visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Table(table) => self.visit_table(&table.entries, None, visitor),
            Value::Text(text) if text::is_table(text) => {
                self.guessed(text, |node| node.deserialize_any(visitor))
            }
            _ => self.wrong_type(&visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Table(table) => self.visit_table(&table.entries, Some(fields), visitor),
            Value::Text(text) if text::is_table(text) => {
                self.guessed(text, |node| match &node.node.value {
                    Value::Table(_) => node.deserialize_struct(name, fields, visitor),
                    _ => node.wrong_type(&visitor),
                })
            }
            _ => self.wrong_type(&visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::String(text) => {
                visitor.visit_enum(Variant { node: self, name: text, content: None })
            }
            Value::Text(text) if text::is_table(text) => {
                self.guessed(text, |node| match node.node.value {
                    Value::Table(_) => node.deserialize_enum(name, variants, visitor),
                    _ => node.wrong_type(&visitor),
                })
            }
            Value::Text(text) => {
                visitor.visit_enum(Variant { node: self, name: text.trim(), content: None })
            }
            Value::Table(table) => {
                let mut entries = table.entries.iter().filter(|entry| !entry.node.pruned);
                match (entries.next(), entries.next()) {
                    (Some(Entry { key, node, .. }), None) => {
                        visitor.visit_enum(Variant { node: self, name: key, content: Some(node) })
                    }
                    _ => {
                        let message = format!("expected {} as the only key", Listed(variants));
                        let help = "keep one of the keys, or write the name as a string";
                        Err(DecodeError::shape(message, help.to_owned()))
                    }
                }
            }
            _ => Err(DecodeError::invalid_type(unexpected(&self.node.value), &Listed(variants))),
        }
        .map_err(|error| self.locate(error))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    forward_to! { deserialize_i64: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 }
    forward_to! { deserialize_f64: deserialize_f32 }
    forward_to! { deserialize_str: deserialize_char deserialize_string deserialize_bytes deserialize_byte_buf deserialize_identifier }
}

struct Items<'a, I> {
    items: I,
    trail: Trail<'a>,
    notes: &'a Notes,
}

impl<'de, 'a, I: Iterator<Item = (usize, &'a Node)>> SeqAccess<'de> for &mut Items<'a, I> {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        let Some((index, node)) = self.items.by_ref().find(|(_, node)| !node.pruned) else {
            return Ok(None);
        };
        let node = NodeDeserializer::new(node, Trail::Index(&self.trail, index), self.notes);
        seed.deserialize(node).map(Some).map_err(|error| node.locate(error))
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, Entry>,
    value: Option<&'a Entry>,
    /// The keys the target knows, if it is a struct.
    fields: Option<&'static [&'static str]>,
    trail: Trail<'a>,
    notes: &'a Notes,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        for entry in self.entries.by_ref().filter(|entry| !entry.node.pruned) {
            match self.fields {
                Some(fields) if !fields.contains(&entry.key.as_str()) => {
                    let path = Trail::Key(&self.trail, &entry.key).path();
                    self.notes.unknown_key(path, &entry.key, entry.key_span, fields);
                }
                _ => {
                    self.value = Some(entry);
                    let trail = Trail::Key(&self.trail, &entry.key);
                    return seed
                        .deserialize(KeyDeserializer { entry })
                        .map(Some)
                        .map_err(|error| error.locate(|| trail.path(), entry.key_span));
                }
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, DecodeError> {
        let entry =
            self.value.take().ok_or_else(|| DecodeError::custom("a value without a key"))?;
        let trail = Trail::Key(&self.trail, &entry.key);
        let node = NodeDeserializer::new(&entry.node, trail, self.notes);
        seed.deserialize(node).map_err(|error| node.locate(error))
    }
}

/// A key of a table: text, whatever the target wants it to be.
struct KeyDeserializer<'a> {
    entry: &'a Entry,
}

impl<'de> Deserializer<'de> for KeyDeserializer<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_str(&self.entry.key)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if name == SPANNED {
            return visitor.visit_seq(SpanThenKey { entry: self.entry, step: 0 });
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.entry.key.parse() {
            Ok(value) => visit_integer(value, visitor),
            Err(_) => visitor.visit_str(&self.entry.key),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let key: StrDeserializer<'_, DecodeError> = self.entry.key.as_str().into_deserializer();
        visitor.visit_enum(key)
    }

    forward_to! { deserialize_i64: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 }

    serde::forward_to_deserialize_any! {
        bool f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple tuple_struct
        map struct identifier ignored_any
    }
}

/// What `Spanned` reads: its span, then itself.
struct SpanThenValue<'a> {
    node: NodeDeserializer<'a>,
    step: u8,
}

impl<'de> SeqAccess<'de> for SpanThenValue<'_> {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        self.step += 1;
        match self.step {
            1 => seed.deserialize(raw(self.node.node.span)).map(Some),
            2 => seed.deserialize(self.node).map(Some),
            _ => Ok(None),
        }
    }
}

struct SpanThenKey<'a> {
    entry: &'a Entry,
    step: u8,
}

impl<'de> SeqAccess<'de> for SpanThenKey<'_> {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        self.step += 1;
        match self.step {
            1 => seed.deserialize(raw(self.entry.key_span)).map(Some),
            2 => seed.deserialize(KeyDeserializer { entry: self.entry }).map(Some),
            _ => Ok(None),
        }
    }
}

/// `"name"` or `{ name = content }`.
struct Variant<'a> {
    node: NodeDeserializer<'a>,
    name: &'a str,
    content: Option<&'a Node>,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self), DecodeError> {
        let name: StrDeserializer<'_, DecodeError> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'a> Variant<'a> {
    fn with_content<R>(
        &self,
        then: impl FnOnce(NodeDeserializer<'_>) -> Result<R, DecodeError>,
    ) -> Result<R, DecodeError> {
        let Some(content) = self.content else {
            let message = format!("`{}` needs a value of its own", self.name);
            let help = format!("write it as {{ {} = … }}", self.name);
            return Err(DecodeError::shape(message, help));
        };
        let trail = Trail::Key(&self.node.trail, self.name);
        let node = NodeDeserializer::new(content, trail, self.node.notes);
        then(node).map_err(|error| node.locate(error))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.content {
            None => Ok(()),
            Some(_) => {
                let message = format!("`{}` takes no value", self.name);
                let help = format!("write it as a string: \"{}\"", self.name);
                Err(DecodeError::shape(message, help))
            }
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<S::Value, DecodeError> {
        self.with_content(|node| seed.deserialize(node))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.with_content(|node| node.deserialize_seq(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.with_content(|node| node.deserialize_struct("", fields, visitor))
    }
}

/// The names of an enum, for messages.
struct Listed(&'static [&'static str]);

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, word) in self.0.iter().enumerate() {
            write!(f, "{}`{word}`", if at == 0 { "one of " } else { ", " })?;
        }
        Ok(())
    }
}

impl de::Expected for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn raw(span: Span) -> de::value::SeqDeserializer<std::array::IntoIter<u32, 3>, DecodeError> {
    let (source, start, end) = span.to_raw();
    de::value::SeqDeserializer::new([source, start, end].into_iter())
}

fn visit_integer<'de, V: Visitor<'de>>(value: i128, visitor: V) -> Result<V::Value, DecodeError> {
    if let Ok(value) = i64::try_from(value) {
        visitor.visit_i64(value)
    } else if let Ok(value) = u64::try_from(value) {
        visitor.visit_u64(value)
    } else {
        visitor.visit_i128(value)
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Array(_) => Unexpected::Seq,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Float(value) => Unexpected::Float(*value),
        Value::Integer(value) => Unexpected::Signed(i64::try_from(*value).unwrap_or(i64::MAX)),
        Value::Null => Unexpected::Unit,
        Value::Datetime(text) | Value::String(text) | Value::Text(text) => Unexpected::Str(text),
        Value::Table(_) => Unexpected::Map,
    }
}
