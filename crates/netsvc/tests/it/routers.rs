//! What routers are known to do, and what no router should.

use std::{net::IpAddr, time::Duration};

use hearth_netsvc::portmap::{
    Actor, MapError, MapRequest, Method, PortMapper, Protocol,
    natpmp::{self, Answer},
};
use tokio::{net::UdpSocket, task::JoinSet, time::Instant};

use super::fake::{DESCRIPTION, Fake, http, options};

/// A request to a router that was prepared, and what was asked of the router meanwhile.
async fn add(prepare: impl FnOnce(&Fake)) -> (Result<(u16, Option<u64>), MapError>, Vec<String>) {
    let mut tasks = JoinSet::new();
    let (fake, options) = Fake::start(&mut tasks).await;
    let mapper = PortMapper::discover(options).await.unwrap();
    prepare(&fake);
    fake.log();
    let request = MapRequest::tcp(8443).with_external_port(443).with_external_port_choices(2);
    let result = mapper.add(&request).await;
    let result = result.map(|mapping| {
        assert!(mapping.is_verified, "{mapping:?}");
        (mapping.external_port, mapping.lease.map(|lease| lease.as_secs()))
    });
    let asked = fake.log().into_iter().filter(|what| what.contains("PortMapping "));
    (result, asked.collect())
}

fn entry(fake: &Fake, client: &str, port: u16, description: &str) {
    let entry = (client.to_owned(), port, description.to_owned(), 0);
    fake.with(|inner| inner.table.insert(443, entry));
}

#[tokio::test]
async fn leases() {
    let check = async |errors: &[(u32, u16)], want: Option<Option<u64>>, asked: &[&str]| {
        let errors = errors.to_vec();
        let (result, log) =
            add(|fake| fake.with(|inner| inner.lease_errors = errors.into_iter().collect())).await;
        let log: Vec<_> = log.iter().map(|what| what.rsplit(' ').next().unwrap()).collect();
        assert_eq!(log, asked);
        match want {
            Some(lease) => assert_eq!(result, Ok((443, lease))),
            None => assert!(matches!(result, Err(MapError::LeaseRefused { .. })), "{result:?}"),
        }
    };
    check(&[], Some(Some(7200)), &["7200"]).await;
    check(&[(7200, 402)], Some(Some(3600)), &["7200", "3600"]).await;
    check(&[(7200, 402), (3600, 402)], Some(None), &["7200", "3600", "0"]).await;
    check(&[(7200, 725)], Some(None), &["7200", "0"]).await;
    check(&[(7200, 402), (3600, 402), (0, 402)], None, &["7200", "3600", "0"]).await;
    check(&[(7200, 725), (0, 402)], None, &["7200", "0"]).await;
}

#[tokio::test]
async fn conflicts() {
    // Another machine has it: the next port, and the other's mapping stays.
    let (result, log) = add(|fake| entry(fake, "127.0.0.9", 443, "camera")).await;
    assert_eq!(result, Ok((444, Some(7200))));
    assert_eq!(log, ["AddPortMapping 444 7200"]);
    // Another program of this machine has it.
    let (result, _) = add(|fake| entry(fake, "127.0.0.1", 22, "ssh")).await;
    assert_eq!(result, Ok((444, Some(7200))));
    // We had it in an earlier life, by its purpose or by its port.
    for (port, description) in [(80, "hearth"), (8443, "older name")] {
        let (result, log) = add(|fake| entry(fake, "127.0.0.1", port, description)).await;
        assert_eq!(result, Ok((443, Some(7200))));
        assert_eq!(log, ["AddPortMapping 443 7200"]);
    }
    // A router that does not even renew: delete our own, then add.
    let (result, log) = add(|fake| {
        entry(fake, "127.0.0.1", 8443, "hearth");
        fake.fail("AddPortMapping", 718);
    })
    .await;
    assert_eq!(result, Ok((443, Some(7200))));
    let want = ["AddPortMapping 443 7200", "DeletePortMapping 443", "AddPortMapping 443 7200"];
    assert_eq!(log, want);
    // A conflict with something that the table does not show.
    let (result, log) = add(|fake| fake.fail("AddPortMapping", 718)).await;
    assert!(matches!(result, Err(MapError::PortTaken { owner: None, .. })), "{result:?}");
    assert_eq!(log, ["AddPortMapping 443 7200", "AddPortMapping 444 7200"]);
}

#[tokio::test]
async fn every_error_has_a_name_and_somebody_who_can_help() {
    let check = async |code: u16, want: fn(&MapError) -> bool, actor: Actor| {
        let (result, log) = add(|fake| fake.fail("AddPortMapping", code)).await;
        let error = result.unwrap_err();
        assert!(want(&error), "{code}: {error:?}");
        assert_eq!(error.actor(), actor, "{code}");
        assert!(!log.iter().any(|what| what.starts_with("Delete")), "{code}: {log:?}");
    };
    check(501, |error| matches!(error, MapError::Refused { .. }), Actor::RouterOwner).await;
    check(606, |error| matches!(error, MapError::Refused { .. }), Actor::RouterOwner).await;
    check(401, |error| matches!(error, MapError::Unsupported { .. }), Actor::RouterOwner).await;
    check(724, |error| *error == MapError::PortsMustMatch, Actor::User).await;
    check(728, |error| matches!(error, MapError::TableFull { .. }), Actor::RouterOwner).await;
    check(729, |error| matches!(error, MapError::ManualForward { .. }), Actor::RouterOwner).await;
    check(
        799,
        |error| error.router_code().is_some_and(|code| code.number == 799),
        Actor::RouterOwner,
    )
    .await;
}

#[tokio::test]
async fn a_yes_is_looked_at() {
    let (result, _) = add(|fake| fake.with(|inner| inner.forgets = true)).await;
    assert!(matches!(result, Err(MapError::NotKept { external_port: 443, .. })), "{result:?}");
}

#[tokio::test]
async fn lists_deletes_and_addresses() {
    let mut tasks = JoinSet::new();
    let (fake, options) = Fake::start(&mut tasks).await;
    let mapper = PortMapper::discover(options).await.unwrap();
    assert_eq!((mapper.router_name().as_str(), mapper.methods()), ("Fake", vec![Method::Upnp]));
    entry(&fake, "127.0.0.9", 443, "camera");
    mapper.add(&MapRequest::tcp(80)).await.unwrap();
    let listed = mapper.list().await.unwrap();
    let ports: Vec<_> = listed.iter().map(|mapping| mapping.external_port).collect();
    assert_eq!(ports, [80, 443]);
    let foreign = mapper.delete_port(Protocol::Tcp, 443).await.unwrap_err();
    let owner: IpAddr = "127.0.0.9".parse().unwrap();
    assert!(matches!(foreign, MapError::Foreign { owner: found, .. } if found == owner));
    mapper.delete_port(Protocol::Tcp, 80).await.unwrap();
    mapper.delete_port(Protocol::Tcp, 80).await.unwrap();
    assert_eq!(mapper.list().await.unwrap().len(), 1);
    for (external, is_there) in
        [("11.0.0.1", true), ("", false), ("0.0.0.0", false), ("<x/>", false)]
    {
        fake.with(|inner| inner.external = external.to_owned());
        assert_eq!(mapper.external_address().await.is_ok(), is_there, "{external}");
    }
}

/// What a discovery makes of a router that was prepared.
async fn discover(prepare: impl FnOnce(&Fake)) -> Result<(), MapError> {
    let mut tasks = JoinSet::new();
    let (fake, options) = Fake::start(&mut tasks).await;
    prepare(&fake);
    PortMapper::discover(options).await.map(|_| ())
}

#[tokio::test]
async fn hostile_answers_are_refused() {
    let check = async |name: &str, prepare: &dyn Fn(&Fake), want: fn(&MapError) -> bool| {
        let began = Instant::now();
        let error = discover(prepare).await.unwrap_err();
        assert!(want(&error), "{name}: {error:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{name}: {:?}", began.elapsed());
    };
    let raw =
        |bytes: Vec<u8>| move |fake: &Fake| fake.with(|inner| inner.raw = Some(bytes.clone()));
    let xml =
        |text: String| move |fake: &Fake| fake.with(|inner| inner.description = Some(text.clone()));
    let is_hostile: fn(&MapError) -> bool = |error| matches!(error, MapError::Hostile { .. });
    let is_nonsense: fn(&MapError) -> bool = |error| matches!(error, MapError::Protocol { .. });
    let is_nobody: fn(&MapError) -> bool = |error| matches!(error, MapError::NoRouter { .. });

    let redirect = "HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n";
    check("a redirect", &raw(redirect.into()), is_hostile).await;
    check("huge XML", &xml(format!("<root>{}</root>", " ".repeat(400_000))), is_hostile).await;
    check("many elements", &xml(format!("<root>{}</root>", "<a/>".repeat(30_000))), is_hostile)
        .await;
    let endless = "HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n".to_owned();
    check("a huge promise", &raw((endless + &" ".repeat(300_000)).into()), is_hostile).await;
    let bomb = "<!DOCTYPE a [<!ENTITY b \"cccccccc\">]><root>&b;</root>";
    check("entities", &xml(bomb.into()), is_hostile).await;
    check("slow drip", &|fake| fake.with(|inner| inner.drips = true), |error| {
        matches!(error, MapError::Timeout { .. })
    })
    .await;
    check(
        "another host's control",
        &xml(DESCRIPTION.replace("/ctl", "http://127.0.0.2/ctl")),
        is_nonsense,
    )
    .await;
    check("no HTTP", &raw(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()), is_nonsense).await;
    check("not found", &raw(http(404, "gone")), is_nonsense).await;
    check("deep nesting", &xml("<a>".repeat(50_000)), |error| {
        matches!(error, MapError::Hostile { .. } | MapError::Protocol { .. })
    })
    .await;
    for location in
        ["http://127.0.0.2:1/d.xml", "http://router.example/d.xml", "https://127.0.0.1/", ""]
    {
        check(
            "a foreign LOCATION",
            &|fake| {
                fake.with(|inner| inner.location = Some(location.to_owned()));
            },
            is_nobody,
        )
        .await;
    }
}

/// The description was fine, and what comes after it is not.
#[tokio::test]
async fn hostile_answers_to_actions_are_refused() {
    let envelope = |inside: String| {
        format!("<s:Envelope xmlns:s=\"x\"><s:Body>{inside}</s:Body></s:Envelope>")
    };
    let redirect = "HTTP/1.1 307 X\r\nLocation: http://127.0.0.2/ctl\r\nContent-Length: 0\r\n\r\n";
    let address = |text: &str| {
        let tag = "GetExternalIPAddressResponse";
        let address = format!("<NewExternalIPAddress>{text}</NewExternalIPAddress>");
        http(200, &envelope(format!("<u:{tag} xmlns:u=\"x\">{address}</u:{tag}>")))
    };
    let bomb = format!("<!DOCTYPE a [<!ENTITY b \"c\">]>{}", envelope("&b;".to_owned()));
    let check = async |name: &str, raw: Option<Vec<u8>>, want: fn(&MapError) -> bool| {
        let mut tasks = JoinSet::new();
        let (fake, options) = Fake::start(&mut tasks).await;
        let mapper = PortMapper::discover(options).await.unwrap();
        fake.with(|inner| {
            inner.drips = raw.is_none();
            inner.raw = raw;
        });
        let began = Instant::now();
        let error = mapper.external_address().await.unwrap_err();
        assert!(want(&error), "{name}: {error:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{name}: {:?}", began.elapsed());
    };
    let is_hostile: fn(&MapError) -> bool = |error| matches!(error, MapError::Hostile { .. });
    check("a redirect", Some(redirect.into()), is_hostile).await;
    check("huge XML", Some(http(200, &envelope(" ".repeat(400_000)))), is_hostile).await;
    check("many elements", Some(http(200, &envelope("<a/>".repeat(30_000)))), is_hostile).await;
    check("entities", Some(http(200, &bomb)), is_hostile).await;
    check("slow drip", None, |error| matches!(error, MapError::Timeout { .. })).await;
    check("no address", Some(address("http://127.0.0.2/")), |error| {
        matches!(error, MapError::NotConnected { .. } | MapError::Protocol { .. })
    })
    .await;
}

/// A NAT-PMP server that answers by `answer`, and options that lead to it.
async fn natpmp(
    tasks: &mut JoinSet<()>,
    mut answer: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> PortMapper {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut options = options("127.0.0.1:9".parse().unwrap(), Method::NatPmp);
    options.pcp_port = socket.local_addr().unwrap().port();
    tasks.spawn(async move {
        let mut buffer = [0; 2000];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            for datagram in answer(&buffer[..length]) {
                let _ = socket.send_to(&datagram, peer).await;
            }
        }
    });
    PortMapper::discover(options).await.unwrap()
}

fn natpmp_answer(answer: Answer) -> Vec<u8> {
    let mut bytes = vec![0, 0x80, 0, 0, 0, 0, 0, 9, 11, 0, 0, 1];
    if let Answer::Map { .. } | Answer::Failed { .. } = answer {
        let mut response = natpmp::Response::parse(&bytes).unwrap();
        response.answer = answer;
        bytes = response.encode();
    }
    bytes
}

#[tokio::test]
async fn natpmp_results() {
    let address = || natpmp_answer(Answer::ExternalAddress(std::net::Ipv4Addr::LOCALHOST));
    for (result, want) in [
        (2, "the router refuses by NAT-PMP (2 not authorized)"),
        (3, "the router has no connection to the internet"),
        (4, "the router has no room for another mapping (4 out of resources)"),
        (5, "the router's NAT-PMP service cannot do what was asked"),
        (9, "the router's NAT-PMP service failed (9)"),
    ] {
        let mut tasks = JoinSet::new();
        let mapper = natpmp(&mut tasks, move |request| match request {
            [0, 0] => vec![address()],
            _ => vec![natpmp_answer(Answer::Failed { operation: 2, result })],
        })
        .await;
        let error = mapper.add(&MapRequest::tcp(443)).await.unwrap_err();
        assert_eq!(error.to_string(), want);
    }
    // Another port than the wanted one is given back; lost and foreign datagrams do no harm.
    let mut tasks = JoinSet::new();
    let deleted = std::sync::Arc::new(std::sync::Mutex::new(0));
    let (count, mut seen) = (deleted.clone(), 0);
    let mapper = natpmp(&mut tasks, move |request| {
        let [_, operation, _, _, _, _, _, _, lifetime @ ..] = request else {
            return vec![address()];
        };
        seen += 1;
        let is_deletion = *lifetime == [0, 0, 0, 0];
        *count.lock().unwrap() += u32::from(is_deletion);
        let answer = |internal_port| {
            let protocol = if *operation == 2 { Protocol::Tcp } else { Protocol::Udp };
            let external_port = if is_deletion { 0 } else { 50_000 };
            natpmp_answer(Answer::Map { protocol, internal_port, external_port, lifetime: 60 })
        };
        // The first one is lost.
        if seen == 1 { vec![] } else { vec![vec![1, 2], answer(1), answer(443)] }
    })
    .await;
    let error = mapper.add(&MapRequest::tcp(443)).await.unwrap_err();
    assert!(matches!(error, MapError::PortTaken { external_port: 443, .. }), "{error:?}");
    assert_eq!(*deleted.lock().unwrap(), 1);
}
