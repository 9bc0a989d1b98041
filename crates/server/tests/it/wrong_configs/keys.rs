//! Keys and values that are none, in files and variables.

use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row(
        "unknown key",
        "[[sites]]\nroto = 'site'\n",
        "H-CFG-004",
        "2:1",
        "unknown key `roto`",
        "did you mean `root`?",
    ),
    row(
        "unknown section",
        "[limit]\nmax_headers = 5\n[[sites]]\nroot = 'site'\n",
        "H-CFG-004",
        "1:2",
        "unknown key `limit`",
        "did you mean `limits`?",
    ),
    row(
        "wrong type",
        "workers = 'four'\n[[sites]]\nroot = 'site'\n",
        "H-CFG-005",
        "1:11",
        "`workers` must be an integer from 0 to 65535, found a string",
        "set it to an integer",
    ),
    row(
        "a table where a list belongs",
        "[sites]\nroot = 'site'\n",
        "H-CFG-005",
        "1:1",
        "`sites` must be an array, found a table",
        "array",
    ),
    row(
        "a number in quotes",
        "[[sites]]\nroot = 'site'\n[limits]\nmax_headers = '50'\n",
        "H-CFG-005",
        "4:15",
        "`limits.max_headers` must be a non-negative integer, found a string",
        "write it without quotes: 50",
    ),
    row(
        "negative number",
        "[[sites]]\nroot = 'site'\n[limits]\nmax_headers = -1\n",
        "H-CFG-006",
        "4:15",
        "`limits.max_headers` cannot be -1",
        "non-negative",
    ),
    row(
        "bad size",
        "limits.max_body_size = '10 parsecs'\n[[sites]]\nroot = 'site'\n",
        "H-CFG-006",
        "1:24",
        "`limits.max_body_size` cannot be \"10 parsecs\"",
        "such as",
    ),
    row(
        "duration without a unit",
        "shutdown_timeout = 30\n[[sites]]\nroot = 'site'\n",
        "H-CFG-",
        "1:20",
        "`shutdown_timeout`",
        "s",
    ),
    row(
        "unknown word",
        "[access_log]\npath = 'a.log'\nformat = 'jsno'\n[[sites]]\nroot = 'site'\n",
        "H-CFG-009",
        "3:10",
        "`access_log.format` cannot be `jsno`",
        "did you mean `json`?",
    ),
    row(
        "unknown encoding",
        "[[sites]]\nroot = 'site'\ncompression.encodings = ['gzip', 'lzma']\n",
        "H-CFG-009",
        "3:34",
        "cannot be `lzma`",
        "allowed values",
    ),
    row(
        "unknown protocol",
        "listeners = [{ address = '127.0.0.1:0', protocols = ['h3'] }]\n[[sites]]\nroot = 'site'\n",
        "H-CFG-009",
        "1:54",
        "cannot be `h3`",
        "did you mean `h1`?",
    ),
    row("no TOML", "[[sites]\nroot = 'site'\n", "H-CFG-003", "1:", "", ""),
    row(
        "duplicate key",
        "[[sites]]\nroot = 'site'\nroot = 'site'\n",
        "H-CFG-008",
        "3:1",
        "root",
        "",
    ),
    row(
        "missing key",
        "[[sites]]\nroot = 'site'\nredirects = [{ from = '/a' }]\n",
        "H-CFG-007",
        "3:14",
        "lacks the key `to`",
        "add `to = …`",
    ),
    Row {
        variable: ("HEARTH_LIMITS__MAX_HEADERS", "many"),
        ..row(
            "bad variable",
            "[[sites]]\nroot = 'site'\n",
            "H-CFG-",
            "environment variable HEARTH_LIMITS__MAX_HEADERS",
            "`limits.max_headers`",
            "",
        )
    },
    Row {
        variable: ("HEARTH_LIMITS__MAX_HEDERS", "5"),
        ..row(
            "misspelt variable",
            "[[sites]]\nroot = 'site'\n",
            "H-CFG-004",
            "environment variable HEARTH_LIMITS__MAX_HEDERS",
            "unknown key `max_heders`",
            "did you mean `max_headers`?",
        )
    },
    Row {
        variable: ("PORT", "http"),
        ..row(
            "bad PORT",
            "[[sites]]\nroot = 'site'\n",
            "H-CFG-",
            "environment variable PORT",
            "`port`",
            "",
        )
    },
];
