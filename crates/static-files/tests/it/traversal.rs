//! Nothing outside the root is reachable, however it is spelled.

use std::{fs, os::unix::fs::symlink};

use hearth_static_files::{StaticFiles, Symlinks};

use crate::{answer, get, put, site};

/// Every way to spell the step up, or a separator, that has worked somewhere.
#[tokio::test]
async fn spellings() {
    let parent = site(&[("secret.txt", b"secret"), ("root/a.txt", b"a"), ("root/d/b.txt", b"b")]);
    let ups = [
        "..",
        "%2e%2e",
        "%2E%2E",
        ".%2e",
        "%2e.",
        "%252e%252e",
        "%c0%ae%c0%ae",
        "%e0%80%ae%e0%80%ae",
        "%uff0e%uff0e",
        "..%00",
        "%00..",
        "..%20",
        "..%09",
        "..;",
        "..;x",
        "....",
        "...",
        "%2e%2e%2f..",
        "%ff%2e%2e",
        "..%ef%bc%8f",
        "%ef%bc%8e%ef%bc%8e",
        "%2e%2e%5c",
        "..%0d%0a",
        "~",
        "*",
    ];
    let slashes = [
        "/",
        "//",
        "%2f",
        "%2F",
        "%5c",
        "%5C",
        "\\",
        "%252f",
        "%c0%af",
        "%e0%80%af",
        "/./",
        "/.//",
        "%2f/",
        ";/",
        "%00/",
    ];
    for symlinks in [Symlinks::Deny, Symlinks::WithinRoot, Symlinks::Follow] {
        let files = StaticFiles::builder(parent.path().join("root"))
            .symlinks(symlinks)
            .hidden_files(true)
            .listing(true)
            .build()
            .expect("a site");
        for up in ups {
            for slash in slashes {
                for start in ["/", "/d/", "/d/../", "//", "/x/", "/d%2f"] {
                    let path = format!("{start}{up}{slash}secret.txt");
                    let (status, body) = answer(&files, &path).await;
                    assert!(matches!(status, 400 | 404), "{path}: {status}");
                    assert!(!body.contains("secret\n") && body != "secret", "{path}");
                    let twice = format!("{start}{up}{slash}{up}{slash}secret.txt");
                    assert!(matches!(answer(&files, &twice).await.0, 400 | 404), "{twice}");
                }
            }
        }
        let absolute = parent.path().join("secret.txt");
        let absolute = absolute.to_str().expect("text");
        for path in [absolute.to_owned(), format!("/{absolute}"), format!("/%2f{absolute}")] {
            assert!(matches!(answer(&files, &path).await.0, 400 | 404), "{path}");
        }
        assert_eq!(answer(&files, "/d/b.txt").await, (200, "b".into()));
    }
}

#[tokio::test]
async fn refused_names() {
    let names =
        [".env", ".git/config", "d/.hidden", "a.txt.", "b.txt ", "con.txt", "NUL", "com1.js"];
    let root = site(&[]);
    for name in names {
        put(root.path(), name, b"secret");
    }
    put(root.path(), ".well-known/security.txt", b"found");
    let files = crate::serve(&root);
    for name in names {
        let path = format!("/{}", name.replace(' ', "%20"));
        assert_eq!(answer(&files, &path).await.0, 404, "{path}");
    }
    assert_eq!(answer(&files, "/.well-known/security.txt").await, (200, "found".into()));
    let hidden = StaticFiles::builder(root.path()).hidden_files(true).build().expect("a site");
    assert_eq!(answer(&hidden, "/.env").await.0, 200);
    assert_eq!(answer(&hidden, "/con.txt").await.0, 404);
}

/// A link that changes its target is noticed at the next check, also when the page was cached.
#[tokio::test]
async fn a_link_that_turns_outward() {
    let outside = site(&[("secret.txt", b"secret")]);
    let root = site(&[("inside.txt", b"inside")]);
    let link = root.path().join("link.txt");
    symlink("inside.txt", &link).expect("a link");
    let (files, clock) = crate::serve_at(&root);
    assert_eq!(answer(&files, "/link.txt").await, (200, "inside".into()));
    fs::remove_file(&link).expect("the link");
    symlink(outside.path().join("secret.txt"), &link).expect("a link");
    clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(answer(&files, "/link.txt").await.0, 404);
}

#[tokio::test]
async fn siblings_and_index_are_confined_too() {
    let outside = site(&[("secret", b"secret")]);
    let root = site(&[("a.txt", b"a"), ("d/x", b"")]);
    symlink(outside.path().join("secret"), root.path().join("a.txt.gz")).expect("a link");
    symlink(outside.path().join("secret"), root.path().join("d/index.html")).expect("a link");
    let files = crate::serve(&root);
    let response = get(&files, "/a.txt", &[("accept-encoding", "gzip")]).await;
    assert_eq!(crate::field(&response, "content-encoding"), None);
    assert_eq!(answer(&files, "/d/").await.0, 404);
}
