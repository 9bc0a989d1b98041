//! Time as log lines spell it, always in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// A moment in the two spellings of access logs. The text is made once a second, not once a line.
#[derive(Debug, Clone)]
pub(crate) struct Stamp {
    second: u64,
    millis: u16,
    common: [u8; 26],
    iso: [u8; 19],
}

impl Default for Stamp {
    fn default() -> Self {
        let mut stamp = Self { second: 0, millis: 0, common: [0; 26], iso: [0; 19] };
        stamp.spell();
        stamp
    }
}

impl Stamp {
    /// Moves to `now`; moments before 1970 count as 1970.
    pub(crate) fn set(&mut self, now: SystemTime) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.millis = u16::try_from(since.subsec_millis()).unwrap_or(0);
        if since.as_secs() != self.second {
            self.second = since.as_secs();
            self.spell();
        }
    }

    /// `10/Oct/2000:13:55:36 +0000`
    pub(crate) fn common(&self) -> &[u8] {
        &self.common
    }

    /// Appends `2000-10-10T13:55:36.042Z`.
    pub(crate) fn push_iso(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.iso);
        out.push(b'.');
        out.extend_from_slice(&digits::<3>(u64::from(self.millis)));
        out.push(b'Z');
    }

    fn spell(&mut self) {
        let (year, month, day) = civil(self.second / 86_400);
        let time = self.second % 86_400;
        let (year, day) = (digits::<4>(year), digits::<2>(day));
        let clock = [digits::<2>(time / 3600), digits::<2>(time / 60 % 60), digits::<2>(time % 60)];
        let name = MONTHS.get(usize::try_from(month).unwrap_or(1) - 1).copied().unwrap_or(b"Jan");
        let [h, m, s] = &clock;
        let parts: [&[u8]; 12] =
            [&day, b"/", name, b"/", &year, b":", h, b":", m, b":", s, b" +0000"];
        fill(&mut self.common, &parts);
        let month = digits::<2>(month);
        let parts: [&[u8]; 11] = [&year, b"-", &month, b"-", &day, b"T", h, b":", m, b":", s];
        fill(&mut self.iso, &parts);
    }
}

fn fill(out: &mut [u8], parts: &[&[u8]]) {
    for (to, from) in out.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
    }
}

fn digits<const N: usize>(mut value: u64) -> [u8; N] {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
    text
}

/// Year, month and day of the proleptic Gregorian calendar, by counting in eras of 400 years that
/// begin on the first of March, so that the leap day is the last of its year.
fn civil(days_since_1970: u64) -> (u64, u64, u64) {
    const DAYS_BEFORE_1970: u64 = 719_468; // since 0000-03-01
    let days = days_since_1970 + DAYS_BEFORE_1970;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(second: u64, millis: u64, common: &str, iso: &str) {
        let mut stamp = Stamp::default();
        stamp.set(UNIX_EPOCH + Duration::from_secs(second) + Duration::from_millis(millis));
        let mut out = Vec::new();
        stamp.push_iso(&mut out);
        assert_eq!(String::from_utf8_lossy(stamp.common()), common);
        assert_eq!(String::from_utf8_lossy(&out), iso);
    }

    #[test]
    fn moments() {
        check(0, 0, "01/Jan/1970:00:00:00 +0000", "1970-01-01T00:00:00.000Z");
        check(951_782_399, 7, "28/Feb/2000:23:59:59 +0000", "2000-02-28T23:59:59.007Z");
        check(951_782_400, 0, "29/Feb/2000:00:00:00 +0000", "2000-02-29T00:00:00.000Z");
        check(951_868_800, 0, "01/Mar/2000:00:00:00 +0000", "2000-03-01T00:00:00.000Z");
        check(1_785_412_800, 999, "30/Jul/2026:12:00:00 +0000", "2026-07-30T12:00:00.999Z");
        check(4_107_542_399, 0, "28/Feb/2100:23:59:59 +0000", "2100-02-28T23:59:59.000Z");
        check(4_107_542_400, 0, "01/Mar/2100:00:00:00 +0000", "2100-03-01T00:00:00.000Z");
    }
}
