//! How hard it is for the machine.

use std::{
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
    time::Duration,
};

use super::GuardLimits;

/// What the machine says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Reading {
    /// Bytes of the process that are resident.
    pub(crate) resident_bytes: Option<u64>,
    /// Percent of the last ten seconds in which something waited for a processor.
    pub(crate) cpu_pressure: Option<f32>,
    pub(crate) disk_free_bytes: Option<u64>,
    /// Writers have to give way to flushes and compactions.
    pub(crate) is_behind: bool,
}

/// What follows from the last reading.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// Milliseconds by which an operation, and a write, is put off.
    delay_ms: AtomicU64,
    write_delay_ms: AtomicU64,
    refuses: AtomicU8,
}

const DELAY_MS: u64 = 5;
const MEMORY: u8 = 1;

impl Reading {
    pub(crate) fn take(disk_free_bytes: Option<u64>, is_behind: bool) -> Self {
        Self {
            resident_bytes: resident_bytes(),
            cpu_pressure: cpu_pressure(),
            disk_free_bytes,
            is_behind,
        }
    }
}

impl Pressure {
    pub(crate) fn note(&self, reading: Reading, limits: &GuardLimits) {
        let is_hot = reading.cpu_pressure.is_some_and(|p| p > f32::from(limits.cpu_pressure_max));
        let is_full = reading.disk_free_bytes.is_some_and(|free| free < limits.disk_free_bytes_min);
        let too_large = match (reading.resident_bytes, limits.resident_bytes_max) {
            (Some(bytes), Some(max)) => bytes > max,
            _ => false,
        };
        let delay = if is_hot { DELAY_MS } else { 0 };
        let behind = u64::from(is_full) + u64::from(reading.is_behind);
        self.delay_ms.store(delay, Ordering::Relaxed);
        self.write_delay_ms.store(delay + behind * 2 * DELAY_MS, Ordering::Relaxed);
        self.refuses.store(if too_large { MEMORY } else { 0 }, Ordering::Relaxed);
    }

    /// How long to put an operation off.
    pub(super) fn delay(&self, writes: bool) -> Duration {
        let delay = if writes { &self.write_delay_ms } else { &self.delay_ms };
        Duration::from_millis(delay.load(Ordering::Relaxed))
    }

    /// Why an operation cannot be taken now.
    pub(super) fn refuses(&self) -> Option<&'static str> {
        (self.refuses.load(Ordering::Relaxed) == MEMORY).then_some("memory")
    }
}

#[cfg(target_os = "linux")]
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(not(target_os = "linux"))]
fn resident_bytes() -> Option<u64> {
    None
}

#[cfg(target_os = "linux")]
fn cpu_pressure() -> Option<f32> {
    parse_pressure(&std::fs::read_to_string("/proc/pressure/cpu").ok()?)
}

#[cfg(not(target_os = "linux"))]
fn cpu_pressure() -> Option<f32> {
    None
}

/// `some avg10=1.53 avg60=…`.
#[cfg(any(test, target_os = "linux"))]
fn parse_pressure(text: &str) -> Option<f32> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    line.split(' ').find_map(|part| part.strip_prefix("avg10="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_and_what_follows() {
        let text = "some avg10=12.50 avg60=3.00 avg300=1.00 total=9\nfull avg10=0.00 avg60=0.00\n";
        assert_eq!(parse_pressure(text), Some(12.5));
        assert_eq!(parse_pressure("nothing"), None);
        let limits = GuardLimits { resident_bytes_max: Some(100), ..GuardLimits::default() };
        let pressure = Pressure::default();
        let check = |reading, want: (u64, u64, bool)| {
            pressure.note(reading, &limits);
            let ms = |writes| pressure.delay(writes).as_millis() as u64;
            assert_eq!((ms(false), ms(true), pressure.refuses().is_some()), want);
        };
        check(Reading::default(), (0, 0, false));
        check(Reading { cpu_pressure: Some(95.0), ..Reading::default() }, (5, 5, false));
        check(Reading { disk_free_bytes: Some(9), ..Reading::default() }, (0, 10, false));
        check(Reading { is_behind: true, ..Reading::default() }, (0, 10, false));
        check(Reading { resident_bytes: Some(101), ..Reading::default() }, (0, 0, true));
    }
}
