//! Precompressed siblings: RFC 9110 §12.5.3.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hearth_http_core::{Coding, ContentEncoder};
use hearth_static_files::{ManualClock, StaticFiles};

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
    let off = StaticFiles::builder(root.path()).precompressed(false).build();
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
    clock.advance(Duration::from_secs(1));
    assert_eq!(coding().await.as_deref(), Some("gzip"));
    std::fs::remove_file(root.path().join("a.js.gz")).expect("the file");
    clock.advance(Duration::from_secs(1));
    assert_eq!(coding().await, None);
}

/// Writes the coding's name and the length; counts what it is asked for.
#[derive(Default)]
struct Fake(AtomicUsize);

impl ContentEncoder for Fake {
    fn codings(&self, content_type: &[u8]) -> &[Coding] {
        if content_type.starts_with(b"text/") { &[Coding::Zstd, Coding::Gzip] } else { &[] }
    }

    fn encode(&self, coding: Coding, content: &[u8]) -> Option<Vec<u8>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        (content.len() > 10).then(|| format!("{}{}", coding.name(), content.len()).into_bytes())
    }
}

#[tokio::test]
async fn encoded_once_for_each_version() {
    let root = site(&[
        ("a.html", &[b'a'; 1000]),
        ("large.html", &[b'a'; 100_000]),
        ("huge.html", &[b'a'; 300_000]),
        ("tiny.html", b"a"),
        ("a.png", &[b'a'; 1000]),
        ("mixed.html", &[b'a'; 1000]),
        ("mixed.html.gz", b"sibling"),
    ]);
    let fake = Arc::new(Fake::default());
    let clock = ManualClock::new();
    let files = StaticFiles::builder(root.path())
        .encoder(Arc::clone(&fake) as Arc<dyn ContentEncoder>)
        .clock(clock.clone())
        .build()
        .expect("a site");
    let rows = [
        ("/a.html", "gzip", Some("gzip1000"), 1),
        ("/a.html", "gzip, br", Some("gzip1000"), 0),
        ("/a.html", "gzip, zstd", Some("gzip1000"), 0), // equally liked, and there already
        ("/a.html", "zstd, gzip;q=0.5", Some("zstd1000"), 1),
        ("/a.html", "zstd", Some("zstd1000"), 0),
        ("/a.html", "br", None, 0),
        ("/a.html", "", None, 0),
        ("/large.html", "zstd", Some("zstd100000"), 1),
        ("/large.html", "zstd", Some("zstd100000"), 0),
        ("/large.html", "", None, 0),
        ("/tiny.html", "zstd", None, 1), // not smaller: not tried again
        ("/tiny.html", "zstd", None, 0),
        ("/huge.html", "zstd", None, 0),
        ("/a.png", "zstd", None, 0),
        ("/mixed.html", "zstd, gzip", Some("sibling"), 0),
        ("/mixed.html", "zstd, gzip;q=0.5", Some("zstd1000"), 1),
    ];
    for (path, accept, want, asked) in rows {
        let before = fake.0.load(Ordering::Relaxed);
        let response = get(&files, path, &[("accept-encoding", accept)]).await;
        let varies = !matches!(path, "/huge.html" | "/a.png");
        let is_tiny = path == "/tiny.html";
        assert!(is_tiny || field(&response, "vary").is_some() == varies, "{path} {accept}");
        assert_eq!(field(&response, "content-encoding").is_some(), want.is_some(), "{path}");
        if let Some(want) = want {
            assert_eq!(content(response).await, want.as_bytes(), "{path} {accept}");
        }
        assert_eq!(fake.0.load(Ordering::Relaxed) - before, asked, "{path} {accept}");
    }
    // Its own tag and ranges.
    let zstd = ("accept-encoding", "zstd");
    let tag = get(&files, "/a.html", &[zstd]).await;
    let tag = field(&tag, "etag").expect("a tag");
    let fresh = get(&files, "/a.html", &[zstd, ("if-none-match", tag)]).await;
    assert_eq!(fresh.status().as_u16(), 304);
    let part = get(&files, "/a.html", &[zstd, ("range", "bytes=0-1")]).await;
    assert_eq!(content(part).await, b"zs");
    // A new version is encoded anew.
    put(root.path(), "new", &[b'b'; 2000]);
    std::fs::rename(root.path().join("new"), root.path().join("a.html")).expect("renaming");
    clock.advance(Duration::from_secs(1));
    let changed = get(&files, "/a.html", &[zstd, ("if-none-match", tag)]).await;
    assert_eq!(content(changed).await, b"zstd2000");
}
