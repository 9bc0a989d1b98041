//! Against Pebble, Let's Encrypt's own test authority (2.4: no ARI, no profiles).

use std::{sync::Arc, time::Instant};

use hearth_tls_acme::{
    CertRequest, ChallengeKind, Code, Eab, Event, Http01, Manager, ManagerOptions, MemoryStorage,
    Outcome, Responder, RevocationReason, Storage,
};

use crate::support::{EAB_KEY, Manners, Pebble, ShiftedClock, is_long, local, missing, name};

fn memory() -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::new())
}

fn request(names: &[&str]) -> CertRequest {
    CertRequest::new(names.iter().map(|one| name(one))).unwrap()
}

/// Each challenge, with wildcards and addresses; the second call changes nothing; renewal, key rollover, revocation.
#[tokio::test(flavor = "multi_thread")]
async fn every_challenge_issues() {
    if missing("pebble", "every_challenge_issues") {
        return;
    }
    let pebble = tokio::task::spawn_blocking(|| Pebble::start(Manners::default())).await.unwrap();
    let mut options = ManagerOptions::new(memory());
    options.authorities = vec![pebble.authority()];
    options.contact = vec!["someone@example.com".to_owned()];
    options.challenges.http01 = true;
    options.challenges.tls_alpn01 = true;
    options.challenges.dns01 = Some(pebble.solver());
    let manager = Manager::new(options);
    let _responder =
        Responder::start(&manager, [local(pebble.http_port)], [local(pebble.tls_port)]).unwrap();
    let rows: &[(&[&str], ChallengeKind)] = &[
        (&["http.test", "www.http.test"], ChallengeKind::Http01),
        (&["alpn.test", "www.alpn.test"], ChallengeKind::TlsAlpn01),
        (&["dns.test", "*.dns.test"], ChallengeKind::Dns01),
        (&["127.0.0.1"], ChallengeKind::Http01),
        (&["127.0.0.1", "ip.test"], ChallengeKind::TlsAlpn01),
    ];
    for (names, kind) in rows {
        let mut request = request(names);
        request.challenge = Some(*kind);
        let issued = match manager.issue(&request).await {
            Outcome::Done(issued) => issued,
            other => panic!("{names:?} {kind}: {other:?}"),
        };
        assert_eq!(issued.names.len(), names.len());
        let again = manager.issue(&request).await.done().unwrap();
        assert_eq!(again.fingerprint, issued.fingerprint, "it is good for a while");
    }
    let orders = pebble.counts();
    assert_eq!(orders, (rows.len(), rows.len()));

    let wanted = request(&["http.test", "www.http.test"]);
    let before = manager.issue(&wanted).await.done().unwrap();
    assert!(matches!(manager.roll_account_key("pebble").await, Outcome::Done(())));
    let renewed = manager.renew(&wanted).await.done().unwrap();
    assert_ne!(renewed.fingerprint, before.fingerprint);
    assert!(matches!(
        manager.revoke("http.test", RevocationReason::Superseded).await,
        Outcome::Done(())
    ));
    let gone = manager.revoke("http.test", RevocationReason::Superseded).await;
    assert_eq!(gone.why().unwrap().code, Code::CertificateUnusable);

    let mut wildcard = request(&["*.dns.test"]);
    wildcard.challenge = Some(ChallengeKind::Http01);
    let refused = manager.issue(&wildcard).await;
    assert_eq!(refused.why().unwrap().code, Code::NoChallenge, "{refused:?}");
}

/// Nonces are refused at random, authorizations are used again or not, accounts are bound; many orders at once
/// are one certificate each.
#[test]
fn many_orders_one_certificate_each() {
    /// Of the authority's own failures, which are told apart from ours by its own words.
    const FAILURES_MAX: usize = 3;
    if missing("pebble", "many_orders_one_certificate_each") {
        return;
    }
    let count = if is_long() { 500 } else { 25 };
    for (nonce_reject, authz_reuse, wants_eab) in [(0, 0, false), (30, 100, true)] {
        let manners = Manners { nonce_reject, authz_reuse, wants_eab };
        let is_done = (0..FAILURES_MAX).any(|_| many_orders(count, manners));
        assert!(is_done, "Pebble has locked itself up {FAILURES_MAX} times");
    }
}

/// Whether they were had; if not, Pebble had locked itself up.
fn many_orders(count: usize, manners: Manners) -> bool {
    let pebble = Pebble::start(manners);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let begin = Instant::now();
    let failed = runtime.block_on(async {
        let mut options = ManagerOptions::new(memory());
        let mut authority = pebble.authority();
        if manners.wants_eab {
            authority.eab = Some(Eab::new("kid-1", EAB_KEY).unwrap());
        }
        options.authorities = vec![authority];
        options.challenges.http01 = true;
        options.concurrency = 8;
        let manager = Manager::new(options);
        let _responder = Responder::start(&manager, [local(pebble.http_port)], []).unwrap();
        let requests =
            (0..count).map(|n| request(&[&format!("n{n}.many.test"), "shared.many.test"]));
        manager.manage(requests).await.unwrap();
        let mut events = manager.events();
        let failure = async {
            loop {
                if let Ok(Event::Failed { attention, .. }) = events.recv().await {
                    return attention;
                }
            }
        };
        tokio::select! {
            attention = failure => return Some(attention),
            () = manager.tick() => {}
        }
        assert_eq!(manager.attentions(), []);
        let stored = manager.vault().ids().await.unwrap();
        assert_eq!(stored.len(), count);
        assert_eq!(manager.gauges().len(), count);
        None
    });
    println!(
        "{count} orders, {manners:?}: {:.1} s, (orders, certificates) {:?}",
        begin.elapsed().as_secs_f64(),
        pebble.counts()
    );
    if let Some(attention) = failed {
        let is_its_own = attention.code == Code::Unreachable && pebble.had_locked_itself_up();
        assert!(is_its_own, "{attention:?}");
        println!("Pebble had locked itself up");
        return false;
    }
    assert_eq!(pebble.counts(), (count, count));
    true
}

/// Without a binding the authority that wants one is not even asked.
#[tokio::test(flavor = "multi_thread")]
async fn eab_is_asked_for() {
    if missing("pebble", "eab_is_asked_for") {
        return;
    }
    let manners = Manners { wants_eab: true, ..Manners::default() };
    let pebble = tokio::task::spawn_blocking(move || Pebble::start(manners)).await.unwrap();
    let (manager, _responder) = pebble.manager(memory());
    let outcome = manager.issue(&request(&["a.test"])).await;
    assert!(matches!(outcome, Outcome::Refused(_)));
    assert_eq!(outcome.why().unwrap().code, Code::EabRequired);
}

/// Where somebody else answers, the message says so, and the next attempt has its time.
#[tokio::test(flavor = "multi_thread")]
async fn failures_are_explained() {
    if missing("pebble", "failures_are_explained") {
        return;
    }
    let pebble = tokio::task::spawn_blocking(|| Pebble::start(Manners::default())).await.unwrap();
    let (manager, responder) = pebble.manager(memory());
    drop(responder);
    let outcome = manager.issue(&request(&["a.test"])).await;
    let Outcome::TryLater { at, why } = outcome else { panic!("{outcome:?}") };
    assert_eq!(why.code, Code::ChallengeConnection, "{why}");
    assert!(at > std::time::SystemTime::now());

    let (other, _answers_wrong) = pebble.manager(memory());
    drop(other);
    let outcome = manager.issue(&request(&["b.test"])).await;
    assert_eq!(outcome.why().unwrap().code, Code::ChallengeWrongAnswer, "{outcome:?}");
}

/// The clock goes on: renewal by what is left of five years, in time, and only then.
#[tokio::test(flavor = "multi_thread")]
async fn renews_by_ratio() {
    if missing("pebble", "renews_by_ratio") {
        return;
    }
    let pebble = tokio::task::spawn_blocking(|| Pebble::start(Manners::default())).await.unwrap();
    let clock = Arc::new(ShiftedClock::default());
    let mut options = ManagerOptions::new(memory());
    options.authorities = vec![pebble.authority()];
    options.challenges.http01 = true;
    options.clock = clock.clone();
    let manager = Manager::new(options);
    let _responder = Responder::start(&manager, [local(pebble.http_port)], []).unwrap();
    manager.manage([request(&["a.test"])]).await.unwrap();
    let life = 157_766_400.0 / 86_400.0;
    for (part, want) in [(0.0, 1), (0.3, 1), (0.66, 1), (0.67, 2)] {
        clock.shift_days(life * part);
        manager.tick().await;
        assert_eq!(pebble.counts().1, want, "at {part} of its life");
    }
}

/// Two instances with one storage: one has the certificate, the other takes it from there.
#[tokio::test(flavor = "multi_thread")]
async fn two_instances_order_once() {
    if missing("pebble", "two_instances_order_once") {
        return;
    }
    let pebble = tokio::task::spawn_blocking(|| Pebble::start(Manners::default())).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (one, _responder) = pebble.manager(crate::support::files(folder.path()));
    let mut options = ManagerOptions::new(crate::support::files(folder.path()));
    options.authorities = vec![pebble.authority()];
    options.challenges.http01 = true;
    let two = Manager::new(options);
    // Only the first instance's listener can be reached, so the second would fail if it ordered first.
    let wanted = request(&["a.test"]);
    let first = one.issue(&wanted);
    let second = async {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        two.issue(&wanted).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.done().unwrap().fingerprint, second.done().unwrap().fingerprint);
    assert_eq!(pebble.counts(), (1, 1));
}

/// The authority is led to another instance than the one that orders, as happens behind a router.
#[tokio::test(flavor = "multi_thread")]
async fn one_instance_answers_for_the_other() {
    if missing("pebble", "one_instance_answers_for_the_other") {
        return;
    }
    let pebble = tokio::task::spawn_blocking(|| Pebble::start(Manners::default())).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [orders, answers] = [(); 2].map(|()| {
        let storage = crate::support::files(folder.path());
        let mut options = ManagerOptions::new(storage.clone());
        options.http01 = Http01::shared(storage);
        options.authorities = vec![pebble.authority()];
        options.challenges.http01 = true;
        Manager::new(options)
    });
    let _responder = Responder::start(&answers, [local(pebble.http_port)], []).unwrap();
    let had = orders.issue(&request(&["a.test"])).await;
    assert!(matches!(had, Outcome::Done(_)), "{had:?}");
    assert_eq!(pebble.failed(), 0);
}

/// A damaged account is replaced by its other copy, and an unknown one by a new one.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_mended() {
    if missing("pebble", "accounts_are_mended") {
        return;
    }
    let pebble = tokio::task::spawn_blocking(|| Pebble::start(Manners::default())).await.unwrap();
    let storage = memory();
    let (manager, _responder) = pebble.manager(storage.clone());
    manager.issue(&request(&["a.test"])).await.done().unwrap();
    storage.store("accounts/pebble.json", b"{\"id\":").await.unwrap();
    manager.issue(&request(&["b.test"])).await.done().unwrap();
    storage.store("accounts/pebble.json", b"\0\0").await.unwrap();
    storage.store("accounts/pebble.previous.json", b"").await.unwrap();
    manager.issue(&request(&["c.test"])).await.done().unwrap();
    // Another authority's account, at the same directory: Pebble was restarted and knows nobody.
    let text = storage.load("accounts/pebble.json").await.unwrap().unwrap();
    let mut account: serde_json::Value = serde_json::from_slice(&text).unwrap();
    account["id"] = format!("https://127.0.0.1:{}/my-account/999999", pebble.port).into();
    storage.store("accounts/pebble.json", account.to_string().as_bytes()).await.unwrap();
    let outcome = manager.issue(&request(&["d.test"])).await;
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
}
