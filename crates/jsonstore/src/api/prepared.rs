//! Queries of which only values change.

use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};
use serde_json::Value;

use super::{Collection, Document, Find};
use crate::{
    engine::View,
    error::Result,
    observe::Trace,
    plan::{Query, Route, Texts},
    query::{Param, Projection, Sort, Template},
};

/// A query that is asked many times with other values. It is parsed once, and how it is answered is
/// looked at again only now and then, so what remains is the look-up itself. Cheap to clone; clones
/// share what was learnt.
///
/// ```
/// # use hearth_jsonstore::{Index, Options, Store, block_on};
/// # use serde_json::json;
/// # let dir = tempfile::tempdir().unwrap();
/// # block_on(async {
/// # let store = Store::open(Options::new(dir.path())).await?;
/// # let users = store.collection("users")?;
/// users.create_index(Index::on("email")).await?;
/// users.put(r#"{"_id":1,"email":"ada@example.org"}"#).await?;
///
/// let by_email = users.prepare(&json!({"email": {"$param": 0}}))?;
/// let found = by_email.first(&["ada@example.org".into()]).await?;
/// assert_eq!(found.unwrap().json(), r#"{"_id":1,"email":"ada@example.org"}"#);
/// # hearth_jsonstore::Result::Ok(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
#[must_use = "a query does nothing until its answer is asked for"]
pub struct Prepared {
    collection: Collection,
    query: Query,
    template: Arc<Template>,
    route: Arc<ArcSwapOption<Route>>,
}

/// How a query was answered, without having been counted.
type KnownRoute = Guard<Option<Arc<Route>>>;

impl Collection {
    /// A query whose filter has parameters, `{"$param": 0}` and so on: each stands for the value of a
    /// field, the operand of a comparison (`$eq`, `$ne`, `$gt`, `$gte`, `$lt`, `$lte`), or an element
    /// of `$in`, `$nin` or `$all`. At most 64; they are numbered from 0.
    ///
    /// # Errors
    /// [`crate::Error::InvalidFilter`].
    pub fn prepare(&self, filter: &Value) -> Result<Prepared> {
        Ok(Prepared {
            collection: self.clone(),
            query: Query::default(),
            template: Arc::new(Template::new(filter)?),
            route: Arc::default(),
        })
    }
}

impl Prepared {
    /// In this order.
    pub fn sort(self, sort: Sort) -> Self {
        self.with(|query| query.sort = sort)
    }

    /// Without the first so many.
    pub fn skip(self, documents: u64) -> Self {
        self.with(|query| query.skip = documents)
    }

    /// At most so many.
    pub fn limit(self, documents: u64) -> Self {
        self.with(|query| query.limit = Some(documents))
    }

    /// Only some of their fields.
    pub fn projection(self, projection: Projection) -> Self {
        self.with(|query| query.projection = Some(projection))
    }

    /// The query with these values, for everything that [`Find`] can do.
    ///
    /// # Errors
    /// [`crate::Error::InvalidFilter`] if there are too few or too many of them.
    pub fn find(&self, values: &[Param<'_>]) -> Result<Find> {
        let filter = self.template.filter(values)?;
        let query = Query { filter, ..self.query.clone() };
        Ok(Find::of(&self.collection, query))
    }

    /// The documents for these values.
    ///
    /// # Errors
    /// As [`Prepared::find`] and [`Find::collect`].
    pub async fn collect(&self, values: &[Param<'_>]) -> Result<Vec<Document>> {
        self.answer(values, self.query.limit).await
    }

    /// The first documents for these values, at most so many.
    ///
    /// # Errors
    /// As [`Prepared::collect`].
    pub async fn take(&self, values: &[Param<'_>], documents: u64) -> Result<Vec<Document>> {
        let limit = self.query.limit.map_or(documents, |limit| limit.min(documents));
        self.answer(values, Some(limit)).await
    }

    /// The first document for these values.
    ///
    /// # Errors
    /// As [`Prepared::collect`].
    pub async fn first(&self, values: &[Param<'_>]) -> Result<Option<Document>> {
        Ok(self.take(values, 1).await?.pop())
    }

    async fn answer(&self, values: &[Param<'_>], limit: Option<u64>) -> Result<Vec<Document>> {
        self.template.check(values)?;
        let store = &self.collection.store;
        let found = store.observed(
            &self.collection,
            |keyspace, view| self.look_up(keyspace, view, limit, values),
            |(found, route)| self.trace(limit, values, found, route.as_deref()),
        )?;
        if let Some((found, _)) = found {
            return Ok(found.into_iter().map(|(rev, json)| Document { rev, json }).collect());
        }
        let find = self.find(values)?;
        let find = match limit {
            Some(limit) => find.limit(limit),
            None => find,
        };
        // In memory of its own, so that the future of the usual case is small.
        Box::pin(find.collect()).await
    }

    fn look_up(
        &self,
        keyspace: u32,
        view: View,
        limit: Option<u64>,
        values: &[Param<'_>],
    ) -> Result<Option<(Texts, KnownRoute)>> {
        let core = self.collection.core();
        // What is in the state of this moment, the flags of the indexes have said before.
        let moment = core.moment(view)?;
        let states = core.states.load();
        let Some(state) = states.get(&keyspace) else { return Ok(None) };
        let mut known = self.route.load();
        if known.as_ref().is_none_or(|route| !route.is_good(state)) {
            let filter = self.template.filter(values)?;
            let query = Query { filter, ..self.query.clone() };
            let comparings = self.template.comparings.as_deref();
            let place = (keyspace, moment.1);
            let route = Arc::new(Route::choose(core, state, place, &query, comparings)?);
            self.route.store(Some(Arc::clone(&route)));
            known = Guard::from_inner(Some(route));
        }
        let Some(route) = &*known else { return Ok(None) };
        let found = route.answer(core, keyspace, (self.query.skip, limit), values, &moment)?;
        Ok(found.map(|found| (found, known)))
    }

    /// For the log of slow queries.
    fn trace(
        &self,
        limit: Option<u64>,
        values: &[Param<'_>],
        found: &Texts,
        route: Option<&Route>,
    ) -> Trace {
        let filter = self.template.filter(values).unwrap_or_default();
        let shape = Query { filter, limit, ..self.query.clone() }.described();
        let index = route.and_then(Route::index).unwrap_or_default();
        let plan = format!("index {index:?}, prepared");
        Trace::of_look_up(shape, plan, found.len() as u64)
    }

    /// What was learnt was learnt of another query.
    fn with(mut self, change: impl FnOnce(&mut Query)) -> Self {
        change(&mut self.query);
        self.route = Arc::default();
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        Index, Store, block_on,
        testing::{SimEnv, SimVfs, small_options},
    };

    #[test]
    fn a_route_is_learnt_once_and_for_what_one_range_answers() {
        let options = small_options(&SimVfs::new(), &Arc::new(SimEnv::new(1)));
        let store = block_on(Store::open(options)).unwrap();
        let docs = store.collection("c").unwrap();
        block_on(docs.create_index(Index::on("a").and("b"))).unwrap();
        block_on(docs.create_index(Index::on("c").partial(json!({"c": {"$gt": 0}})))).unwrap();
        for id in 0..50 {
            block_on(docs.put(&format!(r#"{{"_id":{id},"a":{},"b":{id},"c":{id}}}"#, id % 5)))
                .unwrap();
        }
        let learnt = |filter: Value| {
            let prepared = docs.prepare(&filter).unwrap();
            let ask = || block_on(prepared.collect(&[3.into()])).unwrap().len();
            let found = ask();
            let route = prepared.route.load_full().unwrap();
            assert_eq!(ask(), found);
            assert!(Arc::ptr_eq(&route, &prepared.route.load_full().unwrap()));
            (found, route.index().map(str::to_owned))
        };
        let p = json!({"$param": 0});
        assert_eq!(learnt(json!({"a": p})), (10, Some("a_b".to_owned())));
        assert_eq!(learnt(json!({"a": p, "b": {"$lt": 20}})), (4, Some("a_b".to_owned())));
        assert_eq!(learnt(json!({"a": p, "c": {"$gt": 20}})), (6, None), "something remains");
        assert_eq!(learnt(json!({"c": {"$gt": p}})), (46, None), "it depends on the value");
        assert_eq!(learnt(json!({"a": {"$in": [p, 4]}})), (20, None), "two ranges");
    }
}
