//! Numbers that must lie in a range.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use hearth_config::{ByteSize, Diagnostic, HumanDuration, Report, Spanned};

use crate::codes;

/// Reports numbers that are out of their range.
pub(super) struct Check<'a> {
    pub(super) report: &'a mut Report,
    pub(super) section: &'static str,
}

impl Check<'_> {
    pub(super) fn number(
        &mut self,
        key: &str,
        value: &Spanned<u64>,
        range: RangeInclusive<u64>,
    ) -> u64 {
        self.within(key, value, **value, range, |number| number)
    }

    pub(super) fn count(
        &mut self,
        key: &str,
        value: &Spanned<u64>,
        range: RangeInclusive<u64>,
    ) -> usize {
        usize::try_from(self.number(key, value, range)).unwrap_or(usize::MAX)
    }

    pub(super) fn small(
        &mut self,
        key: &str,
        value: &Spanned<u64>,
        range: RangeInclusive<u64>,
    ) -> u32 {
        u32::try_from(self.number(key, value, range)).unwrap_or(u32::MAX)
    }

    pub(super) fn bytes(
        &mut self,
        key: &str,
        value: &Spanned<ByteSize>,
        range: RangeInclusive<u64>,
    ) -> u64 {
        self.within(key, value, value.as_u64(), range, ByteSize)
    }

    pub(super) fn size(
        &mut self,
        key: &str,
        value: &Spanned<ByteSize>,
        range: RangeInclusive<u64>,
    ) -> usize {
        usize::try_from(self.bytes(key, value, range)).unwrap_or(usize::MAX)
    }

    pub(super) fn small_size(
        &mut self,
        key: &str,
        value: &Spanned<ByteSize>,
        range: RangeInclusive<u64>,
    ) -> u32 {
        u32::try_from(self.bytes(key, value, range)).unwrap_or(u32::MAX)
    }

    /// Between a tenth of a second and a week: what lies beyond was meant in another unit.
    pub(super) fn time(&mut self, key: &str, value: &Spanned<HumanDuration>) -> Duration {
        let show = |millis| HumanDuration(Duration::from_millis(millis));
        let millis = u64::try_from(value.get().as_millis()).unwrap_or(u64::MAX);
        self.within(key, value, millis, 100..=7 * 24 * 3600 * 1000, show);
        value.get()
    }

    fn within<T, D: Display>(
        &mut self,
        key: &str,
        value: &Spanned<T>,
        number: u64,
        range: RangeInclusive<u64>,
        show: impl Fn(u64) -> D,
    ) -> u64 {
        if range.contains(&number) {
            return number;
        }
        let (low, high) = (*range.start(), *range.end());
        let (what, bound) = if number < low { ("small", low) } else { ("large", high) };
        let message = format!("`{}.{key}` is too {what}: {}", self.section, show(number));
        let diagnostic = Diagnostic::error(codes::RANGE, message)
            .with_key(format!("{}.{key}", self.section))
            .at(value.span(), format!("from {} to {}", show(low), show(high)))
            .with_help(format!(
                "set it to {} or {}",
                show(bound),
                if bound == low { "more" } else { "less" }
            ));
        self.report.push(diagnostic);
        number.clamp(low, high)
    }
}
