//! `HumanDuration`: "10s", "1h 30m", "250ms".

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{UnitError, number};

/// A length of time, always with a unit: `us`, `ms`, `s`, `m` (or `min`), `h`, `d`, `w`.
///
/// Parts add up: `1h 30m`. A bare number is refused, since nobody remembers whether seconds or
/// milliseconds were meant; `0` alone is clear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// So many seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// What the standard library works with.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<HumanDuration> for Duration {
    fn from(HumanDuration(duration): HumanDuration) -> Self {
        duration
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for HumanDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self::default());
        }
        let mut total: u128 = 0;
        loop {
            let (value, scale, after) = number(rest)?;
            let after = after.trim_start();
            let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
            let (unit, next) = after.split_at(end);
            let part = value.checked_mul(nanoseconds(unit)?).ok_or(UnitError::TooLarge)? / scale;
            total = total.checked_add(part).ok_or(UnitError::TooLarge)?;
            rest = next.trim_start();
            if rest.is_empty() {
                break;
            }
        }
        let nanos = u64::try_from(total).map_err(|_| UnitError::TooLarge)?;
        Ok(Self(Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for HumanDuration {
    /// Whole units, largest first, so that the text reads back as the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        let mut space = "";
        for (unit, size) in UNITS {
            let n = nanos / size;
            nanos %= size;
            if n > 0 {
                write!(f, "{space}{n}{unit}")?;
                space = " ";
            }
        }
        Ok(())
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = HumanDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time with its unit, such as \"500ms\", \"10s\" or \"5m\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

fn nanoseconds(unit: &str) -> Result<u128, UnitError> {
    let unit = match unit {
        "" => return Err(UnitError::NoUnit),
        "µs" | "μs" => "us",
        "sec" | "second" | "seconds" => "s",
        "min" | "minute" | "minutes" => "m",
        "hour" | "hours" => "h",
        "day" | "days" => "d",
        "week" | "weeks" => "w",
        other => other,
    };
    if unit == "w" {
        return Ok(7 * DAY);
    }
    let known = UNITS.iter().find(|(name, _)| *name == unit);
    known.map(|(_, size)| *size).ok_or(UnitError::UnknownUnit)
}

const SECOND: u128 = 1_000_000_000;
const DAY: u128 = 24 * 60 * 60 * SECOND;
const UNITS: [(&str, u128); 7] = [
    ("d", DAY),
    ("h", 60 * 60 * SECOND),
    ("m", 60 * SECOND),
    ("s", SECOND),
    ("ms", 1_000_000),
    ("us", 1000),
    ("ns", 1),
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::UnitError, HumanDuration};

    #[test]
    fn durations() {
        for (text, want) in [
            ("10s", Ok(10_000)),
            (" 5 m ", Ok(300_000)),
            ("250ms", Ok(250)),
            ("1.5h", Ok(5_400_000)),
            ("1h30m", Ok(5_400_000)),
            ("1h 30min", Ok(5_400_000)),
            ("2w", Ok(1_209_600_000)),
            ("0", Ok(0)),
            ("10", Err(UnitError::NoUnit)),
            ("", Err(UnitError::NoNumber)),
            ("s", Err(UnitError::NoNumber)),
            ("-1s", Err(UnitError::NoNumber)),
            ("1s,", Err(UnitError::NoNumber)),
            ("3 fortnights", Err(UnitError::UnknownUnit)),
            ("99999999999999d", Err(UnitError::TooLarge)),
        ] {
            let got = text.parse::<HumanDuration>().map(|d| d.get().as_millis());
            assert_eq!(got, want, "{text:?}");
        }
        for nanos in [0, 1, 999, 1_000_000, 61_000_000_000, 90_061_001_002_003, u64::MAX] {
            let duration = HumanDuration(Duration::from_nanos(nanos));
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
        assert_eq!(HumanDuration::from_secs(5400).to_string(), "1h 30m");
    }
}
