//! The probe: what it sees, and what it refuses to look at.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hearth_http_client::{Client, ClientOptions};
use hearth_http_core::{
    Body, ConnectionInfo, Handler, HeadBuilder, Method, Request, StatusCode, Version,
};
use hearth_netsvc::reach::{
    Challenge, Challenges, ProbeClient, ProbeError, ProbeHandler, ProbeOptions, Reach, look,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

fn client() -> Client {
    Client::new(ClientOptions::default()).unwrap()
}

fn handler(change: impl FnOnce(&mut ProbeOptions)) -> ProbeHandler {
    let mut options = ProbeOptions::new(client());
    options.allows_local = true;
    options.timeout = Duration::from_secs(2);
    change(&mut options);
    ProbeHandler::new(options)
}

/// Asks as `peer` and returns status and content.
async fn ask(
    handler: &ProbeHandler,
    peer: &str,
    fields: &[(&str, &str)],
    content: &str,
) -> (StatusCode, String) {
    let mut head =
        HeadBuilder::new(Method::POST, "/", Version::HTTP_11, bytes::BytesMut::with_capacity(256));
    for (name, value) in fields {
        head = head.field(name.as_bytes(), value.as_bytes());
    }
    let peer: SocketAddr = peer.parse().unwrap();
    let connection = Arc::new(ConnectionInfo::new(1, Some(peer), None));
    let request = Request::new(head.build().unwrap(), Body::from(content.to_owned()), connection);
    let mut response = handler.call(request).await;
    let text = response.take_body().collect(4096).await.unwrap();
    (response.status(), String::from_utf8(text.to_vec()).unwrap())
}

fn challenge() -> Challenge {
    Challenges::new([7; 32]).challenge()
}

fn question(origin: &str, challenge: &Challenge) -> String {
    format!(r#"{{"url":"{origin}{}","expect":"{}"}}"#, challenge.path(), challenge.content())
}

/// A site that answers one request with `content`.
async fn site(content: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await;
            let length = content.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{content}");
            let _ = stream.write_all(head.as_bytes()).await;
        }
    });
    address
}

const PEER: &str = "127.0.0.1:50000";

#[tokio::test]
async fn what_is_met() {
    let handler = handler(|_| {});
    let challenge = challenge();
    let ours = site(challenge.content().to_owned()).await;
    let other = site("a router's own page".to_owned()).await;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    for (address, want) in [(ours, "open"), (other, "other"), (closed, "closed")] {
        let origin = format!("http://{address}");
        let (status, text) = ask(&handler, PEER, &[], &question(&origin, &challenge)).await;
        assert_eq!(status, 200, "{text}");
        assert!(text.contains(&format!("\"{want}\"")), "{address}: {text}");
        assert!(text.contains("\"127.0.0.1\""), "{text}");
    }
    // A name leads back to who asks, whatever it resolves to.
    let named = format!("http://site.invalid:{}", ours.port());
    let (_, text) = ask(&handler, PEER, &[], &question(&named, &challenge)).await;
    assert!(text.contains("\"open\""), "{text}");

    let client = client();
    for (address, want) in [(ours, Reach::Open), (closed, Reach::Closed), (other, Reach::Other)] {
        assert_eq!(look(&client, "http://x.invalid", address, &challenge).await, want);
    }
}

#[tokio::test]
async fn what_is_refused() {
    let challenge = challenge();
    let own = question("http://127.0.0.1:1", &challenge);
    let check =
        async |handler: &ProbeHandler, fields: &[(&str, &str)], content: &str, want: u16| {
            let (status, text) = ask(handler, PEER, fields, content).await;
            assert_eq!(status.as_u16(), want, "{content}: {text}");
        };
    let open = handler(|options| options.token = Some("secret".to_owned()));
    check(&open, &[], &question("http://127.0.0.2:1", &challenge), 403).await;
    check(
        &open,
        &[("authorization", "Bearer wrong!")],
        &question("http://127.0.0.2:1", &challenge),
        403,
    )
    .await;
    check(
        &open,
        &[("authorization", "Bearer secret")],
        &question("http://127.0.0.2:1", &challenge),
        200,
    )
    .await;
    let bad_path = r#"{"url":"http://127.0.0.1:1/admin","expect":"x"}"#;
    for content in
        ["", "[]", "{}", bad_path, &own.replace("http:", "ftp:"), &own.replace(":1/", ":x/")]
    {
        check(&open, &[], content, 422).await;
    }
    check(&open, &[], &"x".repeat(5000), 400).await;

    let closed = handler(|options| {
        options.token = Some("secret".to_owned());
        options.needs_token = true;
    });
    check(&closed, &[], &own, 403).await;
    let public_only = handler(|options| options.allows_local = false);
    check(&public_only, &[], &own, 403).await;
    let few = handler(|options| options.burst = 2);
    check(&few, &[], &own, 200).await;
    check(&few, &[], &own, 200).await;
    check(&few, &[], &own, 429).await;
}

/// What a probe may answer, and what the client makes of it.
#[tokio::test]
async fn answers() {
    let check = async |content: &str, want: Result<(Reach, bool), bool>| {
        let probe = site(content.to_owned()).await;
        let client = ProbeClient::new(client(), format!("http://{probe}/"), Some("t".into()));
        let got = client.check("http://site.invalid", &challenge()).await;
        let got = got.map(|(reach, seen)| (reach, seen.is_some()));
        let got = got.map_err(|error| matches!(error, ProbeError::NoProbe { .. }));
        assert_eq!(got, want, "{content}");
    };
    check(r#"{"outcome":"open","seen_from":"11.0.0.1"}"#, Ok((Reach::Open, true))).await;
    check(r#"{"outcome":"silent"}"#, Ok((Reach::Silent, false))).await;
    check(r#"{"outcome":"great"}"#, Err(true)).await;
    check("hello", Err(true)).await;
    let gone = ProbeClient::new(client(), "http://127.0.0.1:1/", None);
    let failed = gone.check("http://x.invalid", &challenge()).await.unwrap_err();
    assert!(matches!(failed, ProbeError::Failed { .. }), "{failed}");
}
