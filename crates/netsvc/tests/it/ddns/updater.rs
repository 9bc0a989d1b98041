//! When something is sent, and when not. The service, the name servers and the time are made up.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use hearth_netsvc::{
    ddns::{
        Account, Capabilities, DdnsStatus, DnsProvider, FamilyStatus, InvalidPlan, Ipv6Source,
        Observed, Outcome, Plan, PlannedHost, ProviderError, ProviderErrorKind as Kind,
        ProviderFuture, PublishedFuture, PublishedLookup, ResultsFuture, StateError, Updater,
        UpdaterOptions, Verdict, WallClock, settings_digest,
    },
    dns::{Addresses, DnsError, Name},
};
use tokio::{sync::watch, time::Instant};

const DAY: u64 = 86_400;

/// What the name servers show; they do not answer where there is nothing.
#[derive(Default)]
pub(crate) struct Shown {
    pub(crate) addresses: Mutex<Option<Vec<IpAddr>>>,
    count: Mutex<usize>,
}

impl PublishedLookup for Shown {
    fn published<'a>(&'a self, _: &'a Name) -> PublishedFuture<'a> {
        *self.count.lock().unwrap() += 1;
        let addresses = self.addresses.lock().unwrap().clone();
        Box::pin(async move { addresses.map(Addresses::from_ips).ok_or(DnsError::NoResolver) })
    }
}

/// A service that remembers what it was sent and answers what it is told to.
struct Service {
    settings: &'static str,
    capabilities: Capabilities,
    sent: Mutex<Vec<(u64, String)>>,
    answers: Mutex<VecDeque<Result<Outcome, ProviderError>>>,
    start: Instant,
    is_stuck: bool,
}

impl Service {
    fn new(settings: &'static str, answers: Vec<Result<Outcome, ProviderError>>) -> Arc<Self> {
        Arc::new(Self::plain(settings, answers))
    }

    fn plain(settings: &'static str, answers: Vec<Result<Outcome, ProviderError>>) -> Self {
        let (sent, answers) = (Mutex::default(), Mutex::new(answers.into()));
        let (capabilities, start) = (Capabilities::FULL, Instant::now());
        Self { settings, capabilities, sent, answers, start, is_stuck: false }
    }

    /// What was sent, with the second at which it was.
    fn sent(&self) -> Vec<(u64, String)> {
        self.sent.lock().unwrap().clone()
    }

    fn texts(&self) -> Vec<String> {
        self.sent().into_iter().map(|(_, text)| text).collect()
    }

    fn times(&self) -> Vec<u64> {
        self.sent().into_iter().map(|(at, _)| at).collect()
    }
}

impl DnsProvider for Service {
    fn name(&self) -> &'static str {
        "service"
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn set_addresses<'a>(
        &'a self,
        host: &'a Name,
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
    ) -> ProviderFuture<'a, Outcome> {
        Box::pin(async move {
            let mut results = self.set_addresses_of(std::slice::from_ref(host), v4, v6).await;
            results.pop().unwrap()
        })
    }

    fn set_addresses_of<'a>(
        &'a self,
        hosts: &'a [Name],
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
    ) -> ResultsFuture<'a> {
        Box::pin(async move {
            let hosts: Vec<_> = hosts.iter().map(Name::to_string).collect();
            let addresses = v4.map(IpAddr::from).into_iter().chain(v6.map(IpAddr::from));
            let addresses: Vec<_> = addresses.map(|address| address.to_string()).collect();
            let text = format!("{} {}", hosts.join(","), addresses.join(","));
            self.sent.lock().unwrap().push((self.start.elapsed().as_secs(), text));
            if self.is_stuck {
                std::future::pending::<()>().await;
            }
            let next = || self.answers.lock().unwrap().pop_front().unwrap_or(Ok(Outcome::Updated));
            hosts.iter().map(|_| next()).collect()
        })
    }

    fn add_txt<'a>(&'a self, _: &'a Name, _: &'a str) -> ProviderFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn remove_txt<'a>(&'a self, _: &'a Name, _: &'a str) -> ProviderFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn settings_digest(&self, salt: &[u8]) -> String {
        settings_digest(salt, &[self.settings])
    }
}

/// The paused clock of the runtime, as a time of day.
struct Clock {
    start: Instant,
    base: u64,
}

impl WallClock for Clock {
    fn unix_seconds(&self) -> u64 {
        self.base + self.start.elapsed().as_secs()
    }
}

fn error(kind: Kind) -> Result<Outcome, ProviderError> {
    Err(ProviderError::new("service", kind, "told so"))
}

fn limited(seconds: u64) -> Result<Outcome, ProviderError> {
    let error = ProviderError::new("service", Kind::RateLimited, "");
    Err(error.with_retry_after(Some(Duration::from_secs(seconds))))
}

fn v4(last: u8) -> Observed {
    Observed { v4: Some([192, 0, 2, last].into()), v6: None }
}

fn host(name: &str) -> PlannedHost {
    PlannedHost::new(name.parse().unwrap(), "main")
}

fn options(shown: &Arc<Shown>) -> UpdaterOptions {
    let mut options = UpdaterOptions::new(Arc::clone(shown) as Arc<dyn PublishedLookup>);
    options.clock = Arc::new(Clock { start: Instant::now(), base: 1_800_000_000 });
    options.rules.jitter_percent = 0;
    options
}

fn updater(service: &Arc<Service>, hosts: Vec<PlannedHost>, options: UpdaterOptions) -> Updater {
    let account = Account::new("main", Arc::clone(service) as Arc<dyn DnsProvider>);
    Updater::new(Plan::new(vec![account], hosts).unwrap(), options).unwrap()
}

fn kept(shown: &Arc<Shown>, path: &Path) -> UpdaterOptions {
    let mut options = options(shown);
    options.state_path = Some(path.to_owned());
    options
}

/// Looks every two minutes for a while.
async fn pass(updater: &mut Updater, observed: Observed, seconds: u64) -> DdnsStatus {
    let mut status = updater.update(observed).await;
    for _ in 0..seconds / 120 {
        tokio::time::advance(Duration::from_secs(120)).await;
        status = updater.update(observed).await;
    }
    status
}

#[tokio::test(start_paused = true)]
async fn one_address_is_sent_once_and_refreshed_after_weeks() {
    let service = Service::new("", Vec::new());
    let shown = Arc::new(Shown::default());
    let mut updater = updater(&service, vec![host("a.example.com")], options(&shown));
    let status = pass(&mut updater, v4(1), 24 * DAY).await;
    assert_eq!(service.texts(), ["a.example.com 192.0.2.1"]);
    assert_eq!(status.verdict(), Verdict::Done);
    pass(&mut updater, v4(1), 7 * DAY).await;
    let times = service.times();
    assert_eq!(times.len(), 2);
    assert!((25 * DAY..=30 * DAY).contains(&times[1]), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_shown_already_is_not_sent() {
    let service = Service::new("", Vec::new());
    let shown = Arc::new(Shown::default());
    *shown.addresses.lock().unwrap() = Some(vec![[192, 0, 2, 1].into()]);
    let mut updater = updater(&service, vec![host("a.example.com")], options(&shown));
    let status = pass(&mut updater, v4(1), DAY).await;
    assert_eq!(service.sent(), []);
    assert_eq!(*shown.count.lock().unwrap(), 1, "the name servers were asked once");
    assert!(matches!(status.hosts[0].v4, FamilyStatus::Current { is_shown: Some(true), .. }));
    updater.force();
    updater.update(v4(1)).await;
    assert_eq!(service.sent().len(), 1, "who insists gets it");
}

#[tokio::test(start_paused = true)]
async fn a_restart_sends_nothing_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ddns.json");
    let service = Service::new("", Vec::new());
    let shown = Arc::new(Shown::default());
    for _ in 0..20 {
        let mut updater = updater(&service, vec![host("a.example.com")], kept(&shown, &path));
        updater.update(v4(1)).await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(service.sent().len(), 1);
    let mut updater = updater(&service, vec![host("a.example.com")], kept(&shown, &path));
    pass(&mut updater, v4(2), 600).await;
    assert_eq!(service.sent().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn killed_in_the_middle_of_a_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ddns.json");
    let mut stuck = Service::plain("", Vec::new());
    stuck.is_stuck = true;
    let stuck = Arc::new(stuck);
    let shown = Arc::new(Shown::default());
    for _ in 0..20 {
        let mut updater = updater(&stuck, vec![host("a.example.com")], kept(&shown, &path));
        let waited = tokio::time::timeout(Duration::from_secs(1), updater.update(v4(1))).await;
        drop(waited);
    }
    assert_eq!(stuck.sent().len(), 1, "{:?}", stuck.sent());
}

#[tokio::test(start_paused = true)]
async fn the_clock_may_be_wrong_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ddns.json");
    let service = Service::new("", Vec::new());
    let shown = Arc::new(Shown::default());
    // Without a battery a clock begins in 1970, and is set later.
    for base in [1_800_000_000, 0, 1_800_000_100, 5, 1_800_000_200] {
        let mut options = kept(&shown, &path);
        options.clock = Arc::new(Clock { start: Instant::now(), base });
        let mut updater = updater(&service, vec![host("a.example.com")], options);
        pass(&mut updater, v4(1), 600).await;
    }
    assert_eq!(service.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn refusals_stop_until_the_configuration_changes() {
    for (kind, stops_account) in [
        (Kind::Abuse, true),
        (Kind::BadAuth, true),
        (Kind::NotDonator, true),
        (Kind::NoHost, false),
        (Kind::NotFqdn, false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ddns.json");
        let shown = Arc::new(Shown::default());
        let hosts = || vec![host("a.example.com"), host("b.example.com")];
        let service = Service::new("old", vec![error(kind)]);
        {
            let mut updater = updater(&service, hosts(), kept(&shown, &path));
            let status = pass(&mut updater, v4(1), 3 * DAY).await;
            let expected = if stops_account { 1 } else { 2 };
            assert_eq!(service.sent().len(), expected, "{kind:?}");
            let FamilyStatus::Stopped { trouble } = &status.hosts[0].v4 else {
                panic!("{status:?}");
            };
            assert_eq!((trouble.code.as_str(), trouble.fix), (kind.code(), kind.fix()));
            let is_stopped = matches!(status.hosts[1].v4, FamilyStatus::Stopped { .. });
            assert_eq!(is_stopped, stops_account, "{kind:?}");
            assert_eq!(status.verdict(), Verdict::Refused);
            // Another address changes nothing about it.
            pass(&mut updater, v4(2), DAY).await;
            let about_a = service.texts().iter().filter(|text| text.starts_with('a')).count();
            assert_eq!(about_a, 1);
        }
        // A restart neither.
        let count = service.sent().len();
        {
            let mut updater = updater(&service, hosts(), kept(&shown, &path));
            pass(&mut updater, v4(2), DAY).await;
            assert_eq!(service.sent().len(), count);
        }
        // A new password does.
        let service = Service::new("new", Vec::new());
        let mut updater = updater(&service, hosts(), kept(&shown, &path));
        let status = pass(&mut updater, v4(2), 600).await;
        assert_eq!(service.sent().len(), 2);
        assert_eq!(status.verdict(), Verdict::Done);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_later_and_later() {
    for (answers, expected) in [
        (vec![error(Kind::Busy)], vec![0, 600]),
        (
            vec![error(Kind::Busy), error(Kind::Busy), error(Kind::Garbled)],
            vec![0, 600, 1800, 4200],
        ),
        (vec![limited(30)], vec![0, 600]),
        (vec![limited(5000)], vec![0, 5040]),
        (vec![limited(10 * DAY)], vec![0, DAY]),
        (vec![error(Kind::Refused)], vec![0, 600]),
        (
            vec![Err(ProviderError::new("service", Kind::Unreachable, "").with_unsent())],
            vec![0, 120],
        ),
    ] {
        let service = Service::new("", answers);
        let shown = Arc::new(Shown::default());
        let mut updater = updater(&service, vec![host("a.example.com")], options(&shown));
        let status = updater.update(v4(1)).await;
        assert_eq!(status.verdict(), Verdict::Later);
        pass(&mut updater, v4(1), 2 * DAY).await;
        assert_eq!(service.times(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_service_holds_back_all_names() {
    let service = Service::new("", vec![error(Kind::Busy)]);
    let shown = Arc::new(Shown::default());
    let hosts = ["a", "b", "c"].map(|name| host(&format!("{name}.example.com")));
    let mut updater = updater(&service, hosts.to_vec(), options(&shown));
    updater.update(v4(1)).await;
    assert_eq!(service.sent().len(), 1);
    pass(&mut updater, v4(1), 3600).await;
    assert_eq!(service.times(), [0, 600, 600, 600]);
}

#[tokio::test(start_paused = true)]
async fn intervals_of_services_are_kept() {
    let mut service = Service::plain("", Vec::new());
    service.capabilities.interval_min = Duration::from_secs(300);
    let service = Arc::new(service);
    let shown = Arc::new(Shown::default());
    let updater = updater(&service, vec![host("a.example.com")], options(&shown));
    let (tx, rx) = watch::channel(v4(1));
    let task = tokio::spawn(async move { updater.run(rx).await });
    tokio::time::sleep(Duration::from_secs(5)).await;
    for last in 2..4 {
        tx.send(v4(last)).unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(2000)).await;
    assert_eq!(service.texts(), ["a.example.com 192.0.2.1", "a.example.com 192.0.2.3"]);
    let times = service.times();
    assert!((300..310).contains(&times[1]), "as soon as allowed: {times:?}");
    drop(tx);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_address_that_flaps_is_not_followed() {
    let service = Service::new("", Vec::new());
    let shown = Arc::new(Shown::default());
    let mut updater = updater(&service, vec![host("a.example.com")], options(&shown));
    // To and fro, every two minutes, for a day.
    let mut is_settling = false;
    for turn in 0..720 {
        let status = updater.update(v4(if turn % 2 == 0 { 1 } else { 2 })).await;
        is_settling |= matches!(status.hosts[0].v4, FamilyStatus::Settling { .. });
        tokio::time::advance(Duration::from_secs(120)).await;
    }
    assert!(is_settling);
    assert!(service.sent().len() <= 3, "{:?}", service.sent());
    let status = pass(&mut updater, v4(7), 2400).await;
    assert_eq!(service.texts().last().unwrap(), "a.example.com 192.0.2.7");
    assert_eq!(status.verdict(), Verdict::Done);
}

/// One of three reflectors lies: then there is no consensus, which is `None`, and now and then there
/// is one again. A lie that once wins (two of three agree on it) is corrected at once.
#[tokio::test(start_paused = true)]
async fn lying_reflectors() {
    let service = Service::new("", Vec::new());
    let shown = Arc::new(Shown::default());
    let mut updater = updater(&service, vec![host("a.example.com")], options(&shown));
    for turn in 0..720 {
        let observed = if turn % 3 == 1 { Observed::default() } else { v4(1) };
        let status = updater.update(observed).await;
        let is_known = !matches!(status.hosts[0].v4, FamilyStatus::Unknown);
        assert_eq!(is_known, turn % 3 != 1);
        tokio::time::advance(Duration::from_secs(120)).await;
    }
    assert_eq!(service.texts(), ["a.example.com 192.0.2.1"]);
    updater.update(v4(99)).await;
    tokio::time::advance(Duration::from_secs(120)).await;
    pass(&mut updater, v4(1), DAY).await;
    assert_eq!(service.texts().last().unwrap(), "a.example.com 192.0.2.1");
    assert_eq!(service.sent().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_comes_back_before_the_name_servers_noticed() {
    let service = Service::new("", Vec::new());
    let shown = Arc::new(Shown::default());
    *shown.addresses.lock().unwrap() = Some(vec![[192, 0, 2, 1].into()]);
    let mut updater = updater(&service, vec![host("a.example.com")], options(&shown));
    updater.update(v4(1)).await;
    updater.update(v4(2)).await;
    tokio::time::advance(Duration::from_secs(120)).await;
    // They still show 1, but will show 2 soon.
    updater.update(v4(1)).await;
    assert_eq!(service.texts(), ["a.example.com 192.0.2.2", "a.example.com 192.0.2.1"]);
}

#[tokio::test(start_paused = true)]
async fn families_are_apart() {
    let service = Service::new("", Vec::new());
    let shown = Arc::new(Shown::default());
    let hosts = vec![host("a.example.com").with_families(true, Ipv6Source::Own)];
    let mut updater = updater(&service, hosts, options(&shown));
    let six = |text: &str| Some(text.parse().unwrap());
    let both = |last, v6| Observed { v6: six(v6), ..v4(last) };
    let status = pass(&mut updater, v4(1), 240).await;
    assert_eq!(status.hosts[0].v6, FamilyStatus::Unknown);
    pass(&mut updater, both(1, "2001:db8::1"), 240).await;
    pass(&mut updater, both(2, "2001:db8::1"), 240).await;
    pass(&mut updater, Observed { v4: None, v6: six("2001:db8::2") }, 240).await;
    pass(&mut updater, both(2, "2001:db8::2"), 240).await;
    let status = updater.update(both(2, "fd00::1")).await;
    assert!(matches!(status.hosts[0].v6, FamilyStatus::NotPublic { .. }));
    assert!(matches!(status.hosts[0].v4, FamilyStatus::Current { .. }));
    assert_eq!(
        service.texts(),
        [
            "a.example.com 192.0.2.1",
            "a.example.com 2001:db8::1",
            "a.example.com 192.0.2.2",
            "a.example.com 2001:db8::2",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn private_addresses_stay_private() {
    let service = Service::new("", Vec::new());
    let shown = Arc::new(Shown::default());
    let mut updater = updater(&service, vec![host("a.example.com")], options(&shown));
    for address in [[10, 0, 0, 1], [100, 64, 0, 1], [127, 0, 0, 1], [169, 254, 1, 1], [0, 0, 0, 0]]
    {
        let status = updater.update(Observed { v4: Some(address.into()), v6: None }).await;
        assert_eq!(status.verdict(), Verdict::Refused, "{address:?}");
    }
    assert_eq!(service.sent(), []);
}

#[tokio::test(start_paused = true)]
async fn base_and_subdomains_in_one_request() {
    let mut service = Service::plain("", Vec::new());
    service.capabilities.hosts_per_request_max = 3;
    service.capabilities.interval_min = Duration::from_secs(60);
    let service = Arc::new(service);
    let shown = Arc::new(Shown::default());
    let names = ["example.com", "www.example.com", "*.example.com", "mail.example.com"];
    let mut updater = updater(&service, names.map(host).to_vec(), options(&shown));
    pass(&mut updater, v4(1), 240).await;
    assert_eq!(
        service.texts(),
        ["example.com,www.example.com,*.example.com 192.0.2.1", "mail.example.com 192.0.2.1"]
    );
}

#[tokio::test(start_paused = true)]
async fn names_that_do_not_show_what_was_sent() {
    let service = Service::new("", Vec::new());
    let shown = Arc::new(Shown::default());
    *shown.addresses.lock().unwrap() = Some(vec![[198, 51, 100, 1].into()]);
    let mut updater = updater(&service, vec![host("a.example.com")], options(&shown));
    let is_shown = |status: &DdnsStatus| match status.hosts[0].v4 {
        FamilyStatus::Current { is_shown, .. } => is_shown,
        _ => panic!("{status:?}"),
    };
    assert_eq!(is_shown(&pass(&mut updater, v4(1), 1200).await), None);
    assert_eq!(is_shown(&pass(&mut updater, v4(1), 3600).await), Some(false));
    assert_eq!(service.sent().len(), 1, "it is said, not sent again");
    let count = *shown.count.lock().unwrap();
    pass(&mut updater, v4(1), DAY).await;
    assert_eq!(*shown.count.lock().unwrap(), count, "and not looked at for ever");
}

#[tokio::test(start_paused = true)]
async fn a_state_that_cannot_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/ddns.json");
    let service = Service::new("", Vec::new());
    let shown = Arc::new(Shown::default());
    let mut updater = updater(&service, vec![host("a.example.com")], kept(&shown, &path));
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    let status = pass(&mut updater, v4(1), DAY).await;
    assert!(status.is_state_unwritable);
    assert_eq!(service.sent().len(), 1, "in memory it is kept all the same");
}

#[tokio::test(start_paused = true)]
async fn one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ddns.json");
    let shown = Arc::new(Shown::default());
    let service = Service::new("", Vec::new());
    let first = updater(&service, vec![host("a.example.com")], kept(&shown, &path));
    let account = Account::new("main", Arc::clone(&service) as Arc<dyn DnsProvider>);
    let plan = Plan::new(vec![account], vec![host("a.example.com")]).unwrap();
    let second = Updater::new(plan, kept(&shown, &path));
    assert!(matches!(second.err(), Some(StateError::InUse { .. })));
    drop(first);
}

#[tokio::test]
async fn plans_that_make_no_sense() {
    let mut service = Service::plain("", Vec::new());
    service.capabilities.has_v6 = false;
    let account = Account::new("main", Arc::new(service));
    let plan = |hosts| Plan::new(vec![account.clone()], hosts).err();
    let six = host("a.example.com").with_families(true, Ipv6Source::Own);
    assert!(matches!(plan(vec![six]), Some(InvalidPlan::UnsupportedFamily { family: 6, .. })));
    let none = host("a.example.com").with_families(false, Ipv6Source::None);
    assert!(matches!(plan(vec![none]), Some(InvalidPlan::NoFamily(_))));
    let twice = vec![host("a.example.com"), host("A.example.com.")];
    assert!(matches!(plan(twice), Some(InvalidPlan::Duplicate(_))));
    let lost = PlannedHost::new("a.b".parse().unwrap(), "other");
    assert!(matches!(plan(vec![lost]), Some(InvalidPlan::UnknownAccount { .. })));
}
