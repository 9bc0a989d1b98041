//! A filter without its operands.

use std::fmt::Write;

use super::{ElemMatch, Expr, Test};

pub(super) fn shape(expr: &Expr) -> String {
    let mut out = String::new();
    put(expr, &mut out);
    out
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
