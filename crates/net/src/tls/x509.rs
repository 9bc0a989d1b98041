//! What has to be known of a certificate beyond what rustls tells: its names and its validity.
//!
//! Reads the few fields of RFC 5280 §4.1 on the way there. It verifies nothing.

use std::time::{Duration, SystemTime};

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT`, the version.
const VERSION: u8 = 0xa0;
/// `[3] EXPLICIT`, the extensions.
const EXTENSIONS: u8 = 0xa3;
/// `[2] IMPLICIT IA5String`, a `dNSName` (RFC 5280 §4.2.1.6).
const DNS_NAME: u8 = 0x82;
/// 2.5.29.17, `id-ce-subjectAltName`.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// Names beyond this are not read.
const NAMES_MAX: usize = 1000;

/// Names and validity of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    pub(super) names: Vec<Box<str>>,
}

/// Reads the facts; `None` where `der` is no certificate.
pub(super) fn read(der: &[u8]) -> Option<Facts> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (tbs, _) = expect(certificate, SEQUENCE)?;
    let (tag, _, after_first) = element(tbs)?;
    let after_serial = if tag == VERSION { element(after_first)?.2 } else { after_first };
    let (_, _, after_signature) = element(after_serial)?;
    let (_, _, after_issuer) = element(after_signature)?;
    let (validity, mut rest) = expect(after_issuer, SEQUENCE)?;
    let (not_before, after_first) = time(validity)?;
    let (not_after, _) = time(after_first)?;
    let mut names = Vec::new();
    while let Some((tag, value, after)) = element(rest) {
        rest = after;
        if tag == EXTENSIONS {
            let (extensions, _) = expect(value, SEQUENCE)?;
            names = alternative_names(extensions);
        }
    }
    Some(Facts { not_before, not_after, names })
}

fn alternative_names(mut extensions: &[u8]) -> Vec<Box<str>> {
    let mut names = Vec::new();
    while let Some((extension, after)) = expect(extensions, SEQUENCE) {
        extensions = after;
        let Some(mut list) = alternative_name_list(extension) else { continue };
        while let Some((tag, value, after)) = element(list) {
            list = after;
            if let (DNS_NAME, Ok(name)) = (tag, std::str::from_utf8(value))
                && names.len() < NAMES_MAX
            {
                names.push(name.into());
            }
        }
    }
    names
}

/// The general names of an extension, if it is `subjectAltName`.
fn alternative_name_list(extension: &[u8]) -> Option<&[u8]> {
    let (oid, rest) = expect(extension, OID)?;
    if oid != SUBJECT_ALT_NAME {
        return None;
    }
    let (tag, _, after) = element(rest)?;
    let rest = if tag == BOOLEAN { after } else { rest };
    let (value, _) = expect(rest, OCTET_STRING)?;
    expect(value, SEQUENCE).map(|(list, _)| list)
}

/// The first element: tag, value, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut len = usize::from(first);
    if first >= 0x80 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 3 {
            return None;
        }
        let (digits, after) = rest.split_at_checked(count)?;
        len = digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit));
        rest = after;
    }
    let (value, rest) = rest.split_at_checked(len)?;
    Some((tag, value, rest))
}

/// The value of the first element, which must have this tag, and what follows it.
fn expect(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(tag, ..)| *tag == wanted).map(|(_, value, rest)| (value, rest))
}

/// A `Time` (RFC 5280 §4.1.2.5), and what follows it.
fn time(der: &[u8]) -> Option<(SystemTime, &[u8])> {
    let (tag, value, rest) = element(der)?;
    let text = std::str::from_utf8(value).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, text) = match tag {
        UTC_TIME => {
            let year: i64 = text.get(..2)?.parse().ok()?;
            (if year < 50 { year + 2000 } else { year + 1900 }, text.get(2..)?)
        }
        GENERALIZED_TIME => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    if text.len() != 10 {
        return None;
    }
    let part = |at: usize| text.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = part(4)? * 3600 + part(6)? * 60 + part(8)?;
    let seconds = days_since_1970(year, month, day) * 86_400 + seconds;
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.map(|time| (time, rest))
}

/// Days of the Gregorian calendar; the year is taken to begin in March, so that the leap day is its
/// last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before_year = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let before_month = (month * 153 + 2) / 5;
    before_year + before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn der(names: &[&str]) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        params.not_before = rcgen::date_time_ymd(2024, 2, 29);
        params.not_after = rcgen::date_time_ymd(2050, 1, 1);
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn reads_names_and_validity() {
        let facts = read(&der(&["a.test", "*.b.test", "127.0.0.1"])).expect("a certificate");
        assert_eq!(facts.names, ["a.test".into(), "*.b.test".into()]);
        assert_eq!(facts.not_before, at(1_709_164_800));
        assert_eq!(facts.not_after, at(2_524_608_000), "from 2050 on it is a GeneralizedTime");
        assert!(read(&der(&[])).expect("a certificate").names.is_empty());
    }

    #[test]
    fn reads_times() {
        let check = |tag: u8, text: &str, want: Option<i64>| {
            let mut der = vec![tag, text.len() as u8];
            der.extend_from_slice(text.as_bytes());
            let seconds = time(&der).map(|(time, _)| {
                let after = time.duration_since(SystemTime::UNIX_EPOCH);
                after.map_or_else(
                    |before| -(before.duration().as_secs() as i64),
                    |after| after.as_secs() as i64,
                )
            });
            assert_eq!(seconds, want, "{text}");
        };
        check(UTC_TIME, "700101000000Z", Some(0));
        check(UTC_TIME, "491231235959Z", Some(2_524_607_999));
        check(UTC_TIME, "500101000000Z", Some(-631_152_000));
        check(GENERALIZED_TIME, "20000229120000Z", Some(951_825_600));
        check(GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799));
        check(GENERALIZED_TIME, "20001329120000Z", None);
        check(UTC_TIME, "7001010000Z", None);
        check(UTC_TIME, "700101000000", None);
        check(UTC_TIME, "70010100000xZ", None);
        check(SEQUENCE, "700101000000Z", None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn survives_damage(at in 0..400usize, byte: u8, len in 0..500usize) {
            let mut der = der(&["a.test"]);
            if let Some(hit) = der.get_mut(at) {
                *hit = byte;
            }
            der.truncate(len);
            let _ = read(&der);
        }
    }
}
