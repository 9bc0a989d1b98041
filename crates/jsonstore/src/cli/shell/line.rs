//! A line of the shell as words, and errors that point into it.

use std::fmt;

use serde_json::Value;

/// A word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Without the quotes around it.
    pub(super) text: String,
    /// Where its text begins in the line, in bytes.
    pub(super) at: usize,
}

/// What is wrong with a line, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LineError {
    pub(super) message: String,
    /// In bytes; `None` if it is the line as a whole.
    pub(super) at: Option<usize>,
}

/// A line that has been read so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Split {
    /// A bracket or a quote is open: more lines follow.
    Open,
    Words(Vec<Word>),
}

impl LineError {
    pub(super) fn new(message: impl Into<String>, at: Option<usize>) -> Self {
        Self { message: message.into(), at }
    }

    /// The message below the place in the line it speaks of.
    pub(super) fn show(&self, line: &str) -> String {
        let Some(at) = self.at else { return self.message.clone() };
        let at = (0..=at.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        let start = line[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let shown = line[start..].lines().next().unwrap_or_default();
        let indent = line[start..at].chars().count();
        format!("  {shown}\n  {:indent$}^ {}", "", self.message)
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Splits a line at spaces. A word that begins with a bracket is JSON and ends with the matching one,
/// over several lines if need be; quotes keep spaces together and are taken off, as in a Unix shell.
///
/// # Errors
/// What is wrong with a word of JSON.
pub(super) fn split(line: &str) -> Result<Split, LineError> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let at = line.len() - rest.len();
        let Some(first) = rest.chars().next() else { return Ok(Split::Words(words)) };
        let word = match first {
            // A comment.
            '#' if words.is_empty() => return Ok(Split::Words(words)),
            '{' | '[' => {
                let Some(end) = json_end(rest) else { return Ok(Split::Open) };
                check_json(&rest[..end], at)?;
                Some((Word { text: rest[..end].to_owned(), at }, end))
            }
            '"' | '\'' => quoted(rest, first, at),
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                Some((Word { text: rest[..end].to_owned(), at }, end))
            }
        };
        let Some((word, end)) = word else { return Ok(Split::Open) };
        words.push(word);
        rest = &rest[end..];
    }
}

/// Where a word of JSON ends: after the bracket that closes the first.
fn json_end(text: &str) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            '{' | '[' if !in_string => depth += 1,
            '}' | ']' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// A quoted word and its length with the quotes. Between double quotes `\"` and `\\` are escapes.
fn quoted(text: &str, quote: char, at: usize) -> Option<(Word, usize)> {
    let mut word = String::new();
    let mut escaped = false;
    for (offset, c) in text.char_indices().skip(1) {
        if escaped {
            if !matches!(c, '"' | '\\') {
                word.push('\\');
            }
            word.push(c);
            escaped = false;
        } else if c == quote {
            return Some((Word { text: word, at: at + 1 }, offset + 1));
        } else if c == '\\' && quote == '"' {
            escaped = true;
        } else {
            word.push(c);
        }
    }
    None
}

fn check_json(text: &str, at: usize) -> Result<(), LineError> {
    let Err(e) = serde_json::from_str::<Value>(text) else { return Ok(()) };
    let before: usize = text.split_inclusive('\n').take(e.line() - 1).map(str::len).sum();
    let place = before + e.column().saturating_sub(1);
    // The place is said by the mark.
    let message = e.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    Err(LineError::new(format!("no JSON: {message}"), Some(at + place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        match split(line).unwrap() {
            Split::Words(words) => words.into_iter().map(|word| word.text).collect(),
            Split::Open => panic!("{line} is open"),
        }
    }

    #[test]
    fn words_json_and_quotes() {
        for (line, want) in [
            ("", &[][..]),
            ("  # find nothing", &[]),
            ("get c 5", &["get", "c", "5"]),
            (
                "find c {\"a\": [1, \"}\"]} --limit 3",
                &["find", "c", "{\"a\": [1, \"}\"]}", "--limit", "3"],
            ),
            ("find c {\"a\":\n 1}", &["find", "c", "{\"a\":\n 1}"]),
            ("put c {\"a\": \"\\\"{\"}", &["put", "c", "{\"a\": \"\\\"{\"}"]),
            ("search c \"two words\" 'it \"is\"'", &["search", "c", "two words", "it \"is\""]),
            ("search c \"a \\\"b\\\" \\\\ \\n\"", &["search", "c", "a \"b\" \\ \\n"]),
            ("get c x#y", &["get", "c", "x#y"]),
        ] {
            assert_eq!(words(line), want, "{line}");
        }
        for open in
            ["find c {", "find c {\"a\": \"}", "aggregate c [{}", "search c \"two", "get c '"]
        {
            assert_eq!(split(open), Ok(Split::Open), "{open}");
        }
    }

    #[test]
    fn errors_point_at_the_place() {
        for (line, want) in [
            (
                "find c {\"a\": nope}",
                "  find c {\"a\": nope}\n                ^ no JSON: expected ident",
            ),
            ("find c {\"a\" 1}", "  find c {\"a\" 1}\n              ^ no JSON: expected `:`"),
            ("put c {\n \"ä\": 1,\n}", "  }\n  ^ no JSON: trailing comma"),
            ("find c [1}", "  find c [1}\n           ^ no JSON: expected `,` or `]`"),
        ] {
            let error = split(line).unwrap_err();
            assert_eq!(error.show(line), want, "{line}");
        }
        assert_eq!(LineError::new("all of it", None).show("line"), "all of it");
        assert_eq!(LineError::new("end", Some(99)).show("ä"), "  ä\n   ^ end");
    }

    proptest::proptest! {
        /// Whatever is typed, it is words, more to come, or an error at a place that can be shown.
        #[test]
        fn anything_can_be_typed(line in "[ -~äß東\n\\\\\"'{}\\[\\],:#]{0,60}") {
            match split(&line) {
                Ok(Split::Words(words)) => {
                    for word in words {
                        assert!(line.is_char_boundary(word.at) && word.at <= line.len());
                    }
                }
                Ok(Split::Open) => {}
                Err(e) => assert!(e.show(&line).contains('^')),
            }
        }
    }
}
