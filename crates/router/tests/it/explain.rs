//! `explain` tells what `dispatch` does.

use hearth_http_core::Request;
use hearth_router::{Route, Router, SlashPolicy, StepOutcome, Verdict};

use crate::support::{Echo, Mark};

fn router() -> Router {
    Router::builder()
        .with(Mark('1'))
        .get("/users/{id:uint}", Echo("user"))
        .get("/users/me/{tab}", Echo("tab"))
        .get("/v{n}.json/x", Echo("v"))
        .host("{t}.test", |site| {
            let route = Route::get("/d/{*rest}", Echo("d")).name("d").with(Mark('d'));
            site.slash(SlashPolicy::Redirect308).route(route)
        })
        .build()
        .unwrap()
}

#[test]
fn the_whole_story_of_a_miss() {
    let req = Request::get("/users/m%65/").unwrap();
    let told = router().explain(req.head());
    assert_eq!(told.verdict, Verdict::NotFound);
    assert_eq!(told.canonical.as_deref(), Some("/users/me/"));
    let steps: Vec<(&str, StepOutcome)> =
        told.steps.iter().map(|step| (step.pattern.as_str(), step.outcome)).collect();
    assert_eq!(
        steps,
        [
            ("/users", StepOutcome::Fits),
            ("/users/me", StepOutcome::Fits),
            ("/users/me/{tab}", StepOutcome::Empty),
            ("/users/{id:uint}", StepOutcome::ConstraintRefuses),
            ("/v{n}.json", StepOutcome::AffixMissing),
        ]
    );
    assert_eq!(told.middleware.len(), 1);
}

#[test]
fn a_hit_in_words() {
    let fields = [("host", "acme.test:80")];
    let method = hearth_http_core::Method::GET;
    let req = Request::build(method, "/d/a/b?q", &fields, hearth_http_core::Body::Empty).unwrap();
    let told = router().explain(req.head());
    assert_eq!(told.verdict, Verdict::Route);
    let text = told.to_string();
    let line = told.route.as_ref().unwrap().at.line();
    let at = format!("crates/router/tests/it/explain.rs:{line}");
    assert!(text.contains(&at) || text.contains(&format!("explain.rs:{line}")), "{text}");
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("route   ")).collect();
    assert_eq!(
        lines,
        [
            "GET /d/a/b",
            "  host    acme.test: site `{t}.test`",
            "  try     /d: fits `d`",
            "  try     /d/{*rest}: fits `a/b`",
            "  result  a route answers",
            "  param   t = \"acme\"",
            "  param   rest = \"a/b\"",
            "  through it::support::Mark",
            "  through it::support::Mark",
        ]
    );
}

#[test]
fn every_verdict() {
    let router = router();
    let rows = [
        ("GET", "x", "/users/7", Verdict::Route),
        ("GET", "a.test", "/d", Verdict::SlashRedirect),
        ("PUT", "x", "/users/7", Verdict::MethodNotAllowed { allow: "GET, HEAD, OPTIONS".into() }),
        ("OPTIONS", "x", "/users/7", Verdict::Options { allow: "GET, HEAD, OPTIONS".into() }),
        ("GET", "x", "/none", Verdict::NotFound),
        ("GET", "x", "/users", Verdict::NotFound),
        ("GET", "x", "/v.json/x", Verdict::NotFound),
        ("GET", "x", "/%00", Verdict::BadPath(hearth_router::PathError::Forbidden)),
    ];
    for (method, host, path, want) in rows {
        let fields = [("host", host)];
        let method = method.parse().unwrap();
        let req = Request::build(method, path, &fields, hearth_http_core::Body::Empty).unwrap();
        assert_eq!(router.explain(req.head()).verdict, want, "{path}");
    }
    let req = Request::get("/users/7/").unwrap();
    let told = router.explain(req.head());
    assert_eq!(told.slash_twin.as_deref(), Some("/users/7"));
    assert!(told.to_string().contains("hint"), "{told}");
}
