//! The `date` field, rendered once per second and thread.

use std::{
    cell::RefCell,
    time::{Duration, Instant, SystemTime},
};

struct Cached {
    line: [u8; LINE_LEN],
    fresh: Option<(Instant, Instant)>,
}

thread_local! {
    static CACHED: RefCell<Cached> =
        const { RefCell::new(Cached { line: [0; LINE_LEN], fresh: None }) };
}

/// Appends `date: …` with its line end. `now` is the connection's clock: the system is asked for
/// the time of day only when a second has passed on it.
pub(crate) fn put_date(out: &mut Vec<u8>, now: Instant) {
    CACHED.with_borrow_mut(|cached| {
        // Connections with different clocks may share a thread, in tests at least.
        if !cached.fresh.is_some_and(|(from, until)| (from..until).contains(&now)) {
            let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let rest = Duration::from_nanos(1_000_000_000 - u64::from(time.subsec_nanos()));
            cached.line = render(time.as_secs());
            cached.fresh = Some((now, now + rest));
        }
        out.extend_from_slice(&cached.line);
    });
}

/// IMF-fixdate (RFC 9110 §5.6.7) of a time in seconds since 1970.
fn render(seconds: u64) -> [u8; LINE_LEN] {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let weekday = WEEKDAYS.get((days % 7) as usize).copied().unwrap_or(b"Thu");
    let month = MONTHS.get(month as usize).copied().unwrap_or(b"Jan");
    let mut line = *b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
    let mut put = |at: usize, text: &[u8]| {
        if let Some(place) = line.get_mut(at..at + text.len()) {
            place.copy_from_slice(text);
        }
    };
    put(6, weekday);
    put(11, &two_digits(day));
    put(14, month);
    put(18, &two_digits(year / 100));
    put(20, &two_digits(year % 100));
    put(23, &two_digits(second / 3600));
    put(26, &two_digits(second / 60 % 60));
    put(29, &two_digits(second % 60));
    line
}

/// Year, month from 0 and day from 1 of a day counted from 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years begin in March here, so that the leap day comes last (Howard Hinnant's method).
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + u64::from(month >= 10);
    (year, (month + 2) % 12, day)
}

fn two_digits(value: u64) -> [u8; 2] {
    let digit = |value: u64| b'0' + (value % 10) as u8;
    [digit(value / 10), digit(value)]
}

const LINE_LEN: usize = "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n".len();
const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: u64, want: &str) {
        assert_eq!(std::str::from_utf8(&render(seconds)).unwrap(), format!("date: {want}\r\n"));
    }

    #[test]
    fn known_dates() {
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"); // RFC 9110 §5.6.7
        check(951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(1_709_251_200, "Fri, 01 Mar 2024 00:00:00 GMT");
        check(1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT");
        check(1_795_176_000, "Fri, 20 Nov 2026 12:00:00 GMT");
        check(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT");
    }

    #[test]
    fn the_line_is_kept_for_a_second() {
        let now = Instant::now();
        let mut out = Vec::new();
        put_date(&mut out, now);
        assert_eq!(out.len(), LINE_LEN);
        let fresh = CACHED.with_borrow(|cached| cached.fresh);
        put_date(&mut out, now);
        assert_eq!(CACHED.with_borrow(|cached| cached.fresh), fresh);
        put_date(&mut out, now + Duration::from_secs(1));
        assert_ne!(CACHED.with_borrow(|cached| cached.fresh), fresh);
    }
}
