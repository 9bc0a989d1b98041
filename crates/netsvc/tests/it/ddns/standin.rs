//! A server that speaks what a service speaks, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use hearth_http_client::{Client, ClientOptions};
use hearth_netsvc::{
    ddns::{DnsProvider, ProviderContext, ProviderSettings, Secret},
    dns::{DnsClient, DnsOptions},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Method and target.
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) content: String,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Status, and content.
    Plain(u16, String),
    /// Status, a field line, and content.
    Field(u16, &'static str, String),
    /// A content that ends before its length.
    CutOff(String),
    /// Nothing, for ever.
    Silence,
    /// Not HTTP.
    Noise,
}

/// The server; it ends with its runtime.
pub(crate) struct StandIn {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl StandIn {
    pub(crate) async fn start(
        answer: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                tokio::spawn(serve(io, Arc::clone(&log), Arc::clone(&answer)));
            }
        });
        Self { url, asked }
    }

    /// Always the same answer.
    pub(crate) async fn saying(answer: Answer) -> Self {
        Self::start(move |_, _| answer.clone()).await
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    /// A service that speaks to this server in place of its own.
    pub(crate) fn provider(&self, name: &str) -> Arc<dyn DnsProvider> {
        let pairs = credentials(name).iter().map(|&(key, value)| (key, Secret::from(value)));
        let mut context = context();
        context.endpoint = Some(self.url.clone());
        ProviderSettings::new(name, pairs).unwrap().build(&context).unwrap()
    }
}

pub(crate) fn context() -> ProviderContext {
    let http = Client::new(ClientOptions::default()).unwrap();
    ProviderContext::new(http, DnsClient::new(DnsOptions::new(Vec::new())))
}

/// Settings of each service that speaks HTTP. Everything with `hush` in it is secret.
pub(crate) fn credentials(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "cloudflare" | "desec" | "duckdns" | "hetzner" => &[("token", "hush-token")],
        "dyndns2" => &[("server", "x.example"), ("user", "me"), ("password", "hush-password")],
        "namecheap" => &[("domain", "example.com"), ("password", "hush-password")],
        "route53" => &[
            ("access-key-id", "AKID"),
            ("secret-access-key", "hush-key"),
            ("session-token", "hush-session"),
        ],
        name => panic!("no settings for {name}"),
    }
}

async fn serve(
    mut io: TcpStream,
    log: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<impl Fn(&Asked, usize) -> Answer>,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let Some(asked) = next(&mut io, &mut bytes).await? else { return Ok(()) };
        let count = {
            let mut log = log.lock().unwrap();
            log.push(asked.clone());
            log.len()
        };
        let (status, field, content, cut) = match answer(&asked, count) {
            Answer::Plain(status, content) => (status, "x-nothing: 1", content, 0),
            Answer::Field(status, field, content) => (status, field, content, 0),
            Answer::CutOff(content) => (200, "x-nothing: 1", content, 10),
            Answer::Silence => std::future::pending().await,
            Answer::Noise => {
                io.write_all(b"220 mail.example ESMTP\r\n").await?;
                return Ok(());
            }
        };
        let length = content.len() + cut;
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n{field}\r\n\r\n");
        io.write_all(head.as_bytes()).await?;
        io.write_all(content.as_bytes()).await?;
        if cut > 0 {
            return Ok(());
        }
    }
}

async fn next(io: &mut TcpStream, bytes: &mut Vec<u8>) -> std::io::Result<Option<Asked>> {
    loop {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
                })
                .unwrap_or(0);
            if rest.len() >= length {
                let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
                let asked =
                    Asked { line, head: head.to_owned(), content: rest[..length].to_owned() };
                *bytes = rest.as_bytes()[length..].to_vec();
                return Ok(Some(asked));
            }
        }
        if io.read_buf(bytes).await? == 0 {
            return Ok(None);
        }
    }
}
