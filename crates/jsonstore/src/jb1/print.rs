//! JB1 to JSON text: mostly `memcpy`.

use super::{ARRAY, DECIMAL, FALSE, INTEGER, NULL, OBJECT, STRING, STRING_ESCAPED, TRUE, UNSIGNED};
use crate::{codec::Reader, error::DocumentError};

/// Appends the value as compact JSON.
pub(crate) fn print(value: &[u8], out: &mut Vec<u8>) -> Result<(), DocumentError> {
    let mut reader = Reader::new(value);
    out.reserve(value.len() + value.len() / 8);
    put(&mut reader, out, 0).ok_or(DocumentError::Malformed)?;
    if reader.is_empty() { Ok(()) } else { Err(DocumentError::Malformed) }
}

fn put(reader: &mut Reader<'_>, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    match reader.u8()? {
        NULL => out.extend_from_slice(b"null"),
        FALSE => out.extend_from_slice(b"false"),
        TRUE => out.extend_from_slice(b"true"),
        tag @ INTEGER..=0x18 => {
            let body = reader.take(usize::from(tag - INTEGER))?;
            let negative = body.last().is_some_and(|b| b >> 7 == 1);
            let mut bytes = if negative { [0xff; 8] } else { [0; 8] };
            bytes[..body.len()].copy_from_slice(body);
            put_i64(out, i64::from_le_bytes(bytes));
        }
        UNSIGNED => put_u64(out, reader.u64()?),
        DECIMAL => out.extend_from_slice(reader.bytes()?),
        STRING | STRING_ESCAPED => put_quoted(out, reader.bytes()?),
        ARRAY if depth < 200 => {
            let end = reader.u32()? as usize;
            let count = reader.u32()?;
            let end = reader.position().checked_add(end)?;
            out.push(b'[');
            for i in 0..count {
                if i > 0 {
                    out.push(b',');
                }
                put(reader, out, depth + 1)?;
            }
            out.push(b']');
            (reader.position() == end).then_some(())?;
        }
        OBJECT if depth < 200 => {
            let len = reader.u32()? as usize;
            let count = reader.u32()?;
            let end = reader.position().checked_add(len)?;
            out.push(b'{');
            for i in 0..count {
                if i > 0 {
                    out.push(b',');
                }
                let name_len = usize::try_from(reader.varint()? >> 1).ok()?;
                put_quoted(out, reader.take(name_len)?);
                out.push(b':');
                put(reader, out, depth + 1)?;
            }
            out.push(b'}');
            // The table of members, if there is one, is not printed.
            reader.take(end.checked_sub(reader.position())?)?;
        }
        _ => return None,
    }
    Some(())
}

fn put_quoted(out: &mut Vec<u8>, escaped: &[u8]) {
    out.reserve(escaped.len() + 2);
    out.push(b'"');
    out.extend_from_slice(escaped);
    out.push(b'"');
}

fn put_i64(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    put_u64(out, number.unsigned_abs());
}

fn put_u64(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
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
