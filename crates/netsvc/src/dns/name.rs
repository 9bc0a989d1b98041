//! Domain names in their wire form (RFC 1035 §3.1), which is also the form they are compared in.

use std::{fmt, str::FromStr};

/// A domain name: at most 255 bytes, labels of 1 to 63 bytes, always in lower case.
///
/// Text is ASCII. A name with other letters is written as its `xn--` form, since that is what every
/// name server and certificate holds.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

/// Why a text is no domain name. Who wrote it must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// Two dots in a row, or one at the start.
    #[error("a label is empty")]
    EmptyLabel,
    /// A label has more than 63 bytes.
    #[error("a label has more than 63 bytes")]
    LabelTooLong,
    /// A byte that no host or record name has.
    #[error("a byte is neither letter, digit, hyphen, underscore nor asterisk")]
    InvalidByte,
    /// Letters outside ASCII.
    #[error("not ASCII: write the name in its xn-- form")]
    NotAscii,
    /// More than 255 bytes in all.
    #[error("the name has more than 255 bytes")]
    TooLong,
}

impl Name {
    /// The root, which is above every name.
    #[must_use]
    pub fn root() -> Self {
        Self(Box::new([0]))
    }

    /// A name from its labels, as they come from the wire.
    pub(crate) fn from_labels<'a>(
        labels: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, InvalidName> {
        let mut wire = Vec::with_capacity(32);
        for label in labels {
            match label.len() {
                0 => return Err(InvalidName::EmptyLabel),
                1..=63 => {}
                _ => return Err(InvalidName::LabelTooLong),
            }
            wire.push(u8::try_from(label.len()).expect("a label has at most 63 bytes"));
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
            if wire.len() > WIRE_BYTES_MAX - 1 {
                return Err(InvalidName::TooLong);
            }
        }
        wire.push(0);
        Ok(Self(wire.into()))
    }

    /// The name with `label` before it.
    ///
    /// # Errors
    /// As for parsing.
    pub fn child(&self, label: &str) -> Result<Self, InvalidName> {
        check_label(label)?;
        Self::from_labels(std::iter::once(label.as_bytes()).chain(self.labels()))
    }

    /// The name without its first label; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let mut labels = self.labels();
        labels.next()?;
        Some(Self::from_labels(labels).expect("a part of a name is a name"))
    }

    /// The name and everything above it, the root left out.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.clone()), Self::parent).take_while(|name| !name.is_root())
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// Whether the name is `zone` or lies below it.
    #[must_use]
    pub fn is_within(&self, zone: &Self) -> bool {
        self.below(zone).is_some()
    }

    /// What stands before `zone` in this name: empty for the zone itself, `None` outside of it.
    #[must_use]
    pub fn relative_to(&self, zone: &Self) -> Option<String> {
        let count = self.below(zone)?;
        let labels: Vec<_> =
            self.labels().take(count).map(|label| text(label).to_string()).collect();
        Some(labels.join("."))
    }

    /// Number of labels; 0 for the root.
    #[must_use]
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// The labels, the root's empty one left out.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (&length, after) = rest.split_first()?;
            let (label, after) = after.split_at_checked(usize::from(length))?;
            rest = after;
            (!label.is_empty()).then_some(label)
        })
    }

    /// The wire form, without compression.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.0
    }

    /// How many labels stand before `zone`.
    fn below(&self, zone: &Self) -> Option<usize> {
        let above = self.label_count().checked_sub(zone.label_count())?;
        self.labels().skip(above).eq(zone.labels()).then_some(above)
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() {
            return Err(InvalidName::EmptyLabel);
        }
        for label in name.split('.') {
            check_label(label)?;
        }
        Self::from_labels(name.split('.').map(str::as_bytes))
    }
}

/// Without the trailing dot, as people write names. Bytes that need it are escaped (RFC 4343 §2.1).
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for (index, label) in self.labels().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            write!(f, "{}", text(label))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn check_label(label: &str) -> Result<(), InvalidName> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'*');
    if !label.is_ascii() {
        return Err(InvalidName::NotAscii);
    }
    if !label.bytes().all(is_allowed) {
        return Err(InvalidName::InvalidByte);
    }
    Ok(())
}

fn text(label: &[u8]) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        label.iter().try_for_each(|&byte| match byte {
            b'.' | b'\\' => write!(f, "\\{}", char::from(byte)),
            0x21..=0x7e => write!(f, "{}", char::from(byte)),
            _ => write!(f, "\\{byte:03}"),
        })
    })
}

/// RFC 1035 §2.3.4.
const WIRE_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn texts() {
        let long = format!("{}.example", "a".repeat(64));
        let too_long = ["a".repeat(60).as_str(); 5].join(".");
        for (text, expected) in [
            ("example.com", Ok("example.com")),
            ("Example.COM.", Ok("example.com")),
            ("_acme-challenge.*.x", Ok("_acme-challenge.*.x")),
            ("", Err(InvalidName::EmptyLabel)),
            (".", Err(InvalidName::EmptyLabel)),
            ("a..b", Err(InvalidName::EmptyLabel)),
            (".a", Err(InvalidName::EmptyLabel)),
            ("münchen.de", Err(InvalidName::NotAscii)),
            ("a b", Err(InvalidName::InvalidByte)),
            ("a/b", Err(InvalidName::InvalidByte)),
            (&long, Err(InvalidName::LabelTooLong)),
            (&too_long, Err(InvalidName::TooLong)),
        ] {
            let parsed = text.parse::<Name>().map(|name| name.to_string());
            assert_eq!(parsed, expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn relations() {
        let zone = name("example.com");
        for (text, expected) in [
            ("example.com", Some("")),
            ("a.b.example.com", Some("a.b")),
            ("badexample.com", None),
            ("com", None),
            ("example.org", None),
        ] {
            assert_eq!(name(text).relative_to(&zone).as_deref(), expected, "{text}");
        }
        assert_eq!(name("a.b").ancestors().collect::<Vec<_>>(), [name("a.b"), name("b")]);
        assert!(name("a").is_within(&Name::root()));
        assert_eq!(zone.child("www").unwrap(), name("www.example.com"));
    }

    #[test]
    fn odd_bytes_are_escaped() {
        let odd = Name::from_labels([b"a.b\\ \xff".as_slice(), b"c"].into_iter()).unwrap();
        assert_eq!(odd.to_string(), "a\\.b\\\\\\032\\255.c");
    }
}
