//! Bytes that nobody can guess.

/// Fresh random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("every system that we run on has a source of randomness");
    bytes
}
