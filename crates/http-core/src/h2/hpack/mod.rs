//! Header compression (RFC 7541).

mod decoder;
mod encoder;
mod huffman;
mod table;

pub(super) use self::{
    decoder::{Decoder, Field, Invalid},
    encoder::Encoder,
    table::Kind,
};

/// What an entry of a dynamic table costs beyond its text (RFC 7541 §4.1).
const ENTRY_OVERHEAD: usize = 32;
