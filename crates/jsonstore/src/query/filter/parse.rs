//! From the document form to the tree. Untrusted: depth, clauses, operands and expressions are bounded.

use serde_json::{Map, Value};

use super::{
    ElemMatch, Expr, FILTER_CLAUSES_MAX, FILTER_DEPTH_MAX, FILTER_OPERANDS_MAX, Operand,
    REGEX_BYTES_MAX, REGEX_COMPILED_BYTES_MAX, REGEXES_MAX, Regex, Test, TextQuery, TypeSet,
};
#[cfg(feature = "schema")]
use crate::query::schema::Schema;
use crate::{
    error::{Error, Result},
    query::{expression::Expression, order::compare, path::Path},
};

pub(super) fn parse(value: &Value) -> Result<Expr> {
    let mut parser = Parser::default();
    let expr = parser.document(value)?;
    Ok(expr)
}

pub(super) fn pull_condition(value: &Value) -> Result<ElemMatch> {
    let mut parser = Parser::default();
    match value {
        Value::Object(_) => parser.elem_match(value),
        value => Ok(ElemMatch::Value(vec![Test::Eq(parser.operand(value)?)])),
    }
}

/// Counts against the limits and knows where it is.
#[derive(Default)]
struct Parser {
    /// The names of the fields and operators around the current value.
    place: Vec<String>,
    clauses: usize,
    operands: usize,
    regexes: usize,
    texts: usize,
    /// Logical operators and `$elemMatch` around; `$text` stands outside all but `$and`.
    inside: usize,
}

impl Parser {
    fn bad<T>(&self, reason: impl Into<String>) -> Result<T> {
        Err(Error::InvalidFilter { path: self.place.join("."), reason: reason.into() })
    }

    /// Parses a part, so that an error names it.
    fn at<T>(&mut self, name: &str, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.place.push(name.to_owned());
        if self.place.len() > FILTER_DEPTH_MAX {
            self.place.truncate(3);
            return self.bad(format!("operators nest deeper than {FILTER_DEPTH_MAX} levels"));
        }
        let part = parse(self)?;
        self.place.pop();
        Ok(part)
    }

    fn count_clause(&mut self) -> Result<()> {
        self.clauses += 1;
        if self.clauses > FILTER_CLAUSES_MAX {
            return self.bad(format!("the filter has more than {FILTER_CLAUSES_MAX} clauses"));
        }
        Ok(())
    }

    fn document(&mut self, value: &Value) -> Result<Expr> {
        let Some(members) = value.as_object() else {
            return self.bad("a filter is an object");
        };
        let mut all = Vec::with_capacity(members.len());
        for (name, value) in members {
            self.at(name, |parser| parser.member(name, value, &mut all))?;
        }
        Ok(conjunction(all))
    }

    fn member(&mut self, name: &str, value: &Value, all: &mut Vec<Expr>) -> Result<()> {
        match name {
            "$and" => {
                for expr in self.list(value, false)? {
                    push_and(all, expr);
                }
            }
            "$comment" => {}
            "$expr" => all.push(Expr::Expression(Expression::from_json(value)?)),
            #[cfg(feature = "schema")]
            "$jsonSchema" => match Schema::from_json(value) {
                Ok(schema) => all.push(Expr::Schema(schema)),
                Err(reason) => return self.bad(reason),
            },
            "$nor" => {
                let none = self.list(value, true)?;
                all.push(Expr::Nor(none));
            }
            "$or" => {
                let mut any = Vec::new();
                for expr in self.list(value, true)? {
                    match expr {
                        Expr::Or(inner) => any.extend(inner),
                        expr => any.push(expr),
                    }
                }
                match any.pop() {
                    Some(one) if any.is_empty() => push_and(all, one),
                    last => {
                        any.extend(last);
                        all.push(Expr::Or(any));
                    }
                }
            }
            "$text" => all.push(Expr::Text(self.text(value)?)),
            _ if name.starts_with('$') => return self.bad("no such operator here"),
            _ => {
                let path = Path::parse(name)?;
                for test in self.tests(value)? {
                    all.push(Expr::Field { path: path.clone(), test });
                }
            }
        }
        Ok(())
    }

    fn list(&mut self, value: &Value, is_inside: bool) -> Result<Vec<Expr>> {
        let items = match value {
            Value::Array(items) if !items.is_empty() => items,
            _ => return self.bad("the operand is an array of filters with at least one"),
        };
        self.inside += usize::from(is_inside);
        let mut list = Vec::with_capacity(items.len().min(64));
        for (i, item) in items.iter().enumerate() {
            self.count_clause()?;
            list.push(self.at(&i.to_string(), |parser| parser.document(item))?);
        }
        self.inside -= usize::from(is_inside);
        Ok(list)
    }

    /// What a field has to be: operators, or a value to equal.
    fn tests(&mut self, value: &Value) -> Result<Vec<Test>> {
        match value.as_object() {
            Some(members) if members.keys().any(|name| name.starts_with('$')) => {
                self.operators(members)
            }
            _ => Ok(vec![Test::Eq(self.operand(value)?)]),
        }
    }

    fn operators(&mut self, members: &Map<String, Value>) -> Result<Vec<Test>> {
        let mut tests = Vec::with_capacity(members.len());
        for (name, operand) in members {
            self.count_clause()?;
            self.at(name, |parser| parser.operator(name, operand, members, &mut tests))?;
        }
        Ok(tests)
    }

    fn operator(
        &mut self,
        name: &str,
        operand: &Value,
        siblings: &Map<String, Value>,
        tests: &mut Vec<Test>,
    ) -> Result<()> {
        tests.push(match name {
            "$all" => return self.all(operand, tests),
            "$elemMatch" => Test::ElemMatch(self.elem_match(operand)?),
            "$eq" => Test::Eq(self.operand(operand)?),
            "$exists" => Test::Exists(is_true(operand)),
            "$gt" => Test::Gt(self.operand(operand)?),
            "$gte" => Test::Gte(self.operand(operand)?),
            "$in" => Test::In(self.points(operand)?),
            "$lt" => Test::Lt(self.operand(operand)?),
            "$lte" => Test::Lte(self.operand(operand)?),
            "$mod" => self.modulo(operand)?,
            "$ne" => Test::Not(vec![Test::Eq(self.operand(operand)?)]),
            "$nin" => Test::Not(vec![Test::In(self.points(operand)?)]),
            "$not" => Test::Not(self.not(operand)?),
            "$options" if siblings.contains_key("$regex") => return Ok(()),
            "$options" => return self.bad("$options stands beside a $regex"),
            "$regex" => Test::Regex(self.regex(operand, siblings.get("$options"))?),
            "$size" => match operand.as_u64().or_else(|| whole(operand)?.try_into().ok()) {
                Some(size) => Test::Size(size),
                None => return self.bad("the operand is a whole number, 0 or more"),
            },
            "$type" => Test::Type(self.types(operand)?),
            _ if name.starts_with('$') => return self.bad("no such operator here"),
            _ => return self.bad("operators and plain fields do not stand side by side"),
        });
        Ok(())
    }

    fn operand(&mut self, value: &Value) -> Result<Operand> {
        self.operands += 1;
        if self.operands > FILTER_OPERANDS_MAX {
            return self.bad(format!("the filter has more than {FILTER_OPERANDS_MAX} operands"));
        }
        match Operand::new(value) {
            Ok(operand) => Ok(operand),
            Err(error) => self.bad(error.to_string()),
        }
    }

    /// The operands of `$in`, sorted.
    fn points(&mut self, value: &Value) -> Result<Vec<Operand>> {
        let Some(items) = value.as_array() else {
            return self.bad("the operand is an array");
        };
        let mut points = Vec::with_capacity(items.len().min(FILTER_OPERANDS_MAX));
        for item in items {
            if is_operator_object(item) {
                return self.bad("an operator cannot stand in the array");
            }
            points.push(self.operand(item)?);
        }
        points.sort_by(|a, b| compare(&a.jb1, &b.jb1));
        points.dedup_by(|a, b| a.key == b.key);
        Ok(points)
    }

    /// `$all` is one test for each value.
    fn all(&mut self, value: &Value, tests: &mut Vec<Test>) -> Result<()> {
        let Some(items) = value.as_array() else {
            return self.bad("the operand is an array");
        };
        if items.is_empty() {
            tests.push(Test::In(Vec::new()));
        }
        for item in items {
            self.count_clause()?;
            match item.get("$elemMatch") {
                Some(of) => {
                    let of = self.at("$elemMatch", |parser| parser.elem_match(of))?;
                    tests.push(Test::ElemMatch(of));
                }
                None if is_operator_object(item) => {
                    return self.bad("of the operators only $elemMatch can stand in the array");
                }
                None => tests.push(Test::Eq(self.operand(item)?)),
            }
        }
        Ok(())
    }

    fn elem_match(&mut self, value: &Value) -> Result<ElemMatch> {
        let Some(members) = value.as_object() else {
            return self.bad("the operand is an object");
        };
        let logical = |name: &String| matches!(name.as_str(), "$and" | "$nor" | "$or");
        let is_value = members.keys().any(|name| name.starts_with('$') && !logical(name));
        self.inside += 1;
        let of = if is_value {
            ElemMatch::Value(self.operators(members)?)
        } else {
            ElemMatch::Document(Box::new(self.document(value)?))
        };
        self.inside -= 1;
        Ok(of)
    }

    fn not(&mut self, value: &Value) -> Result<Vec<Test>> {
        match value.as_object() {
            Some(members) if !members.is_empty() => self.operators(members),
            _ => self.bad("the operand is an object with operators"),
        }
    }

    fn modulo(&mut self, value: &Value) -> Result<Test> {
        let numbers = value.as_array().map(Vec::as_slice);
        match numbers {
            Some([divisor, remainder]) => match (whole(divisor), whole(remainder)) {
                (Some(0), _) => self.bad("the divisor is not 0"),
                (Some(divisor), Some(remainder)) => Ok(Test::Mod { divisor, remainder }),
                _ => self.bad("the divisor and the remainder are numbers of 64 bits"),
            },
            _ => self.bad("the operand is an array of a divisor and a remainder"),
        }
    }

    fn regex(&mut self, pattern: &Value, options: Option<&Value>) -> Result<Regex> {
        let Some(pattern) = pattern.as_str() else {
            return self.bad("the operand is a string");
        };
        let options = match options {
            None => "",
            Some(Value::String(options)) => options,
            Some(_) => return self.bad("$options is a string"),
        };
        self.regexes += 1;
        if self.regexes > REGEXES_MAX {
            return self.bad(format!("the filter has more than {REGEXES_MAX} expressions"));
        }
        if pattern.len() > REGEX_BYTES_MAX {
            return self.bad(format!("the expression is longer than {REGEX_BYTES_MAX} bytes"));
        }
        let mut builder = regex::RegexBuilder::new(pattern);
        builder.size_limit(REGEX_COMPILED_BYTES_MAX).dfa_size_limit(REGEX_COMPILED_BYTES_MAX);
        for option in options.chars() {
            match option {
                'i' => builder.case_insensitive(true),
                'm' => builder.multi_line(true),
                's' => builder.dot_matches_new_line(true),
                'u' => &mut builder,
                'x' => builder.ignore_whitespace(true),
                _ => return self.bad("$options are of i, m, s, u and x"),
            };
        }
        match builder.build() {
            Ok(compiled) => {
                Ok(Regex { pattern: pattern.into(), options: options.into(), compiled })
            }
            Err(regex::Error::CompiledTooBig(limit)) => {
                self.bad(format!("the compiled expression is larger than {limit} bytes"))
            }
            Err(error) => self.bad(error.to_string()),
        }
    }

    fn types(&mut self, value: &Value) -> Result<TypeSet> {
        let mut types = TypeSet::default();
        let list = match value {
            Value::Array(list) if list.is_empty() => return self.bad("the array is empty"),
            Value::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        for name in list {
            types.0 |= match name {
                Value::String(name) => type_by_name(name),
                Value::Number(_) => whole(name).and_then(type_by_number),
                _ => None,
            }
            .map_or_else(|| self.bad(format!("JSON has no type {name}")), Ok)?;
        }
        Ok(types)
    }

    fn text(&mut self, value: &Value) -> Result<TextQuery> {
        self.texts += 1;
        if self.texts > 1 {
            return self.bad("a filter has one $text at most");
        }
        if self.inside > 0 {
            return self.bad("$text stands at the top of the filter or in its $and");
        }
        let Some(members) = value.as_object() else {
            return self.bad("the operand is an object with a $search");
        };
        let mut query = TextQuery {
            search: "".into(),
            language: None,
            case_sensitive: false,
            diacritic_sensitive: false,
        };
        for (name, value) in members {
            match (name.as_str(), value) {
                ("$search", Value::String(text)) => query.search = text.as_str().into(),
                ("$language", Value::String(text)) => query.language = Some(text.as_str().into()),
                ("$caseSensitive", Value::Bool(yes)) => query.case_sensitive = *yes,
                ("$diacriticSensitive", Value::Bool(yes)) => query.diacritic_sensitive = *yes,
                _ => {
                    return self
                        .at(name, |parser| parser.bad("no such option, or not of this type"));
                }
            }
        }
        if !members.contains_key("$search") {
            return self.bad("$search is missing");
        }
        Ok(query)
    }
}

/// Adds to a conjunction without nesting one in another.
fn push_and(all: &mut Vec<Expr>, expr: Expr) {
    match expr {
        Expr::And(inner) => all.extend(inner),
        expr => all.push(expr),
    }
}

fn conjunction(mut all: Vec<Expr>) -> Expr {
    match all.pop() {
        Some(one) if all.is_empty() => one,
        last => {
            all.extend(last);
            Expr::And(all)
        }
    }
}

fn is_operator_object(value: &Value) -> bool {
    value.as_object().is_some_and(|members| members.keys().any(|name| name.starts_with('$')))
}

/// MongoDB takes numbers for booleans here.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        _ => true,
    }
}

/// A number cut to an integer.
fn whole(value: &Value) -> Option<i64> {
    if let Some(number) = value.as_i64() {
        return Some(number);
    }
    let float = value.as_f64()?.trunc();
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&float);
    fits.then_some(float as i64)
}

fn type_by_name(name: &str) -> Option<u16> {
    Some(match name {
        "array" => TypeSet::ARRAY,
        "bool" => TypeSet::BOOLEAN,
        "double" => TypeSet::DOUBLE,
        "int" => TypeSet::INT,
        "long" => TypeSet::LONG,
        "null" => TypeSet::NULL,
        "number" => TypeSet::INT | TypeSet::LONG | TypeSet::DOUBLE,
        "object" => TypeSet::OBJECT,
        "string" => TypeSet::STRING,
        _ => return None,
    })
}

/// The numbers of BSON.
fn type_by_number(number: i64) -> Option<u16> {
    type_by_name(match number {
        1 => "double",
        2 => "string",
        3 => "object",
        4 => "array",
        8 => "bool",
        10 => "null",
        16 => "int",
        18 => "long",
        _ => return None,
    })
}
