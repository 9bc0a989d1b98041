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

/// Decodes pieces of `data` as the header blocks of one connection, encodes what they said, and wants to
/// hear it again.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn fuzz_hpack(data: &[u8]) {
    use http::{HeaderName, HeaderValue, StatusCode};

    let mut decoder = Decoder::new(4096);
    let mut encoder = Encoder::new();
    let mut mirror = Decoder::new(4096);
    let mut rest = data;
    while let Some((len, behind)) = rest.split_first() {
        let (block, behind) = behind.split_at(usize::from(*len).min(behind.len()));
        rest = behind;
        let mut said = Vec::new();
        let sink = |field: Field<'_>| {
            let name = HeaderName::from_lowercase(field.name);
            let value = HeaderValue::from_bytes(field.value);
            if let (Ok(name), Ok(value)) = (name, value) {
                said.push((name, value));
            }
        };
        if decoder.decode(block, 100_000, sink).is_err() {
            return;
        }
        encoder.set_peer_limit(u32::from(*len) * 20);
        let mut out = Vec::new();
        encoder.begin(&mut out);
        encoder.status(&mut out, StatusCode::OK);
        for (name, value) in &said {
            encoder.field(&mut out, name, value);
        }
        let mut heard = Vec::new();
        let again = mirror.decode(&out, usize::MAX, |field| {
            heard.push((field.name.to_vec(), field.value.to_vec()));
        });
        assert!(again.is_ok(), "what was encoded cannot be decoded");
        let said = said.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        let heard = heard.iter().skip(1).map(|(name, value)| (&name[..], &value[..]));
        assert!(said.eq(heard), "what was encoded says something else");
    }
}
