//! Directories, fallbacks, pages for what is missing.

use hearth_http_core::{Body, Method, Request, StatusCode};
use hearth_static_files::{BuildError, StaticFiles};

use crate::{answer, content, field, get, put, serve, site};

#[tokio::test]
async fn index_files() {
    let root = site(&[
        ("index.html", b"root"),
        ("d/index.htm", b"second"),
        ("e/other.txt", b""),
        ("f/index.html/x", b""),
    ]);
    let files = StaticFiles::builder(root.path()).index(["index.html", "index.htm"]).build();
    let files = files.expect("a site");
    assert_eq!(answer(&files, "/").await, (200, "root".into()));
    assert_eq!(answer(&files, "/d/").await, (200, "second".into()));
    assert_eq!(answer(&files, "/e/").await.0, 404);
    assert_eq!(answer(&files, "/f/").await.0, 404);
    let response = get(&files, "/d/", &[]).await;
    assert_eq!(field(&response, "content-type"), Some("text/html; charset=utf-8"));
}

#[tokio::test]
async fn directories_without_their_slash() {
    let root = site(&[("d/e/index.html", b"")]);
    let files = serve(&root);
    for (path, want) in [
        ("/d", "/d/"),
        ("/d/e", "/d/e/"),
        ("/d/e?a=b", "/d/e/?a=b"),
        ("//d", "/d/"), // two slashes would be another host
        ("///d/e?x", "/d/e/?x"),
        ("/d%2Fe", ""),
        ("/%64", "/%64/"),
    ] {
        let response = get(&files, path, &[]).await;
        if want.is_empty() {
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        } else {
            assert_eq!(response.status(), StatusCode::MOVED_PERMANENTLY, "{path}");
            assert_eq!(field(&response, "location"), Some(want), "{path}");
        }
    }
}

#[tokio::test]
async fn mounted_behind_a_catch_all() {
    let root = site(&[("a.txt", b"a"), ("d/index.html", b"d"), ("index.html", b"root")]);
    let files = serve(&root);
    for (target, range, want) in [
        ("/static/a.txt", 8..13, (200, "a")),
        ("/static/d/", 8..10, (200, "d")),
        ("/static/", 8..8, (200, "root")),
        ("/static/d", 8..9, (301, "")),
        ("/static/../a.txt", 8..16, (400, "")),
    ] {
        let mut req = Request::get(target).expect("a request");
        let names = std::sync::Arc::from([Box::from("path")]);
        req.set_params(hearth_http_core::PathParams::new(names, [range]));
        let response = files.respond(&req);
        assert_eq!(response.status().as_u16(), want.0, "{target}");
        if want.0 == 301 {
            assert_eq!(field(&response, "location"), Some("/static/d/"));
        }
        if want.0 == 200 {
            assert_eq!(content(response).await, want.1.as_bytes());
        }
    }
}

#[tokio::test]
async fn fallback() {
    let root = site(&[("index.html", b"app"), ("a.txt", b"a")]);
    let files = StaticFiles::builder(root.path()).fallback("index.html").build().expect("a site");
    for path in ["/", "/users/7", "/users/7/", "/users/john.doe", "/page.html", "/d.x/y"] {
        assert_eq!(answer(&files, path).await, (200, "app".into()), "{path}");
    }
    assert_eq!(answer(&files, "/a.txt").await, (200, "a".into()));
    for path in ["/missing.js", "/img/x.png", "/data.json"] {
        assert_eq!(answer(&files, path).await.0, 404, "{path}");
    }
    assert_eq!(answer(&files, "/../x").await.0, 400);
    assert_eq!(answer(&files, "/.env").await.0, 404);
    let etag = get(&files, "/", &[]).await;
    let etag = field(&etag, "etag").expect("a tag");
    let response = get(&files, "/users/7", &[("if-none-match", etag)]).await;
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn page_for_what_is_missing() {
    let root = site(&[("404.html", b"nowhere"), ("404.html.gz", b"gz")]);
    let files = StaticFiles::builder(root.path()).not_found_page("404.html").build();
    let files = files.expect("a site");
    for _ in 0..2 {
        let response =
            get(&files, "/missing", &[("range", "bytes=0-1"), ("if-match", "\"x\"")]).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(field(&response, "content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(field(&response, "etag"), None);
        assert_eq!(field(&response, "accept-ranges"), None);
        assert_eq!(content(response).await, b"nowhere");
        // The file itself is an ordinary one.
        assert_eq!(answer(&files, "/404.html").await, (200, "nowhere".into()));
        let gz = get(&files, "/missing", &[("accept-encoding", "gzip")]).await;
        assert_eq!(gz.status(), StatusCode::NOT_FOUND);
        assert_eq!(field(&gz, "content-encoding"), Some("gzip"));
    }
    assert_eq!(answer(&files, "/%").await.0, 400);
    std::fs::remove_file(root.path().join("404.html")).expect("the file");
    let files = StaticFiles::builder(root.path()).not_found_page("404.html").build();
    assert_eq!(answer(&files.expect("a site"), "/missing").await, (404, "404 Not Found\n".into()));
}

#[tokio::test]
async fn listings() {
    let root = site(&[
        ("d/b.txt", &[0; 2048]),
        ("d/A.txt", b"x"),
        ("d/<i>&\"'.txt", b""),
        ("d/a b%.txt", b""),
        ("d/.hidden", b""),
        ("d/sub/x", b""),
        ("d/javascript:alert(1)", b""),
    ]);
    put(root.path(), "e/index.html", b"index");
    std::os::unix::fs::symlink("/etc/passwd", root.path().join("d/link")).expect("a link");
    assert_eq!(answer(&serve(&root), "/d/").await.0, 404, "off by default");
    let files = StaticFiles::builder(root.path()).listing(true).build().expect("a site");
    assert_eq!(answer(&files, "/e/").await, (200, "index".into()));
    assert_eq!(answer(&files, "/missing/").await.0, 404);
    let response = get(&files, "/d/", &[]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(field(&response, "content-type"), Some("text/html; charset=utf-8"));
    let page = String::from_utf8(content(response).await).expect("text");
    let mut last = 0;
    for want in [
        "<html lang=\"en\">",
        "<title>Index of /d/</title>",
        "<th scope=\"col\">Name</th>",
        "<a href=\"../\">Parent directory</a>",
        "<a href=\"sub/\">sub/</a>",
        "<a href=\"%3Ci%3E%26%22%27.txt\">&lt;i&gt;&amp;&quot;&#39;.txt</a>",
        "<a href=\"a%20b%25.txt\">a b%.txt</a>",
        "<a href=\"A.txt\">A.txt</a></td><td>1 B</td>",
        "<a href=\"b.txt\">b.txt</a></td><td>2.0 KiB</td>",
        "<a href=\"javascript%3Aalert%281%29\">",
    ] {
        let at = page.find(want).unwrap_or_else(|| panic!("{want} in {page}"));
        assert!(at > last, "{want} comes too early in {page}");
        last = at;
    }
    assert!(!page.contains("hidden") && !page.contains("<i>"));
    let (_, top) = answer(&files, "/").await;
    assert!(!top.contains("Parent directory"));
}

#[tokio::test]
async fn listings_escape_the_path() {
    let root = site(&[("<script>/x", b"")]);
    let files = StaticFiles::builder(root.path()).listing(true).build().expect("a site");
    let (status, page) = answer(&files, "/%3Cscript%3E/").await;
    assert_eq!(status, 200);
    assert!(page.contains("Index of /&lt;script&gt;/") && !page.contains("<script>"));
}

#[test]
fn builds_that_fail() {
    let root = site(&[("file", b"")]);
    let missing = root.path().join("missing");
    assert!(matches!(StaticFiles::builder(missing).build(), Err(BuildError::Root { .. })));
    let file = root.path().join("file");
    assert!(matches!(StaticFiles::builder(file).build(), Err(BuildError::Root { .. })));
    let build = || StaticFiles::builder(root.path());
    for name in ["", "/index.html", "../index.html", "a/", "a\\b"] {
        for builder in [build().index([name]), build().fallback(name), build().not_found_page(name)]
        {
            assert!(matches!(builder.build(), Err(BuildError::InvalidName { .. })), "{name}");
        }
    }
    let builder = build().cache_control("*.js", "a\nb");
    assert!(matches!(builder.build(), Err(BuildError::InvalidValue { .. })));
    assert!(matches!(
        build().media_type("js", "a\0b").build(),
        Err(BuildError::InvalidValue { .. })
    ));
}

#[tokio::test]
async fn own_types_and_policies() {
    let root = site(&[("a.foo", b"x"), ("img/a.png", b"x"), ("app.3f2a9c1b.js", b"x")]);
    let files = StaticFiles::builder(root.path())
        .media_type(".foo", "text/x-foo")
        .cache_control("img/**", "max-age=60")
        .build()
        .expect("a site");
    let foo = get(&files, "/a.foo", &[]).await;
    assert_eq!(field(&foo, "content-type"), Some("text/x-foo"));
    assert_eq!(field(&foo, "cache-control"), None);
    let image = get(&files, "/img/a.png", &[]).await;
    assert_eq!(field(&image, "cache-control"), Some("max-age=60"));
    let hashed = get(&files, "/app.3f2a9c1b.js", &[]).await;
    let year = "public, max-age=31536000, immutable";
    assert_eq!(field(&hashed, "cache-control"), Some(year));
    // A 304 carries what caches go by.
    let etag = field(&hashed, "etag").expect("a tag");
    let fresh = get(&files, "/app.3f2a9c1b.js", &[("if-none-match", etag)]).await;
    assert_eq!(field(&fresh, "cache-control"), Some(year));
    let req = Request::build(Method::HEAD, "/a.foo", &[], Body::Empty).expect("a request");
    assert_eq!(field(&files.respond(&req), "content-type"), Some("text/x-foo"));
}
