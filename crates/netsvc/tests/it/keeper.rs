//! The keeper against a router that does as it is told, in a time of our own.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use hearth_netsvc::{
    portmap::{
        KeeperOptions, KeeperState, MapError, MapRequest, Mapping, MappingKeeper, MappingStatus,
        Method, Presence, Router, RouterClock,
    },
    testing::mapping,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// A router, and all that was asked of it.
#[derive(Clone)]
struct Fake(Arc<Mutex<Inner>>);

struct Inner {
    began: Instant,
    booted: Instant,
    lease: Option<Duration>,
    error: Option<MapError>,
    presence: Presence,
    address: Ipv4Addr,
    log: Vec<(u64, String)>,
    /// Every look at the router, and the notices that lead to some.
    looks: Vec<u64>,
    notices: Arc<Notify>,
}

impl Fake {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            began: Instant::now(),
            booted: Instant::now() - Duration::from_secs(1000),
            lease: Some(Duration::from_secs(7200)),
            error: None,
            presence: Presence::Present,
            address: Ipv4Addr::new(11, 0, 0, 1),
            log: Vec::new(),
            looks: Vec::new(),
            notices: Arc::default(),
        })))
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn note(&self, what: &str, port: u16) {
        self.with(|inner| {
            let at = inner.began.elapsed().as_secs();
            inner.log.push((at, format!("{what} {port}")));
        });
    }

    /// What was asked since the last call, and when.
    fn log(&self) -> Vec<(u64, String)> {
        self.with(|inner| std::mem::take(&mut inner.log))
    }

    fn grant(&self, request: &MapRequest) -> Result<Mapping, MapError> {
        self.with(|inner| match &inner.error {
            Some(error) => Err(error.clone()),
            None => Ok(mapping(request, inner.lease)),
        })
    }
}

impl Router for Fake {
    async fn find(&self) -> Result<(), MapError> {
        Ok(())
    }
    async fn add(&self, request: &MapRequest) -> Result<Mapping, MapError> {
        self.note("add", request.external_port);
        self.grant(request)
    }
    async fn renew(&self, _: &Mapping, request: &MapRequest) -> Result<Mapping, MapError> {
        self.note("renew", request.external_port);
        self.grant(request)
    }
    async fn check(&self, _: &Mapping) -> Result<Presence, MapError> {
        Ok(self.with(|inner| inner.presence))
    }
    async fn delete(&self, mapping: &Mapping) -> Result<(), MapError> {
        self.note("delete", mapping.external_port);
        Ok(())
    }
    async fn external_address(&self) -> Result<Ipv4Addr, MapError> {
        Ok(self.with(|inner| inner.address))
    }
    async fn clock(&self, _: Method) -> Result<RouterClock, MapError> {
        let up = self.with(|inner| {
            inner.looks.push(inner.began.elapsed().as_secs());
            inner.booted.elapsed().as_secs()
        });
        Ok(RouterClock { seconds: up as u32, read_at: Instant::now() })
    }
    async fn notice(&self) {
        let notices = self.with(|inner| inner.notices.clone());
        notices.notified().await;
    }
}

fn start(fake: &Fake, ports: &[u16]) -> MappingKeeper {
    let requests = ports.iter().map(|port| MapRequest::tcp(*port)).collect();
    MappingKeeper::with_router(fake.clone(), requests, KeeperOptions::default())
}

fn is_active(state: &KeeperState) -> bool {
    state.mappings.iter().all(|kept| matches!(kept.status, MappingStatus::Active(_)))
}

#[tokio::test(start_paused = true)]
async fn renews_at_half_the_lease_and_cleans_up() {
    let fake = Fake::new();
    let keeper = start(&fake, &[80, 443]);
    keeper.state().wait_for(is_active).await.unwrap();
    assert_eq!(fake.log(), [(0, "add 80".into()), (0, "add 443".into())]);
    sleep(Duration::from_secs(3605)).await;
    assert_eq!(fake.log(), [(3600, "renew 80".into()), (3600, "renew 443".into())]);
    let last = keeper.stop().await;
    assert!(last.is_stopped);
    assert!(last.mappings.iter().all(|kept| kept.status == MappingStatus::Removed), "{last:?}");
    let asked: Vec<_> = fake.log().into_iter().map(|(_, what)| what).collect();
    assert_eq!(asked, ["delete 80", "delete 443"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_and_a_loss_are_noticed() {
    let fake = Fake::new();
    let keeper = start(&fake, &[80]);
    keeper.state().wait_for(is_active).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    fake.log();
    fake.with(|inner| inner.booted = Instant::now());
    sleep(Duration::from_secs(61)).await;
    assert_eq!(fake.log(), [(120, "renew 80".into())]);
    assert_eq!(keeper.state().borrow().restart_count, 1);
    // Once is enough: nothing more for an hour.
    sleep(Duration::from_secs(3000)).await;
    assert_eq!(fake.log(), []);

    fake.with(|inner| inner.presence = Presence::Absent);
    sleep(Duration::from_secs(120)).await;
    fake.with(|inner| inner.presence = Presence::Present);
    assert_eq!(fake.log().len(), 1);
    fake.with(|inner| inner.address = Ipv4Addr::new(11, 0, 0, 2));
    sleep(Duration::from_secs(121)).await;
    assert_eq!(keeper.state().borrow().external_address, Some(Ipv4Addr::new(11, 0, 0, 2)));
}

#[tokio::test(start_paused = true)]
async fn a_notice_leads_to_a_look_and_many_to_few() {
    let fake = Fake::new();
    let keeper = start(&fake, &[80]);
    keeper.state().wait_for(is_active).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    fake.with(|inner| {
        inner.looks.clear();
        inner.booted = Instant::now();
    });
    fake.log();
    let notices = fake.with(|inner| inner.notices.clone());
    // A neighbour who says something ten times a second.
    for _ in 0..100 {
        notices.notify_one();
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(fake.log(), [(10, "renew 80".into())], "at once, and once");
    assert_eq!(keeper.state().borrow().restart_count, 1);
    let looks = fake.with(|inner| std::mem::take(&mut inner.looks));
    assert!((4..=6).contains(&looks.len()), "{looks:?}");
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_more_and_more_slowly() {
    let fake = Fake::new();
    let refused = MapError::NoRouter { gateway: Ipv4Addr::LOCALHOST.into() };
    fake.with(|inner| inner.error = Some(refused.clone()));
    let keeper = start(&fake, &[80]);
    sleep(Duration::from_secs(2000)).await;
    let times: Vec<_> = fake.log().into_iter().map(|(at, _)| at).collect();
    assert_eq!(times, [0, 5, 15, 35, 75, 155, 315, 635, 1235, 1835]);
    assert_eq!(keeper.state().borrow().mappings[0].status, MappingStatus::Failed(refused));
    fake.with(|inner| inner.error = None);
    // Somebody has switched UPnP on and says so.
    keeper.refresh();
    keeper.state().wait_for(is_active).await.unwrap();
    assert_eq!(fake.log(), [(2000, "add 80".into())]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_does_not_end_a_lease() {
    let fake = Fake::new();
    let keeper = start(&fake, &[80]);
    keeper.state().wait_for(is_active).await.unwrap();
    fake.with(|inner| inner.error = Some(MapError::Timeout { method: Method::Pcp }));
    sleep(Duration::from_secs(7100)).await;
    assert!(is_active(&keeper.state().borrow()), "the lease has not ended");
    sleep(Duration::from_secs(700)).await;
    assert!(!is_active(&keeper.state().borrow()), "it has");
}

#[tokio::test(start_paused = true)]
async fn eternal_and_absurd_leases() {
    for (lease, renewals_per_hour) in [(None, 0), (Some(Duration::ZERO), 720)] {
        let fake = Fake::new();
        fake.with(|inner| inner.lease = lease);
        let keeper = start(&fake, &[80]);
        keeper.state().wait_for(is_active).await.unwrap();
        sleep(Duration::from_secs(3601)).await;
        assert_eq!(fake.log().len() - 1, renewals_per_hour, "{lease:?}");
        drop(keeper);
    }
}
