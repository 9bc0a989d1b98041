//! What a text index covers and how it reads text.

use serde_json::{Map, Value, json};

use super::TextError;

/// Fields of one text index; a field's number is one byte of every term.
pub(crate) const FIELDS_MAX: usize = 64;
/// Stop words of one index.
pub(crate) const STOP_WORDS_MAX: usize = 10_000;
/// Bytes of a field's path.
const PATH_BYTES_MAX: usize = 1024;

/// A full-text index: which fields it covers and how their text is read.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TextIndex {
    /// Its name: 1 to 64 bytes of `a-z`, `0-9`, `_` and `-`, one of a kind in the collection.
    pub name: String,
    /// Dotted paths and their weights, at most 64. An array on the way, or at the end, stands for its
    /// elements. The path `*` stands for every string of the document.
    pub fields: Vec<TextField>,
    /// Reduces words to stems. Default: none, words are found as they are written.
    pub language: Option<Language>,
    /// Words that are not indexed, at most 10,000. Default: none.
    pub stop_words: Vec<String>,
    /// Keep where in the text each word stands, which phrases need. Default: true. Without, the index
    /// is about half as large.
    pub positions: bool,
    /// Treat `é` as `e`. Default: false.
    pub fold_marks: bool,
}

/// One field of a text index.
#[derive(Debug, Clone, PartialEq)]
pub struct TextField {
    /// The dotted path.
    pub path: String,
    /// What a match here counts; more than 0. Default: 1.
    pub boost: f64,
}

impl TextIndex {
    /// An index without fields.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            fields: Vec::new(),
            language: None,
            stop_words: Vec::new(),
            positions: true,
            fold_marks: false,
        }
    }

    /// Adds a field with weight 1.
    #[must_use]
    pub fn field(self, path: impl Into<String>) -> Self {
        self.boosted(path, 1.0)
    }

    /// Adds a field with a weight.
    #[must_use]
    pub fn boosted(mut self, path: impl Into<String>, boost: f64) -> Self {
        self.fields.push(TextField { path: path.into(), boost });
        self
    }

    /// Reduces words to stems of this language.
    #[must_use]
    pub fn language(mut self, language: Language) -> Self {
        self.language = Some(language);
        self
    }

    /// Leaves these words out.
    #[must_use]
    pub fn stop_words(mut self, words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.stop_words = words.into_iter().map(Into::into).collect();
        self
    }

    /// Whether positions are kept.
    #[must_use]
    pub fn positions(mut self, positions: bool) -> Self {
        self.positions = positions;
        self
    }

    /// Whether marks on letters are ignored.
    #[must_use]
    pub fn fold_marks(mut self, fold_marks: bool) -> Self {
        self.fold_marks = fold_marks;
        self
    }

    pub(crate) fn check(&self) -> Result<(), TextError> {
        let bad = |reason| Err(TextError::InvalidIndex { reason });
        if self.fields.is_empty() || self.fields.len() > FIELDS_MAX {
            return bad("it needs 1 to 64 fields");
        }
        if self.fields.iter().any(|f| f.path.is_empty() || f.path.len() > PATH_BYTES_MAX) {
            return bad("a path has 1 to 1024 bytes");
        }
        if self.fields.iter().any(|f| !(f.boost.is_finite() && f.boost > 0.0 && f.boost <= 1e6)) {
            return bad("a weight is more than 0 and at most 1,000,000");
        }
        let mut paths: Vec<_> = self.fields.iter().map(|f| &f.path).collect();
        paths.sort_unstable();
        if paths.windows(2).any(|pair| pair[0] == pair[1]) {
            return bad("a path is named twice");
        }
        if self.stop_words.len() > STOP_WORDS_MAX {
            return bad("at most 10,000 stop words are allowed");
        }
        Ok(())
    }

    pub(crate) fn to_json(&self) -> Value {
        let fields: Vec<Value> =
            self.fields.iter().map(|f| json!({"path": f.path, "boost": f.boost})).collect();
        json!({
            "name": self.name,
            "fields": fields,
            "language": self.language.map(Language::name),
            "stop_words": self.stop_words,
            "positions": self.positions,
            "fold_marks": self.fold_marks,
        })
    }

    /// `None` if it is not what `to_json` made.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let map: &Map<String, Value> = value.as_object()?;
        let fields = map.get("fields")?.as_array()?.iter().map(|f| {
            let boost = f.get("boost")?.as_f64()?;
            Some(TextField { path: f.get("path")?.as_str()?.to_owned(), boost })
        });
        let language = match map.get("language")? {
            Value::Null => None,
            name => Some(Language::from_name(name.as_str()?)?),
        };
        let words = map.get("stop_words")?.as_array()?.iter();
        let index = Self {
            name: map.get("name")?.as_str()?.to_owned(),
            fields: fields.collect::<Option<_>>()?,
            language,
            stop_words: words.map(|w| w.as_str().map(str::to_owned)).collect::<Option<_>>()?,
            positions: map.get("positions")?.as_bool()?,
            fold_marks: map.get("fold_marks")?.as_bool()?,
        };
        index.check().ok()?;
        Some(index)
    }
}

macro_rules! languages {
    ($($name:ident $text:literal),* $(,)?) => {
        /// A language whose words can be reduced to stems (Snowball).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        #[allow(missing_docs)]
        pub enum Language { $($name),* }

        impl Language {
            /// Every language.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its English name in lower case.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            pub(crate) fn algorithm(self) -> rust_stemmers::Algorithm {
                match self { $(Self::$name => rust_stemmers::Algorithm::$name),* }
            }
        }
    };
}

languages! {
    Arabic "arabic", Danish "danish", Dutch "dutch", English "english", Finnish "finnish",
    French "french", German "german", Greek "greek", Hungarian "hungarian", Italian "italian",
    Norwegian "norwegian", Portuguese "portuguese", Romanian "romanian", Russian "russian",
    Spanish "spanish", Swedish "swedish", Tamil "tamil", Turkish "turkish",
}

impl Language {
    /// The language of an English name, such as `german`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|l| l.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_json() {
        let index = TextIndex::new("all")
            .boosted("title", 2.5)
            .field("tags.name")
            .language(Language::German)
            .stop_words(["der", "die"])
            .positions(false)
            .fold_marks(true);
        assert_eq!(TextIndex::from_json(&index.to_json()), Some(index));
        assert_eq!(TextIndex::from_json(&json!({"name": "x", "fields": []})), None);
    }

    #[test]
    fn bad_settings_are_refused() {
        let rows = [
            TextIndex::new("none"),
            TextIndex::new("empty").field(""),
            TextIndex::new("twice").field("a").field("a"),
            TextIndex::new("zero").boosted("a", 0.0),
            TextIndex::new("nan").boosted("a", f64::NAN),
            TextIndex::new("long").field("x".repeat(2000)),
            (0..65).fold(TextIndex::new("many"), |index, n| index.field(n.to_string())),
        ];
        for index in rows {
            assert!(index.check().is_err(), "{index:?}");
        }
    }
}
