//! Guarded sessions: nobody takes more than his share.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hearth_jsonstore::{
    Error, Options, Principal, Rate, Store, block_on,
    testing::{SimEnv, SimVfs, small_options},
};
use serde_json::json;

fn user(name: &str) -> Principal {
    Principal { user: Some(name.to_owned()), ip: None }
}

fn open(change: impl FnOnce(&mut Options)) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(dir.path());
    change(&mut options);
    let store = block_on(Store::open(options)).unwrap();
    (dir, store)
}

#[test]
fn sessions_are_counted_by_user_and_network() {
    let mut options = small_options(&SimVfs::new(), &Arc::new(SimEnv::new(1)));
    options.guard.sessions_max = 5;
    options.guard.sessions_per_user_max = 2;
    options.guard.sessions_per_ip_max = 2;
    let store = block_on(Store::open(options)).unwrap();
    let ip = |text: &str| Principal { user: None, ip: Some(text.parse().unwrap()) };
    let busy = |principal: &Principal| matches!(store.guarded(principal), Err(Error::Busy { .. }));
    let ada = [store.guarded(&user("ada")).unwrap(), store.guarded(&user("ada")).unwrap()];
    assert!(busy(&user("ada")));
    // One network of IPv6, and an address of IPv4 in its new clothes.
    let six = [store.guarded(&ip("2001:db8::1")), store.guarded(&ip("2001:db8::ffff"))];
    assert!(busy(&ip("2001:db8:0:0:5::9")));
    let four = store.guarded(&ip("192.0.2.7")).unwrap();
    assert!(busy(&ip("198.51.100.1")), "five are all there may be");
    drop(six);
    let mapped = store.guarded(&ip("::ffff:192.0.2.7")).unwrap();
    assert!(busy(&ip("192.0.2.7")));
    drop((ada, four, mapped));
    assert!(!busy(&user("ada")));
}

#[test]
fn rates_hold_and_say_when_to_come_again() {
    let (_dir, store) = open(|options| {
        options.guard.operation_rate = Some(Rate { per_second: 10, burst: 5 });
        options.guard.queue_timeout = Duration::ZERO;
    });
    let documents = store.guarded(&user("ada")).unwrap().collection("c").unwrap();
    let put = |n: i32| block_on(documents.put(&json!({"_id": n})));
    let begin = Instant::now();
    let refused = (0..).find_map(|n| put(n).err().map(|error| (n, error)));
    let Some((let_in, Error::Busy { what, retry_after })) = refused else { panic!("{refused:?}") };
    assert_eq!(what, "operations per second");
    assert!(retry_after <= Duration::from_millis(100), "{retry_after:?}");
    // A slow machine lets more come again.
    let most = 5 + begin.elapsed().as_millis() as i32 / 100;
    assert!((5..=most).contains(&let_in), "{let_in} were let in, not 5 to {most}");
    // Others, and the program itself, are not concerned.
    let other = store.guarded(&user("grace")).unwrap().collection("c").unwrap();
    block_on(other.put(&json!({"_id": "hers"}))).unwrap();
    block_on(store.collection("c").unwrap().put(&json!({"_id": "its own"}))).unwrap();
}
