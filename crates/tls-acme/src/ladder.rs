//! When to try again after a failure.

use std::time::Duration;

use crate::facts::fraction;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// Waits in seconds, and how many times each. What follows the last is [`LAST`].
const STEPS: &[(u64, u32)] = &[
    (MINUTE, 1),
    (2 * MINUTE, 2),
    (5 * MINUTE, 1),
    (10 * MINUTE, 3),
    (20 * MINUTE, 4),
    (30 * MINUTE, 6),
    (HOUR, 3),
    (2 * HOUR, 2),
    (3 * HOUR, 2),
];
const LAST: u64 = 6 * HOUR;

/// How long to wait after the `failures`th failure in a row; ± 10 %, so that names that failed together
/// do not come back together.
pub(crate) fn delay(failures: u32, seed: &str) -> Duration {
    let mut left = failures.max(1);
    let mut wait = LAST;
    for (seconds, times) in STEPS {
        if left <= *times {
            wait = *seconds;
            break;
        }
        left -= times;
    }
    let jitter = 0.9 + 0.2 * fraction(&format!("{seed} {failures}"));
    Duration::from_secs(wait).mul_f64(jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn climbs() {
        let minutes: Vec<u64> =
            (1..=26).map(|n| (delay(n, "a").as_secs() as f64 / 60.0).round() as u64).collect();
        let want = [
            1, 2, 2, 5, 10, 10, 10, 20, 20, 20, 20, 30, 30, 30, 30, 30, 30, 60, 60, 60, 120, 120,
            180, 180, 360, 360,
        ];
        for (got, want) in minutes.iter().zip(want) {
            let (low, high) = (want as f64 * 0.89, want as f64 * 1.11 + 1.0);
            assert!((low..=high).contains(&(*got as f64)), "{got} instead of {want}");
        }
        assert_eq!(delay(0, "a"), delay(1, "a").mul_f64(1.0).max(delay(0, "a")));
        assert_ne!(delay(5, "a"), delay(5, "b"));
    }
}
