//! Precompressed siblings: RFC 9110 §12.5.3.

use crate::{content, field, get, put, serve, serve_at, site};

#[tokio::test]
async fn siblings() {
    let root = site(&[
        ("a.js", b"identity"),
        ("a.js.br", b"br"),
        ("a.js.zst", b"zstd"),
        ("a.js.gz", b"gzip"),
        ("b.js", b"identity"),
        ("b.js.gz", b"gzip"),
        ("only.js.gz", b"gzip"),
        ("index.html", b"identity"),
        ("index.html.br", b"br"),
    ]);
    let files = serve(&root);
    for (path, accept, want) in [
        ("/a.js", "", "identity"),
        ("/a.js", "gzip", "gzip"),
        ("/a.js", "gzip, deflate, br, zstd", "br"),
        ("/a.js", "gzip, zstd", "zstd"),
        ("/a.js", "br;q=0.5, gzip;q=0.9", "gzip"),
        ("/a.js", "br;q=0, *;q=0.1", "zstd"),
        ("/a.js", "deflate", "identity"),
        ("/a.js", "identity;q=1, br;q=0.5", "identity"),
        ("/a.js", "identity;q=0, br", "br"),
        ("/a.js", "*;q=0", "identity"), // nothing is acceptable: better than nothing
        ("/b.js", "br", "identity"),
        ("/b.js", "br, gzip;q=0.1", "gzip"),
        ("/", "br", "br"),
    ] {
        for _ in 0..2 {
            let response = get(&files, path, &[("accept-encoding", accept)]).await;
            let coding = field(&response, "content-encoding").unwrap_or("identity");
            assert_eq!(coding, want, "{path} {accept}");
            assert_eq!(field(&response, "vary"), Some("accept-encoding"));
            let kind = if path == "/" { "text/html" } else { "text/javascript" };
            assert!(field(&response, "content-type").expect("a type").starts_with(kind));
            assert_eq!(content(response).await, want.as_bytes(), "{path} {accept}");
        }
    }
    let none = get(&files, "/a.js", &[]).await;
    assert_eq!(field(&none, "content-encoding"), None);
    assert_eq!(get(&files, "/only.js", &[("accept-encoding", "gzip")]).await.status(), 404);
    let own = get(&files, "/a.js.gz", &[]).await;
    assert_eq!(field(&own, "content-type"), Some("application/gzip"));
    assert_eq!(field(&own, "content-encoding"), None);
    let off = hearth_static_files::StaticFiles::builder(root.path()).precompressed(false).build();
    let off = get(&off.expect("a site"), "/a.js", &[("accept-encoding", "br")]).await;
    assert_eq!((field(&off, "content-encoding"), field(&off, "vary")), (None, None));
}

/// RFC 9110 §8.8.3: each encoding is a representation of its own, with its own tag and its own bytes to range over.
#[tokio::test]
async fn validators_and_ranges_are_per_encoding() {
    let root = site(&[("a.js", b"0123456789"), ("a.js.br", b"abcdef")]);
    let files = serve(&root);
    let br = [("accept-encoding", "br")];
    let (plain, packed) = (get(&files, "/a.js", &[]).await, get(&files, "/a.js", &br).await);
    let (plain, packed) = (field(&plain, "etag"), field(&packed, "etag"));
    let (plain, packed) = (plain.expect("a tag"), packed.expect("a tag"));
    assert_ne!(plain, packed);
    for (tag, accept, want) in
        [(plain, "", 304), (plain, "br", 200), (packed, "br", 304), (packed, "", 200)]
    {
        let fields = [("if-none-match", tag), ("accept-encoding", accept)];
        let response = get(&files, "/a.js", &fields).await;
        assert_eq!(response.status().as_u16(), want, "{tag} {accept}");
        assert_eq!(field(&response, "vary"), Some("accept-encoding"));
    }
    let response = get(&files, "/a.js", &[("accept-encoding", "br"), ("range", "bytes=2-3")]).await;
    assert_eq!(field(&response, "content-range"), Some("bytes 2-3/6"));
    assert_eq!(field(&response, "content-encoding"), Some("br"));
    assert_eq!(content(response).await, b"cd");
}

#[tokio::test]
async fn a_sibling_that_comes_and_goes() {
    let root = site(&[("a.js", b"identity")]);
    let (files, clock) = serve_at(&root);
    let coding = async || {
        let response = get(&files, "/a.js", &[("accept-encoding", "gzip")]).await;
        field(&response, "content-encoding").map(str::to_owned)
    };
    assert_eq!(coding().await, None);
    put(root.path(), "a.js.gz", b"gzip");
    assert_eq!(coding().await, None, "believed for a second");
    clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(coding().await.as_deref(), Some("gzip"));
    std::fs::remove_file(root.path().join("a.js.gz")).expect("the file");
    clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(coding().await, None);
}
