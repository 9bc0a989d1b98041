//! Serves real directories to requests made by hand.

mod allocations;
mod caching;
mod directories;
mod negotiation;
mod ranges;
mod traversal;

use std::{fs, path::Path};

use hearth_http_core::{Body, Handler, HeaderName, Method, Request, Response, StatusCode};
use hearth_static_files::{ManualClock, StaticFiles};
use tempfile::TempDir;

/// A directory with these files.
fn site(files: &[(&str, &[u8])]) -> TempDir {
    let root = tempfile::tempdir().expect("a directory");
    for (name, content) in files {
        put(root.path(), name, content);
    }
    root
}

fn put(root: &Path, name: &str, content: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    fs::write(path, content).expect("a file");
}

fn serve(root: &TempDir) -> StaticFiles {
    StaticFiles::builder(root.path()).build().expect("a site")
}

/// One whose cache believes what it has until the clock is moved.
fn serve_at(root: &TempDir) -> (StaticFiles, ManualClock) {
    let clock = ManualClock::new();
    let files = StaticFiles::builder(root.path()).clock(clock.clone()).build().expect("a site");
    (files, clock)
}

async fn ask(files: &StaticFiles, method: Method, path: &str, fields: &[(&str, &str)]) -> Response {
    files.call(Request::build(method, path, fields, Body::Empty).expect("a request")).await
}

async fn get(files: &StaticFiles, path: &str, fields: &[(&str, &str)]) -> Response {
    ask(files, Method::GET, path, fields).await
}

fn field<'a>(response: &'a Response, name: &'static str) -> Option<&'a str> {
    let value = response.headers().get(&HeaderName::from_static(name));
    value.map(|value| value.to_str().expect("text"))
}

async fn content(mut response: Response) -> Vec<u8> {
    response.take_body().collect(u64::MAX).await.expect("the body").to_vec()
}

/// Status and content.
async fn answer(files: &StaticFiles, path: &str) -> (u16, String) {
    let response = get(files, path, &[]).await;
    let status = response.status().as_u16();
    (status, String::from_utf8(content(response).await).expect("text"))
}

#[tokio::test]
async fn fields_of_a_file() {
    let root = site(&[("a.html", b"<p>hello")]);
    let response = get(&serve(&root), "/a.html", &[]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(field(&response, "content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(field(&response, "cache-control"), Some("no-cache"));
    assert_eq!(field(&response, "x-content-type-options"), Some("nosniff"));
    assert_eq!(field(&response, "accept-ranges"), Some("bytes"));
    assert_eq!(field(&response, "vary"), None);
    let etag = field(&response, "etag").expect("a tag");
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    let modified = field(&response, "last-modified").expect("a date");
    assert!(modified.ends_with(" GMT"), "{modified}");
    assert_eq!(response.body_len(), Some(8));
    assert_eq!(content(response).await, b"<p>hello");
}

#[tokio::test]
async fn methods() {
    let root = site(&[("a.txt", b"text"), ("large.txt", &[b'x'; 100_000])]);
    let files = serve(&root);
    for path in ["/a.txt", "/large.txt"] {
        let (got, head) =
            (get(&files, path, &[]).await, ask(&files, Method::HEAD, path, &[]).await);
        assert_eq!(head.status(), StatusCode::OK);
        assert_eq!(head.body_len(), got.body_len());
        assert!(head.headers().iter().eq(got.headers().iter()));
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        for path in ["/a.txt", "/missing", "/../x"] {
            let response = ask(&files, method.clone(), path, &[]).await;
            let wanted = match method {
                Method::OPTIONS => StatusCode::NO_CONTENT,
                _ => StatusCode::METHOD_NOT_ALLOWED,
            };
            assert_eq!(response.status(), wanted, "{method} {path}");
            assert_eq!(field(&response, "allow"), Some("GET, HEAD, OPTIONS"));
        }
    }
    let post = Request::build(Method::POST, "/a.txt", &[], Body::Empty).expect("a request");
    assert!(files.find(&post).is_none());
    assert!(files.find(&Request::get("/missing").expect("a request")).is_none());
    assert!(files.find(&Request::get("/a.txt").expect("a request")).is_some());
}

/// RFC 9110 §13 through the handler, for a file in memory and for one that is not.
#[tokio::test]
async fn conditional_requests() {
    let root = site(&[("a.txt", b"text"), ("large.txt", &[b'x'; 100_000])]);
    let files = serve(&root);
    for path in ["/a.txt", "/large.txt"] {
        let first = get(&files, path, &[]).await;
        let etag = field(&first, "etag").expect("a tag").to_owned();
        let date = field(&first, "last-modified").expect("a date").to_owned();
        let weak = format!("W/{etag}");
        let past = "Sun, 06 Nov 1994 08:49:37 GMT";
        for method in [Method::GET, Method::HEAD] {
            for (name, value, want) in [
                ("if-none-match", etag.as_str(), 304),
                ("if-none-match", weak.as_str(), 304),
                ("if-none-match", "*", 304),
                ("if-none-match", "\"other\"", 200),
                ("if-modified-since", date.as_str(), 304),
                ("if-modified-since", past, 200),
                ("if-match", etag.as_str(), 200),
                ("if-match", weak.as_str(), 412),
                ("if-match", "\"other\"", 412),
                ("if-unmodified-since", date.as_str(), 200),
                ("if-unmodified-since", past, 412),
            ] {
                let response = ask(&files, method.clone(), path, &[(name, value)]).await;
                assert_eq!(response.status().as_u16(), want, "{method} {path} {name}: {value}");
                if want == 304 {
                    assert_eq!(field(&response, "etag"), Some(etag.as_str()));
                    assert_eq!(field(&response, "content-type"), None);
                    assert_eq!(response.body_len(), Some(0));
                }
            }
        }
    }
}

#[tokio::test]
async fn equal_content_has_an_equal_tag() {
    let (one, two) = (site(&[("a.txt", b"text")]), site(&[("b.txt", b"text"), ("c.txt", b"test")]));
    let (one, two) = (serve(&one), serve(&two));
    let a = get(&one, "/a.txt", &[]).await;
    let (b, c) = (get(&two, "/b.txt", &[]).await, get(&two, "/c.txt", &[]).await);
    assert_eq!(field(&a, "etag"), field(&b, "etag"));
    assert_ne!(field(&a, "etag"), field(&c, "etag"));
}

#[tokio::test]
async fn odd_files() {
    let root = site(&[("empty.txt", b""), ("with space.txt", b"s"), ("gr\u{fc}n.txt", b"g")]);
    rustix::fs::mkfifoat(rustix::fs::CWD, root.path().join("pipe"), 0o600.into()).expect("a pipe");
    let files = serve(&root);
    assert_eq!(answer(&files, "/empty.txt").await, (200, String::new()));
    assert_eq!(answer(&files, "/with%20space.txt").await, (200, "s".into()));
    assert_eq!(answer(&files, "/gr%C3%BCn.txt").await, (200, "g".into()));
    assert_eq!(answer(&files, "//empty.txt").await.0, 200);
    assert_eq!(answer(&files, "/pipe").await.0, 404);
    assert_eq!(answer(&files, "/empty.txt/").await.0, 404);
    assert_eq!(answer(&files, "/empty.txt/x").await.0, 404);
    assert_eq!(answer(&files, "/a?b=/../..").await.0, 404);
}
