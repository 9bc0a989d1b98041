//! What is printed for wrong input, to the letter.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use hearth_config::{ByteSize, Format, HumanDuration, Loader, Report, Secret, Spanned};
use serde::Deserialize;

/// One of everything that a configuration is made of.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    name: String,
    workers: Option<u16>,
    ratio: f64,
    listen: Listen,
    sites: Vec<Site>,
    headers: BTreeMap<Spanned<String>, String>,
    log: Log,
    admin: Option<Admin>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Listen {
    address: Option<IpAddr>,
    port: u16,
    tls: bool,
    idle_timeout: HumanDuration,
    header_bytes_max: ByteSize,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only decoded")]
struct Site {
    host: Spanned<String>,
    root: PathBuf,
    #[serde(default)]
    index: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "only decoded")]
enum Log {
    #[default]
    Off,
    Combined,
    Json,
    File {
        path: PathBuf,
        keep: u8,
    },
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only decoded")]
struct Admin {
    password: Secret<ByteSize>,
    pin: Secret<u16>,
}

fn errors(format: Format, text: &str) -> Report {
    let name = if format == Format::Json { "app.json" } else { "app.toml" };
    match Loader::new().text(name, format, text).load::<Config>() {
        Ok(loaded) => panic!("nothing wrong: {:?}", loaded.config),
        Err(report) => report,
    }
}

#[track_caller]
pub(crate) fn check(format: Format, text: &str, want: &str) {
    let got = errors(format, text).to_string();
    assert_eq!(got, want, "\n--- got\n{got}\n---");
}

#[test]
fn unknown_keys() {
    check(
        Format::Toml,
        "prot = 1",
        r"error[H-CFG-004]: unknown key `prot`
 --> app.toml:1:1
  |
1 | prot = 1
  | ^^^^ not a key of the top level
  = note: allowed keys: `name`, `workers`, `ratio`, `listen`, `sites`, `headers`, `log`, `admin`
  = help: use one of the allowed keys, or remove it
  = docs: docs/errors.md#h-cfg-004

1 error
",
    );
    check(
        Format::Toml,
        r#"listen.prot = 1
adress = "::1"
"#,
        r#"error[H-CFG-004]: unknown key `prot`
 --> app.toml:1:8
  |
1 | listen.prot = 1
  |        ^^^^ not a key of `listen`
  = note: allowed keys: `address`, `port`, `tls`, `idle_timeout`, `header_bytes_max`
  = help: did you mean `port`?
  = docs: docs/errors.md#h-cfg-004

error[H-CFG-004]: unknown key `adress`
 --> app.toml:2:1
  |
2 | adress = "::1"
  | ^^^^^^ not a key of the top level
  = note: allowed keys: `name`, `workers`, `ratio`, `listen`, `sites`, `headers`, `log`, `admin`
  = help: use one of the allowed keys, or remove it
  = docs: docs/errors.md#h-cfg-004

2 errors
"#,
    );
    check(
        Format::Toml,
        r"[[sites]]
hots = 'a'
root = 'x'

[[sites]]
host = 'b'
root = 'y'
Index = []
",
        r"error[H-CFG-004]: unknown key `hots`
 --> app.toml:2:1
  |
2 | hots = 'a'
  | ^^^^ not a key of `sites[0]`
  = note: allowed keys: `host`, `root`, `index`
  = help: did you mean `host`?
  = docs: docs/errors.md#h-cfg-004

error[H-CFG-004]: unknown key `Index`
 --> app.toml:8:1
  |
8 | Index = []
  | ^^^^^ not a key of `sites[1]`
  = note: allowed keys: `host`, `root`, `index`
  = help: did you mean `index`?
  = docs: docs/errors.md#h-cfg-004

2 errors
",
    );
}

#[test]
fn wrong_types() {
    check(
        Format::Toml,
        r#"workers = "4"
ratio = '1.5'
name = 1
sites = 'x'
"#,
        r#"error[H-CFG-005]: `workers` must be an integer from 0 to 65535, found a string
 --> app.toml:1:11
  |
1 | workers = "4"
  |           ^^^ expected an integer from 0 to 65535
  = help: write it without quotes: 4
  = docs: docs/errors.md#h-cfg-005

error[H-CFG-005]: `ratio` must be a number, found a string
 --> app.toml:2:9
  |
2 | ratio = '1.5'
  |         ^^^^^ expected a number
  = help: write it without quotes: 1.5
  = docs: docs/errors.md#h-cfg-005

error[H-CFG-005]: `name` must be a string, found an integer
 --> app.toml:3:8
  |
3 | name = 1
  |        ^ expected a string
  = help: put it in quotes: "1"
  = docs: docs/errors.md#h-cfg-005

error[H-CFG-005]: `sites` must be an array, found a string
 --> app.toml:4:9
  |
4 | sites = 'x'
  |         ^^^ expected an array
  = help: put it in brackets: ["x"]
  = docs: docs/errors.md#h-cfg-005

4 errors
"#,
    );
    check(
        Format::Toml,
        r#"[listen]
tls = "yes"
idle_timeout = 5
port = 80.0
"#,
        r#"error[H-CFG-005]: `listen.tls` must be a boolean, found a string
 --> app.toml:2:7
  |
2 | tls = "yes"
  |       ^^^^^ expected a boolean
  = help: write true or false, without quotes
  = docs: docs/errors.md#h-cfg-005

error[H-CFG-005]: `listen.idle_timeout` must be a time with its unit, such as "500ms", "10s" or "5m", found an integer
 --> app.toml:3:16
  |
3 | idle_timeout = 5
  |                ^ expected a time with its unit, such as "500ms", "10s" or "5m"
  = help: set it to a time with its unit, such as "500ms", "10s" or "5m"
  = docs: docs/errors.md#h-cfg-005

error[H-CFG-005]: `listen.port` must be an integer from 0 to 65535, found a float
 --> app.toml:4:8
  |
4 | port = 80.0
  |        ^^^^ expected an integer from 0 to 65535
  = help: set it to an integer from 0 to 65535
  = docs: docs/errors.md#h-cfg-005

3 errors
"#,
    );
    check(
        Format::Toml,
        r"listen = 'x'
headers = []
",
        r"error[H-CFG-005]: `listen` must be a table, found a string
 --> app.toml:1:10
  |
1 | listen = 'x'
  |          ^^^ expected a table
  = help: give it keys: a [section], or { key = value }
  = docs: docs/errors.md#h-cfg-005

error[H-CFG-005]: `headers` must be a table, found an array
 --> app.toml:2:11
  |
2 | headers = []
  |           ^^ expected a table
  = help: replace it by a table
  = docs: docs/errors.md#h-cfg-005

2 errors
",
    );
    check(
        Format::Toml,
        r"listen = [1]
",
        r"error[H-CFG-005]: `listen` must be a table, found an array
 --> app.toml:1:10
  |
1 | listen = [1]
  |          ^^^ expected a table
  = help: replace it by a table
  = docs: docs/errors.md#h-cfg-005

1 error
",
    );
    check(
        Format::Toml,
        r"headers = { a = 1 }
",
        r#"error[H-CFG-005]: `headers.a` must be a string, found an integer
 --> app.toml:1:17
  |
1 | headers = { a = 1 }
  |                 ^ expected a string
  = help: put it in quotes: "1"
  = docs: docs/errors.md#h-cfg-005

1 error
"#,
    );
}

#[test]
fn invalid_values() {
    check(
        Format::Toml,
        r"workers = -1
",
        r"error[H-CFG-006]: `workers` cannot be -1
 --> app.toml:1:11
  |
1 | workers = -1
  |           ^^ expected an integer from 0 to 65535
  = help: set it to an integer from 0 to 65535
  = docs: docs/errors.md#h-cfg-006

1 error
",
    );
    check(
        Format::Toml,
        r"[listen]
port = 70000
address = '1.2.3'
header_bytes_max = '1 parsec'
idle_timeout = '5 fortnights'
",
        r#"error[H-CFG-006]: `listen.port` cannot be 70000
 --> app.toml:2:8
  |
2 | port = 70000
  |        ^^^^^ expected an integer from 0 to 65535
  = help: set it to an integer from 0 to 65535
  = docs: docs/errors.md#h-cfg-006

error[H-CFG-006]: `listen.address`: invalid IP address syntax
 --> app.toml:3:11
  |
3 | address = '1.2.3'
  |           ^^^^^^^
  = help: write it like "127.0.0.1" or "::1"
  = docs: docs/errors.md#h-cfg-006

error[H-CFG-006]: `listen.header_bytes_max` cannot be "1 parsec"
 --> app.toml:4:20
  |
4 | header_bytes_max = '1 parsec'
  |                    ^^^^^^^^^^ expected a size in bytes, such as 65536, "64k" or "10 MiB"
  = help: set it to a size in bytes, such as 65536, "64k" or "10 MiB"
  = docs: docs/errors.md#h-cfg-006

error[H-CFG-006]: `listen.idle_timeout` cannot be "5 fortnights"
 --> app.toml:5:16
  |
5 | idle_timeout = '5 fortnights'
  |                ^^^^^^^^^^^^^^ expected a time with its unit, such as "500ms", "10s" or "5m"
  = help: set it to a time with its unit, such as "500ms", "10s" or "5m"
  = docs: docs/errors.md#h-cfg-006

4 errors
"#,
    );
}

#[test]
fn missing_keys() {
    check(
        Format::Toml,
        r"[[sites]]
root = 'x'
[[sites]]
host = 5
root = 'x'
index = 'a'
[[sites]]
host = 'x'
",
        r#"error[H-CFG-007]: `sites[0]` lacks the key `host`
 --> app.toml:1:1
  |
1 | [[sites]]
  | ^^^^^^^^^ `host` is missing here
  = help: add `host = …`
  = docs: docs/errors.md#h-cfg-007

error[H-CFG-005]: `sites[1].host` must be a string, found an integer
 --> app.toml:4:8
  |
4 | host = 5
  |        ^ expected a string
  = help: put it in quotes: "5"
  = docs: docs/errors.md#h-cfg-005

error[H-CFG-005]: `sites[1].index` must be an array, found a string
 --> app.toml:6:9
  |
6 | index = 'a'
  |         ^^^ expected an array
  = help: put it in brackets: ["a"]
  = docs: docs/errors.md#h-cfg-005

error[H-CFG-007]: `sites[2]` lacks the key `root`
 --> app.toml:7:1
  |
7 | [[sites]]
  | ^^^^^^^^^ `root` is missing here
  = help: add `root = …`
  = docs: docs/errors.md#h-cfg-007

4 errors
"#,
    );
}

#[test]
fn variants() {
    check(
        Format::Toml,
        "log = 'jsn'",
        r"error[H-CFG-009]: `log` cannot be `jsn`
 --> app.toml:1:7
  |
1 | log = 'jsn'
  |       ^^^^^ not one of the allowed values
  = note: allowed values: `off`, `combined`, `json`, `file`
  = help: did you mean `json`?
  = docs: docs/errors.md#h-cfg-009

1 error
",
    );
    check(
        Format::Toml,
        "log = 3",
        r"error[H-CFG-005]: `log` must be one of `off`, `combined`, `json`, `file`, found an integer
 --> app.toml:1:7
  |
1 | log = 3
  |       ^ expected one of `off`, `combined`, `json`, `file`
  = help: set it to one of `off`, `combined`, `json`, `file`
  = docs: docs/errors.md#h-cfg-005

1 error
",
    );
    check(
        Format::Toml,
        "log = 'file'",
        r"error[H-CFG-006]: `log`: `file` needs a value of its own
 --> app.toml:1:7
  |
1 | log = 'file'
  |       ^^^^^^
  = help: write it as { file = … }
  = docs: docs/errors.md#h-cfg-006

1 error
",
    );
    check(
        Format::Toml,
        "log = { json = 1 }",
        r#"error[H-CFG-006]: `log`: `json` takes no value
 --> app.toml:1:7
  |
1 | log = { json = 1 }
  |       ^^^^^^^^^^^^
  = help: write it as a string: "json"
  = docs: docs/errors.md#h-cfg-006

1 error
"#,
    );
    check(
        Format::Toml,
        "log = { off = 1, json = 2 }",
        r"error[H-CFG-006]: `log`: expected one of `off`, `combined`, `json`, `file` as the only key
 --> app.toml:1:7
  |
1 | log = { off = 1, json = 2 }
  |       ^^^^^^^^^^^^^^^^^^^^^
  = help: keep one of the keys, or write the name as a string
  = docs: docs/errors.md#h-cfg-006

1 error
",
    );
    check(
        Format::Toml,
        "log = { file = { path = 1, kep = 1 } }",
        r"error[H-CFG-005]: `log.file.path` must be a path, found an integer
 --> app.toml:1:25
  |
1 | log = { file = { path = 1, kep = 1 } }
  |                         ^ expected a path
  = help: set it to a path
  = docs: docs/errors.md#h-cfg-005

error[H-CFG-004]: unknown key `kep`
 --> app.toml:1:28
  |
1 | log = { file = { path = 1, kep = 1 } }
  |                            ^^^ not a key of `log.file`
  = note: allowed keys: `path`, `keep`
  = help: did you mean `keep`?
  = docs: docs/errors.md#h-cfg-004

2 errors
",
    );
}

#[test]
fn secrets() {
    check(
        Format::Toml,
        "admin = { password = 'hunter2', pin = 'a' }",
        r"error[H-CFG-006]: `admin.password` has an unusable value
 --> app.toml:1:22
  |
1 | admin = { password = *********, pin = *** }
  |                      ^^^^^^^^^ this secret
  = help: correct the value; it is not shown because it is secret
  = docs: docs/errors.md#h-cfg-006

error[H-CFG-006]: `admin.pin` has an unusable value
 --> app.toml:1:39
  |
1 | admin = { password = *********, pin = *** }
  |                                       ^^^ this secret
  = help: correct the value; it is not shown because it is secret
  = docs: docs/errors.md#h-cfg-006

2 errors
",
    );
}
