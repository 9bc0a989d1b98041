//! Any bytes as a query, a document and the settings of an index: what a fuzzer tries.

use serde_json::json;

use super::{
    highlight::Highlighter,
    query::TextQuery,
    settings::{Language, TextIndex},
    terms::Scheme,
};
use crate::jb1::{self, Limits};

/// Two bytes of settings, then a query, a line feed, and a text that is searched.
pub(crate) const SAMPLE: &[u8] =
    b"\x04\x03+coff* \"caf\xc3\xa9 noir\" t:shops~2 -tea\nThe Caf\xc3\xa9 Noir: coffee shops, \xe6\x9d\xb1\xe4\xba\xac.";

/// # Panics
/// On a bug.
pub(crate) fn try_bytes(bytes: &[u8]) {
    let (Some(&language), Some(&flags), rest) =
        (bytes.first(), bytes.get(1), bytes.get(2..).unwrap_or_default())
    else {
        return;
    };
    let input = String::from_utf8_lossy(rest);
    let (asked, text) = input.split_once('\n').unwrap_or((&input, &input));
    let mut index = TextIndex::new("t").field("t").fold_marks(flags & 1 != 0);
    index = index.positions(flags & 2 != 0);
    // One more than there are: without a language.
    if let Some(language) = Language::ALL.get(usize::from(language) % (Language::ALL.len() + 1)) {
        index = index.language(*language);
    }
    if flags & 4 != 0 {
        index = index.stop_words(text.split_whitespace().take(3));
    }
    let scheme = Scheme::new(index);
    check_terms(&scheme, text);

    let Ok(query) = TextQuery::parse(asked) else { return };
    query.check(0, &mut 0).expect("what is parsed is within the bounds");
    assert!(!query.shape().is_empty());
    let document = jb1::from_value(&json!({ "t": text }), &Limits::default());
    let Ok(document) = document else { return };
    for highlight in Highlighter::new(&scheme, &query).of(&scheme, &document) {
        assert!(text.contains(&highlight.marked("", "")), "a highlight is not in the text");
        assert!(highlight.pieces.iter().any(|piece| piece.is_match && !piece.text.is_empty()));
    }
}

/// Every term lies in the text, and the words are counted.
fn check_terms(scheme: &Scheme, text: &str) {
    let mut last = 0;
    let next = scheme.analyzer.terms(text, 7, |token| {
        assert!(!token.term.is_empty());
        let word = text.get(token.start..token.end);
        assert!(word.is_some_and(|word| !word.is_empty()), "a term is not in the text");
        assert!(token.position >= 7);
        last = last.max(token.position);
    });
    assert!(last < next, "a word was not counted");
    let folded = scheme.analyzer.fold(text).into_owned();
    assert!(text.is_empty() || folded.len() <= text.len() * 18, "folding grows without bound");
}
