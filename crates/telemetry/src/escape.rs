//! Hostile bytes in log lines: nothing a client sends may end a line, forge one, or steer a terminal.

/// Appends `text` as nginx does in its default log format: `"`, `\`, control bytes and everything
/// above `~` become `\xHH`.
pub(crate) fn push_hex(out: &mut Vec<u8>, text: &[u8]) {
    let mut plain = 0;
    for (at, &byte) in text.iter().enumerate() {
        if matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(text.get(plain..at).unwrap_or_default());
        out.extend_from_slice(b"\\x");
        out.extend_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
        plain = at + 1;
    }
    out.extend_from_slice(text.get(plain..).unwrap_or_default());
}

/// Appends `text` as the inside of a JSON string. What is not UTF-8 becomes U+FFFD.
pub(crate) fn push_json(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        push_json_str(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn push_json_str(out: &mut Vec<u8>, text: &str) {
    let mut plain = 0;
    for (at, char) in text.char_indices() {
        if !needs_json_escape(char) {
            continue;
        }
        out.extend_from_slice(text.as_bytes().get(plain..at).unwrap_or_default());
        match char {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            // All others lie in the basic plane, where one escape is enough.
            other => {
                let code = u32::from(other);
                out.extend_from_slice(b"\\u");
                out.extend([12, 8, 4, 0].map(|shift| hex((code >> shift & 15) as u8)));
            }
        }
        plain = at + char.len_utf8();
    }
    out.extend_from_slice(text.as_bytes().get(plain..).unwrap_or_default());
}

/// What JSON demands, and what would end a line or turn its direction in a viewer.
fn needs_json_escape(char: char) -> bool {
    matches!(
        char,
        '"' | '\\'
            | '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// Appends one line of the program log: control bytes inside it become `\xHH`, except the escape
/// byte where `allow_color`, since the formatter has already disarmed it in values.
pub(crate) fn push_line(out: &mut Vec<u8>, text: &[u8], allow_color: bool) {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    for &byte in text {
        if (byte < b' ' && !(byte == 0x1b && allow_color)) || byte == 0x7f {
            out.extend_from_slice(b"\\x");
            out.extend_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
        } else {
            out.push(byte);
        }
    }
    out.push(b'\n');
}

fn hex(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'A' + (nibble & 15) - 10,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(input: &[u8], want_hex: &str, want_json: &str) {
        let (mut as_hex, mut as_json) = (Vec::new(), Vec::new());
        push_hex(&mut as_hex, input);
        push_json(&mut as_json, input);
        assert_eq!(String::from_utf8_lossy(&as_hex), want_hex);
        assert_eq!(String::from_utf8_lossy(&as_json), want_json);
    }

    #[test]
    fn hostile_bytes() {
        check(b"plain /a?b=c", "plain /a?b=c", "plain /a?b=c");
        check(b"a\"b\\c", "a\\x22b\\x5Cc", "a\\\"b\\\\c");
        check(b"a\r\nGET /forged", "a\\x0D\\x0AGET /forged", "a\\u000D\\u000AGET /forged");
        check(b"\x1b[2J\x7f\0", "\\x1B[2J\\x7F\\x00", "\\u001B[2J\\u007F\\u0000");
        check(
            "é\u{85}\u{202e}".as_bytes(),
            "\\xC3\\xA9\\xC2\\x85\\xE2\\x80\\xAE",
            "é\\u0085\\u202E",
        );
        check(b"\xff\xc3", "\\xFF\\xC3", "\u{fffd}\u{fffd}");
        check(b"", "", "");
    }

    #[test]
    fn program_lines() {
        let mut out = Vec::new();
        push_line(&mut out, b"a\nb\x1b[0m\x07\n", true);
        push_line(&mut out, b"a\x1b[0m", false);
        assert_eq!(out, b"a\\x0Ab\x1b[0m\\x07\na\\x1B[0m\n");
    }

    proptest! {
        #[test]
        fn hex_is_printable_ascii(input: Vec<u8>) {
            let mut out = Vec::new();
            push_hex(&mut out, &input);
            prop_assert!(out.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'"'));
        }

        #[test]
        fn json_decodes_to_what_came(input: Vec<u8>) {
            let mut out = vec![b'"'];
            push_json(&mut out, &input);
            out.push(b'"');
            prop_assert!(!out.iter().any(u8::is_ascii_control));
            let decoded: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(decoded, String::from_utf8_lossy(&input));
        }
    }
}
