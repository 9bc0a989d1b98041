//! Generators and oracles for fuzzing and property tests. Outside semver.
//!
//! The bytes of a fuzzer become routes and requests; what the router does with them is compared with
//! the slow, obvious matcher of `oracle`. A difference panics.

mod generate;
mod oracle;

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use hearth_http_core::{Body, Handler, Method, Request, Response, StatusCode, handler_fn};

use self::{generate::Source, oracle::Oracle};
use crate::{
    PathPolicy, PathTree, Redirect, RequestExt, Router, RouterBuilder, SlashPolicy, Verdict,
    canonical::{self, Canonical},
    host::{HostPattern, Hosts},
};

/// Everything below, on one input.
///
/// # Panics
/// Where the router and an oracle differ.
pub fn fuzz_router(data: &[u8]) {
    let (&kind, rest) = data.split_first().unwrap_or((&0, &[]));
    match kind % 4 {
        0 => tree(rest),
        1 => hosts(rest),
        2 => paths(rest),
        _ => requests(rest),
    }
}

/// Look-ups in a tree of made-up patterns give what an ordered list of them gives.
pub(crate) fn tree(data: &[u8]) {
    let mut source = Source::new(data);
    let mut builder = PathTree::builder();
    let mut oracle = Oracle::default();
    for number in 0..=source.below(16) {
        let pattern = source.pattern();
        let is_new = oracle.add(&pattern, number);
        assert_eq!(builder.insert(&pattern, number).is_ok(), is_new, "insert {pattern}");
    }
    let tree = builder.build();
    for _ in 0..=source.below(16) {
        let path = source.path();
        let found = tree.find(&path);
        let found = found.map(|found| {
            let values = found.params().map(|(_, value)| value.to_owned());
            (*found.value(), values.collect::<Vec<_>>())
        });
        assert_eq!(found, oracle.find(&path), "find {path:?} in {:?}", oracle.patterns());
    }
}

/// Hosts meet the pattern that the order of precedence names.
pub(crate) fn hosts(data: &[u8]) {
    let mut source = Source::new(data);
    let mut hosts = Hosts::default();
    let mut patterns = Vec::new();
    for site in 0..=source.below(8) {
        let Ok(pattern) = HostPattern::parse(&source.host(true)) else { continue };
        if patterns.iter().all(|(known, _): &(HostPattern, u32)| known.shape() != pattern.shape()) {
            let site = u32::try_from(site).expect("few sites");
            hosts.insert(&pattern, site);
            patterns.push((pattern, site));
        }
    }
    for _ in 0..=source.below(8) {
        let host = source.host(false);
        let found = hosts.find(host.as_bytes()).map(|found| {
            let part = |range: &std::ops::Range<u16>| {
                host[usize::from(range.start)..usize::from(range.end)].to_owned()
            };
            (found.site, found.params.iter().map(part).collect::<Vec<_>>())
        });
        assert_eq!(found, oracle::host(&patterns, &host), "host {host:?} in {patterns:?}");
    }
}

/// Canonical paths are what splitting and joining gives, and canonical again.
pub(crate) fn paths(data: &[u8]) {
    let mut source = Source::new(data);
    let policies = [PathPolicy::Clean, PathPolicy::KeepSlashes, PathPolicy::Refuse];
    let policy = policies[source.below(policies.len())];
    let path = source.raw_path();
    let result = canonical::canonicalise(&path, policy).map(|canonical| match canonical {
        Canonical::Same => path.clone(),
        Canonical::Case(text) | Canonical::Changed(text) => {
            String::from_utf8(text.into_vec()).expect("canonical paths are text")
        }
    });
    assert_eq!(result.clone().ok(), oracle::canonical(&path, policy), "{path:?} under {policy:?}");
    let Ok(text) = result else { return };
    assert_eq!(canonical::canonicalise(&text, policy), Ok(Canonical::Same), "{path:?}");
    if !canonical::is_suspect(path.as_bytes()) {
        assert_eq!(text, path, "not even suspect");
    }
}

/// Requests are answered as `explain` says, and handlers see nothing but canonical paths.
pub(crate) fn requests(data: &[u8]) {
    let mut source = Source::new(data);
    let router = router(&mut source);
    let methods = ["GET", "HEAD", "POST", "OPTIONS", "CONNECT", "BREW"];
    for _ in 0..=source.below(8) {
        let method = Method::from_bytes(methods[source.below(methods.len())].as_bytes());
        let method = method.expect("these are methods");
        let target = source.raw_path() + ["", "?a=%2e/../b"][source.below(2)];
        let host = source.host(false);
        let request = || Request::build(method.clone(), &target, &[("host", &host)], Body::Empty);
        let (Ok(first), Ok(second)) = (request(), request()) else { continue };
        let told = router.explain(first.head());
        let status = now(router.call(second)).status();
        let agrees = match told.verdict {
            Verdict::BadPath(_) => status == StatusCode::BAD_REQUEST,
            Verdict::Fallback => status == StatusCode::IM_A_TEAPOT,
            Verdict::MethodNotAllowed { .. } => status == StatusCode::METHOD_NOT_ALLOWED,
            Verdict::NotFound => status == StatusCode::NOT_FOUND,
            Verdict::Options { .. } => status == StatusCode::NO_CONTENT,
            Verdict::Route | Verdict::RouteBySlash => {
                status == StatusCode::OK || status == StatusCode::TEMPORARY_REDIRECT
            }
            Verdict::SlashRedirect => status == StatusCode::PERMANENT_REDIRECT,
        };
        assert!(agrees, "{method} {target} on {host}: {status}, but\n{told}");
    }
}

/// A router of made-up routes, whose handlers look at all that they are given.
fn router(source: &mut Source<'_>) -> Router {
    let slash = [SlashPolicy::Strict, SlashPolicy::Match, SlashPolicy::Redirect308];
    let mut builder = Router::builder().slash(slash[source.below(3)]);
    builder = routes(builder, source);
    let host = source.host(true);
    if HostPattern::parse(&host).is_ok() {
        builder = builder.host(host, |site| routes(site, source));
    }
    if source.below(2) == 1 {
        builder = builder
            .fallback(handler_fn(async |_req| Response::status_only(StatusCode::IM_A_TEAPOT)));
    }
    // Conflicts are not what is looked for here.
    builder.build().unwrap_or_else(|_| Router::builder().build().expect("no routes are well"))
}

fn routes(mut builder: RouterBuilder, source: &mut Source<'_>) -> RouterBuilder {
    for _ in 0..source.below(6) {
        let pattern = source.pattern();
        builder = match source.below(5) {
            0 => builder.get(pattern, inspect()),
            1 => builder.post(pattern, inspect()),
            2 => builder.any(pattern, inspect()),
            3 => builder.mount("/m", inspect()),
            _ => builder.redirect(pattern, Redirect::temporary("/to")),
        };
    }
    builder
}

fn inspect() -> impl Handler {
    handler_fn(async |req: Request| {
        let same = canonical::canonicalise(req.path(), PathPolicy::Clean);
        assert!(matches!(same, Ok(Canonical::Same | Canonical::Case(_))), "{}", req.path());
        for (name, range) in req.params().iter() {
            let raw = req.param(name).expect("it is listed");
            assert_eq!(req.head().target().get(range), Some(raw));
            assert!(!raw.split('/').any(|part| part == ".."), "{raw} in {}", req.path());
            let _either = req.decoded_param(name);
        }
        Response::text("ok")
    })
}

/// The result of a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the handlers answer at once"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn tree_agrees_with_an_ordered_list(data in vec(any::<u8>(), 0..400)) {
            super::tree(&data);
        }

        #[test]
        fn hosts_agree_with_an_ordered_list(data in vec(any::<u8>(), 0..200)) {
            super::hosts(&data);
        }

        #[test]
        fn paths_agree_with_splitting_and_joining(data in vec(any::<u8>(), 0..60)) {
            super::paths(&data);
        }

        #[test]
        fn requests_agree_with_their_explanation(data in vec(any::<u8>(), 0..300)) {
            super::requests(&data);
        }

        #[test]
        fn any_pattern_and_path_is_survived(pattern in "/[ -~é]{0,40}", path in "[ -~é]{0,60}") {
            let mut builder = crate::PathTree::builder();
            let _either = builder.insert(&pattern, ());
            let _either = builder.build().find(&path).map(|found| found.params().count());
            let _either = crate::host::HostPattern::parse(&path);
            let _either = crate::Redirect::permanent(&path);
            super::fuzz_router(path.as_bytes());
        }
    }
}
