//! Schemas and migrations.
#![cfg(feature = "schema")]

use hearth_jsonstore::{
    Error, Index, Migrations, Options, Result, SchemaMode, Store, Update, block_on,
};
use serde_json::{Value, json};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = block_on(Store::open(Options::new(dir.path()))).unwrap();
    (dir, store)
}

fn person() -> Value {
    json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": { "type": "string", "minLength": 1 },
            "age": { "type": "integer", "minimum": 0 },
        },
    })
}

#[test]
fn what_breaks_the_schema_is_refused_with_its_place() {
    let (dir, store) = store();
    block_on(async {
        let people = store.collection("people")?;
        for (id, age) in [(1, json!(3)), (2, json!(-4)), (3, json!("old")), (4, json!(5))] {
            people.put(&json!({"_id": id, "name": "x", "age": age})).await?;
        }
        // Half of what is stored breaks it: it stays, and is named.
        let report = people.set_schema(&person(), SchemaMode::Enforce).await?;
        assert_eq!((report.documents, report.offender_count), (4, 2));
        let named: Vec<String> = report.offenders.iter().map(|o| o.id.to_json()).collect();
        assert_eq!(named, ["2", "3"]);
        assert!(report.offenders[1].problems[0].starts_with("/age: "), "{report:?}");
        let refused = people.put(&json!({"_id": 5, "name": "", "age": 1.5})).await;
        let Err(Error::SchemaViolation { id, problems }) = refused else { panic!("{refused:?}") };
        assert_eq!((id.as_str(), problems.len()), ("5", 2));
        let refused = people.update(1, &Update::new().set("age", -1)).await;
        assert!(matches!(refused, Err(Error::SchemaViolation { .. })));
        assert!(people.update(1, &Update::new().set("age", 4)).await?);
        assert!(people.delete(2).await?, "whatever it looks like, it can go");
        // All or nothing.
        let many = [r#"{"_id":8,"name":"y"}"#, r#"{"_id":9}"#];
        assert!(people.insert_many(many).await.is_err());
        assert!(people.get(8).await?.is_none());
        drop(people);
        store.close().await?;
        let store = Store::open(Options::new(dir.path())).await?;
        let people = store.collection("people")?;
        assert!(people.put(r#"{"_id":9}"#).await.is_err(), "it is kept");
        people.remove_schema().await?;
        people.put(r#"{"_id":9}"#).await?;
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_warning_counts_and_lets_pass() {
    let (_dir, store) = store();
    block_on(async {
        let people = store.collection("people")?;
        people.set_schema(&person(), SchemaMode::Warn).await?;
        people.put(r#"{"_id":1}"#).await?;
        people.put(r#"{"_id":2,"name":"x"}"#).await?;
        let (count, offenders) = people.schema_offenders();
        assert_eq!((count, offenders[0].id.to_json()), (1, "1".to_owned()));
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_schema_that_makes_no_sense_changes_nothing() {
    let (_dir, store) = store();
    block_on(async {
        let people = store.collection("people")?;
        for schema in [
            json!({"type": "nonsense"}),
            json!({"$ref": "https://example.org/other.json"}),
            json!({"$ref": "file:///etc/passwd"}),
            json!({"pattern": "("}),
            json!({"description": "x".repeat(2 << 20)}),
        ] {
            let refused = people.set_schema(&schema, SchemaMode::Enforce).await;
            assert!(matches!(refused, Err(Error::InvalidSchema { .. })), "{refused:?}");
        }
        people.put(r#"{"_id":1}"#).await?;
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_schema_may_refer_to_itself() {
    let (_dir, store) = store();
    block_on(async {
        let trees = store.collection("trees")?;
        // It goes in a circle, or is refused; it ends the process in no case.
        if trees.set_schema(&json!({"$ref": "#"}), SchemaMode::Enforce).await.is_ok() {
            let _ = trees.put(r#"{"_id":0}"#).await;
            trees.remove_schema().await?;
        }
        let node = json!({
            "$defs": { "node": {
                "type": "object",
                "required": ["n"],
                "properties": { "child": { "$ref": "#/$defs/node" } },
            } },
            "$ref": "#/$defs/node",
        });
        trees.set_schema(&node, SchemaMode::Enforce).await?;
        let mut tree = json!({"n": 0});
        for n in 1..100 {
            tree = json!({"n": n, "child": tree});
        }
        tree["_id"] = json!(1);
        trees.put(&tree).await?;
        let deep = tree.to_string().replace(r#""n":0"#, r#""m":0"#);
        assert!(matches!(trees.put(&deep).await, Err(Error::SchemaViolation { .. })));
        Result::Ok(())
    })
    .unwrap();
}

/// Version 1 splits the name, version 2 counts visits.
fn migrations() -> Migrations {
    let split = |document: &mut Value| {
        let Some(name) = document["name"].as_str().map(str::to_owned) else { return Ok(()) };
        let (first, last) = name.split_once(' ').ok_or("there is no last name")?;
        document["name"] = json!({ "first": first, "last": last });
        Ok(())
    };
    let join = |document: &mut Value| {
        if let (Some(first), Some(last)) =
            (document["name"]["first"].as_str(), document["name"]["last"].as_str())
        {
            document["name"] = json!(format!("{first} {last}"));
        }
        Ok(())
    };
    let count = |document: &mut Value| {
        let visits = document["visits"].as_u64().unwrap_or(0);
        document["visits"] = json!(visits);
        Ok(())
    };
    let forget = |document: &mut Value| {
        document.as_object_mut().map(|fields| fields.remove("visits"));
        Ok(())
    };
    Migrations::new().then(split, join).then(count, forget)
}

#[test]
fn up_and_down_again() {
    let (dir, store) = store();
    block_on(async {
        let people = store.collection("people")?;
        people.create_index(Index::on("name.last")).await?;
        for id in 0..1000 {
            people.put(&json!({"_id": id, "name": format!("Ada L{id}")})).await?;
        }
        let before = people.scan(..).collect().await?;
        let dry = people.migrate_dry(&migrations(), 2).await?;
        assert_eq!((dry.documents, dry.changed, dry.failure_count), (1000, 1000, 0));
        assert_eq!((people.version(), people.scan(..).collect().await?.len()), (0, 1000));
        let mut told = Vec::new();
        let report = people.migrate_with_progress(&migrations(), 2, |done| told.push(done)).await?;
        assert_eq!((report.from, report.to, report.changed), (0, 2, 1000));
        assert!(told.len() >= 5 && told.is_sorted());
        let one = people.get(7).await?.unwrap().value();
        assert_eq!(one, json!({"_id": 7, "name": {"first": "Ada", "last": "L7"}, "visits": 0}));
        let filter = hearth_jsonstore::Filter::from_json(&json!({"name.last": "L7"}))?;
        assert_eq!(people.find(filter).count().await?, 1, "the index came along");
        drop(people);
        store.close().await?;
        let store = Store::open(Options::new(dir.path())).await?;
        let people = store.collection("people")?;
        assert_eq!(people.version(), 2);
        assert_eq!(people.migrate(&migrations(), 2).await?.documents, 0);
        people.migrate(&migrations(), 0).await?;
        let after = people.scan(..).collect().await?;
        let values = |all: Vec<hearth_jsonstore::Document>| -> Vec<Value> {
            all.iter().map(hearth_jsonstore::Document::value).collect()
        };
        assert_eq!(values(before), values(after));
        Result::Ok(())
    })
    .unwrap();
}

#[test]
fn one_that_is_refused_goes_on_later() {
    let (_dir, store) = store();
    block_on(async {
        let people = store.collection("people")?;
        for id in 0..500 {
            people.put(&json!({"_id": id, "name": "Ada Lovelace"})).await?;
        }
        people.put(r#"{"_id":450,"name":"Plato"}"#).await?;
        let dry = people.migrate_dry(&migrations(), 1).await?;
        assert_eq!((dry.failure_count, dry.failures[0].0.to_json()), (1, "450".to_owned()));
        let refused = people.migrate(&migrations(), 1).await;
        let Err(Error::Migration { id, to, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!((id.as_str(), to), ("450", 1));
        assert_eq!(people.version(), 0);
        assert!(people.get(0).await?.unwrap().value()["name"].is_object(), "some are done");
        let other = people.migrate(&migrations(), 2).await;
        assert!(matches!(other, Err(Error::MigrationUnderWay { from: 0, to: 1 })));
        people.put(r#"{"_id":450,"name":"Plato Aristocles"}"#).await?;
        assert_eq!(people.migrate(&migrations(), 1).await?.changed, 100);
        assert_eq!(people.version(), 1);
        let unknown = people.migrate(&Migrations::new(), 0).await;
        assert!(matches!(unknown, Err(Error::UnknownVersion { found: 1, newest: 0 })));
        Result::Ok(())
    })
    .unwrap();
}
