//! Expressions, as in `$expr`, computed fields and groups: `{"$add": ["$price", 1]}`.
//!
//! They never fail on a document: an operand of the wrong type, a division by zero or a result that
//! is no number gives `null`. Errors are for the parser, before any document is read.

use std::{borrow::Cow, cmp::Ordering};

use serde_json::{Map, Value};

use super::order::compare;
use crate::{
    codec::put_bytes,
    error::{Error, Result},
    jb1::{self, Container, Kind, Limits, Name},
    query::path::{Path, Step},
};

/// Expressions inside expressions.
pub(crate) const EXPRESSION_DEPTH_MAX: usize = 32;
/// Operators, fields and constants of one expression.
pub(crate) const EXPRESSION_NODES_MAX: usize = 1024;
/// Bytes that `$concat` may make.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// A value to compute from a document.
#[derive(Debug, Clone)]
pub(crate) enum Expression {
    Array(Vec<Expression>),
    Call(Function, Vec<Expression>),
    Field(Path),
    Literal(Vec<u8>),
    Object(Vec<(Step, Expression)>),
    /// `$$ROOT`.
    Root,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Abs,
    Add,
    And,
    ArrayElemAt,
    Ceil,
    Cmp,
    Concat,
    Cond,
    Divide,
    Eq,
    Floor,
    Gt,
    Gte,
    IfNull,
    In,
    Lt,
    Lte,
    Mod,
    Multiply,
    Ne,
    Not,
    Or,
    Size,
    Subtract,
    ToLower,
    ToUpper,
}

/// Name, function, fewest and most operands.
const FUNCTIONS: &[(&str, Function, usize, usize)] = &[
    ("$abs", Function::Abs, 1, 1),
    ("$add", Function::Add, 0, usize::MAX),
    ("$and", Function::And, 0, usize::MAX),
    ("$arrayElemAt", Function::ArrayElemAt, 2, 2),
    ("$ceil", Function::Ceil, 1, 1),
    ("$cmp", Function::Cmp, 2, 2),
    ("$concat", Function::Concat, 0, usize::MAX),
    ("$cond", Function::Cond, 3, 3),
    ("$divide", Function::Divide, 2, 2),
    ("$eq", Function::Eq, 2, 2),
    ("$floor", Function::Floor, 1, 1),
    ("$gt", Function::Gt, 2, 2),
    ("$gte", Function::Gte, 2, 2),
    ("$ifNull", Function::IfNull, 2, usize::MAX),
    ("$in", Function::In, 2, 2),
    ("$lt", Function::Lt, 2, 2),
    ("$lte", Function::Lte, 2, 2),
    ("$mod", Function::Mod, 2, 2),
    ("$multiply", Function::Multiply, 0, usize::MAX),
    ("$ne", Function::Ne, 2, 2),
    ("$not", Function::Not, 1, 1),
    ("$or", Function::Or, 0, usize::MAX),
    ("$size", Function::Size, 1, 1),
    ("$subtract", Function::Subtract, 2, 2),
    ("$toLower", Function::ToLower, 1, 1),
    ("$toUpper", Function::ToUpper, 1, 1),
];

/// A computed value; `None` is a field that is not there.
pub(crate) type Computed<'a> = Option<Cow<'a, [u8]>>;

impl Expression {
    pub(crate) fn from_json(value: &Value) -> Result<Self> {
        let mut nodes = 0;
        parse(value, 0, &mut nodes)
    }

    pub(crate) fn eval<'a>(&'a self, document: &'a [u8]) -> Computed<'a> {
        match self {
            Self::Array(items) => {
                let mut out = Vec::new();
                let mut container = Container::begin(&mut out, false);
                for item in items {
                    container.next(&out);
                    out.extend_from_slice(item.eval(document).as_deref().unwrap_or(NULL));
                }
                finished(container, out)
            }
            Self::Call(function, operands) => call(*function, operands, document),
            Self::Field(path) => field(document, path.steps()),
            Self::Literal(value) => Some(Cow::Borrowed(value)),
            Self::Object(members) => {
                let mut out = Vec::new();
                let mut container = Container::begin(&mut out, true);
                for (step, value) in members {
                    if let Some(value) = value.eval(document) {
                        container.next(&out);
                        jb1::put_name(&mut out, name_of(step));
                        out.extend_from_slice(&value);
                    }
                }
                finished(container, out)
            }
            Self::Root => Some(Cow::Borrowed(document)),
        }
    }

    /// Whether the value counts as true: everything but `false`, `null`, 0 and what is missing.
    pub(crate) fn is_true(&self, document: &[u8]) -> bool {
        truth(self.eval(document).as_deref())
    }
}

fn parse(value: &Value, depth: usize, nodes: &mut usize) -> Result<Expression> {
    *nodes += 1;
    if *nodes > EXPRESSION_NODES_MAX {
        return Err(bad("", format!("an expression has at most {EXPRESSION_NODES_MAX} parts")));
    }
    if depth > EXPRESSION_DEPTH_MAX {
        return Err(bad("", format!("expressions nest deeper than {EXPRESSION_DEPTH_MAX} levels")));
    }
    match value {
        Value::String(text) if text == "$$ROOT" || text == "$$CURRENT" => Ok(Expression::Root),
        Value::String(text) => match text.strip_prefix('$') {
            Some(path) => {
                Path::parse(path.strip_prefix("$ROOT.").unwrap_or(path)).map(Expression::Field)
            }
            None => literal(value),
        },
        Value::Array(items) => {
            let items = items.iter().map(|item| parse(item, depth + 1, nodes));
            items.collect::<Result<_>>().map(Expression::Array)
        }
        Value::Object(members) => parse_object(members, depth, nodes),
        _ => literal(value),
    }
}

fn parse_object(
    members: &Map<String, Value>,
    depth: usize,
    nodes: &mut usize,
) -> Result<Expression> {
    if let Some((name, operand)) = members.iter().find(|(name, _)| name.starts_with('$')) {
        if members.len() > 1 {
            return Err(bad(name, "an operator stands alone in its object"));
        }
        if name == "$literal" {
            return literal(operand);
        }
        let known = FUNCTIONS.iter().find(|(known, ..)| known == name);
        let (_, function, least, most) =
            known.ok_or_else(|| bad(name, "no such operator in an expression"))?;
        let operands = operands(*function, operand, depth, nodes)?;
        if operands.len() < *least || operands.len() > *most {
            return Err(bad(name, "the operator takes another number of operands"));
        }
        return Ok(Expression::Call(*function, operands));
    }
    let mut parsed = Vec::with_capacity(members.len());
    for (name, value) in members {
        parsed.push((Step::new(name), parse(value, depth + 1, nodes)?));
    }
    Ok(Expression::Object(parsed))
}

/// An array of them, one by itself, or the named ones of `$cond`.
fn operands(
    function: Function,
    operand: &Value,
    depth: usize,
    nodes: &mut usize,
) -> Result<Vec<Expression>> {
    match operand {
        Value::Array(list) => list.iter().map(|item| parse(item, depth + 1, nodes)).collect(),
        Value::Object(named) if function == Function::Cond => ["if", "then", "else"]
            .iter()
            .map(|name| {
                let part = named.get(*name).ok_or_else(|| bad(name, "$cond lacks this part"))?;
                parse(part, depth + 1, nodes)
            })
            .collect(),
        one => Ok(vec![parse(one, depth + 1, nodes)?]),
    }
}

fn literal(value: &Value) -> Result<Expression> {
    Ok(Expression::Literal(jb1::from_value(value, &Limits::default())?))
}

/// A field path of an expression: arrays are mapped, and a step is never a position.
fn field<'a>(value: &'a [u8], steps: &[Step]) -> Computed<'a> {
    let mut at = value;
    for (done, step) in steps.iter().enumerate() {
        at = match jb1::kind(at)? {
            Kind::Object => jb1::get(at, &step.escaped)?,
            Kind::Array => {
                let mut out = Vec::new();
                let mut container = Container::begin(&mut out, false);
                for item in jb1::items(at)?.flatten() {
                    if let Some(found) = field(item, &steps[done..]) {
                        container.next(&out);
                        out.extend_from_slice(&found);
                    }
                }
                return finished(container, out);
            }
            _ => return None,
        };
    }
    Some(Cow::Borrowed(at))
}

fn call<'a>(function: Function, operands: &'a [Expression], document: &'a [u8]) -> Computed<'a> {
    let eval = |i: usize| operands.get(i).and_then(|operand| operand.eval(document));
    let compared = || compare_computed(eval(0).as_deref(), eval(1).as_deref());
    match function {
        Function::And => boolean(operands.iter().all(|operand| operand.is_true(document))),
        Function::Or => boolean(operands.iter().any(|operand| operand.is_true(document))),
        Function::Not => boolean(!truth(eval(0).as_deref())),
        Function::Cmp => integer(compared() as i64),
        Function::Eq => boolean(compared().is_eq()),
        Function::Gt => boolean(compared().is_gt()),
        Function::Gte => boolean(compared().is_ge()),
        Function::Lt => boolean(compared().is_lt()),
        Function::Lte => boolean(compared().is_le()),
        Function::Ne => boolean(compared().is_ne()),
        Function::Cond => eval(if truth(eval(0).as_deref()) { 1 } else { 2 }),
        Function::IfNull => {
            let is_there = |value: &Computed<'_>| {
                value.as_deref().is_some_and(|value| jb1::kind(value) != Some(Kind::Null))
            };
            let found = (0..operands.len()).map(eval).find(is_there);
            found.unwrap_or_else(|| eval(operands.len() - 1))
        }
        Function::In => {
            let (needle, list) = (eval(0)?, eval(1));
            let items = list.as_deref().and_then(jb1::items);
            let Some(mut items) = items else { return null() };
            boolean(items.any(|item| item.is_some_and(|item| compare(item, &needle).is_eq())))
        }
        Function::Size => {
            let count = eval(0).as_deref().and_then(jb1::count);
            count.map_or_else(null, |count| integer(i64::from(count)))
        }
        Function::ArrayElemAt => array_elem_at(eval(0), eval(1).as_deref()),
        Function::Concat => concat(operands, document),
        Function::ToLower => changed_text(eval(0).as_deref(), str::to_lowercase),
        Function::ToUpper => changed_text(eval(0).as_deref(), str::to_uppercase),
        Function::Abs | Function::Ceil | Function::Floor => {
            unary(function, eval(0).as_deref().and_then(Number::read))
        }
        Function::Add
        | Function::Divide
        | Function::Mod
        | Function::Multiply
        | Function::Subtract => arithmetic(function, operands, document),
    }
}

/// In an expression all types compare, and what is missing is smaller than `null`.
pub(crate) fn compare_computed(a: Option<&[u8]>, b: Option<&[u8]>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => compare(a, b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

fn array_elem_at<'a>(array: Computed<'a>, at: Option<&[u8]>) -> Computed<'a> {
    let Some(at) = at.and_then(jb1::integer) else { return null() };
    let array = array?;
    let Some(count) = jb1::count(&array) else { return null() };
    let at = if at < 0 { at + i128::from(count) } else { at };
    let item = jb1::items(&array)?.nth(usize::try_from(at).ok()?)??;
    Some(Cow::Owned(item.to_vec()))
}

fn concat<'a>(operands: &'a [Expression], document: &'a [u8]) -> Computed<'a> {
    let mut text = String::new();
    for operand in operands {
        let value = operand.eval(document);
        let piece = value.as_deref().filter(|value| jb1::kind(value) == Some(Kind::String));
        match piece.and_then(jb1::string) {
            Some(piece) if text.len() + piece.len() <= TEXT_BYTES_MAX => text.push_str(&piece),
            _ => return null(),
        }
    }
    string(&text)
}

fn changed_text<'a>(value: Option<&[u8]>, change: fn(&str) -> String) -> Computed<'a> {
    match value.filter(|value| jb1::kind(value) == Some(Kind::String)).and_then(jb1::string) {
        Some(text) => string(&change(&text)),
        None => null(),
    }
}

/// Integers as long as they are exact; otherwise floats.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Number {
    Float(f64),
    Integer(i128),
}

impl Number {
    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        match jb1::integer(value) {
            Some(integer) => Some(Self::Integer(integer)),
            None => jb1::number(value).map(Self::Float),
        }
    }

    pub(crate) fn float(self) -> f64 {
        match self {
            Self::Float(float) => float,
            Self::Integer(integer) => integer as f64,
        }
    }

    pub(crate) fn add(self, other: Self) -> Self {
        self.with(other, i128::checked_add, |a, b| a + b)
    }

    /// As JB1; `null` if it is no finite number.
    pub(crate) fn put(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(9);
        match self {
            Self::Integer(integer) => match (i64::try_from(integer), u64::try_from(integer)) {
                (Ok(integer), _) => jb1::put_integer(&mut out, integer),
                (_, Ok(integer)) => {
                    out.push(jb1::UNSIGNED);
                    out.extend_from_slice(&integer.to_le_bytes());
                }
                _ => return Self::Float(integer as f64).put(),
            },
            Self::Float(float) => match serde_json::Number::from_f64(float) {
                Some(number) => {
                    out.push(jb1::DECIMAL);
                    put_bytes(&mut out, number.to_string().as_bytes());
                }
                None => out.push(jb1::NULL),
            },
        }
        out
    }

    fn with(
        self,
        other: Self,
        exact: fn(i128, i128) -> Option<i128>,
        float: fn(f64, f64) -> f64,
    ) -> Self {
        if let (Self::Integer(a), Self::Integer(b)) = (self, other)
            && let Some(result) = exact(a, b)
        {
            return Self::Integer(result);
        }
        Self::Float(float(self.float(), other.float()))
    }
}

fn unary<'a>(function: Function, number: Option<Number>) -> Computed<'a> {
    let result = match (function, number) {
        (_, None) => return null(),
        (Function::Abs, Some(Number::Integer(integer))) => Number::Integer(integer.abs()),
        (_, Some(Number::Integer(integer))) => Number::Integer(integer),
        (Function::Abs, Some(Number::Float(float))) => Number::Float(float.abs()),
        (Function::Ceil, Some(Number::Float(float))) => Number::Float(float.ceil()),
        (_, Some(Number::Float(float))) => Number::Float(float.floor()),
    };
    Some(Cow::Owned(result.put()))
}

fn arithmetic<'a>(
    function: Function,
    operands: &'a [Expression],
    document: &'a [u8],
) -> Computed<'a> {
    let mut numbers = Vec::with_capacity(operands.len());
    for operand in operands {
        match operand.eval(document).as_deref().and_then(Number::read) {
            Some(number) => numbers.push(number),
            None => return null(),
        }
    }
    let result = match (function, numbers.as_slice()) {
        (Function::Add, all) => all.iter().fold(Number::Integer(0), |sum, next| sum.add(*next)),
        (Function::Multiply, all) => all.iter().fold(Number::Integer(1), |product, next| {
            product.with(*next, i128::checked_mul, |a, b| a * b)
        }),
        (Function::Subtract, [a, b]) => a.with(*b, i128::checked_sub, |a, b| a - b),
        // A quotient of integers is an integer only if nothing is lost.
        (Function::Divide, [a, b]) => {
            a.with(*b, |a, b| (b != 0 && a % b == 0).then(|| a / b), |a, b| a / b)
        }
        (Function::Mod, [a, b]) => a.with(*b, i128::checked_rem, |a, b| a % b),
        _ => return null(),
    };
    Some(Cow::Owned(result.put()))
}

fn truth(value: Option<&[u8]>) -> bool {
    match value.and_then(|value| Some((jb1::kind(value)?, value))) {
        None | Some((Kind::Null | Kind::False, _)) => false,
        Some((Kind::Integer | Kind::Decimal, value)) => jb1::number(value) != Some(0.0),
        Some(_) => true,
    }
}

const NULL: &[u8] = &[jb1::NULL];

fn null<'a>() -> Computed<'a> {
    Some(Cow::Borrowed(NULL))
}

fn boolean<'a>(is_true: bool) -> Computed<'a> {
    Some(Cow::Borrowed(if is_true { &[jb1::TRUE] } else { &[jb1::FALSE] }))
}

fn integer<'a>(number: i64) -> Computed<'a> {
    Some(Cow::Owned(Number::Integer(i128::from(number)).put()))
}

fn string<'a>(text: &str) -> Computed<'a> {
    let mut out = Vec::with_capacity(text.len() + 3);
    jb1::put_string(&mut out, text);
    Some(Cow::Owned(out))
}

fn finished<'a>(container: Container, mut out: Vec<u8>) -> Computed<'a> {
    container.finish(&mut out).ok()?;
    Some(Cow::Owned(out))
}

pub(crate) fn name_of(step: &Step) -> Name<'_> {
    Name { escaped: &step.escaped, has_escapes: step.escaped.contains(&b'\\') }
}

fn bad(path: &str, reason: impl Into<String>) -> Error {
    Error::InvalidFilter { path: path.to_owned(), reason: reason.into() }
}
