//! Dates in documents: RFC 3339 strings, or milliseconds since 1970, as `$currentDate` writes them.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    jb1::{self, Kind},
    query::{Path, rfc3339},
};

/// The latest date that RFC 3339 can write, which a string can therefore be.
const LAST_MS: i64 = 253_402_300_799_999;

/// Milliseconds since 1970 of a JB1 value; `None` if it is no date. What is out of range is as far
/// away as can be.
pub(super) fn date_ms(value: &[u8]) -> Option<i64> {
    match jb1::kind(value)? {
        Kind::Integer => {
            let ms = jb1::integer(value)?;
            Some(ms.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
        }
        // A cast of a float saturates.
        Kind::Decimal => Some(jb1::number(value)?.floor() as i64),
        Kind::String => parse(&jb1::string(value)?),
        _ => None,
    }
}

/// The earliest date that a path reaches.
pub(super) fn earliest_ms(path: &Path, document: &[u8]) -> Option<i64> {
    let mut earliest = None;
    path.each_element(document, |value| {
        if let Some(ms) = value.and_then(date_ms) {
            earliest = Some(earliest.map_or(ms, |other: i64| other.min(ms)));
        }
    });
    earliest
}

/// The date as a string in UTC, to the millisecond.
pub(super) fn string_of(ms: i64) -> String {
    rfc3339(ms.clamp(0, LAST_MS) as u64)
}

fn parse(text: &str) -> Option<i64> {
    let date = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(date.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(value: &Value, want: Option<i64>) {
        let document = json!({ "a": value });
        let document = jb1::from_value(&document, &jb1::Limits::default()).unwrap();
        assert_eq!(earliest_ms(&Path::parse("a").unwrap(), &document), want, "{value}");
    }

    #[test]
    fn dates() {
        check(&json!(0), Some(0));
        check(&json!(1_795_856_725_123_i64), Some(1_795_856_725_123));
        check(&json!(-5), Some(-5));
        check(&json!(1.9), Some(1));
        check(&json!(-0.5), Some(-1));
        check(&json!(u64::MAX), Some(i64::MAX));
        check(&json!(1e300), Some(i64::MAX));
        check(&json!(-1e300), Some(i64::MIN));
        check(&json!("2026-11-28T09:05:25.123Z"), Some(1_795_856_725_123));
        check(&json!("2026-11-28T10:05:25.123999+01:00"), Some(1_795_856_725_123));
        check(&json!("2026-11-28t01:05:25.1230-08:00"), Some(1_795_856_725_123));
        check(&json!("1969-12-31T23:59:59.999Z"), Some(-1));
        check(&json!("0000-01-01T00:00:00Z"), Some(-62_167_219_200_000));
        check(&json!("9999-12-31T23:59:59.999Z"), Some(LAST_MS));
    }

    #[test]
    fn the_earliest_of_an_array_counts() {
        check(&json!([7, "1970-01-01T00:00:00.003Z", null, "x", [1], {"b": 1}]), Some(3));
        check(&json!([]), None);
        check(&json!(["x"]), None);
    }

    #[test]
    fn what_is_no_date() {
        check(&json!(null), None);
        check(&json!(true), None);
        check(&json!({"b": 1}), None);
        check(&json!("2026-11-28"), None);
        check(&json!("2026-11-28T09:05:25"), None);
        check(&json!("2026-02-30T00:00:00Z"), None);
        check(&json!("soon"), None);
    }
}
