//! What is kept, and when a change is noticed.

use std::{fs, time::Duration};

use hearth_static_files::StaticFiles;

use crate::{answer, content, field, get, put, serve_at, site};

const SECOND: Duration = Duration::from_secs(1);

/// A file that is replaced as it should be: written beside and renamed.
fn replace(root: &std::path::Path, name: &str, content: &[u8]) {
    put(root, "new", content);
    fs::rename(root.join("new"), root.join(name)).expect("renaming");
}

#[tokio::test]
async fn changes_are_noticed_within_a_second() {
    for size in [10, 100_000] {
        let root = site(&[("a.txt", &vec![b'1'; size]), ("d/index.html", b"1")]);
        let (files, clock) = serve_at(&root);
        let first = get(&files, "/a.txt", &[]).await;
        let tag = field(&first, "etag").expect("a tag").to_owned();
        replace(root.path(), "a.txt", &vec![b'2'; size]);
        clock.advance(SECOND - Duration::from_millis(1));
        let believed = get(&files, "/a.txt", &[("if-none-match", &tag)]).await;
        assert_eq!(believed.status().as_u16(), 304);
        clock.advance(Duration::from_millis(1));
        let changed = get(&files, "/a.txt", &[("if-none-match", &tag)]).await;
        assert_eq!(changed.status().as_u16(), 200);
        assert_eq!(content(changed).await, vec![b'2'; size]);
        // In place, same length.
        put(root.path(), "a.txt", &vec![b'3'; size]);
        clock.advance(SECOND);
        assert_eq!(content(get(&files, "/a.txt", &[]).await).await, vec![b'3'; size]);
        fs::remove_file(root.path().join("a.txt")).expect("the file");
        clock.advance(SECOND);
        assert_eq!(answer(&files, "/a.txt").await.0, 404);
        put(root.path(), "a.txt", b"4");
        assert_eq!(answer(&files, "/a.txt").await, (200, "4".into()), "misses are not kept");
    }
}

#[tokio::test]
async fn a_file_that_becomes_a_directory() {
    let root = site(&[("a", b"file"), ("d/index.html", b"1")]);
    let (files, clock) = serve_at(&root);
    assert_eq!(answer(&files, "/a").await.0, 200);
    fs::remove_file(root.path().join("a")).expect("the file");
    put(root.path(), "a/index.html", b"index");
    clock.advance(SECOND);
    assert_eq!(answer(&files, "/a").await.0, 301);
    assert_eq!(answer(&files, "/a/").await, (200, "index".into()));
}

#[tokio::test]
async fn a_better_index_is_noticed() {
    let root = site(&[("d/index.htm", b"second")]);
    let clock = hearth_static_files::ManualClock::new();
    let files = StaticFiles::builder(root.path())
        .index(["index.html", "index.htm"])
        .clock(clock.clone())
        .build()
        .expect("a site");
    assert_eq!(answer(&files, "/d/").await, (200, "second".into()));
    put(root.path(), "d/index.html", b"first");
    clock.advance(SECOND);
    assert_eq!(answer(&files, "/d/").await, (200, "first".into()));
}

/// Deploying by a link that is swapped: every page of the new release is seen within a second.
#[tokio::test]
async fn a_swapped_root_is_noticed() {
    let parent = site(&[("1/a.txt", b"one"), ("2/a.txt", b"two"), ("2/b.txt", b"new")]);
    let link = parent.path().join("current");
    std::os::unix::fs::symlink("1", &link).expect("a link");
    let clock = hearth_static_files::ManualClock::new();
    let files = StaticFiles::builder(&link).clock(clock.clone()).build().expect("a site");
    assert_eq!(answer(&files, "/a.txt").await, (200, "one".into()));
    std::os::unix::fs::symlink("2", parent.path().join("next")).expect("a link");
    fs::rename(parent.path().join("next"), &link).expect("renaming");
    clock.advance(SECOND);
    assert_eq!(answer(&files, "/a.txt").await, (200, "two".into()));
    assert_eq!(answer(&files, "/b.txt").await, (200, "new".into()));
}

/// With every bound at nothing each request goes to the disk, and the answers are the same.
#[tokio::test]
async fn nothing_kept() {
    let root = site(&[("a.txt", b"1"), ("large.txt", &[b'x'; 100_000])]);
    let files = StaticFiles::builder(root.path())
        .hot_bytes_max(0)
        .open_files_max(0)
        .build()
        .expect("a site");
    for path in ["/a.txt", "/large.txt", "/a.txt", "/large.txt"] {
        assert_eq!(answer(&files, path).await.0, 200);
    }
    put(root.path(), "a.txt", b"2");
    assert_eq!(answer(&files, "/a.txt").await, (200, "2".into()));
    assert_eq!(open_files(root.path()), 1, "the root alone");
}

#[tokio::test]
async fn open_files_are_bounded() {
    let root = site(&[]);
    for index in 0..100 {
        put(root.path(), &format!("{index}.bin"), &[b'x'; 70_000]);
    }
    let files = StaticFiles::builder(root.path()).open_files_max(10).build().expect("a site");
    for round in 0..3 {
        for index in 0..100 {
            let response = get(&files, &format!("/{index}.bin"), &[]).await;
            assert_eq!(response.body_len(), Some(70_000), "round {round}");
        }
    }
    assert!(open_files(root.path()) <= 11, "{} files are open", open_files(root.path()));
}

#[tokio::test]
async fn threads_share_what_is_kept() {
    let root = site(&[("a.txt", &[b'x'; 1000]), ("large.txt", &[b'x'; 100_000])]);
    let (files, clock) = serve_at(&root);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..2000 {
                    let path = if round % 2 == 0 { "/a.txt" } else { "/large.txt" };
                    let req = hearth_http_core::Request::get(path).expect("a request");
                    let response = files.respond(&req);
                    assert_eq!(response.status().as_u16(), 200);
                    if round % 10 == 0 {
                        clock.advance(Duration::from_millis(300));
                    }
                    if round % 500 == 0 {
                        replace_in(root.path(), round);
                    }
                }
            });
        }
    });
    assert!(open_files(root.path()) <= 2);
}

fn replace_in(root: &std::path::Path, round: usize) {
    let name = format!("new-{round}-{:?}", std::thread::current().id());
    put(root, &name, &vec![b'y'; 1000]);
    fs::rename(root.join(name), root.join("a.txt")).expect("renaming");
}

/// How many descriptors of this process lead beneath `root`, other tests' left out.
fn open_files(root: &std::path::Path) -> usize {
    let links = fs::read_dir("/proc/self/fd").expect("descriptors");
    links
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.starts_with(root))
        .count()
}
