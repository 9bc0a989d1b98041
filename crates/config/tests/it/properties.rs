//! What holds for every input.

use std::collections::BTreeMap;

use hearth_config::{Format, Loader, Report, Spanned, Style};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    a: u8,
    b: Option<Spanned<String>>,
    c: Vec<Nested>,
    d: BTreeMap<Spanned<String>, f64>,
    e: Choice,
    password: String,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only decoded")]
struct Nested {
    a: bool,
    b: (u8, String),
    #[serde(default)]
    c: Vec<Self>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "only decoded")]
enum Choice {
    #[default]
    A,
    B(u8),
    C {
        a: u8,
    },
}

/// Text that comes near to what the parsers know, so that it gets past their first byte.
fn near_text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("a"),
        Just("b"),
        Just("c"),
        Just("d"),
        Just("e"),
        Just("password"),
        Just("zz"),
        Just(" = "),
        Just(": "),
        Just("."),
        Just(","),
        Just("\n"),
        Just("["),
        Just("]"),
        Just("[["),
        Just("]]"),
        Just("{"),
        Just("}"),
        Just("\""),
        Just("'"),
        Just("\\"),
        Just("\\u00e9"),
        Just("1"),
        Just("-"),
        Just("1.5"),
        Just("1e9"),
        Just("true"),
        Just("null"),
        Just("世"),
        Just("#"),
        Just("\t"),
        Just("\r\n"),
        Just("\u{1b}"),
        Just("  "),
        Just("- "),
        Just("&x "),
        Just("*x"),
        Just("!t "),
        Just("---\n"),
        Just("|\n"),
        Just("1979-05-27"),
        Just("\u{feff}"),
    ];
    proptest::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

fn formats() -> Vec<Format> {
    vec![
        Format::Json,
        Format::Toml,
        #[cfg(feature = "yaml")]
        Format::Yaml,
    ]
}

/// Every report can be shown, says something, and every place it names is in its text.
fn check_report(report: &Report) {
    assert!(report.errors() > 0);
    for diagnostic in report.diagnostics() {
        assert!(diagnostic.help().is_some(), "no help: {diagnostic:?}");
        for label in diagnostic.primary().into_iter().chain(diagnostic.labels()) {
            assert!(report.sources().text(label.span).is_some(), "{diagnostic:?}");
        }
    }
    let human = report.to_human(Style::Plain);
    assert!(!human.contains(|c: char| c.is_control() && c != '\n'), "{human:?}");
    report.to_human(Style::Ansi);
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
    assert_eq!(json["errors"], report.errors());
}

fn check(text: &str) {
    for format in formats() {
        match Loader::new().text("x", format, text).load::<Config>() {
            Ok(loaded) => drop(loaded.document.explain()),
            Err(report) => check_report(&report),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_reported(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn near_text_is_read_or_reported(text in near_text()) {
        check(&text);
    }

    #[test]
    fn any_override_is_applied_or_reported(
        name in "(A|B|C|D|E|_|__|0|PASSWORD){0,6}", value in near_text(), argument in near_text(),
    ) {
        let loader = Loader::new()
            .text("x", Format::Toml, "c = [{ a = true, b = [1, 'x'] }]")
            .environment("X_", [(format!("X_{name}").into(), value.into())])
            .assign("--set", argument);
        if let Err(report) = loader.load::<Config>() {
            check_report(&report);
        }
    }

    /// `serde_json` knows JSON; where it finds a value, so do we, and the same one.
    #[test]
    fn json_is_what_serde_json_says(text in near_text()) {
        same_json(&text);
    }

    #[test]
    fn json_documents_round_trip(value in json_value()) {
        same_json(&value.to_string());
        same_json(&serde_json::to_string_pretty(&value).expect("JSON"));
    }
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Value, json};
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Eighths: without `float_roundtrip`, `serde_json` rounds the last digit the wrong way.
        any::<i32>().prop_map(|n| json!(f64::from(n) / 8.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

#[track_caller]
fn same_json(text: &str) {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Any(serde_json::Value);
    let ours = Loader::new()
        .text("x", Format::Json, text)
        .read()
        .and_then(|mut document| document.decode::<Any>());
    // A byte order mark is a matter of the loader, not of JSON.
    let theirs = serde_json::from_str::<serde_json::Value>(text.trim_start_matches('\u{feff}'));
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => assert_eq!(&ours.0, theirs, "{text:?}"),
        (Err(_), Err(_)) => {}
        // We refuse what they resolve silently.
        (Err(report), Ok(_)) => assert!(report.to_string().contains("duplicate key"), "{report}"),
        (Ok(ours), Err(theirs)) => panic!("{text:?}: {:?} against {theirs}", ours.0),
    }
}

#[test]
fn deep_text_does_not_exhaust_the_stack() {
    for depth in [100, 10_000, 200_000] {
        for text in [
            "[".repeat(depth),
            format!("a = {}{}", "[".repeat(depth), "]".repeat(depth)),
            format!("a = {}", "{a=".repeat(depth)),
            format!("{} = 1", vec!["a"; depth].join(".")),
            format!("[{}]", vec!["a"; depth].join(".")),
            "{\"a\":".repeat(depth),
            format!("{}{}", "[".repeat(depth), "]".repeat(depth)),
            "- ".repeat(depth.min(10_000)),
        ] {
            check(&text);
        }
    }
    // Each level of braces may hold a dotted key that is long in itself.
    let key = vec!["a"; 70].join(".");
    check(&format!("{}1{}", format!("{key} = {{").repeat(70), "}".repeat(70)));
}

/// The parsers and the passes of the decoder are near linear: no input is a denial of service.
#[test]
fn many_errors_end_soon() {
    let text = "zz = { a = 1 }\n".to_owned() + &"[[c]]\na = 1\nb = 2\n".repeat(3000);
    let report = Loader::new()
        .text("x", Format::Toml, text)
        .load::<Config>()
        .expect_err("all of it is wrong");
    assert_eq!(report.errors(), 50);
    assert!(report.is_truncated());
}
