//! What a filter says a document is equal to: where an upsert that finds nothing begins.

use super::{Expr, Operand, Test};
use crate::{
    error::{DocumentError, Error, Result},
    query::path::Path,
};

impl Expr {
    /// The fields that every document which matches has, with their values, in the order written.
    ///
    /// # Errors
    /// `InvalidFilter` if it gives a field twice, or a field and a part of it: which one should be
    /// stored is not known then.
    pub(crate) fn equalities(&self) -> Result<Vec<(&Path, &Operand)>> {
        let mut all = Vec::new();
        self.collect_equalities(&mut all);
        let mut paths: Vec<&Path> = all.iter().map(|(path, _)| *path).collect();
        // By their steps: a path stands right before those that lie in it.
        paths.sort_by(|a, b| a.steps().cmp(b.steps()));
        for pair in paths.windows(2) {
            if let [outer, inner] = pair
                && inner.steps().starts_with(outer.steps())
            {
                let reason = format!("an upsert cannot tell what {} should be", outer.as_str());
                return Err(Error::InvalidFilter { path: inner.as_str().to_owned(), reason });
            }
        }
        if paths.iter().any(|path| path.as_str().starts_with("_id.")) {
            return Err(DocumentError::IdChanged.into());
        }
        Ok(all)
    }

    fn collect_equalities<'a>(&'a self, out: &mut Vec<(&'a Path, &'a Operand)>) {
        match self {
            Self::And(all) => all.iter().for_each(|expr| expr.collect_equalities(out)),
            Self::Field { path, test: Test::Eq(value) } => out.push((path, value)),
            Self::Field { path, test: Test::In(values) } => {
                if let [value] = &values[..] {
                    out.push((path, value));
                }
            }
            Self::Or(any) => {
                if let [one] = &any[..] {
                    one.collect_equalities(out);
                }
            }
            _ => {}
        }
    }
}
