//! A small authority that says what the packaged Pebble does not: renewal information, profiles, limits, staging.
//!
//! It checks no signatures and no challenges: others do that. Authorizations are valid from the start.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hearth_http_core::{Request, Response, handler_fn};
use hearth_net::{Handle, Listener, Server};
use hearth_tls_acme::{
    Authority, CertRequest, Code, Event, Manager, ManagerOptions, MemoryStorage, Outcome,
    RateLimits, Reason,
};
use http::{HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use rcgen::{CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::support::{ShiftedClock, name};

/// Who issues, as it stands in the certificates.
pub(crate) const ISSUER: &str = "stand-in";

/// What the authority does next, and what it was asked for.
#[derive(Default)]
pub(crate) struct Mind {
    /// Answered to new orders, each once: status, problem type, `retry-after`.
    pub(crate) refusals: Vec<(u16, &'static str, Option<u64>)>,
    /// The suggested window, in days from now.
    pub(crate) window_days: Option<(f64, f64)>,
    /// It answers 500 where it is asked for the window.
    pub(crate) hides_window: bool,
    /// Orders are never done.
    pub(crate) is_stuck: bool,
    pub(crate) life_days: u32,
    /// How long it thinks about a new order.
    pub(crate) delay: Duration,
    /// The content of each new order.
    orders: Vec<Value>,
    chains: HashMap<usize, String>,
    nonce: u64,
}

pub(crate) struct StandIn {
    address: SocketAddr,
    pub(crate) mind: Arc<Mutex<Mind>>,
    handle: Handle,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl StandIn {
    pub(crate) fn start() -> Self {
        let mind = Arc::new(Mutex::new(Mind { life_days: 90, ..Mind::default() }));
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, ISSUER);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = Arc::new(Issuer::new(params, key));
        let shared = mind.clone();
        let handler = handler_fn(move |mut request: Request| {
            let (mind, issuer) = (shared.clone(), issuer.clone());
            async move {
                let content = request.take_body().collect(1 << 20).await.unwrap();
                let host = request.header_str("host").unwrap_or_default().to_owned();
                if request.path() == "/new-order" {
                    let delay = mind.lock().delay;
                    tokio::time::sleep(delay).await;
                }
                answer(
                    request.path(),
                    &format!("http://{host}"),
                    &content,
                    &mut mind.lock(),
                    &issuer,
                )
            }
        });
        let listener = Listener::bind(([127, 0, 0, 1], 0));
        let server =
            Server::builder().workers(1).listen(listener, Arc::new(handler)).bind().unwrap();
        let address = server.local_addrs()[0];
        Self { address, mind, handle: server.start().unwrap() }
    }

    fn directory(&self) -> String {
        format!("http://{}/dir", self.address)
    }

    pub(crate) fn authority(&self, called: &str) -> Authority {
        let mut authority = Authority::new(called, self.directory());
        authority.limits = RateLimits::none();
        authority
    }

    pub(crate) fn orders(&self) -> usize {
        self.mind.lock().orders.len()
    }
}

fn answer(
    path: &str,
    base: &str,
    content: &[u8],
    mind: &mut Mind,
    issuer: &Issuer<'static, KeyPair>,
) -> Response {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let number = || parts.get(1).and_then(|text| text.parse::<usize>().ok()).unwrap_or_default();
    match parts[0] {
        "dir" => reply(
            mind,
            200,
            &json!({
                "newNonce": format!("{base}/nonce"), "newAccount": format!("{base}/account"),
                "newOrder": format!("{base}/new-order"), "revokeCert": format!("{base}/revoke"),
                "keyChange": format!("{base}/roll"), "renewalInfo": format!("{base}/ari"),
                "meta": { "profiles": { "classic": "long", "shortlived": "six days" } },
            }),
        ),
        "account" => {
            let location = HeaderValue::from_str(&format!("{base}/account/1")).unwrap();
            reply(mind, 201, &json!({ "status": "valid" }))
                .with_header(http::header::LOCATION, location)
        }
        "new-order" => {
            if let Some((status, kind, wait)) = mind.refusals.pop() {
                let kind = format!("urn:ietf:params:acme:error:{kind}");
                let mut response = reply(mind, status, &json!({ "type": kind, "detail": "no" }));
                let problem = HeaderValue::from_static("application/problem+json");
                response.headers_mut().insert(http::header::CONTENT_TYPE, problem);
                if let Some(wait) = wait {
                    response.headers_mut().insert(http::header::RETRY_AFTER, wait.into());
                }
                return response;
            }
            mind.orders.push(payload(content));
            let number = mind.orders.len() - 1;
            let location = HeaderValue::from_str(&format!("{base}/order/{number}")).unwrap();
            let order = order(mind, base, number);
            reply(mind, 201, &order).with_header(http::header::LOCATION, location)
        }
        "finalize" => {
            let csr = decode(payload(content)["csr"].as_str().unwrap());
            let mut csr = CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
            csr.params.use_authority_key_identifier_extension = true;
            csr.params.serial_number = Some((number() as u64 + 1).into());
            csr.params.not_before = SystemTime::now().into();
            let life = Duration::from_secs(86_400) * mind.life_days;
            csr.params.not_after = (SystemTime::now() + life).into();
            let pem = csr.signed_by(issuer).unwrap().pem();
            mind.chains.insert(number(), pem);
            let order = order(mind, base, number());
            reply(mind, 200, &order)
        }
        "order" => {
            let order = order(mind, base, number());
            reply(mind, 200, &order)
        }
        "cert" => {
            let pem = mind.chains[&number()].clone();
            with_nonce(mind, Response::text(pem))
        }
        "ari" if mind.hides_window => reply(mind, 500, &json!({})),
        "ari" => {
            let (start, end) = mind.window_days.unwrap_or((60.0, 61.0));
            let at = |days: f64| {
                let distance = Duration::from_secs_f64(days.abs() * 86_400.0);
                let now = SystemTime::now();
                let at = if days < 0.0 { now - distance } else { now + distance };
                let format = time::format_description::well_known::Rfc3339;
                time::OffsetDateTime::from(at).format(&format).unwrap()
            };
            let window = json!({ "suggestedWindow": { "start": at(start), "end": at(end) } });
            reply(mind, 200, &window).with_header(http::header::RETRY_AFTER, 3600.into())
        }
        _ => reply(mind, 200, &json!({})),
    }
}

fn order(mind: &Mind, base: &str, number: usize) -> Value {
    let wish = &mind.orders[number];
    let is_issued = mind.chains.contains_key(&number) && !mind.is_stuck;
    let status = match mind.chains.contains_key(&number) {
        true if mind.is_stuck => "processing",
        true => "valid",
        false => "ready",
    };
    let mut order = json!({
        "status": status,
        "identifiers": wish["identifiers"],
        "authorizations": [],
        "finalize": format!("{base}/finalize/{number}"),
    });
    for field in ["replaces", "profile"] {
        if !wish[field].is_null() {
            order[field] = wish[field].clone();
        }
    }
    if is_issued {
        order["certificate"] = format!("{base}/cert/{number}").into();
    }
    order
}

fn reply(mind: &mut Mind, status: u16, content: &Value) -> Response {
    let response = Response::text(content.to_string());
    let response = response.with_status(StatusCode::from_u16(status).unwrap());
    with_nonce(mind, response)
}

fn with_nonce(mind: &mut Mind, response: Response) -> Response {
    mind.nonce += 1;
    let nonce = HeaderValue::from_str(&format!("nonce{}", mind.nonce)).unwrap();
    response.with_header(HeaderName::from_static("replay-nonce"), nonce)
}

fn payload(content: &[u8]) -> Value {
    let signed: Value = serde_json::from_slice(content).unwrap();
    serde_json::from_slice(&decode(signed["payload"].as_str().unwrap())).unwrap_or(Value::Null)
}

/// base64url.
fn decode(text: &str) -> Vec<u8> {
    let digits = text.bytes().map(|byte| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' => 62,
        _ => 63,
    });
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in digits {
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    bytes
}

fn manager(authorities: Vec<Authority>, clock: &Arc<ShiftedClock>) -> Manager {
    let mut options = ManagerOptions::new(Arc::new(MemoryStorage::new()));
    options.authorities = authorities;
    options.challenges.http01 = true;
    options.clock = clock.clone();
    Manager::new(options)
}

fn request(text: &str) -> CertRequest {
    CertRequest::new([name(text)]).unwrap()
}

/// The authority's suggestion is followed, also when it changes its mind, and the order says what it replaces.
#[tokio::test(flavor = "multi_thread")]
async fn renews_when_the_authority_says() {
    let authority = StandIn::start();
    let clock = Arc::new(ShiftedClock::default());
    let manager = manager(vec![authority.authority("standin")], &clock);
    let mut events = manager.events();
    manager.manage([request("a.test")]).await.unwrap();
    for (days, want) in [(0.0, 1), (59.0, 1), (62.0, 2)] {
        clock.shift_days(days);
        manager.tick().await;
        assert_eq!(authority.orders(), want, "after {days} days");
    }
    let mut reasons = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::Issued { reason, .. } = event {
            reasons.push(reason);
        }
    }
    assert_eq!(reasons, [Reason::Missing, Reason::Ari]);
    {
        let mind = authority.mind.lock();
        assert!(mind.orders[0]["replaces"].is_null());
        let replaces = mind.orders[1]["replaces"].as_str().unwrap();
        assert!(replaces.ends_with(".AQ"), "the serial number 1: {replaces}");
    }
    // A mass revocation: the window moves into the past.
    clock.shift_days(0.0);
    authority.mind.lock().window_days = Some((-2.0, -1.0));
    let urgent = self::manager(vec![authority.authority("standin")], &clock);
    urgent.manage([request("b.test")]).await.unwrap();
    urgent.tick().await;
    clock.shift_days(0.6);
    urgent.tick().await;
    assert_eq!(authority.orders(), 4, "at once");
}

/// Profiles are ordered where they are offered, short ones for addresses, and unknown ones are refused by name.
#[tokio::test(flavor = "multi_thread")]
async fn orders_profiles() {
    let stand_in = StandIn::start();
    let clock = Arc::new(ShiftedClock::default());
    let mut authority = stand_in.authority("standin");
    authority.profile = Some("tlsserver".to_owned());
    let manager = manager(vec![authority], &clock);
    manager.issue(&request("a.test")).await.done().unwrap();
    let mut classic = request("b.test");
    classic.profile = Some("classic".to_owned());
    manager.issue(&classic).await.done().unwrap();
    manager.issue(&request("192.0.2.1")).await.done().unwrap();
    let mut unknown = request("c.test");
    unknown.profile = Some("gold".to_owned());
    let refused = manager.issue(&unknown).await;
    let why = refused.why().unwrap();
    assert_eq!(why.code, Code::Profile);
    assert!(why.sentence.contains("classic, shortlived"), "{why}");
    let mind = stand_in.mind.lock();
    let profiles: Vec<_> = mind.orders.iter().map(|order| order["profile"].as_str()).collect();
    assert_eq!(profiles, [None, Some("classic"), Some("shortlived")]);
}

/// After a failure staging is tried first; after a limit of the real directory it is not, and the wait is kept.
#[tokio::test(flavor = "multi_thread")]
async fn staging_comes_first_but_not_after_a_limit() {
    let (real, staging) = (StandIn::start(), StandIn::start());
    let clock = Arc::new(ShiftedClock::default());
    let mut authority = real.authority("standin");
    authority.staging = Some(staging.directory());
    let manager = manager(vec![authority], &clock);
    real.mind.lock().refusals = vec![(500, "serverInternal", None)];
    assert!(matches!(manager.issue(&request("a.test")).await, Outcome::TryLater { .. }));
    assert_eq!((real.orders(), staging.orders()), (0, 0));
    manager.issue(&request("a.test")).await.done().unwrap();
    assert_eq!((real.orders(), staging.orders()), (1, 1), "staging, then the real one, once");

    real.mind.lock().refusals = vec![(429, "rateLimited", Some(9000))];
    let Outcome::TryLater { at, why } = manager.issue(&request("b.test")).await else {
        panic!("limited")
    };
    assert_eq!(why.code, Code::RateLimited);
    let wait = at.duration_since(SystemTime::now()).unwrap().as_secs();
    assert!((8990..=9000).contains(&wait), "{wait}");
    manager.issue(&request("b.test")).await.done().unwrap();
    assert_eq!((real.orders(), staging.orders()), (2, 1), "staging would tell nothing");
}

/// Another authority is asked after three failures, at once where the first one refuses for good, and remembered.
#[tokio::test(flavor = "multi_thread")]
async fn another_authority_is_asked() {
    let (one, two) = (StandIn::start(), StandIn::start());
    let clock = Arc::new(ShiftedClock::default());
    let manager = manager(vec![one.authority("one"), two.authority("two")], &clock);
    one.mind.lock().refusals = vec![(500, "serverInternal", None); 3];
    assert!(matches!(manager.issue(&request("a.test")).await, Outcome::TryLater { .. }));
    assert!(matches!(manager.issue(&request("a.test")).await, Outcome::TryLater { .. }));
    let had = manager.issue(&request("a.test")).await.done().unwrap();
    assert_eq!(had.origin.directory, two.directory());
    let again = manager.renew(&request("a.test")).await.done().unwrap();
    assert_eq!(again.origin.directory, two.directory(), "what worked is asked first");
    one.mind.lock().refusals = vec![(403, "caa", None)];
    let had = manager.issue(&request("b.test")).await.done().unwrap();
    assert_eq!(had.origin.directory, two.directory());
    assert_eq!((one.orders(), two.orders()), (0, 3));
}
