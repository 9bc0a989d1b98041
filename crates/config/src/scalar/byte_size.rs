//! `ByteSize`: "64k", "10 MiB", 65536.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{UnitError, number};

/// A number of bytes: an integer, or text with a unit.
///
/// `k`, `M`, `G`, `T` and `KiB`, `MiB`, … are powers of 1024, as in nginx; `kB`, `MB`, … are powers
/// of 1000. Case matters only there where it must: `kb` is `kB`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many times 1024 bytes.
    pub const fn kib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 10))
    }

    /// So many times 1024² bytes.
    pub const fn mib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 20))
    }

    /// So many times 1024³ bytes.
    pub const fn gib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 30))
    }

    /// The number of bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory; on 32-bit machines at most `usize::MAX`.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (value, scale, unit) = number(text.trim())?;
        let factor: u128 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "ki" | "kib" => 1 << 10,
            "m" | "mi" | "mib" => 1 << 20,
            "g" | "gi" | "gib" => 1 << 30,
            "t" | "ti" | "tib" => 1 << 40,
            "kb" => 1000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(UnitError::UnknownUnit),
        };
        let bytes = value.checked_mul(factor).ok_or(UnitError::TooLarge)? / scale;
        u64::try_from(bytes).map(Self).map_err(|_| UnitError::TooLarge)
    }
}

impl fmt::Display for ByteSize {
    /// The largest unit that is exact, so that the text reads back as the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let exact = |(_, shift): &(&str, u32)| self.0 != 0 && self.0.trailing_zeros() >= *shift;
        match units.into_iter().find(exact) {
            Some((unit, shift)) => write!(f, "{} {unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size in bytes, such as 65536, \"64k\" or \"10 MiB\"")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<ByteSize, E> {
                let invalid = |_| E::invalid_value(de::Unexpected::Signed(value), &self);
                u64::try_from(value).map(ByteSize).map_err(invalid)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::UnitError, ByteSize};

    #[test]
    fn sizes() {
        for (text, want) in [
            ("0", Ok(0)),
            ("65536", Ok(65536)),
            ("64k", Ok(65536)),
            (" 10 MiB ", Ok(10 << 20)),
            ("1.5G", Ok(3 << 29)),
            ("1kB", Ok(1000)),
            ("2 TB", Ok(2_000_000_000_000)),
            ("18446744073709551615", Ok(u64::MAX)),
            ("18446744073709551616", Err(UnitError::TooLarge)),
            ("99999999999999999999999999", Err(UnitError::TooLarge)),
            ("", Err(UnitError::NoNumber)),
            ("k", Err(UnitError::NoNumber)),
            ("-1", Err(UnitError::NoNumber)),
            ("1.", Err(UnitError::NoNumber)),
            (".5k", Err(UnitError::NoNumber)),
            ("1.2.3k", Err(UnitError::NoNumber)),
            ("1 parsec", Err(UnitError::UnknownUnit)),
        ] {
            assert_eq!(text.parse::<ByteSize>().map(ByteSize::as_u64), want, "{text:?}");
        }
        for size in [0, 1, 1000, 1024, 65536, 10 << 20, u64::MAX].map(ByteSize) {
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        assert_eq!(ByteSize::mib(10).to_string(), "10 MiB");
    }
}
