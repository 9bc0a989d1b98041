//! MongoDB's update operators: rows of data, each with the page of its manual that says so.

use hearth_jsonstore::{Error, Update};
use serde_json::{Value, json};

/// What a page of `https://www.mongodb.com/docs/manual/reference/` says.
pub(crate) struct Page {
    pub(crate) name: &'static str,
    pub(crate) document: &'static str,
    /// An update, and the document after it or a part of the error.
    pub(crate) rows: &'static [(&'static str, Result<&'static str, &'static str>)],
}

const fn page(
    name: &'static str,
    document: &'static str,
    rows: &'static [(&'static str, Result<&'static str, &'static str>)],
) -> Page {
    Page { name, document, rows }
}

/// Where we differ from MongoDB on purpose, the page is marked `differs`.
pub(crate) const PAGES: &[Page] = &[
    page(
        "operator/update/set",
        r#"{"_id":100,"quantity":250,"details":{"model":"14QQ"},"tags":["a","b"],"n":null}"#,
        &[
            (
                r#"{"$set":{"quantity":500}}"#,
                Ok(
                    r#"{"_id":100,"quantity":500,"details":{"model":"14QQ"},"tags":["a","b"],"n":null}"#,
                ),
            ),
            (
                r#"{"$set":{"details.make":"zzz"}}"#,
                Ok(
                    r#"{"_id":100,"quantity":250,"details":{"model":"14QQ","make":"zzz"},"tags":["a","b"],"n":null}"#,
                ),
            ),
            (
                r#"{"$set":{"tags.1":"rain"}}"#,
                Ok(
                    r#"{"_id":100,"quantity":250,"details":{"model":"14QQ"},"tags":["a","rain"],"n":null}"#,
                ),
            ),
            (
                r#"{"$set":{"x.y":1}}"#,
                Ok(
                    r#"{"_id":100,"quantity":250,"details":{"model":"14QQ"},"tags":["a","b"],"n":null,"x":{"y":1}}"#,
                ),
            ),
            (
                r#"{"$set":{"tags.3":"d"}}"#,
                Ok(
                    r#"{"_id":100,"quantity":250,"details":{"model":"14QQ"},"tags":["a","b",null,"d"],"n":null}"#,
                ),
            ),
            (r#"{"$set":{"quantity.x":1}}"#, Err("neither object nor array")),
            (r#"{"$set":{"n.x":1}}"#, Err("neither object nor array")),
            (r#"{"$set":{"tags.x":1}}"#, Err("a step into an array is a number")),
            (r#"{"$set":{"_id":1}}"#, Err("_id")),
            (r#"{"$set":{"a":1,"a.b":1}}"#, Err("two changes")),
            (r#"{"$set":{"a":1},"$inc":{"a":1}}"#, Err("two changes")),
            (
                r#"{"$set":{}}"#,
                Ok(
                    r#"{"_id":100,"quantity":250,"details":{"model":"14QQ"},"tags":["a","b"],"n":null}"#,
                ),
            ),
            (r#"{"$set":1}"#, Err("an operator takes an object")),
        ],
    ),
    page(
        "operator/update/unset",
        r#"{"_id":1,"a":{"b":1,"c":2},"l":[1,2,3]}"#,
        &[
            (r#"{"$unset":{"a":""}}"#, Ok(r#"{"_id":1,"l":[1,2,3]}"#)),
            (r#"{"$unset":{"a.b":""}}"#, Ok(r#"{"_id":1,"a":{"c":2},"l":[1,2,3]}"#)),
            (r#"{"$unset":{"zz":""}}"#, Ok(r#"{"_id":1,"a":{"b":1,"c":2},"l":[1,2,3]}"#)),
            (r#"{"$unset":{"l.1":""}}"#, Ok(r#"{"_id":1,"a":{"b":1,"c":2},"l":[1,null,3]}"#)),
            (r#"{"$unset":{"l.9":""}}"#, Ok(r#"{"_id":1,"a":{"b":1,"c":2},"l":[1,2,3]}"#)),
            (r#"{"$unset":{"l.x":""}}"#, Ok(r#"{"_id":1,"a":{"b":1,"c":2},"l":[1,2,3]}"#)),
            (r#"{"$unset":{"a.b.c":""}}"#, Ok(r#"{"_id":1,"a":{"b":1,"c":2},"l":[1,2,3]}"#)),
        ],
    ),
    page(
        "operator/update/inc",
        r#"{"_id":1,"sku":"abc123","quantity":10,"metrics":{"orders":2,"ratings":3.5},"n":null}"#,
        &[
            (
                r#"{"$inc":{"quantity":-2,"metrics.orders":1}}"#,
                Ok(
                    r#"{"_id":1,"sku":"abc123","quantity":8,"metrics":{"orders":3,"ratings":3.5},"n":null}"#,
                ),
            ),
            (
                r#"{"$inc":{"metrics.ratings":1}}"#,
                Ok(
                    r#"{"_id":1,"sku":"abc123","quantity":10,"metrics":{"orders":2,"ratings":4.5},"n":null}"#,
                ),
            ),
            (
                r#"{"$inc":{"new":7}}"#,
                Ok(
                    r#"{"_id":1,"sku":"abc123","quantity":10,"metrics":{"orders":2,"ratings":3.5},"n":null,"new":7}"#,
                ),
            ),
            (r#"{"$inc":{"n":1}}"#, Err("not a number")),
            (r#"{"$inc":{"sku":1}}"#, Err("not a number")),
            (r#"{"$inc":{"quantity":"1"}}"#, Err("the operand is a number")),
        ],
    ),
    page(
        "operator/update/mul",
        r#"{"_id":1,"item":"Hats","price":10.5,"quantity":25}"#,
        &[
            (
                r#"{"$mul":{"quantity":2}}"#,
                Ok(r#"{"_id":1,"item":"Hats","price":10.5,"quantity":50}"#),
            ),
            (
                r#"{"$mul":{"price":2}}"#,
                Ok(r#"{"_id":1,"item":"Hats","price":21.0,"quantity":25}"#),
            ),
            (
                r#"{"$mul":{"new":100}}"#,
                Ok(r#"{"_id":1,"item":"Hats","price":10.5,"quantity":25,"new":0}"#),
            ),
            (r#"{"$mul":{"item":2}}"#, Err("not a number")),
        ],
    ),
    page(
        "operator/update/min",
        r#"{"_id":1,"highScore":800,"lowScore":200,"s":"x"}"#,
        &[
            (
                r#"{"$min":{"lowScore":150}}"#,
                Ok(r#"{"_id":1,"highScore":800,"lowScore":150,"s":"x"}"#),
            ),
            (
                r#"{"$min":{"lowScore":250}}"#,
                Ok(r#"{"_id":1,"highScore":800,"lowScore":200,"s":"x"}"#),
            ),
            (
                r#"{"$min":{"new":1}}"#,
                Ok(r#"{"_id":1,"highScore":800,"lowScore":200,"s":"x","new":1}"#),
            ),
            // Of two types the smaller one: numbers are smaller than strings.
            (r#"{"$min":{"s":5}}"#, Ok(r#"{"_id":1,"highScore":800,"lowScore":200,"s":5}"#)),
            (
                r#"{"$min":{"highScore":null}}"#,
                Ok(r#"{"_id":1,"highScore":null,"lowScore":200,"s":"x"}"#),
            ),
        ],
    ),
    page(
        "operator/update/max",
        r#"{"_id":1,"highScore":800,"lowScore":200}"#,
        &[
            (r#"{"$max":{"highScore":950}}"#, Ok(r#"{"_id":1,"highScore":950,"lowScore":200}"#)),
            (r#"{"$max":{"highScore":870}}"#, Ok(r#"{"_id":1,"highScore":870,"lowScore":200}"#)),
            (r#"{"$max":{"highScore":100}}"#, Ok(r#"{"_id":1,"highScore":800,"lowScore":200}"#)),
            (
                r#"{"$max":{"a.b":1}}"#,
                Ok(r#"{"_id":1,"highScore":800,"lowScore":200,"a":{"b":1}}"#),
            ),
            (r#"{"$max":{"highScore":"x"}}"#, Ok(r#"{"_id":1,"highScore":"x","lowScore":200}"#)),
        ],
    ),
    page(
        "operator/update/rename",
        r#"{"_id":1,"alias":["x"],"mobile":"555","name":{"first":"george","last":"w"},"l":[{"a":1}]}"#,
        &[
            (
                r#"{"$rename":{"mobile":"cell"}}"#,
                Ok(
                    r#"{"_id":1,"alias":["x"],"name":{"first":"george","last":"w"},"l":[{"a":1}],"cell":"555"}"#,
                ),
            ),
            (
                r#"{"$rename":{"name.first":"name.fname"}}"#,
                Ok(
                    r#"{"_id":1,"alias":["x"],"mobile":"555","name":{"last":"w","fname":"george"},"l":[{"a":1}]}"#,
                ),
            ),
            (
                r#"{"$rename":{"name.last":"contact.lname"}}"#,
                Ok(
                    r#"{"_id":1,"alias":["x"],"mobile":"555","name":{"first":"george"},"l":[{"a":1}],"contact":{"lname":"w"}}"#,
                ),
            ),
            (
                r#"{"$rename":{"wife":"spouse"}}"#,
                Ok(
                    r#"{"_id":1,"alias":["x"],"mobile":"555","name":{"first":"george","last":"w"},"l":[{"a":1}]}"#,
                ),
            ),
            (
                r#"{"$rename":{"mobile":"alias"}}"#,
                Ok(r#"{"_id":1,"alias":"555","name":{"first":"george","last":"w"},"l":[{"a":1}]}"#),
            ),
            (r#"{"$rename":{"mobile":"mobile"}}"#, Err("two changes")),
            (r#"{"$rename":{"name":"name.x"}}"#, Err("two changes")),
            (r#"{"$rename":{"l.0":"x"}}"#, Err("in an array")),
            (r#"{"$rename":{"mobile":"l.0"}}"#, Err("in an array")),
            (r#"{"$rename":{"mobile":1}}"#, Err("the new name is a string")),
            (r#"{"$rename":{"_id":"x"}}"#, Err("_id")),
        ],
    ),
    page(
        "operator/update/addToSet",
        r#"{"_id":1,"letters":["a","b"],"s":"x","o":[{"a":1,"b":2}]}"#,
        &[
            (
                r#"{"$addToSet":{"letters":["c","d"]}}"#,
                Ok(r#"{"_id":1,"letters":["a","b",["c","d"]],"s":"x","o":[{"a":1,"b":2}]}"#),
            ),
            (
                r#"{"$addToSet":{"letters":"a"}}"#,
                Ok(r#"{"_id":1,"letters":["a","b"],"s":"x","o":[{"a":1,"b":2}]}"#),
            ),
            (
                r#"{"$addToSet":{"letters":{"$each":["b","c","c"]}}}"#,
                Ok(r#"{"_id":1,"letters":["a","b","c"],"s":"x","o":[{"a":1,"b":2}]}"#),
            ),
            (
                r#"{"$addToSet":{"new":1}}"#,
                Ok(r#"{"_id":1,"letters":["a","b"],"s":"x","o":[{"a":1,"b":2}],"new":[1]}"#),
            ),
            (r#"{"$addToSet":{"s":1}}"#, Err("not an array")),
            (r#"{"$addToSet":{"letters":{"$each":1}}}"#, Err("$each is an array")),
            (r#"{"$addToSet":{"letters":{"$each":[1],"$slice":1}}}"#, Err("no modifier but $each")),
        ],
    ),
    page(
        // Objects are equal whatever the order of their members.
        "operator/update/addToSet differs",
        r#"{"o":[{"a":1,"b":2}]}"#,
        &[(r#"{"$addToSet":{"o":{"b":2,"a":1}}}"#, Ok(r#"{"o":[{"a":1,"b":2}]}"#))],
    ),
    page(
        "operator/update/pop",
        r#"{"_id":1,"scores":[8,9,10],"e":[],"s":"x"}"#,
        &[
            (r#"{"$pop":{"scores":-1}}"#, Ok(r#"{"_id":1,"scores":[9,10],"e":[],"s":"x"}"#)),
            (r#"{"$pop":{"scores":1}}"#, Ok(r#"{"_id":1,"scores":[8,9],"e":[],"s":"x"}"#)),
            (r#"{"$pop":{"e":1}}"#, Ok(r#"{"_id":1,"scores":[8,9,10],"e":[],"s":"x"}"#)),
            (r#"{"$pop":{"new":1}}"#, Ok(r#"{"_id":1,"scores":[8,9,10],"e":[],"s":"x"}"#)),
            (r#"{"$pop":{"s":1}}"#, Err("not an array")),
            (r#"{"$pop":{"scores":2}}"#, Err("1 for the last")),
        ],
    ),
    page(
        "operator/update/pull",
        r#"{"_id":1,"fruits":["apples","pears","oranges"],"votes":[3,5,6,7,7,8],"results":[{"item":"A","score":5},{"item":"B","score":8}],"s":"x"}"#,
        &[
            (
                r#"{"$pull":{"fruits":{"$in":["apples","oranges"]}}}"#,
                Ok(
                    r#"{"_id":1,"fruits":["pears"],"votes":[3,5,6,7,7,8],"results":[{"item":"A","score":5},{"item":"B","score":8}],"s":"x"}"#,
                ),
            ),
            (
                r#"{"$pull":{"votes":{"$gte":6}}}"#,
                Ok(
                    r#"{"_id":1,"fruits":["apples","pears","oranges"],"votes":[3,5],"results":[{"item":"A","score":5},{"item":"B","score":8}],"s":"x"}"#,
                ),
            ),
            (
                r#"{"$pull":{"votes":7}}"#,
                Ok(
                    r#"{"_id":1,"fruits":["apples","pears","oranges"],"votes":[3,5,6,8],"results":[{"item":"A","score":5},{"item":"B","score":8}],"s":"x"}"#,
                ),
            ),
            (
                r#"{"$pull":{"results":{"score":8,"item":"B"}}}"#,
                Ok(
                    r#"{"_id":1,"fruits":["apples","pears","oranges"],"votes":[3,5,6,7,7,8],"results":[{"item":"A","score":5}],"s":"x"}"#,
                ),
            ),
            (
                r#"{"$pull":{"results":{"score":{"$gt":1}}}}"#,
                Ok(
                    r#"{"_id":1,"fruits":["apples","pears","oranges"],"votes":[3,5,6,7,7,8],"results":[],"s":"x"}"#,
                ),
            ),
            (
                r#"{"$pull":{"new":1}}"#,
                Ok(
                    r#"{"_id":1,"fruits":["apples","pears","oranges"],"votes":[3,5,6,7,7,8],"results":[{"item":"A","score":5},{"item":"B","score":8}],"s":"x"}"#,
                ),
            ),
            (r#"{"$pull":{"s":1}}"#, Err("not an array")),
            (r#"{"$pull":{"votes":{"$nope":1}}}"#, Err("no such operator")),
        ],
    ),
    page(
        "operator/update/pull (several conditions)",
        r#"{"results":[{"item":"A","answers":[{"q":1,"a":4},{"q":2,"a":6}]},{"item":"B","answers":[{"q":1,"a":8},{"q":2,"a":9}]}]}"#,
        &[(
            r#"{"$pull":{"results":{"answers":{"$elemMatch":{"q":2,"a":{"$gte":8}}}}}}"#,
            Ok(r#"{"results":[{"item":"A","answers":[{"q":1,"a":4},{"q":2,"a":6}]}]}"#),
        )],
    ),
    page(
        "operator/update/pullAll",
        r#"{"_id":1,"scores":[0,2,5,5,1,0]}"#,
        &[
            (r#"{"$pullAll":{"scores":[0,5]}}"#, Ok(r#"{"_id":1,"scores":[2,1]}"#)),
            (r#"{"$pullAll":{"scores":[]}}"#, Ok(r#"{"_id":1,"scores":[0,2,5,5,1,0]}"#)),
            (r#"{"$pullAll":{"scores":0}}"#, Err("the operand is an array")),
        ],
    ),
    page(
        "operator/update/push",
        r#"{"_id":1,"scores":[44,78],"s":"x","quizzes":[{"wk":1,"score":10},{"wk":2,"score":8},{"wk":3,"score":5}]}"#,
        &[
            (
                r#"{"$push":{"scores":89}}"#,
                Ok(
                    r#"{"_id":1,"scores":[44,78,89],"s":"x","quizzes":[{"wk":1,"score":10},{"wk":2,"score":8},{"wk":3,"score":5}]}"#,
                ),
            ),
            (
                r#"{"$push":{"scores":{"$each":[90,92]}}}"#,
                Ok(
                    r#"{"_id":1,"scores":[44,78,90,92],"s":"x","quizzes":[{"wk":1,"score":10},{"wk":2,"score":8},{"wk":3,"score":5}]}"#,
                ),
            ),
            (
                r#"{"$push":{"scores":[1,2]}}"#,
                Ok(
                    r#"{"_id":1,"scores":[44,78,[1,2]],"s":"x","quizzes":[{"wk":1,"score":10},{"wk":2,"score":8},{"wk":3,"score":5}]}"#,
                ),
            ),
            (
                r#"{"$push":{"new":1}}"#,
                Ok(
                    r#"{"_id":1,"scores":[44,78],"s":"x","quizzes":[{"wk":1,"score":10},{"wk":2,"score":8},{"wk":3,"score":5}],"new":[1]}"#,
                ),
            ),
            (
                r#"{"$push":{"quizzes":{"$each":[{"wk":5,"score":8},{"wk":6,"score":7}],"$sort":{"score":-1},"$slice":3}}}"#,
                Ok(
                    r#"{"_id":1,"scores":[44,78],"s":"x","quizzes":[{"wk":1,"score":10},{"wk":2,"score":8},{"wk":5,"score":8}]}"#,
                ),
            ),
            (r#"{"$push":{"s":1}}"#, Err("not an array")),
            (r#"{"$push":{"scores":{"$slice":1}}}"#, Err("need an $each")),
            (r#"{"$push":{"scores":{"$each":[1],"$nope":1}}}"#, Err("no such modifier")),
            (r#"{"$push":{"scores":{"$each":1}}}"#, Err("$each is an array")),
        ],
    ),
    page(
        "operator/update/position",
        r#"{"_id":1,"scores":[100]}"#,
        &[
            (
                r#"{"$push":{"scores":{"$each":[50,60,70],"$position":0}}}"#,
                Ok(r#"{"_id":1,"scores":[50,60,70,100]}"#),
            ),
            (
                r#"{"$push":{"scores":{"$each":[20,30],"$position":9}}}"#,
                Ok(r#"{"_id":1,"scores":[100,20,30]}"#),
            ),
            (
                r#"{"$push":{"scores":{"$each":[90,80],"$position":-1}}}"#,
                Ok(r#"{"_id":1,"scores":[90,80,100]}"#),
            ),
            (
                r#"{"$push":{"scores":{"$each":[1],"$position":-9}}}"#,
                Ok(r#"{"_id":1,"scores":[1,100]}"#),
            ),
        ],
    ),
    page(
        "operator/update/slice",
        r#"{"_id":1,"scores":[40,50,60]}"#,
        &[
            (
                r#"{"$push":{"scores":{"$each":[80,78,86],"$slice":-5}}}"#,
                Ok(r#"{"_id":1,"scores":[50,60,80,78,86]}"#),
            ),
            (
                r#"{"$push":{"scores":{"$each":[100,20],"$slice":3}}}"#,
                Ok(r#"{"_id":1,"scores":[40,50,60]}"#),
            ),
            (
                r#"{"$push":{"scores":{"$each":[],"$slice":-2}}}"#,
                Ok(r#"{"_id":1,"scores":[50,60]}"#),
            ),
            (r#"{"$push":{"scores":{"$each":[1],"$slice":0}}}"#, Ok(r#"{"_id":1,"scores":[]}"#)),
            (r#"{"$push":{"scores":{"$each":[1],"$slice":1.5}}}"#, Err("an integer")),
        ],
    ),
    page(
        "operator/update/sort",
        r#"{"_id":1,"tests":[89,70,89,50]}"#,
        &[
            (
                r#"{"$push":{"tests":{"$each":[40,60],"$sort":1}}}"#,
                Ok(r#"{"_id":1,"tests":[40,50,60,70,89,89]}"#),
            ),
            (
                r#"{"$push":{"tests":{"$each":[],"$sort":-1}}}"#,
                Ok(r#"{"_id":1,"tests":[89,89,70,50]}"#),
            ),
            (r#"{"$push":{"tests":{"$each":[],"$sort":2}}}"#, Err("$sort is 1, -1")),
        ],
    ),
    page(
        "operator/update",
        r#"{"a":1}"#,
        &[
            (r#"{"$nope":{"a":1}}"#, Err("no such operator")),
            (r#"{"a":2}"#, Err("an operator takes an object")),
            (r#"[1]"#, Err("an update is an object")),
            (r#"{}"#, Ok(r#"{"a":1}"#)),
            (r#"{"$set":{"b..c":1}}"#, Err("empty")),
            (r#"{"$set":{"":1}}"#, Err("empty")),
            (r#"{"$set":{"b.$":1}}"#, Err("after an array")),
            (r#"{"$set":{"b.$x":1}}"#, Err("begins with $")),
            (r#"{"$currentDate":{"d":1}}"#, Err("true or an object")),
            (r#"{"$currentDate":{"d":{"$type":"x"}}}"#, Err("$type is")),
        ],
    ),
];

#[test]
fn the_manual_is_right() {
    for page in PAGES {
        let document: Value = serde_json::from_str(page.document).unwrap();
        for (update, want) in page.rows {
            let value: Value = serde_json::from_str(update).unwrap();
            let got = Update::from_json(&value).and_then(|update| update.apply_json(&document));
            match (got, want) {
                (Ok(got), Ok(want)) => {
                    let want: Value = serde_json::from_str(want).unwrap();
                    assert_eq!(got, want, "{}: {update}", page.name);
                }
                (Err(error), Err(want)) => {
                    assert!(error.to_string().contains(want), "{}: {update}: {error}", page.name);
                }
                (got, _) => panic!("{}: {update}: {got:?}", page.name),
            }
        }
    }
}

#[test]
fn dates_are_the_clock_s() {
    let update = json!({"$currentDate": {"a": true, "b": {"$type": "timestamp"}}});
    let got = Update::from_json(&update).unwrap().apply_json(&json!({})).unwrap();
    let text = got["a"].as_str().unwrap();
    assert!(text.len() == 24 && text.ends_with('Z') && *text >= *"2026", "{text}");
    assert!(got["b"].as_u64().unwrap() > 1_700_000_000_000);
}

#[test]
fn builders_and_documents_agree() {
    let built = Update::new()
        .set("a", 1)
        .unset("b")
        .inc("c", 2)
        .mul("d", 3)
        .min("e", 4)
        .max("f", 5)
        .push("g", 6)
        .add_to_set("h", 7)
        .rename("i", "j");
    let parsed = Update::from_json(&json!({
        "$set": {"a": 1}, "$unset": {"b": ""}, "$inc": {"c": 2}, "$mul": {"d": 3}, "$min": {"e": 4},
        "$max": {"f": 5}, "$push": {"g": 6}, "$addToSet": {"h": 7}, "$rename": {"i": "j"}
    }))
    .unwrap();
    let document = json!({"b": 1, "c": 1, "d": 2, "e": 9, "f": 1, "g": [1], "h": [7], "i": 0});
    assert_eq!(built.apply_json(&document).unwrap(), parsed.apply_json(&document).unwrap());
    let conflict = Update::new().set("a.b", 1).unset("a");
    assert!(matches!(conflict.apply_json(&json!({})), Err(Error::InvalidUpdate { .. })));
    let many = (0..2000).fold(Update::new(), |update, i| update.set(&format!("a{i}"), i));
    assert!(many.apply_json(&json!({})).unwrap_err().to_string().contains("1024"));
}
