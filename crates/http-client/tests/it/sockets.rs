//! Against the server's own machines, over sockets: one table for every way to speak HTTP.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hearth_http_client::{Client, ClientOptions, ClientRequest, ConnectTo, ErrorKind, Versions};
use hearth_http_core::{
    Body, BodyError, BodyStream, Bytes, Connection, Handler, Portable, Protocol, Request, Response,
    Settings, StatusCode, TokioWatch, Transport, handler_fn,
};
use http::{HeaderMap, HeaderValue, Method, Version, header};
use http_body::Frame;
use tokio::net::{TcpListener, UnixListener};

/// So many pieces of 1,000 bytes, then trailers. Now and then the source is not ready.
struct Generated {
    left: u32,
    has_paused: bool,
}

impl Generated {
    fn body(pieces: u32) -> Body {
        Body::stream(Self { left: pieces + 1, has_paused: false })
    }
}

impl BodyStream for Generated {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.left.is_multiple_of(7) && !self.has_paused {
            self.has_paused = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_paused = false;
        let Some(left) = self.left.checked_sub(1) else { return Poll::Ready(None) };
        self.left = left;
        if left > 0 {
            return Poll::Ready(Some(Ok(Frame::data(vec![7; 1000].into()))));
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", HeaderValue::from_static("1"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

async fn handle(mut request: Request) -> Response {
    request.body_mut().limit(1 << 30);
    match request.path() {
        "/echo" => Response::new(request.take_body()),
        "/length" => {
            let body = request.take_body();
            Response::text(body.collect(1 << 30).await.expect("content").len().to_string())
        }
        "/empty" => Response::status_only(StatusCode::NO_CONTENT),
        "/large" => Response::new(vec![7; 3_000_000]),
        "/stream" => Response::new(Generated::body(99)),
        "/host" => Response::text(request.head().authority().unwrap_or("none").to_owned()),
        "/secret" => Response::status_only(StatusCode::UNAUTHORIZED)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic")),
        path => Response::text(format!("{} {path}", request.method())),
    }
}

fn start<T: Transport>(io: T, handler: Arc<impl Handler>, protocol: Protocol) {
    let mut settings = Settings::default();
    settings.limits.body_bytes_max = 1 << 30;
    let (settings, info) = (Arc::new(settings), Arc::default());
    let watch = TokioWatch::new();
    tokio::spawn(Connection::new(io, handler, settings, info, watch, protocol));
}

/// A server on a port of its own.
async fn tcp_server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let handler = Arc::new(handler_fn(handle));
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            io.set_nodelay(true).expect("an option");
            start(Portable(io), handler.clone(), Protocol::Auto);
        }
    });
    address
}

/// One way to reach a server.
struct Way {
    name: &'static str,
    client: Client,
    base: String,
    connect_to: Option<ConnectTo>,
    version: Version,
}

impl Way {
    fn request(&self, method: Method, path: &str) -> ClientRequest {
        let request = ClientRequest::new(method, &format!("{}{path}", self.base)).expect("request");
        match &self.connect_to {
            Some(to) => request.with_connect_to(to.clone()),
            None => request,
        }
    }
}

#[cfg(feature = "tls")]
async fn tls_way(name: &'static str, protocol: Protocol) -> Way {
    use crate::tls::{pair, server_config, trusting};
    let own = pair(&["peer.test"], |_| {});
    let alpn = if protocol == Protocol::Http2 { "h2" } else { "http/1.1" };
    let acceptor = tokio_rustls::TlsAcceptor::from(server_config(&own, &[alpn], None));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let handler = Arc::new(handler_fn(handle));
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            if let Ok(io) = acceptor.accept(io).await {
                start(Portable(io), handler.clone(), protocol);
            }
        }
    });
    let version = if protocol == Protocol::Http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    Way {
        name,
        client: trusting(&own),
        base: "https://peer.test".to_owned(),
        connect_to: Some(ConnectTo::Address(address)),
        version,
    }
}

async fn ways(folder: &std::path::Path) -> Vec<Way> {
    let client = |versions| {
        let mut options = ClientOptions::default();
        options.versions = versions;
        Client::new(options).expect("client")
    };
    let base = format!("http://{}", tcp_server().await);
    let (connect_to, version) = (None, Version::HTTP_11);
    let mut ways = Vec::new();
    ways.push(Way {
        name: "h1",
        client: client(Versions::Auto),
        base: base.clone(),
        connect_to,
        version,
    });
    #[cfg(feature = "http2")]
    ways.push(Way {
        name: "h2c",
        client: client(Versions::Http2),
        base,
        connect_to: None,
        version: Version::HTTP_2,
    });
    let path = folder.join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let handler = Arc::new(handler_fn(handle));
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            start(Portable(io), handler.clone(), Protocol::Auto);
        }
    });
    ways.push(Way {
        name: "h1 on a Unix socket",
        client: client(Versions::Auto),
        base: "http://peer.test".to_owned(),
        connect_to: Some(ConnectTo::Unix(path)),
        version: Version::HTTP_11,
    });
    #[cfg(feature = "tls")]
    ways.push(tls_way("h1 over TLS", Protocol::Http1).await);
    #[cfg(all(feature = "tls", feature = "http2"))]
    ways.push(tls_way("h2 over TLS", Protocol::Http2).await);
    ways
}

#[tokio::test]
async fn every_way_is_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    for way in ways(folder.path()).await {
        // One after the other, so that one connection is enough for all.
        simple(&way).await;
        uploads(&way).await;
        downloads(&way).await;
        let stats = way.client.stats();
        assert_eq!((stats.connections_opened, stats.retries), (1, 0), "{}", way.name);
        concurrent(&way).await;
    }
}

async fn simple(way: &Way) {
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let request = way.request(method.clone(), "/a?b");
        let response = way.client.send(request).await.expect(way.name);
        assert_eq!(response.version(), way.version, "{}", way.name);
        assert!(response.headers().contains(&header::DATE), "{}", way.name);
        assert_eq!(response.text(100).await.expect(way.name), format!("{method} /a"));
    }
    let response = way.client.send(way.request(Method::HEAD, "/large")).await.expect(way.name);
    assert_eq!(response.header_str(&header::CONTENT_LENGTH), Some("3000000"), "{}", way.name);
    assert_eq!(response.bytes(0).await.expect(way.name), "");
    let response = way.client.send(way.request(Method::GET, "/empty")).await.expect(way.name);
    assert_eq!(response.status(), StatusCode::NO_CONTENT, "{}", way.name);
    assert_eq!(response.bytes(0).await.expect(way.name), "");
    let response = way.client.send(way.request(Method::GET, "/secret")).await.expect(way.name);
    assert_eq!(response.header_str(&header::WWW_AUTHENTICATE), Some("Basic"), "{}", way.name);
    let response = way.client.send(way.request(Method::GET, "/host")).await.expect(way.name);
    let host = response.text(100).await.expect(way.name);
    assert_eq!(format!("://{host}"), way.base.trim_start_matches("http").trim_start_matches('s'));
    let request = way.request(Method::GET, "/host");
    let request = request.with_header(header::HOST, HeaderValue::from_static("own.test:8080"));
    let response = way.client.send(request).await.expect(way.name);
    assert_eq!(response.text(100).await.expect(way.name), "own.test:8080", "{}", way.name);
}

async fn uploads(way: &Way) {
    for (body, len) in [
        (Body::Empty, 0),
        (Body::from("x"), 1),
        (Body::from(vec![7; 20_000]), 20_000),
        (Body::from(vec![7; 3_000_000]), 3_000_000),
        (Generated::body(1), 1000),
        (Generated::body(2999), 2_999_000),
    ] {
        let request = way.request(Method::POST, "/length").with_body(body);
        let response = way.client.send(request).await.expect(way.name);
        let text = response.text(100).await.expect(way.name);
        assert_eq!(text, format!("{len}"), "{}", way.name);
    }
}

async fn downloads(way: &Way) {
    let response = way.client.send(way.request(Method::GET, "/large")).await.expect(way.name);
    let body = response.bytes(3_000_000).await.expect(way.name);
    assert!(body.len() == 3_000_000 && body.iter().all(|&byte| byte == 7), "{}", way.name);
    let mut request = way.request(Method::GET, "/stream");
    request.headers_mut().append(header::TE, HeaderValue::from_static("trailers"));
    let mut response = way.client.send(request).await.expect(way.name);
    let (mut len, mut trailers) = (0, None);
    while let Some(frame) = response.body_mut().frame().await {
        match frame.expect(way.name).into_data() {
            Ok(data) => len += data.len(),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    assert_eq!(len, 99_000, "{}", way.name);
    assert_eq!(trailers.expect(way.name)["x-end"], "1", "{}", way.name);
    let request = way.request(Method::POST, "/echo").with_body(vec![7; 2_000_000]);
    let response = way.client.send(request).await.expect(way.name);
    assert_eq!(response.bytes(1 << 30).await.expect(way.name).len(), 2_000_000, "{}", way.name);
    let response = way.client.send(way.request(Method::GET, "/echo")).await.expect(way.name);
    assert_eq!(response.bytes(0).await.expect(way.name), "");
}

async fn concurrent(way: &Way) {
    let mut requests = tokio::task::JoinSet::new();
    for index in 0..100 {
        let client = way.client.clone();
        let request = way.request(Method::POST, "/echo").with_body(vec![index; 30_000]);
        requests.spawn(async move {
            let body = client.send(request).await.expect("response").bytes(30_000).await;
            let body = body.expect("body");
            assert!(body.len() == 30_000 && body.iter().all(|&byte| byte == index));
        });
    }
    while let Some(done) = requests.join_next().await {
        done.expect(way.name);
    }
    let stats = way.client.stats();
    let want = if way.version == Version::HTTP_2 { 1..=1 } else { 1..=64 };
    assert!(want.contains(&stats.connections_opened), "{}: {stats:?}", way.name);
    assert_eq!(stats.retries, 0, "{}", way.name);
}

#[tokio::test]
async fn names_and_ports() {
    let address = tcp_server().await;
    let client = Client::new(ClientOptions::default()).expect("client");
    let port = address.port();
    let get =
        |host: &str| ClientRequest::get(&format!("http://{host}:{port}/host")).expect("request");
    let response = client.send(get("localhost")).await.expect("response");
    assert_eq!(response.text(100).await.expect("body"), format!("localhost:{port}"));
    let response = client.send(get("localhost").with_connect_to(ConnectTo::Ipv4)).await;
    assert_eq!(response.expect("response").status(), 200);
    let error = client.send(get("127.0.0.1").with_connect_to(ConnectTo::Ipv6)).await;
    assert_eq!(error.expect_err("no IPv6").kind(), ErrorKind::Dns);
    // RFC 1035 §2.3.4: no label has 64 characters, so that nobody has to be asked.
    let error = client.send(get(&"x".repeat(64))).await.expect_err("no address");
    assert_eq!(error.kind(), ErrorKind::Dns);
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let free_address = free.local_addr().expect("an address");
    drop(free);
    let to = ConnectTo::Address(free_address);
    let error = client.send(get("peer.test").with_connect_to(to)).await.expect_err("refused");
    assert_eq!((error.kind(), error.is_unprocessed()), (ErrorKind::Connect, true));
}
