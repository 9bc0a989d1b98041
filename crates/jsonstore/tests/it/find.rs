//! Queries through the planner: whatever plan is taken, the answer is the full scan's.

use hearth_jsonstore::{
    Collection, Document, Error, Filter, Index, Isolation, Options, QueryLimits, Sort, Store,
    TextIndex, Update, block_on,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = block_on(Store::open(Options::new(dir.path()))).unwrap();
    (dir, store)
}

fn filter(json: &Value) -> Filter {
    Filter::from_json(json).unwrap()
}

fn ids(documents: &[Document]) -> Vec<String> {
    let mut ids: Vec<String> = documents.iter().map(|d| d.value()["_id"].to_string()).collect();
    ids.sort();
    ids
}

/// A value of a small domain, so that equal ones, arrays and missing fields are frequent.
fn value() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(json!(null))),
        6 => (0..12).prop_map(|n| Some(json!(n))),
        1 => Just(Some(json!(2.5))),
        3 => prop::sample::select(vec!["", "a", "ab", "b", "x"]).prop_map(|s| Some(json!(s))),
        1 => any::<bool>().prop_map(|b| Some(json!(b))),
        2 => prop::collection::vec(0..12, 0..4).prop_map(|v| Some(json!(v))),
        1 => (0..3).prop_map(|n| Some(json!({"d": n}))),
    ]
}

fn document() -> impl Strategy<Value = Value> {
    (value(), value(), value(), 0..5_i64).prop_map(|(a, b, c, group)| {
        let mut document = json!({"group": group, "sub": {}});
        let fields = document.as_object_mut().unwrap();
        if let Some(a) = a {
            fields.insert("a".into(), a);
        }
        if let Some(b) = b {
            fields.insert("b".into(), b);
        }
        if let Some(c) = c {
            document["sub"].as_object_mut().unwrap().insert("c".into(), c);
        }
        document
    })
}

fn condition() -> impl Strategy<Value = Value> {
    let path = prop::sample::select(vec!["a", "b", "sub.c", "group", "_id"]);
    let operand = value().prop_map(|v| v.unwrap_or(json!(3))).boxed();
    let test = prop_oneof![
        4 => operand.clone(),
        3 => (prop::sample::select(vec!["$gt", "$gte", "$lt", "$lte"]), operand.clone())
            .prop_map(|(op, v)| json!({ op: v })),
        1 => operand.clone().prop_map(|v| json!({ "$ne": v })),
        2 => prop::collection::vec(operand.clone(), 0..4).prop_map(|v| json!({ "$in": v })),
        1 => any::<bool>().prop_map(|b| json!({ "$exists": b })),
        1 => (0..12_i64, 0..12_i64).prop_map(|(a, b)| json!({"$gt": a.min(b), "$lte": a.max(b)})),
        1 => (0..12_i64, 0..12_i64).prop_map(|(a, b)| json!({"$elemMatch": {"$gte": a, "$lt": b}})),
        1 => Just(json!({"$regex": "^a"})),
        1 => (0..3).prop_map(|n| json!({ "$size": n })),
    ];
    (path, test).prop_map(|(path, test)| json!({ path: test }))
}

fn filters() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(json!({})),
        4 => condition(),
        4 => prop::collection::vec(condition(), 1..4).prop_map(|all| json!({ "$and": all })),
        2 => prop::collection::vec(condition(), 1..4).prop_map(|all| json!({ "$or": all })),
        1 => (condition(), prop::collection::vec(condition(), 1..3))
            .prop_map(|(one, any)| json!({ "$and": [one, {"$or": any}] })),
    ]
}

fn sorts() -> impl Strategy<Value = Value> {
    let field = (
        prop::sample::select(vec!["a", "b", "sub.c", "group", "_id"]),
        prop::sample::select(vec![1, -1]),
    );
    prop::collection::vec(field, 0..3).prop_map(|fields| {
        let mut seen = std::collections::HashSet::new();
        let fields = fields.into_iter().filter(|(path, _)| seen.insert(*path));
        fields.map(|(path, direction)| json!({ path: direction })).collect()
    })
}

fn indexes() -> Vec<Index> {
    vec![
        Index::on("a"),
        Index::on_descending("b"),
        Index::on("group").and("a"),
        Index::on("group").and_descending("sub.c").include("b"),
        Index::on("sub.c").sparse(),
        Index::on("b").name("some").partial(json!({"group": {"$gte": 2}})),
        Index::hash("a"),
    ]
}

#[track_caller]
fn check(
    collection: &Collection,
    all: &[Value],
    query: &Value,
    sort: &Value,
    skip: u64,
    limit: u64,
) {
    let filter = filter(query);
    let sort = Sort::from_json(sort).unwrap();
    let matching: Vec<&Value> =
        all.iter().filter(|document| filter.matches_json(document).unwrap()).collect();
    let find = || collection.find(&filter).sort(sort.clone());
    let plan = block_on(find().explain()).unwrap();
    let found = block_on(find().collect()).unwrap();
    let mut want: Vec<String> = matching.iter().map(|d| d["_id"].to_string()).collect();
    want.sort();
    assert_eq!(ids(&found), want, "{query} by\n{plan}");
    assert_eq!(block_on(collection.find(&filter).count()).unwrap(), want.len() as u64, "{query}");
    if sort.is_empty() {
        return;
    }
    let in_order = |a: &Document, b: &Document| sort.compare_json(&a.value(), &b.value()).unwrap();
    assert!(found.is_sorted_by(|a, b| in_order(a, b).is_le()), "{query} by\n{plan}");
    let page = block_on(find().skip(skip).limit(limit).collect()).unwrap();
    let place = |n: u64| usize::try_from(n).unwrap();
    assert_eq!(page.len(), found.len().saturating_sub(place(skip)).min(place(limit)), "{query}");
    for (page, whole) in page.iter().zip(&found[place(skip).min(found.len())..]) {
        assert!(in_order(page, whole).is_eq(), "{query} by\n{plan}");
    }
}

fn write(collection: &Collection, documents: &[Value]) -> Vec<Value> {
    let mut all = Vec::new();
    for (i, document) in documents.iter().enumerate() {
        let mut document = document.clone();
        document["_id"] = json!(i);
        block_on(collection.put(&document)).unwrap();
        all.push(document);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_gives_what_the_full_scan_gives(
        documents in prop::collection::vec(document(), 1..60),
        queries in prop::collection::vec((filters(), sorts(), 0..5_u64, 0..9_u64), 1..12),
    ) {
        let (_dir, store) = store();
        let collection = store.collection("c").unwrap();
        let half = documents.len() / 2;
        write(&collection, &documents[..half]);
        // Some by building, some by following.
        for index in indexes() {
            block_on(collection.create_index(index)).unwrap();
        }
        let all = write(&collection, &documents);
        block_on(store.checkpoint()).unwrap();
        for (query, sort, skip, limit) in &queries {
            check(&collection, &all, query, sort, *skip, *limit);
            for index in block_on(collection.find(filter(query)).explain())
                .unwrap()
                .candidates()
            {
                let found = block_on(collection.find(filter(query)).hint(&index).collect());
                let by_scan = block_on(collection.find(filter(query)).hint("_id").collect());
                prop_assert_eq!(ids(&found.unwrap()), ids(&by_scan.unwrap()), "{} by {}", query, index);
            }
        }
    }
}

/// What a regular expression begins with is begun with by many values, of which each has its own what follows.
#[test]
fn a_beginning_is_not_a_value() {
    let (_dir, store) = store();
    let collection = store.collection("c").unwrap();
    let names = ["a", "ab", "abc", "b", "é", "ab\0"];
    let documents: Vec<Value> =
        (0..24).map(|i| json!({"name": names[i % 6], "n": i / 6})).collect();
    let all = write(&collection, &documents);
    for index in [
        Index::on("name").and("n"),
        Index::on_descending("name").and("n").name("descending"),
        Index::on("n").and("name"),
    ] {
        block_on(collection.create_index(index)).unwrap();
    }
    for query in [
        json!({"name": {"$regex": "^a"}, "n": 2}),
        json!({"name": {"$regex": "^ab"}, "n": {"$gt": 1}}),
        json!({"name": {"$regex": "^é"}}),
        json!({"name": {"$regex": "^x"}}),
        json!({"name": {"$regex": "^a", "$gte": "ab"}, "n": {"$in": [0, 3]}}),
    ] {
        for sort in [json!([]), json!([{"name": -1}]), json!([{"name": 1}, {"n": -1}])] {
            check(&collection, &all, &query, &sort, 1, 3);
        }
        let want = ids(&block_on(collection.find(filter(&query)).hint("_id").collect()).unwrap());
        for index in block_on(collection.find(filter(&query)).explain()).unwrap().candidates() {
            let found = block_on(collection.find(filter(&query)).hint(&index).collect()).unwrap();
            assert_eq!(ids(&found), want, "{query} by {index}");
        }
    }
}

#[test]
fn an_order_against_an_index_reads_it_backward() {
    let (_dir, store) = store();
    let posts = store.collection("posts").unwrap();
    let documents: Vec<Value> =
        (0..2000).map(|i| json!({"group": i % 3, "sub": {"at": i * 7919 % 2000}})).collect();
    write(&posts, &documents);
    block_on(posts.create_index(Index::on("sub.at"))).unwrap();
    block_on(posts.create_index(Index::on("group").and_descending("sub.at"))).unwrap();
    block_on(store.checkpoint()).unwrap();
    block_on(posts.put(&json!({"_id": 9999, "group": 1, "sub": {"at": 5000}}))).unwrap();
    let newest = |query: Value, sort: Value, index: &str| {
        let find = || posts.find(filter(&query)).sort(Sort::from_json(&sort).unwrap()).limit(20);
        let explained = block_on(find().explain_analyze()).unwrap();
        let (plan, actual) = (&explained.json()["plan"], &explained.json()["actual"]);
        assert_eq!((&plan["sorts"], &plan["backward"]), (&json!(false), &json!(true)), "{plan}");
        assert_eq!(explained.index().unwrap_or("_id"), index);
        assert_eq!(actual["documents"], 20, "{explained}");
        block_on(find().collect()).unwrap().iter().map(Document::value).collect::<Vec<_>>()
    };
    let found = newest(json!({}), json!({"sub.at": -1}), "sub_at");
    let at: Vec<_> = found.iter().map(|d| d["sub"]["at"].as_u64().unwrap()).collect();
    assert_eq!(at, [vec![5000], (1981..2000).rev().collect()].concat());
    newest(json!({"group": 1}), json!({"sub.at": 1}), "group_sub_at_desc");
    newest(
        json!({"group": {"$in": [0, 2]}}),
        json!([{"group": -1}, {"sub.at": 1}]),
        "group_sub_at_desc",
    );
    let last = newest(json!({}), json!([{"_id": -1}, {"group": 1}]), "_id");
    assert_eq!(last[..2].iter().map(|d| &d["_id"]).collect::<Vec<_>>(), [9999, 1999]);
}

#[test]
fn a_transaction_finds_its_own_changes() {
    let (_dir, store) = store();
    let people = store.collection("people").unwrap();
    block_on(async {
        people.create_index(Index::on("age")).await?;
        for (id, age) in [(1, 20), (2, 30), (3, 40)] {
            people.put(&json!({"_id": id, "age": age})).await?;
        }
        let tx = store.begin(Isolation::Serializable);
        tx.update(&people, 1, &Update::new().set("age", 35)).await?;
        tx.delete(&people, 3).await?;
        tx.put(&people, &json!({"_id": 4, "age": 31})).await?;
        let over_30 = || {
            let sort = Sort::new().descending("age").unwrap();
            people.find(filter(&json!({"age": {"$gte": 30}}))).sort(sort)
        };
        let found = over_30().within(&tx).await?;
        let found: Vec<i64> = found.iter().map(|d| d.value()["_id"].as_i64().unwrap()).collect();
        assert_eq!(found, [1, 4, 2]);
        assert_eq!(over_30().limit(1).skip(1).within(&tx).await?[0].value()["_id"], 4);
        assert_eq!(ids(&over_30().collect().await?), ["2", "3"], "others do not see them");
        tx.commit().await?;
        assert_eq!(ids(&over_30().collect().await?), ["1", "2", "4"]);
        hearth_jsonstore::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn phantoms_conflict() {
    let (_dir, store) = store();
    let rooms = store.collection("rooms").unwrap();
    block_on(async {
        rooms.create_index(Index::on("floor")).await?;
        let free = filter(&json!({"floor": 2}));
        let (one, two) =
            (store.begin(Isolation::Serializable), store.begin(Isolation::Serializable));
        assert!(rooms.find(&free).within(&one).await?.is_empty());
        assert!(rooms.find(&free).within(&two).await?.is_empty());
        one.put(&rooms, &json!({"_id": 1, "floor": 2})).await?;
        two.put(&rooms, &json!({"_id": 2, "floor": 2})).await?;
        one.commit().await?;
        assert!(matches!(two.commit().await, Err(Error::Conflict)));
        hearth_jsonstore::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn many_are_changed_at_once() {
    let (_dir, store) = store();
    let c = store.collection("c").unwrap();
    block_on(async {
        c.create_index(Index::on("n")).await?;
        for i in 0..100 {
            c.put(&json!({"_id": i, "n": i % 10})).await?;
        }
        let threes = filter(&json!({"n": 3}));
        assert_eq!(c.update_many(&threes, &Update::new().set("n", 33)).await?, 10);
        assert_eq!(c.find(&threes).count().await?, 0);
        assert_eq!(c.delete_many(&filter(&json!({"n": {"$gt": 5}}))).await?, 50);
        assert_eq!(c.find(Filter::all()).count().await?, 50);
        let values = c.find(Filter::all()).distinct("n").await?;
        assert_eq!(json!(values), json!([0, 1, 2, 4, 5]));
        hearth_jsonstore::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn text_and_other_conditions_meet() {
    let (_dir, store) = store();
    let c = store.collection("c").unwrap();
    block_on(async {
        let wanted = filter(&json!({"$text": {"$search": "lamp"}, "price": {"$lt": 20}}));
        c.put(&json!({"_id": 0, "title": "a lamp", "price": 5})).await?;
        let refused = c.find(&wanted).collect().await;
        assert!(matches!(refused, Err(Error::InvalidFilter { .. })), "{refused:?}");
        c.create_text_index(TextIndex::new("words").field("title")).await?;
        for i in 1..40 {
            let title = if i % 3 == 0 { "a red lamp" } else { "a table" };
            c.put(&json!({"_id": i, "title": title, "price": i})).await?;
        }
        assert_eq!(ids(&c.find(&wanted).collect().await?), ["0", "12", "15", "18", "3", "6", "9"]);
        assert_eq!(c.find(&wanted).count().await?, 7);
        let sort = Sort::new().descending("price")?;
        let dearest = c.find(&wanted).sort(sort).first().await?.unwrap();
        assert_eq!(dearest.value()["_id"], 18);
        let tx = store.begin(Isolation::Snapshot);
        assert!(matches!(c.find(&wanted).within(&tx).await, Err(Error::InvalidFilter { .. })));
        hearth_jsonstore::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn limits_end_a_query_by_name() {
    let (_dir, store) = store();
    let c = store.collection("c").unwrap();
    block_on(async {
        for i in 0..500 {
            c.put(&json!({"_id": i, "pad": "x".repeat(100)})).await?;
        }
        let mut limits = QueryLimits::default();
        limits.rows_max = Some(100);
        let refused = c.find(filter(&json!({"pad": "y"}))).limits(limits).collect().await;
        assert!(matches!(refused, Err(Error::QueryLimit { what: "rows examined", limit: 100 })));
        let mut limits = QueryLimits::default();
        limits.sort_bytes_max = 10_000;
        let by_pad = || {
            let sort = Sort::new().descending("pad").unwrap();
            c.find(Filter::all()).sort(sort).limits(limits)
        };
        let refused = by_pad().collect().await;
        assert!(matches!(refused, Err(Error::QueryLimit { what: "bytes to sort", .. })));
        // What cannot be among the first ten is not kept.
        assert_eq!(by_pad().limit(10).collect().await?.len(), 10);
        let unknown = c.find(Filter::all()).hint("nothing").collect().await;
        assert!(matches!(unknown, Err(Error::InvalidFilter { .. })));
        hearth_jsonstore::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn an_expression_needs_the_document_whatever_the_index_holds() {
    let (_dir, store) = store();
    let c = store.collection("c").unwrap();
    block_on(async {
        c.create_index(Index::on("a")).await?;
        c.insert_many([r#"{"_id":1,"a":5,"b":2,"c":1}"#, r#"{"_id":2,"a":5,"b":1,"c":2}"#]).await?;
        let larger = filter(&json!({"a": 5, "$expr": {"$gt": ["$b", "$c"]}}));
        let projection = hearth_jsonstore::Projection::from_json(&json!({"a": 1}))?;
        let found = c.find(larger).projection(projection).hint("a").collect().await?;
        assert_eq!(found.iter().map(Document::json).collect::<Vec<_>>(), [r#"{"_id":1,"a":5}"#]);
        hearth_jsonstore::Result::Ok(())
    })
    .unwrap();
}
