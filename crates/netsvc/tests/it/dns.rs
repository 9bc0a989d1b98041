//! The DNS client against servers that lie, stutter or know little.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use hearth_netsvc::dns::{Class, DnsClient, DnsError, DnsOptions, Name, Rcode, RecordType};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

fn client() -> DnsClient {
    let mut options = DnsOptions::new(Vec::new());
    options.timeout = Duration::from_millis(300);
    DnsClient::new(options)
}

fn name() -> Name {
    "www.example.com".parse().unwrap()
}

/// The question of a message: everything after the head up to its end.
fn question(asked: &[u8]) -> &[u8] {
    let name = asked[12..].iter().position(|byte| *byte == 0).unwrap();
    &asked[12..12 + name + 5]
}

/// An answer to a question with one address.
fn answer(asked: &[u8], flags: u16, address: Ipv4Addr) -> Vec<u8> {
    let mut out = asked[..2].to_vec();
    out.extend(flags.to_be_bytes());
    out.extend([0, 1, 0, 1, 0, 0, 0, 0]);
    out.extend(question(asked));
    out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    out.extend(address.octets());
    out
}

const GOOD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FORGED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);

/// Sockets of both kinds on one port; what is free for one of them may not be for the other.
async fn both_kinds() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

/// Answers each question over UDP with these packets, and over TCP properly.
async fn server(packets: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync + 'static) -> SocketAddr {
    let (udp, tcp) = both_kinds().await;
    let address = udp.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            for packet in packets(&buffer[..length]) {
                let _ = udp.send_to(&packet, from).await;
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut io, _)) = tcp.accept().await {
            let length = io.read_u16().await.unwrap();
            let mut asked = vec![0; usize::from(length)];
            io.read_exact(&mut asked).await.unwrap();
            let answer = answer(&asked, 0x8400, GOOD);
            let _ = io.write_u16(u16::try_from(answer.len()).unwrap()).await;
            let _ = io.write_all(&answer).await;
        }
    });
    address
}

async fn ask(server: SocketAddr) -> Result<Vec<std::net::IpAddr>, DnsError> {
    let answer = client().query(server, &name(), RecordType::A).await?;
    assert!(answer.is_authoritative);
    Ok(answer.addresses().collect())
}

#[tokio::test]
async fn forgeries_are_passed_over() {
    let good: Vec<std::net::IpAddr> = vec![GOOD.into()];
    let at = server(|asked| vec![answer(asked, 0x8400, GOOD)]).await;
    assert_eq!(ask(at).await.unwrap(), good);

    // Another number, another question, a question, bytes: all before the answer.
    let at = server(|asked| {
        let mut other_id = answer(asked, 0x8400, FORGED);
        other_id[0] ^= 1;
        let mut other_name = answer(asked, 0x8400, FORGED);
        other_name[13] = b'x';
        let a_question = answer(asked, 0, FORGED);
        let cut = answer(asked, 0x8400, FORGED)[..20].to_vec();
        vec![other_id, other_name, a_question, cut, Vec::new(), answer(asked, 0x8400, GOOD)]
    })
    .await;
    assert_eq!(ask(at).await.unwrap(), good);

    // Letters that are not ours: either the server changes them or somebody guesses. TCP tells.
    let at = server(|asked| {
        let mut small = answer(asked, 0x8400, FORGED);
        small[12..28].make_ascii_lowercase();
        let mut capital = small.clone();
        capital[12..28].make_ascii_uppercase();
        vec![small, capital]
    })
    .await;
    assert_eq!(ask(at).await.unwrap(), good);
}

#[tokio::test]
async fn somebody_else_answers() {
    let forger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let real = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = real.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        let (length, from) = real.recv_from(&mut buffer).await.unwrap();
        forger.send_to(&answer(&buffer[..length], 0x8400, FORGED), from).await.unwrap();
        tokio::task::yield_now().await;
        real.send_to(&answer(&buffer[..length], 0x8400, GOOD), from).await.unwrap();
    });
    assert_eq!(ask(at).await.unwrap(), [std::net::IpAddr::from(GOOD)]);
}

#[tokio::test]
async fn tcp_where_udp_is_not_enough() {
    let silent = server(|_| Vec::new()).await;
    assert_eq!(ask(silent).await.unwrap().len(), 1);
    let truncating = server(|asked| vec![answer(asked, 0x8600, FORGED)]).await;
    assert_eq!(ask(truncating).await.unwrap(), [std::net::IpAddr::from(GOOD)]);
}

#[tokio::test]
async fn servers_that_know_no_extensions() {
    let old = server(|asked| {
        let has_opt = asked[11] != 0;
        let mut refused = asked[..12].to_vec();
        refused[2..12].copy_from_slice(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        vec![if has_opt { refused } else { answer(asked, 0x8400, GOOD) }]
    })
    .await;
    assert_eq!(ask(old).await.unwrap().len(), 1);
}

#[tokio::test]
async fn codes_are_errors_but_absence_is_not() {
    for (code, is_answer) in [(0, true), (3, true), (2, false), (5, false)] {
        let at = server(move |asked| vec![answer(asked, 0x8400 | code, GOOD)]).await;
        let result = client().query(at, &name(), RecordType::A).await;
        match result {
            Ok(answer) => assert!(is_answer && answer.rcode == Rcode(code)),
            Err(DnsError::Rcode { rcode, .. }) => assert!(!is_answer && rcode == Rcode(code)),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn nobody_there() {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = client().query(free, &name(), RecordType::A).await.unwrap_err();
    assert!(matches!(error, DnsError::Io { .. }), "{error:?}");
    let error = client().lookup(&name(), RecordType::A).await.unwrap_err();
    assert!(matches!(error, DnsError::NoResolver), "{error:?}");
    let whoami = client().whoami(free, &name(), Class::Chaos).await;
    assert!(whoami.is_err());
}

#[tokio::test]
async fn a_server_that_is_slower_than_we_are_patient() {
    let (udp, tcp) = both_kinds().await;
    let at = udp.local_addr().unwrap();
    let task = tokio::spawn(async move {
        // One byte, and then nothing.
        let (mut io, _) = tcp.accept().await.unwrap();
        io.write_all(&[0]).await.unwrap();
        std::future::pending::<()>().await;
    });
    let error = client().query(at, &name(), RecordType::A).await.unwrap_err();
    assert!(matches!(error, DnsError::Timeout { .. }), "{error:?}");
    task.abort();
}
