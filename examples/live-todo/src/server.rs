//! Tells each connection how the open to-dos change, and does what it asks for.
//!
//! A client first sends `follow`, or `follow SEQ` to go on after that commit; then `add TITLE` and
//! `done TITLE`. It gets one JSON object a line: `seq`, `add` (id to title), `remove` (ids).

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
    thread::JoinHandle,
};

use anyhow::{Context, Result};
use hearth_jsonstore::{
    Collection, Filter, LiveQuery, LiveUpdate, Result as StoreResult, Store, Update, block_on,
};
use serde_json::{Map, Value, json};

/// Bytes of one line of a client.
const LINE_BYTES_MAX: usize = 4096;

pub(crate) struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Server {
    pub(crate) fn start(store: &Store) -> Result<Self> {
        let todos = store.collection("todos")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let todos = todos.clone();
                connections.push(std::thread::spawn(move || {
                    if let Err(e) = serve(&stream, &todos) {
                        eprintln!("connection: {e:#}");
                    }
                }));
            }
            // Each ends when its client is gone.
            connections.into_iter().for_each(|connection| drop(connection.join()));
        });
        Ok(Self { address, stop, thread })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener, which looks.
        drop(TcpStream::connect(self.address)?);
        self.thread.join().map_err(|_| anyhow::anyhow!("the server panicked"))
    }
}

fn serve(stream: &TcpStream, todos: &Collection) -> Result<()> {
    let mut lines = BufReader::new(stream);
    let first = line(&mut lines)?.context("the client left")?;
    let open = Filter::from_json(&json!({"done": false}))?;
    let mut live = match first.strip_prefix("follow ") {
        Some(seq) => block_on(todos.live_from(open, seq.parse()?))?,
        None => block_on(todos.live(open))?,
    };
    let gone = Gone::default();
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| tell(stream, &mut live, &gone));
        let done = obey(&mut lines, todos);
        gone.set();
        let told = follower.join().unwrap_or(Ok(()));
        done.and(told)
    })
}

/// Does what the client asks for, until it is gone.
fn obey(lines: &mut BufReader<&TcpStream>, todos: &Collection) -> Result<()> {
    while let Some(line) = line(lines)? {
        if let Some(title) = line.strip_prefix("add ") {
            block_on(todos.insert(&json!({"title": title, "done": false})))?;
        } else if let Some(title) = line.strip_prefix("done ") {
            let filter = Filter::from_json(&json!({"title": title}))?;
            block_on(todos.update_many(&filter, &Update::new().set("done", true)))?;
        }
    }
    Ok(())
}

/// Sends each update, until the client is gone.
fn tell(mut stream: &TcpStream, live: &mut LiveQuery, gone: &Gone) -> Result<()> {
    while let Some(update) = block_on(gone.or(live.next())) {
        let update = update?;
        // A partial one is not the answer at any commit: nobody may go on from there.
        let seq = (!update.is_partial).then_some(update.seq);
        writeln!(
            stream,
            "{}",
            json!({"seq": seq, "add": titles(&update), "remove": ids(&update)})
        )?;
    }
    Ok(())
}

fn titles(update: &LiveUpdate) -> Map<String, Value> {
    let all = update.added.iter().chain(&update.changed).map(hearth_jsonstore::Document::value);
    all.map(|todo| (todo["_id"].to_string(), todo["title"].clone())).collect()
}

fn ids(update: &LiveUpdate) -> Vec<String> {
    update.removed.iter().map(hearth_jsonstore::Id::to_json).collect()
}

/// A line without its end; `None` at the end of the connection.
fn line(lines: &mut BufReader<&TcpStream>) -> Result<Option<String>> {
    let mut text = String::new();
    let read = std::io::Read::take(&mut *lines, LINE_BYTES_MAX as u64).read_line(&mut text)?;
    anyhow::ensure!(read < LINE_BYTES_MAX, "a line has at most {LINE_BYTES_MAX} bytes");
    Ok((read > 0).then(|| text.trim_end().to_owned()))
}

/// Whether the client is gone; ends what waits.
#[derive(Default)]
struct Gone(Mutex<(bool, Option<Waker>)>);

impl Gone {
    fn set(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = true;
        state.1.take().into_iter().for_each(Waker::wake);
    }

    /// What comes of `next`; `None` if the client is gone first.
    async fn or(
        &self,
        next: impl Future<Output = StoreResult<LiveUpdate>>,
    ) -> Option<StoreResult<LiveUpdate>> {
        let mut next = pin!(next);
        std::future::poll_fn(|context| {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.0 {
                return Poll::Ready(None);
            }
            state.1 = Some(context.waker().clone());
            drop(state);
            next.as_mut().poll(context).map(Some)
        })
        .await
    }
}
