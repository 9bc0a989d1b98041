//! Documents, filters and updates at random: few names and few values, so that they meet.

use serde_json::{Map, Value, json};

use super::env::Random;

const NAMES: [&str; 4] = ["a", "b", "c", "0"];
const PATHS: [&str; 9] = ["a", "b", "c", "a.b", "a.0", "b.a", "c.a.b", "a.1.b", "b.0.0"];

/// Makes cases from a seed; the same seed makes the same cases.
pub struct Cases(Random);

impl Cases {
    /// The cases of this seed.
    pub fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// A document: an object up to four levels deep.
    pub fn document(&mut self) -> Value {
        self.object(3)
    }

    /// A filter that `naive_matches` knows.
    pub fn filter(&mut self) -> Value {
        self.filter_of(2)
    }

    /// An update of operators; it may be one that cannot be applied.
    pub fn update(&mut self) -> Value {
        let mut operators = Map::new();
        for _ in 0..1 + self.below(2) {
            let (name, operand) = match self.below(9) {
                0 => ("$set", self.value(2)),
                1 => ("$unset", json!("")),
                2 => ("$inc", self.number()),
                3 => ("$mul", self.number()),
                4 => ("$min", self.scalar()),
                5 => ("$max", self.scalar()),
                6 => ("$push", self.value(1)),
                7 => ("$addToSet", self.scalar()),
                _ => ("$pop", json!(1)),
            };
            operators.insert(name.to_owned(), json!({ (self.path()): operand }));
        }
        Value::Object(operators)
    }

    /// A path that may lead somewhere.
    pub fn path(&mut self) -> &'static str {
        PATHS[self.below(PATHS.len())]
    }

    /// A random number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound as u64) as usize
    }

    /// Any value, its containers nested at most so deep.
    pub fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 6 } else { 10 }) {
            0..6 => self.scalar(),
            6 | 7 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => self.object(depth - 1),
        }
    }

    fn object(&mut self, depth: usize) -> Value {
        let mut members = Map::new();
        for _ in 0..self.below(4) {
            let name = NAMES[self.below(NAMES.len())];
            members.insert(name.to_owned(), self.value(depth));
        }
        Value::Object(members)
    }

    fn scalar(&mut self) -> Value {
        match self.below(8) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 | 3 => json!(["", "a", "ab", "b\"", "\n"][self.below(5)]),
            _ => self.number(),
        }
    }

    fn number(&mut self) -> Value {
        match self.below(3) {
            0 => json!([0.5, 1.0, -1.5, 2.0][self.below(4)]),
            _ => json!(self.below(4) as i64 - 1),
        }
    }

    fn filter_of(&mut self, depth: usize) -> Value {
        let mut members = Map::new();
        for _ in 0..1 + self.below(2) {
            let name = ["$and", "$or", "$nor"][self.below(3)];
            if depth > 0 && self.below(3) == 0 {
                let list: Value =
                    (0..1 + self.below(2)).map(|_| self.filter_of(depth - 1)).collect();
                members.insert(name.to_owned(), list);
            } else {
                members.insert(self.path().to_owned(), self.condition(depth));
            }
        }
        Value::Object(members)
    }

    fn condition(&mut self, depth: usize) -> Value {
        if self.below(3) == 0 {
            return self.value(2);
        }
        (0..1 + self.below(2)).map(|_| self.operator(depth)).collect::<Map<_, _>>().into()
    }

    fn operator(&mut self, depth: usize) -> (String, Value) {
        let list =
            |cases: &mut Self| (0..cases.below(4)).map(|_| cases.value(1)).collect::<Value>();
        let types = ["string", "number", "bool", "array", "object", "null"];
        let (name, operand) = match self.below(if depth == 0 { 13 } else { 16 }) {
            0 => ("$eq", self.value(2)),
            1 => ("$ne", self.value(1)),
            2 => ("$gt", self.value(1)),
            3 => ("$gte", self.value(1)),
            4 => ("$lt", self.value(1)),
            5 => ("$lte", self.value(1)),
            6 => ("$in", list(self)),
            7 => ("$nin", list(self)),
            8 => ("$exists", json!(self.below(2) == 0)),
            9 => ("$type", json!(types[self.below(types.len())])),
            10 => ("$size", json!(self.below(3))),
            11 => ("$mod", json!([1 + self.below(3), self.below(2)])),
            12 => ("$regex", json!(["^a", "b", "", "^$"][self.below(4)])),
            13 => ("$not", Value::Object([self.operator(depth - 1)].into_iter().collect())),
            14 => ("$all", list(self)),
            _ if self.below(2) == 0 => ("$elemMatch", self.filter_of(depth - 1)),
            _ => {
                // `$all` is no test of a single value.
                let (name, operand) = loop {
                    let test = self.operator(0);
                    if test.0 != "$all" {
                        break test;
                    }
                };
                ("$elemMatch", Value::Object([(name, operand)].into_iter().collect()))
            }
        };
        (name.to_owned(), operand)
    }
}
