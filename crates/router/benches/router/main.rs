//! `PathTree` beside `matchit`, in one run, on the same routes and the same paths.
//!
//! `cargo bench -p hearth-router [-- quick | NAME]` prints nanoseconds per look-up, parameters read, and the
//! ratio of the two. Both are measured by turns, and the best round of each counts, so that a noisy
//! machine disturbs the ratio little. Routes and paths are made by a fixed generator.

mod dispatch;
mod github;
mod random;

use std::{hint::black_box, process::ExitCode, time::Instant};

use hearth_router::PathTree;

/// Routes, and paths of which all, or none, have one.
struct Case {
    name: String,
    routes: Vec<String>,
    paths: Vec<String>,
    hits: bool,
}

fn main() -> ExitCode {
    // `cargo test` runs benchmarks too, to see that they work.
    let args: Vec<String> = std::env::args().skip(1).collect();
    let quick = args.iter().any(|arg| arg == "quick" || arg == "--test");
    let name = args.iter().find(|arg| *arg != "quick" && !arg.starts_with('-'));
    let rounds = if quick { 3 } else { 40 };
    println!(
        "{:<28}{:>8}{:>12}{:>12}{:>8}",
        "routes, paths", "paths", "PathTree", "matchit", "ratio"
    );
    let mut worst = f64::INFINITY;
    for case in cases(name.map_or("", String::as_str)) {
        let (ours, theirs) = measure(&case, rounds);
        let ratio = theirs / ours;
        worst = worst.min(ratio);
        let count = case.paths.len();
        println!("{:<28}{count:>8}{ours:>9.1} ns{theirs:>9.1} ns{ratio:>7.2}x", case.name);
    }
    println!("worst ratio {worst:.2}x");
    if name.is_none_or(|name| name == "dispatch") {
        dispatch::run(rounds);
    }
    // To be faster on every row is what this crate owes; a few rounds are too few to tell.
    if quick || worst > 1.0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The cases whose name contains `wanted`.
fn cases(wanted: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let github: Vec<String> = github::ROUTES.iter().map(|&route| route.to_owned()).collect();
    let mut random = random::Random::new(1);
    add(&mut cases, "github", &github, &mut random);
    if wanted == "dispatch" {
        return Vec::new();
    }
    for count in [1_000, 10_000] {
        for (words, name) in [(200, "like an API"), (1 << 20, "random")] {
            let routes = random.routes(count, words);
            add(&mut cases, &format!("{count} {name}"), &routes, &mut random);
        }
    }
    cases.retain(|case| case.name.contains(wanted));
    cases
}

/// Adds hits and misses of these routes, in an order that helps no cache.
fn add(cases: &mut Vec<Case>, name: &str, routes: &[String], random: &mut random::Random) {
    let (tree, other) = build(routes);
    let mut hits: Vec<String> = routes.iter().map(|route| random.fill(route)).collect();
    hits.retain(|path| tree.find(path).is_some() && other.at(path).is_ok());
    random.shuffle(&mut hits);
    let mut misses: Vec<String> = hits.iter().map(|path| random.spoil(path)).collect();
    misses.retain(|path| tree.find(path).is_none() && other.at(path).is_err());
    for path in &hits {
        let (ours, theirs) = (tree.find(path), other.at(path));
        assert_eq!(ours.map(|m| *m.value()), theirs.ok().map(|m| *m.value), "{path}");
    }
    for (paths, kind, hits) in [(hits, "hits", true), (misses, "misses", false)] {
        let name = format!("{name}, {kind}");
        cases.push(Case { name, routes: routes.to_vec(), paths, hits });
    }
}

fn build(routes: &[String]) -> (PathTree<usize>, matchit::Router<usize>) {
    let mut tree = PathTree::builder();
    let mut other = matchit::Router::new();
    for (number, route) in routes.iter().enumerate() {
        tree.insert(route, number).expect("the generator makes no conflicts");
        other.insert(route.as_str(), number).expect("the generator makes no conflicts");
    }
    (tree.build(), other)
}

/// Nanoseconds per look-up: ours, theirs.
fn measure(case: &Case, rounds: u32) -> (f64, f64) {
    let (tree, other) = build(&case.routes);
    let repeat = (20_000 / case.paths.len()).max(1);
    let ours = || {
        let mut sum = 0;
        for path in &case.paths {
            if let Some(found) = tree.find(black_box(path)) {
                sum += *found.value();
                sum += found.params().map(|(_, value)| value.len()).sum::<usize>();
            }
        }
        sum
    };
    let theirs = || {
        let mut sum = 0;
        for path in &case.paths {
            if let Ok(found) = other.at(black_box(path)) {
                sum += *found.value;
                sum += found.params.iter().map(|(_, value)| value.len()).sum::<usize>();
            }
        }
        sum
    };
    assert_eq!(ours(), theirs(), "both see the same parameters");
    assert!(case.hits || ours() == 0);
    let mut best = (f64::INFINITY, f64::INFINITY);
    for _ in 0..rounds {
        best.0 = best.0.min(time(&ours, repeat));
        best.1 = best.1.min(time(&theirs, repeat));
    }
    let per_path = 1e9 / (repeat * case.paths.len()) as f64;
    (best.0 * per_path, best.1 * per_path)
}

/// Seconds for `repeat` calls.
fn time(work: &impl Fn() -> usize, repeat: usize) -> f64 {
    let start = Instant::now();
    for _ in 0..repeat {
        black_box(work());
    }
    start.elapsed().as_secs_f64()
}
