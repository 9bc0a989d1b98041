//! A search as the books describe it: reads every document, knows no index. The oracle for text.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{Hit, Id, TextIndex, TextQuery};

/// Documents as words, field by field.
#[derive(Debug)]
pub struct NaiveText {
    boosts: Vec<f64>,
    names: Vec<String>,
    has_positions: bool,
    docs: BTreeMap<Vec<u8>, Vec<Vec<String>>>,
    /// Per field: documents with each word, documents with any, words in all.
    dfs: Vec<BTreeMap<String, usize>>,
    present: Vec<usize>,
    totals: Vec<usize>,
}

/// One word for each gap between texts of an array: no query contains it.
const GAP: &str = "";

impl NaiveText {
    /// Reads documents given with their ids. Words are what whitespace separates, in lower case, so
    /// the corpus and the queries must be made of plain words; stems, stop words and marks are left
    /// alone.
    pub fn new<'a>(
        index: &TextIndex,
        documents: impl IntoIterator<Item = (&'a Id, &'a Value)>,
    ) -> Self {
        let words = |document: &Value, path: &str| {
            let mut words = Vec::new();
            follow(document, &path.split('.').collect::<Vec<_>>(), &mut |text| {
                words.extend(text.split_whitespace().map(str::to_lowercase));
                words.push(GAP.to_owned());
            });
            words
        };
        let docs = documents.into_iter().map(|(id, document)| {
            let fields = index.fields.iter().map(|f| words(document, &f.path)).collect();
            (id.as_bytes().to_vec(), fields)
        });
        let docs: BTreeMap<_, Vec<Vec<String>>> = docs.collect();
        let count = index.fields.len();
        let (mut dfs, mut present, mut totals) =
            (vec![BTreeMap::new(); count], vec![0; count], vec![0; count]);
        for fields in docs.values() {
            for (field, words) in fields.iter().enumerate() {
                let length = length(words);
                totals[field] += length;
                present[field] += usize::from(length > 0);
                for word in words.iter().collect::<BTreeSet<_>>() {
                    *dfs[field].entry(word.clone()).or_insert(0) += 1;
                }
            }
        }
        Self {
            boosts: index.fields.iter().map(|f| f.boost).collect(),
            names: index.fields.iter().map(|f| f.path.clone()).collect(),
            has_positions: index.positions,
            docs,
            dfs,
            present,
            totals,
        }
    }

    /// Every match with its score, by id.
    pub fn search(&self, query: &TextQuery) -> BTreeMap<Vec<u8>, f64> {
        let scope = Scope { field: None, boost: 1.0 };
        let scored =
            self.docs.keys().filter_map(|id| Some((id.clone(), self.score(query, id, scope)?)));
        scored.collect()
    }

    /// What is wrong with hits that are said to be the best `limit`.
    pub fn check_hits(&self, query: &TextQuery, limit: usize, hits: &[Hit]) -> Result<(), String> {
        let want = self.search(query);
        if hits.len() != limit.min(want.len()) {
            return Err(format!("{} hits of {} for {query:?}", hits.len(), want.len()));
        }
        let mut seen = BTreeSet::new();
        for hit in hits {
            let score = want.get(hit.id.as_bytes());
            let near = |score: &f64| (score - hit.score).abs() <= 1e-9 * score.abs().max(1e-6);
            if !score.is_some_and(near) {
                return Err(format!(
                    "{} scores {}, want {score:?}: {query:?}",
                    hit.id.to_json(),
                    hit.score
                ));
            }
            seen.insert(hit.id.as_bytes().to_vec());
        }
        let order = |pair: &[Hit]| {
            pair[0].score > pair[1].score
                || pair[0].score.total_cmp(&pair[1].score).is_eq() && pair[0].id < pair[1].id
        };
        if !hits.windows(2).all(order) {
            return Err(format!("the order of {hits:?} for {query:?}"));
        }
        let last = hits.last().map_or(f64::INFINITY, |hit| hit.score);
        let better =
            want.iter().find(|(id, score)| !seen.contains(*id) && **score > last * (1.0 + 1e-9));
        match better {
            Some((id, score)) => {
                let id = Id(id.clone()).to_json();
                Err(format!("{id} with {score} is missing from {hits:?} for {query:?}"))
            }
            None => Ok(()),
        }
    }

    fn score(&self, query: &TextQuery, id: &[u8], scope: Scope) -> Option<f64> {
        let sum = |scores: Vec<f64>| (!scores.is_empty()).then(|| scores.iter().sum::<f64>());
        match query {
            TextQuery::All(parts) => {
                sum(parts.iter().map(|p| self.score(p, id, scope)).collect::<Option<_>>()?)
            }
            TextQuery::Any(parts) => {
                sum(parts.iter().filter_map(|p| self.score(p, id, scope)).collect())
            }
            TextQuery::Boost(boost, part) => {
                self.score(part, id, Scope { boost: scope.boost * boost, ..scope })
            }
            TextQuery::Except(part, without) => match self.score(without, id, scope) {
                Some(_) => None,
                None => self.score(part, id, scope),
            },
            TextQuery::Should(part, more) => {
                let own = self.score(part, id, scope)?;
                Some(own + self.score(more, id, scope).unwrap_or(0.0))
            }
            TextQuery::Field(name, part) => {
                let field = self.names.iter().position(|n| n == name)?;
                self.score(part, id, Scope { field: Some(field), ..scope })
            }
            TextQuery::Word(text) | TextQuery::Phrase(text) => {
                let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
                match words.len() {
                    1 => self.terms_score(id, scope, |word| *word == words[0]),
                    _ if self.has_positions => self.phrase_score(id, scope, &words),
                    _ => sum(words
                        .iter()
                        .map(|w| self.terms_score(id, scope, |word| word == w))
                        .collect::<Option<_>>()?),
                }
            }
            TextQuery::Prefix(prefix) => {
                self.terms_score(id, scope, |word| word.starts_with(prefix.as_str()))
            }
            TextQuery::Fuzzy(text, most) => {
                self.terms_score(id, scope, |word| distance(text, word) <= usize::from(*most))
            }
        }
    }

    fn terms_score(
        &self,
        id: &[u8],
        scope: Scope,
        matches: impl Fn(&String) -> bool,
    ) -> Option<f64> {
        let mut total = None;
        for field in self.fields(scope) {
            let words = &self.docs[id][field];
            let own: BTreeSet<&String> = words.iter().filter(|w| *w != GAP && matches(w)).collect();
            for term in own {
                let df = self.dfs[field].get(term).copied().unwrap_or(0);
                let count = words.iter().filter(|w| *w == term).count();
                let score = self.bm25(field, id, self.idf(field, df), count, scope.boost);
                *total.get_or_insert(0.0) += score;
            }
        }
        total
    }

    fn phrase_score(&self, id: &[u8], scope: Scope, phrase: &[String]) -> Option<f64> {
        let mut total = None;
        for field in self.fields(scope) {
            let words = &self.docs[id][field];
            let count = words.windows(phrase.len()).filter(|w| *w == phrase).count();
            if count > 0 {
                let idf = phrase
                    .iter()
                    .map(|term| {
                        let df = self.dfs[field].get(term).copied().unwrap_or(0);
                        self.idf(field, df)
                    })
                    .sum();
                *total.get_or_insert(0.0) += self.bm25(field, id, idf, count, scope.boost);
            }
        }
        total
    }

    fn fields(&self, scope: Scope) -> impl Iterator<Item = usize> + use<> {
        (0..self.names.len()).filter(move |field| scope.field.is_none_or(|only| only == *field))
    }

    fn idf(&self, field: usize, df: usize) -> f64 {
        let (n, df) = (self.present[field] as f64, df as f64);
        (1.0 + (n - df + 0.5) / (df + 0.5)).ln()
    }

    fn bm25(&self, field: usize, id: &[u8], idf: f64, count: usize, boost: f64) -> f64 {
        let average = self.totals[field] as f64 / self.present[field] as f64;
        let (tf, length) = (count as f64, length(&self.docs[id][field]) as f64);
        let norm = 1.2 * (1.0 - 0.75 + 0.75 * length / average);
        boost * self.boosts[field] * idf * tf * (1.2 + 1.0) / (tf + norm)
    }
}

fn length(words: &[String]) -> usize {
    words.iter().filter(|w| *w != GAP).count()
}

#[derive(Clone, Copy)]
struct Scope {
    field: Option<usize>,
    boost: f64,
}

fn follow(value: &Value, steps: &[&str], each: &mut dyn FnMut(&str)) {
    match (value, steps.split_first()) {
        (Value::String(text), None) => each(text),
        (Value::Object(map), Some((name, rest))) => {
            if let Some(next) = map.get(*name) {
                follow(next, rest, each);
            }
        }
        (Value::Array(items), _) => items.iter().for_each(|item| follow(item, steps, each)),
        _ => {}
    }
}

fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => (table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]))
                    .min(table[i - 1][j] + 1)
                    .min(table[i][j - 1] + 1),
            };
        }
    }
    table[a.len()][b.len()]
}
