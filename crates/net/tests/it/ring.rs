//! What can go wrong only where operations are under way in the kernel.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hearth_http_core::{Request, Response, handler_fn};
use hearth_net::{Io, Listener};

use crate::support::{Client, Running, builder, eventually, hello, local, start};

/// Requests whose bodies nobody reads, from many peers, and one well-behaved client.
#[test]
fn bodies_that_nobody_takes_leave_the_buffers_to_others() {
    let server = start(handler_fn(async |request: Request| {
        if request.path() == "/stuck" {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        Response::text("hello")
    }));
    let floods: Vec<_> = (0..60)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address()).expect("it listens");
            stream.set_write_timeout(Some(Duration::from_millis(50))).expect("a socket");
            let head = "POST /stuck HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n";
            stream.write_all(head.as_bytes()).expect("sent");
            // Until the peer's and our kernel hold all that they may.
            let mut sent = 0;
            while let Ok(len) = stream.write(&[b'x'; 65536]) {
                sent += len;
                assert!(sent < 50_000_000, "the server takes what nobody reads");
                if sent > 4_000_000 {
                    break;
                }
            }
            stream
        })
        .collect();
    let mut client = server.client();
    for _ in 0..100 {
        assert_eq!(client.get("/").expect("an answer").1, "hello");
    }
    drop(floods);
    eventually("all are gone", || server.handle.stats().open == 1);
    assert_eq!(client.get("/").expect("an answer").1, "hello");
}

/// Peers that send as much as is taken, without an end, and one that asks now and then.
#[test]
fn who_sends_without_end_leaves_buffers_to_others() {
    const PATIENCE: Duration = Duration::from_millis(1500);
    let server = start(handler_fn(async |mut request: Request| {
        request.body_mut().limit(u64::MAX);
        while let Some(Ok(_)) = request.body_mut().frame().await {}
        Response::text("hello")
    }));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            let mut stream = TcpStream::connect(server.address()).expect("it listens");
            stream.set_write_timeout(Some(Duration::from_millis(100))).expect("a socket");
            let is_over = &is_over;
            scope.spawn(move || {
                let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000000\r\n\r\n";
                stream.write_all(head.as_bytes()).expect("sent");
                while !is_over.load(Relaxed) {
                    let _some_or_none = stream.write(&[b'x'; 65536]);
                }
            });
        }
        let mut client = server.client();
        let mut slowest = Duration::ZERO;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(4) {
            let asked = Instant::now();
            let answer = client.get("/");
            slowest = slowest.max(asked.elapsed());
            if answer.is_err() {
                break;
            }
        }
        is_over.store(true, Relaxed);
        assert!(slowest < PATIENCE, "waited for {slowest:?}");
    });
}

/// More connections have news at once than there are buffers in the pool.
#[test]
fn more_news_than_buffers() {
    let server = start(hello());
    let mut clients: Vec<Client<TcpStream>> = (0..200).map(|_| server.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").expect("an answer").1, "hello");
    }
    // The worker sleeps meanwhile, so that everything is there when it looks.
    let mut blocker = server.client();
    blocker.send("/block").expect("sent");
    std::thread::sleep(Duration::from_millis(100));
    let body = vec![b'x'; 16 * 1024];
    for client in &mut clients {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
        client.stream.write_all(head.as_bytes()).expect("sent");
        client.stream.write_all(&body).expect("sent");
    }
    for client in &mut clients {
        assert_eq!(client.answer().expect("an answer").1, "hello");
    }
    assert_eq!(blocker.answer().expect("an answer").1, "blocked");
}

/// Peers that vanish while something is under way, again and again over the same slots.
#[test]
fn peers_that_vanish_leave_nothing_behind() {
    let server = start(handler_fn(async |request: Request| match request.path() {
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Response::text("slow")
        }
        "/large" => Response::new(vec![b'x'; 3_000_000]),
        _ => Response::text("hello"),
    }));
    let before = descriptors();
    let mut steady = server.client();
    for round in 0..60 {
        let doomed: Vec<TcpStream> = (0..8)
            .map(|index| {
                let mut client = server.client();
                let path = ["/", "/slow", "/large", "/"][index % 4];
                client.send(path).expect("sent");
                if index % 2 == 0 {
                    // A reset in place of an end.
                    let now = Some(Duration::ZERO);
                    socket2::SockRef::from(&client.stream).set_linger(now).expect("a socket");
                }
                if index >= 4 {
                    let _some = client.stream.read(&mut [0; 64]).expect("an answer");
                }
                client.stream
            })
            .collect();
        drop(doomed);
        assert_eq!(steady.get("/").expect("an answer").1, "hello", "round {round}");
    }
    eventually("all are gone", || server.handle.stats().open == 1);
    // Of this process, other tests among it: most are ours.
    eventually("descriptors come back", || descriptors() < before + 100);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}

/// A large answer to a peer that reads slowly, then one that does not read at all and goes.
#[test]
fn a_slow_reader_gets_everything() {
    let content: Vec<u8> = (0..6_000_000u32).map(|number| number.to_le_bytes()[1]).collect();
    let served = content.clone();
    let server = start(handler_fn(move |_| {
        let served = served.clone();
        async move { Response::new(served) }
    }));
    let mut client = server.client();
    for _ in 0..2 {
        client.send("/").expect("sent");
        std::thread::sleep(Duration::from_millis(100));
        let (mut got, mut piece) = (Vec::new(), [0; 30_000]);
        while !got.windows(4).any(|end| end == b"\r\n\r\n") {
            let len = client.stream.read(&mut piece[..512]).expect("a head");
            got.extend_from_slice(&piece[..len]);
        }
        let at = got.windows(4).position(|end| end == b"\r\n\r\n").expect("found") + 4;
        got.drain(..at);
        while got.len() < content.len() {
            let len = client.stream.read(&mut piece).expect("more");
            assert!(len > 0, "it ended early");
            got.extend_from_slice(&piece[..len]);
        }
        assert!(got == content, "the content arrives as it is");
    }
}

/// The peer has sent its last byte and waits for the answers.
#[test]
fn a_half_closed_connection_is_answered() {
    let server = start(hello());
    let mut client = server.client();
    let requests = "GET /slow HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n";
    client.stream.write_all(requests.as_bytes()).expect("sent");
    client.stream.shutdown(std::net::Shutdown::Write).expect("a socket");
    assert_eq!(client.answer().expect("an answer").1, "slow");
    assert_eq!(client.answer().expect("an answer").1, "hello");
    assert!(client.closes().is_some());
}

/// The end of the server while connections are in every state.
#[test]
fn the_end_comes_in_the_middle_of_everything() {
    for _ in 0..5 {
        let server = start(handler_fn(async |request: Request| match request.path() {
            "/stuck" => std::future::pending().await,
            "/large" => Response::new(vec![b'x'; 8_000_000]),
            _ => Response::text("hello"),
        }));
        let mut clients: Vec<_> = (0..30).map(|_| server.client()).collect();
        for (client, path) in clients.iter_mut().zip(["/", "/stuck", "/large"].iter().cycle()) {
            client.send(path).expect("sent");
        }
        eventually("they are open", || server.handle.stats().open == 30);
        let Running { handle } = server;
        handle.abort();
        drop(handle);
        for mut client in clients {
            let mut rest = Vec::new();
            // An end or a reset, but no waiting.
            let _either = client.stream.read_to_end(&mut rest);
        }
    }
}

#[test]
fn the_driver_is_told() {
    let server = start(hello());
    assert_eq!(server.handle.io(), Io::IoUring);
    let make = |io| {
        let listener = Listener::bind(local());
        let server = builder().workers(1).io(io).listen(listener, Arc::new(hello())).bind();
        server.expect("a free port").start().expect("threads")
    };
    assert_eq!(make(Io::Epoll).io(), Io::Epoll);
    assert_eq!(make(Io::Auto).io(), Io::IoUring, "the kernel allows it, since these tests run");
    for io in [Io::Auto, Io::Epoll, Io::IoUring] {
        assert_eq!(Io::from_name(io.name()), Some(io));
    }
}
