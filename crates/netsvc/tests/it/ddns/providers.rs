//! Each service against a server that speaks what it speaks, errors included.

use std::net::{Ipv4Addr, Ipv6Addr};

use hearth_netsvc::{
    ddns::{Outcome, PROVIDERS, ProviderError, ProviderErrorKind as Kind},
    dns::Name,
};
use serde_json::json;

use super::standin::{Answer, Asked, StandIn};

const V4: Option<Ipv4Addr> = Some(Ipv4Addr::new(192, 0, 2, 1));
const V6: Option<Ipv6Addr> = Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn plain(text: &str) -> Answer {
    Answer::Plain(200, text.to_owned())
}

fn host_of(provider: &str) -> Name {
    name(if provider == "duckdns" { "home.duckdns.org" } else { "home.example.com" })
}

/// One update of IPv4, against a server that always says the same.
async fn told(provider: &str, answer: Answer) -> Result<Outcome, ProviderError> {
    let server = StandIn::saying(answer).await;
    server.provider(provider).set_addresses(&host_of(provider), V4, None).await
}

pub(super) fn secrets_of(provider: &str) -> String {
    let values = super::standin::credentials(provider).iter().map(|(_, value)| *value);
    values.filter(|value| value.contains("hush")).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn words_of_services() {
    let xml = |count: u8, error: &str| {
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-16\"?><interface-response><Command>SETDNSHOST\
             </Command><ErrCount>{count}</ErrCount><errors><Err1>{error}</Err1></errors>\
             <Done>true</Done></interface-response>"
        )
    };
    let retry = Answer::Field(429, "retry-after: 700", String::new());
    let cases = [
        ("dyndns2", plain("good 192.0.2.1"), Ok(Outcome::Updated)),
        ("dyndns2", plain("nochg 192.0.2.1\n"), Ok(Outcome::Repeated)),
        ("dyndns2", Answer::Plain(401, "badauth".into()), Err(Kind::BadAuth)),
        ("dyndns2", Answer::Plain(401, String::new()), Err(Kind::BadAuth)),
        ("dyndns2", plain("abuse"), Err(Kind::Abuse)),
        ("dyndns2", plain("911"), Err(Kind::Busy)),
        ("dyndns2", plain("dnserr"), Err(Kind::Busy)),
        ("dyndns2", plain("!donator"), Err(Kind::NotDonator)),
        ("dyndns2", plain("nohost"), Err(Kind::NoHost)),
        ("dyndns2", plain("notfqdn"), Err(Kind::NotFqdn)),
        ("dyndns2", plain("good 198.51.100.9"), Err(Kind::Garbled)),
        ("dyndns2", retry.clone(), Err(Kind::RateLimited)),
        ("desec", plain("good"), Ok(Outcome::Updated)),
        ("desec", Answer::Plain(401, "badauth".into()), Err(Kind::BadAuth)),
        ("desec", Answer::Plain(404, "nohost".into()), Err(Kind::NoHost)),
        ("desec", retry.clone(), Err(Kind::RateLimited)),
        ("duckdns", plain("OK"), Ok(Outcome::Updated)),
        ("duckdns", plain("KO"), Err(Kind::BadAuth)),
        ("namecheap", plain(&xml(0, "")), Ok(Outcome::Updated)),
        ("namecheap", plain(&xml(1, "Passwords do not match")), Err(Kind::BadAuth)),
        ("namecheap", plain(&xml(1, "No Records updated. A record not Found;")), Err(Kind::NoHost)),
        ("namecheap", plain(&xml(1, "Something else")), Err(Kind::Refused)),
        ("namecheap", plain(&xml(0, "")[..150]), Err(Kind::Garbled)),
        (
            "cloudflare",
            Answer::Plain(403, json!({ "success": false, "errors": [{ "code": 9109 }] }).to_string()),
            Err(Kind::BadAuth),
        ),
        (
            "cloudflare",
            Answer::Plain(400, json!({ "success": false, "errors": [{ "code": 6003 }] }).to_string()),
            Err(Kind::BadAuth),
        ),
        ("cloudflare", retry.clone(), Err(Kind::RateLimited)),
        ("cloudflare", plain(r#"{"success":true,"result":[]}"#), Err(Kind::NoHost)),
        ("cloudflare", plain(r#"{"success":true,"resu"#), Err(Kind::Garbled)),
        ("hetzner", Answer::Plain(401, "{}".into()), Err(Kind::BadAuth)),
        ("hetzner", retry.clone(), Err(Kind::RateLimited)),
        ("hetzner", plain(r#"{"zones":[]}"#), Err(Kind::NoHost)),
        ("hetzner", Answer::Plain(423, "{}".into()), Err(Kind::Busy)),
        (
            "route53",
            Answer::Plain(403, "<ErrorResponse><Error><Code>InvalidClientTokenId</Code></Error></ErrorResponse>".into()),
            Err(Kind::BadAuth),
        ),
        (
            "route53",
            Answer::Plain(403, "<R><Error><Code>SignatureDoesNotMatch</Code><Message>Signature expired: x</Message></Error></R>".into()),
            Err(Kind::ClockWrong),
        ),
        (
            "route53",
            Answer::Plain(400, "<R><Error><Code>Throttling</Code></Error></R>".into()),
            Err(Kind::RateLimited),
        ),
    ];
    for (provider, answer, expected) in cases {
        let shown = format!("{provider} {answer:?}");
        let result = told(provider, answer).await;
        if let Err(error) = &result {
            let text = format!("{error} {error:?}");
            assert!(!text.contains("hush"), "{text}");
            assert!(text.starts_with(provider), "{text}");
            if error.kind() == Kind::RateLimited && provider != "route53" {
                assert_eq!(error.retry_after().unwrap().as_secs(), 700, "{shown}");
            }
        }
        assert_eq!(result.map_err(|error| error.kind()), expected, "{shown}");
    }
}

#[tokio::test]
async fn what_no_service_says() {
    for info in PROVIDERS.iter().filter(|info| info.name != "rfc2136") {
        // Some pages repeat what they were sent.
        let html = format!("<!DOCTYPE html><title>Login</title>{}", secrets_of(info.name));
        let html = html.as_str();
        for (answer, expected) in [
            (plain(html), Kind::Garbled),
            (plain(""), Kind::Garbled),
            (Answer::Plain(302, html.to_owned()), Kind::Garbled),
            (Answer::Plain(503, html.to_owned()), Kind::Busy),
            (Answer::CutOff("good 192".to_owned()), Kind::Unreachable),
            (Answer::Noise, Kind::Garbled),
            (plain(&"x".repeat(400_000)), Kind::Garbled),
        ] {
            let shown = format!("{} {answer:.60?}", info.name);
            let error = told(info.name, answer).await.unwrap_err();
            assert_eq!(error.kind(), expected, "{shown}: {error}");
            assert!(error.to_string().len() < 300, "{error}");
            assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
            assert!(error.was_sent());
        }
    }
}

#[tokio::test]
async fn nobody_there() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for info in PROVIDERS.iter().filter(|info| info.name != "rfc2136") {
        let mut context = super::standin::context();
        context.endpoint = Some(format!("http://{free}"));
        let pairs = super::standin::credentials(info.name);
        let pairs = pairs.iter().map(|&(key, value)| (key, value.into()));
        let settings = hearth_netsvc::ddns::ProviderSettings::new(info.name, pairs).unwrap();
        let provider = settings.build(&context).unwrap();
        let error = provider.set_addresses(&host_of(info.name), V4, None).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unreachable, "{error}");
        assert!(!error.was_sent(), "{error}");
        assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
    }
}

#[tokio::test]
async fn a_service_that_hangs() {
    let server = StandIn::saying(Answer::Silence).await;
    let provider = server.provider("duckdns");
    let host = name("home.duckdns.org");
    let update = provider.set_addresses(&host, V4, None);
    // The connection is made in real time, the patience is not.
    tokio::pin!(update);
    tokio::select! {
        result = &mut update => panic!("{result:?}"),
        () = async { while server.asked().is_empty() { tokio::task::yield_now().await } } => {}
    }
    tokio::time::pause();
    let error = update.await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable);
    assert!(error.was_sent());
}

#[tokio::test]
async fn one_request_for_all_names() {
    let server = StandIn::saying(plain("good 192.0.2.1\nnochg 192.0.2.1\nnohost\n")).await;
    let hosts = ["example.com", "www.example.com", "x.example.com", "y.example.com"].map(name);
    let results = server.provider("dyndns2").set_addresses_of(&hosts, V4, V6).await;
    let results: Vec<_> =
        results.into_iter().map(|result| result.map_err(|error| error.kind())).collect();
    let expected =
        [Ok(Outcome::Updated), Ok(Outcome::Repeated), Err(Kind::NoHost), Err(Kind::Garbled)];
    assert_eq!(results, expected);
    let asked = server.asked();
    assert_eq!(
        server.lines(),
        ["GET /nic/update?hostname=example.com,www.example.com,x.example.com,y.example.com\
          &myip=192.0.2.1&myipv6=2001:db8::1"]
    );
    assert!(asked[0].head.contains("authorization: Basic bWU6aHVzaC1wYXNzd29yZA=="), "{asked:?}");
    assert!(asked[0].head.contains("user-agent: hearth/"), "{asked:?}");
}

#[tokio::test]
async fn requests_of_the_simple_services() {
    for (provider, host, v4, v6, expected) in [
        (
            "namecheap",
            "example.com",
            V4,
            None,
            "GET /update?host=%40&domain=example.com&password=hush-password&ip=192.0.2.1",
        ),
        (
            "namecheap",
            "a.b.example.com",
            V4,
            None,
            "GET /update?host=a.b&domain=example.com&password=hush-password&ip=192.0.2.1",
        ),
        (
            "duckdns",
            "www.home.duckdns.org",
            V4,
            V6,
            "GET /update?domains=home&token=hush-token&ip=192.0.2.1&ipv6=2001:db8::1",
        ),
        (
            "desec",
            "a.dedyn.io",
            V4,
            None,
            "GET /?hostname=a.dedyn.io&myipv4=192.0.2.1&myipv6=preserve",
        ),
        (
            "desec",
            "a.dedyn.io",
            None,
            V6,
            "GET /?hostname=a.dedyn.io&myipv4=preserve&myipv6=2001:db8::1",
        ),
        (
            "dyndns2",
            "a.example.com",
            None,
            V6,
            "GET /nic/update?hostname=a.example.com&myipv6=2001:db8::1",
        ),
    ] {
        let server = StandIn::saying(plain("good")).await;
        let _ = server.provider(provider).set_addresses(&name(host), v4, v6).await;
        assert_eq!(server.lines(), [expected]);
    }
    for (provider, host, kind) in [
        ("namecheap", "example.org", Kind::NoHost),
        ("duckdns", "example.org", Kind::NoHost),
        ("duckdns", "duckdns.org", Kind::NoHost),
    ] {
        let server = StandIn::saying(plain("OK")).await;
        let error = server.provider(provider).set_addresses(&name(host), V4, None).await;
        assert_eq!(error.unwrap_err().kind(), kind);
        assert!(server.asked().is_empty(), "nothing was sent");
    }
}

#[tokio::test]
async fn cloudflare_keeps_what_else_a_record_has() {
    let server = StandIn::start(|asked, _| {
        let result = match asked.line.as_str() {
            "GET /client/v4/zones?name=home.example.com" => json!([]),
            "GET /client/v4/zones?name=example.com" => json!([{ "id": "z1", "name": "EXÄMPLE" }]),
            line if line.contains("type=A&") => {
                json!([{ "id": "r1", "content": "198.51.100.1", "proxied": true }])
            }
            line if line.contains("type=AAAA&") => {
                json!([{ "id": "r2", "content": "2001:0db8::0001" }])
            }
            "PATCH /client/v4/zones/z1/dns_records/r1" => json!({}),
            line => panic!("{line}"),
        };
        plain(&json!({ "success": true, "result": result }).to_string())
    })
    .await;
    let provider = server.provider("cloudflare");
    let outcome = provider.set_addresses(&name("home.example.com"), V4, V6).await.unwrap();
    assert_eq!(outcome, Outcome::Updated);
    let asked = server.asked();
    let changes: Vec<_> = asked.iter().filter(|asked| !asked.line.starts_with("GET")).collect();
    assert_eq!(changes.len(), 1, "the AAAA record is right: {changes:?}");
    assert_eq!(changes[0].content, r#"{"content":"192.0.2.1"}"#);
    assert!(changes[0].head.contains("authorization: Bearer hush-token"));
}

#[tokio::test]
async fn cloudflare_does_not_choose_among_several() {
    let server = StandIn::start(|asked, _| {
        let result = match asked.line.contains("zones?") {
            true => json!([{ "id": "z" }]),
            false => json!([{ "id": "a", "content": "192.0.2.1" }, { "id": "b" }]),
        };
        plain(&json!({ "success": true, "result": result }).to_string())
    })
    .await;
    let error = server.provider("cloudflare").set_addresses(&name("a.example.com"), V4, None).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains("2 A records; delete all but one"), "{error}");
}

#[tokio::test]
async fn hetzner_waits_for_its_actions() {
    let server = StandIn::start(|asked, _| {
        let action = |status: &str| json!({ "action": { "id": 7, "status": status } });
        let (status, answer) = match asked.line.as_str() {
            "GET /v1/zones?name=example.com" => (200, json!({ "zones": [{ "id": 1 }] })),
            "GET /v1/zones/example.com/rrsets/@/A" => {
                (200, json!({ "rrset": { "records": [{ "value": "198.51.100.1" }] } }))
            }
            "GET /v1/zones/example.com/rrsets/@/AAAA" => (404, json!({ "error": {} })),
            "POST /v1/zones/example.com/rrsets/@/A/actions/set_records" => (201, action("running")),
            "POST /v1/zones/example.com/rrsets" => (201, action("success")),
            "GET /v1/actions/7" => (200, action("success")),
            line => panic!("{line}"),
        };
        Answer::Plain(status, answer.to_string())
    })
    .await;
    let provider = server.provider("hetzner");
    let outcome = provider.set_addresses(&name("example.com"), V4, V6).await.unwrap();
    assert_eq!(outcome, Outcome::Updated);
    let created = server.asked().into_iter().find(|asked| asked.line.ends_with("/rrsets")).unwrap();
    let content: serde_json::Value = serde_json::from_str(&created.content).unwrap();
    let expected = json!({
        "name": "@", "type": "AAAA", "ttl": 60, "records": [{ "value": "2001:db8::1" }],
    });
    assert_eq!(content, expected);
    assert!(server.lines().contains(&"GET /v1/actions/7".to_owned()));
}

/// A zone at Route 53 with a text record, which changes as it is told.
fn route53(asked: &Asked) -> Answer {
    let set = |values: &[&str]| {
        let values: String = values.iter().map(|value| format!("<Value>{value}</Value>")).collect();
        format!(
            "<ListResponse><ResourceRecordSet><Name>_acme-challenge.example.com.</Name><Type>TXT</Type>\
                 <TTL>300</TTL>{values}</ResourceRecordSet></ListResponse>"
        )
    };
    plain(&match asked.line.as_str() {
        line if line.contains("hostedzonesbyname?dnsname=_acme") => {
            "<ListResponse><HostedZone><Id>/hostedzone/Z9</Id><Name>other.com.</Name></HostedZone></ListResponse>".into()
        }
        line if line.contains("hostedzonesbyname") => {
            "<ListResponse><HostedZone><Id>/hostedzone/Z1</Id><Name>example.com.</Name></HostedZone></ListResponse>"
                .into()
        }
        line if line.starts_with("GET /2013-04-01/hostedzone/Z1/rrset?") => {
            set(&["&quot;old&quot;"])
        }
        line if line.starts_with("POST") => {
            "<ListResponse><ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status></ChangeInfo></ListResponse>".into()
        }
        "GET /2013-04-01/change/C1" => "<ListResponse><Status>INSYNC</Status></ListResponse>".into(),
        line => panic!("{line}"),
    })
}

#[tokio::test]
async fn route53_changes_a_set_as_a_whole() {
    let server = StandIn::start(|asked, _| route53(asked)).await;
    let provider = server.provider("route53");
    let challenge = name("_acme-challenge.example.com");
    provider.add_txt(&challenge, "new").await.unwrap();
    provider.add_txt(&challenge, "old").await.unwrap();
    provider.remove_txt(&challenge, "old").await.unwrap();
    provider.remove_txt(&challenge, "missing").await.unwrap();
    let asked = server.asked();
    let changes: Vec<_> = asked.iter().filter(|asked| asked.line.starts_with("POST")).collect();
    let [added, removed] = changes.as_slice() else { panic!("{changes:?}") };
    let part = "<Value>&quot;old&quot;</Value></ResourceRecord><ResourceRecord><Value>&quot;new";
    assert!(added.content.contains("<Action>UPSERT</Action>"), "{added:?}");
    assert!(added.content.contains(part) && added.content.contains("<TTL>300<"), "{added:?}");
    assert!(removed.content.contains("<Action>DELETE</Action>"), "{removed:?}");
    for asked in &asked {
        assert!(
            asked.head.contains("authorization: AWS4-HMAC-SHA256 Credential=AKID/"),
            "{asked:?}"
        );
        assert!(asked.head.contains("SignedHeaders=host;x-amz-date;x-amz-security-token"));
        assert!(asked.head.contains("x-amz-security-token: hush-session"));
        assert!(!asked.head.contains("hush-key") && !asked.content.contains("hush"));
    }
}

#[tokio::test]
async fn texts_at_desec_stand_beside_each_other() {
    let server = StandIn::start(|asked, _| {
        let line = asked.line.as_str();
        plain(&if line.contains("owns_qname=_acme-challenge.a.dedyn.io") {
            json!([{ "name": "a.dedyn.io", "minimum_ttl": 60 }]).to_string()
        } else if line == "GET /api/v1/domains/a.dedyn.io/rrsets/_acme-challenge/TXT/" {
            json!({ "records": ["\"one\""] }).to_string()
        } else {
            assert_eq!(line, "PUT /api/v1/domains/a.dedyn.io/rrsets/");
            asked.content.clone()
        })
    })
    .await;
    let provider = server.provider("desec");
    let challenge = name("_acme-challenge.a.dedyn.io");
    provider.add_txt(&challenge, "two").await.unwrap();
    provider.add_txt(&challenge, "one").await.unwrap();
    provider.remove_txt(&challenge, "one").await.unwrap();
    let puts: Vec<_> =
        server.asked().into_iter().filter(|asked| asked.line.starts_with("PUT")).collect();
    let records = |asked: &Asked| {
        let json: serde_json::Value = serde_json::from_str(&asked.content).unwrap();
        json[0]["records"].clone()
    };
    assert_eq!(puts.len(), 2);
    assert_eq!(records(&puts[0]), json!(["\"one\"", "\"two\""]));
    assert_eq!(records(&puts[1]), json!([]));
}

#[tokio::test]
async fn texts_at_cloudflare_hetzner_and_duckdns() {
    let cloudflare = StandIn::start(|asked, _| {
        let (status, answer) = match asked.line.split(' ').next().unwrap() {
            "GET" if asked.line.contains("/zones?") => {
                (200, json!({ "success": true, "result": [{ "id": "z" }] }))
            }
            "GET" => (
                200,
                json!({ "success": true, "result": [
                    { "id": "r1", "content": "\"mine\"" }, { "id": "r2", "content": "\"other\"" },
                ] }),
            ),
            // There is one like it.
            "POST" => (400, json!({ "success": false, "errors": [{ "code": 81058 }] })),
            _ => (200, json!({ "success": true, "result": {} })),
        };
        Answer::Plain(status, answer.to_string())
    })
    .await;
    let provider = cloudflare.provider("cloudflare");
    let challenge = name("_acme-challenge.example.com");
    provider.add_txt(&challenge, "mine").await.unwrap();
    provider.remove_txt(&challenge, "mine").await.unwrap();
    let deleted: Vec<_> =
        cloudflare.lines().into_iter().filter(|line| line.starts_with("DELETE")).collect();
    assert_eq!(deleted, ["DELETE /client/v4/zones/z/dns_records/r1"]);

    let hetzner = StandIn::start(|asked, _| match asked.line.as_str() {
        "GET /v1/zones?name=_acme-challenge.example.com" => plain(r#"{"zones":[]}"#),
        "GET /v1/zones?name=example.com" => plain(r#"{"zones":[{"id":1}]}"#),
        line if line.starts_with("GET") => plain(r#"{"rrset":{"records":[{"value":"\"mine\""}]}}"#),
        _ => plain(r#"{"action":{"id":1,"status":"success"}}"#),
    })
    .await;
    let provider = hetzner.provider("hetzner");
    provider.add_txt(&challenge, "mine").await.unwrap();
    provider.add_txt(&challenge, "second").await.unwrap();
    provider.remove_txt(&challenge, "mine").await.unwrap();
    provider.remove_txt(&challenge, "missing").await.unwrap();
    let posts: Vec<_> =
        hetzner.lines().into_iter().filter(|line| line.starts_with("POST")).collect();
    let set = "POST /v1/zones/example.com/rrsets/_acme-challenge/TXT/actions";
    assert_eq!(posts, [format!("{set}/add_records"), format!("{set}/remove_records")]);

    let duckdns = StandIn::saying(plain("OK")).await;
    let provider = duckdns.provider("duckdns");
    let challenge = name("_acme-challenge.home.duckdns.org");
    provider.add_txt(&challenge, "a+b").await.unwrap();
    provider.remove_txt(&challenge, "a+b").await.unwrap();
    assert_eq!(
        duckdns.lines(),
        [
            "GET /update?domains=home&token=hush-token&txt=a%2Bb",
            "GET /update?domains=home&token=hush-token&txt=a%2Bb&clear=true",
        ]
    );
}

#[test]
fn a_change_of_a_secret_is_noticed() {
    let context = super::standin::context();
    for info in PROVIDERS.iter().filter(|info| info.name != "rfc2136") {
        let pairs = super::standin::credentials(info.name);
        let digest = |change: &str, salt: &[u8]| {
            let pairs = pairs.iter().map(|&(key, value)| {
                let is_secret = info.keys.iter().any(|info| info.name == key && info.is_secret);
                let value = if is_secret { format!("{value}{change}") } else { value.to_owned() };
                (key, value.into())
            });
            let settings = hearth_netsvc::ddns::ProviderSettings::new(info.name, pairs).unwrap();
            settings.build(&context).unwrap().settings_digest(salt)
        };
        assert_eq!(digest("", b"salt"), digest("", b"salt"));
        assert_ne!(digest("", b"salt"), digest("x", b"salt"), "{}", info.name);
        assert_ne!(digest("", b"salt"), digest("", b"other"));
    }
}
