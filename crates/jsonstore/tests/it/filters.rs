//! Filters: what matches, and what is refused.

use hearth_jsonstore::{Error, Filter, Sort, testing::matches_text};
use serde_json::{Value, json};

#[track_caller]
fn refused(filter: &Value, want: &str) {
    match Filter::from_json(filter) {
        Err(error @ Error::InvalidFilter { .. }) => {
            assert!(error.to_string().contains(want), "{filter}: {error}");
        }
        other => panic!("{filter}: {other:?}"),
    }
}

/// What a page of `https://www.mongodb.com/docs/manual/` says, or a test of the server itself.
pub(crate) struct Page {
    pub(crate) name: &'static str,
    pub(crate) document: &'static str,
    /// A filter, and whether it matches.
    pub(crate) rows: &'static [(&'static str, bool)],
}

const fn page(
    name: &'static str,
    document: &'static str,
    rows: &'static [(&'static str, bool)],
) -> Page {
    Page { name, document, rows }
}

/// Where we differ from MongoDB on purpose, the page is marked `differs`.
pub(crate) const PAGES: &[Page] = &[
    page(
        "reference/operator/query/eq",
        r#"{"_id":1,"item":{"name":"ab","code":"123"},"qty":15,"tags":["A","B","C"],"n":[["A","B"],"C"]}"#,
        &[
            (r#"{"qty":{"$eq":15}}"#, true),
            (r#"{"qty":15}"#, true),
            (r#"{"qty":15.0}"#, true),
            (r#"{"qty":"15"}"#, false),
            (r#"{"item.name":{"$eq":"ab"}}"#, true),
            (r#"{"tags":{"$eq":"B"}}"#, true),
            (r#"{"tags":{"$eq":"D"}}"#, false),
            (r#"{"tags":["A","B","C"]}"#, true),
            (r#"{"tags":["A","B"]}"#, false),
            (r#"{"tags":["B","A","C"]}"#, false),
            (r#"{"n":["A","B"]}"#, true),
            (r#"{"n":"A"}"#, false),
            (r#"{"n":"C"}"#, true),
            (r#"{"item":{"name":"ab","code":"123"}}"#, true),
            (r#"{"item":{"name":"ab"}}"#, false),
            (r#"{"item":{"$eq":{"name":"ab"}}}"#, false),
            (r#"{}"#, true),
        ],
    ),
    page(
        // An object equals another whatever the order of members.
        "tutorial/query-embedded-documents differs",
        r#"{"size":{"h":14,"w":21,"uom":"cm"}}"#,
        &[
            (r#"{"size":{"w":21,"h":14,"uom":"cm"}}"#, true),
            (r#"{"size":{"h":14,"w":21}}"#, false),
            (r#"{"size.uom":"cm"}"#, true),
            (r#"{"size.h":{"$lt":15}}"#, true),
            (r#"{"size.h":{"$lt":15},"size.uom":"in"}"#, false),
            (r#"{"size.x":null}"#, true),
        ],
    ),
    page(
        "reference/operator/query/gt",
        r#"{"qty":20,"carrier":{"fee":2},"s":"m","l":[1,5],"b":true,"z":null}"#,
        &[
            (r#"{"qty":{"$gt":19}}"#, true),
            (r#"{"qty":{"$gt":20}}"#, false),
            (r#"{"qty":{"$gte":20}}"#, true),
            (r#"{"qty":{"$lt":20}}"#, false),
            (r#"{"qty":{"$lte":20}}"#, true),
            (r#"{"qty":{"$gt":19.5,"$lt":20.5}}"#, true),
            (r#"{"carrier.fee":{"$gt":2}}"#, false),
            (r#"{"s":{"$gt":"l"}}"#, true),
            (r#"{"l":{"$gt":4}}"#, true),
            (r#"{"l":{"$gt":5}}"#, false),
            (r#"{"b":{"$gt":false}}"#, true),
            (r#"{"b":{"$lt":false}}"#, false),
            (r#"{"missing":{"$gt":0}}"#, false),
            (r#"{"missing":{"$lt":0}}"#, false),
        ],
    ),
    page(
        "reference/method/db.collection.find (type bracketing)",
        r#"{"qty":20,"s":"m","b":true,"z":null,"o":{"a":1}}"#,
        &[
            (r#"{"s":{"$gt":5}}"#, false),
            (r#"{"s":{"$lt":5}}"#, false),
            (r#"{"qty":{"$lt":"x"}}"#, false),
            (r#"{"qty":{"$gte":null}}"#, false),
            (r#"{"z":{"$gte":null}}"#, true),
            (r#"{"z":{"$lte":null}}"#, true),
            (r#"{"z":{"$gt":null}}"#, false),
            (r#"{"missing":{"$gte":null}}"#, true),
            (r#"{"missing":{"$gt":null}}"#, false),
            (r#"{"b":{"$gte":0}}"#, false),
            (r#"{"o":{"$gt":{"a":0}}}"#, true),
            (r#"{"o":{"$gt":{}}}"#, true),
            (r#"{"o":{"$gt":[]}}"#, false),
        ],
    ),
    page(
        "reference/operator/query/in",
        r#"{"qty":15,"tags":["home","school"],"z":null,"n":[[1,2]]}"#,
        &[
            (r#"{"qty":{"$in":[5,15]}}"#, true),
            (r#"{"qty":{"$in":[5,16]}}"#, false),
            (r#"{"qty":{"$in":[]}}"#, false),
            (r#"{"tags":{"$in":["home","work"]}}"#, true),
            (r#"{"tags":{"$in":["work"]}}"#, false),
            (r#"{"tags":{"$in":[["home","school"]]}}"#, true),
            (r#"{"n":{"$in":[[1,2]]}}"#, true),
            (r#"{"z":{"$in":[null]}}"#, true),
            (r#"{"missing":{"$in":[null,1]}}"#, true),
            (r#"{"missing":{"$in":[1]}}"#, false),
            (r#"{"qty":{"$in":[15.0]}}"#, true),
            (r#"{"qty":{"$nin":[5,15]}}"#, false),
            (r#"{"qty":{"$nin":[5]}}"#, true),
            (r#"{"qty":{"$nin":[]}}"#, true),
            (r#"{"missing":{"$nin":[5,15]}}"#, true),
            (r#"{"missing":{"$nin":[null]}}"#, false),
            (r#"{"tags":{"$nin":["school"]}}"#, false),
            (r#"{"tags":{"$nin":["work"]}}"#, true),
        ],
    ),
    page(
        "reference/operator/query/ne",
        r#"{"qty":20,"carrier":{"fee":3},"tags":["a","b"]}"#,
        &[
            (r#"{"qty":{"$ne":20}}"#, false),
            (r#"{"qty":{"$ne":21}}"#, true),
            (r#"{"missing":{"$ne":20}}"#, true),
            (r#"{"missing":{"$ne":null}}"#, false),
            (r#"{"carrier.fee":{"$ne":1}}"#, true),
            (r#"{"tags":{"$ne":"a"}}"#, false),
            (r#"{"tags":{"$ne":"c"}}"#, true),
            (r#"{"tags":{"$ne":["a","b"]}}"#, false),
        ],
    ),
    page(
        "reference/operator/query/and",
        r#"{"price":1.99,"qty":20,"sale":true}"#,
        &[
            (r#"{"$and":[{"price":{"$ne":2}},{"price":{"$exists":true}}]}"#, true),
            (r#"{"$and":[{"qty":20},{"sale":false}]}"#, false),
            (r#"{"$and":[{"$or":[{"qty":{"$lt":10}},{"qty":{"$gt":50}}]},{"sale":true}]}"#, false),
            (r#"{"$or":[{"qty":{"$lt":10}},{"price":1.99}]}"#, true),
            (r#"{"$or":[{"qty":1},{"price":1}]}"#, false),
            (r#"{"$nor":[{"price":1.99},{"sale":true}]}"#, false),
            (r#"{"$nor":[{"price":2},{"missing":1}]}"#, true),
            (r#"{"$nor":[{"qty":{"$exists":false}}]}"#, true),
            (r#"{"qty":20,"$or":[{"sale":true}]}"#, true),
            (r#"{"$and":[{}]}"#, true),
            (r#"{"$nor":[{}]}"#, false),
        ],
    ),
    page(
        "reference/operator/query/not",
        r#"{"price":1.99,"item":"pencil","l":[1,9]}"#,
        &[
            (r#"{"price":{"$not":{"$gt":1.99}}}"#, true),
            (r#"{"price":{"$not":{"$gt":1.5}}}"#, false),
            (r#"{"missing":{"$not":{"$gt":1.99}}}"#, true),
            (r#"{"item":{"$not":{"$regex":"^p.*"}}}"#, false),
            (r#"{"item":{"$not":{"$regex":"^q"}}}"#, true),
            (r#"{"l":{"$not":{"$gt":5}}}"#, false),
            (r#"{"l":{"$not":{"$gt":2,"$lt":5}}}"#, false),
            (r#"{"l":{"$not":{"$eq":5}}}"#, true),
            (r#"{"price":{"$not":{"$not":{"$gt":1}}}}"#, true),
        ],
    ),
    page(
        "reference/operator/query/exists",
        r#"{"a":5,"b":null,"c":[],"d":{"e":1},"f":[{"g":1},{}]}"#,
        &[
            (r#"{"a":{"$exists":true}}"#, true),
            (r#"{"b":{"$exists":true}}"#, true),
            (r#"{"c":{"$exists":true}}"#, true),
            (r#"{"x":{"$exists":true}}"#, false),
            (r#"{"x":{"$exists":false}}"#, true),
            (r#"{"b":{"$exists":false}}"#, false),
            (r#"{"a":{"$exists":true,"$nin":[5,15]}}"#, false),
            (r#"{"d.e":{"$exists":true}}"#, true),
            (r#"{"d.x":{"$exists":false}}"#, true),
            (r#"{"f.g":{"$exists":true}}"#, true),
            (r#"{"f.g":{"$exists":false}}"#, false),
            (r#"{"c.g":{"$exists":false}}"#, true),
            (r#"{"a":{"$exists":0}}"#, false),
            (r#"{"a":{"$exists":1}}"#, true),
        ],
    ),
    page(
        "tutorial/query-for-null-fields",
        r#"{"_id":1,"item":null,"o":{},"n":4,"e":[],"ee":[[]],"l":[{"b":null},{"b":1}],"m":[{"c":1}],"k":[1,2]}"#,
        &[
            (r#"{"item":null}"#, true),
            (r#"{"missing":null}"#, true),
            (r#"{"n":null}"#, false),
            (r#"{"item":{"$ne":null}}"#, false),
            (r#"{"item":{"$type":10}}"#, true),
            (r#"{"missing":{"$type":10}}"#, false),
            (r#"{"o.b":null}"#, true),
            (r#"{"n.b":null}"#, true),
            (r#"{"e.b":null}"#, false),
            (r#"{"ee.b":null}"#, false),
            (r#"{"k.b":null}"#, false),
            (r#"{"l.b":null}"#, true),
            (r#"{"m.b":null}"#, true),
            (r#"{"e":null}"#, false),
            (r#"{"e.b":{"$ne":null}}"#, true),
        ],
    ),
    page(
        "reference/operator/query/type",
        r#"{"zip":"63109","n":8345,"d":1.5,"big":2147483648,"l":["63110",3],"e":[],"b":false,"o":{},"z":null}"#,
        &[
            (r#"{"zip":{"$type":2}}"#, true),
            (r#"{"zip":{"$type":"string"}}"#, true),
            (r#"{"n":{"$type":"number"}}"#, true),
            (r#"{"n":{"$type":"int"}}"#, true),
            (r#"{"n":{"$type":"double"}}"#, false),
            (r#"{"d":{"$type":"double"}}"#, true),
            (r#"{"big":{"$type":"long"}}"#, true),
            (r#"{"big":{"$type":16}}"#, false),
            (r#"{"l":{"$type":"string"}}"#, true),
            (r#"{"l":{"$type":"array"}}"#, true),
            (r#"{"e":{"$type":"array"}}"#, true),
            (r#"{"zip":{"$type":"array"}}"#, false),
            (r#"{"b":{"$type":"bool"}}"#, true),
            (r#"{"o":{"$type":"object"}}"#, true),
            (r#"{"z":{"$type":["null","string"]}}"#, true),
            (r#"{"missing":{"$type":"null"}}"#, false),
        ],
    ),
    page(
        "reference/operator/query/all",
        r#"{"tags":["school","book","bag"],"qty":[{"size":"S","num":10},{"size":"M","num":45}],"s":"x"}"#,
        &[
            (r#"{"tags":{"$all":["book","bag"]}}"#, true),
            (r#"{"tags":{"$all":["book","pen"]}}"#, false),
            (r#"{"tags":{"$all":[]}}"#, false),
            (r#"{"tags":{"$all":[["school","book","bag"]]}}"#, true),
            (r#"{"s":{"$all":["x"]}}"#, true),
            (
                r#"{"qty":{"$all":[{"$elemMatch":{"size":"M","num":{"$gt":40}}},{"$elemMatch":{"num":10}}]}}"#,
                true,
            ),
            (r#"{"qty":{"$all":[{"$elemMatch":{"size":"S","num":{"$gt":40}}}]}}"#, false),
            (r#"{"tags":{"$not":{"$all":["book","pen"]}}}"#, true),
        ],
    ),
    page(
        "reference/operator/query/elemMatch",
        r#"{"results":[82,85,88],"r":[{"product":"abc","score":10},{"product":"xyz","score":5}],"n":[[1,9],[4]],"s":5}"#,
        &[
            (r#"{"results":{"$elemMatch":{"$gte":80,"$lt":85}}}"#, true),
            (r#"{"results":{"$elemMatch":{"$gt":82,"$lt":85}}}"#, false),
            (r#"{"results":{"$gt":82,"$lt":85}}"#, true),
            (r#"{"r":{"$elemMatch":{"product":"xyz","score":{"$gte":8}}}}"#, false),
            (r#"{"r":{"$elemMatch":{"product":"abc","score":{"$gte":8}}}}"#, true),
            (r#"{"r":{"$elemMatch":{"product":{"$ne":"xyz"}}}}"#, true),
            (r#"{"r.product":{"$ne":"xyz"}}"#, false),
            (r#"{"r":{"$elemMatch":{"$or":[{"score":5},{"score":6}]}}}"#, true),
            (r#"{"s":{"$elemMatch":{"$eq":5}}}"#, false),
            (r#"{"n":{"$elemMatch":{"$elemMatch":{"$gt":5}}}}"#, true),
            (r#"{"n":{"$elemMatch":{"$elemMatch":{"$gt":9}}}}"#, false),
            (r#"{"n":{"$elemMatch":{"0":4}}}"#, true),
            (r#"{"n":{"$elemMatch":{"$gt":0}}}"#, false),
            (r#"{"results":{"$elemMatch":{"$not":{"$lt":88}}}}"#, true),
            (r#"{"missing":{"$not":{"$elemMatch":{"a":1}}}}"#, true),
            (r#"{"r":{"$elemMatch":{}}}"#, true),
        ],
    ),
    page(
        "reference/operator/query/size",
        r#"{"f":["red","green"],"e":[],"s":"ab","n":[[1]]}"#,
        &[
            (r#"{"f":{"$size":2}}"#, true),
            (r#"{"f":{"$size":1}}"#, false),
            (r#"{"e":{"$size":0}}"#, true),
            (r#"{"s":{"$size":2}}"#, false),
            (r#"{"missing":{"$size":0}}"#, false),
            (r#"{"n":{"$size":1}}"#, true),
        ],
    ),
    page(
        "reference/operator/query/mod",
        r#"{"qty":12,"f":12.7,"neg":-7,"s":"x","l":[3,8]}"#,
        &[
            (r#"{"qty":{"$mod":[4,0]}}"#, true),
            (r#"{"qty":{"$mod":[5,0]}}"#, false),
            (r#"{"f":{"$mod":[4,0]}}"#, true),
            (r#"{"qty":{"$mod":[4.9,0.5]}}"#, true),
            (r#"{"neg":{"$mod":[4,-3]}}"#, true),
            (r#"{"neg":{"$mod":[4,1]}}"#, false),
            (r#"{"s":{"$mod":[4,0]}}"#, false),
            (r#"{"l":{"$mod":[4,0]}}"#, true),
            (r#"{"missing":{"$mod":[4,0]}}"#, false),
        ],
    ),
    page(
        "reference/operator/query/regex",
        r#"{"sku":"abc123","d":"First line\nsecond line","l":["x","Zed"],"n":5,"u":"Straße"}"#,
        &[
            (r#"{"sku":{"$regex":"^abc"}}"#, true),
            (r#"{"sku":{"$regex":"^ABC"}}"#, false),
            (r#"{"sku":{"$regex":"^ABC","$options":"i"}}"#, true),
            (r#"{"d":{"$regex":"^s"}}"#, false),
            (r#"{"d":{"$regex":"^s","$options":"m"}}"#, true),
            (r#"{"d":{"$regex":"First.*second"}}"#, false),
            (r#"{"d":{"$regex":"First.*second","$options":"s"}}"#, true),
            (r#"{"sku":{"$regex":"abc 123 # all","$options":"x"}}"#, true),
            (r#"{"l":{"$regex":"^Z"}}"#, true),
            (r#"{"n":{"$regex":"5"}}"#, false),
            (r#"{"missing":{"$regex":""}}"#, false),
            (r#"{"sku":{"$regex":"^abc","$nin":["abc123"]}}"#, false),
            (r#"{"u":{"$regex":"^\\w+$"}}"#, true),
        ],
    ),
    page(
        "tutorial/query-array-of-documents",
        r#"{"instock":[{"warehouse":"A","qty":5},{"warehouse":"C","qty":15}]}"#,
        &[
            (r#"{"instock":{"warehouse":"A","qty":5}}"#, true),
            (r#"{"instock":{"warehouse":"A"}}"#, false),
            (r#"{"instock.qty":{"$lte":5}}"#, true),
            (r#"{"instock.0.qty":{"$lte":5}}"#, true),
            (r#"{"instock.1.qty":{"$lte":5}}"#, false),
            (r#"{"instock.2.qty":{"$exists":true}}"#, false),
            (r#"{"instock.qty":{"$gt":10,"$lte":5}}"#, true),
            (r#"{"instock":{"$elemMatch":{"qty":{"$gt":10,"$lte":5}}}}"#, false),
            (r#"{"instock.qty":5,"instock.warehouse":"C"}"#, true),
        ],
    ),
    page(
        "tutorial/query-arrays",
        r#"{"tags":["blank","red"],"dim":[14,21],"one":[[1,2],[3]]}"#,
        &[
            (r#"{"tags":["red","blank"]}"#, false),
            (r#"{"tags":{"$all":["red","blank"]}}"#, true),
            (r#"{"dim":{"$gt":25}}"#, false),
            (r#"{"dim":{"$gt":15,"$lt":20}}"#, true),
            (r#"{"dim":{"$elemMatch":{"$gt":15,"$lt":20}}}"#, false),
            (r#"{"dim.1":{"$gt":20}}"#, true),
            (r#"{"dim.0":{"$gt":20}}"#, false),
            (r#"{"one.0.1":2}"#, true),
            (r#"{"one.0":1}"#, false),
            (r#"{"one.0":[1,2]}"#, true),
            (r#"{"dim":{"$gt":[14,20]}}"#, true),
            (r#"{"dim":{"$lt":[14,20]}}"#, false),
        ],
    ),
    page(
        "server: src/mongo/db/matcher/path_test.cpp",
        r#"{"a":[5,{"1":4},3],"b":[5,[{"c":4}],3],"c":{"0":"zero"},"d":[{"x":[2,3]},{"x":[4,5]}]}"#,
        &[
            (r#"{"a.1":4}"#, true),
            (r#"{"a.1":{"1":4}}"#, true),
            (r#"{"a.2":3}"#, true),
            (r#"{"b.1.c":4}"#, true),
            (r#"{"b.c":4}"#, false),
            (r#"{"b.1.0.c":4}"#, true),
            (r#"{"c.0":"zero"}"#, true),
            (r#"{"d.x":5}"#, true),
            (r#"{"d.x":[4,5]}"#, true),
            (r#"{"d.x.1":3}"#, true),
            (r#"{"d.1.x.1":3}"#, false),
            (r#"{"d.0.x":null}"#, true),
        ],
    ),
    page(
        "reference/bson-type-comparison-order",
        r#"{"i":9007199254740993,"u":18446744073709551615,"z":-0.0,"e":1e400,"s":"a\u0000b","q":"say \"x\""}"#,
        &[
            (r#"{"i":9007199254740993}"#, true),
            (r#"{"i":9007199254740992}"#, false),
            (r#"{"i":{"$gt":9007199254740992.0}}"#, true),
            (r#"{"u":18446744073709551615}"#, true),
            (r#"{"u":{"$lt":1e20}}"#, true),
            (r#"{"z":0}"#, true),
            (r#"{"s":"a\u0000b"}"#, true),
            (r#"{"s":{"$gt":"a"}}"#, true),
            (r#"{"q":"say \"x\""}"#, true),
            (r#"{"q":{"$gt":"say !"}}"#, true),
        ],
    ),
];

#[test]
fn the_manual_is_right() {
    for page in PAGES {
        // As text, because a number beyond f64 is no `serde_json` value.
        let matches = |filter: &Value| matches_text(filter, page.document);
        for (filter, want) in page.rows {
            let filter: Value = serde_json::from_str(filter).unwrap();
            assert_eq!(matches(&filter), *want, "{}: {filter}", page.name);
        }
    }
}

#[test]
fn there_are_rows_enough() {
    let filters: usize = PAGES.iter().map(|page| page.rows.len()).sum();
    let updates: usize = crate::updates::PAGES.iter().map(|page| page.rows.len()).sum();
    assert!(filters >= 150 && updates >= 80, "{filters} filters, {updates} updates");
    let positional: usize = crate::modify::PAGES.iter().map(|page| page.rows.len()).sum();
    let upserts: usize = crate::modify::UPSERTS.iter().map(|(_, rows)| rows.len()).sum();
    assert!(positional >= 50 && upserts >= 35, "{positional} positional, {upserts} upserts");
}

#[test]
fn bad_filters_are_named() {
    for (filter, want) in [
        (json!(1), "a filter is an object"),
        (json!({"$nope": 1}), "no such operator"),
        (json!({"a": {"$nope": 1}}), "no such operator"),
        (json!({"$where": "1"}), "no such operator"),
        (json!({"a": {"$gt": 1, "b": 2}}), "side by side"),
        (json!({"$and": []}), "at least one"),
        (json!({"$or": {}}), "at least one"),
        (json!({"$nor": [1]}), "a filter is an object"),
        (json!({"a": {"$in": 1}}), "an array"),
        (json!({"a": {"$in": [{"$gt": 1}]}}), "an operator cannot stand"),
        (json!({"a": {"$all": 1}}), "an array"),
        (json!({"a": {"$all": [{"$gt": 1}]}}), "only $elemMatch"),
        (json!({"a": {"$elemMatch": 1}}), "an object"),
        (json!({"a": {"$elemMatch": {"$gt": 1, "b": 1}}}), "side by side"),
        (json!({"a": {"$size": -1}}), "0 or more"),
        (json!({"a": {"$size": "1"}}), "0 or more"),
        (json!({"a": {"$mod": [0, 1]}}), "not 0"),
        (json!({"a": {"$mod": [1]}}), "a divisor and a remainder"),
        (json!({"a": {"$mod": ["1", 2]}}), "numbers"),
        (json!({"a": {"$not": 1}}), "operators"),
        (json!({"a": {"$not": {}}}), "operators"),
        (json!({"a": {"$type": "binData"}}), "JSON has no type"),
        (json!({"a": {"$type": 99}}), "JSON has no type"),
        (json!({"a": {"$type": []}}), "empty"),
        (json!({"a": {"$regex": 1}}), "a string"),
        (json!({"a": {"$regex": "a", "$options": "g"}}), "$options are"),
        (json!({"a": {"$options": "i"}}), "beside a $regex"),
        (json!({"a..b": 1}), "empty"),
        (json!({"": 1}), "empty"),
        (json!({"a.$b": 1}), "begins with $"),
        (json!({"$text": {}}), "$search is missing"),
        (json!({"$text": {"$search": 1}}), "no such option"),
        (json!({"$or": [{"$text": {"$search": "x"}}]}), "at the top"),
        (json!({"$and": [{"$text": {"$search": "x"}}, {"$text": {"$search": "y"}}]}), "at most"),
    ] {
        refused(&filter, want);
    }
    match Filter::from_json(&json!({"a": {"$not": {"$gt": 1, "$in": 2}}})) {
        Err(Error::InvalidFilter { path, .. }) => assert_eq!(path, "a.$not.$in"),
        other => panic!("{other:?}"),
    }
}

#[cfg(feature = "schema")]
#[test]
fn schemas_describe_documents() {
    let filter = |schema: Value| Filter::from_json(&json!({"$jsonSchema": schema}));
    let schema = json!({
        "required": ["name", "age"],
        "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"minimum": 18}}
    });
    let adults = filter(schema.clone()).unwrap();
    assert!(adults.matches_json(&json!({"name": "Ada", "age": 36})).unwrap());
    assert!(!adults.matches_json(&json!({"name": "Ada", "age": 3})).unwrap());
    assert!(!adults.matches_json(&json!({"name": "ada", "age": 36})).unwrap());
    assert!(!adults.matches_json(&json!({"name": "Ada"})).unwrap());
    let others = Filter::from_json(&json!({"$nor": [{"$jsonSchema": schema}]})).unwrap();
    assert!(others.matches_json(&json!({"name": "Ada"})).unwrap());
    for (schema, want) in [
        (json!(1), "a schema is an object"),
        (json!({"$ref": "#"}), "does not take $ref"),
        (json!({"allOf": [{"$dynamicRef": "#"}]}), "does not take $dynamicRef"),
        (json!({"properties": {"a": {"bsonType": "int"}}}), "does not take bsonType"),
        (json!({"type": "nope"}), "nope"),
        (json!({"pattern": "((a{100}){100}){100}"}), "regex"),
        (json!({"enum": ["x".repeat(70_000)]}), "larger than 65536 bytes"),
    ] {
        refused(&json!({"$jsonSchema": schema}), want);
    }
    // Linear, whatever the pattern.
    let slow = filter(json!({"properties": {"a": {"pattern": "^(a+)+$"}}})).unwrap();
    let text = format!("{}b", "a".repeat(100_000));
    assert!(!slow.matches_json(&json!({"a": text})).unwrap());
}

#[test]
fn hostile_filters_are_named() {
    let mut deep = json!({"a": 1});
    for _ in 0..80 {
        deep = json!({"$and": [deep]});
    }
    refused(&deep, "deeper than 64");
    let mut deep = json!(1);
    for _ in 0..200 {
        deep = json!({"$not": {"$elemMatch": deep}});
    }
    refused(&json!({"a": deep}), "deeper than 64");
    let many: Vec<_> = (0..5000).map(|i| json!({"a": i})).collect();
    refused(&json!({"$or": many}), "more than 4096 clauses");
    let many: Vec<_> = (0..100_001).collect();
    refused(&json!({"a": {"$in": many}}), "more than 100000 operands");
    let many: Vec<_> = (0..65).map(|i| json!({"a": {"$regex": i.to_string()}})).collect();
    refused(&json!({"$or": many}), "more than 64 expressions");
    refused(&json!({"a": {"$regex": "a".repeat(5000)}}), "longer than 4096 bytes");
    refused(&json!({"a": {"$regex": "((a{100}){100}){100}"}}), "larger than 1048576 bytes");
    refused(&json!({"a": {"$regex": "(".repeat(1000)}}), "unclosed group");
    refused(&json!({"a": {"$regex": r"(a)\1"}}), "backreferences are not supported");
    refused(&json!({(["a"; 200].join(".")): 1}), "more than 128 steps");
}

#[test]
fn catastrophic_expressions_take_linear_time() {
    let filter = Filter::from_json(&json!({"a": {"$regex": "^(a+)+$"}})).unwrap();
    let text = format!("{}b", "a".repeat(1 << 20));
    assert!(!filter.matches_json(&json!({"a": text})).unwrap());
}

#[test]
fn shapes_hold_no_operands() {
    let shape = |filter: Value| Filter::from_json(&filter).unwrap().shape();
    assert_eq!(shape(json!({"a": 1, "b": {"$gt": 2}})), shape(json!({"b": {"$gt": 5}, "a": 7})));
    assert_eq!(
        shape(json!({"$or": [{"a": 1}, {"b": "x"}]})),
        shape(json!({"$or": [{"b": "y"}, {"a": 2}]}))
    );
    assert_ne!(shape(json!({"a": 1})), shape(json!({"a": null})));
    assert_ne!(shape(json!({"a": {"$gt": 1}})), shape(json!({"a": {"$gte": 1}})));
    assert_ne!(shape(json!({"a.b": 1})), shape(json!({"a": 1})));
}

#[test]
fn sorts_say_their_order() {
    assert!(Sort::from_json(&json!({"a": 1, "b": 1})).is_err());
    assert!(Sort::from_json(&json!({"a": 2})).is_err());
    assert!(Sort::from_json(&json!([{"a": 1}, {"a": -1}])).is_err());
    assert!(Sort::from_json(&json!([])).unwrap().is_empty());
}
