//! What is searched for.

use super::TextError;

/// Bytes of a query's text.
pub(crate) const QUERY_BYTES_MAX: usize = 4096;
/// Words, phrases' words included, of one query.
pub(crate) const CLAUSES_MAX: usize = 128;
/// Parts of a query that its shape shows.
const SHAPE_PARTS_MAX: usize = 16;
/// How deep queries nest.
pub(crate) const DEPTH_MAX: usize = 16;
/// Terms that one prefix may begin.
pub(crate) const PREFIX_TERMS_MAX: usize = 1000;
/// Terms that a fuzzy word stands for at most: the nearest, then the first by alphabet.
pub(crate) const FUZZY_TERMS_MAX: usize = 64;

/// A search. Words are read as the index reads documents.
///
/// From text, [`TextQuery::parse`] understands this:
///
/// | text | finds documents |
/// |---|---|
/// | `coffee shop` | with either word; both count more |
/// | `+coffee shop` | with `coffee`; `shop` counts if it is there |
/// | `"coffee shop"` | with the phrase; phrases must occur |
/// | `-tea`, `-"iced tea"` | without |
/// | `cof*` | with a word that begins so |
/// | `cofee~`, `cofee~2` | with a word at most 1 or 2 letters different |
/// | `title:coffee` | with the word in this field |
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TextQuery {
    /// All of these. Of none: nothing.
    All(Vec<Self>),
    /// At least one of these; each that is there counts. Of none: nothing.
    Any(Vec<Self>),
    /// What this finds, counting so many times as much.
    Boost(f64, Box<Self>),
    /// The first, without what the second finds.
    Except(Box<Self>, Box<Self>),
    /// In this field of the index only.
    Field(String, Box<Self>),
    /// A word, or one that 1 or 2 letters more, fewer or other make. At most 64 such terms are
    /// followed, nearest first.
    Fuzzy(String, u8),
    /// Words right after one another.
    Phrase(String),
    /// Words that begin so. What stems are made from is not known here, so the prefix is one of stems.
    Prefix(String),
    /// The first must match; the second only counts.
    Should(Box<Self>, Box<Self>),
    /// A word. Text of several words is a phrase if the index keeps positions, else all of them.
    Word(String),
}

impl TextQuery {
    /// Reads a query from text.
    ///
    /// # Errors
    /// [`TextError::QueryTooLong`] above 4096 bytes, [`TextError::TooManyClauses`] above 128 words.
    /// Everything else means something.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(TextError::QueryTooLong { limit: QUERY_BYTES_MAX });
        }
        let (mut must, mut any, mut not) = (Vec::new(), Vec::new(), Vec::new());
        let mut rest = text.trim_start();
        let mut count = 0;
        while !rest.is_empty() {
            let (sign, clause, after) = next_clause(rest);
            rest = after.trim_start();
            count += 1;
            if count > CLAUSES_MAX {
                return Err(TextError::TooManyClauses { limit: CLAUSES_MAX });
            }
            match (sign, clause) {
                (_, None) => {}
                (Some('-'), Some(clause)) => not.push(clause),
                (Some('+'), Some(clause)) => must.push(clause),
                (_, Some(clause)) if is_phrase(&clause) => must.push(clause),
                (_, Some(clause)) => any.push(clause),
            }
        }
        let one = |mut all: Vec<Self>, many: fn(Vec<Self>) -> Self| {
            if all.len() == 1 { all.remove(0) } else { many(all) }
        };
        let query = match (must.is_empty(), any.is_empty()) {
            (true, _) => one(any, Self::Any),
            (false, true) => one(must, Self::All),
            (false, false) => {
                Self::Should(Box::new(one(must, Self::All)), Box::new(one(any, Self::Any)))
            }
        };
        Ok(match not.is_empty() {
            true => query,
            false => Self::Except(Box::new(query), Box::new(one(not, Self::Any))),
        })
    }

    /// What is asked, without the words: `all(word, phrase)`.
    pub(crate) fn shape(&self) -> String {
        let list = |name: &str, parts: &[Self]| {
            let parts: Vec<String> = parts.iter().take(SHAPE_PARTS_MAX).map(Self::shape).collect();
            format!("{name}({})", parts.join(", "))
        };
        match self {
            Self::All(parts) => list("all", parts),
            Self::Any(parts) => list("any", parts),
            Self::Boost(_, part) => format!("boost({})", part.shape()),
            Self::Except(a, b) => format!("except({}, {})", a.shape(), b.shape()),
            Self::Field(field, part) => format!("{field:?}: {}", part.shape()),
            Self::Fuzzy(..) => "fuzzy".to_owned(),
            Self::Phrase(_) => "phrase".to_owned(),
            Self::Prefix(_) => "prefix".to_owned(),
            Self::Should(a, b) => format!("should({}, {})", a.shape(), b.shape()),
            Self::Word(_) => "word".to_owned(),
        }
    }

    /// Every word of a text.
    pub fn all_words(text: &str) -> Self {
        Self::All(text.split_whitespace().map(|word| Self::Word(word.into())).collect())
    }

    /// What the query asks of the text itself: bounds, before anything is looked up.
    pub(crate) fn check(&self, depth: usize, clauses: &mut usize) -> Result<(), TextError> {
        if depth > DEPTH_MAX {
            return Err(TextError::InvalidQuery { reason: "it nests more than 16 deep" });
        }
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().try_for_each(|part| part.check(depth + 1, clauses))
            }
            Self::Except(a, b) | Self::Should(a, b) => {
                a.check(depth + 1, clauses)?;
                b.check(depth + 1, clauses)
            }
            Self::Boost(boost, part) => {
                if !(boost.is_finite() && *boost > 0.0 && *boost <= 1e6) {
                    let reason = "a weight is more than 0 and at most 1,000,000";
                    return Err(TextError::InvalidQuery { reason });
                }
                part.check(depth + 1, clauses)
            }
            Self::Field(_, part) => part.check(depth + 1, clauses),
            Self::Fuzzy(_, distance) if !(1..=2).contains(distance) => {
                Err(TextError::InvalidQuery { reason: "the distance of a fuzzy word is 1 or 2" })
            }
            Self::Fuzzy(text, _) | Self::Phrase(text) | Self::Prefix(text) | Self::Word(text) => {
                if text.len() > QUERY_BYTES_MAX {
                    return Err(TextError::QueryTooLong { limit: QUERY_BYTES_MAX });
                }
                *clauses += 1;
                match *clauses > CLAUSES_MAX {
                    true => Err(TextError::TooManyClauses { limit: CLAUSES_MAX }),
                    false => Ok(()),
                }
            }
        }
    }
}

fn is_phrase(query: &TextQuery) -> bool {
    match query {
        TextQuery::Phrase(_) => true,
        TextQuery::Field(_, part) => is_phrase(part),
        _ => false,
    }
}

/// A sign, what it stands before (nothing, if that holds no word), and what follows.
fn next_clause(text: &str) -> (Option<char>, Option<TextQuery>, &str) {
    let sign = text.chars().next().filter(|c| matches!(c, '+' | '-'));
    let text = if sign.is_some() { &text[1..] } else { text };
    let end = text.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    // `title:"some words"` and `"some words"`.
    let field = word.strip_suffix(':').filter(|f| !f.is_empty());
    if let Some(quoted) = after.strip_prefix('"')
        && (word.is_empty() || field.is_some())
    {
        let (phrase, after) = quoted.split_once('"').unwrap_or((quoted, ""));
        let clause = (!phrase.trim().is_empty()).then(|| TextQuery::Phrase(phrase.to_owned()));
        return (sign, clause.map(|c| in_field(field, c)), after);
    }
    if word.is_empty() {
        // A sign alone, or a stray mark.
        let skipped = after.chars().next().filter(|c| *c == '"').map_or(0, char::len_utf8);
        return (sign, None, &after[skipped..]);
    }
    let (field, word) = match word.split_once(':') {
        Some((field, word)) if !field.is_empty() && !word.is_empty() => (Some(field), word),
        _ => (None, word),
    };
    (sign, word_clause(word).map(|c| in_field(field, c)), after)
}

fn in_field(field: Option<&str>, clause: TextQuery) -> TextQuery {
    match field {
        Some(field) => TextQuery::Field(field.to_owned(), Box::new(clause)),
        None => clause,
    }
}

fn word_clause(word: &str) -> Option<TextQuery> {
    if !word.chars().any(char::is_alphanumeric) {
        return None;
    }
    if let Some(prefix) = word.strip_suffix('*') {
        return Some(TextQuery::Prefix(prefix.to_owned()));
    }
    for (mark, distance) in [("~", 1), ("~1", 1), ("~2", 2)] {
        if let Some(word) = word.strip_suffix(mark)
            && !word.is_empty()
        {
            return Some(TextQuery::Fuzzy(word.to_owned(), distance));
        }
    }
    Some(TextQuery::Word(word.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{TextQuery::*, *};

    fn word(text: &str) -> TextQuery {
        Word(text.into())
    }

    fn boxed(query: TextQuery) -> Box<TextQuery> {
        Box::new(query)
    }

    #[test]
    fn queries_mean_what_they_say() {
        let phrase = |text: &str| Phrase(text.into());
        let rows = [
            ("", Any(vec![])),
            ("coffee", word("coffee")),
            (" coffee  shop ", Any(vec![word("coffee"), word("shop")])),
            ("+a b", Should(boxed(word("a")), boxed(word("b")))),
            ("+a +b", All(vec![word("a"), word("b")])),
            ("\"a b\"", phrase("a b")),
            ("\"a b\" c", Should(boxed(phrase("a b")), boxed(word("c")))),
            ("a -b -\"c d\"", Except(boxed(word("a")), boxed(Any(vec![word("b"), phrase("c d")])))),
            ("-a", Except(boxed(Any(vec![])), boxed(word("a")))),
            (
                "cof* cofe~ cof~2",
                Any(vec![Prefix("cof".into()), Fuzzy("cofe".into(), 1), Fuzzy("cof".into(), 2)]),
            ),
            ("t:a", Field("t".into(), boxed(word("a")))),
            ("t:\"a b\"", Field("t".into(), boxed(phrase("a b")))),
            ("a:", word("a:")),
            ("\"open", phrase("open")),
            ("\"\" * ~ - + a", word("a")),
            ("a\"b\"", Should(boxed(phrase("b")), boxed(word("a")))),
        ];
        for (text, want) in rows {
            assert_eq!(TextQuery::parse(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn queries_are_bounded() {
        let many = "a ".repeat(CLAUSES_MAX + 1);
        assert_eq!(TextQuery::parse(&many), Err(TextError::TooManyClauses { limit: CLAUSES_MAX }));
        let long = "a".repeat(QUERY_BYTES_MAX + 1);
        assert_eq!(
            TextQuery::parse(&long),
            Err(TextError::QueryTooLong { limit: QUERY_BYTES_MAX })
        );
        let deep = (0..20).fold(word("a"), |query, _| All(vec![query]));
        let wide = All(vec![word("a"); CLAUSES_MAX + 1]);
        let bad = [deep, wide, Fuzzy("a".into(), 3), Boost(f64::NAN, boxed(word("a")))];
        for query in bad {
            assert!(query.check(0, &mut 0).is_err(), "{query:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_query(text in "[-+\"*~: ab]{0,30}|\\PC{0,30}") {
            let query = TextQuery::parse(&text).unwrap();
            prop_assert!(query.check(0, &mut 0).is_ok());
        }
    }
}
