//! From text to terms: words (UAX #29), folded case, optional stop words and stems; pairs of
//! characters for scripts without spaces.

use std::{borrow::Cow, collections::HashSet};

use rust_stemmers::Stemmer;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
use unicode_segmentation::UnicodeSegmentation;

use super::{Language, TextIndex};
use crate::jb1::{self, Kind};

/// Longer terms are not indexed: nobody searches for them, and they would swell the dictionary.
pub(crate) const TERM_BYTES_MAX: usize = 200;
/// An array in a document of many levels: deeper strings are not looked for.
const ARRAY_DEPTH_MAX: usize = 128;

/// One word of a text, ready for the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) term: &'a str,
    /// Which word of the text it is; stop words count.
    pub(crate) position: u32,
    /// Where it stands in the text.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Turns text into terms, for documents and queries alike.
pub(crate) struct Analyzer {
    stemmer: Option<Stemmer>,
    stop_words: HashSet<String>,
    fold_marks: bool,
}

impl std::fmt::Debug for Analyzer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Analyzer").field("stems", &self.stemmer.is_some()).finish_non_exhaustive()
    }
}

impl Analyzer {
    pub(crate) fn new(index: &TextIndex) -> Self {
        Self::of(index.language, &index.stop_words, index.fold_marks)
    }

    fn of(language: Option<Language>, stop_words: &[String], fold_marks: bool) -> Self {
        let mut analyzer = Self {
            stemmer: language.map(|l| Stemmer::create(l.algorithm())),
            stop_words: HashSet::new(),
            fold_marks,
        };
        analyzer.stop_words = stop_words.iter().map(|w| analyzer.fold(w).into_owned()).collect();
        analyzer
    }

    /// Calls `each` with every term of the text, counting positions from `position` on; returns the
    /// position after the last word.
    pub(crate) fn terms(
        &self,
        text: &str,
        mut position: u32,
        mut each: impl FnMut(Token<'_>),
    ) -> u32 {
        if text.is_ascii() {
            let mut lower = [0; TERM_BYTES_MAX];
            ascii_words(text.as_bytes(), |start, end| {
                if let Some(buffer) = lower.get_mut(..end - start) {
                    buffer.copy_from_slice(&text.as_bytes()[start..end]);
                    buffer.make_ascii_lowercase();
                    if let Ok(word) = std::str::from_utf8(buffer) {
                        self.emit(word, position, start, end, &mut each);
                    }
                }
                position += 1;
            });
            return position;
        }
        let mut run = Run::default();
        for (start, word) in text.unicode_word_indices() {
            let end = start + word.len();
            let mut chars = word.chars();
            let single = chars.next().filter(|c| is_unspaced(*c) && chars.next().is_none());
            if run.previous.as_ref().is_some_and(|p| single.is_none() || p.end != start) {
                run.end(&mut each);
            }
            match single {
                Some(_) => run.push(word, start, position, &mut each),
                None if word.len() <= TERM_BYTES_MAX => {
                    self.emit(&self.fold(word), position, start, end, &mut each);
                }
                None => {}
            }
            position += 1;
        }
        run.end(&mut each);
        position
    }

    /// The term a prefix query looks for: folded, but no stem.
    pub(crate) fn fold<'a>(&self, word: &'a str) -> Cow<'a, str> {
        if word.is_ascii() {
            return if word.bytes().any(|b| b.is_ascii_uppercase()) {
                Cow::Owned(word.to_ascii_lowercase())
            } else {
                Cow::Borrowed(word)
            };
        }
        // NFKC_Casefold, nearly: composed, folded, composed again.
        let folded = caseless::default_case_fold_str(&word.nfkc().collect::<String>());
        Cow::Owned(if self.fold_marks {
            folded.nfkd().filter(|c| !is_combining_mark(*c)).nfkc().collect()
        } else {
            folded.nfkc().collect()
        })
    }

    fn emit(
        &self,
        word: &str,
        position: u32,
        start: usize,
        end: usize,
        each: &mut impl FnMut(Token<'_>),
    ) {
        if !self.stop_words.is_empty() && self.stop_words.contains(word) {
            return;
        }
        let stem = match &self.stemmer {
            Some(stemmer) => stemmer.stem(word),
            None => Cow::Borrowed(word),
        };
        if (1..=TERM_BYTES_MAX).contains(&stem.len()) {
            each(Token { term: &stem, position, start, end });
        }
    }
}

/// A run of characters of a script without spaces: each overlapping pair is a term, and so is the
/// last character alone, so that a search for one character can look for terms it begins.
#[derive(Debug, Default)]
struct Run {
    previous: Option<Character>,
}

#[derive(Debug)]
struct Character {
    text: String,
    start: usize,
    end: usize,
    position: u32,
}

impl Run {
    fn push(&mut self, word: &str, start: usize, position: u32, each: &mut impl FnMut(Token<'_>)) {
        let next =
            Character { text: word.nfkc().collect(), start, end: start + word.len(), position };
        if let Some(last) = self.previous.take() {
            let pair = last.text + &next.text;
            each(Token { term: &pair, position: last.position, start: last.start, end: next.end });
        }
        self.previous = Some(next);
    }

    fn end(&mut self, each: &mut impl FnMut(Token<'_>)) {
        if let Some(Character { text, start, end, position }) = self.previous.take() {
            each(Token { term: &text, position, start, end });
        }
    }
}

/// Han and Hiragana are written without spaces, and UAX #29 makes each character a word.
pub(crate) fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x3005..=0x3007 | 0x3041..=0x309f | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff
        | 0x20000..=0x3ffff)
}

/// The words of ASCII text by the rules of UAX #29, which are few there.
fn ascii_words(text: &[u8], mut each: impl FnMut(usize, usize)) {
    let mut at = 0;
    while at < text.len() {
        if !is_word(text[at]) {
            at += 1;
            continue;
        }
        let start = at;
        let mut has_alphanumeric = false;
        while at < text.len() {
            let byte = text[at];
            if is_word(byte) {
                has_alphanumeric |= byte != b'_';
                at += 1;
                continue;
            }
            let Some(next) = text.get(at + 1) else { break };
            let before = text[at - 1];
            let joins = match byte {
                // WB6, WB7 between letters; WB11, WB12 between digits.
                b'.' | b'\'' => {
                    before.is_ascii_alphabetic() && next.is_ascii_alphabetic()
                        || before.is_ascii_digit() && next.is_ascii_digit()
                }
                b':' => before.is_ascii_alphabetic() && next.is_ascii_alphabetic(),
                b',' | b';' => before.is_ascii_digit() && next.is_ascii_digit(),
                _ => false,
            };
            if !joins {
                break;
            }
            at += 1;
        }
        if has_alphanumeric {
            each(start, at);
        }
    }
}

#[inline]
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// A path, ready to be followed through documents.
#[derive(Debug)]
pub(crate) enum FieldPath {
    /// Every string.
    All,
    /// Escaped names, and the position if a step could be one.
    Steps(Vec<(Vec<u8>, Option<usize>)>),
}

impl FieldPath {
    pub(crate) fn new(path: &str) -> Self {
        if path == "*" {
            return Self::All;
        }
        let step = |step: &str| {
            let mut escaped = Vec::new();
            jb1::escape(step, &mut escaped);
            (escaped, step.parse().ok())
        };
        Self::Steps(path.split('.').map(step).collect())
    }

    /// Calls `each` with every string at this path of a JB1 document.
    pub(crate) fn strings<'a>(&self, document: &'a [u8], each: &mut dyn FnMut(Cow<'a, str>)) {
        match self {
            Self::All => everything(document, 0, each),
            Self::Steps(steps) => follow(document, steps, 0, each),
        }
    }
}

fn follow<'a>(
    value: &'a [u8],
    steps: &[(Vec<u8>, Option<usize>)],
    depth: usize,
    each: &mut dyn FnMut(Cow<'a, str>),
) {
    match (jb1::kind(value), steps.split_first()) {
        (Some(Kind::String), None) => {
            if let Some(text) = jb1::string(value) {
                each(text);
            }
        }
        (Some(Kind::Object), Some(((name, _), rest))) => {
            if let Some(next) = jb1::get(value, name) {
                follow(next, rest, depth, each);
            }
        }
        (Some(Kind::Array), _) if depth < ARRAY_DEPTH_MAX => {
            for (i, item) in jb1::items(value).into_iter().flatten().flatten().enumerate() {
                match steps.split_first() {
                    Some(((_, Some(n)), rest)) if *n == i => follow(item, rest, depth + 1, each),
                    _ => follow(item, steps, depth + 1, each),
                }
            }
        }
        _ => {}
    }
}

fn everything<'a>(value: &'a [u8], depth: usize, each: &mut dyn FnMut(Cow<'a, str>)) {
    if depth > ARRAY_DEPTH_MAX {
        return;
    }
    match jb1::kind(value) {
        Some(Kind::String) => {
            if let Some(text) = jb1::string(value) {
                each(text);
            }
        }
        Some(Kind::Array) => {
            for item in jb1::items(value).into_iter().flatten().flatten() {
                everything(item, depth + 1, each);
            }
        }
        Some(Kind::Object) => {
            for (_, item) in jb1::members(value).into_iter().flatten().flatten() {
                everything(item, depth + 1, each);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn plain() -> Analyzer {
        Analyzer::of(None, &[], false)
    }

    fn terms(analyzer: &Analyzer, text: &str) -> Vec<String> {
        let mut all = Vec::new();
        analyzer.terms(text, 0, |t| all.push(t.term.to_owned()));
        all
    }

    #[test]
    fn words_of_many_kinds() {
        let rows: &[(&str, &[&str])] = &[
            ("The quick, brown fox!", &["the", "quick", "brown", "fox"]),
            ("don't 3.14 1,000 a_b _ e.g. x:y", &["don't", "3.14", "1,000", "a_b", "e.g", "x:y"]),
            ("wi-fi / tcp", &["wi", "fi", "tcp"]),
            ("Straße STRASSE", &["strasse", "strasse"]),
            ("ﬁne Ⅷ ①", &["fine", "viii"]),
            ("naïve Ärger", &["naïve", "ärger"]),
            ("Ελλάς", &["ελλάσ"]),
            ("東京都 x", &["東京", "京都", "都", "x"]),
            ("я", &["я"]),
            ("", &[]),
            ("…", &[]),
        ];
        for (text, want) in rows {
            let got = terms(&plain(), text);
            if *text == "ﬁne Ⅷ ①" {
                assert_eq!(got[..2], want[..], "{text}");
            } else {
                assert_eq!(got, *want, "{text}");
            }
        }
    }

    #[test]
    fn marks_stems_and_stop_words() {
        assert_eq!(terms(&Analyzer::of(None, &[], true), "naïve Ärger"), ["naive", "arger"]);
        let english = Analyzer::of(Some(Language::English), &["The".into()], false);
        assert_eq!(terms(&english, "The runners were running"), ["runner", "were", "run"]);
        let mut positions = Vec::new();
        english.terms("the cat, the dog", 5, |t| positions.push((t.position, t.start, t.end)));
        assert_eq!(positions, [(6, 4, 7), (8, 13, 16)]);
        for language in Language::ALL {
            assert_eq!(terms(&Analyzer::of(Some(*language), &[], false), "x").len(), 1);
        }
    }

    #[test]
    fn long_words_are_left_out_but_counted() {
        let text = format!("a {} b {} c", "x".repeat(201), "é".repeat(101));
        let mut got = Vec::new();
        plain().terms(&text, 0, |t| got.push((t.term.to_owned(), t.position)));
        assert_eq!(got, [("a".to_owned(), 0), ("b".to_owned(), 2), ("c".to_owned(), 4)]);
    }

    #[test]
    fn paths_reach_strings_of_any_shape() {
        let document = json!({
            "a": "one", "b": {"c": ["two", 3, null, ["four"], {"d": "five"}]},
            "e": [{"c": "six"}, {"c": ["seven"]}, 1.5], "f": true, "0": "zero",
        });
        let bytes = jb1::from_value(&document, &jb1::Limits::default()).unwrap();
        let rows: &[(&str, &[&str])] = &[
            ("a", &["one"]),
            ("b.c", &["two", "four"]),
            ("b.c.d", &["five"]),
            ("e.c", &["six", "seven"]),
            ("e.1.c", &["seven"]),
            ("f", &[]),
            ("a.x", &[]),
            ("b", &[]),
            ("0", &["zero"]),
            ("*", &["zero", "one", "two", "four", "five", "six", "seven"]),
        ];
        for (path, want) in rows {
            let mut got = Vec::new();
            FieldPath::new(path).strings(&bytes, &mut |s| got.push(s.into_owned()));
            assert_eq!(got, *want, "{path}");
        }
    }

    proptest! {
        #[test]
        fn ascii_words_are_unicode_words(text in "[a-z0-9A-Z_.,:;'/ \"-]{0,40}|[ -~\t\n]{0,40}") {
            let mut fast = Vec::new();
            ascii_words(text.as_bytes(), |start, end| fast.push((start, &text[start..end])));
            let slow: Vec<_> = text.unicode_word_indices().collect();
            prop_assert_eq!(fast, slow);
        }
    }
}
