//! Addresses that cannot be listened on.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use hearth_net::{BindError, Listener};

use crate::support::{builder, hello, local};

fn bind(address: SocketAddr, workers: usize) -> Result<hearth_net::Server, BindError> {
    let builder = builder().workers(workers);
    builder.listen(Listener::bind(address), Arc::new(hello())).bind()
}

#[test]
fn an_address_in_use_is_named() {
    let other = TcpListener::bind(local()).expect("a free port");
    let address = other.local_addr().expect("bound");
    for workers in [1, 4] {
        let error = bind(address, workers).expect_err("it is in use");
        assert!(matches!(error, BindError::AddressInUse { .. }), "{error:?}");
        assert_eq!(error.address(), address);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}

#[test]
fn two_servers_do_not_share_a_port_by_accident() {
    for workers in [1, 4] {
        let first = bind(local(), workers).expect("a free port");
        let address = first.local_addrs()[0];
        for others in [1, 4] {
            let second = bind(address, others).map(|_| ());
            assert!(matches!(second, Err(BindError::AddressInUse { .. })), "{second:?}");
        }
    }
}

#[test]
fn a_foreign_address_is_named() {
    // TEST-NET-1 (RFC 5737) belongs to nobody.
    let error = bind(([192, 0, 2, 1], 0).into(), 2).expect_err("not ours");
    assert!(matches!(error, BindError::AddressNotAvailable { .. }), "{error:?}");
}

#[test]
fn ipv6_takes_ipv4_unless_told_otherwise() {
    let any: SocketAddr = ([0; 8], 0).into();
    let handler = Arc::new(hello());
    let both = builder().workers(1).listen(Listener::bind(any), handler.clone());
    let Ok(both) = both.bind() else {
        assert!(TcpListener::bind(any).is_err(), "IPv6 works here");
        return;
    };
    let port = both.local_addrs()[0].port();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let only = builder().workers(1).listen(Listener::bind(any).only_v6(true), handler);
    let only = only.bind().expect("a free port");
    let port = only.local_addrs()[0].port();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}
