//! Generators and oracles: arbitrary bytes become cases, and cases are judged.
//!
//! Fuzz targets and property tests are one line over these functions. An oracle panics where the
//! parser under test contradicts itself, or a slow and obvious model of the same rules. Not covered
//! by semantic versioning.

mod chunked;
mod generate;
mod head;
mod http2;

pub use self::{
    chunked::fuzz_chunked,
    head::fuzz_head,
    http2::{fuzz_hpack, fuzz_http2},
};

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn heads(data in vec(any::<u8>(), 0..40)) {
            fuzz_head(&data);
        }

        #[test]
        fn header_blocks(data in vec(any::<u8>(), 0..100)) {
            fuzz_hpack(&data);
        }

        #[test]
        fn connections(data in vec(any::<u8>(), 0..400)) {
            fuzz_http2(&data);
        }

        #[test]
        fn chunked_bodies(data in vec(any::<u8>(), 0..40)) {
            fuzz_chunked(&data);
        }
    }
}
