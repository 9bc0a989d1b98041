//! JB1 to JSON text: mostly `memcpy`.

use super::{ARRAY, DECIMAL, FALSE, INTEGER, NULL, OBJECT, STRING, STRING_ESCAPED, TRUE, UNSIGNED};
use crate::{codec::Reader, error::DocumentError};

/// Pieces up to this long are copied as if they were just this long: no loop, no call.
const SHORT: usize = 16;
/// Room for such a piece, for what stands around it, or for a number.
const SLACK: usize = SHORT + 24;
const DEPTH_MAX: usize = 200;

/// Appends the value as compact JSON.
pub(crate) fn print(value: &[u8], out: &mut Vec<u8>) -> Result<(), DocumentError> {
    let from = out.len();
    let (end, printed) = print_at(value, out, from);
    out.truncate(end);
    printed
}

/// Writes the value as compact JSON over what is there, and says how long it is. What is behind it
/// stays: memory that is used again and again is not cleared each time.
pub(crate) fn print_over(value: &[u8], out: &mut Vec<u8>) -> Result<usize, DocumentError> {
    let (end, printed) = print_at(value, out, 0);
    printed.map(|()| end)
}

fn print_at(value: &[u8], out: &mut Vec<u8>, from: usize) -> (usize, Result<(), DocumentError>) {
    // Few documents are longer as text.
    let len = from + value.len() + value.len() / 8 + SLACK;
    if out.len() < len {
        out.resize(len, 0);
    }
    let mut printer = Printer { out, at: from };
    let mut reader = Reader::new(value);
    let printed = printer.put(&mut reader, 0).filter(|()| reader.is_empty());
    (printer.at, printed.ok_or(DocumentError::Malformed))
}

/// Writes at `at`; what lies behind is overwritten or cut off.
struct Printer<'a> {
    out: &'a mut Vec<u8>,
    at: usize,
}

impl Printer<'_> {
    fn put(&mut self, reader: &mut Reader<'_>, depth: usize) -> Option<()> {
        match reader.u8()? {
            NULL => self.word(b"null"),
            FALSE => self.word(b"false"),
            TRUE => self.word(b"true"),
            tag @ INTEGER..=0x18 => {
                let body = reader.take(usize::from(tag - INTEGER))?;
                let negative = body.last().is_some_and(|b| b >> 7 == 1);
                let mut bytes = if negative { [0xff; 8] } else { [0; 8] };
                bytes[..body.len()].copy_from_slice(body);
                self.number(i64::from_le_bytes(bytes));
            }
            UNSIGNED => {
                let number = reader.u64()?;
                self.digits(number);
            }
            DECIMAL => {
                let len = reader.length()?;
                self.piece(*b"", reader, len, *b"")?;
            }
            STRING | STRING_ESCAPED => {
                let len = reader.length()?;
                self.piece(*b"\"", reader, len, *b"\"")?;
            }
            ARRAY if depth < DEPTH_MAX => {
                let len = reader.u32()? as usize;
                let count = reader.u32()?;
                let end = reader.position().checked_add(len)?;
                self.word(b"[");
                for i in 0..count {
                    if i > 0 {
                        self.word(b",");
                    }
                    self.put(reader, depth + 1)?;
                }
                self.word(b"]");
                (reader.position() == end).then_some(())?;
            }
            OBJECT if depth < DEPTH_MAX => {
                let len = reader.u32()? as usize;
                let count = reader.u32()?;
                let end = reader.position().checked_add(len)?;
                self.word(b"{");
                for i in 0..count {
                    let len = usize::try_from(reader.varint()? >> 1).ok()?;
                    if i > 0 {
                        self.piece(*b",\"", reader, len, *b"\":")?;
                    } else {
                        self.piece(*b"\"", reader, len, *b"\":")?;
                    }
                    self.put(reader, depth + 1)?;
                }
                self.word(b"}");
                // The table of members, if there is one, is not printed.
                reader.take(end.checked_sub(reader.position())?)?;
            }
            _ => return None,
        }
        Some(())
    }

    /// So many bytes from the reader, between what stands around them.
    #[inline(always)]
    fn piece<const B: usize, const E: usize>(
        &mut self,
        before: [u8; B],
        reader: &mut Reader<'_>,
        len: usize,
        after: [u8; E],
    ) -> Option<()> {
        let ahead = reader.rest();
        let text = reader.take(len)?;
        let room = self.room(len);
        room[..B].copy_from_slice(&before);
        match (ahead.first_chunk::<SHORT>(), room[B..].first_chunk_mut::<SHORT>()) {
            (Some(ahead), Some(room)) if len <= SHORT => *room = *ahead,
            _ => room[B..B + len].copy_from_slice(text),
        }
        room[B + len..B + len + E].copy_from_slice(&after);
        self.at += B + len + E;
        Some(())
    }

    #[inline(always)]
    fn word<const N: usize>(&mut self, word: &[u8; N]) {
        self.room(N)[..N].copy_from_slice(word);
        self.at += N;
    }

    /// Where to write so many bytes and `SLACK` more.
    #[inline(always)]
    fn room(&mut self, len: usize) -> &mut [u8] {
        if self.out.len() - self.at < len + SLACK {
            self.grow(len);
        }
        &mut self.out[self.at..]
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        let needed = self.at + len + SLACK;
        self.out.resize(needed.max(self.out.len() * 2), 0);
    }

    fn number(&mut self, number: i64) {
        if number < 0 {
            self.word(b"-");
        }
        self.digits(number.unsigned_abs());
    }

    fn digits(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut from = digits.len();
        loop {
            from -= 1;
            digits[from] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        let digits = &digits[from..];
        self.room(digits.len())[..digits.len()].copy_from_slice(digits);
        self.at += digits.len();
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        error::DocumentError,
        jb1::{Limits, from_value, parse, print},
    };

    #[track_caller]
    fn check(text: &str, want: Result<&str, &str>) {
        let got = parse(text.as_bytes(), &Limits::default()).map(|bytes| {
            let mut out = Vec::new();
            print(&bytes, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        });
        match (&got, want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want),
            (Err(e), Err(want)) => assert!(e.to_string().contains(want), "{text}: {e}"),
            _ => panic!("{text}: got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn text_round_trips() {
        check(" { \"a\" : [ 1 , -0 , 2.50, 1e400 ] } ", Ok(r#"{"a":[1,-0,2.50,1e400]}"#));
        check("123456789012345678901234567890", Ok("123456789012345678901234567890"));
        check("18446744073709551615", Ok("18446744073709551615"));
        check("-9223372036854775808", Ok("-9223372036854775808"));
        check(r#""\u0041\/\n\u0001\ud83d\ude00""#, Ok("\"A/\\n\\u0001😀\""));
        check(
            r#"{"a":{},"b":[],"c":null,"d":true,"e":false}"#,
            Ok(r#"{"a":{},"b":[],"c":null,"d":true,"e":false}"#),
        );
    }

    #[test]
    fn what_is_longer_as_text_has_room() {
        let many = |value: &str, count: usize| format!("[{}]", vec![value; count].join(","));
        // Miri is a thousand times slower.
        let most = if cfg!(miri) { 20 } else { 1000 };
        for value in ["false", "-128", "{\"\":null}", "\"\"", "[]", "\"sixteen or longer\""] {
            for count in [1, 2, 17, most] {
                let text = many(value, count);
                check(&text, Ok(&text));
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_malformed() {
        let text = br#"{"name":"a name of some length","n":[1,-300,2.5,true,null]}"#;
        let whole = parse(text, &Limits::default()).unwrap();
        for len in 0..whole.len() {
            let mut out = b"before".to_vec();
            assert_eq!(print(&whole[..len], &mut out), Err(DocumentError::Malformed), "{len}");
            assert!(out.starts_with(b"before"));
        }
    }

    #[test]
    fn bad_text_is_named() {
        check("", Err("a value"));
        check("{\"a\":1,}", Err("a string"));
        check("[1,]", Err("a value"));
        check("[1 2]", Err("a comma"));
        check("01", Err("end of the document"));
        check("1.", Err("a digit"));
        check("+1", Err("a value"));
        check("\"\\ud800\"", Err("a valid escape"));
        check("\"\\x\"", Err("a valid escape"));
        check("\"a\nb\"", Err("control"));
        check("\"abc", Err("the end of a string"));
        check(r#"{"a":1,"\u0061":2}"#, Err("twice"));
        let many: String = (0..9).map(|i| format!("\"k{}\":1,", i % 8)).collect();
        check(&format!("{{{}}}", many.trim_end_matches(',')), Err("twice"));
        check(
            &format!("{}{}", "[".repeat(128), "]".repeat(128)),
            Ok(&format!("{}{}", "[".repeat(128), "]".repeat(128))),
        );
        check(&format!("{}{}", "[".repeat(129), "]".repeat(129)), Err("128 levels"));
        assert_eq!(
            parse(b"\"\xff\"", &Limits::default()),
            Err(DocumentError::InvalidUtf8 { offset: 1 })
        );
        let small = Limits { bytes_max: 10, depth_max: 128 };
        assert!(matches!(parse(&[b' '; 11], &small), Err(DocumentError::TooLarge { limit: 10 })));
    }

    #[test]
    fn values_and_text_agree() {
        let text = r#"{"a":[1,2.5,"x\"y"],"b":{"c":null},"n":-7,"u":18446744073709551615}"#;
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let from_text = parse(text.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(from_text, from_value(&value, &Limits::default()).unwrap());
    }
}
