//! Profiles, at authorities that have them and at one that has not.
//!
//! Packaged Pebbles are older than 2.7 and have none, so the test that needs one is ignored:
//! `E2E_PEBBLE=PATH cargo test -p hearth-tls-acme --all-features --test it -- --ignored many_orders_of_a_profile`.

use std::{path::Path, sync::Arc, time::Instant};

use hearth_tls_acme::{
    CertRequest, Code, Loaded, Manager, ManagerOptions, MemoryStorage, Outcome, Responder,
};

use crate::support::{Manners, Pebble, is_long, local, missing, name};

fn request(names: &[&str], profile: &str) -> CertRequest {
    let mut request = CertRequest::new(names.iter().map(|one| name(one))).unwrap();
    request.profile = Some(profile.to_owned());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_without_profiles_is_told() {
    if missing("pebble", "an_authority_without_profiles_is_told") {
        return;
    }
    let pebble = tokio::task::spawn_blocking(|| Pebble::start(Manners::default())).await.unwrap();
    let (manager, _responder) = pebble.manager(Arc::new(MemoryStorage::new()));
    let outcome = manager.issue(&request(&["a.test"], "gold")).await;
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    assert_eq!(outcome.why().unwrap().code, Code::Profile);
    assert_eq!(pebble.counts(), (0, 0));
}

/// Many orders of a short profile are one certificate each, and each lives as long as the profile says.
#[test]
#[ignore = "needs a Pebble of 2.7 or newer, which no package brings: name it in E2E_PEBBLE"]
fn many_orders_of_a_profile() {
    let program = std::env::var_os("E2E_PEBBLE").expect("E2E_PEBBLE names a Pebble");
    let count = if is_long() { 500 } else { 25 };
    // Where authorizations are used again Pebble 2.10 locks itself up now and then, in a store of its own.
    for nonce_reject in [0, 30] {
        let manners = Manners { nonce_reject, ..Manners::default() };
        let pebble = Pebble::start_program(Path::new(&program), manners);
        let begin = Instant::now();
        tokio::runtime::Runtime::new().unwrap().block_on(order(&pebble, count));
        println!(
            "{count} orders of a profile, {nonce_reject} % nonces refused: {:.1} s, (orders, certificates) {:?}",
            begin.elapsed().as_secs_f64(),
            pebble.counts()
        );
        assert_eq!(pebble.counts(), (count + 2, count + 2));
    }
}

async fn order(pebble: &Pebble, count: usize) {
    let mut options = ManagerOptions::new(Arc::new(MemoryStorage::new()));
    options.authorities = vec![pebble.authority()];
    options.challenges.http01 = true;
    options.concurrency = 8;
    let manager = Manager::new(options);
    let _responder = Responder::start(&manager, [local(pebble.http_port)], []).unwrap();
    let names: Vec<_> = (0..count).map(|number| format!("n{number}.many.test")).collect();
    let requests = names.iter().map(|own| request(&[own, "shared.many.test"], "shortlived"));
    manager.manage(requests).await.unwrap();
    manager.tick().await;
    assert_eq!(manager.attentions(), []);
    let ids = manager.vault().ids().await.unwrap();
    assert_eq!(ids.len(), count);
    for id in &ids {
        assert_eq!(days(&manager, id).await, 6, "{id}");
    }
    manager.issue(&request(&["long.test"], "default")).await.done().unwrap();
    assert_eq!(days(&manager, "long.test").await, 90);
    // The new order names the certificate that it replaces, and the profile again.
    let first = request(&[&names[0], "shared.many.test"], "shortlived");
    let before = manager.issue(&first).await.done().unwrap().fingerprint;
    let renewed = manager.renew(&first).await.done().unwrap();
    assert_ne!(renewed.fingerprint, before);
    let outcome = manager.issue(&request(&["gold.test"], "gold")).await;
    let why = outcome.why().unwrap();
    assert_eq!(why.code, Code::Profile);
    assert!(why.sentence.contains("default, shortlived"), "{why}");
}

/// How long a certificate lives, in days.
async fn days(manager: &Manager, id: &str) -> u64 {
    let Loaded::Current(stored) = manager.vault().load(id).await.unwrap() else {
        panic!("{id} is not there")
    };
    let life = stored.not_after.duration_since(stored.not_before).unwrap();
    // The last second belongs to it.
    (life.as_secs() + 1) / 86_400
}
