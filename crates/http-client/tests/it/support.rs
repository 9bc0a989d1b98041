//! Peers that do exactly what a test says.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use hearth_http_client::{Client, ClientOptions, Dial, DialFuture};
use hearth_http_core::Portable;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// The other end of a connection in memory.
pub(crate) struct Peer {
    pub(crate) io: DuplexStream,
    input: Vec<u8>,
}

impl Peer {
    /// Reads up to the end of a request head and returns it.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.input.drain(..at + 4).collect();
                return String::from_utf8(head).expect("a head is text");
            }
            assert!(self.fill().await > 0, "closed within a head: {:?}", self.seen());
        }
    }

    /// Like `head`, but the client may as well close.
    pub(crate) async fn next_head(&mut self) -> Option<String> {
        if self.input.is_empty() && self.fill().await == 0 {
            return None;
        }
        Some(self.head().await)
    }

    /// Reads so many bytes.
    pub(crate) async fn content(&mut self, len: usize) -> Vec<u8> {
        while self.input.len() < len {
            assert!(self.fill().await > 0, "closed within content: {:?}", self.seen());
        }
        self.input.drain(..len).collect()
    }

    /// Reads up to the last chunk's end.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        while !self.input.ends_with(end.as_bytes()) {
            assert!(self.fill().await > 0, "closed early: {:?}", self.seen());
        }
        String::from_utf8(std::mem::take(&mut self.input)).expect("text")
    }

    /// Writes; a client that has gone is no error.
    pub(crate) async fn send(&mut self, text: impl AsRef<[u8]>) {
        let _ = self.io.write_all(text.as_ref()).await;
    }

    /// Waits until the client closes.
    pub(crate) async fn closed(&mut self) {
        while self.fill().await > 0 {}
    }

    async fn fill(&mut self) -> usize {
        self.io.read_buf(&mut self.input).await.unwrap_or(0)
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.input).into_owned()
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A dialer whose connections end in a function of the test.
pub(crate) struct Memory {
    accept: Box<dyn Fn(usize, Peer) -> Task + Send + Sync>,
    dialed: AtomicUsize,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Memory {
    pub(crate) fn new<F: Future<Output = ()> + Send + 'static>(
        accept: impl Fn(usize, Peer) -> F + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            accept: Box::new(move |index, peer| Box::pin(accept(index, peer))),
            dialed: AtomicUsize::new(0),
            tasks: Mutex::default(),
        })
    }

    /// How many connections were made.
    pub(crate) fn dialed(&self) -> usize {
        self.dialed.load(SeqCst)
    }

    /// Waits for every peer to be done, and passes their panics on.
    pub(crate) async fn done(&self) {
        let tasks: Vec<_> = self.tasks.lock().expect("tasks").drain(..).collect();
        for task in tasks {
            task.await.expect("a peer failed");
        }
    }
}

impl Dial for Memory {
    fn dial<'a>(&'a self, _host: &'a str, _port: u16) -> DialFuture<'a> {
        let (ours, theirs) = duplex(64 * 1024);
        let index = self.dialed.fetch_add(1, SeqCst);
        let task = tokio::spawn((self.accept)(index, Peer { io: theirs, input: Vec::new() }));
        self.tasks.lock().expect("tasks").push(task);
        Box::pin(async move { Ok(Box::new(Portable(ours)) as Box<_>) })
    }
}

/// A dialer that fails.
pub(crate) struct Refusing;

impl Dial for Refusing {
    fn dial<'a>(&'a self, _host: &'a str, _port: u16) -> DialFuture<'a> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}

/// A client over `dialer`, with options changed by `change`.
pub(crate) fn client_with(dialer: &Arc<Memory>, change: impl FnOnce(&mut ClientOptions)) -> Client {
    let mut options = ClientOptions::default();
    options.dialer = Some(dialer.clone());
    change(&mut options);
    Client::new(options).expect("a client")
}

pub(crate) fn client(dialer: &Arc<Memory>) -> Client {
    client_with(dialer, |_| {})
}

/// A peer that sends `response` to each request head.
pub(crate) fn answering(response: impl Into<Vec<u8>>) -> Arc<Memory> {
    let response: Arc<Vec<u8>> = Arc::new(response.into());
    Memory::new(move |_, mut peer| {
        let response = response.clone();
        async move {
            while peer.next_head().await.is_some() {
                peer.send(&*response).await;
            }
        }
    })
}

/// A peer that sends `response` to the first request head and closes.
pub(crate) fn answering_once(response: impl Into<Vec<u8>>) -> Arc<Memory> {
    let response: Arc<Vec<u8>> = Arc::new(response.into());
    Memory::new(move |_, mut peer| {
        let response = response.clone();
        async move {
            peer.head().await;
            peer.send(&*response).await;
        }
    })
}
