//! A server that is stopped and started under load loses no request that it accepted.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hearth_e2e::program;

use crate::servers;

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
}

#[test]
fn no_accepted_request_is_lost() {
    let long = std::env::var_os("E2E_LONG").is_some();
    let half = Duration::from_secs(if long { 30 } else { 4 });
    let mut server = servers::hearth(&program::workspace().join("examples/site"), "");
    let address = server.address();
    let counts = Arc::new(Counts::default());
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..16)
        .map(|number| {
            let (counts, stop) = (Arc::clone(&counts), Arc::clone(&stop));
            std::thread::spawn(move || load(address, number, &counts, &stop))
        })
        .collect();
    std::thread::sleep(half);
    let before = counts.answered.load(Relaxed);
    let status = server.program.stop().expect("a clean stop");
    assert!(status.success(), "{status}: {}", server.program.log());
    servers::restart(&mut server);
    std::thread::sleep(half);
    stop.store(true, Relaxed);
    for client in clients {
        client.join().expect("a client");
    }
    let answered = counts.answered.load(Relaxed);
    let (refused, lost) = (counts.refused.load(Relaxed), counts.lost.load(Relaxed));
    eprintln!("{answered} answered, {refused} connections refused in between, {lost} lost");
    assert_eq!(lost, 0, "requests whose answer had begun, or that were accepted, failed");
    assert!(before > 100 && answered > before + 100, "{before} before, {answered} in all");
}

/// Requests on kept connections. A request that is sent on a connection which the server closed without
/// having read it is not lost: that is what RFC 9112 §9.3.1 lets a client repeat.
fn load(address: SocketAddr, number: usize, counts: &Counts, stop: &AtomicBool) {
    let target = ["/index.html", "/images/ember.png", "/data/primes.txt"][number % 3];
    let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut connection: Option<TcpStream> = None;
    let mut fresh = true;
    while !stop.load(Relaxed) {
        let Some(stream) = connection.as_mut() else {
            match TcpStream::connect(address) {
                Ok(stream) => {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
                    connection = Some(stream);
                    fresh = true;
                }
                Err(_) => {
                    counts.refused.fetch_add(1, Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            continue;
        };
        match exchange(stream, &request) {
            Ok(Answer::Complete { close }) => {
                counts.answered.fetch_add(1, Relaxed);
                fresh = false;
                if close {
                    connection = None;
                }
            }
            // Nothing came back: closed between two requests, or while it waited in the backlog.
            Ok(Answer::Nothing) => {
                if fresh {
                    counts.refused.fetch_add(1, Relaxed);
                }
                connection = None;
            }
            Err(error) => {
                eprintln!("lost on {target}: {error}");
                counts.lost.fetch_add(1, Relaxed);
                connection = None;
            }
        }
    }
}

enum Answer {
    Complete { close: bool },
    Nothing,
}

/// One exchange. An error means that an answer had begun and did not end.
fn exchange(stream: &mut TcpStream, request: &str) -> io::Result<Answer> {
    if stream.write_all(request.as_bytes()).is_err() {
        return Ok(Answer::Nothing);
    }
    let mut buffer = vec![0; 64 * 1024];
    let mut head = Vec::new();
    let start = Instant::now();
    let (end, length, close) = loop {
        let len = match stream.read(&mut buffer) {
            Ok(0) if head.is_empty() => return Ok(Answer::Nothing),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => len,
            Err(error) if head.is_empty() && start.elapsed() < Duration::from_secs(20) => {
                let _ = error;
                return Ok(Answer::Nothing);
            }
            Err(error) => return Err(error),
        };
        head.extend_from_slice(&buffer[..len]);
        let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(|value| value.trim().to_owned())
        };
        assert!(text.starts_with("http/1.1 200"), "{text}");
        let length: usize = field("content-length:").expect("a length").parse().expect("a number");
        break (end + 4, length, field("connection:").as_deref() == Some("close"));
    };
    let mut rest = length - (head.len() - end);
    while rest > 0 {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => rest -= len,
        }
    }
    Ok(Answer::Complete { close })
}
