//! A process without file descriptors.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use hearth_net::NetLimits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{Client, hello, logs, start_with};

/// Set in the process that is the server.
const ROLE: &str = "HEARTH_NET_TEST_DESCRIPTORS";
/// Descriptors that the server has.
const DESCRIPTORS: u64 = 40;

/// The server: prints its port, then its counters for every line that it reads.
fn child() {
    let limit = Rlimit { current: Some(DESCRIPTORS), maximum: getrlimit(Resource::Nofile).maximum };
    let server = start_with(hello(), NetLimits::default(), |listener| listener);
    setrlimit(Resource::Nofile, limit).expect("lowered");
    println!("PORT {}", server.address().port());
    for _ in std::io::stdin().lines() {
        let stats = server.handle.stats();
        let warnings = logs().matches("no file descriptor is left").count();
        let cpu = cpu_millis();
        println!("STATS {} {} {warnings} {cpu}", stats.open, stats.shed_descriptors);
    }
}

/// Processor time of this process in milliseconds; needs no descriptor.
fn cpu_millis() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

#[test]
#[cfg(target_os = "linux")]
fn a_lack_of_descriptors_sheds_and_does_not_spin() {
    if std::env::var_os(ROLE).is_some() {
        return child();
    }
    let this = std::env::current_exe().expect("a path");
    let mut server = Command::new(this)
        .args(["--exact", "descriptors::a_lack_of_descriptors_sheds_and_does_not_spin"])
        .args(["--nocapture", "--test-threads=1"])
        .env(ROLE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut input = server.stdin.take().expect("piped");
    let mut output = BufReader::new(server.stdout.take().expect("piped"));
    let port: u16 = line(&mut output, "PORT ").parse().expect("a port");
    let mut stats = || {
        input.write_all(b"\n").expect("it reads");
        let numbers = line(&mut output, "STATS ");
        let numbers: Vec<u64> =
            numbers.split(' ').map(|number| number.parse().expect("a number")).collect();
        (numbers[0], numbers[1], numbers[2], numbers[3])
    };

    // More than it has descriptors; those that are turned away are told at once.
    let address = ([127, 0, 0, 1], port).into();
    let mut clients: Vec<_> = (0..100).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        let _may_be_shed = client.send("/");
    }
    let begin = Instant::now();
    let answered = clients.iter_mut().filter_map(|client| client.answer().ok()).count();
    assert!((10..100).contains(&answered), "{answered} of 100 were answered");
    assert!(begin.elapsed() < Duration::from_secs(5), "nobody waits: {:?}", begin.elapsed());

    let (open, shed, warnings, before) = stats();
    assert!(open < DESCRIPTORS, "{open} open");
    assert!(shed >= 10, "{shed} shed");
    assert_eq!(warnings, 1, "one warning, not one per connection");

    // While they stay, others keep knocking: no spin.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        let _ = TcpStream::connect(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
        std::thread::sleep(Duration::from_millis(20));
    }
    let (.., after) = stats();
    assert!(after - before < 500, "{} ms of processor in a second", after - before);

    // When they leave, it serves again.
    drop(clients);
    let answer = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        let mut client = Client::connect(address);
        client.get("/").ok()
    });
    assert_eq!(answer.expect("it serves again").1, "hello");
    drop(input);
    assert!(server.wait().expect("ended").success());
}

/// The rest of the next line that begins so.
fn line(output: &mut impl BufRead, begin: &str) -> String {
    loop {
        let mut line = String::new();
        assert!(output.read_line(&mut line).expect("readable") > 0, "the server ended");
        // The test harness prints on the same line.
        if let Some((_, rest)) = line.split_once(begin) {
            return rest.trim().to_owned();
        }
    }
}
