//! "Did you mean": the nearest word among those allowed.

/// The allowed word that `word` most probably stands for.
pub(crate) fn nearest<'a>(
    word: &str,
    allowed: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let folded = fold(word);
    // A third of the letters may be wrong: beyond that, a guess irritates more than it helps.
    let distance_max = (folded.len() / 3).max(1);
    // Distance is quadratic; a key that long is no slip of the finger.
    if folded.len() > WORD_MAX {
        return None;
    }
    let score = |candidate: &'a str| {
        let other = fold(candidate);
        let distance = distance(&folded, &other);
        // `connection` for `connection_limit`: a cut-off word is near, though many letters are missing.
        let prefix = folded.len() >= 3
            && (other.starts_with(&folded) || folded.starts_with(&other) && other.len() >= 3);
        let near = distance <= distance_max && distance < other.len().max(folded.len());
        (near || prefix).then_some((!near, distance, candidate))
    };
    allowed.into_iter().filter_map(score).min().map(|(_, _, candidate)| candidate)
}

/// Optimal string alignment: Levenshtein, and a swap of neighbours counts as one slip.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &ca) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, &cb) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(ca != cb)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && ca == b[j - 1] && cb == a[i - 1] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

// `-`, `_` and case are the commonest slips of all, so they cost nothing.
fn fold(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

const WORD_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn nearest_words() {
        let allowed = ["host", "port", "access_log", "header_read_timeout", "tls"];
        for (word, want) in [
            ("prot", Some("port")),
            ("accesslog", Some("access_log")),
            ("Access-Log", Some("access_log")),
            ("hosts", Some("host")),
            ("header_timeout", Some("header_read_timeout")),
            ("header", Some("header_read_timeout")),
            ("header_read_timeuot", Some("header_read_timeout")),
            ("ssl", None),
            ("tsl", Some("tls")),
            ("x", None),
            ("", None),
            ("zzzzzz", None),
        ] {
            assert_eq!(nearest(word, allowed), want, "{word:?}");
        }
        assert_eq!(nearest(&"a".repeat(100_000), ["a"]), None);
    }
}
