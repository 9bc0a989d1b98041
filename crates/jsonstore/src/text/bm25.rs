//! How much an occurrence counts: BM25 with k1 = 1.2 and b = 0.75.

const K1: f64 = 1.2;
const B: f64 = 0.75;

/// The weight of a term in one field, with the statistics of the whole index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Weight {
    most: f64,
    base: f64,
    per_term: f64,
}

/// How rare a term is: `ln(1 + (N - n + 0.5) / (n + 0.5))`, for `n` of `N` documents.
pub(crate) fn idf(docs: i64, df: i64) -> f64 {
    let (docs, df) = (docs.max(df).max(1) as f64, df.max(0) as f64);
    (1.0 + (docs - df + 0.5) / (df + 0.5)).ln()
}

impl Weight {
    /// `idf` and the boost are factors; the average length of the field's texts is the yardstick.
    pub(crate) fn new(idf: f64, boost: f64, average_length: f64) -> Self {
        let average = if average_length > 0.0 { average_length } else { 1.0 };
        Self { most: boost * idf * (K1 + 1.0), base: K1 * (1.0 - B), per_term: K1 * B / average }
    }

    /// The score of a document of this length in which the term occurs `count` times.
    ///
    /// It is `most * count / (count + norm)`, written so that, rounding included, it never falls when
    /// the count rises or the length falls: bounds of blocks rest on that.
    #[inline]
    pub(crate) fn score(self, count: u32, length: u32) -> f64 {
        let norm = self.base + self.per_term * f64::from(length);
        self.most - self.most / (1.0 + f64::from(count) / norm)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_the_formula_of_the_books() {
        let (docs, df, count, length, average) = (1000, 30, 3, 80, 55.5);
        let idf = idf(docs, df);
        let norm = 1.2 * (1.0 - 0.75 + 0.75 * f64::from(length) / average);
        let want = 2.0 * idf * f64::from(count) * 2.2 / (f64::from(count) + norm);
        let got = Weight::new(idf, 2.0, average).score(count as u32, length as u32);
        assert!((got - want).abs() < 1e-12, "{got} {want}");
    }

    proptest! {
        #[test]
        fn never_falls(
            count in 1_u32..100_000, more in 0_u32..1000, length in 1_u32..100_000,
            longer in 0_u32..1000, average in 0.5_f64..5000.0, idf in 0.0001_f64..20.0,
        ) {
            let weight = Weight::new(idf, 1.0, average);
            prop_assert!(weight.score(count + more, length) >= weight.score(count, length));
            prop_assert!(weight.score(count, length) >= weight.score(count, length + longer));
        }
    }
}
