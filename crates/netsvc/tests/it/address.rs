//! Witnesses of our address, honest and otherwise.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hearth_netsvc::address::{
    AddressError, AddressOptions, AddressSource, ExternalAddress, Family, Nat, SourceError,
    SourceKind, StunServer, TellsAddress, stun::BindingRequest,
};
use tokio::net::UdpSocket;

const RIGHT: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 1);
const WRONG: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 66);

fn says(kind: SourceKind, address: Ipv4Addr) -> Arc<dyn AddressSource> {
    let tell = move |_| async move { Ok(IpAddr::V4(address)) };
    Arc::new(TellsAddress::new(kind, format!("{kind}"), tell))
}

fn is_silent(kind: SourceKind) -> Arc<dyn AddressSource> {
    Arc::new(TellsAddress::new(kind, "silent", |_| std::future::pending()))
}

async fn find(sources: Vec<Arc<dyn AddressSource>>) -> Result<ExternalAddress, AddressError> {
    ExternalAddress::find(Family::V4, &AddressOptions::new(sources)).await
}

#[tokio::test(start_paused = true)]
async fn two_kinds_must_agree() {
    use SourceKind::{Https, Stun};
    let found = find(vec![says(Stun, RIGHT), says(Https, RIGHT), says(Https, WRONG)]).await;
    let found = found.unwrap();
    assert_eq!((found.address, found.nat), (RIGHT.into(), Nat::Unknown));
    assert_eq!(found.answers.len(), 3);

    let alone = find(vec![says(Https, RIGHT), is_silent(Stun)]).await.unwrap_err();
    assert!(matches!(alone, AddressError::OneKindOnly { kind: Https, .. }), "{alone}");
    assert_eq!(alone.answers()[1].address, Err(SourceError::Timeout));
    let torn = find(vec![says(Https, RIGHT), says(Stun, WRONG)]).await.unwrap_err();
    assert!(matches!(torn, AddressError::Disagree { .. }), "{torn}");
    let none = find(vec![is_silent(Https), is_silent(Stun)]).await.unwrap_err();
    assert!(matches!(none, AddressError::NoAnswer { .. }), "{none}");

    // The router is a witness, too.
    let options = AddressOptions::new(vec![says(Https, RIGHT)]).with_router(RIGHT);
    let found = ExternalAddress::find(Family::V4, &options).await.unwrap();
    assert_eq!(found.nat, Nat::Single);
    let options = AddressOptions::new(vec![says(Https, RIGHT), says(Stun, RIGHT)])
        .with_router(Ipv4Addr::new(100, 64, 0, 7));
    let found = ExternalAddress::find(Family::V4, &options).await.unwrap();
    assert_eq!(found.nat, Nat::CarrierGrade);
}

#[tokio::test]
async fn stun_ignores_what_is_not_its_answer() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 100];
        let (length, peer) = server.recv_from(&mut buffer).await.unwrap();
        let request = BindingRequest::parse(&buffer[..length]).unwrap();
        let right = SocketAddr::new(RIGHT.into(), 1234);
        let forged = BindingRequest::random().response(SocketAddr::new(WRONG.into(), 1));
        for datagram in [b"nonsense".to_vec(), forged, request.response(right)] {
            server.send_to(&datagram, peer).await.unwrap();
        }
    });
    let source = StunServer::new(&address.to_string());
    let found = tokio::time::timeout(Duration::from_secs(5), source.ask(Family::V4)).await;
    assert_eq!(found.unwrap(), Ok(RIGHT.into()));
}
