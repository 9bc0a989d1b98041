//! Byte ranges: RFC 9110 §14.

use std::ops::Range;

use smallvec::SmallVec;

pub(crate) type Ranges = SmallVec<[Range<u64>; 4]>;

/// What a `Range` field comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection {
    /// No ranges, or none that we serve: the whole representation.
    Whole,
    /// One or more ranges, none of them empty, none touching another, in the order in which they were asked for.
    Parts(Ranges),
    /// 416.
    Unsatisfiable,
}

/// Reads a `Range` field against a representation of `len` bytes.
///
/// A field that is malformed, of another unit, or asks for more than [`RANGE_COUNT_MAX`] ranges is ignored
/// (RFC 9110 §14.2 allows it: many ranges are an attack or a bug). Ranges that overlap, or lie closer together
/// than the head of a part is long, become one (§15.3.7.2).
pub(crate) fn select(field: &[u8], len: u64) -> Selection {
    let Some(list) = strip_unit(field) else { return Selection::Whole };
    let mut parts = Ranges::new();
    let mut count = 0;
    for spec in list.split(|&byte| byte == b',') {
        let spec = spec.trim_ascii();
        // RFC 9110 §5.6.1.2: a list may hold empty members.
        if spec.is_empty() {
            continue;
        }
        count += 1;
        if count > RANGE_COUNT_MAX {
            return Selection::Whole;
        }
        match parse(spec, len) {
            Some(range) if range.is_empty() => {}
            Some(range) => insert(&mut parts, range),
            None => return Selection::Whole,
        }
    }
    match (count, parts.is_empty()) {
        (0, _) => Selection::Whole,
        // An empty representation has no range that could be named, but a suffix of it is no error.
        (_, true) if len == 0 && list.trim_ascii().starts_with(b"-") => Selection::Whole,
        (_, true) => Selection::Unsatisfiable,
        (_, false) => Selection::Parts(parts),
    }
}

fn strip_unit(field: &[u8]) -> Option<&[u8]> {
    let (unit, rest) = field.split_at_checked(5)?;
    unit.eq_ignore_ascii_case(b"bytes").then_some(())?;
    rest.strip_prefix(b"=")
}

/// One range, cut to the representation; empty where it lies beyond its end. `None` where it is malformed.
fn parse(spec: &[u8], len: u64) -> Option<Range<u64>> {
    let dash = spec.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (spec.get(..dash)?, spec.get(dash + 1..)?);
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(len.saturating_sub(suffix)..len);
    }
    let first = number(first)?;
    if last.is_empty() {
        return Some(first.min(len)..len);
    }
    let last = number(last)?;
    if last < first {
        return None;
    }
    Some(first.min(len)..last.saturating_add(1).min(len))
}

/// Digits only; more than fit stand for the largest number, because they are a valid position all the same.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

/// Adds a range; those that it touches become part of it, at the place of the first of them.
fn insert(parts: &mut Ranges, mut range: Range<u64>) {
    let mut place = parts.len();
    let mut index = 0;
    while let Some(part) = parts.get(index) {
        let apart = range.start > part.end.saturating_add(GAP_MIN)
            || part.start > range.end.saturating_add(GAP_MIN);
        if apart {
            index += 1;
            continue;
        }
        // The union may touch parts that neither did: begin again.
        range = range.start.min(part.start)..range.end.max(part.end);
        parts.remove(index);
        place = place.min(index);
        index = 0;
    }
    parts.insert(place.min(parts.len()), range);
}

/// More ranges than this in one field are not served.
pub(crate) const RANGE_COUNT_MAX: usize = 16;
/// About what the head of a part costs.
const GAP_MIN: u64 = 80;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{GAP_MIN, RANGE_COUNT_MAX, Ranges, Selection, select};

    #[track_caller]
    fn check(field: &str, len: u64, want: &[(u64, u64)]) {
        let want: Ranges = want.iter().map(|&(start, end)| start..end).collect();
        assert_eq!(select(field.as_bytes(), len), Selection::Parts(want), "{field} of {len}");
    }

    /// RFC 9110 §14.1.2, with its own examples.
    #[test]
    fn satisfiable() {
        check("bytes=0-499", 10_000, &[(0, 500)]);
        check("bytes=500-999", 10_000, &[(500, 1000)]);
        check("bytes=-500", 10_000, &[(9500, 10_000)]);
        check("bytes=9500-", 10_000, &[(9500, 10_000)]);
        check("bytes=0-0,-1", 10_000, &[(0, 1), (9999, 10_000)]);
        check("bytes= 0-999, 4500-5499, -1000", 10_000, &[(0, 1000), (4500, 5500), (9000, 10_000)]);
        check("bytes=500-600,601-999", 10_000, &[(500, 1000)]);
        check("bytes=500-700,601-999", 10_000, &[(500, 1000)]);
        check("BYTES=0-0", 10, &[(0, 1)]);
        check("bytes=0-", 10, &[(0, 10)]);
        check("bytes=0-9", 10, &[(0, 10)]);
        check("bytes=0-99", 10, &[(0, 10)]);
        check("bytes=9-9", 10, &[(9, 10)]);
        check("bytes=-10", 10, &[(0, 10)]);
        check("bytes=-99", 10, &[(0, 10)]);
        check("bytes=0-0,99-", 10, &[(0, 1)]); // those beyond the end are left out
        check("bytes=,0-0,, ,", 10, &[(0, 1)]);
        check("bytes=0-99999999999999999999999", 10, &[(0, 10)]);
        check("bytes=-99999999999999999999999", 10, &[(0, 10)]);
    }

    /// The order of the request is kept (§15.3.7.2); what touches becomes one.
    #[test]
    fn coalescing() {
        check("bytes=900-999,0-99", 10_000, &[(900, 1000), (0, 100)]);
        check("bytes=0-0,50-50", 10_000, &[(0, 51)]);
        check("bytes=0-0,5000-5000,2-2", 10_000, &[(0, 3), (5000, 5001)]);
        check("bytes=0-9,200-209,0-300", 10_000, &[(0, 301)]);
        check("bytes=5000-5001,0-9,200-209,5-205", 10_000, &[(5000, 5002), (0, 210)]);
        check("bytes=0-,0-,0-,0-", 10, &[(0, 10)]);
    }

    #[test]
    fn ignored() {
        let many = format!("bytes={}", "0-0,".repeat(RANGE_COUNT_MAX + 1));
        for field in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes 0-1",
            "bytes:0-1",
            "items=0-1",
            "byte=0-1",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=5-2",
            "bytes=0-1x",
            "bytes=0x0-1",
            "bytes=+0-1",
            "bytes=0--1",
            "bytes=--1",
            "bytes=0-1-2",
            "bytes=0 - 1",
            "bytes=0-0,5-2",
            "bytes=0-0;1-1",
            "bytes =0-1",
            "\u{fc}ytes=0-1",
            &many,
        ] {
            assert_eq!(select(field.as_bytes(), 10), Selection::Whole, "{field}");
        }
        assert_eq!(select(b"bytes=-1", 0), Selection::Whole);
    }

    #[test]
    fn unsatisfiable() {
        for (field, len) in [
            ("bytes=10-", 10),
            ("bytes=10-11", 10),
            ("bytes=99-,100-200", 10),
            ("bytes=-0", 10),
            ("bytes=0-", 0),
            ("bytes=0-0", 0),
            ("bytes=99999999999999999999999-", 10),
        ] {
            assert_eq!(select(field.as_bytes(), len), Selection::Unsatisfiable, "{field} of {len}");
        }
    }

    #[derive(Debug, Clone)]
    enum Spec {
        Between(u64, u64),
        From(u64),
        Last(u64),
    }

    fn spec() -> impl Strategy<Value = Spec> {
        let at = || 0u64..2000;
        prop_oneof![
            (at(), at()).prop_map(|(a, b)| Spec::Between(a.min(b), a.max(b))),
            at().prop_map(Spec::From),
            at().prop_map(Spec::Last),
        ]
    }

    /// Byte by byte: which positions does the field ask for?
    fn naive(specs: &[Spec], len: u64) -> Vec<bool> {
        let asked = |at: u64| {
            specs.iter().any(|spec| match *spec {
                Spec::Between(first, last) => (first..=last).contains(&at),
                Spec::From(first) => at >= first,
                Spec::Last(count) => at + count >= len,
            })
        };
        (0..len).map(asked).collect()
    }

    proptest! {
        #[test]
        fn agrees_with_a_bitmap(
            specs in prop::collection::vec(spec(), 1..=RANGE_COUNT_MAX),
            len in 1u64..1500,
        ) {
            let text: Vec<String> = specs
                .iter()
                .map(|spec| match spec {
                    Spec::Between(first, last) => format!("{first}-{last}"),
                    Spec::From(first) => format!("{first}-"),
                    Spec::Last(count) => format!("-{count}"),
                })
                .collect();
            let field = format!("bytes={}", text.join(","));
            let wanted = naive(&specs, len);
            match select(field.as_bytes(), len) {
                Selection::Whole => prop_assert!(false, "{} was ignored", field),
                Selection::Unsatisfiable => prop_assert!(!wanted.contains(&true)),
                Selection::Parts(parts) => {
                    let mut given = vec![false; wanted.len()];
                    for part in &parts {
                        prop_assert!(part.start < part.end && part.end <= len);
                        for at in part.clone() {
                            let slot = &mut given[usize::try_from(at).expect("small")];
                            prop_assert!(!*slot, "twice the same byte");
                            *slot = true;
                        }
                    }
                    // Everything asked for is given, and the rest only where it fills a small gap.
                    for (given, wanted) in given.iter().zip(&wanted) {
                        prop_assert!(given >= wanted);
                    }
                    let surplus = given.iter().zip(&wanted).filter(|(given, wanted)| *given != *wanted);
                    prop_assert!(surplus.count() as u64 <= GAP_MIN * specs.len() as u64);
                }
            }
        }

        #[test]
        fn never_panics(field in prop::collection::vec(any::<u8>(), 0..64), len: u64) {
            select(&field, len);
            select(&[b"bytes=", &field[..]].concat(), len);
        }
    }
}
