//! Comparison of JB1 values, in the order of keys and without making keys.

use std::{borrow::Cow, cmp::Ordering};

use crate::jb1::{self, Kind};

/// `null < false < true < number < string < array < object`; what is no value comes first.
///
/// The same order as the bytes of `key::encode`. Objects are equal whatever the order of members.
pub(crate) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let kinds = (jb1::kind(a), jb1::kind(b));
    match kinds {
        (Some(Kind::Integer | Kind::Decimal), Some(Kind::Integer | Kind::Decimal)) => {
            compare_numbers(a, b)
        }
        (Some(Kind::String), Some(Kind::String)) => compare_strings(a, b),
        (Some(Kind::Array), Some(Kind::Array)) => compare_arrays(a, b),
        (Some(Kind::Object), Some(Kind::Object)) => compare_objects(a, b),
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

/// The values that `$gt` and its like compare with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bracket {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

pub(crate) fn bracket(value: &[u8]) -> Option<Bracket> {
    Some(match jb1::kind(value)? {
        Kind::Null => Bracket::Null,
        Kind::False | Kind::True => Bracket::Boolean,
        Kind::Integer | Kind::Decimal => Bracket::Number,
        Kind::String => Bracket::String,
        Kind::Array => Bracket::Array,
        Kind::Object => Bracket::Object,
    })
}

fn rank(kind: Option<Kind>) -> u8 {
    match kind {
        None => 0,
        Some(Kind::Null) => 1,
        Some(Kind::False) => 2,
        Some(Kind::True) => 3,
        Some(Kind::Integer | Kind::Decimal) => 4,
        Some(Kind::String) => 5,
        Some(Kind::Array) => 6,
        Some(Kind::Object) => 7,
    }
}

fn compare_numbers(a: &[u8], b: &[u8]) -> Ordering {
    if let (Some(a), Some(b)) = (jb1::integer(a), jb1::integer(b)) {
        return a.cmp(&b);
    }
    let (a, b) = (split_number(a), split_number(b));
    a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1))
}

/// The nearest float, and how far an integer lies from it.
fn split_number(value: &[u8]) -> (f64, i128) {
    match jb1::integer(value) {
        Some(integer) => (integer as f64, integer - integer as f64 as i128),
        None => (jb1::number(value).unwrap_or(0.0), 0),
    }
}

fn compare_strings(a: &[u8], b: &[u8]) -> Ordering {
    if a.first() == Some(&jb1::STRING) && b.first() == Some(&jb1::STRING) {
        return jb1::text(a).cmp(&jb1::text(b));
    }
    jb1::string(a).cmp(&jb1::string(b))
}

fn compare_arrays(a: &[u8], b: &[u8]) -> Ordering {
    let (Some(mut a), Some(mut b)) = (jb1::items(a), jb1::items(b)) else {
        return Ordering::Equal;
    };
    loop {
        match (a.next().flatten(), b.next().flatten()) {
            (Some(a), Some(b)) => match compare(a, b) {
                Ordering::Equal => {}
                order => return order,
            },
            (a, b) => return a.is_some().cmp(&b.is_some()),
        }
    }
}

fn compare_objects(a: &[u8], b: &[u8]) -> Ordering {
    let (a, b) = (sorted_members(a), sorted_members(b));
    for ((a_name, a), (b_name, b)) in a.iter().zip(&b) {
        let order = a_name.cmp(b_name).then_with(|| compare(a, b));
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// The members by name.
pub(crate) fn sorted_members(object: &[u8]) -> Vec<(Cow<'_, str>, &[u8])> {
    let members = jb1::members(object).into_iter().flatten();
    let mut members: Vec<_> = members
        .map_while(|member| member.and_then(|(name, item)| Some((name.unescaped()?, item))))
        .collect();
    if !members.is_sorted_by(|a, b| a.0 <= b.0) {
        members.sort_by(|a, b| a.0.cmp(&b.0));
    }
    members
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        jb1::{Limits, parse},
        key,
    };

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|b| b.to_string()),
            prop::sample::select(vec![
                "0",
                "-0",
                "0.0",
                "1",
                "1.0",
                "1e0",
                "-1.5",
                "9007199254740992",
                "1e400",
                "-1e400",
                "9007199254740993",
                "9007199254740993.0",
                "18446744073709551615",
                "1.8446744073709552e19",
                "-9223372036854775808",
                "123456789012345678901234567890",
            ])
            .prop_map(str::to_owned),
            prop::sample::select(vec![
                "", "a", "a\\\\", "a\\n", "ab", "a\\u0000", "ä", "\\\"", "😀"
            ])
            .prop_map(|s| format!("\"{s}\"")),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3)
                    .prop_map(|v| format!("[{}]", v.join(","))),
                (Just(["a", "b", "a\\n"]).prop_shuffle(), prop::collection::vec(inner, 0..3))
                    .prop_map(|(names, values)| {
                        let members: Vec<_> = names
                            .iter()
                            .zip(&values)
                            .map(|(name, value)| format!("\"{name}\":{value}"))
                            .collect();
                        format!("{{{}}}", members.join(","))
                    }),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_compare_as_their_keys(a in json(), b in json()) {
            let value = |text: &str| parse(text.as_bytes(), &Limits::default()).unwrap();
            let key = |value: &[u8]| {
                let mut out = Vec::new();
                key::encode(value, &mut out).unwrap();
                out
            };
            let (x, y) = (value(&a), value(&b));
            prop_assert_eq!(compare(&x, &y), key(&x).cmp(&key(&y)), "{} {}", a, b);
        }
    }
}
