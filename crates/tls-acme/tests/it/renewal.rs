//! The clock goes on: when a managed certificate is renewed, and why.

use std::{sync::Arc, time::SystemTime};

use hearth_net::Certificate;
use hearth_tls_acme::{
    CertRequest, Clock as _, Code, Event, ExpiryLevel, Manager, ManagerOptions, MemoryStorage,
    Reason, Storage, self_signed,
};

use crate::{
    stand_in::StandIn,
    support::{ShiftedClock, name},
};

struct Row {
    what: &'static str,
    life_days: u32,
    /// What the authority suggests, in days from the beginning; `None`: it does not say.
    window_days: Option<(f64, f64)>,
    /// Not yet then, but then.
    days: (f64, f64),
    reason: Reason,
}

const ROWS: &[Row] = &[
    Row {
        what: "the authority suggests it early",
        life_days: 90,
        window_days: Some((30.0, 31.0)),
        days: (29.0, 31.5),
        reason: Reason::Ari,
    },
    Row {
        what: "the authority suggests it later than the ratio would",
        life_days: 90,
        window_days: Some((70.0, 71.0)),
        days: (69.0, 71.5),
        reason: Reason::Ari,
    },
    Row {
        what: "the authority suggests it too late",
        life_days: 90,
        window_days: Some((89.0, 89.5)),
        days: (85.0, 85.6),
        reason: Reason::Emergency,
    },
    Row {
        what: "a third is left",
        life_days: 90,
        window_days: None,
        days: (59.0, 60.5),
        reason: Reason::Ratio,
    },
    Row {
        what: "a third of 45 days is left",
        life_days: 45,
        window_days: None,
        days: (29.0, 30.5),
        reason: Reason::Ratio,
    },
    Row {
        what: "half of six days is left",
        life_days: 6,
        window_days: None,
        days: (2.9, 3.1),
        reason: Reason::Ratio,
    },
    Row {
        what: "the machine was off until it had ended",
        life_days: 90,
        window_days: None,
        days: (1.0, 90.5),
        reason: Reason::Expired,
    },
];

fn manager(authority: &StandIn, storage: &Arc<dyn Storage>, clock: &Arc<ShiftedClock>) -> Manager {
    let mut options = ManagerOptions::new(storage.clone());
    options.authorities = vec![authority.authority("standin")];
    options.challenges.http01 = true;
    options.clock = clock.clone();
    Manager::new(options)
}

/// Each row with one manager all along, and with one that is started anew for each look at the clock.
#[tokio::test(flavor = "multi_thread")]
async fn renews_in_time_and_not_before() {
    for row in ROWS {
        for starts_anew in [false, true] {
            let what = row.what;
            let authority = StandIn::start();
            {
                let mut mind = authority.mind.lock();
                mind.life_days = row.life_days;
                mind.window_days = row.window_days;
                mind.hides_window = row.window_days.is_none();
            }
            let clock = Arc::new(ShiftedClock::default());
            let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
            let request = CertRequest::new([name("a.test")]).unwrap();
            let mut manager = manager(&authority, &storage, &clock);
            manager.manage([request.clone()]).await.unwrap();
            let mut events = manager.events();
            let (not_yet, then) = row.days;
            for (days, want) in [(0.0, 1), (0.0, 1), (not_yet, 1), (then, 2)] {
                clock.shift_days(days);
                if starts_anew {
                    manager = self::manager(&authority, &storage, &clock);
                    manager.manage([request.clone()]).await.unwrap();
                    events = manager.events();
                }
                manager.tick().await;
                assert_eq!(authority.orders(), want, "{what}: after {days} days");
            }
            let mut reasons = Vec::new();
            while let Ok(event) = events.try_recv() {
                if let Event::Issued { reason, .. } = event {
                    reasons.push(reason);
                }
            }
            assert_eq!(reasons.last(), Some(&row.reason), "{what}");
        }
    }
}

/// What ends soon is told louder and louder, whoever renews it, and no longer when there is a new one.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_told_before_it_comes() {
    let authority = StandIn::start();
    authority.mind.lock().hides_window = true;
    let clock = Arc::new(ShiftedClock::default());
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let manager = manager(&authority, &storage, &clock);
    let imported = || {
        let now = SystemTime::now();
        let pair = self_signed(&[name("own.test")], now).unwrap();
        Certificate::from_pem_slices(pair.chain_pem.as_bytes(), pair.key_pem.as_bytes()).unwrap()
    };
    manager.serve_imported(vec![imported()]);
    manager.manage([CertRequest::new([name("a.test")]).unwrap()]).await.unwrap();
    manager.tick().await;
    let told = || -> Vec<(String, Code)> {
        let all = manager.attentions().into_iter().map(|one| (one.subject, one.code));
        all.filter(|(_, code)| *code != Code::ServerError).collect()
    };
    let both = |code| vec![("a.test".to_owned(), code), ("own.test".to_owned(), code)];
    assert_eq!(told(), []);
    // From now on nothing is renewed.
    authority.mind.lock().refusals = vec![(500, "serverInternal", None); 100];
    for (days, level, want) in [
        (61.0, ExpiryLevel::Warning, vec![]),
        (86.0, ExpiryLevel::Error, both(Code::CertificateExpiring)),
        (90.5, ExpiryLevel::Expired, both(Code::CertificateExpired)),
    ] {
        clock.shift_days(days);
        manager.tick().await;
        assert_eq!(told(), want, "after {days} days");
        assert!(manager.gauges().iter().all(|gauge| gauge.level == level), "after {days} days");
    }
    authority.mind.lock().refusals.clear();
    clock.shift_days(0.0);
    manager.serve_imported(vec![imported()]);
    manager.tick().await;
    assert_eq!(manager.gauges().len(), 2);
    assert_eq!(told(), [], "the end is far away again");
}

/// A site that never gets a certificate is shown one of our own making, and for longer than one of these lives.
#[tokio::test(flavor = "multi_thread")]
async fn what_signs_itself_is_renewed_too() {
    let authority = StandIn::start();
    authority.mind.lock().refusals = vec![(500, "serverInternal", None); 100];
    let clock = Arc::new(ShiftedClock::default());
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let manager = manager(&authority, &storage, &clock);
    manager.manage([CertRequest::new([name("a.test")]).unwrap()]).await.unwrap();
    let shown = || {
        let map = manager.cert_store().load();
        let (_, certificate) = map.iter().next().unwrap();
        assert!(certificate.is_valid_at(clock.now()));
        certificate.key().cert[0].clone()
    };
    let first = shown();
    for (days, is_first) in [(0.0, true), (88.0, true), (89.5, false), (400.0, false)] {
        clock.shift_days(days);
        manager.tick().await;
        assert_eq!(shown() == first, is_first, "after {days} days");
    }
    assert_eq!(authority.orders(), 0);
}
