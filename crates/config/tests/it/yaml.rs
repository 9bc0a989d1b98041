//! What is peculiar to YAML.

use std::collections::BTreeMap;

use hearth_config::{Format, Loader, Spanned};
use serde::Deserialize;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Config {
    name: Spanned<String>,
    port: u16,
    tls: Option<bool>,
    sites: Vec<BTreeMap<String, String>>,
}

#[test]
fn documents() {
    let text = "# é\nname: 'é'\nport: 0x50\ntls:\nsites:\n  - host: a\n    root: |\n      x\n  - {host: no}\n\n";
    let loaded = Loader::new().text("a.yaml", Format::Yaml, text).load::<Config>();
    let loaded = loaded.unwrap_or_else(|report| panic!("{report}"));
    let site = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>()
    };
    let want = Config {
        name: "é".to_owned().into(),
        port: 80,
        tls: None,
        sites: vec![site(&[("host", "a"), ("root", "x\n")]), site(&[("host", "no")])],
    };
    assert_eq!(loaded.config, want);
    let span = loaded.config.name.span();
    assert_eq!(loaded.document.sources().text(span), Some("'é'"));
    for empty in ["", "# only a comment\n", "---\n...\n", "{}"] {
        let loaded = Loader::new().text("a.yaml", Format::Yaml, empty).load::<Config>();
        assert_eq!(loaded.unwrap_or_else(|report| panic!("{report}")).config, Config::default());
    }
}

#[test]
fn errors() {
    for (text, want) in [
        ("prot: 1", "unknown key `prot`\n --> a.yaml:1:1\n"),
        (
            "port: 'x'",
            "`port` must be an integer from 0 to 65535, found a string\n --> a.yaml:1:7\n",
        ),
        ("port: 1\nport: 2", "duplicate key `port`\n --> a.yaml:2:1\n"),
        (
            "sites:\n- &a {}\n- *a",
            "an alias is not supported in a YAML configuration\n --> a.yaml:3:3\n",
        ),
        ("port: !!int 1", "a tag is not supported in a YAML configuration\n --> a.yaml:1:7\n"),
        (
            "port: 1\n---\nport: 2",
            "a second document is not supported in a YAML configuration\n --> a.yaml:2:1\n",
        ),
        (
            "[a]: 1",
            "a key that is no plain text is not supported in a YAML configuration\n --> a.yaml:1:1\n",
        ),
        ("- 1", "the configuration must be a table, found an array\n --> a.yaml:1:1\n"),
        ("port: [", "not valid YAML: "),
        ("a: 1\n b: 2", "not valid YAML: "),
    ] {
        let report = Loader::new().text("a.yaml", Format::Yaml, text).load::<Config>();
        let got = report.expect_err("an error").to_string();
        assert!(got.contains(want), "{text:?}:\n{got}");
    }
}
