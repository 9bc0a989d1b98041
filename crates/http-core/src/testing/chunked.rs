//! The oracle for the chunked transfer coding.

use bytes::BytesMut;

use super::{
    generate::{CHUNK_FRAGMENTS, assemble},
    head::split_points,
};
use crate::{
    Limits,
    h1::{ChunkedDecoder, Piece, put_end, put_size_line},
};

/// Judges the decoder on `data` and on a body made from it, and the encoder on `data` as content.
///
/// # Panics
/// Where decoder and model disagree, where it matters how the bytes arrive, or where what was
/// encoded does not come back.
pub fn fuzz_chunked(data: &[u8]) {
    check(data);
    check(&assemble(data, CHUNK_FRAGMENTS));
    check_round_trip(data);
}

/// What became of an input.
#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    content: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The message is over, and so many bytes follow it.
    Complete {
        rest: usize,
    },
    Incomplete,
    Malformed,
}

fn check(input: &[u8]) {
    let shown = input.escape_ascii().to_string();
    let whole = decode([input]);
    for at in split_points(input.len()) {
        let (front, back) = input.split_at(at);
        assert_eq!(whole, decode([front, back]), "split at {at}: {shown}");
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(whole, decode(bytes), "byte by byte: {shown}");
    let want = model(input);
    // The model looks at lines as a whole, and so calls incomplete what is malformed already.
    if want.end != End::Incomplete || whole.end != End::Malformed {
        assert_eq!(whole.end, want.end, "{shown}");
        assert_eq!(whole.content, want.content, "{shown}");
        if matches!(whole.end, End::Complete { .. }) {
            assert_eq!(whole.trailers, want.trailers, "{shown}");
        }
    }
}

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let limits = Limits::default();
    let (mut decoder, mut input) = (ChunkedDecoder::default(), BytesMut::new());
    let mut decoded = Decoded { content: Vec::new(), trailers: Vec::new(), end: End::Incomplete };
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input, &limits) {
                _ if decoded.end != End::Incomplete => break,
                Ok(Piece::Data(data)) => {
                    assert!(!data.is_empty(), "an empty piece means nothing");
                    decoded.content.extend_from_slice(&data);
                }
                Ok(Piece::Trailers(map)) => {
                    let fields = map.iter().map(|(n, v)| (n.to_string(), v.as_bytes().to_vec()));
                    decoded.trailers = fields.collect();
                }
                Ok(Piece::End) => decoded.end = End::Complete { rest: 0 },
                Ok(Piece::NeedMore) => break,
                Err(_) => decoded.end = End::Malformed,
            }
        }
    }
    if let End::Complete { rest } = &mut decoded.end {
        *rest = input.len();
    }
    decoded
}

/// The same rules, written for the reader.
fn model(input: &[u8]) -> Decoded {
    let mut decoded = Decoded { content: Vec::new(), trailers: Vec::new(), end: End::Incomplete };
    let (mut rest, mut extensions) = (input, 0);
    let end = loop {
        let Some((line, behind)) = model_line(rest) else { break End::Incomplete };
        let Some((size, extension)) = line.and_then(model_size) else { break End::Malformed };
        extensions += extension;
        if extension > 256 || extensions > 4096 {
            break End::Malformed;
        }
        rest = behind;
        if size == 0 {
            break model_trailers(rest, &mut decoded.trailers);
        }
        let len = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
        decoded.content.extend_from_slice(&rest[..len]);
        if (len as u64) < size {
            break End::Incomplete;
        }
        rest = match &rest[len..] {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => break End::Incomplete,
            _ => break End::Malformed,
        };
    };
    decoded.end = end;
    decoded
}

/// The line at the front without its CR LF, or `None` for its text where it ends otherwise.
fn model_line(input: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let end = memchr::memchr(b'\n', input)?;
    Some((input[..end].strip_suffix(b"\r"), &input[end + 1..]))
}

/// Size, and length of the extensions.
fn model_size(line: &[u8]) -> Option<(u64, usize)> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let text = std::str::from_utf8(&line[..digits]).ok()?;
    let size = u64::from_str_radix(text, 16).ok().filter(|_| digits <= 16)?;
    let extension = &line[digits..];
    model_extensions(extension)?;
    Some((size, extension.len()))
}

/// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`, read from left to right.
fn model_extensions(mut rest: &[u8]) -> Option<()> {
    fn token(text: &[u8]) -> Option<&[u8]> {
        let is_token =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let len = text.iter().take_while(|byte| is_token(byte)).count();
        (len > 0).then_some(&text[len..])
    }
    fn quoted(mut text: &[u8]) -> Option<&[u8]> {
        loop {
            text = match text {
                [b'"', rest @ ..] => return Some(rest),
                [b'\\', b'\t' | b' '..=b'~' | 0x80.., rest @ ..] => rest,
                [b'\\', ..] => return None,
                [b'\t' | b' '..=b'~' | 0x80.., rest @ ..] => rest,
                _ => return None,
            };
        }
    }
    while !rest.is_empty() {
        rest = token(skip_blank(skip_blank(rest).strip_prefix(b";")?))?;
        if let Some(value) = skip_blank(rest).strip_prefix(b"=") {
            rest = match skip_blank(value) {
                [b'"', text @ ..] => quoted(text)?,
                text => token(text)?,
            };
        }
    }
    Some(())
}

/// Without spaces and tabs at the front; other white space is none here.
fn skip_blank(text: &[u8]) -> &[u8] {
    let len = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &text[len..]
}

fn model_trailers(mut rest: &[u8], trailers: &mut Vec<(String, Vec<u8>)>) -> End {
    let mut fields = Vec::new();
    loop {
        let Some((line, behind)) = model_line(rest) else { return End::Incomplete };
        let Some(line) = line else { return End::Malformed };
        rest = behind;
        if line.is_empty() {
            break;
        }
        fields.push(line);
    }
    if fields.len() > 32 {
        return End::Malformed;
    }
    for line in fields {
        let Some(colon) = memchr::memchr(b':', line) else { return End::Malformed };
        let (name, value) = (&line[..colon], skip_blank(&line[colon + 1..]));
        let blank = value.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let value = &value[..value.len() - blank];
        let Ok(name) = http::HeaderName::from_bytes(name) else { return End::Malformed };
        let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        if !value.iter().all(is_text) || crate::h1::is_forbidden_trailer(&name) {
            return End::Malformed;
        }
        trailers.push((name.to_string(), value.to_vec()));
    }
    // A map keeps values of one name together.
    let order: Vec<String> = trailers.iter().map(|(name, _)| name.clone()).collect();
    trailers.sort_by_key(|(name, _)| order.iter().position(|first| first == name));
    End::Complete { rest: rest.len() }
}

/// Content that is encoded comes back, in whatever pieces.
fn check_round_trip(content: &[u8]) {
    let piece = content.first().map_or(1, |&byte| usize::from(byte) + 1);
    let mut wire = Vec::new();
    let mut is_first = true;
    for chunk in content.chunks(piece) {
        put_size_line(&mut wire, is_first, chunk.len());
        wire.extend_from_slice(chunk);
        is_first = false;
    }
    put_end(&mut wire, is_first, None);
    let decoded = decode([&wire[..]]);
    assert_eq!((&decoded.content[..], decoded.end), (content, End::Complete { rest: 0 }));
}
