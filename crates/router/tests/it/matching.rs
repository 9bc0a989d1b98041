//! Which pattern a path meets. To add a case, add a row.

use hearth_router::{PathPolicy, Router, RouterBuilder, SlashPolicy};

use crate::support::{Echo, ask};

/// Patterns, then rows of path and answer; `-` is 404, `bad` is 400.
struct Table {
    patterns: &'static [&'static str],
    rows: &'static [(&'static str, &'static str)],
}

const TABLES: &[Table] = &[
    Table {
        patterns: &["/", "/a", "/a/", "/a/b", "/long-segment-above-sixteen-bytes/x"],
        rows: &[
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "-"),
            ("/A", "-"),
            ("/ab", "-"),
            ("/a/b/c", "-"),
            ("/long-segment-above-sixteen-bytes/x", "/long-segment-above-sixteen-bytes/x"),
            ("/long-segment-BELOW-sixteen-bytes/x", "-"),
        ],
    },
    // Literal text wins over a parameter, and giving it up comes back to the parameter.
    Table {
        patterns: &["/users/me", "/users/{id}", "/users/{id}/posts", "/users/me/{tab}", "/{a}/x"],
        rows: &[
            ("/users/me", "/users/me"),
            ("/users/you", "/users/{id} id=you"),
            ("/users/me/posts", "/users/me/{tab} tab=posts"),
            ("/users/you/posts", "/users/{id}/posts id=you"),
            ("/users/x", "/users/{id} id=x"),
            ("/teams/x", "/{a}/x a=teams"),
            ("/users/", "-"),
            ("/users", "-"),
            ("/users/you/other", "-"),
        ],
    },
    Table {
        patterns: &["/{a}/b/c", "/a/{b}/d", "/{x}/{y}/e"],
        rows: &[
            ("/a/b/c", "/{a}/b/c a=a"),
            ("/a/b/d", "/a/{b}/d b=b"),
            ("/a/b/e", "/{x}/{y}/e x=a y=b"),
            ("/a/b/f", "-"),
        ],
    },
    // Constrained before plain; the constraints in their fixed order.
    Table {
        patterns: &[
            "/{any}",
            "/{word:alpha}",
            "/{hex:hex}",
            "/{n:int}",
            "/{u:uint}",
            "/{two:len(2)}",
        ],
        rows: &[
            ("/7", "/{u:uint} u=7"),
            ("/-7", "/{n:int} n=-7"),
            ("/7f", "/{hex:hex} hex=7f"),
            ("/zebra", "/{word:alpha} word=zebra"),
            ("/z.", "/{two:len(2)} two=z."),
            ("/z..", "/{any} any=z.."),
        ],
    },
    Table {
        patterns: &["/o/{id:uuid}", "/o/{id:len(36)}"],
        rows: &[
            (
                "/o/67e55044-10b1-426f-9247-bb680e5fe0c8",
                "/o/{id:uuid} id=67e55044-10b1-426f-9247-bb680e5fe0c8",
            ),
            (
                "/o/67e55044_10b1_426f_9247_bb680e5fe0c8",
                "/o/{id:len(36)} id=67e55044_10b1_426f_9247_bb680e5fe0c8",
            ),
        ],
    },
    // Text around a parameter: more of it first, then the longer prefix.
    Table {
        patterns: &["/{f}", "/{f}.json", "/v{n:uint}", "/v{n}.json", "/v{n}"],
        rows: &[
            ("/x.json", "/{f}.json f=x"),
            ("/v1.json", "/v{n}.json n=1"),
            ("/v1", "/v{n:uint} n=1"),
            ("/vx", "/v{n} n=x"),
            ("/v", "/{f} f=v"),
            ("/.json", "/{f} f=.json"),
            ("/a.b.json", "/{f}.json f=a.b"),
            ("/v.json", "/{f}.json f=v"),
        ],
    },
    Table {
        patterns: &["/a{x}b", "/ab{x}", "/{x}ab"],
        rows: &[
            ("/abcb", "/ab{x} x=cb"),
            ("/acb", "/a{x}b x=c"),
            ("/acab", "/a{x}b x=ca"),
            ("/cab", "/{x}ab x=c"),
            ("/ab", "-"),
        ],
    },
    // A catch-all takes what is left, and nothing is something.
    Table {
        patterns: &["/files/{*path}", "/files/list", "/files/{id}/meta", "/{*all}"],
        rows: &[
            ("/files/a", "/files/{*path} path=a"),
            ("/files/a/b/c", "/files/{*path} path=a/b/c"),
            ("/files/", "/files/{*path} path="),
            ("/files", "/{*all} all=files"),
            ("/files/list", "/files/list"),
            ("/files/list/", "/files/{*path} path=list/"),
            ("/files/7/meta", "/files/{id}/meta id=7"),
            ("/files/7/data", "/files/{*path} path=7/data"),
            ("/", "/{*all} all="),
        ],
    },
    // Unreserved escapes are the characters themselves, reserved ones are not.
    Table {
        patterns: &["/abc", "/a%2Fb", "/caf\u{e9}", "/x y", "/~me", "/p/{v}", "/{{z}}"],
        rows: &[
            ("/%61bc", "/abc"),
            ("/%61%62%63", "/abc"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%2fb", "/a%2Fb"),
            ("/a/b", "-"),
            ("/caf%c3%a9", "/caf\u{e9}"),
            ("/x%20y", "/x y"),
            ("/%7Eme", "/~me"),
            ("/p/a%2Fb", "/p/{v} v=a%2Fb"),
            ("/p/%61%2F", "/p/{v} v=a%2F"),
            ("/%7Bz%7D", "/{{z}}"),
            ("/%", "bad"),
            ("/%4", "bad"),
            ("/%zz", "bad"),
            ("/p/%00", "bad"),
            ("/p/%2500", "/p/{v} v=%2500"),
        ],
    },
    // Dot segments and repeated slashes are resolved, however they are written.
    Table {
        patterns: &["/a/b", "/a/", "/{*all}", "/.well-known/{x}"],
        rows: &[
            ("/a/./b", "/a/b"),
            ("/a/x/../b", "/a/b"),
            ("/a/x/%2e%2E/b", "/a/b"),
            ("/a//b", "/a/b"),
            ("//a///b", "/a/b"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/a//", "/a/"),
            ("/x/../y", "/{*all} all=y"),
            ("/..", "bad"),
            ("/a/../../b", "bad"),
            ("/...", "/{*all} all=..."),
            ("/.well-known/acme", "/.well-known/{x} x=acme"),
            ("/x/..%2f..%2fetc", "/{*all} all=x/..%2f..%2fetc"),
        ],
    },
];

#[cfg(feature = "regex")]
const REGEX: Table = Table {
    patterns: &["/o/{slug:regex([a-z]+(-[a-z]+)*)}", "/o/{x:regex([{}/]+|\\d{2})}", "/o/{any}"],
    rows: &[
        ("/o/a-b", "/o/{slug:regex([a-z]+(-[a-z]+)*)} slug=a-b"),
        ("/o/a-", "/o/{any} any=a-"),
        ("/o/42", "/o/{x:regex([{}/]+|\\d{2})} x=42"),
        ("/o/{}", "/o/{x:regex([{}/]+|\\d{2})} x={}"),
    ],
};

#[cfg(feature = "regex")]
#[test]
fn paths_meet_regular_expressions() {
    check_table(&REGEX);
}

#[test]
fn paths_meet_their_patterns() {
    TABLES.iter().for_each(check_table);
}

fn check_table(table: &Table) {
    // Twice: the order of insertion must not matter.
    let backwards: Vec<_> = table.patterns.iter().rev().copied().collect();
    for patterns in [table.patterns, backwards.as_slice()] {
        let router = router(patterns, RouterBuilder::new());
        for (path, want) in table.rows {
            check(&router, path, want);
        }
    }
}

#[test]
fn slash_policies() {
    // Routes `/a`, `/b/`, `/d` and `/d/`, `/f/{*p}`; path, then the answers under each policy.
    const ROWS: &[(&str, [&str; 3])] = &[
        ("/a", ["/a", "/a", "/a"]),
        ("/a/", ["-", "/a", "308 /a"]),
        ("/b/", ["/b/", "/b/", "/b/"]),
        ("/b", ["-", "/b/", "308 /b/"]),
        ("/b?q=1", ["-", "/b/", "308 /b/?q=1"]),
        ("/d", ["/d", "/d", "/d"]),
        ("/d/", ["/d/", "/d/", "/d/"]),
        ("/f", ["-", "/f/{*p} p=", "308 /f/"]),
        ("/f/", ["/f/{*p} p=", "/f/{*p} p=", "/f/{*p} p="]),
        ("/p/1/", ["-", "/p/{x} x=1", "308 /p/1"]),
        ("/a//", ["-", "/a", "308 /a"]),
        ("//a/", ["-", "/a", "308 /a"]),
    ];
    let policies = [SlashPolicy::Strict, SlashPolicy::Match, SlashPolicy::Redirect308];
    for (at, policy) in policies.into_iter().enumerate() {
        let patterns = ["/a", "/b/", "/d", "/d/", "/f/{*p}", "/p/{x}"];
        let router = router(&patterns, RouterBuilder::new().slash(policy));
        for (path, wants) in ROWS {
            check(&router, path, wants[at]);
        }
    }
}

#[test]
fn path_policies() {
    const ROWS: &[(&str, [&str; 3])] = &[
        ("/a//b", ["/a/b", "/{*all} all=a//b", "bad"]),
        ("/a/./b", ["/a/b", "/a/b", "bad"]),
        ("/a//../b", ["/b", "/a/b", "bad"]),
        ("/b/", ["/{*all} all=b/", "/{*all} all=b/", "/{*all} all=b/"]),
    ];
    let policies = [PathPolicy::Clean, PathPolicy::KeepSlashes, PathPolicy::Refuse];
    for (at, policy) in policies.into_iter().enumerate() {
        let patterns = ["/a/b", "/b", "/{*all}"];
        let router = router(&patterns, RouterBuilder::new().path_policy(policy));
        for (path, wants) in ROWS {
            check(&router, path, wants[at]);
        }
    }
}

/// Each pattern is a route for GET that answers with itself.
fn router(patterns: &[&'static str], builder: RouterBuilder) -> Router {
    let add = |builder: RouterBuilder, pattern: &&'static str| builder.get(*pattern, Echo(pattern));
    patterns.iter().fold(builder, add).build().unwrap()
}

#[track_caller]
fn check(router: &Router, path: &str, want: &str) {
    let want = match want {
        "-" => "404 404 Not Found".to_owned(),
        "bad" => "400 400 Bad Request".to_owned(),
        redirect if redirect.starts_with("308") => redirect.to_owned(),
        text => format!("200 {text}"),
    };
    assert_eq!(ask(router, "GET", "example.com", path), want, "path {path:?}");
}
