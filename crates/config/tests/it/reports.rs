//! Reports beyond the plain text: JSON, colours, semantic errors, the manual.

use std::{collections::BTreeMap, path::Path};

use hearth_config::{Code, Diagnostic, Format, Loader, Severity, Spanned, Style, codes};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Config {
    sites: Vec<Site>,
}

#[derive(Debug, Deserialize)]
struct Site {
    host: Spanned<String>,
}

/// Types that serde buffers, or that read keys as something else than text.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Odd {
    tagged: Option<Tagged>,
    untagged: Option<Untagged>,
    pair: Option<(u8, Spanned<String>)>,
    numbered: BTreeMap<u8, bool>,
    named: BTreeMap<Word, i64>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Tagged {
    File { path: Spanned<String> },
    Off,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Many(Vec<u16>),
    One(u16),
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    A,
    B,
}

const DUPLICATE_HOST: Code = Code::new("H-TEST-001", "two sites have the same host");

#[test]
fn semantic_errors_have_two_places() {
    let text = "[[sites]]\nhost = 'a.test'\n\n[[sites]]\nhost = 'a.test'\n";
    let loaded = Loader::new()
        .text("hearth.toml", Format::Toml, text)
        .load::<Config>()
        .expect("a valid configuration");
    let [first, second] = &loaded.config.sites[..] else { panic!("two sites") };
    assert_eq!(first.host, second.host);
    let mut report = loaded.document.report();
    report.push(Diagnostic::warning(DUPLICATE_HOST, "only a warning"));
    assert!(!report.has_errors());
    let (_, mut report) = report.into_result(()).expect("no errors yet");
    report.push(
        Diagnostic::error(DUPLICATE_HOST, "two sites have the host a.test")
            .at(second.host.span(), "taken")
            .with_label(first.host.span(), "first used here")
            .with_key("sites[1].host")
            .with_help("give one of them another host"),
    );
    assert_eq!(
        report.to_string(),
        "warning[H-TEST-001]: only a warning
  = docs: docs/errors.md#h-test-001

error[H-TEST-001]: two sites have the host a.test
 --> hearth.toml:5:8
  |
5 | host = 'a.test'
  |        ^^^^^^^^ taken
 ::: hearth.toml:2:8
  |
2 | host = 'a.test'
  |        -------- first used here
  = help: give one of them another host
  = docs: docs/errors.md#h-test-001

1 error, 1 warning
"
    );
    let report = report.into_result(()).expect_err("an error");
    assert_eq!(report.diagnostics()[1].severity(), Severity::Error);
}

#[test]
fn json_form() {
    let report = Loader::new()
        .text("hearth.toml", Format::Toml, "sites = []\nsties = 1\n")
        .load::<Config>()
        .expect_err("an error");
    let want = serde_json::json!({
        "errors": 1,
        "warnings": 0,
        "truncated": false,
        "diagnostics": [{
            "code": "H-CFG-004",
            "title": "unknown key",
            "severity": "error",
            "message": "unknown key `sties`",
            "key": "sties",
            "location": {
                "origin": "text",
                "name": "hearth.toml",
                "line": 2,
                "column": 1,
                "end_line": 2,
                "end_column": 6,
                "label": "not a key of the top level",
            },
            "labels": [],
            "notes": ["allowed keys: `sites`"],
            "help": "did you mean `sites`?",
            "docs": "docs/errors.md#h-cfg-004",
        }],
    });
    let got: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
    assert_eq!(got, want);
}

#[test]
fn colours_change_nothing_but_colours() {
    let report = Loader::new()
        .text("hearth.toml", Format::Toml, "sites = [{ hots = 1 }, { host = 2 }]")
        .load::<Config>()
        .expect_err("an error");
    let (plain, mut ansi) = (report.to_human(Style::Plain), report.to_human(Style::Ansi));
    assert!(ansi.contains("\x1b[1;31merror[H-CFG-004]\x1b[0m"), "{ansi:?}");
    for code in ["\x1b[1;31m", "\x1b[1;34m", "\x1b[1m", "\x1b[0m"] {
        ansi = ansi.replace(code, "");
    }
    assert_eq!(ansi, plain);
}

#[test]
fn the_manual_has_every_code() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md");
    let manual = std::fs::read_to_string(manual).expect("the manual");
    for code in codes::ALL {
        let title = code.title();
        let heading = format!("### {code}\n**{}{}.**", title[..1].to_uppercase(), &title[1..]);
        assert!(manual.contains(&heading), "docs/errors.md lacks {heading:?}");
    }
}

#[test]
fn odd_types() {
    let text = "tagged = { type = 'file', path = 'p' }
untagged = [1, 2]
pair = [1, 'x']
numbered = { 1 = true }
named = { b = 2 }
";
    let load = |text: &str| Loader::new().text("odd.toml", Format::Toml, text).load::<Odd>();
    let want = Odd {
        tagged: Some(Tagged::File { path: "p".to_owned().into() }),
        untagged: Some(Untagged::Many(vec![1, 2])),
        pair: Some((1, "x".to_owned().into())),
        numbered: [(1, true)].into(),
        named: [(Word::B, 2)].into(),
    };
    assert_eq!(load(text).expect("a valid configuration").config, want);
    for (variable, want) in [("3", Untagged::One(3)), ("[4]", Untagged::Many(vec![4]))] {
        let loader = Loader::new().set("--untagged", "untagged", variable);
        let config = loader.load::<Odd>().expect("a valid configuration").config;
        assert_eq!(config.untagged, Some(want));
    }

    for (text, want) in [
        ("tagged = { type = 'file', a = 1, b = 2 }", "unknown key `a`\n --> odd.toml:1:27\n"),
        ("tagged = { type = 'of' }", "`tagged.type` cannot be `of`\n --> odd.toml:1:19\n"),
        ("tagged = { path = 'x' }", "`tagged` lacks the key `type`\n --> odd.toml:1:10\n"),
        (
            "untagged = 'x'",
            "`untagged`: data did not match any variant of untagged enum Untagged\n",
        ),
        ("pair = [1]", "`pair` has 1 values\n --> odd.toml:1:8\n"),
        ("pair = [1, 'x', 2]", "`pair` has 3 values\n --> odd.toml:1:8\n"),
        ("numbered = { 300 = true }", "`numbered.300` cannot be 300\n --> odd.toml:1:14\n"),
        ("named = { c = 1 }", "`named.c` cannot be `c`\n --> odd.toml:1:11\n"),
    ] {
        let got = load(text).expect_err("an error").to_string();
        assert!(got.contains(want), "{text:?}:\n{got}");
    }
}
