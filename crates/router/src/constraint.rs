//! What a parameter may look like: `{id:int}`, `{sha:len(40)}`, `{slug:regex([a-z-]+)}`.

use std::fmt;

use crate::PatternError;

/// A check on the text of one parameter. The order of the variants is the order in which
/// constrained parameters of one position are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Constraint {
    /// A decimal number that fits a `u64`.
    Uint,
    /// A decimal number that fits an `i64`.
    Int,
    /// 8-4-4-4-12 hexadecimal digits.
    Uuid,
    /// Hexadecimal digits.
    Hex,
    /// ASCII letters.
    Alpha,
    /// ASCII letters and digits.
    Alnum,
    /// This many bytes, bounds included.
    Len { min: u16, max: u16 },
    /// A regular expression that the whole text matches.
    Regex(Regex),
}

/// A compiled expression and the text it was made of.
#[derive(Debug, Clone)]
pub(crate) struct Regex {
    source: Box<str>,
    #[cfg(feature = "regex")]
    program: regex_lite::Regex,
}

impl Constraint {
    /// Reads what stands behind the colon.
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        let unknown = || PatternError::UnknownConstraint { constraint: text.into() };
        let simple = match text {
            "uint" => Self::Uint,
            "int" => Self::Int,
            "uuid" => Self::Uuid,
            "hex" => Self::Hex,
            "alpha" => Self::Alpha,
            "alnum" => Self::Alnum,
            _ => {
                let (name, argument) = text.split_once('(').ok_or_else(unknown)?;
                let argument = argument.strip_suffix(')').ok_or_else(unknown)?;
                return match name {
                    "len" => parse_len(argument),
                    "regex" => Regex::new(argument).map(Self::Regex),
                    _ => Err(unknown()),
                };
            }
        };
        Ok(simple)
    }

    /// Whether this text, which is not empty, is what is asked for.
    pub(crate) fn accepts(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Uint => is_uint(bytes),
            Self::Int => is_int(bytes),
            Self::Uuid => is_uuid(bytes),
            Self::Hex => bytes.iter().all(u8::is_ascii_hexdigit),
            Self::Alpha => bytes.iter().all(u8::is_ascii_alphabetic),
            Self::Alnum => bytes.iter().all(u8::is_ascii_alphanumeric),
            Self::Len { min, max } => {
                (usize::from(*min)..=usize::from(*max)).contains(&bytes.len())
            }
            Self::Regex(regex) => std::str::from_utf8(bytes).is_ok_and(|text| regex.accepts(text)),
        }
    }

    /// Position in the order of trial.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Uint => 0,
            Self::Int => 1,
            Self::Uuid => 2,
            Self::Hex => 3,
            Self::Alpha => 4,
            Self::Alnum => 5,
            Self::Len { .. } => 6,
            Self::Regex(_) => 7,
        }
    }
}

impl Regex {
    #[cfg(feature = "regex")]
    fn new(source: &str) -> Result<Self, PatternError> {
        let anchored = format!("^(?:{source})$");
        let program = regex_lite::Regex::new(&anchored)
            .map_err(|error| PatternError::BadRegex { message: error.to_string() })?;
        Ok(Self { source: source.into(), program })
    }

    #[cfg(not(feature = "regex"))]
    fn new(_source: &str) -> Result<Self, PatternError> {
        Err(PatternError::BadRegex { message: "the feature `regex` is off".to_owned() })
    }

    #[cfg(feature = "regex")]
    fn accepts(&self, text: &str) -> bool {
        text.len() <= REGEX_INPUT_BYTES_MAX && self.program.is_match(text)
    }

    #[cfg(not(feature = "regex"))]
    fn accepts(&self, _text: &str) -> bool {
        false
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Regex {}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uint => f.write_str("uint"),
            Self::Int => f.write_str("int"),
            Self::Uuid => f.write_str("uuid"),
            Self::Hex => f.write_str("hex"),
            Self::Alpha => f.write_str("alpha"),
            Self::Alnum => f.write_str("alnum"),
            Self::Len { min, max } if min == max => write!(f, "len({min})"),
            Self::Len { min, max } => write!(f, "len({min},{max})"),
            Self::Regex(regex) => write!(f, "regex({})", regex.source),
        }
    }
}

fn parse_len(argument: &str) -> Result<Constraint, PatternError> {
    let bad = || PatternError::BadLength { argument: argument.into() };
    let number = |text: &str| text.trim().parse::<u16>().map_err(|_| bad());
    let (min, max) = match argument.split_once(',') {
        Some((min, max)) => (number(min)?, number(max)?),
        None => (number(argument)?, number(argument)?),
    };
    if min == 0 || min > max {
        return Err(bad());
    }
    Ok(Constraint::Len { min, max })
}

fn is_uint(bytes: &[u8]) -> bool {
    // 19 digits always fit; 20 may; leading zeros are digits like any other.
    match bytes.len() {
        1..=19 => bytes.iter().all(u8::is_ascii_digit),
        20 => bytes.iter().all(u8::is_ascii_digit) && bytes <= U64_MAX_TEXT.as_slice(),
        _ => false,
    }
}

fn is_int(bytes: &[u8]) -> bool {
    let (digits, largest) = match bytes.split_first() {
        Some((b'-', rest)) => (rest, I64_MIN_TEXT),
        _ => (bytes, I64_MAX_TEXT),
    };
    match digits.len() {
        1..=18 => digits.iter().all(u8::is_ascii_digit),
        19 => digits.iter().all(u8::is_ascii_digit) && digits <= largest.as_slice(),
        _ => false,
    }
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Bounds the work that one request can cause in an expression.
#[cfg(feature = "regex")]
const REGEX_INPUT_BYTES_MAX: usize = 256;

// Texts of equal length compare as the numbers do.
const U64_MAX_TEXT: &[u8; 20] = b"18446744073709551615";
const I64_MAX_TEXT: &[u8; 19] = b"9223372036854775807";
const I64_MIN_TEXT: &[u8; 19] = b"9223372036854775808";

#[cfg(test)]
mod tests {
    use super::*;

    /// Constraint, texts it accepts, texts it refuses.
    type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

    const ROWS: &[Row] = &[
        (
            "uint",
            &["0", "007", "18446744073709551615"],
            &["", "-1", "+1", "1a", "18446744073709551616", "000000000000000000000"],
        ),
        (
            "int",
            &["0", "-1", "9223372036854775807", "-9223372036854775808"],
            &["-", "--1", "+1", "9223372036854775808", "-9223372036854775809"],
        ),
        (
            "uuid",
            &["67e55044-10b1-426f-9247-bb680e5fe0c8", "67E55044-10B1-426F-9247-BB680E5FE0C8"],
            &[
                "67e55044",
                "67e5504410b1426f9247bb680e5fe0c8",
                "67e55044-10b1-426f-9247-bb680e5fe0cg",
            ],
        ),
        ("hex", &["deadBEEF", "0"], &["g", "0x1"]),
        ("alpha", &["abc", "Z"], &["a1", "a-b", "\u{e9}"]),
        ("alnum", &["a1", "Z"], &["a-b", "\u{e9}"]),
        ("len(2)", &["ab"], &["a", "abc"]),
        ("len(2,3)", &["ab", "abc"], &["a", "abcd"]),
    ];

    #[test]
    fn accepts_what_it_names() {
        for (text, good, bad) in ROWS {
            let constraint = Constraint::parse(text).unwrap();
            assert_eq!(constraint.to_string(), *text);
            for value in *good {
                assert!(constraint.accepts(value.as_bytes()), "{text} must accept {value:?}");
            }
            for value in bad.iter().filter(|value| !value.is_empty()) {
                assert!(!constraint.accepts(value.as_bytes()), "{text} must refuse {value:?}");
            }
        }
    }

    #[cfg(feature = "regex")]
    #[test]
    fn regex_matches_the_whole_text_and_has_a_bound() {
        let constraint = Constraint::parse("regex(a|bc+)").unwrap();
        assert!(constraint.accepts(b"a") && constraint.accepts(b"bcc"));
        assert!(!constraint.accepts(b"ab") && !constraint.accepts(b"xbc"));
        let any = Constraint::parse("regex(a*)").unwrap();
        assert!(any.accepts(&[b'a'; 256]) && !any.accepts(&[b'a'; 257]));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for text in ["", "number", "int()", "len", "len()", "len(0)", "len(3,2)", "len(x)", "len(2"]
        {
            assert!(Constraint::parse(text).is_err(), "{text:?}");
        }
    }
}
