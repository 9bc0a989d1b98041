//! A query with its terms looked up: the same for every part of the index.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    TextError,
    analyze::is_unspaced,
    bm25::{self, Weight},
    part::{PartReader, TermInfo},
    query::{CLAUSES_MAX, FUZZY_TERMS_MAX, PREFIX_TERMS_MAX, TextQuery},
    state::{SnapshotPages, TextState, View, read_terms},
};
use crate::{
    bugs::bug,
    error::{Error, Result},
};

/// Candidates looked at before it is clear that a prefix begins too many terms, dead ones included.
const PREFIX_CANDIDATES_MAX: usize = PREFIX_TERMS_MAX * 16;

/// A looked-up term.
#[derive(Debug)]
pub(crate) struct PlannedTerm {
    /// Field number, then text.
    pub(crate) key: Vec<u8>,
    pub(crate) idf: f64,
    pub(crate) weight: Weight,
    /// In each part of the view.
    pub(crate) infos: Vec<Option<TermInfo>>,
}

/// What a document must have.
#[derive(Debug)]
pub(crate) enum Node {
    /// One of these terms, by their places in the plan; each that is there counts.
    Terms(Vec<usize>),
    /// Terms of one field, each at its distance from the first.
    Phrase {
        terms: Vec<(usize, u32)>,
        weight: Weight,
    },
    All(Vec<Self>),
    Any(Vec<Self>),
    Except(Box<Self>, Box<Self>),
    Should(Box<Self>, Box<Self>),
    /// Nothing is asked: stop words.
    Anything,
}

/// A query, ready to run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) terms: Vec<PlannedTerm>,
    pub(crate) root: Node,
}

/// The context of a clause.
#[derive(Clone, Copy)]
struct Scope {
    field: Option<u8>,
    boost: f64,
}

pub(crate) struct Planner<'a> {
    state: &'a TextState,
    view: &'a View,
    pages: &'a SnapshotPages<'a>,
    terms: Vec<PlannedTerm>,
    /// Words so far; a word may hold several.
    words: usize,
}

impl<'a> Planner<'a> {
    pub(crate) fn plan(
        state: &'a TextState,
        view: &'a View,
        pages: &'a SnapshotPages<'a>,
        query: &TextQuery,
    ) -> Result<Plan> {
        query.check(0, &mut 0)?;
        let mut planner = Self { state, view, pages, terms: Vec::new(), words: 0 };
        let root = planner.node(query, Scope { field: None, boost: 1.0 })?;
        Ok(Plan { terms: planner.terms, root })
    }

    fn node(&mut self, query: &TextQuery, scope: Scope) -> Result<Node> {
        Ok(match query {
            TextQuery::All(parts) => Node::All(self.nodes(parts, scope)?),
            TextQuery::Any(parts) => Node::Any(self.nodes(parts, scope)?),
            TextQuery::Boost(boost, part) => {
                self.node(part, Scope { boost: scope.boost * boost, ..scope })?
            }
            TextQuery::Except(part, without) => {
                let part = self.node(part, scope)?;
                let without = self.node(without, scope)?;
                match without {
                    Node::Anything => part,
                    without => Node::Except(Box::new(part), Box::new(without)),
                }
            }
            TextQuery::Should(part, more) => {
                let part = self.node(part, scope)?;
                match (part, self.node(more, scope)?) {
                    (Node::Anything, more) => more,
                    (part, Node::Anything) => part,
                    (part, more) => Node::Should(Box::new(part), Box::new(more)),
                }
            }
            TextQuery::Field(name, part) => {
                let fields = &self.state.scheme.settings.fields;
                let field = fields.iter().position(|f| f.path == *name);
                let field = field.ok_or_else(|| TextError::UnknownField { field: name.clone() })?;
                self.node(part, Scope { field: Some(field as u8), ..scope })?
            }
            TextQuery::Fuzzy(text, distance) => self.fuzzy(text, *distance, scope)?,
            TextQuery::Phrase(text) => self.words(text, true, scope)?,
            TextQuery::Prefix(text) => self.prefix(text, scope)?,
            TextQuery::Word(text) => self.words(text, false, scope)?,
        })
    }

    fn nodes(&mut self, parts: &[TextQuery], scope: Scope) -> Result<Vec<Node>> {
        let all: Result<Vec<Node>> = parts.iter().map(|part| self.node(part, scope)).collect();
        Ok(all?.into_iter().filter(|node| !matches!(node, Node::Anything)).collect())
    }

    fn words(&mut self, text: &str, is_phrase: bool, scope: Scope) -> Result<Node> {
        let mut tokens: Vec<(String, u32)> = Vec::new();
        self.state.scheme.analyzer.terms(text, 0, |t| tokens.push((t.term.to_owned(), t.position)));
        // The last character of a run without spaces is a term of its own, which the pairs imply.
        let is_character = |term: &str| term.chars().all(is_unspaced) && term.chars().count() == 1;
        if tokens.len() > 1 {
            let ends_run: Vec<bool> = tokens
                .windows(2)
                .map(|pair| is_character(&pair[1].0) && pair[0].1 + 1 == pair[1].1)
                .collect();
            let before = tokens.clone();
            let mut at = 0;
            tokens.retain(|_| {
                at += 1;
                at == 1 || !(ends_run[at - 2] && before[at - 2].0.chars().all(is_unspaced))
            });
        }
        self.words += tokens.len();
        if self.words > CLAUSES_MAX {
            return Err(TextError::TooManyClauses { limit: CLAUSES_MAX }.into());
        }
        match &tokens[..] {
            [] => Ok(Node::Anything),
            [(term, _)] if is_character(term) => self.prefix(term, scope),
            [(term, _)] => {
                let keys = self.fields(scope).map(|field| key_of(field, term)).collect();
                self.terms_node(keys, scope)
            }
            _ if self.state.scheme.settings.positions => self.phrase(&tokens, scope),
            _ if is_phrase => {
                Err(TextError::NoPositions { name: self.state.name().to_owned() }.into())
            }
            _ => {
                let mut all = Vec::new();
                for (term, _) in &tokens {
                    let keys = self.fields(scope).map(|field| key_of(field, term)).collect();
                    all.push(self.terms_node(keys, scope)?);
                }
                Ok(Node::All(all))
            }
        }
    }

    fn fields(&self, scope: Scope) -> impl Iterator<Item = u8> + use<> {
        let all = 0..self.state.scheme.fields() as u8;
        let only = scope.field;
        all.filter(move |field| only.is_none_or(|only| only == *field))
    }

    fn terms_node(&mut self, keys: Vec<Vec<u8>>, scope: Scope) -> Result<Node> {
        let mut places = Vec::new();
        for key in keys {
            if let Some(term) = self.look_up(key, scope.boost)? {
                places.push(self.terms.len());
                self.terms.push(term);
            }
        }
        Ok(Node::Terms(places))
    }

    fn phrase(&mut self, tokens: &[(String, u32)], scope: Scope) -> Result<Node> {
        let first = tokens[0].1;
        let mut fields = Vec::new();
        for field in self.fields(scope) {
            let mut terms = Vec::new();
            let mut idf = 0.0;
            for (text, position) in tokens {
                let Some(term) = self.look_up(key_of(field, text), scope.boost)? else { break };
                idf += term.idf;
                terms.push((self.terms.len(), position - first));
                self.terms.push(term);
            }
            if terms.len() == tokens.len() {
                fields.push(Node::Phrase { terms, weight: self.weight(field, idf, scope.boost) });
            }
        }
        Ok(Node::Any(fields))
    }

    fn prefix(&mut self, text: &str, scope: Scope) -> Result<Node> {
        let folded = self.state.scheme.analyzer.fold(text).into_owned();
        if folded.is_empty() {
            return Ok(Node::Anything);
        }
        let mut keys = BTreeSet::new();
        for field in self.fields(scope) {
            let prefix = key_of(field, &folded);
            self.each_term(&prefix, &mut |term| {
                if !term.starts_with(&prefix) {
                    return Ok(false);
                }
                keys.insert(term.to_vec());
                if keys.len() > PREFIX_CANDIDATES_MAX {
                    return Err(too_many(text));
                }
                Ok(true)
            })?;
        }
        let before = self.terms.len();
        let node = self.terms_node(keys.into_iter().collect(), scope)?;
        if self.terms.len() - before > PREFIX_TERMS_MAX {
            return Err(too_many(text));
        }
        Ok(node)
    }

    fn fuzzy(&mut self, text: &str, distance: u8, scope: Scope) -> Result<Node> {
        let folded = self.state.scheme.analyzer.fold(text).into_owned();
        let want: Vec<char> = folded.chars().collect();
        let mut found: BTreeMap<(u8, Vec<u8>), ()> = BTreeMap::new();
        for field in self.fields(scope) {
            let mut near = Near::new(&want, distance);
            self.each_term(&[field], &mut |term| {
                if term[0] != field {
                    return Ok(false);
                }
                if let Some(distance) =
                    std::str::from_utf8(&term[1..]).ok().and_then(|t| near.of(t))
                {
                    found.insert((distance, term.to_vec()), ());
                }
                Ok(true)
            })?;
        }
        let mut places = Vec::new();
        for ((_, key), ()) in found {
            if places.len() == FUZZY_TERMS_MAX {
                break;
            }
            if let Some(term) = self.look_up(key, scope.boost)? {
                places.push(self.terms.len());
                self.terms.push(term);
            }
        }
        Ok(Node::Terms(places))
    }

    /// Terms from `from` on, part by part, while `each` returns true; then those of changes.
    fn each_term(&self, from: &[u8], each: &mut dyn FnMut(&[u8]) -> Result<bool>) -> Result<()> {
        for (entry, header) in self.view.parts() {
            let reader: PartReader<'_> = self.pages.part(header, entry.number);
            reader.scan(from, &mut |term, info| {
                if info.extent.df == 0 { Ok(true) } else { each(term) }
            })?;
        }
        for (_, adds) in &self.view.fresh {
            let Some(terms) = read_terms(adds)? else { continue };
            for at in terms.lower_bound(from)..terms.len() {
                let Some(entry) = terms.get(at) else { break };
                if !each(entry.term)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// A term with its statistics; `None` if no document contains it.
    fn look_up(&self, key: Vec<u8>, boost: f64) -> Result<Option<PlannedTerm>> {
        let mut df = 0;
        let mut infos = Vec::with_capacity(self.view.headers.len());
        for (entry, header) in self.view.parts() {
            let info = self.pages.part(header, entry.number).find(&key)?;
            if let Some(info) = &info {
                df += i64::from(info.extent.df);
                if !bug("text_forgets_adjustment") {
                    df += info.adjustment;
                }
            }
            infos.push(info.filter(|info| info.extent.df > 0));
        }
        let contains = |terms| -> Result<bool> {
            Ok(read_terms(terms)?.is_some_and(|terms| terms.find(&key).is_some()))
        };
        for (_, adds) in &self.view.fresh {
            df += i64::from(contains(adds)?);
        }
        for takes in &self.view.taken {
            df -= i64::from(contains(takes)?);
        }
        if df <= 0 {
            return Ok(None);
        }
        let field = key[0];
        let docs = self.view.fields.get(usize::from(field)).map_or(0, |f| f.docs);
        let idf = bm25::idf(docs, df);
        let weight = self.weight(field, idf, boost);
        Ok(Some(PlannedTerm { key, idf, weight, infos }))
    }

    fn weight(&self, field: u8, idf: f64, boost: f64) -> Weight {
        let field = usize::from(field);
        let totals = self.view.fields.get(field).copied().unwrap_or_default();
        let own = self.state.scheme.settings.fields.get(field).map_or(1.0, |f| f.boost);
        Weight::new(idf, boost * own, totals.terms as f64 / totals.docs.max(1) as f64)
    }
}

fn key_of(field: u8, term: &str) -> Vec<u8> {
    let mut key = vec![field];
    key.extend_from_slice(term.as_bytes());
    key
}

fn too_many(prefix: &str) -> Error {
    TextError::TooManyTerms { prefix: prefix.to_owned(), limit: PREFIX_TERMS_MAX }.into()
}

/// Levenshtein distances of ascending terms to one word: rows of a shared beginning are kept.
struct Near<'a> {
    want: &'a [char],
    most: u8,
    term: Vec<char>,
    /// One row of the table per character, and the first.
    rows: Vec<Vec<u8>>,
}

impl<'a> Near<'a> {
    fn new(want: &'a [char], most: u8) -> Self {
        let first = (0..=want.len()).map(|n| n.min(255) as u8).collect();
        Self { want, most, term: Vec::new(), rows: vec![first] }
    }

    /// The distance, if it is not greater than asked.
    fn of(&mut self, term: &str) -> Option<u8> {
        let shared = term.chars().zip(&self.term).take_while(|(a, b)| a == *b).count();
        self.term.truncate(shared);
        self.rows.truncate(shared + 1);
        let hopeless = |row: &[u8]| row.iter().min().is_none_or(|least| *least > self.most);
        if self.rows.last().is_none_or(|row| hopeless(row)) {
            return None;
        }
        for c in term.chars().skip(shared) {
            let before = self.rows.last()?;
            let mut row = Vec::with_capacity(before.len());
            row.push(before[0].saturating_add(1));
            for (at, want) in self.want.iter().enumerate() {
                let change = before[at].saturating_add(u8::from(*want != c));
                let add = before[at + 1].saturating_add(1);
                let remove = row[at].saturating_add(1);
                row.push(change.min(add).min(remove));
            }
            let is_hopeless = hopeless(&row);
            self.term.push(c);
            self.rows.push(row);
            if is_hopeless {
                return None;
            }
        }
        self.rows.last()?.last().copied().filter(|distance| *distance <= self.most)
    }
}

/// Whether a word is at most so many letters away from a term.
pub(crate) fn is_near(want: &[char], term: &str, most: u8) -> bool {
    Near::new(want, most).of(term).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(a: &str, b: &str) -> usize {
        let b: Vec<char> = b.chars().collect();
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for (i, x) in a.chars().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, y) in b.iter().enumerate() {
                let next = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
                diagonal = std::mem::replace(&mut row[j + 1], next);
            }
        }
        row[b.len()]
    }

    proptest! {
        #[test]
        fn distances_are_right(
            want in "[abé]{0,6}", mut terms in prop::collection::vec("[abé]{0,7}", 0..30), most in 1_u8..3,
        ) {
            terms.sort();
            let chars: Vec<char> = want.chars().collect();
            let mut near = Near::new(&chars, most);
            for term in terms {
                let right = plain(&want, &term);
                let right = (right <= usize::from(most)).then_some(right as u8);
                prop_assert_eq!(near.of(&term), right, "{} {}", want, term);
            }
        }
    }
}
