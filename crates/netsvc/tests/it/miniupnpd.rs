//! The daemon that many routers run, for real.

use std::{net::IpAddr, time::Duration};

use hearth_netsvc::{
    gateway,
    portmap::{
        KeeperOptions, KeeperState, KeptMapping, MapError, MapRequest, MapperOptions,
        MappingKeeper, MappingStatus, Method, PortMapper, Presence, Protocol,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::world::{HOME, HOME_V6, OTHER_HOME, PUBLIC, ROUTER, World};

const EVERYTHING: &str = "enable_natpmp=yes\nallow 1-65535 192.168.77.0/24 1-65535\n";

fn only(method: Method) -> MapperOptions {
    let mut options = MapperOptions::default();
    options.methods = vec![method];
    options
}

#[test]
fn the_gateway_and_our_addresses() {
    let Some(world) = World::new() else { return };
    world.at_home(async {
        let gateway = gateway::default_ipv4().unwrap().expect("a gateway");
        assert_eq!(gateway.address.to_string(), ROUTER);
        assert_eq!(gateway.local.to_string(), HOME);
        assert_eq!((gateway.prefix_bits, &*gateway.interface), (24, "eth0"));
        let v6 = gateway::default_ipv6().unwrap().expect("a gateway");
        assert_eq!(v6.address.to_string(), "2a0b:77::1");
        let stable = gateway::stable_ipv6(&gateway::addresses().unwrap());
        assert_eq!(stable.map(|address| address.to_string()).as_deref(), Some(HOME_V6));
    });
}

#[test]
fn each_protocol_maps_and_unmaps() {
    let Some(world) = World::new() else { return };
    world.start_router(EVERYTHING);
    for method in [Method::Pcp, Method::NatPmp, Method::Upnp] {
        let mapping = world.at_home(async move {
            let mapper = PortMapper::discover(only(method)).await.unwrap();
            assert_eq!(mapper.methods(), [method]);
            assert_eq!(mapper.external_address().await.unwrap().to_string(), PUBLIC, "{method}");
            let request = MapRequest::tcp(8080).with_external_port(80);
            let mapping = mapper.add(&request).await.unwrap();
            assert_eq!((mapping.external_port, mapping.method), (80, method));
            assert_eq!(mapping.is_verified, method == Method::Upnp);
            // UPnP's table tells what is left, which may be a second less.
            assert!(mapping.lease > Some(Duration::from_secs(7000)), "{mapping:?}");
            mapper.renew(&mapping, &request).await.unwrap()
        });
        assert!(world.router_rules().contains("dport 80"), "{method}: {}", world.router_rules());
        reach(&world, 8080, 80);
        world.at_home(async move {
            let mapper = PortMapper::discover(only(method)).await.unwrap();
            mapper.delete(&mapping).await.unwrap();
            mapper.delete(&mapping).await.unwrap();
        });
        assert!(!world.router_rules().contains("dport 80"), "{method}: {}", world.router_rules());
    }
}

/// A connection from the internet arrives.
fn reach(world: &World, internal: u16, external: u16) {
    std::thread::scope(|scope| {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let server = scope.spawn(move || {
            world.at_home(async move {
                let listener = TcpListener::bind((HOME, internal)).await.unwrap();
                ready.send(()).unwrap();
                let accepted = timeout(Duration::from_secs(5), listener.accept());
                let (mut stream, _) = accepted.await.unwrap().unwrap();
                stream.write_all(b"hello").await.unwrap();
            });
        });
        is_ready.recv().unwrap();
        let said = world.in_internet(async move {
            let mut stream = TcpStream::connect((PUBLIC, external)).await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            said
        });
        assert_eq!(said, "hello");
        server.join().unwrap();
    });
}

#[test]
fn all_together() {
    let Some(world) = World::new() else { return };
    world.start_router(EVERYTHING);
    world.at_home(async {
        let mapper = PortMapper::discover(MapperOptions::default()).await.unwrap();
        assert_eq!(mapper.methods(), [Method::Pcp, Method::NatPmp, Method::Upnp]);
        let mapping = mapper.add(&MapRequest::tcp(443).with_description("ours")).await.unwrap();
        assert_eq!(mapping.method, Method::Pcp);
        assert!(mapping.is_verified, "UPnP shows what PCP made");
        let listed = mapper.list().await.unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(listed[0].internal.to_string(), format!("{HOME}:443"));
        assert_eq!(mapper.check(&mapping).await, Ok(Presence::Present));
        mapper.delete(&mapping).await.unwrap();
        assert_eq!(mapper.list().await.unwrap(), []);
    });
}

#[test]
fn conflicts_and_refusals() {
    let Some(world) = World::new() else { return };
    world.start_router("enable_natpmp=yes\ndeny 80 192.168.77.0/24 1-65535\nallow 1-65535 192.168.77.0/24 1-65535\n");
    world.at_home(async {
        // Another machine of the household has 443.
        let mut other = only(Method::Upnp);
        other.gateway = Some(gateway::Gateway::new(address(ROUTER), address(OTHER_HOME), 24));
        let other = PortMapper::discover(other).await.unwrap();
        other.add(&MapRequest::tcp(443).with_description("camera")).await.unwrap();

        let mapper = PortMapper::discover(only(Method::Upnp)).await.unwrap();
        let taken = mapper.add(&MapRequest::tcp(443)).await.unwrap_err();
        let MapError::PortTaken { owner, description, .. } = taken else { panic!("{taken}") };
        assert_eq!((owner, &*description), (Some(address(OTHER_HOME)), "camera"));
        let next = MapRequest::tcp(443).with_external_port_choices(3);
        assert_eq!(mapper.add(&next).await.unwrap().external_port, 444);
        let foreign = mapper.delete_port(Protocol::Tcp, 443).await.unwrap_err();
        assert!(matches!(foreign, MapError::Foreign { .. }), "{foreign}");

        // The daemon's rules forbid 80.
        let refused = mapper.add(&MapRequest::tcp(80)).await.unwrap_err();
        assert!(refused.router_code().is_some(), "{refused:?}");
        let secure = MapRequest::tcp(8081).with_internal_address(address(OTHER_HOME));
        let secure = mapper.add(&secure).await.unwrap_err();
        assert!(matches!(secure, MapError::SecureMode { .. }), "{secure:?}");

        // By these protocols the daemon gives other ports, which are given back.
        for method in [Method::Pcp, Method::NatPmp] {
            let mapper = PortMapper::discover(only(method)).await.unwrap();
            for port in [443, 80] {
                let taken = mapper.add(&MapRequest::tcp(port)).await.unwrap_err();
                assert!(matches!(taken, MapError::PortTaken { owner: None, .. }), "{taken:?}");
            }
        }
        let both = PortMapper::discover(MapperOptions::default()).await.unwrap();
        let refused = both.add(&MapRequest::tcp(80)).await.unwrap_err();
        assert!(refused.router_code().is_some(), "{refused:?}");
        let taken = both.add(&MapRequest::tcp(443)).await.unwrap_err();
        let MapError::PortTaken { owner, .. } = taken else { panic!("{taken}") };
        assert_eq!(owner, Some(address(OTHER_HOME)), "UPnP tells whose it is");
    });
}

#[test]
fn a_router_that_says_no_to_everything() {
    let Some(world) = World::new() else { return };
    world.start_router("enable_natpmp=no\ndeny 0-65535 0.0.0.0/0 0-65535\n");
    world.at_home(async {
        let mapper = PortMapper::discover(MapperOptions::default()).await.unwrap();
        let error = mapper.add(&MapRequest::tcp(443)).await.unwrap_err();
        assert!(error.router_code().is_some(), "{error:?}");
    });
    world.stop_router();
    world.at_home(async {
        let error = PortMapper::discover(MapperOptions::default()).await.unwrap_err();
        assert_eq!(error, MapError::NoRouter { gateway: address(ROUTER) });
    });
}

#[test]
fn pinholes() {
    let Some(world) = World::new() else { return };
    world.start_router(EVERYTHING);
    // By UPnP, miniupnpd opens no port below 1024; by PCP it forgets whose a pinhole is.
    for (method, port) in [(Method::Upnp, 8443), (Method::Pcp, 443)] {
        let mapping = world.at_home(async move {
            let mut options = MapperOptions::default();
            options.methods = vec![method];
            let mapper = PortMapper::discover(options).await.unwrap();
            let request = MapRequest::tcp(port).with_internal_address(address(HOME_V6));
            let mapping = mapper.add(&request).await.unwrap();
            assert_eq!(mapping.method, method);
            assert_eq!(mapping.is_verified, method == Method::Upnp);
            mapper.renew(&mapping, &request).await.unwrap()
        });
        assert!(
            world.router_rules().contains(HOME_V6_DIGITS),
            "{method}: {}",
            world.router_rules()
        );
        world.at_home(async move {
            let mut options = MapperOptions::default();
            options.methods = vec![method, Method::Upnp];
            let mapper = PortMapper::discover(options).await.unwrap();
            mapper.delete(&mapping).await.unwrap();
        });
        let is_gone = !world.router_rules().contains(HOME_V6_DIGITS);
        assert!(is_gone || method == Method::Pcp, "{method}: {}", world.router_rules());
    }
}

/// The home's address as nft shows it.
const HOME_V6_DIGITS: &str = "2a0b0077000000000000000000000010";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_keeper_outlives_the_routers_memory() {
    let Some(world) = World::new() else { return };
    world.start_router(EVERYTHING);
    let world = &world;
    world.at_home(async move {
        let mut options = KeeperOptions::default();
        options.check_interval = Duration::from_millis(200);
        let requests = vec![MapRequest::tcp(80), MapRequest::tcp(443)];
        let keeper = MappingKeeper::start(requests, MapperOptions::default(), options);
        let mut state = keeper.state();
        let is_active = |state: &KeeperState| {
            state.mappings.iter().all(|kept| matches!(kept.status, MappingStatus::Active(_)))
        };
        let limit = Duration::from_secs(20);
        timeout(limit, state.wait_for(is_active)).await.unwrap().unwrap();
        let address = state.borrow().external_address.map(|address| address.to_string());
        assert_eq!(address.as_deref(), Some(PUBLIC));
        // The router is restarted and knows nothing; then it is told again.
        world.start_router(EVERYTHING);
        assert!(!world.router_rules().contains("dport 443"));
        let came_back = async {
            while !world.router_rules().contains("dport 443") {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(limit, came_back).await.unwrap();
        let last = keeper.stop().await;
        assert!(last.is_stopped, "{last:?}");
        let removed = |kept: &KeptMapping| kept.status == MappingStatus::Removed;
        assert!(last.mappings.iter().all(removed), "{last:?}");
    });
    let rules = world.router_rules();
    assert!(!rules.contains("dport"), "nothing is left: {rules}");
}
