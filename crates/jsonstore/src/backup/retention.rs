//! Which backups stay: the newest of each of the last days, weeks, months and years, and whatever
//! those build on (grandfather, father, son).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    BackupError, BackupKind,
    record::Record,
    repository::{Repository, remove_tree},
    verify,
};
use crate::{
    bugs::bug,
    error::{Error, Result},
};

const DAY_MS: u64 = 86_400_000;
/// After 400 years the calendar repeats.
const CYCLE_MS: i64 = 146_097 * 86_400_000;

/// How many backups to keep. A backup may count for several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// The last so many, whenever they were made. Default: 3.
    pub last: usize,
    /// The newest of each of so many days with backups (UTC). Default: 7.
    pub daily: usize,
    /// Of each of so many weeks, from Monday on. Default: 4.
    pub weekly: usize,
    /// Of each of so many months. Default: 12.
    pub monthly: usize,
    /// Of each of so many years. Default: 3.
    pub yearly: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { last: 3, daily: 7, weekly: 4, monthly: 12, yearly: 3 }
    }
}

impl Retention {
    /// Numbers of the backups to keep, of those made at these times.
    fn choose(&self, made: &BTreeMap<u64, u64>) -> BTreeSet<u64> {
        type Period = fn(u64) -> u64;
        let rules: [(usize, Period); 4] = [
            (self.daily, |ms| ms / DAY_MS),
            // The first of January 1970 was a Thursday.
            (self.weekly, |ms| (ms / DAY_MS + 3) / 7),
            (self.monthly, |ms| {
                let (year, month, _) = civil(ms / DAY_MS);
                year * 12 + month
            }),
            (self.yearly, |ms| civil(ms / DAY_MS).0),
        ];
        let mut kept: BTreeSet<u64> = made.keys().rev().take(self.last).copied().collect();
        for (count, period) in rules {
            let mut seen = BTreeSet::new();
            for (number, ms) in made.iter().rev() {
                if seen.len() < count && seen.insert(period(*ms)) {
                    kept.insert(*number);
                }
            }
        }
        kept
    }
}

/// See [`super::Backups::retain`].
pub(crate) fn retain(repository: &Repository, retention: &Retention) -> Result<Vec<String>> {
    let _lock = repository.prepare()?;
    let mut records: BTreeMap<u64, Record> = BTreeMap::new();
    for (number, record) in repository.records()? {
        // With a damaged record nobody knows what builds on what.
        records.insert(number, record?);
    }
    let made = records.iter().map(|(number, record)| (*number, record.info.wall_ms)).collect();
    let mut kept = retention.choose(&made);
    keep_sound_full(repository, &records, &mut kept)?;
    keep_parents(&records, &mut kept);
    let mut removed = Vec::new();
    // Children before their parents: whatever is left in between is complete.
    for (_, record) in records.iter().rev().filter(|(number, _)| !kept.contains(number)) {
        remove(repository, &record.info.name)?;
        removed.push(record.info.name.clone());
    }
    removed.reverse();
    Ok(removed)
}

fn keep_parents(records: &BTreeMap<u64, Record>, kept: &mut BTreeSet<u64>) {
    if bug("retention_forgets_parents") {
        return;
    }
    let number_of: BTreeMap<&str, u64> =
        records.iter().map(|(number, record)| (record.info.name.as_str(), *number)).collect();
    // Parents have lower numbers, so one pass from the top finds all of them.
    for (number, record) in records.iter().rev() {
        if kept.contains(number)
            && let Some(parent) = &record.info.parent
        {
            kept.extend(number_of.get(parent.as_str()));
        }
    }
}

/// One full backup that was read just now and is sound must stay.
fn keep_sound_full(
    repository: &Repository,
    records: &BTreeMap<u64, Record>,
    kept: &mut BTreeSet<u64>,
) -> Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let is_full = |(_, record): &(&u64, &Record)| record.info.kind == BackupKind::Full;
    let (mine, others): (Vec<_>, Vec<_>) =
        records.iter().rev().filter(is_full).partition(|(number, _)| kept.contains(number));
    for (number, record) in mine.into_iter().chain(others) {
        match verify::hashes(repository, &record.info.name, &mut |_| {}) {
            Ok(_) => {
                kept.insert(*number);
                return Ok(());
            }
            // A wrong key says nothing about the backup.
            Err(e @ (Error::WrongKey(_) | Error::Io { .. })) => return Err(e),
            Err(_) => {}
        }
    }
    Err(BackupError::NoSoundFull.into())
}

/// The name goes first, so a backup is never there in part.
fn remove(repository: &Repository, name: &str) -> Result<()> {
    let aside = repository.dir.join(format!("tmp-gone-{name}"));
    let path = repository.dir.join(name);
    repository.vfs.rename(&path, &aside).map_err(|e| Error::io("rename", &path, e))?;
    repository.sync_dir(&repository.dir)?;
    remove_tree(&*repository.vfs, &aside);
    Ok(())
}

/// Year, month and day of a day since 1970 (the algorithm of Howard Hinnant's `civil_from_days`).
fn civil(day: u64) -> (u64, u64, u64) {
    let z = day + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day_of_month)
}

/// RFC 3339 in UTC, with milliseconds; from the year 0 on.
pub(crate) fn format_time(ms: i64) -> String {
    // Before 1970 by whole cycles of 400 years.
    let cycles = if ms < 0 { 5 } else { 0 };
    let ms = u64::try_from(ms + cycles * CYCLE_MS).unwrap_or_default();
    let (year, month, day) = civil(ms / DAY_MS);
    let year = year - 400 * cycles as u64;
    let rest = ms % DAY_MS;
    let [hour, minute, second] = [rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60];
    let ms = rest % 1000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Milliseconds since 1970 of a time as `format_time` writes it, with or without milliseconds.
pub(crate) fn parse_time(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z')?;
    let (clock, ms) = match text.split_once('.') {
        Some((clock, ms)) => (clock, ms.parse::<u64>().ok().filter(|_| ms.len() == 3)?),
        None => (text, 0),
    };
    let numbers: Vec<u64> =
        clock.split(['-', 'T', ':']).map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [year, month, day, hour, minute, second] = numbers.try_into().ok()?;
    // Counting days until it fits needs no second algorithm to be right.
    let from = (year.checked_sub(1970)? * 365 + month.checked_sub(1)? * 28).min(3_000_000);
    let found = (from..from + 4000).find(|found| civil(*found) == (year, month, day))?;
    let in_day = (hour < 24 && minute < 60 && second < 60)
        .then_some(hour * 3_600_000 + minute * 60_000 + second * 1000 + ms)?;
    let ms = found * DAY_MS + in_day;
    // What is written otherwise than it would be written here is refused.
    format_time(ms as i64).starts_with(clock).then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_772_323_200_000; // 2026-03-01T00:00:00Z, a Sunday

    #[test]
    fn times_are_written_as_people_do() {
        assert_eq!(format_time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(format_time(START as i64), "2026-03-01T00:00:00.000Z");
        assert_eq!(format_time(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(format_time(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(format_time(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(format_time(-62_167_219_200_000), "0000-01-01T00:00:00.000Z");
        assert_eq!(format_time(4_102_444_800_000), "2100-01-01T00:00:00.000Z");
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for ms in [0, START, 951_782_399_999, 951_782_400_000, 4_102_444_799_001] {
            assert_eq!(parse_time(&format_time(ms as i64)), Some(ms));
        }
        assert_eq!(parse_time("2026-03-01T00:00:00Z"), Some(START));
        for bad in [
            "",
            "2026-03-01",
            "2026-02-30T00:00:00Z",
            "2026-3-1T00:00:00Z",
            "1969-12-31T00:00:00Z",
            "2026-03-01T24:00:00Z",
            "2026-03-01T00:00:00",
            "2026-03-01T00:00:00.1Z",
            "2026-03-01 00:00:00Z",
        ] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

    fn kept(retention: Retention, days: &[u64]) -> Vec<u64> {
        let made = days.iter().enumerate().map(|(i, day)| (i as u64 + 1, START + day * DAY_MS));
        retention.choose(&made.collect()).into_iter().collect()
    }

    #[test]
    fn the_newest_of_each_period_stays() {
        let none = Retention { last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
        let days: Vec<u64> = (0..100).collect();
        assert_eq!(kept(none, &days), Vec::<u64>::new());
        assert_eq!(kept(Retention { last: 2, ..none }, &days), [99, 100]);
        assert_eq!(kept(Retention { daily: 3, ..none }, &days), [98, 99, 100]);
        // Day 0 is a Sunday: weeks end with days 0, 7, …; day 99 is a Monday.
        assert_eq!(kept(Retention { weekly: 3, ..none }, &days), [92, 99, 100]);
        // March has 31 days, April 30, May 31: they end with days 30, 60, 91.
        assert_eq!(kept(Retention { monthly: 4, ..none }, &days), [31, 61, 92, 100]);
        assert_eq!(kept(Retention { yearly: 5, ..none }, &days), [100]);
        // Of several a day the last.
        assert_eq!(kept(Retention { daily: 2, ..none }, &[0, 0, 1, 1, 1, 5]), [5, 6]);
    }
}
