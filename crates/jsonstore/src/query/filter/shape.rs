//! A filter without its operands.

use std::fmt::Write;

use super::{ElemMatch, Expr, Test};
use crate::codec::hash_key;

pub(super) fn shape(expr: &Expr) -> String {
    let mut out = String::new();
    put(expr, &mut out);
    out
}

/// A number for the shape: equal for filters of one shape, and mostly not for others.
pub(super) fn fingerprint(expr: &Expr) -> u64 {
    match expr {
        Expr::And(all) => fingerprint_list(1, all.iter().map(fingerprint)),
        Expr::Expression(_) => 2,
        Expr::Field { path, test } => {
            let path = hash_key(3, path.as_str().as_bytes());
            path.rotate_left(5) ^ fingerprint_test(test)
        }
        Expr::Nor(none) => fingerprint_list(4, none.iter().map(fingerprint)),
        Expr::Or(any) => fingerprint_list(5, any.iter().map(fingerprint)),
        #[cfg(feature = "schema")]
        Expr::Schema(_) => 6,
        Expr::Text(_) => 7,
    }
}

/// The order means nothing, so it is a sum.
fn fingerprint_list(kind: u32, each: impl Iterator<Item = u64>) -> u64 {
    let sum = each.fold(0_u64, u64::wrapping_add);
    hash_key(kind, &sum.to_le_bytes())
}

fn fingerprint_test(test: &Test) -> u64 {
    let of = |kind: u32, detail: u64| hash_key(kind, &detail.to_le_bytes());
    match test {
        Test::ElemMatch(ElemMatch::Document(expr)) => of(20, fingerprint(expr)),
        Test::ElemMatch(ElemMatch::Value(tests)) => {
            fingerprint_list(21, tests.iter().map(fingerprint_test))
        }
        Test::Eq(operand) => of(22, operand.bracket as u64),
        Test::Exists(wanted) => of(23, u64::from(*wanted)),
        Test::Gt(operand) => of(24, operand.bracket as u64),
        Test::Gte(operand) => of(25, operand.bracket as u64),
        Test::In(points) => of(26, u64::from(points.len().next_power_of_two().trailing_zeros())),
        Test::Lt(operand) => of(27, operand.bracket as u64),
        Test::Lte(operand) => of(28, operand.bracket as u64),
        Test::Mod { .. } => 29,
        Test::Not(tests) => fingerprint_list(30, tests.iter().map(fingerprint_test)),
        Test::Regex(regex) => of(31, u64::from(regex.prefix().is_some())),
        Test::Size(_) => 32,
        Test::Type(types) => of(33, u64::from(types.0)),
    }
}

fn put(expr: &Expr, out: &mut String) {
    match expr {
        Expr::And(all) => put_list("and", all, out),
        Expr::Expression(_) => out.push_str("expr"),
        Expr::Field { path, test } => {
            // Debug, so that a name with a bracket in it cannot look like another shape.
            let _ = write!(out, "{:?}", path.as_str());
            put_test(test, out);
        }
        Expr::Nor(none) => put_list("nor", none, out),
        Expr::Or(any) => put_list("or", any, out),
        #[cfg(feature = "schema")]
        Expr::Schema(_) => out.push_str("schema"),
        Expr::Text(_) => out.push_str("text"),
    }
}

/// Sorted: the order of clauses means nothing.
fn put_list(name: &str, list: &[Expr], out: &mut String) {
    let mut shapes: Vec<String> = list.iter().map(shape).collect();
    shapes.sort_unstable();
    let _ = write!(out, "{name}({})", shapes.join(","));
}

fn put_test(test: &Test, out: &mut String) {
    match test {
        Test::ElemMatch(ElemMatch::Document(expr)) => {
            let _ = write!(out, " elem({})", shape(expr));
        }
        Test::ElemMatch(ElemMatch::Value(tests)) => put_tests("elem", tests, out),
        // `null` finds missing fields, which no other value does.
        Test::Eq(operand) => {
            let _ = write!(out, " = {:?}", operand.bracket);
        }
        Test::Exists(wanted) => {
            let _ = write!(out, " exists {wanted}");
        }
        Test::Gt(operand) => {
            let _ = write!(out, " > {:?}", operand.bracket);
        }
        Test::Gte(operand) => {
            let _ = write!(out, " >= {:?}", operand.bracket);
        }
        // How many points there are decides between one plan and another, but only roughly.
        Test::In(points) => {
            let _ = write!(out, " in 2^{}", points.len().next_power_of_two().trailing_zeros());
        }
        Test::Lt(operand) => {
            let _ = write!(out, " < {:?}", operand.bracket);
        }
        Test::Lte(operand) => {
            let _ = write!(out, " <= {:?}", operand.bracket);
        }
        Test::Mod { .. } => out.push_str(" mod"),
        Test::Not(tests) => put_tests("not", tests, out),
        Test::Regex(regex) => {
            out.push_str(if regex.prefix().is_some() { " regex ^" } else { " regex" });
        }
        Test::Size(_) => out.push_str(" size"),
        Test::Type(types) => {
            let _ = write!(out, " type {}", types.0);
        }
    }
}

fn put_tests(name: &str, tests: &[Test], out: &mut String) {
    let mut shapes: Vec<String> = tests
        .iter()
        .map(|test| {
            let mut out = String::new();
            put_test(test, &mut out);
            out
        })
        .collect();
    shapes.sort_unstable();
    let _ = write!(out, " {name}({})", shapes.join(","));
}
