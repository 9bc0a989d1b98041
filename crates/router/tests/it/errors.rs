//! Everything that is wrong is reported at once, with both patterns and source lines.

use hearth_router::{PathPolicy, PatternError, Problem, Redirect, Route, Router};

use crate::support::Echo;

/// Text of a pattern, and what its error says.
const BAD_PATTERNS: &[(&str, &str)] = &[
    ("", "begins with `/`"),
    ("a", "begins with `/`"),
    ("/{", "unbalanced brace"),
    ("/}", "unbalanced brace"),
    ("/{a", "unbalanced brace"),
    ("/{a:regex(x}", "unbalanced brace"),
    ("/{}", "`` is no parameter name"),
    ("/{1a}", "`1a` is no parameter name"),
    ("/{a-b}", "`a-b` is no parameter name"),
    ("/{*}", "`` is no parameter name"),
    ("/{a}{b}", "one parameter"),
    ("/{a}-{b}", "one parameter"),
    ("/{a}/{a}", "`a` stands twice"),
    ("/{*a}/b", "`{*a}` must be the whole last segment"),
    ("/x{*a}", "`{*a}` must be the whole last segment"),
    ("/{*a:int}", "`{*a}` must be the whole last segment"),
    ("/{a:}", "no constraint is called ``"),
    ("/{a:number}", "no constraint is called `number`"),
    ("/{a:len(0)}", "`len(0)` is no length"),
    ("/{a:regex(()}", "unbalanced brace"),
    ("/{a:regex(*)}", "regular expression is refused"),
    ("/:id", "write `{name}`"),
    ("/*path", "write `{name}`"),
    ("/a?b", "`?` cannot stand in a path"),
    ("/a#b", "`#` cannot stand in a path"),
    ("/a//b", "`//` never matches"),
    ("/a/../b", "never matches"),
    ("/a/%2e", "never matches"),
    ("/a%", "two hexadecimal digits"),
    ("/a%00", "two hexadecimal digits"),
    (
        "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/21/22/23/24/25/26/27/28/29/30/31/32/33",
        "at most 32 segments",
    ),
];

#[test]
fn bad_patterns_are_named() {
    for (pattern, want) in BAD_PATTERNS {
        let error = Router::builder().get(*pattern, Echo("x")).build().unwrap_err();
        let text = error.to_string();
        assert!(text.contains(want), "{pattern:?} says {text:?}, not {want:?}");
        assert!(
            text.contains("errors.rs"),
            "{pattern:?} does not say where it was added: {text:?}"
        );
    }
}

#[test]
fn all_problems_are_listed() {
    let error = Router::builder()
        .get("/users/{id}", Echo("a"))
        .get("/users/{name}", Echo("b"))
        .post("/users/{name}", Echo("fine: another method"))
        .any("/users/{x}", Echo("fine: the other methods"))
        .any("/users/{y}", Echo("c"))
        .get("/{", Echo("d"))
        .group("api", |g| g.get("/x", Echo("e")))
        .group("/p", |g| g.host("a.test", |site| site).path_policy(PathPolicy::Refuse))
        .host("*.*.test", |site| site)
        .host("a.test:80", |site| site)
        .host("{t}.test", |site| site.get("/{t}", Echo("f")))
        .route(Route::get("/n1", Echo("g")).name("n"))
        .route(Route::get("/n2", Echo("h")).name("n"))
        .route(Route::new(&[], "/none", Echo("i")))
        .redirect("/r1/{a}", Redirect::permanent("/to/{b}"))
        .redirect("/r2/{*to}", Redirect::permanent("{to}"))
        .fallback(Echo("j"))
        .merge(Router::builder().fallback(Echo("k")))
        .build()
        .unwrap_err();
    let names: Vec<&str> = error
        .problems()
        .iter()
        .map(|problem| match problem {
            Problem::Conflict { .. } => "conflict",
            Problem::DuplicateName { .. } => "name",
            Problem::Host { .. } => "host",
            Problem::HostUnderPrefix { .. } => "host under prefix",
            Problem::NoMethod { .. } => "no method",
            Problem::ParamInHostAndPath { .. } => "param",
            Problem::Pattern { .. } => "pattern",
            Problem::PathPolicyInside { .. } => "policy",
            Problem::RedirectParam { .. } => "redirect param",
            Problem::RedirectTarget { .. } => "redirect target",
            Problem::TwoFallbacks { .. } => "fallback",
            _ => "?",
        })
        .collect();
    let want = [
        "conflict",
        "conflict",
        "pattern",
        "pattern",
        "pattern",
        "policy",
        "host under prefix",
        "no method",
        "redirect param",
        "redirect target",
        "fallback",
        "host",
        "host",
        "param",
        "name",
    ];
    assert_eq!(names, want, "{error}");
    assert!(error.to_string().starts_with("15 problems in the routes\n"), "{error}");
}

#[test]
fn a_conflict_names_both_patterns_and_lines() {
    let error = Router::builder()
        .host("a.test", |site| {
            site.get("/users/{id}", Echo("a")).group("/users", |g| g.get("/{name}", Echo("b")))
        })
        .build()
        .unwrap_err();
    let [Problem::Conflict { method, host, first, first_at, second, second_at }] = error.problems()
    else {
        panic!("{error}");
    };
    assert_eq!((&**method, host.as_deref()), ("GET", Some("a.test")));
    assert_eq!((&**first, &**second), ("/users/{id}", "/users/{name}"));
    assert!(first_at.file().ends_with("errors.rs") && first_at.line() <= second_at.line());
    let text = error.to_string();
    assert!(text.contains("GET `/users/{name}`") && text.contains("`/users/{id}`"), "{text}");
    assert!(text.contains("on host `a.test`"), "{text}");
}

#[test]
fn empty_segments_are_allowed_where_slashes_are_kept() {
    let builder = Router::builder().path_policy(PathPolicy::KeepSlashes).get("/a//b", Echo("x"));
    assert!(builder.build().is_ok());
    let error = hearth_router::Pattern::parse("/{x:int").unwrap_err();
    assert_eq!(error, PatternError::UnbalancedBrace);
}
