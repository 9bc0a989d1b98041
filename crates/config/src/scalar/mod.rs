//! Numbers with a unit, written as people write them.

mod byte_size;
mod duration;

use std::fmt;

pub use self::{byte_size::ByteSize, duration::HumanDuration};

/// Why a number with a unit could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnitError {
    /// There is no number to begin with.
    NoNumber,
    /// The number has no unit, and none can be assumed.
    NoUnit,
    /// The value exceeds what can be held.
    TooLarge,
    /// The unit is not one of those known.
    UnknownUnit,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNumber => "a number is missing",
            Self::NoUnit => "a unit is missing",
            Self::TooLarge => "the number is too large",
            Self::UnknownUnit => "the unit is unknown",
        })
    }
}

impl std::error::Error for UnitError {}

/// A decimal number as an exact fraction, and what follows it: `1.5 GiB` is (15, 10, "GiB").
fn number(text: &str) -> Result<(u128, u128, &str), UnitError> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || (digits.contains('.') && fraction.is_empty()) || fraction.contains('.') {
        return Err(UnitError::NoNumber);
    }
    if whole.len() + fraction.len() > DIGITS_MAX {
        return Err(UnitError::TooLarge);
    }
    let value = format!("{whole}{fraction}").parse().map_err(|_| UnitError::TooLarge)?;
    let scale = u32::try_from(fraction.len()).map_err(|_| UnitError::TooLarge)?;
    Ok((value, 10_u128.pow(scale), rest))
}

/// Enough for `u64`, few enough that a multiplication by a unit stays within `u128`.
const DIGITS_MAX: usize = 22;
