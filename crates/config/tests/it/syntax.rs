//! Text that breaks the rules of its format, and text that is hard to show.

use hearth_config::Format;

use crate::diagnostics::check;

#[test]
fn toml_syntax() {
    check(
        Format::Toml,
        r"a = 1
b = 2
a = 3
",
        r"error[H-CFG-008]: duplicate key `a`
 --> app.toml:3:1
  |
3 | a = 3
  | ^ set a second time
  = help: keep one of the two
  = docs: docs/errors.md#h-cfg-008

1 error
",
    );
    check(
        Format::Toml,
        r"name = hello
c: d
workers =
",
        r#"error[H-CFG-003]: not valid TOML: string values must be quoted, expected literal string
 --> app.toml:1:8
  |
1 | name = hello
  |        ^^^^^
  = help: strings need quotes: key = "value"
  = docs: docs/errors.md#h-cfg-003

error[H-CFG-003]: not valid TOML: invalid unquoted key, expected letters, numbers, `-`, `_`
 --> app.toml:2:2
  |
2 | c: d
  |  ^
  = help: TOML writes `key = value`, not `key: value`
  = docs: docs/errors.md#h-cfg-003

2 errors
"#,
    );
    check(
        Format::Toml,
        r"[listen
port = 1
",
        r"error[H-CFG-003]: not valid TOML: unclosed table, expected `]`
 --> app.toml:1:8
  |
1 | [listen
  |        ^
  = help: see https://toml.io for the notation
  = docs: docs/errors.md#h-cfg-003

1 error
",
    );
    check(
        Format::Toml,
        r#"name = "no end
"#,
        r#"error[H-CFG-003]: not valid TOML: invalid basic string, expected `"`
 --> app.toml:1:15
  |
1 | name = "no end
  |               ^
  = help: see https://toml.io for the notation
  = docs: docs/errors.md#h-cfg-003

1 error
"#,
    );
    check(
        Format::Toml,
        r"workers = 99999999999999999999999999999999999999999
",
        r"error[H-CFG-003]: integer out of range
 --> app.toml:1:11
  |
1 | workers = 99999999999999999999999999999999999999999
  |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = help: use a smaller number
  = docs: docs/errors.md#h-cfg-003

1 error
",
    );
    check(
        Format::Toml,
        &format!("a = {}{}", "[".repeat(80), "]".repeat(80)),
        r"error[H-CFG-012]: values are nested more than 64 levels deep
 --> app.toml:1:69
  |
1 | …[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]…
  |                                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ too deep
  = help: flatten the structure
  = docs: docs/errors.md#h-cfg-012

1 error
",
    );
}

#[test]
fn json() {
    check(
        Format::Json,
        r#"{"listen": {"port": "x"},}"#,
        r#"error[H-CFG-003]: not valid JSON: trailing comma
 --> app.json:1:25
  |
1 | {"listen": {"port": "x"},}
  |                         ^
  = help: remove the comma
  = docs: docs/errors.md#h-cfg-003

1 error
"#,
    );
    check(
        Format::Json,
        "{'a'",
        r"error[H-CFG-003]: not valid JSON: expected a key in double quotes, found `'`
 --> app.json:1:2
  |
1 | {'a'
  |  ^
  = help: JSON uses double quotes
  = docs: docs/errors.md#h-cfg-003

1 error
",
    );
    check(
        Format::Json,
        r#"{"name": "", "name": ""}"#,
        r#"error[H-CFG-008]: duplicate key `name`
 --> app.json:1:14
  |
1 | {"name": "", "name": ""}
  |              ^^^^^^ set a second time
 ::: app.json:1:2
  |
1 | {"name": "", "name": ""}
  |  ------ set here first
  = help: keep one of the two
  = docs: docs/errors.md#h-cfg-008

1 error
"#,
    );
    check(
        Format::Json,
        "[]",
        r"error[H-CFG-005]: the configuration must be a table, found an array
 --> app.json:1:1
  |
1 | []
  | ^^ expected a table
  = help: replace it by a table
  = docs: docs/errors.md#h-cfg-005

1 error
",
    );
    check(
        Format::Json,
        r#"{"name": null, "workers": null}"#,
        r#"error[H-CFG-005]: `name` must be a string, found null
 --> app.json:1:10
  |
1 | {"name": null, "workers": null}
  |          ^^^^ expected a string
  = help: give it a value, or remove the key
  = docs: docs/errors.md#h-cfg-005

1 error
"#,
    );
    check(
        Format::Json,
        r#"{"name": "\x"}"#,
        r#"error[H-CFG-003]: not valid JSON: not an escape sequence
 --> app.json:1:11
  |
1 | {"name": "\x"}
  |           ^
  = help: write a backslash as `\\`
  = docs: docs/errors.md#h-cfg-003

1 error
"#,
    );
    check(
        Format::Json,
        r"// x
{}",
        r"error[H-CFG-003]: not valid JSON: expected a value, found a comment
 --> app.json:1:1
  |
1 | // x
  | ^
  = help: JSON has no comments; use TOML for them
  = docs: docs/errors.md#h-cfg-003

1 error
",
    );
    check(
        Format::Json,
        r#"{"name": "abc"#,
        r#"error[H-CFG-003]: not valid JSON: the string has no end
 --> app.json:1:10
  |
1 | {"name": "abc
  |          ^
  = help: close it with `"`
  = docs: docs/errors.md#h-cfg-003

1 error
"#,
    );
    check(
        Format::Json,
        r#"{"workers": 01}"#,
        r#"error[H-CFG-003]: not valid JSON: a number begins with a needless zero
 --> app.json:1:13
  |
1 | {"workers": 01}
  |             ^
  = help: remove the zero
  = docs: docs/errors.md#h-cfg-003

1 error
"#,
    );
    check(
        Format::Json,
        r#"{"workers": 1} x"#,
        r#"error[H-CFG-003]: not valid JSON: expected the end of the file, found `x`
 --> app.json:1:16
  |
1 | {"workers": 1} x
  |                ^
  = help: see RFC 8259 for the notation
  = docs: docs/errors.md#h-cfg-003

1 error
"#,
    );
    check(
        Format::Json,
        r#"{"a": 1e999}"#,
        r#"error[H-CFG-003]: not valid JSON: number out of range
 --> app.json:1:7
  |
1 | {"a": 1e999}
  |       ^
  = help: use a smaller number
  = docs: docs/errors.md#h-cfg-003

1 error
"#,
    );
}

#[test]
fn frames() {
    check(
        Format::Toml,
        "\tname = 1 # \u{1b}[31m \u{202e}",
        r"error[H-CFG-003]: not valid TOML: invalid comment character, expected printable characters
 --> app.toml:1:13
  |
1 |     name = 1 # �[31m �
  |                ^
  = help: see https://toml.io for the notation
  = docs: docs/errors.md#h-cfg-003

1 error
",
    );
    check(
        Format::Toml,
        r"name = 1 # 世界
",
        r#"error[H-CFG-005]: `name` must be a string, found an integer
 --> app.toml:1:8
  |
1 | name = 1 # 世界
  |        ^ expected a string
  = help: put it in quotes: "1"
  = docs: docs/errors.md#h-cfg-005

1 error
"#,
    );
    check(
        Format::Toml,
        r#""世界" = 1
"#,
        r#"error[H-CFG-004]: unknown key `世界`
 --> app.toml:1:1
  |
1 | "世界" = 1
  | ^^^^^^ not a key of the top level
  = note: allowed keys: `name`, `workers`, `ratio`, `listen`, `sites`, `headers`, `log`, `admin`
  = help: use one of the allowed keys, or remove it
  = docs: docs/errors.md#h-cfg-004

1 error
"#,
    );
    check(
        Format::Toml,
        "# xxxxxxxxxx\r\nprot = 1\r\n",
        r"error[H-CFG-004]: unknown key `prot`
 --> app.toml:2:1
  |
2 | prot = 1
  | ^^^^ not a key of the top level
  = note: allowed keys: `name`, `workers`, `ratio`, `listen`, `sites`, `headers`, `log`, `admin`
  = help: use one of the allowed keys, or remove it
  = docs: docs/errors.md#h-cfg-004

1 error
",
    );
    check(
        Format::Toml,
        "headers = { k0 = 'v', k1 = 'v', k2 = 'v', k3 = 'v', k4 = 'v', k5 = 'v', k6 = 'v', k7 = 'v', k8 = 'v', k9 = 'v', k10 = 'v', k11 = 'v', k12 = 'v', k13 = 'v', k14 = 'v', k15 = 'v', k16 = 'v', k17 = 'v', k18 = 'v', k19 = 'v', k20 = 'v', k21 = 'v', k22 = 'v', k23 = 'v', k24 = 'v', k25 = 'v', k26 = 'v', k27 = 'v', k28 = 'v', k29 = 'v', k30 = 'v', k31 = 'v', k32 = 'v', k33 = 'v', k34 = 'v', k35 = 'v', k36 = 'v', k37 = 'v', k38 = 'v', k39 = 'v', bad = 1 }",
        r#"error[H-CFG-005]: `headers.bad` must be a string, found an integer
 --> app.toml:1:449
  |
1 | … k37 = 'v', k38 = 'v', k39 = 'v', bad = 1 }
  |                                          ^ expected a string
  = help: put it in quotes: "1"
  = docs: docs/errors.md#h-cfg-005

1 error
"#,
    );
}
