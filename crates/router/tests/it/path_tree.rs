//! The tree alone.

use hearth_router::{InsertError, PathTree};

fn tree(patterns: &[&str]) -> PathTree<usize> {
    let mut builder = PathTree::builder();
    for (number, pattern) in patterns.iter().enumerate() {
        builder.insert(pattern, number).unwrap();
    }
    builder.build()
}

#[test]
fn finds_values_patterns_and_parameters() {
    let tree = tree(&["/", "/a/{b}/c-{d:int}.txt/{*e}"]);
    let found = tree.find("/a/x/c-7.txt/y/z").unwrap();
    assert_eq!((*found.value(), found.pattern()), (1, "/a/{b}/c-{d:int}.txt/{*e}"));
    let params: Vec<_> = found.params().collect();
    assert_eq!(params, [("b", "x"), ("d", "7"), ("e", "y/z")]);
    assert_eq!((found.param("d"), found.param("x")), (Some("7"), None));
    assert_eq!(found.ranges().collect::<Vec<_>>(), [3..4, 7..8, 13..16]);
    assert_eq!((tree.len(), tree.is_empty()), (2, false));
    assert_eq!(tree.iter().map(|(pattern, _)| pattern).next(), Some("/"));
}

#[test]
fn refuses_what_is_no_path() {
    let tree = tree(&["/{*all}"]);
    assert!(tree.find("").is_none() && tree.find("a").is_none());
    assert!(tree.find(&format!("/{}", "a".repeat(65_534))).is_some());
    assert!(tree.find(&format!("/{}", "a".repeat(65_535))).is_none());
    assert!(PathTree::<()>::builder().build().find("/").is_none());
}

#[test]
fn conflicts_name_both_patterns() {
    let mut builder = PathTree::builder();
    builder.insert("/a/{b:int}", ()).unwrap();
    builder.insert("/a/{b}", ()).unwrap();
    let error = builder.insert("/a/{c:int}", ()).unwrap_err();
    let want =
        InsertError::Conflict { pattern: "/a/{c:int}".into(), existing: "/a/{b:int}".into() };
    assert_eq!(error, want);
    assert!(matches!(builder.insert("/{", ()), Err(InsertError::Pattern { .. })));
}

#[test]
fn nodes_of_many_children() {
    // The same eight bytes first, so that tables must look further.
    let patterns: Vec<String> =
        (0..5_000).map(|n| format!("/articles-number-{n}-about-x/{n}")).collect();
    let texts: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let tree = tree(&texts);
    for (number, pattern) in texts.iter().enumerate() {
        assert_eq!(tree.find(pattern).map(|found| *found.value()), Some(number));
    }
    assert!(tree.find("/articles-number-5000-about-x/5000").is_none());
    assert!(tree.find("/articles-number-1-about-x/2").is_none());
}

#[test]
fn the_deepest_pattern_and_a_deeper_path() {
    let deep = "/{a0}/x".to_owned() + &"/x".repeat(30);
    let tree = tree(&[&deep, "/x/{*rest}"]);
    let path = "/x".repeat(32);
    assert_eq!(tree.find(&path).map(|found| *found.value()), Some(1));
    let path = "/y".to_owned() + &"/x".repeat(31);
    assert_eq!(tree.find(&path).map(|found| *found.value()), Some(0));
    assert!(tree.find(&(path + "/x")).is_none());
    assert_eq!(tree.find(&"/x".repeat(32_000)).map(|found| *found.value()), Some(1));
}
