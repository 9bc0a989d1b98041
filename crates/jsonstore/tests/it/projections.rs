//! Projections and expressions: rows of data.

use hearth_jsonstore::{Filter, Projection};
use serde_json::{Value, json};

/// A projection, a document, what comes back or a part of the error.
const ROWS: &[(&str, &str, Result<&str, &str>)] = &[
    (r#"{"a":1}"#, r#"{"_id":1,"a":2,"b":3}"#, Ok(r#"{"_id":1,"a":2}"#)),
    (r#"["a"]"#, r#"{"_id":1,"a":2,"b":3}"#, Ok(r#"{"_id":1,"a":2}"#)),
    (r#"{"a":true,"_id":0}"#, r#"{"_id":1,"a":2,"b":3}"#, Ok(r#"{"a":2}"#)),
    (r#"{"_id":1}"#, r#"{"_id":1,"a":2}"#, Ok(r#"{"_id":1}"#)),
    (r#"{"_id":0}"#, r#"{"_id":1,"a":2}"#, Ok(r#"{"a":2}"#)),
    (r#"{"_id":1,"a":0}"#, r#"{"_id":1,"a":2,"b":3}"#, Ok(r#"{"_id":1,"b":3}"#)),
    (r#"{}"#, r#"{"_id":1,"a":2}"#, Ok(r#"{"_id":1,"a":2}"#)),
    (r#"{"a":0,"c.d":0}"#, r#"{"a":2,"c":{"d":1,"e":2}}"#, Ok(r#"{"c":{"e":2}}"#)),
    (r#"{"c.d":1}"#, r#"{"a":2,"c":{"d":1,"e":2}}"#, Ok(r#"{"c":{"d":1}}"#)),
    (
        r#"{"c.d":1}"#,
        r#"{"c":[{"d":1,"e":2},5,{"e":3},[{"d":4}]]}"#,
        Ok(r#"{"c":[{"d":1},{},[{"d":4}]]}"#),
    ),
    (r#"{"c.d":0}"#, r#"{"c":[{"d":1,"e":2},5,{"e":3}]}"#, Ok(r#"{"c":[{"e":2},5,{"e":3}]}"#)),
    (r#"{"c.d":1}"#, r#"{"c":5}"#, Ok("{}")),
    (r#"{"c.d":0}"#, r#"{"c":5}"#, Ok(r#"{"c":5}"#)),
    (r#"{"c.d":1,"c.e":1}"#, r#"{"c":{"d":1,"e":2,"f":3}}"#, Ok(r#"{"c":{"d":1,"e":2}}"#)),
    (r#"{"l":{"$slice":2}}"#, r#"{"l":[1,2,3],"m":1}"#, Ok(r#"{"l":[1,2],"m":1}"#)),
    (r#"{"l":{"$slice":-2}}"#, r#"{"l":[1,2,3]}"#, Ok(r#"{"l":[2,3]}"#)),
    (r#"{"l":{"$slice":-9}}"#, r#"{"l":[1,2,3]}"#, Ok(r#"{"l":[1,2,3]}"#)),
    (r#"{"l":{"$slice":[1,1]}}"#, r#"{"l":[1,2,3]}"#, Ok(r#"{"l":[2]}"#)),
    (r#"{"l":{"$slice":[-2,1]}}"#, r#"{"l":[1,2,3]}"#, Ok(r#"{"l":[2]}"#)),
    (r#"{"l":{"$slice":1},"m":1}"#, r#"{"l":[1,2,3],"m":1,"n":2}"#, Ok(r#"{"l":[1],"m":1}"#)),
    (r#"{"l":{"$slice":1}}"#, r#"{"l":5}"#, Ok(r#"{"l":5}"#)),
    (
        r#"{"l":{"$elemMatch":{"$gt":1}}}"#,
        r#"{"_id":1,"l":[1,2,3],"m":1}"#,
        Ok(r#"{"_id":1,"l":[2]}"#),
    ),
    (
        r#"{"l":{"$elemMatch":{"a":2}}}"#,
        r#"{"l":[{"a":1},{"a":2,"b":3}]}"#,
        Ok(r#"{"l":[{"a":2,"b":3}]}"#),
    ),
    (r#"{"l":{"$elemMatch":{"a":9}}}"#, r#"{"l":[{"a":1}]}"#, Ok("{}")),
    (r#"{"t":{"$multiply":["$p","$q"]}}"#, r#"{"_id":1,"p":2,"q":3}"#, Ok(r#"{"_id":1,"t":6}"#)),
    (r#"{"t":"$c.d"}"#, r#"{"c":[{"d":1},{"d":2},5]}"#, Ok(r#"{"t":[1,2]}"#)),
    (r#"{"x.y":"$a"}"#, r#"{"a":1,"x":{"z":2}}"#, Ok(r#"{"x":{"y":1}}"#)),
    (r#"{"t":"$missing"}"#, r#"{"a":1}"#, Ok("{}")),
    (r#"{"a":1,"b":0}"#, "{}", Err("not both")),
    (r#"{"a":1,"a.b":1}"#, "{}", Err("twice, or a part")),
    (r#"{"a.b":1,"a":1}"#, "{}", Err("twice, or a part")),
    (r#"{"l":{"$slice":"x"}}"#, "{}", Err("$slice takes")),
    (r#"{"l":{"$slice":[1,0]}}"#, "{}", Err("$slice takes")),
    (r#"{"l":{"$nope":1}}"#, "{}", Err("no such operator")),
    (r#"{"a..b":1}"#, "{}", Err("empty")),
    ("1", "{}", Err("an object or a list")),
    ("[1]", "{}", Err("names of fields")),
];

#[test]
fn projections_return_what_is_named() {
    for (projection, document, want) in ROWS {
        let projection: Value = serde_json::from_str(projection).unwrap();
        let document: Value = serde_json::from_str(document).unwrap();
        let got = Projection::from_json(&projection).and_then(|p| p.apply_json(&document));
        match (got, want) {
            (Ok(got), Ok(want)) => assert_eq!(got.to_string(), *want, "{projection} {document}"),
            (Err(error), Err(want)) => {
                assert!(error.to_string().contains(want), "{projection}: {error}");
            }
            (got, _) => panic!("{projection} {document}: {got:?}"),
        }
    }
}

/// An expression on the document below, and its value.
const EXPRESSIONS: &[(&str, &str)] = &[
    (r#"{"$add":["$i",1,1.5]}"#, "9.5"),
    (r#"{"$add":["$i",1]}"#, "8"),
    (r#"{"$add":["$i","$s"]}"#, "null"),
    (r#"{"$subtract":["$i",10]}"#, "-3"),
    (r#"{"$multiply":["$i","$f"]}"#, "17.5"),
    (r#"{"$multiply":[9223372036854775807,4]}"#, "3.6893488147419103e19"),
    (r#"{"$divide":["$i",2]}"#, "3.5"),
    (r#"{"$divide":[6,2]}"#, "3"),
    (r#"{"$divide":["$i",0]}"#, "null"),
    (r#"{"$mod":["$i",4]}"#, "3"),
    (r#"{"$mod":["$i",0]}"#, "null"),
    (r#"{"$abs":-3}"#, "3"),
    (r#"{"$ceil":"$f"}"#, "3.0"),
    (r#"{"$floor":"$f"}"#, "2.0"),
    (r#"{"$eq":["$i",7.0]}"#, "true"),
    (r#"{"$ne":["$i",7]}"#, "false"),
    (r#"{"$gt":["$s","$i"]}"#, "true"),
    (r#"{"$lt":["$missing",null]}"#, "true"),
    (r#"{"$gte":["$i",7]}"#, "true"),
    (r#"{"$lte":["$i",6]}"#, "false"),
    (r#"{"$cmp":["$i",9]}"#, "-1"),
    (r#"{"$and":["$i",{"$gt":["$i",1]}]}"#, "true"),
    (r#"{"$or":[0,null,"$missing"]}"#, "false"),
    (r#"{"$not":["$z"]}"#, "true"),
    (r#"{"$cond":[{"$gt":["$i",5]},"big","small"]}"#, r#""big""#),
    (r#"{"$cond":{"if":"$z","then":1,"else":2}}"#, "2"),
    (r#"{"$ifNull":["$missing","$z",9]}"#, "9"),
    (r#"{"$ifNull":["$i",9]}"#, "7"),
    (r#"{"$in":[2,"$l"]}"#, "true"),
    (r#"{"$in":[9,"$l"]}"#, "false"),
    (r#"{"$size":"$l"}"#, "3"),
    (r#"{"$size":"$i"}"#, "null"),
    (r#"{"$arrayElemAt":["$l",0]}"#, "1"),
    (r#"{"$arrayElemAt":["$l",-1]}"#, "3"),
    (r#"{"$concat":["$s","-","$s"]}"#, r#""Ab-Ab""#),
    (r#"{"$concat":["$s","$i"]}"#, "null"),
    (r#"{"$toLower":"$s"}"#, r#""ab""#),
    (r#"{"$toUpper":"$s"}"#, r#""AB""#),
    (r#"{"$literal":"$s"}"#, r#""$s""#),
    (r#"{"x":["$i",{"y":"$s"}]}"#, r#"{"x":[7,{"y":"Ab"}]}"#),
    (r#""$o.a""#, "[1,2]"),
    (r#""$$ROOT.i""#, "7"),
];

#[test]
fn expressions_are_computed() {
    let document = json!({
        "i": 7, "f": 2.5, "s": "Ab", "z": null, "l": [1, 2, 3], "o": [{"a": 1}, {"a": 2}, {"b": 3}]
    });
    for (expression, want) in EXPRESSIONS {
        let expression: Value = serde_json::from_str(expression).unwrap();
        let projection = Projection::from_json(&json!({"t": &expression})).unwrap();
        let got = projection.apply_json(&document).unwrap();
        let want: Value = serde_json::from_str(want).unwrap();
        assert_eq!(got["t"], want, "{expression}");
    }
    let filter = |expression: Value| Filter::from_json(&json!({"$expr": expression})).unwrap();
    assert!(filter(json!({"$gt": ["$i", "$f"]})).matches_json(&document).unwrap());
    assert!(!filter(json!({"$gt": ["$f", "$i"]})).matches_json(&document).unwrap());
}

#[test]
fn hostile_expressions_are_named() {
    let refused = |expression: Value, want: &str| {
        let error = Filter::from_json(&json!({"$expr": expression})).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    let mut deep = json!(1);
    for _ in 0..60 {
        deep = json!({"$add": [deep]});
    }
    refused(deep, "deeper than 32");
    refused(json!({"$add": vec![1; 2000]}), "at most 1024");
    refused(json!({"$nope": 1}), "no such operator");
    refused(json!({"$eq": [1]}), "another number of operands");
    refused(json!({"$add": [1], "$size": 1}), "stands alone");
    refused(json!({"$cond": {"if": 1}}), "lacks this part");
    refused(json!("$a..b"), "empty");
}
