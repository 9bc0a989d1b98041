//! Requests, responses and their content.

use hearth_http_core::{HeaderValue, Outcome};
use http::{HeaderMap, Request};

use crate::h2_support::{Client, Server, get, pattern, post, settings, soon};

#[tokio::test]
async fn every_kind_of_body_arrives_whole() {
    let (server, io) = Server::start(settings(|_| {}));
    let mut client = Client::connect(io).await;
    let plain = [("/", "home"), ("/empty", ""), ("/static", "static"), ("/prepared", "prepared")];
    for (path, content) in plain {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.text()), (200, content), "{path}");
        assert_eq!(
            answer.field("content-length"),
            Some(content.len().to_string().as_str()),
            "{path}"
        );
        assert!(answer.field("date").is_some() && answer.field("connection").is_none(), "{path}");
    }
    for kind in ["bytes", "owned", "file", "stream"] {
        for len in [1000, 16_000, 17_000, 65_000, 66_000, 1_000_000] {
            let answer = soon(client.get(&format!("/{kind}/{len}"))).await;
            assert!(answer.content == pattern_of(kind, len), "{kind} {len}");
            let length = (kind != "stream").then(|| len.to_string());
            assert_eq!(answer.field("content-length"), length.as_deref(), "{kind} {len}");
        }
    }
    drop(client);
    let exchanges = server.log.exchanges();
    assert_eq!(exchanges.len(), 28);
    assert!(
        exchanges
            .iter()
            .all(|(status, outcome, _)| *status == 200 && *outcome == Outcome::Complete)
    );
    assert_eq!(exchanges.last(), Some(&(200, Outcome::Complete, 1_000_000)));
    assert!(server.end().await.is_ok());
}

fn pattern_of(kind: &str, len: usize) -> Vec<u8> {
    if kind == "stream" { pattern(1000).repeat(len / 1000) } else { pattern(len) }
}

#[tokio::test]
async fn responses_without_content() {
    let (_server, io) = Server::start(settings(|_| {}));
    let mut client = Client::connect(io).await;
    for (path, length) in
        [("/bytes/2000", Some("2000")), ("/file/3000", Some("3000")), ("/stream/4000", None)]
    {
        let head = Request::head(format!("https://a.test{path}")).body(()).unwrap();
        let answer = client.exchange(head, b"").await;
        assert_eq!((answer.status, answer.content.len()), (200, 0), "HEAD {path}");
        assert_eq!(answer.field("content-length"), length, "HEAD {path}");
    }
    for status in [204, 304] {
        let answer = client.get(&format!("/status/{status}")).await;
        assert_eq!((answer.status, answer.content.len()), (status, 0));
        assert_eq!(answer.field("content-length"), None, "{status}");
    }
}

#[tokio::test]
async fn uploads_and_echoes() {
    let (_server, io) = Server::start(settings(|_| {}));
    let mut client = Client::connect(io).await;
    for len in [1, 1000, 100_000, 1_500_000] {
        let answer = soon(client.exchange(post("/echo"), &pattern(len))).await;
        assert!(answer.status == 200 && answer.content == pattern(len), "{len}");
    }
    let answer = client.exchange(post("/length"), &pattern(70_000)).await;
    assert_eq!(answer.text(), "70000 0");
    // A handler that does not read does not hold the connection up.
    for _ in 0..20 {
        let answer = soon(client.exchange(post("/static"), &pattern(100_000))).await;
        assert_eq!(answer.text(), "static");
    }
}

#[tokio::test]
async fn trailers_in_both_directions() {
    let (_server, io) = Server::start(settings(|_| {}));
    let mut client = Client::connect(io).await;
    let answer = client.get("/trailers").await;
    assert_eq!(answer.content.len(), 15);
    assert_eq!(answer.trailers.unwrap()["x-checksum"], "15");

    let cases = [("x-checksum", "3 1"), ("host", "malformed body: field not allowed in trailers")];
    for (name, want) in cases {
        let (response, mut stream) = client.send.send_request(post("/length"), false).unwrap();
        stream.send_data("abc".into(), false).unwrap();
        let mut fields = HeaderMap::new();
        fields.insert(name, HeaderValue::from_static("1"));
        stream.send_trailers(fields).unwrap();
        let answer = crate::h2_support::collect(response.await.unwrap()).await.unwrap();
        let want = if answer.status == 400 { "400 Bad Request\n" } else { want };
        assert_eq!(answer.text(), want, "{name}");
        assert_eq!(answer.status == 400, name == "host", "{name}");
    }
}

#[tokio::test]
async fn heads_arrive_as_http1_would_have_them() {
    let (_server, io) = Server::start(settings(|_| {}));
    let mut client = Client::connect(io).await;
    let request = Request::get("https://a.test:8443/head?q=1")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-field", "value")
        .body(())
        .unwrap();
    let answer = client.exchange(request, b"").await;
    let want = "GET /head?q=1 Some(\"a.test:8443\")\n\
                x-field: value\ncookie: a=1; b=2\nhost: a.test:8443\n";
    assert_eq!(answer.text(), want);
}

#[tokio::test]
async fn refused_requests_get_the_status_of_http1() {
    let (server, io) = Server::start(settings(|s| s.limits.target_bytes_max = 100));
    let mut client = Client::connect(io).await;
    let long = format!("/{}", "x".repeat(100));
    let with = |name: &'static str, value: &str| {
        Request::get("https://a.test/").header(name, value).body(()).unwrap()
    };
    let mut many = get("/");
    for _ in 0..101 {
        many.headers_mut().append("x", HeaderValue::from_static("1"));
    }
    let cases = [
        (get(&long), 414),
        (with("expect", "tea"), 417),
        (with("host", "b.test"), 400),
        (many, 431),
        (with("x-large", &"y".repeat(17_000)), 431),
    ];
    for (request, want) in cases {
        let answer = client.exchange(request, b"").await;
        assert_eq!(answer.status, want);
    }
    assert_eq!(client.get("/").await.status, 200);
    let refused = server.log.exchanges();
    assert_eq!(refused.iter().filter(|(_, outcome, _)| *outcome == Outcome::Refused).count(), 5);
}

#[tokio::test]
async fn bodies_above_the_limit_are_refused() {
    let (server, io) = Server::start(settings(|s| s.limits.body_bytes_max = 1000));
    let mut client = Client::connect(io).await;
    for (path, len, want) in [
        ("/length", 1000, 200),
        ("/length", 1001, 413),
        ("/length", 100_000, 413),
        ("/limit/10", 10, 200),
        ("/limit/10", 11, 413),
        ("/static", 1001, 200),
    ] {
        let answer = soon(client.exchange(post(path), &pattern(len))).await;
        assert_eq!(answer.status, want, "{path} {len}");
    }
    // The announced length alone decides, before any content is taken.
    let request =
        Request::post("https://a.test/length").header("content-length", "5000").body(()).unwrap();
    let (response, _stream) = client.send.send_request(request, false).unwrap();
    assert_eq!(soon(response).await.unwrap().status(), 413);
    drop(server);
}

#[tokio::test]
async fn failures_of_the_application_stay_in_their_stream() {
    let (server, io) = Server::start(settings(|_| {}));
    let mut client = Client::connect(io).await;
    assert_eq!(client.get("/panic").await.status, 500);
    assert_eq!(client.get("/status/101").await.status, 500);
    for path in ["/broken/source", "/broken/panic", "/broken/length", "/broken/file"] {
        let response = client.request(get(path), b"").await.unwrap();
        let error = crate::h2_support::collect(response).await.unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{path}");
    }
    assert_eq!(client.get("/").await.text(), "home");
    let outcomes: Vec<_> =
        server.log.exchanges().into_iter().map(|(_, outcome, _)| outcome).collect();
    use Outcome::{BodyFailed, Complete, Panicked};
    assert_eq!(
        outcomes,
        [Panicked, Complete, BodyFailed, Panicked, BodyFailed, BodyFailed, Complete]
    );
}
