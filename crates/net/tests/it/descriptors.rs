//! A process without file descriptors.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use hearth_net::{Listener, NetLimits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{Client, PATIENCE, builder, hello, local, logs, start_with};

/// Set in the process that is the server.
const ROLE: &str = "HEARTH_NET_TEST_DESCRIPTORS";
/// Descriptors that the server has.
const DESCRIPTORS: u64 = 40;

/// Set to the number of descriptors that are left when the server of the other test starts.
const LEFT: &str = "HEARTH_NET_TEST_DESCRIPTORS_LEFT";

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
    let this = "descriptors::a_lack_of_descriptors_sheds_and_does_not_spin";
    let (mut server, mut input, mut output) = spawn(this, ROLE, "1");
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

/// A server that starts with so few descriptors prints its port, or why it did not start; then it gets more.
fn starved(left: usize) {
    crate::support::capture_logs();
    // Where its signals are compiled in, tokio opens sockets for them once in a process, and panics if it cannot.
    drop(tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));
    let limit = Rlimit { current: Some(DESCRIPTORS), maximum: getrlimit(Resource::Nofile).maximum };
    setrlimit(Resource::Nofile, limit).expect("lowered");
    let listener = Listener::bind(local());
    let builder = builder().workers(1).limits(NetLimits::default());
    let server = builder.listen(listener, Arc::new(hello())).bind().expect("a free port");
    let mut others: Vec<_> =
        std::iter::from_fn(|| File::open("/dev/null").ok()).take(DESCRIPTORS as usize).collect();
    others.truncate(others.len() - left);
    let started = server.start();
    match &started {
        Ok(handle) => println!("PORT {}", handle.local_addrs()[0].port()),
        Err(error) => return println!("PORT none: {error}"),
    }
    for _ in std::io::stdin().lines() {
        others.clear();
        println!("FREE ");
    }
}

/// Whatever it is that there is no descriptor for at the start: a server that started serves once there are some.
#[test]
#[cfg(target_os = "linux")]
fn a_start_with_few_descriptors_serves_or_says_why_not() {
    if let Some(left) = std::env::var(LEFT).ok().and_then(|left| left.parse().ok()) {
        return starved(left);
    }
    let this = "descriptors::a_start_with_few_descriptors_serves_or_says_why_not";
    let mut started = 0;
    for left in 0..20 {
        let (mut server, mut input, mut output) = spawn(this, LEFT, &left.to_string());
        if let Ok(port) = line(&mut output, "PORT ").parse::<u16>() {
            started += 1;
            let address = ([127, 0, 0, 1], port).into();
            // Whatever becomes of this one, the worker has set itself up by then.
            let mut early = Client::connect(address);
            early.stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
            let _may_fail = early.get("/");
            drop(early);
            input.write_all(b"\n").expect("it reads");
            line(&mut output, "FREE ");
            let begin = Instant::now();
            while !answers(address) {
                assert!(begin.elapsed() < PATIENCE, "{left} descriptors left: nobody is served");
            }
        }
        drop(input);
        assert!(server.wait().expect("ended").success(), "{left} descriptors left");
    }
    assert!((1..20).contains(&started), "{started} of 20 started");
}

/// A process that runs this test with a variable set, its input and its output.
fn spawn(test: &str, variable: &str, value: &str) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let mut server = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(variable, value)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let input = server.stdin.take().expect("piped");
    let output = BufReader::new(server.stdout.take().expect("piped"));
    (server, input, output)
}

/// Whether a request is answered within two seconds.
fn answers(address: std::net::SocketAddr) -> bool {
    let mut client = Client::connect(address);
    client.stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a socket");
    client.get("/").is_ok_and(|(_, body)| body == "hello")
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
