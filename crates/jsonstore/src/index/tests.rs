//! Entries, and indexes through the API.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{BTreeIndex, Index, btree::BuildState};
use crate::{
    Collection, Error, Isolation, Store, Update, block_on,
    engine::Hold,
    follow::Follower,
    jb1::{self, Limits},
    key::Id,
    testing::{SimEnv, SimVfs, small_options},
};

fn index(definition: &Index) -> BTreeIndex {
    BTreeIndex::new(definition.clone(), 7, 6, BuildState::Building, Arc::default()).unwrap()
}

fn jb1_of(text: &str) -> Vec<u8> {
    jb1::parse(text.as_bytes(), &Limits::default()).unwrap()
}

fn text_of(jb1: &[u8]) -> String {
    let mut out = Vec::new();
    jb1::print(jb1, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The values of the entries of a document, as people read them.
fn keys(definition: &Index, document: &str) -> Result<Vec<String>, Error> {
    let index = index(definition);
    let document = jb1_of(document);
    let id = Bytes::from(Id::from_jb1(jb1::get(&document, b"_id").unwrap()).unwrap().0);
    let entries = index.entries(&id, &document)?;
    for (key, _) in &entries.pairs {
        assert_eq!(index.id_of(key).unwrap(), id);
    }
    assert!(entries.pairs.is_sorted());
    Ok(entries.pairs.iter().map(|(k, _)| index.describe(&index.values_of(k).unwrap())).collect())
}

#[test]
fn documents_become_entries_as_in_mongodb() {
    let a = Index::on("a");
    let ab = Index::on("a").and_descending("b");
    let deep = Index::on("a.b");
    let sparse = Index::on("a").and("b").sparse();
    let partial = Index::on("a").partial(json!({"n": {"$gt": 5}}));
    let folded = Index::on("a").collation_case_insensitive();
    let rows: [(&Index, &str, &[&str]); 26] = [
        (&a, r#"{"_id":1,"a":5}"#, &[r#"{"a":5}"#]),
        (&a, r#"{"_id":[1,"x"],"a":-2.5}"#, &[r#"{"a":-2.5}"#]),
        (&a, r#"{"_id":1}"#, &[r#"{"a":null}"#]),
        (&a, r#"{"_id":1,"a":null}"#, &[r#"{"a":null}"#]),
        (&a, r#"{"_id":1,"a":[]}"#, &[r#"{"a":null}"#]),
        (&a, r#"{"_id":1,"a":[2,1,2]}"#, &[r#"{"a":1}"#, r#"{"a":2}"#]),
        (&a, r#"{"_id":1,"a":[[1,2],3]}"#, &[r#"{"a":3}"#, r#"{"a":[1,2]}"#]),
        (&a, r#"{"_id":1,"a":{"x":1,"b":"\u0000"}}"#, &[r#"{"a":{"b":"\u0000","x":1}}"#]),
        (&ab, r#"{"_id":1,"a":1,"b":"x"}"#, &[r#"{"a":1,"b":"x"}"#]),
        (&ab, r#"{"_id":1,"b":["x",null]}"#, &[r#"{"a":null,"b":"x"}"#, r#"{"a":null,"b":null}"#]),
        (&deep, r#"{"_id":1,"a":{"b":true}}"#, &[r#"{"a.b":true}"#]),
        (&deep, r#"{"_id":1,"a":7}"#, &[r#"{"a.b":null}"#]),
        (&deep, r#"{"_id":1,"a":[7]}"#, &[r#"{"a.b":null}"#]),
        (
            &deep,
            r#"{"_id":1,"a":[{"b":1},{},{"b":[3,2]}]}"#,
            &[r#"{"a.b":null}"#, r#"{"a.b":1}"#, r#"{"a.b":2}"#, r#"{"a.b":3}"#],
        ),
        (&sparse, r#"{"_id":1}"#, &[]),
        (&sparse, r#"{"_id":1,"b":1}"#, &[r#"{"a":null,"b":1}"#]),
        (&sparse, r#"{"_id":1,"a":null}"#, &[r#"{"a":null,"b":null}"#]),
        (&sparse, r#"{"_id":1,"a":[]}"#, &[r#"{"a":null,"b":null}"#]),
        (&partial, r#"{"_id":1,"a":1,"n":6}"#, &[r#"{"a":1}"#]),
        (&partial, r#"{"_id":1,"a":1,"n":5}"#, &[]),
        (&partial, r#"{"_id":1,"a":1}"#, &[]),
        (&folded, r#"{"_id":1,"a":"ZOË"}"#, &[r#"{"a":"zoe"}"#]),
        (&folded, r#"{"_id":1,"a":["É",{"K":"É"}]}"#, &[r#"{"a":"e"}"#, r#"{"a":{"K":"e"}}"#]),
        (&Index::on("a.0"), r#"{"_id":1,"a":[8,9]}"#, &[r#"{"a.0":8}"#]),
        (&Index::on("a.0"), r#"{"_id":1,"a":{"0":8}}"#, &[r#"{"a.0":8}"#]),
        (
            &Index::on("a").and("b.c"),
            r#"{"_id":1,"a":1,"b":[{"c":1},{"c":1}]}"#,
            &[r#"{"a":1,"b.c":1}"#],
        ),
    ];
    for (definition, document, want) in rows {
        assert_eq!(keys(definition, document).unwrap(), want, "{definition:?} {document}");
    }
}

#[test]
fn what_an_index_cannot_hold_is_named() {
    let refused = |index: &Index, document: &str| keys(index, document).unwrap_err().to_string();
    let text = refused(&Index::on("a").and("b.c"), r#"{"_id":"x","a":[1],"b":[{"c":2}]}"#);
    assert!(text.contains("a_b_c") && text.contains("\"x\"") && text.contains("both a and b.c"));
    let long = format!(r#"{{"_id":1,"a":"{}"}}"#, "x".repeat(1022));
    assert!(refused(&Index::on("a"), &long).contains("the value of a takes more than 1024 bytes"));
    assert_eq!(keys(&Index::hash("a"), &long).unwrap().len(), 1);
    let fits = format!(r#"{{"_id":1,"a":"{}"}}"#, "x".repeat(1021));
    assert_eq!(keys(&Index::on("a"), &fits).unwrap().len(), 1);
    let many = json!({"_id": 1, "a": (0..10_001).collect::<Vec<_>>()}).to_string();
    assert!(refused(&Index::on("a"), &many).contains("10000 entries"));
}

#[test]
fn entries_tell_what_the_document_says() {
    let rows: [(Index, &str, Option<&str>); 15] = [
        (Index::on("a"), r#"{"_id":1,"a":5,"x":1}"#, Some(r#"{"_id":1,"a":5}"#)),
        (Index::on("a"), r#"{"_id":1.0,"a":5.00}"#, Some(r#"{"_id":1.0,"a":5.00}"#)),
        (Index::on("a"), r#"{"_id":"x","a":1e400}"#, Some(r#"{"_id":"x","a":1e400}"#)),
        (
            Index::on("a"),
            r#"{"_id":1,"a":18446744073709551615}"#,
            None.or(Some(r#"{"_id":1,"a":18446744073709551615}"#)),
        ),
        (Index::on("a"), r#"{"_id":1}"#, Some(r#"{"_id":1}"#)),
        (Index::on("a"), r#"{"_id":1,"a":null}"#, Some(r#"{"_id":1,"a":null}"#)),
        (Index::on("a"), r#"{"_id":1,"a":[5]}"#, None),
        (Index::on("a.b"), r#"{"_id":1,"a":{}}"#, None),
        (Index::on("a.b"), r#"{"_id":1}"#, Some(r#"{"_id":1}"#)),
        (
            Index::on("a.b").and_descending("c").include("a.d.e").include("f"),
            r#"{"_id":1,"f":[1],"a":{"d":{"e":"\n"},"b":"x"},"c":-7}"#,
            None,
        ),
        (
            Index::on("a.b").and_descending("c").include("a.d.e").include("f"),
            r#"{"_id":1,"f":{"g":[1]},"a":{"d":{"e":"\n"},"b":"x"},"c":-7}"#,
            Some(r#"{"_id":1,"a":{"b":"x","d":{"e":"\n"}},"c":-7,"f":{"g":[1]}}"#),
        ),
        (
            Index::on("a").collation_case_insensitive(),
            r#"{"_id":1,"a":"Zoë"}"#,
            Some(r#"{"_id":1,"a":"Zoë"}"#),
        ),
        (Index::hash("a"), r#"{"_id":1,"a":"x"}"#, Some(r#"{"_id":1,"a":"x"}"#)),
        (Index::on("a"), r#"{"_id":1,"a":{"z":1,"b":2}}"#, Some(r#"{"_id":1,"a":{"z":1,"b":2}}"#)),
        (Index::on_descending("a"), r#"{"_id":[1,2],"a":true}"#, Some(r#"{"_id":[1,2],"a":true}"#)),
    ];
    for (definition, document, want) in rows {
        let index = index(&definition);
        let document = jb1_of(document);
        let id = Bytes::from(Id::from_jb1(jb1::get(&document, b"_id").unwrap()).unwrap().0);
        let entries = index.entries(&id, &document).unwrap();
        let (key, value) = &entries.pairs[0];
        let got = index.covered(key, value).map(|covered| text_of(&covered));
        assert_eq!(got.as_deref(), want, "{definition:?}");
    }
}

pub(super) fn store() -> Store {
    block_on(Store::open(small_options(&SimVfs::new(), &Arc::new(SimEnv::new(1))))).unwrap()
}

/// Documents and entries of every index say the same.
pub(super) fn check_against_documents(store: &Store, c: &Collection) {
    let core = store.core();
    let documents = c.existing().unwrap();
    let state = core.collection_state(documents).unwrap();
    let hold = Hold::new(core, false, core.log.last_seq());
    for index in &state.indexes {
        let mut want = Vec::new();
        let mut iter = core.iter(documents, &[], hold.seq).unwrap();
        while let Some(entry) = iter.next_visible().unwrap() {
            want.extend(index.entries(&entry.key, &entry.value.unwrap()).unwrap().pairs);
        }
        want.sort();
        let mut got = Vec::new();
        let mut iter = core.iter(index.keyspace, &[], hold.seq).unwrap();
        while let Some(entry) = iter.next_visible().unwrap() {
            got.push((entry.key, entry.value.unwrap()));
        }
        assert_eq!(got, want, "{}", index.name());
    }
}

#[test]
fn indexes_follow_documents() {
    let store = store();
    let c = store.collection("c").unwrap();
    block_on(async {
        for i in 0..50 {
            c.insert(&json!({"_id": i, "a": i % 7, "tags": [i, i + 1]})).await.unwrap();
        }
        c.create_index(Index::on("a").and_descending("_id")).await.unwrap();
        c.create_index(Index::on("tags")).await.unwrap();
        let email = Index::on("email").unique().sparse();
        c.create_index(email.clone()).await.unwrap();
        c.create_index(email).await.unwrap();
        check_against_documents(&store, &c);
        assert!(matches!(c.create_index(Index::on("email")).await, Err(Error::IndexExists { .. })));
        c.update(3, &Update::new().set("email", "x").set("a", Value::Null)).await.unwrap();
        c.update(4, &Update::new().set("email", "y").unset("tags")).await.unwrap();
        c.delete(5).await.unwrap();
        c.put(&json!({"_id": 6, "a": [1, 2], "tags": 3})).await.unwrap();
        let taken = c.insert(&json!({"_id": 90, "email": "x"})).await.unwrap_err();
        assert_eq!(taken.to_string(), r#"the unique index email holds {"email":"x"} already"#);
        check_against_documents(&store, &c);
        // A swap within one transaction is no violation.
        let tx = store.begin(Isolation::Serializable);
        tx.update(&c, 3, &Update::new().set("email", "y")).await.unwrap();
        tx.update(&c, 4, &Update::new().set("email", "x")).await.unwrap();
        tx.commit().await.unwrap();
        check_against_documents(&store, &c);
        let both = [json!({"email": "z"}), json!({"email": "z"})];
        assert!(matches!(c.insert_many(&both).await, Err(Error::DuplicateKey { .. })));
        check_against_documents(&store, &c);
        let infos = c.indexes();
        assert_eq!(infos.len(), 3);
        assert!(infos.iter().all(|info| info.is_ready));
        let multikey = infos.iter().map(|info| info.is_multikey).collect::<Vec<_>>();
        assert_eq!(multikey, [true, true, false]);
        c.drop_index("tags").await.unwrap();
        assert!(matches!(c.drop_index("tags").await, Err(Error::IndexAbsent { .. })));
        let again = c.create_index(Index::on("a").unique().name("u")).await.unwrap_err();
        assert!(matches!(again, Error::IndexNotUnique { .. }), "{again}");
        assert_eq!(c.indexes().len(), 2);
        check_against_documents(&store, &c);
    });
}

#[test]
fn only_changes_of_its_fields_concern_an_index() {
    let index = index(
        &Index::on("a.b").and("n").include("i").partial(json!({"$or": [{"p": 1}, {"q.r": 2}]})),
    );
    for path in ["a", "a.b", "a.b.c", "a.0.b", "a.$[].b", "n", "n.2", "i.x", "p", "q", "q.r.s", ""]
    {
        assert!(index.concerns(&[path]), "{path}");
    }
    for path in ["a.c", "ab", "a.0.c", "x", "q.s", "N"] {
        assert!(!index.concerns(&[path]), "{path}");
    }
    assert!(index.concerns(&["x", "p"]));
}
