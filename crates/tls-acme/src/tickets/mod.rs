//! Session tickets whose secret can be given to the next process.

mod file;

#[cfg(test)]
use std::time::SystemTime;
use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use hearth_net::Tickets;
use parking_lot::Mutex;
use rustls::server::ProducesTickets;
use tokio::sync::Notify;

pub use self::file::{TicketFile, TicketFileError};
use crate::clock::{Clock, SystemClock, unix};

/// The secret of session tickets, to be shared by all configurations of a process and handed to the process
/// that takes its place. Cheap to clone.
///
/// A key is drawn every six hours and accepted for two such periods. No key follows from another: who steals the
/// secret can read the tickets of at most twelve hours, none before and none after.
#[derive(Clone)]
pub struct TicketSecret(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    /// The keys of the last period and the one before; `None` before the first handshake.
    state: Mutex<Option<State>>,
    /// Told when a key is drawn.
    drawn: Notify,
}

#[derive(Clone)]
struct State {
    /// Number of six-hour periods since 1970.
    period: u64,
    current: [u8; 32],
    previous: Option<[u8; 32]>,
}

/// Why an exported secret was not adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptTicketsError {
    /// Its keys are from a later time: the clock was set back since, or was wrong then.
    #[error("the keys of session tickets are from the future")]
    AheadOfClock,
    /// Its keys are older than any ticket that is accepted.
    #[error("the keys of session tickets have ended")]
    Ended,
    /// This is no exported ticket secret.
    #[error("this is no exported ticket secret")]
    Malformed,
}

const PERIOD_SECONDS: u64 = 6 * 3600;
/// Period, current key, whether there is a previous key, that key.
const EXPORT_LEN: usize = 8 + 32 + 1 + 32;

impl TicketSecret {
    /// A secret that is drawn at the first handshake.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// As [`new`](Self::new), with another clock.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner { clock, state: Mutex::new(None), drawn: Notify::new() }))
    }

    /// For [`TlsConfigBuilder::tickets`](hearth_net::TlsConfigBuilder::tickets).
    #[must_use]
    pub fn tickets(&self) -> Tickets {
        Tickets::from_producer(Arc::new(self.clone()))
    }

    /// The secret for a successor; draws it where there is none yet. Whoever has this can read tickets: let nobody
    /// else see it. `None` where the system has no random numbers.
    #[must_use]
    pub fn export(&self) -> Option<Vec<u8>> {
        self.state().map(|state| state.to_bytes())
    }

    /// Takes over what a predecessor exported, for as long as it would have been accepted there. Tickets that were
    /// given out here before are not accepted any more.
    ///
    /// # Errors
    /// [`AdoptTicketsError`]; the secret is as it was then.
    pub fn adopt(&self, exported: &[u8]) -> Result<(), AdoptTicketsError> {
        let state = State::from_bytes(exported).ok_or(AdoptTicketsError::Malformed)?;
        let now = self.period();
        if state.period > now + 1 {
            return Err(AdoptTicketsError::AheadOfClock);
        }
        if now > state.period + 1 {
            return Err(AdoptTicketsError::Ended);
        }
        *self.0.state.lock() = Some(state);
        Ok(())
    }

    /// Waits until a key was drawn since it was last called, or a key has ended.
    async fn changed(&self) {
        let left = PERIOD_SECONDS - unix(self.0.clock.now()) % PERIOD_SECONDS;
        tokio::select! {
            () = self.0.drawn.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(left)) => {}
        }
    }

    /// What there is to hand over: nothing before the first handshake.
    fn export_drawn(&self) -> Option<Vec<u8>> {
        let is_drawn = self.0.state.lock().is_some();
        if is_drawn { self.export() } else { None }
    }

    fn period(&self) -> u64 {
        unix(self.0.clock.now()) / PERIOD_SECONDS
    }

    /// The state of this moment's period.
    fn state(&self) -> Option<State> {
        let now = self.period();
        let mut state = self.0.state.lock();
        let is_current = state.as_ref().is_some_and(|state| state.period == now);
        if !is_current {
            let turned = State::draw(now, state.as_ref())?;
            *state = Some(turned);
            self.0.drawn.notify_one();
        }
        state.clone()
    }
}

impl State {
    /// A new key for a period, and the one before it, if it was of the period before.
    fn draw(period: u64, before: Option<&Self>) -> Option<Self> {
        let mut current = [0; 32];
        rand::fill(&mut current).ok()?;
        // What is ahead of the clock was drawn before it was set back.
        let is_next = |before: &&Self| before.period + 1 == period || before.period == period + 1;
        Some(Self { period, current, previous: before.filter(is_next).map(|one| one.current) })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(EXPORT_LEN);
        bytes.extend(self.period.to_be_bytes());
        bytes.extend(self.current);
        bytes.push(u8::from(self.previous.is_some()));
        bytes.extend(self.previous.unwrap_or_default());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (period, rest) = bytes.split_first_chunk::<8>()?;
        let (current, rest) = rest.split_first_chunk::<32>()?;
        let (has_previous, rest) = rest.split_first()?;
        let previous = <[u8; 32]>::try_from(rest).ok()?;
        let previous = match has_previous {
            0 => None,
            1 => Some(previous),
            _ => return None,
        };
        let period = u64::from_be_bytes(*period);
        (period < u64::MAX).then_some(Self { period, current: *current, previous })
    }
}

impl ProducesTickets for TicketSecret {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(PERIOD_SECONDS).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let state = self.state()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut body = plain.to_vec();
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        key(&state.current)?.seal_in_place_append_tag(nonce_used, Aad::empty(), &mut body).ok()?;
        let mut ticket = nonce.to_vec();
        ticket.append(&mut body);
        Some(ticket)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (nonce, body) = cipher.split_first_chunk::<NONCE_LEN>()?;
        let state = self.state()?;
        [Some(state.current), state.previous].into_iter().flatten().find_map(|secret| {
            let mut body = body.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let plain = key(&secret)?.open_in_place(nonce, Aad::empty(), &mut body).ok()?;
            Some(plain.to_vec())
        })
    }
}

impl Default for TicketSecret {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketSecret")
    }
}

fn key(secret: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, secret).ok().map(LessSafeKey::new)
}

/// Seconds, to be set by tests.
#[cfg(test)]
#[derive(Debug, Default)]
struct FakeClock(std::sync::atomic::AtomicU64);

#[cfg(test)]
impl Clock for FakeClock {
    fn now(&self) -> SystemTime {
        crate::clock::from_unix(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    /// A clock that shows so many hours after the beginning of some period.
    fn clock() -> (Arc<FakeClock>, impl Fn(u64)) {
        let clock = Arc::new(FakeClock::default());
        let set = clock.clone();
        let at = move |hours: u64| {
            set.0.store(1_000_000 * PERIOD_SECONDS + hours * 3600, Ordering::Relaxed);
        };
        at(12);
        (clock, at)
    }

    #[test]
    fn tickets_live_two_periods_and_survive_a_change_of_process() {
        let (clock, at) = clock();
        let old = TicketSecret::with_clock(clock.clone());
        let ticket = old.encrypt(b"state").expect("sealed");
        let new = TicketSecret::with_clock(clock.clone());
        assert_eq!(new.decrypt(&ticket), None, "a secret of its own");
        new.adopt(&old.export().expect("a secret")).expect("adopted");
        assert_eq!(new.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        at(19);
        assert_eq!(new.decrypt(&ticket).as_deref(), Some(&b"state"[..]), "by the key before");
        let later = TicketSecret::with_clock(clock.clone());
        later.adopt(&new.export().expect("a secret")).expect("adopted");
        assert_eq!(later.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        let newer = new.encrypt(b"newer").expect("sealed");
        assert_eq!(later.decrypt(&newer).as_deref(), Some(&b"newer"[..]));
        at(25);
        assert_eq!(later.decrypt(&ticket), None);
        assert_eq!(later.decrypt(&newer).as_deref(), Some(&b"newer"[..]));
        at(6 * 20_000);
        assert_eq!(later.decrypt(&newer), None);
        let mut broken = later.encrypt(b"x").expect("sealed");
        broken[20] ^= 1;
        assert_eq!(later.decrypt(&broken), None);
    }

    #[test]
    fn who_has_the_secret_cannot_read_what_comes_later() {
        let (clock, at) = clock();
        let own = TicketSecret::with_clock(clock.clone());
        let thief = TicketSecret::with_clock(clock.clone());
        thief.adopt(&own.export().expect("a secret")).expect("adopted");
        at(18);
        assert_eq!(thief.decrypt(&own.encrypt(b"later").expect("sealed")), None);
    }

    #[test]
    fn only_fitting_secrets_are_adopted() {
        let (clock, at) = clock();
        let old = TicketSecret::with_clock(clock.clone());
        let ticket = old.encrypt(b"state").expect("sealed");
        let exported = old.export().expect("a secret");
        let new = TicketSecret::with_clock(clock);
        for (hours, want) in [
            (0, Err(AdoptTicketsError::AheadOfClock)),
            // Clocks of a machine that was switched off go wrong by less.
            (11, Ok(())),
            (12, Ok(())),
            (23, Ok(())),
            (24, Err(AdoptTicketsError::Ended)),
            (1_000, Err(AdoptTicketsError::Ended)),
        ] {
            at(hours);
            assert_eq!(new.adopt(&exported), want, "at {hours} hours");
            assert_eq!(new.decrypt(&ticket).is_some(), want.is_ok(), "at {hours} hours");
        }
        at(12);
        let mut unknown_flag = exported.clone();
        unknown_flag[40] = 2;
        let cut = &exported[..EXPORT_LEN - 1];
        let long = [&exported[..], &[0]].concat();
        for bytes in [&[][..], cut, &long, &unknown_flag, &[255; EXPORT_LEN]] {
            assert_eq!(new.adopt(bytes), Err(AdoptTicketsError::Malformed), "{}", bytes.len());
        }
    }
}
