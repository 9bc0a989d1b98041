//! Session tickets whose secret can be given to the next process.

#[cfg(test)]
use std::time::SystemTime;
use std::{fmt, sync::Arc};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac, rand,
};
use hearth_net::Tickets;
use parking_lot::Mutex;
use rustls::server::ProducesTickets;

use crate::clock::{Clock, SystemClock, unix};

/// The secret of session tickets, to be shared by all configurations of a process and handed to the process
/// that takes its place. Cheap to clone.
///
/// Keys follow from each other by a one-way function, one every six hours, and are accepted for two such
/// periods: who steals the secret can read no ticket older than twelve hours.
#[derive(Clone)]
pub struct TicketSecret(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    /// The keys of the last period and the one before; `None` before the first handshake.
    state: Mutex<Option<State>>,
}

#[derive(Clone)]
struct State {
    /// Number of six-hour periods since 1970.
    period: u64,
    /// From which the keys of `period` and all later ones follow.
    seed: [u8; 32],
    current: [u8; 32],
    previous: Option<[u8; 32]>,
}

/// This is no exported ticket secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no exported ticket secret")]
pub struct InvalidTicketSecret;

const PERIOD_SECONDS: u64 = 6 * 3600;
/// Period, seed, whether there is a previous key, that key.
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
        Self(Arc::new(Inner { clock, state: Mutex::new(None) }))
    }

    /// For [`TlsConfigBuilder::tickets`](hearth_net::TlsConfigBuilder::tickets).
    #[must_use]
    pub fn tickets(&self) -> Tickets {
        Tickets::from_producer(Arc::new(self.clone()))
    }

    /// The secret for a successor; draws it where there is none yet. Whoever has this can read tickets: send it
    /// over a private pipe only. `None` where the system has no random numbers.
    #[must_use]
    pub fn export(&self) -> Option<Vec<u8>> {
        let state = self.state()?;
        let mut bytes = Vec::with_capacity(EXPORT_LEN);
        bytes.extend(state.period.to_be_bytes());
        bytes.extend(state.seed);
        bytes.push(u8::from(state.previous.is_some()));
        bytes.extend(state.previous.unwrap_or_default());
        Some(bytes)
    }

    /// Takes over what a predecessor exported. Tickets that were given out here before are not accepted any more.
    ///
    /// # Errors
    /// [`InvalidTicketSecret`].
    pub fn adopt(&self, exported: &[u8]) -> Result<(), InvalidTicketSecret> {
        let (period, rest) = exported.split_first_chunk::<8>().ok_or(InvalidTicketSecret)?;
        let (seed, rest) = rest.split_first_chunk::<32>().ok_or(InvalidTicketSecret)?;
        let (has_previous, rest) = rest.split_first().ok_or(InvalidTicketSecret)?;
        let previous = <[u8; 32]>::try_from(rest).map_err(|_| InvalidTicketSecret)?;
        let previous = match has_previous {
            0 => None,
            1 => Some(previous),
            _ => return Err(InvalidTicketSecret),
        };
        let (period, seed) = (u64::from_be_bytes(*period), *seed);
        let state = State { period, seed, current: derive(&seed, b"key"), previous };
        *self.0.state.lock() = Some(state);
        Ok(())
    }

    /// The state of this moment's period.
    fn state(&self) -> Option<State> {
        let now = unix(self.0.clock.now()) / PERIOD_SECONDS;
        let mut state = self.0.state.lock();
        match state.as_mut() {
            Some(state) => state.advance(now),
            None => {
                let mut seed = [0; 32];
                rand::fill(&mut seed).ok()?;
                let current = derive(&seed, b"key");
                *state = Some(State { period: now, seed, current, previous: None });
            }
        }
        state.clone()
    }
}

impl State {
    fn advance(&mut self, now: u64) {
        // A clock that was set far ahead must not keep us busy: after two periods nothing old is accepted.
        const STEPS_MAX: u64 = 10_000;
        if now.saturating_sub(self.period) > STEPS_MAX {
            self.period = now - 2;
        }
        while self.period < now {
            self.period += 1;
            self.previous = Some(self.current);
            self.seed = derive(&self.seed, b"next");
            self.current = derive(&self.seed, b"key");
        }
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

fn derive(seed: &[u8; 32], label: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, seed), label);
    <[u8; 32]>::try_from(tag.as_ref()).unwrap_or_default()
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

    #[test]
    fn tickets_live_two_periods_and_survive_a_change_of_process() {
        let clock = Arc::new(FakeClock::default());
        let at = |hours: u64| {
            clock.0.store(1_000_000 * PERIOD_SECONDS + hours * 3600, Ordering::Relaxed);
        };
        at(0);
        let old = TicketSecret::with_clock(clock.clone());
        let ticket = old.encrypt(b"state").expect("sealed");
        let new = TicketSecret::with_clock(clock.clone());
        assert_eq!(new.decrypt(&ticket), None, "a secret of its own");
        new.adopt(&old.export().expect("a secret")).expect("adopted");
        assert_eq!(new.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        at(7);
        assert_eq!(new.decrypt(&ticket).as_deref(), Some(&b"state"[..]), "by the key before");
        let later = TicketSecret::with_clock(clock.clone());
        later.adopt(&new.export().expect("a secret")).expect("adopted");
        assert_eq!(later.decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        let newer = old.encrypt(b"newer").expect("sealed");
        assert_eq!(later.decrypt(&newer).as_deref(), Some(&b"newer"[..]), "both went on alike");
        at(13);
        assert_eq!(later.decrypt(&ticket), None);
        at(6 * 20_000);
        assert_eq!(later.decrypt(&newer), None);
        let mut broken = later.encrypt(b"x").expect("sealed");
        broken[20] ^= 1;
        assert_eq!(later.decrypt(&broken), None);
        for bytes in [&[][..], &[0; 72], &[9; 73], &[0; 74]] {
            assert_eq!(later.adopt(bytes), Err(InvalidTicketSecret), "{}", bytes.len());
        }
    }
}
