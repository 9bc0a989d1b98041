//! File, variables, arguments: which one wins, what they can say, and what `explain` and `diff` tell.

use std::{collections::BTreeMap, ffi::OsString, fs, net::SocketAddr, path::PathBuf};

use hearth_config::{
    ByteSize, Format, HumanDuration, Limits, Loader, Search, Secret, Spanned, codes, diff,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Config {
    port: u16,
    debug: bool,
    name: String,
    ratio: f64,
    timeout: HumanDuration,
    body_max: ByteSize,
    tags: Vec<String>,
    ports: Vec<u16>,
    tls: Option<Tls>,
    sites: Vec<Site>,
    headers: BTreeMap<String, String>,
    level: Level,
    password: Secret<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: 80,
            debug: false,
            name: "hearth".to_owned(),
            ratio: 0.5,
            timeout: HumanDuration::from_secs(10),
            body_max: ByteSize::mib(1),
            tags: Vec::new(),
            ports: Vec::new(),
            tls: None,
            sites: Vec::new(),
            headers: BTreeMap::new(),
            level: Level::Info,
            password: Secret::default(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tls {
    cert_file: PathBuf,
    #[serde(default)]
    bind: Option<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Site {
    host: String,
    root: Spanned<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Debug,
    Info,
}

fn variables(list: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    list.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn loader(text: &str, list: &[(&str, &str)]) -> Loader {
    Loader::new()
        .text("app.toml", Format::Toml, text)
        .environment("APP_", variables(list))
        .environment_alias("PORT", "port")
        .environment_reserved("APP_CONFIG")
}

#[track_caller]
fn config(loader: Loader) -> Config {
    loader.load().unwrap_or_else(|report| panic!("{report}")).config
}

#[track_caller]
fn error(loader: Loader) -> String {
    match loader.load::<Config>() {
        Ok(loaded) => panic!("nothing wrong: {:?}", loaded.config),
        Err(report) => report.to_string(),
    }
}

#[test]
fn later_layers_win() {
    assert_eq!(config(Loader::new()), Config::default());
    let file = "port = 1\n";
    assert_eq!(config(loader(file, &[])).port, 1);
    assert_eq!(config(loader(file, &[("PORT", "2")])).port, 2);
    assert_eq!(config(loader(file, &[("PORT", "2"), ("APP_PORT", "3")])).port, 3);
    let all = loader(file, &[("APP_PORT", "3")]).set("--port", "port", "4");
    assert_eq!(config(all.clone()).port, 4);
    assert_eq!(config(all.assign("--set", "port=5")).port, 5);
}

#[test]
fn text_becomes_what_its_key_asks_for() {
    let got = config(loader(
        "[[sites]]\nhost = 'a'\nroot = 'x'\n",
        &[
            ("APP_DEBUG", "on"),
            ("APP_NAME", "0123"),
            ("APP_RATIO", "1"),
            ("APP_TIMEOUT", "5m"),
            ("APP_BODY_MAX", "65536"),
            ("APP_TAGS", "a, b ,c"),
            ("APP_PORTS", "[1, 2]"),
            ("APP_TLS", "{ cert_file = 'c.pem', bind = '[::1]:443' }"),
            ("APP_SITES__0__ROOT", "/srv"),
            ("APP_HEADERS__X_ID", "1"),
            ("APP_LEVEL", "debug"),
            ("APP_PASSWORD", "12345"),
        ],
    ));
    let want = Config {
        debug: true,
        name: "0123".to_owned(),
        ratio: 1.0,
        timeout: HumanDuration::from_secs(300),
        body_max: ByteSize::kib(64),
        tags: ["a", "b", "c"].map(str::to_owned).to_vec(),
        ports: vec![1, 2],
        tls: Some(Tls {
            cert_file: "c.pem".into(),
            bind: Some("[::1]:443".parse().expect("an address")),
        }),
        sites: vec![Site { host: "a".to_owned(), root: PathBuf::from("/srv").into() }],
        headers: [("x_id".to_owned(), "1".to_owned())].into(),
        level: Level::Debug,
        password: Secret::new("12345".to_owned()),
        ..Config::default()
    };
    assert_eq!(got, want);
    assert_eq!(config(loader("", &[("APP_BODY_MAX", "64k")])).body_max, ByteSize::kib(64));
    assert_eq!(config(loader("", &[("APP_PORTS", "80,443")])).ports, [80, 443]);
    assert_eq!(config(Loader::new().set("--tag", "tags", "")).tags, [""; 0]);
}

#[test]
fn names_of_variables() {
    // Dashes, capitals; the key as the file spells it.
    let got = config(loader("[headers]\nX-Id = 'a'\n", &[("APP_HEADERS__X_ID", "b")]));
    assert_eq!(got.headers, [("X-Id".to_owned(), "b".to_owned())].into());
    // Not ours, empty, reserved.
    let passed = [
        ("APPLE", "1"),
        ("APP_", "1"),
        ("APP_PROT", ""),
        ("APP_CONFIG", "x"),
        ("APP_SERVICE_HOST", "10.0.0.1"),
        ("APP_SERVICE_PORT_HTTP", "80"),
        ("APP_PORT", "tcp://10.0.0.1:80"),
        ("APP_PORT_80_TCP_ADDR", "10.0.0.1"),
    ];
    assert_eq!(config(loader("", &passed)), Config::default());
}

#[test]
fn arguments_name_any_key() {
    let file = "[[sites]]\n[[sites]]\nhost = 'a'\n[headers]\n'a.b' = 'x'\n";
    let got = config(
        loader(file, &[]).assign("--set", "sites[1].host=b").assign("--set", "headers.'a.b'=y=z"),
    );
    assert_eq!(got.sites[1].host, "b");
    assert_eq!(got.headers["a.b"], "y=z");
}

#[track_caller]
fn check(loader: Loader, want: &str) {
    let got = error(loader);
    assert_eq!(got, want, "\n--- got\n{got}\n---");
}

#[test]
fn overrides_that_are_wrong() {
    check(
        loader("port = 80", &[("APP_PORT", "eighty")]),
        "error[H-CFG-005]: `port` must be an integer from 0 to 65535, found a string
 --> environment variable APP_PORT
  |
  | APP_PORT=eighty
  |          ^^^^^^ expected an integer from 0 to 65535
  = help: set it to an integer from 0 to 65535
  = docs: docs/errors.md#h-cfg-005

1 error
",
    );
    check(
        loader("", &[("APP_PROT", "80"), ("APP_TLS__CERT_FIEL", "x")]),
        "error[H-CFG-004]: unknown key `prot`
 --> environment variable APP_PROT
  |
  | APP_PROT=80
  |     ^^^^ not a key of the top level
  = note: allowed keys: `port`, `debug`, `name`, `ratio`, `timeout`, `body_max`, `tags`, `ports`, \
`tls`, `sites`, `headers`, `level`, `password`
  = help: did you mean `port`?
  = docs: docs/errors.md#h-cfg-004

error[H-CFG-004]: unknown key `cert_fiel`
 --> environment variable APP_TLS__CERT_FIEL
  |
  | APP_TLS__CERT_FIEL=x
  |          ^^^^^^^^^ not a key of `tls`
  = note: allowed keys: `cert_file`, `bind`
  = help: did you mean `cert_file`?
  = docs: docs/errors.md#h-cfg-004

2 errors
",
    );
    check(
        loader(
            "port = 80",
            &[("APP_PORT__X", "1"), ("APP_SITES__0__HOST", "a"), ("APP_A____B", "1")],
        )
        .assign("--set", "port")
        .assign("--set", "a b=1"),
        "error[H-CFG-010]: an empty name in a key path
 --> environment variable APP_A____B
  |
  | APP_A____B=1
  |        ^ empty
  = help: separate the names by two underscores: SECTION__KEY
  = docs: docs/errors.md#h-cfg-010

error[H-CFG-010]: `port` is an integer, so `x` cannot be set in it
 --> environment variable APP_PORT__X
  |
  | APP_PORT__X=1
  |           ^ cannot be set
 ::: app.toml:1:8
  |
1 | port = 80
  |        -- this value
  = help: remove one of the two
  = docs: docs/errors.md#h-cfg-010

error[H-CFG-010]: the argument has no `=`
 --> command line, --set
  |
  | --set port
  |       ^^^^
  = help: write it as --set table.key=value
  = docs: docs/errors.md#h-cfg-010

error[H-CFG-010]: not a key path
 --> command line, --set
  |
  | --set a b=1
  |       ^
  = help: write it as --set table.key=value
  = docs: docs/errors.md#h-cfg-010

4 errors
",
    );
    check(
        loader("[[sites]]\n", &[("APP_SITES__1__HOST", "a")]),
        "error[H-CFG-010]: `sites` has no entry `1`
 --> environment variable APP_SITES__1__HOST
  |
  | APP_SITES__1__HOST=a
  |            ^ no such entry
  = help: entries go from 0 to 0
  = docs: docs/errors.md#h-cfg-010

1 error
",
    );
    check(
        Loader::new().set("--ports", "ports", "1, x").set("--tls", "tls", "{ cert_file = 1 }"),
        "error[H-CFG-005]: `ports[1]` must be an integer from 0 to 65535, found a string
 --> command line, --ports
  |
  | --ports 1, x
  |            ^ expected an integer from 0 to 65535
  = help: set it to an integer from 0 to 65535
  = docs: docs/errors.md#h-cfg-005

error[H-CFG-005]: `tls.cert_file` must be a path, found an integer
 --> command line, --tls
  |
  | --tls { cert_file = 1 }
  |                     ^ expected a path
  = help: set it to a path
  = docs: docs/errors.md#h-cfg-005

2 errors
",
    );
}

#[test]
fn explain_names_the_source() {
    let file = "password = 'hunter2'\ntags = ['a', 'b']\nport = 1\n[[sites]]\nhost = 'h'\n";
    let loaded = loader(file, &[("APP_PORT", "2"), ("APP_PASSWORD", "hunter3")])
        .set("--port", "port", "3")
        .load::<Config>()
        .expect("a valid configuration");
    let lines: Vec<_> = loaded.explain().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines.join("\n"),
        "password = [redacted]  # environment variable APP_PASSWORD, over [redacted] from app.toml:1:12
tags = [\"a\", \"b\"]  # app.toml:2:8
port = 3  # command line, --port, over 2 from environment variable APP_PORT, over 1 from app.toml:3:8
sites[0].host = \"h\"  # app.toml:5:8
body_max = \"1 MiB\"  # default
debug = false  # default
headers = {}  # default
level = \"info\"  # default
name = \"hearth\"  # default
ports = []  # default
ratio = 0.5  # default
sites[0].root = \"\"  # default
timeout = \"10s\"  # default"
    );
    assert!(!format!("{loaded:?}").contains("hunter"), "{loaded:?}");
}

#[test]
fn diff_lists_changed_keys() {
    let read = |loader: Loader| loader.read().expect("a valid document");
    let old = read(loader(
        "port = 80\nname = 'a'\ntags = ['x']\npassword = 'p'\n[[sites]]\nhost = 'h'\n",
        &[],
    ));
    let new = read(loader(
        "debug = true\ntags = ['y']\npassword = 'q'\n[[sites]]\nhost = 'h'\n[[sites]]\nhost = 'i'\n",
        &[("PORT", "80")],
    ));
    let lines: Vec<_> = diff(&old, &new).iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "debug: not set -> true",
            "name: \"a\" -> not set",
            "password: [redacted] -> [redacted]",
            "sites[1].host: not set -> \"i\"",
            "tags: [\"x\"] -> [\"y\"]",
        ]
    );
    assert_eq!(diff(&new, &new), []);
}

#[test]
fn files() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    let put = |name: &str, bytes: &[u8]| {
        fs::write(path(name), bytes).expect("a file");
        path(name)
    };
    let code = |path: PathBuf| {
        let report = Loader::new().file(path).load::<Config>().expect_err("an error");
        let diagnostic = &report.diagnostics()[0];
        let place = diagnostic.primary().map(|label| {
            report.sources().location(label.span).to_string().rsplit('/').next().map(str::to_owned)
        });
        (diagnostic.code(), place.flatten())
    };
    assert_eq!(code(path("none.toml")), (codes::FILE_NOT_FOUND, None));
    assert_eq!(code(dir.path().to_owned()), (codes::FILE_UNREADABLE, None));
    assert_eq!(code(put("a.ini", b"")), (codes::UNKNOWN_FORMAT, None));
    let latin = put("latin.toml", b"port = 1\nname = \"caf\xe9\"\n");
    assert_eq!(code(latin), (codes::FILE_UNREADABLE, Some("latin.toml:2:12".to_owned())));

    let bom = put("bom.toml", b"\xef\xbb\xbfport = 7\r\n");
    assert_eq!(config(Loader::new().file(bom)).port, 7);
    let bare = put("hearthrc", b"port = 8");
    assert_eq!(config(Loader::new().file(bare.clone())).port, 8);
    let mut limits = Limits::default();
    limits.file_bytes_max = 7;
    let report = Loader::new().file(bare).limits(limits).read().expect_err("too large");
    assert_eq!(report.diagnostics()[0].code(), codes::FILE_UNREADABLE);
}

#[test]
fn paths_are_relative_to_their_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("app.toml");
    fs::write(&file, "[[sites]]\nroot = 'www'\n[[sites]]\nroot = '/srv'\n").expect("a file");
    let loaded = Loader::new().file(&file).load::<Config>().expect("a valid configuration");
    let roots: Vec<_> =
        loaded.config.sites.iter().map(|site| loaded.document.resolve(&site.root)).collect();
    assert_eq!(roots, [dir.path().join("www"), PathBuf::from("/srv")]);
    let moved = Loader::new()
        .file(&file)
        .assign("--set", "sites[0].root=www")
        .load::<Config>()
        .expect("a valid configuration");
    assert_eq!(moved.document.resolve(&moved.config.sites[0].root), PathBuf::from("www"));
}

#[test]
fn search_finds_the_best_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let (near, far) = (dir.path().join("near"), dir.path().join("far"));
    for dir in [&near, &far] {
        fs::create_dir(dir).expect("a directory");
    }
    let search = Search::in_directories("app", [near.clone(), far.clone()]);
    assert_eq!(search.find(), None);
    for (name, dir) in [("app.toml", &far), ("app.json", &near), ("app.toml", &near)] {
        fs::write(dir.join(name), "").expect("a file");
        assert_eq!(search.find(), Some(dir.join(name)));
    }
}

#[cfg(unix)]
#[test]
fn usual_places() {
    let places = |list: &[(&str, &str)]| {
        let list: BTreeMap<_, _> = list.iter().copied().collect();
        let search = Search::with_variables("app", |name| list.get(name).map(Into::into));
        let toml = search.candidates().filter(|path| path.extension().is_some_and(|e| e == "toml"));
        toml.map(|path| path.display().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(places(&[]), ["app.toml", "/etc/app/app.toml"]);
    assert_eq!(
        places(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "relative")]),
        ["app.toml", "/home/a/.config/app/app.toml", "/etc/app/app.toml"]
    );
    assert_eq!(
        places(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/cfg")]),
        ["app.toml", "/cfg/app/app.toml", "/etc/app/app.toml"]
    );
}
