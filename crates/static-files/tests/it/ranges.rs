//! Ranges through the handler: RFC 9110 §14 and §15.3.7.

use hearth_http_core::Method;

use crate::{ask, content, field, get, serve, site};

const SMALL: &[u8] = b"0123456789";

fn large() -> Vec<u8> {
    (0..200_000u32).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn single() {
    let large = large();
    let root = site(&[("small.txt", SMALL), ("large.txt", &large)]);
    let files = serve(&root);
    for (path, whole) in [("/small.txt", SMALL), ("/large.txt", &large)] {
        let len = whole.len();
        for (range, start, end) in [
            ("bytes=0-0".to_owned(), 0, 1),
            ("bytes=2-5".to_owned(), 2, 6),
            ("bytes=3-".to_owned(), 3, len),
            ("bytes=-4".to_owned(), len - 4, len),
            ("bytes=0-".to_owned(), 0, len),
            (format!("bytes={}-{}", len - 1, len + 100), len - 1, len),
            (format!("bytes=-{}", len * 2), 0, len),
            ("bytes=0-1,1-3".to_owned(), 0, 4),
        ] {
            let response = get(&files, path, &[("range", &range)]).await;
            assert_eq!(response.status().as_u16(), 206, "{path} {range}");
            let want = format!("bytes {start}-{}/{len}", end - 1);
            assert_eq!(field(&response, "content-range"), Some(want.as_str()));
            assert_eq!(field(&response, "content-type"), Some("text/plain; charset=utf-8"));
            assert!(
                field(&response, "etag").is_some() && field(&response, "last-modified").is_some()
            );
            assert_eq!(response.body_len(), Some((end - start) as u64));
            assert_eq!(content(response).await, whole[start..end], "{path} {range}");
        }
    }
}

#[tokio::test]
async fn ignored_or_refused() {
    let root = site(&[("a.txt", SMALL), ("empty.txt", b"")]);
    let files = serve(&root);
    let many = format!("bytes={}", "0-0,".repeat(17));
    for range in ["bytes=5-2", "bytes=x", "lines=1-2", "bytes=", many.as_str()] {
        let response = get(&files, "/a.txt", &[("range", range)]).await;
        assert_eq!(response.status().as_u16(), 200, "{range}");
        assert_eq!(content(response).await, SMALL);
    }
    for (path, range, len) in
        [("/a.txt", "bytes=10-", 10), ("/a.txt", "bytes=-0", 10), ("/empty.txt", "bytes=0-", 0)]
    {
        let response = get(&files, path, &[("range", range)]).await;
        assert_eq!(response.status().as_u16(), 416, "{range}");
        assert_eq!(field(&response, "content-range"), Some(format!("bytes */{len}").as_str()));
    }
    // Not for HEAD, nor where the field comes twice.
    let head = ask(&files, Method::HEAD, "/a.txt", &[("range", "bytes=0-1")]).await;
    assert_eq!((head.status().as_u16(), head.body_len()), (200, Some(10)));
    let twice = get(&files, "/a.txt", &[("range", "bytes=0-1"), ("range", "bytes=2-3")]).await;
    assert_eq!(twice.status().as_u16(), 200);
}

#[tokio::test]
async fn if_range() {
    let root = site(&[("a.txt", SMALL)]);
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let file = std::fs::File::options().write(true).open(root.path().join("a.txt"));
    file.expect("the file").set_modified(past).expect("its time");
    let files = serve(&root);
    let first = get(&files, "/a.txt", &[]).await;
    let etag = field(&first, "etag").expect("a tag");
    let date = field(&first, "last-modified").expect("a date");
    let weak = format!("W/{etag}");
    for (validator, want) in [
        (etag, 206),
        (date, 206),
        (weak.as_str(), 200),
        ("\"other\"", 200),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 200),
    ] {
        let fields = [("range", "bytes=0-1"), ("if-range", validator)];
        let response = get(&files, "/a.txt", &fields).await;
        assert_eq!(response.status().as_u16(), want, "{validator}");
    }
    // §13.2.2: the preconditions come first.
    let fields = [("range", "bytes=0-1"), ("if-none-match", etag)];
    assert_eq!(get(&files, "/a.txt", &fields).await.status().as_u16(), 304);
    let fields = [("range", "bytes=0-1"), ("if-match", "\"other\"")];
    assert_eq!(get(&files, "/a.txt", &fields).await.status().as_u16(), 412);
    // An unsatisfiable range whose condition fails is no error.
    let fields = [("range", "bytes=99-"), ("if-range", "\"other\"")];
    assert_eq!(get(&files, "/a.txt", &fields).await.status().as_u16(), 200);
}

#[tokio::test]
async fn multiple() {
    let large = large();
    let root = site(&[("small.txt", &large[..1000]), ("large.txt", &large)]);
    let files = serve(&root);
    for (path, len) in [("/small.txt", 1000), ("/large.txt", 200_000)] {
        let fields = [("range", "bytes=500-509,0-9,-10,700-709,705-720")];
        let response = get(&files, path, &fields).await;
        assert_eq!(response.status().as_u16(), 206);
        assert_eq!(field(&response, "content-range"), None);
        let kind = field(&response, "content-type").expect("a type").to_owned();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("a boundary");
        let promised = response.body_len().expect("a length");
        let body = content(response).await;
        assert_eq!(body.len() as u64, promised);
        let mut want = Vec::new();
        for (index, range) in [500..510, 0..10, len - 10..len, 700..721].into_iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\r\n" };
            let (first, last) = (range.start, range.end - 1);
            want.extend_from_slice(
                format!(
                    "{line_end}--{boundary}\r\ncontent-type: text/plain; charset=utf-8\r\n\
                     content-range: bytes {first}-{last}/{len}\r\n\r\n"
                )
                .as_bytes(),
            );
            want.extend_from_slice(&large[range]);
        }
        want.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        assert!(body == want, "{}", String::from_utf8_lossy(&body));
    }
}
