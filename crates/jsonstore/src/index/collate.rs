//! Strings that differ in case or marks only are one key.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Appends the text without marks and with its case folded: by way of upper case, so that `ß` is
/// `ss` and a final `ς` is `σ`.
pub(super) fn fold(text: &str, out: &mut String) {
    if text.is_ascii() {
        out.extend(text.chars().map(|c| c.to_ascii_lowercase()));
        return;
    }
    let bare = text.nfd().filter(|c| !is_combining_mark(*c));
    let folded = bare.flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    // Upper case may bring marks of its own.
    out.extend(folded.nfd().filter(|c| !is_combining_mark(*c)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_marks_do_not_count() {
        let groups: [&[&str]; 6] = [
            &["Ada", "ada", "ADA"],
            &["Zoë", "zoe", "Zoe\u{308}", "ZOË"],
            &["Straße", "STRASSE", "strasse"],
            &["ΟΔΟΣ", "οδος", "Οδός"],
            &["İ", "i", "I"],
            &["ﬁn", "FIN"],
        ];
        let folded = |text: &str| {
            let mut out = String::new();
            fold(text, &mut out);
            out
        };
        let mut keys = std::collections::BTreeSet::new();
        for group in groups {
            for text in group {
                assert_eq!(folded(text), folded(group[0]), "{text}");
                assert_eq!(folded(&folded(text)), folded(text), "folding twice is folding once");
            }
            assert!(keys.insert(folded(group[0])), "{group:?}");
        }
    }
}
