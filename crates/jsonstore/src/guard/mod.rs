//! Who may do how much: sessions, turns, rates.
//!
//! A guarded session belongs to a user, an address, or both. Its operations take turns with those of
//! the same user, then of the same address, then of all, so a greedy user waits behind himself and
//! not before the others. What cannot have its turn in time is refused as [`Error::Busy`].

mod pressure;
mod rate;
mod turn;

use std::{
    collections::HashMap,
    future::poll_fn,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;

pub(crate) use self::pressure::{Pressure, Reading};
pub use self::rate::Rate;
use self::{
    rate::Meter,
    turn::{Entry, Place, Turnstile},
};
use crate::error::{Error, Result};

/// Bounds on guarded sessions. Unguarded handles of the store, which the program itself uses, are
/// not held back by any of them.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct GuardLimits {
    /// Guarded sessions. Default: 50,000.
    pub sessions_max: usize,
    /// Of one address; of IPv6 its network of 64 bits counts as one. Default: 1,000.
    pub sessions_per_ip_max: usize,
    /// Of one user. Default: 1,000.
    pub sessions_per_user_max: usize,
    /// Operations at once. Default: 128.
    pub running_max: usize,
    /// Of one address. Default: 32.
    pub running_per_ip_max: usize,
    /// Of one user. Default: 16.
    pub running_per_user_max: usize,
    /// Operations that wait for each of these. Default: 10,000.
    pub queue_max: usize,
    /// How long an operation waits for its turn. Default: 5 s.
    pub queue_timeout: Duration,
    /// Operations of one user, and of one address. Default: no limit.
    pub operation_rate: Option<Rate>,
    /// Bytes written by one user, and by one address. Default: no limit.
    pub byte_rate: Option<Rate>,
    /// Operations of all. Default: no limit.
    pub operation_rate_total: Option<Rate>,
    /// Resident memory of the process above which operations are refused. Default: no limit.
    pub resident_bytes_max: Option<u64>,
    /// Share of the time in which something waited for a processor, in percent over ten seconds
    /// (Linux: `/proc/pressure/cpu`), above which operations are slowed down. Default: 90.
    pub cpu_pressure_max: u8,
    /// Free bytes of the disk below which writes are slowed down. Default: 512 MiB; below
    /// `Options::disk_reserve_bytes` they are refused.
    pub disk_free_bytes_min: u64,
}

impl Default for GuardLimits {
    fn default() -> Self {
        Self {
            sessions_max: 50_000,
            sessions_per_ip_max: 1_000,
            sessions_per_user_max: 1_000,
            running_max: 128,
            running_per_ip_max: 32,
            running_per_user_max: 16,
            queue_max: 10_000,
            queue_timeout: Duration::from_secs(5),
            operation_rate: None,
            byte_rate: None,
            operation_rate_total: None,
            resident_bytes_max: None,
            cpu_pressure_max: 90,
            disk_free_bytes_min: 512 << 20,
        }
    }
}

/// For whom a session is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The user, if there is one.
    pub user: Option<String>,
    /// Where it comes from, if that matters.
    pub ip: Option<IpAddr>,
}

/// A user or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Party {
    Ip(IpAddr),
    User(Box<str>),
}

/// All guarded sessions of a store.
#[derive(Debug)]
pub(crate) struct Guard {
    limits: GuardLimits,
    sessions: Mutex<Sessions>,
    all: Arc<Share>,
    sleepers: Mutex<Vec<(Duration, Waker)>>,
    pub(crate) pressure: Pressure,
    pub(crate) counters: Counters,
}

/// What became of operations.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) admitted: AtomicU64,
    pub(crate) delayed: AtomicU64,
    pub(crate) refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Sessions {
    count: usize,
    shares: HashMap<Party, (Arc<Share>, usize)>,
}

/// What the sessions of one party share.
#[derive(Debug)]
struct Share {
    turns: Arc<Turnstile>,
    meters: Mutex<(Meter, Meter)>,
}

/// A guarded session. Idle, it is this and no more.
#[derive(Debug)]
pub(crate) struct Visitor {
    guard: Arc<Guard>,
    /// Of the user, then of the address.
    shares: Box<[(Party, Arc<Share>)]>,
}

/// An operation that may go on; dropping it ends its turn.
#[derive(Debug)]
pub(crate) struct Turn {
    _places: [Option<Place>; 3],
}

impl Guard {
    pub(crate) fn new(limits: GuardLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            sessions: Mutex::default(),
            all: Share::new(limits.running_max),
            sleepers: Mutex::default(),
            pressure: Pressure::default(),
            counters: Counters::default(),
        })
    }

    pub(crate) fn limits(&self) -> &GuardLimits {
        &self.limits
    }

    /// # Errors
    /// `Busy` if there are as many sessions as may be.
    pub(crate) fn visit(self: &Arc<Self>, principal: &Principal) -> Result<Visitor> {
        let limits = &self.limits;
        let user = principal.user.as_deref().map(|user| {
            let (sessions, running) = (limits.sessions_per_user_max, limits.running_per_user_max);
            (Party::User(user.into()), sessions, running, "sessions of this user")
        });
        let ip = principal.ip.map(|ip| {
            let (sessions, running) = (limits.sessions_per_ip_max, limits.running_per_ip_max);
            (Party::Ip(network(ip)), sessions, running, "sessions of this address")
        });
        let mut sessions = self.sessions.lock();
        let full = |what| Err(self.busy(what, limits.queue_timeout));
        if sessions.count >= limits.sessions_max {
            return full("sessions");
        }
        for (party, max, _, what) in user.iter().chain(&ip) {
            if sessions.shares.get(party).is_some_and(|(_, count)| count >= max) {
                return full(what);
            }
        }
        sessions.count += 1;
        let mut shares = Vec::with_capacity(2);
        for (party, _, running, _) in user.into_iter().chain(ip) {
            let entry = sessions.shares.entry(party.clone());
            let (share, count) = entry.or_insert_with(|| (Share::new(running), 0));
            *count += 1;
            shares.push((party, Arc::clone(share)));
        }
        Ok(Visitor { guard: Arc::clone(self), shares: shares.into() })
    }

    pub(crate) fn session_count(&self) -> usize {
        self.sessions.lock().count
    }

    /// Called every few milliseconds: ends waits that are over.
    pub(crate) fn tick(&self, now: Duration) {
        self.all.turns.expire(now);
        for (share, _) in self.sessions.lock().shares.values() {
            if !share.turns.is_idle() {
                share.turns.expire(now);
            }
        }
        let mut sleepers = self.sleepers.lock();
        sleepers.retain(|(until, waker)| {
            let is_over = *until <= now;
            if is_over {
                waker.wake_by_ref();
            }
            !is_over
        });
    }

    fn busy(&self, what: &'static str, retry_after: Duration) -> Error {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        Error::Busy { what, retry_after }
    }
}

impl Visitor {
    /// Waits for the turn of an operation that writes so many bytes.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the turn; what it took of a rate is spent.
    pub(crate) async fn enter(&self, now: impl Fn() -> Duration, bytes: u64) -> Result<Turn> {
        let (guard, limits) = (&self.guard, &self.guard.limits);
        if let Some(what) = guard.pressure.refuses() {
            return Err(guard.busy(what, limits.queue_timeout));
        }
        let pause = self.pay(now(), bytes)?.max(guard.pressure.delay(bytes > 0));
        if !pause.is_zero() {
            guard.counters.delayed.fetch_add(1, Ordering::Relaxed);
            guard.sleep(now().saturating_add(pause), &now).await;
        }
        let mut places = [const { None }; 3];
        let own = self.shares.iter().map(|(_, share)| share);
        for (place, share) in places.iter_mut().zip(own.chain([&guard.all])) {
            let deadline = now().saturating_add(limits.queue_timeout);
            *place = match share.turns.enter(deadline, limits.queue_max) {
                Entry::In(place) => Some(place),
                Entry::Refused => return Err(guard.busy("operations", limits.queue_timeout)),
                Entry::Wait(mut wait) => {
                    guard.counters.delayed.fetch_add(1, Ordering::Relaxed);
                    let got = poll_fn(|context| wait.poll(context.waker())).await;
                    Some(got.ok_or_else(|| guard.busy("operations", limits.queue_timeout))?)
                }
            };
        }
        guard.counters.admitted.fetch_add(1, Ordering::Relaxed);
        Ok(Turn { _places: places })
    }

    /// Takes what the operation costs from every rate; returns how long it has to wait.
    fn pay(&self, now: Duration, bytes: u64) -> Result<Duration> {
        let (guard, limits) = (&self.guard, &self.guard.limits);
        let wait_max = limits.queue_timeout;
        let mut pause = Duration::ZERO;
        let mut take = |meter: &mut Meter, rate: Option<Rate>, amount, what| -> Result<()> {
            let Some(rate) = rate.filter(|_| amount > 0) else { return Ok(()) };
            let wait = meter
                .take(rate, amount, now, wait_max)
                .map_err(|retry_after| guard.busy(what, retry_after))?;
            pause = pause.max(wait);
            Ok(())
        };
        for (_, share) in &self.shares {
            let (operations, written) = &mut *share.meters.lock();
            take(operations, limits.operation_rate, 1, "operations per second")?;
            take(written, limits.byte_rate, bytes, "bytes per second")?;
        }
        let (operations, _) = &mut *guard.all.meters.lock();
        take(operations, limits.operation_rate_total, 1, "operations per second")?;
        Ok(pause)
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let mut sessions = self.guard.sessions.lock();
        sessions.count -= 1;
        for (party, _) in &self.shares {
            if let Some((_, count)) = sessions.shares.get_mut(party) {
                *count -= 1;
                // Its rates are forgotten with it: who comes back begins with a full burst.
                if *count == 0 {
                    sessions.shares.remove(party);
                }
            }
        }
    }
}

impl Guard {
    async fn sleep(&self, until: Duration, now: &impl Fn() -> Duration) {
        poll_fn(|context| {
            if now() >= until {
                return Poll::Ready(());
            }
            self.sleepers.lock().push((until, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

impl Share {
    fn new(running_max: usize) -> Arc<Self> {
        Arc::new(Self { turns: Turnstile::new(running_max), meters: Mutex::default() })
    }
}

/// Whoever has one address of a network of 64 bits has all of them.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let network = u128::from(ip) >> 64 << 64;
            IpAddr::V6(network.into())
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::Pin, task::Context};

    use super::*;

    type Pending<'a> = Pin<Box<dyn Future<Output = Result<Turn>> + 'a>>;

    fn visitor(guard: &Arc<Guard>, user: &str) -> Visitor {
        guard.visit(&Principal { user: Some(user.to_owned()), ip: None }).unwrap()
    }

    fn enter(visitor: &Visitor) -> Pending<'_> {
        Box::pin(visitor.enter(|| Duration::ZERO, 0))
    }

    fn poll(pending: &mut Pending<'_>) -> Poll<Result<Turn>> {
        pending.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// The round in which the 99th of a hundred ordinary users has had his turn, if every operation
    /// takes one round, `greedy` operations of one user were there first, and so many others come.
    fn round_of_p99(greedy: usize, others: usize) -> usize {
        let guard = Guard::new(GuardLimits::default());
        let hog = visitor(&guard, "hog");
        let users: Vec<Visitor> = (0..others).map(|i| visitor(&guard, &i.to_string())).collect();
        let mut hogs: Vec<Pending<'_>> = (0..greedy).map(|_| enter(&hog)).collect();
        let mut waiting: Vec<Pending<'_>> = users.iter().map(enter).collect();
        let mut rounds = Vec::new();
        for round in 1.. {
            let mut turns = Vec::new();
            let mut take = |pending: &mut Pending<'_>| match poll(pending) {
                Poll::Ready(turn) => {
                    turns.push(turn.unwrap());
                    false
                }
                Poll::Pending => true,
            };
            hogs.retain_mut(&mut take);
            let before = waiting.len();
            waiting.retain_mut(&mut take);
            rounds.extend(std::iter::repeat_n(round, before - waiting.len()));
            assert!(turns.len() <= GuardLimits::default().running_max);
            if waiting.is_empty() {
                break;
            }
        }
        rounds[others * 99 / 100]
    }

    #[test]
    fn a_greedy_user_waits_behind_himself() {
        let alone = round_of_p99(0, 4_999);
        let beside = round_of_p99(9_000, 4_999);
        assert!(beside * 10 < alone * 20, "{beside} rounds instead of {alone}");
        assert!(beside * 10 <= alone * 12, "{beside} rounds instead of {alone}");
    }

    /// What a session of a user of its own takes: its handle, itself, and what it alone shares.
    #[test]
    fn an_idle_session_is_small() {
        let entry = size_of::<(Party, (Arc<Share>, usize))>();
        let allocated = [
            size_of::<crate::Store>(),
            size_of::<Visitor>(),
            2 * size_of::<(Party, Arc<Share>)>(),
            2 * (size_of::<Share>() + size_of::<Turnstile>()),
            // A hash map is at least three sevenths full.
            2 * entry * 7 / 3,
            // The name of the user, twice, and counts of references.
            2 * 64 + 6 * 16,
        ];
        let total: usize = allocated.iter().sum();
        assert!(total < 1024, "{total} bytes: {allocated:?}");
    }

    #[test]
    fn dropping_a_wait_frees_what_it_had() {
        let limits =
            GuardLimits { running_max: 1, running_per_user_max: 1, ..GuardLimits::default() };
        let guard = Guard::new(limits);
        let (ada, grace) = (visitor(&guard, "ada"), visitor(&guard, "grace"));
        let mut first = enter(&ada);
        let Poll::Ready(Ok(turn)) = poll(&mut first) else { panic!("nobody is there") };
        // It holds its own user's place and waits for that of all.
        let mut second = enter(&grace);
        assert!(poll(&mut second).is_pending());
        drop(second);
        drop(turn);
        assert!(poll(&mut enter(&grace)).is_ready());
        assert!(poll(&mut enter(&ada)).is_ready());
    }

    #[test]
    fn waits_end_as_busy() {
        let limits = GuardLimits { running_max: 1, ..GuardLimits::default() };
        let guard = Guard::new(limits);
        let ada = visitor(&guard, "ada");
        let Poll::Ready(Ok(_turn)) = poll(&mut enter(&ada)) else { panic!("nobody is there") };
        let mut late = enter(&ada);
        assert!(poll(&mut late).is_pending());
        guard.tick(limits.queue_timeout);
        assert!(matches!(poll(&mut late), Poll::Ready(Err(Error::Busy { .. }))));
    }
}
