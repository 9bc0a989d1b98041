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

    /// Found by fuzzing: the model knew no limits.
    #[test]
    fn heads_at_their_limits() {
        for fields in [99, 100] {
            let head =
                ["GET / HTTP/1.1\r\nhost: a\r\n", &"x: y\r\n".repeat(fields), "\r\n"].concat();
            fuzz_head(head.as_bytes());
        }
        for len in [8191, 8192] {
            let target = "a".repeat(len);
            fuzz_head(format!("GET /{target} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
        }
        for len in [16_384, 16_385] {
            let front = "GET / HTTP/1.1\r\nhost: a\r\nx: ";
            let value = "y".repeat(len - front.len() - 4);
            fuzz_head(format!("{front}{value}\r\n\r\n").as_bytes());
        }
    }
}
