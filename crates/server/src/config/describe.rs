//! What a key takes, in a form that the manual and the JSON Schema are made from.
//!
//! The macros write a section once: serde type, defaults and description come from the same lines, so
//! the manual cannot say anything else than the program does.

use std::{collections::BTreeMap, path::PathBuf};

use hearth_config::{ByteSize, HumanDuration, Secret, Spanned};

/// Says what values a type takes.
pub trait Describe {
    /// The values.
    fn shape() -> Shape;
}

/// The values that a key takes.
#[derive(Debug, Clone)]
pub enum Shape {
    /// `true` or `false`.
    Bool,
    /// A length of time with its unit.
    Duration,
    /// A whole number.
    Integer {
        /// The largest.
        max: u64,
    },
    /// Any number of these.
    List(Box<Shape>),
    /// A table whose keys the operator chooses.
    Map(Box<Shape>),
    /// A file or folder.
    Path,
    /// A number of bytes.
    Size,
    /// A table with fixed keys.
    Table(Box<Table>),
    /// Text; in words, what it may be.
    Text(&'static str),
    /// One of these words.
    Word(Vec<Word>),
}

/// A word and what it means.
#[derive(Debug, Clone, Copy)]
pub struct Word {
    /// As it is written.
    pub word: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// A table with fixed keys.
#[derive(Debug, Clone)]
pub struct Table {
    /// The name of the type, which is the name of the definition in the schema.
    pub name: &'static str,
    /// What the table is for.
    pub doc: String,
    /// Its keys.
    pub fields: Vec<Field>,
}

/// A key of a table.
#[derive(Debug, Clone)]
pub struct Field {
    /// As it is written.
    pub name: &'static str,
    /// What it does.
    pub doc: String,
    /// What it takes.
    pub shape: Shape,
    /// Its value where it is not set, as JSON; `None` where there is none.
    pub default: Option<serde_json::Value>,
    /// Whether the table means nothing without it.
    pub is_required: bool,
}

impl Describe for bool {
    fn shape() -> Shape {
        Shape::Bool
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Describe for $type {
            fn shape() -> Shape {
                Shape::Integer { max: <$type>::MAX as u64 }
            }
        }
    )*};
}
integers!(u16, u32, u64, usize);

impl Describe for String {
    fn shape() -> Shape {
        Shape::Text("text")
    }
}

impl Describe for PathBuf {
    fn shape() -> Shape {
        Shape::Path
    }
}

impl Describe for ByteSize {
    fn shape() -> Shape {
        Shape::Size
    }
}

impl Describe for HumanDuration {
    fn shape() -> Shape {
        Shape::Duration
    }
}

impl<T: Describe> Describe for Spanned<T> {
    fn shape() -> Shape {
        T::shape()
    }
}

impl<T: Describe> Describe for Secret<T> {
    fn shape() -> Shape {
        T::shape()
    }
}

impl<T: Describe> Describe for Option<T> {
    fn shape() -> Shape {
        T::shape()
    }
}

impl<T: Describe> Describe for Vec<T> {
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }
}

impl<K, V: Describe> Describe for BTreeMap<K, V> {
    fn shape() -> Shape {
        Shape::Map(Box::new(V::shape()))
    }
}

/// Joins the lines of a doc comment into a paragraph.
pub(crate) fn paragraph(lines: &[&str]) -> String {
    let words: Vec<_> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
    words.join(" ")
}

/// A section whose keys all have defaults: `key: Type = default`.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $($(#[doc = $field_doc:literal])* $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, ::serde::Deserialize, ::serde::Serialize)]
        #[serde(default)]
        pub struct $name {
            $($(#[doc = $field_doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: ($default).into(),)* }
            }
        }

        impl $crate::config::describe::Describe for $name {
            fn shape() -> $crate::config::describe::Shape {
                use $crate::config::describe::{Describe, Field, Shape, Table, paragraph};
                let defaults = ::serde_json::to_value(Self::default()).unwrap_or_default();
                Shape::Table(Box::new(Table {
                    name: stringify!($name),
                    doc: paragraph(&[$($doc),*]),
                    fields: vec![$(Field {
                        name: stringify!($field),
                        doc: paragraph(&[$($field_doc),*]),
                        shape: <$type as Describe>::shape(),
                        default: defaults
                            .get(stringify!($field))
                            .filter(|value| !value.is_null())
                            .cloned(),
                        is_required: false,
                    }),*],
                }))
            }
        }
    };
}

/// A section with keys that it means nothing without; the others may be left out.
macro_rules! entry {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            required { $($(#[doc = $req_doc:literal])* $req:ident: $req_type:ty,)* }
            optional { $($(#[doc = $opt_doc:literal])* $opt:ident: $opt_type:ty,)* }
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, ::serde::Deserialize, ::serde::Serialize)]
        pub struct $name {
            $($(#[doc = $req_doc])* pub $req: $req_type,)*
            $($(#[doc = $opt_doc])* #[serde(default)] pub $opt: $opt_type,)*
        }

        impl $crate::config::describe::Describe for $name {
            fn shape() -> $crate::config::describe::Shape {
                use $crate::config::describe::{Describe, Field, Shape, Table, paragraph};
                Shape::Table(Box::new(Table {
                    name: stringify!($name),
                    doc: paragraph(&[$($doc),*]),
                    fields: vec![
                        $(Field {
                            name: stringify!($req),
                            doc: paragraph(&[$($req_doc),*]),
                            shape: <$req_type as Describe>::shape(),
                            default: None,
                            is_required: true,
                        },)*
                        $(Field {
                            name: stringify!($opt),
                            doc: paragraph(&[$($opt_doc),*]),
                            shape: <$opt_type as Describe>::shape(),
                            default: None,
                            is_required: false,
                        },)*
                    ],
                }))
            }
        }
    };
}

/// A choice of words.
macro_rules! words {
    (
        $(#[doc = $doc:literal])*
        pub enum $name:ident {
            $($(#[doc = $variant_doc:literal])* $variant:ident = $word:literal,)*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, ::serde::Deserialize, ::serde::Serialize)]
        pub enum $name {
            $($(#[doc = $variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $crate::config::describe::Describe for $name {
            fn shape() -> $crate::config::describe::Shape {
                use $crate::config::describe::{Shape, Word};
                Shape::Word(vec![$(Word {
                    word: $word,
                    doc: concat!($($variant_doc),*).trim_ascii(),
                }),*])
            }
        }
    };
}

pub(crate) use {entry, section, words};
