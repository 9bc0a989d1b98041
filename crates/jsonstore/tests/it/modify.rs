//! Positional updates and upserts: rows of data, each with the page of MongoDB's manual, or the test of
//! the server itself, that says so; and what a store makes of them.

use hearth_jsonstore::{Error, Filter, Id, Index, Options, Store, Update, Upserted, block_on};
use serde_json::{Value, json};

/// A filter, an update, its array filters, and the document after it or a part of the error.
type Row = (&'static str, &'static str, &'static str, Result<&'static str, &'static str>);

/// What a page of `https://www.mongodb.com/docs/manual/reference/` says of a document.
pub(crate) struct Page {
    pub(crate) name: &'static str,
    pub(crate) document: &'static str,
    pub(crate) rows: &'static [Row],
}

const fn page(name: &'static str, document: &'static str, rows: &'static [Row]) -> Page {
    Page { name, document, rows }
}

/// Where we differ from MongoDB on purpose, the page is marked `differs`.
pub(crate) const PAGES: &[Page] = &[
    page(
        "operator/update/positional",
        r#"{"_id":1,"grades":[85,80,80],"o":{"l":[1,2]},"n":null}"#,
        &[
            (
                r#"{"_id":1,"grades":80}"#,
                r#"{"$set":{"grades.$":82}}"#,
                "[]",
                Ok(r#"{"_id":1,"grades":[85,82,80],"o":{"l":[1,2]},"n":null}"#),
            ),
            (
                r#"{"grades":{"$elemMatch":{"$lt":85}}}"#,
                r#"{"$inc":{"grades.$":1}}"#,
                "[]",
                Ok(r#"{"_id":1,"grades":[85,81,80],"o":{"l":[1,2]},"n":null}"#),
            ),
            (
                r#"{"grades":{"$in":[1,85]}}"#,
                r#"{"$unset":{"grades.$":""}}"#,
                "[]",
                Ok(r#"{"_id":1,"grades":[null,80,80],"o":{"l":[1,2]},"n":null}"#),
            ),
            (
                r#"{"o.l":2}"#,
                r#"{"$set":{"o.l.$":9},"$inc":{"o.m":1}}"#,
                "[]",
                Ok(r#"{"_id":1,"grades":[85,80,80],"o":{"l":[1,9],"m":1},"n":null}"#),
            ),
            (
                r#"{"$or":[{"grades":7},{"grades":80}]}"#,
                r#"{"$set":{"grades.$":0}}"#,
                "[]",
                Ok(r#"{"_id":1,"grades":[85,0,80],"o":{"l":[1,2]},"n":null}"#),
            ),
            (
                r#"{"_id":1}"#,
                r#"{"$set":{"grades.$":82}}"#,
                "[]",
                Err("did not match by an element"),
            ),
            // Negations cannot be used with it.
            (r#"{"grades":{"$ne":5}}"#, r#"{"$set":{"grades.$":82}}"#, "[]", Err("did not match")),
            (
                r#"{"grades":{"$not":{"$gt":99}}}"#,
                r#"{"$set":{"grades.$":82}}"#,
                "[]",
                Err("did not match"),
            ),
            // The array as a whole is no element.
            (r#"{"grades":[85,80,80]}"#, r#"{"$set":{"grades.$":1}}"#, "[]", Err("did not match")),
            (r#"{"grades":{"$size":3}}"#, r#"{"$set":{"grades.$":1}}"#, "[]", Err("did not match")),
            (r#"{"n":null}"#, r#"{"$set":{"n.$":1}}"#, "[]", Err("did not match")),
            (r#"{"grades":80}"#, r#"{"$set":{"$":1}}"#, "[]", Err("after an array")),
            (r#"{"grades":80}"#, r#"{"$set":{"grades.$.a.$":1}}"#, "[]", Err("once and after")),
            (
                r#"{"grades":80}"#,
                r#"{"$set":{"grades.$":1,"grades.1":2}}"#,
                "[]",
                Err("two changes touch this field"),
            ),
        ],
    ),
    page(
        "operator/update/positional (embedded documents)",
        r#"{"grades":[{"grade":80,"mean":75,"std":8},{"grade":85,"mean":90,"std":5},{"grade":90,"mean":85,"std":3}]}"#,
        &[
            (
                r#"{"grades.grade":85}"#,
                r#"{"$set":{"grades.$.std":6}}"#,
                "[]",
                Ok(
                    r#"{"grades":[{"grade":80,"mean":75,"std":8},{"grade":85,"mean":90,"std":6},{"grade":90,"mean":85,"std":3}]}"#,
                ),
            ),
            (
                r#"{"grades":{"$elemMatch":{"grade":{"$lte":90},"mean":{"$gt":80}}}}"#,
                r#"{"$set":{"grades.$.std":6}}"#,
                "[]",
                Ok(
                    r#"{"grades":[{"grade":80,"mean":75,"std":8},{"grade":85,"mean":90,"std":6},{"grade":90,"mean":85,"std":3}]}"#,
                ),
            ),
            (
                r#"{"grades.std":3}"#,
                r#"{"$set":{"grades.$":0}}"#,
                "[]",
                Ok(
                    r#"{"grades":[{"grade":80,"mean":75,"std":8},{"grade":85,"mean":90,"std":5},0]}"#,
                ),
            ),
        ],
    ),
    page(
        // There the position of an element of any array in the filter serves for every other array.
        "operator/update/positional differs",
        r#"{"a":[1,2],"b":["x","y"]}"#,
        &[
            (r#"{"a":2}"#, r#"{"$set":{"b.$":"z"}}"#, "[]", Err("did not match by an element")),
            (
                // There it is undefined which condition decides; here it is the last one.
                r#"{"a":{"$gt":1,"$lt":2}}"#,
                r#"{"$set":{"a.$":0}}"#,
                "[]",
                Ok(r#"{"a":[0,2],"b":["x","y"]}"#),
            ),
        ],
    ),
    page(
        "operator/update/positional-all",
        r#"{"_id":1,"grades":[85,82,80],"n":5}"#,
        &[
            (
                "{}",
                r#"{"$inc":{"grades.$[]":10}}"#,
                "[]",
                Ok(r#"{"_id":1,"grades":[95,92,90],"n":5}"#),
            ),
            (
                r#"{"grades":{"$ne":100}}"#,
                r#"{"$mul":{"grades.$[]":2}}"#,
                "[]",
                Ok(r#"{"_id":1,"grades":[170,164,160],"n":5}"#),
            ),
            (
                "{}",
                r#"{"$unset":{"grades.$[]":1}}"#,
                "[]",
                Ok(r#"{"_id":1,"grades":[null,null,null],"n":5}"#),
            ),
            ("{}", r#"{"$set":{"n.$[]":1}}"#, "[]", Err("what should be an array is none")),
            ("{}", r#"{"$set":{"x.$[]":1}}"#, "[]", Err("there is no array")),
            ("{}", r#"{"$unset":{"x.$[].y":1}}"#, "[]", Err("there is no array")),
            ("{}", r#"{"$set":{"$[]":1}}"#, "[]", Err("begins with $")),
            ("{}", r#"{"$set":{"grades.$[].x":1}}"#, "[]", Err("neither object nor array")),
            ("{}", r#"{"$rename":{"grades.$[]":"x"}}"#, "[]", Err("cannot be renamed")),
            ("{}", r#"{"$rename":{"n":"grades.$[]"}}"#, "[]", Err("cannot be renamed")),
            ("{}", r#"{"$set":{"grades.$[]":1,"grades":[]}}"#, "[]", Err("two changes touch")),
            ("{}", r#"{"$set":{"grades.$[]":1,"grades.1":2}}"#, "[]", Err("two changes touch")),
            (
                "{}",
                r#"{"$set":{"grades.$[]":1,"grades.3":2}}"#,
                "[]",
                Ok(r#"{"_id":1,"grades":[1,1,1,2],"n":5}"#),
            ),
        ],
    ),
    page(
        "operator/update/positional-all (nested)",
        r#"{"grades":[{"type":"quiz","questions":[10,8,5]},{"type":"hw","questions":[8,3]},{"type":"exam","questions":[]}]}"#,
        &[
            (
                "{}",
                r#"{"$inc":{"grades.$[].questions.$[score]":2}}"#,
                r#"[{"score":8}]"#,
                Ok(
                    r#"{"grades":[{"type":"quiz","questions":[10,10,5]},{"type":"hw","questions":[10,3]},{"type":"exam","questions":[]}]}"#,
                ),
            ),
            (
                "{}",
                r#"{"$inc":{"grades.$[].questions.$[]":1}}"#,
                "[]",
                Ok(
                    r#"{"grades":[{"type":"quiz","questions":[11,9,6]},{"type":"hw","questions":[9,4]},{"type":"exam","questions":[]}]}"#,
                ),
            ),
            (
                r#"{"grades.type":"hw"}"#,
                r#"{"$set":{"grades.$.questions.$[]":0}}"#,
                "[]",
                Ok(
                    r#"{"grades":[{"type":"quiz","questions":[10,8,5]},{"type":"hw","questions":[0,0]},{"type":"exam","questions":[]}]}"#,
                ),
            ),
            (
                "{}",
                r#"{"$push":{"grades.$[].questions":{"$each":[1],"$slice":-2}},"$unset":{"grades.$[].type":1}}"#,
                "[]",
                Ok(r#"{"grades":[{"questions":[5,1]},{"questions":[3,1]},{"questions":[1]}]}"#),
            ),
            (
                "{}",
                r#"{"$pull":{"grades.$[].questions":{"$gte":8}}}"#,
                "[]",
                Ok(
                    r#"{"grades":[{"type":"quiz","questions":[5]},{"type":"hw","questions":[3]},{"type":"exam","questions":[]}]}"#,
                ),
            ),
        ],
    ),
    page(
        "operator/update/positional-filtered",
        r#"{"_id":1,"grades":[95,102,90,150]}"#,
        &[
            (
                r#"{"grades":{"$gte":100}}"#,
                r#"{"$set":{"grades.$[element]":100}}"#,
                r#"[{"element":{"$gte":100}}]"#,
                Ok(r#"{"_id":1,"grades":[95,100,90,100]}"#),
            ),
            (
                "{}",
                r#"{"$set":{"grades.$[none]":0}}"#,
                r#"[{"none":"x"}]"#,
                Ok(r#"{"_id":1,"grades":[95,102,90,150]}"#),
            ),
            (
                "{}",
                r#"{"$set":{"grades.$[a]":0,"grades.$[b]":1}}"#,
                r#"[{"$or":[{"a":95},{"a":90}]},{"b":{"$gt":100,"$lt":150}}]"#,
                Ok(r#"{"_id":1,"grades":[0,1,0,150]}"#),
            ),
            (
                // Every condition sees the document as it was.
                "{}",
                r#"{"$inc":{"grades.$[a]":50,"grades.$[b]":-50}}"#,
                r#"[{"a":95},{"b":{"$gt":140}}]"#,
                Ok(r#"{"_id":1,"grades":[145,102,90,100]}"#),
            ),
            (
                "{}",
                r#"{"$set":{"grades.$[a]":0,"grades.$[b]":1}}"#,
                r#"[{"a":{"$lt":100}},{"b":{"$gt":90}}]"#,
                Err("invalid update of grades.0: two changes touch this field"),
            ),
            ("{}", r#"{"$set":{"grades.$[x]":0}}"#, "[]", Err("there is no array filter")),
            (
                "{}",
                r#"{"$set":{"grades.$[x]":0}}"#,
                r#"[{"x":1},{"y":1}]"#,
                Err("no change uses the array filter"),
            ),
            (
                "{}",
                r#"{"$set":{"grades.$[x]":0}}"#,
                r#"[{"x":1},{"x":2}]"#,
                Err("two array filters have this name"),
            ),
            ("{}", r#"{"$set":{"grades.$[x]":0}}"#, r#"[{"x":1,"y":2}]"#, Err("by one name")),
            ("{}", r#"{"$set":{"grades.$[x]":0}}"#, "[{}]", Err("by one name")),
            ("{}", r#"{"$set":{"grades.$[X]":0}}"#, r#"[{"X":1}]"#, Err("a small letter first")),
            ("{}", r#"{"$set":{"grades.$[x]":0}}"#, r#"{"x":1}"#, Err("are an array")),
            (
                "{}",
                r#"{"$set":{"grades.$[x]":0}}"#,
                r#"[{"x":{"$no":1}}]"#,
                Err("no such operator"),
            ),
        ],
    ),
    page(
        "operator/update/positional-filtered (embedded documents)",
        r#"{"grades":[{"grade":80,"mean":75,"std":8},{"grade":90,"mean":85,"std":5},{"grade":85,"mean":85,"std":3}]}"#,
        &[
            (
                "{}",
                r#"{"$set":{"grades.$[elem].mean":100}}"#,
                r#"[{"elem.grade":{"$gte":85}}]"#,
                Ok(
                    r#"{"grades":[{"grade":80,"mean":75,"std":8},{"grade":90,"mean":100,"std":5},{"grade":85,"mean":100,"std":3}]}"#,
                ),
            ),
            (
                "{}",
                r#"{"$inc":{"grades.$[elem].std":-1}}"#,
                r#"[{"elem.grade":{"$gte":80},"elem.std":{"$gte":5}}]"#,
                Ok(
                    r#"{"grades":[{"grade":80,"mean":75,"std":7},{"grade":90,"mean":85,"std":4},{"grade":85,"mean":85,"std":3}]}"#,
                ),
            ),
            (
                "{}",
                r#"{"$unset":{"grades.$[e]":""}}"#,
                r#"[{"e.std":{"$ne":8}}]"#,
                Ok(r#"{"grades":[{"grade":80,"mean":75,"std":8},null,null]}"#),
            ),
            (
                "{}",
                r#"{"$set":{"grades.$[a].mean":0,"grades.$[b].std":0}}"#,
                r#"[{"a.std":{"$gt":4}},{"b.std":{"$lt":6}}]"#,
                Ok(
                    r#"{"grades":[{"grade":80,"mean":0,"std":8},{"grade":90,"mean":0,"std":0},{"grade":85,"mean":85,"std":0}]}"#,
                ),
            ),
        ],
    ),
];

/// A filter, an update, and what is stored where nothing is found, but for a made `_id`.
type Upsert = (&'static str, &'static str, Result<&'static str, &'static str>);

pub(crate) const UPSERTS: &[(&str, &[Upsert])] = &[
    (
        "operator/update/setOnInsert",
        &[
            (
                r#"{"_id":1}"#,
                r#"{"$set":{"item":"apple"},"$setOnInsert":{"defaultQty":100}}"#,
                Ok(r#"{"_id":1,"item":"apple","defaultQty":100}"#),
            ),
            (r#"{"a":1}"#, r#"{"$setOnInsert":{"b.c":2}}"#, Ok(r#"{"a":1,"b":{"c":2}}"#)),
            ("{}", r#"{"$set":{"a":1},"$setOnInsert":{"a":2}}"#, Err("two changes touch")),
            ("{}", r#"{"$set":{"a.b":1},"$setOnInsert":{"a":2}}"#, Err("two changes touch")),
        ],
    ),
    (
        "method/db.collection.updateOne (upsert)",
        &[
            (
                r#"{"name":"Pizza Rat's Pizzaria"}"#,
                r#"{"$set":{"_id":4,"violations":7,"borough":"Manhattan"}}"#,
                Ok(
                    r#"{"_id":4,"name":"Pizza Rat's Pizzaria","violations":7,"borough":"Manhattan"}"#,
                ),
            ),
            (
                r#"{"violations":{"$gt":10}}"#,
                r#"{"$set":{"Closed":true}}"#,
                Ok(r#"{"Closed":true}"#),
            ),
            (r#"{"x":1}"#, r#"{"$set":{"x":2}}"#, Ok(r#"{"x":2}"#)),
            (r#"{"x":1}"#, r#"{"$inc":{"x":2}}"#, Ok(r#"{"x":3}"#)),
            (r#"{"x":null}"#, "{}", Ok(r#"{"x":null}"#)),
            (r#"{"x":[1,2]}"#, r#"{"$push":{"x":3}}"#, Ok(r#"{"x":[1,2,3]}"#)),
            (r#"{"x.y":1,"x.z":2}"#, r#"{"$unset":{"x.y":1}}"#, Ok(r#"{"x":{"z":2}}"#)),
            (r#"{"x":{"$exists":true},"y":{"$type":"int"}}"#, "{}", Ok("{}")),
            (r#"{"x":{"$ne":1},"y":{"$not":{"$eq":1}}}"#, "{}", Ok("{}")),
            (r#"{"x":{"$regex":"^a"}}"#, r#"{"$set":{"y":1}}"#, Ok(r#"{"y":1}"#)),
            (r#"{"x":{"$elemMatch":{"y":1}}}"#, r#"{"$set":{"z":1}}"#, Ok(r#"{"z":1}"#)),
        ],
    ),
    (
        // jstests/sharding/upsert_sharded.js
        "the server's upsert_sharded.js",
        &[
            (r#"{"x":{"$eq":1}}"#, r#"{"$set":{"a":1}}"#, Ok(r#"{"x":1,"a":1}"#)),
            (r#"{"x":{"$all":[1]}}"#, r#"{"$set":{"a":1}}"#, Ok(r#"{"x":1,"a":1}"#)),
            (r#"{"x":{"$in":[1]}}"#, r#"{"$set":{"a":1}}"#, Ok(r#"{"x":1,"a":1}"#)),
            (r#"{"x":{"$in":[1,2]}}"#, r#"{"$set":{"a":1}}"#, Ok(r#"{"a":1}"#)),
            (r#"{"$and":[{"x":{"$eq":1}}]}"#, r#"{"$set":{"a":1}}"#, Ok(r#"{"x":1,"a":1}"#)),
            (r#"{"$or":[{"x":{"$eq":1}}]}"#, r#"{"$set":{"a":1}}"#, Ok(r#"{"x":1,"a":1}"#)),
            (r#"{"x.x":1,"x.y.z":1}"#, "{}", Ok(r#"{"x":{"x":1,"y":{"z":1}}}"#)),
        ],
    ),
    (
        // jstests/core/upsert3.js
        "the server's upsert3.js",
        &[
            (r#"{"a.b":1,"a":{"a":1,"b":1}}"#, r#"{"$inc":{"y":1}}"#, Err("cannot tell what a")),
            (r#"{"a":{},"a.c":2}"#, r#"{"$set":{"x":1}}"#, Err("cannot tell what a")),
            (r#"{"_id.a":1,"_id":{"a":1}}"#, r#"{"$inc":{"y":1}}"#, Err("cannot tell what _id")),
            (r#"{"_id.a":1}"#, r#"{"$inc":{"y":1}}"#, Err("_id")),
        ],
    ),
    (
        // jstests/upsert4.js
        "the server's upsert4.js",
        &[
            (
                r#"{"_id":1,"$and":[{"c":1},{"d":1}],"a":12}"#,
                r#"{"$inc":{"y":1}}"#,
                Ok(r#"{"_id":1,"c":1,"d":1,"a":12,"y":1}"#),
            ),
            (
                r#"{"$and":[{"c":1},{"d":1},{"$or":[{"x":1}]}]}"#,
                r#"{"$setOnInsert":{"_id":1}}"#,
                Ok(r#"{"_id":1,"c":1,"d":1,"x":1}"#),
            ),
            (
                r#"{"r":{"$gt":3},"$and":[{"c":1},{"d":1}],"$or":[{"x":1},{"x":2}]}"#,
                r#"{"$setOnInsert":{"_id":1}}"#,
                Ok(r#"{"_id":1,"c":1,"d":1}"#),
            ),
            (
                r#"{"c":2,"$and":[{"c":1},{"d":1}]}"#,
                r#"{"$setOnInsert":{"_id":1}}"#,
                Err("cannot tell what c"),
            ),
        ],
    ),
    (
        // https://jira.mongodb.org/browse/SERVER-18076
        "SERVER-18076",
        &[
            (r#"{"_id":0}"#, r#"{"$setOnInsert":{"_id":1},"$set":{"x":1}}"#, Err("_id")),
            (r#"{"_id":1}"#, r#"{"$setOnInsert":{"_id":1}}"#, Ok(r#"{"_id":1}"#)),
            (r#"{"z":0}"#, r#"{"$setOnInsert":{"z":1},"$set":{"x":1}}"#, Ok(r#"{"z":1,"x":1}"#)),
        ],
    ),
    (
        "operator/update/positional-all (upsert)",
        &[
            (
                r#"{"myArray":[5,8]}"#,
                r#"{"$set":{"myArray.$[]":10}}"#,
                Ok(r#"{"myArray":[10,10]}"#),
            ),
            (r#"{"myArray":5}"#, r#"{"$set":{"myArray.$[]":10}}"#, Err("what should be an array")),
            (r#"{"x":1}"#, r#"{"$set":{"myArray.$[]":10}}"#, Err("there is no array")),
            // operator/update/positional: not with upsert.
            (r#"{"l":[1]}"#, r#"{"$set":{"l.$":10}}"#, Err("that found nothing")),
        ],
    ),
];

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[track_caller]
fn check(name: &str, got: Result<Value, Error>, want: Result<&str, &str>) {
    match (got, want) {
        (Ok(got), Ok(want)) => assert_eq!(got, parsed(want), "{name}"),
        (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{name}: {error}"),
        (got, _) => panic!("{name}: {got:?}"),
    }
}

#[test]
fn positional_updates_are_the_manual_s() {
    for page in PAGES {
        let document = parsed(page.document);
        for (filter, update, array_filters, want) in page.rows {
            let filter = Filter::from_json(&parsed(filter)).unwrap();
            let got = Update::from_json(&parsed(update))
                .and_then(|update| update.array_filters(&parsed(array_filters)))
                .and_then(|update| update.apply_json_found_by(&filter, &document));
            check(&format!("{}: {update} {array_filters}", page.name), got, *want);
        }
    }
}

#[test]
fn new_documents_are_the_manual_s() {
    for (name, rows) in UPSERTS {
        for (filter, update, want) in *rows {
            let filter_value = Filter::from_json(&parsed(filter)).unwrap();
            let got = Update::from_json(&parsed(update))
                .and_then(|update| update.insert_json(&filter_value));
            check(&format!("{name}: {filter} {update}"), got, *want);
        }
    }
}

#[test]
fn too_many_elements_are_refused() {
    let document = json!({"l": vec![vec![0; 1100]; 1000]});
    let update = Update::new().set("l.$[].$[]", 1);
    let error = update.apply_json(&document).unwrap_err();
    assert!(error.to_string().contains("1048576 elements"), "{error}");
    let filters: Vec<Value> = (0..65).map(|i| json!({ (format!("a{i}")): 1 })).collect();
    assert!(Update::new().array_filters(&filters.into()).is_err());
}

#[test]
fn a_store_changes_what_is_found() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let store = Store::open(Options::new(dir.path())).await?;
        let people = store.collection("people")?;
        people.create_index(Index::on("grades.of")).await?;
        for id in 0..20 {
            let grades = json!([{"of": "a", "n": id}, {"of": format!("b{id}"), "n": id}]);
            people.insert(&json!({"_id": id, "group": id % 2, "grades": grades})).await?;
        }
        let filter = |value: Value| Filter::from_json(&value);
        let update = |value: Value| Update::from_json(&value);
        let document = async |id: i64| people.get(id).await.map(|found| found.unwrap().value());

        // By an index, and by a position that an update by id cannot know.
        let set = update(json!({"$set": {"grades.$.n": 100}}))?;
        assert!(people.update_one(&filter(json!({"grades.of": "b7"}))?, &set).await?);
        assert_eq!(document(7).await?["grades"][1], json!({"of": "b7", "n": 100}));
        assert!(matches!(people.update(7, &set).await, Err(Error::InvalidUpdate { .. })));
        assert!(!people.update_one(&filter(json!({"grades.of": "none"}))?, &set).await?);

        // By id alone, each document at its own position.
        let by_id = filter(json!({"_id": 3, "grades.n": 3}))?;
        assert!(people.update_one(&by_id, &set).await?);
        assert_eq!(document(3).await?["grades"][0]["n"], 100);
        let both = filter(json!({"group": 1, "grades": {"$elemMatch": {"of": {"$gt": "a"}}}}))?;
        assert_eq!(people.update_many(&both, &set).await?, 10);
        assert_eq!(
            document(5).await?["grades"],
            json!([{"of": "a", "n": 5}, {"of": "b5", "n": 100}])
        );

        // An element that moves takes its index entries along.
        let rename = update(json!({"$set": {"grades.$[g].of": "c"}}))?
            .array_filters(&json!([{"g.of": {"$regex": "^b"}}]))?;
        assert_eq!(people.update_many(&Filter::all(), &rename).await?, 20);
        assert_eq!(people.find(filter(json!({"grades.of": "c"}))?).count().await?, 20);
        assert_eq!(people.find(filter(json!({"grades.of": "b5"}))?).count().await?, 0);
        store.verify().await?;
        store.close().await
    })
    .unwrap();
}

#[test]
fn an_upsert_changes_or_stores() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let store = Store::open(Options::new(dir.path())).await?;
        let words = store.collection("words")?;
        words.create_index(Index::on("word").unique()).await?;
        let count = Update::new().inc("count", 1).set_on_insert("first", "today");
        let word = |word: &str| Filter::from_json(&json!({"word": word}));
        let Upserted::Inserted(id) = words.upsert_one(&word("tea")?, &count).await? else {
            panic!("a new one was stored");
        };
        assert_eq!(words.upsert_one(&word("tea")?, &count).await?, Upserted::Updated(1));
        let tea = words.get(id.clone()).await?.unwrap().value();
        assert_eq!(tea["count"], 2);
        assert_eq!(tea["first"], "today");
        assert_eq!(words.upsert_many(&Filter::all(), &count).await?, Upserted::Updated(1));

        // The document with that id does not match, so there is nowhere to go.
        let other = json!({"_id": parsed(&id.to_json()), "word": "no"});
        let taken = words.upsert_one(&Filter::from_json(&other)?, &count).await;
        assert!(matches!(taken, Err(Error::DuplicateId { .. })), "{taken:?}");
        let given = Filter::from_json(&json!({"_id": 5, "word": "cup"}))?;
        assert_eq!(words.upsert_many(&given, &count).await?, Upserted::Inserted(Id::from(5)));

        // A failure leaves nothing.
        let bad = Update::new().set("l.$[]", 1);
        assert!(words.upsert_one(&word("new")?, &bad).await.is_err());
        assert_eq!(words.find(word("new")?).count().await?, 0);
        store.close().await
    })
    .unwrap();
}

/// No index refuses the second: what an upsert did not find, nobody else may store meanwhile.
#[test]
fn upserts_at_once_store_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(dir.path());
    options.transact_attempts_max = 1000;
    let store = block_on(Store::open(options)).unwrap();
    block_on(store.collection("words").unwrap().create_index(Index::on("word"))).unwrap();
    const WRITERS: i64 = 8;
    const WORDS: i64 = 25;
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = &store;
            scope.spawn(move || {
                let words = store.collection("words").unwrap();
                let count = Update::new().inc("count", 1).push("by", writer);
                for word in 0..WORDS {
                    let filter = Filter::from_json(&json!({"word": word})).unwrap();
                    block_on(words.upsert_one(&filter, &count)).unwrap();
                }
            });
        }
    });
    block_on(async {
        let words = store.collection("words")?;
        let all = words.find(Filter::all()).collect().await?;
        assert_eq!(all.len() as i64, WORDS);
        assert!(all.iter().all(|word| word.value()["count"] == WRITERS));
        store.close().await
    })
    .unwrap();
}
