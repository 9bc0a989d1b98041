//! Cutting an input into documents, without parsing them.

use std::io::{self, BufRead};

use super::TransferError;
use crate::error::{Error, Result};

/// One document of the input, still text.
#[derive(Debug)]
pub(super) struct Item {
    /// Where it begins, from 1 on.
    pub(super) line: u64,
    /// `Err` says why it cannot be read.
    pub(super) text: std::result::Result<Vec<u8>, String>,
}

/// Cuts lines, or the elements of an array.
pub(super) struct Splitter<R> {
    input: R,
    line: u64,
    pub(super) bytes: u64,
    /// `None` before the first byte is known.
    is_array: Option<bool>,
    is_done: bool,
    bytes_max: usize,
}

impl<R: BufRead> Splitter<R> {
    /// No document may be longer than `bytes_max`.
    pub(super) fn new(input: R, bytes_max: usize) -> Self {
        Self { input, line: 1, bytes: 0, is_array: None, is_done: false, bytes_max }
    }

    /// The next document.
    pub(super) fn next_item(&mut self) -> Result<Option<Item>> {
        if self.is_done {
            return Ok(None);
        }
        let is_array = match self.is_array {
            Some(is_array) => is_array,
            None => {
                let is_array = self.skip_space()? == Some(b'[');
                if is_array {
                    self.consume(1);
                }
                *self.is_array.insert(is_array)
            }
        };
        if is_array { self.next_element() } else { self.next_line() }
    }

    fn next_line(&mut self) -> Result<Option<Item>> {
        loop {
            let line = self.line;
            let (mut text, mut too_long) = (Vec::new(), false);
            loop {
                let part = fill(&mut self.input)?;
                if part.is_empty() {
                    self.is_done = true;
                    break;
                }
                let end = part.iter().position(|byte| *byte == b'\n');
                let taken = end.unwrap_or(part.len());
                too_long |= text.len() + taken > self.bytes_max;
                if !too_long {
                    text.extend_from_slice(part.get(..taken).unwrap_or_default());
                }
                let used = taken + usize::from(end.is_some());
                self.consume(used);
                if end.is_some() {
                    self.line += 1;
                    break;
                }
            }
            if too_long {
                let text = Err(format!("longer than {} bytes", self.bytes_max));
                return Ok(Some(Item { line, text }));
            }
            if !text.trim_ascii().is_empty() {
                return Ok(Some(Item { line, text: Ok(text) }));
            }
            if self.is_done {
                return Ok(None);
            }
        }
    }

    fn next_element(&mut self) -> Result<Option<Item>> {
        match self.skip_space()? {
            Some(b']') => {
                self.consume(1);
                self.is_done = true;
                return match self.skip_space()? {
                    None => Ok(None),
                    Some(_) => Err(self.unreadable("something follows the array")),
                };
            }
            Some(b',') => {
                self.consume(1);
                self.skip_space()?;
            }
            _ => {}
        }
        let line = self.line;
        let mut text = Vec::new();
        let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
        loop {
            let part = fill(&mut self.input)?;
            if part.is_empty() {
                return Err(self.unreadable("the input ends within the array"));
            }
            let (mut used, mut ended) = (0, false);
            for byte in part {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if in_string => escaped = true,
                    b'"' => in_string = !in_string,
                    _ if in_string => {}
                    b'{' | b'[' => depth += 1,
                    b',' | b']' if depth == 0 => {
                        ended = true;
                        break;
                    }
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                self.line += u64::from(*byte == b'\n');
                used += 1;
            }
            text.extend_from_slice(part.get(..used).unwrap_or_default());
            self.consume(used);
            if text.len() > self.bytes_max {
                return Err(self.unreadable("a document of the array is too long"));
            }
            if ended {
                return Ok(Some(Item { line, text: Ok(text) }));
            }
        }
    }

    /// The next byte that is no white space, which is not consumed.
    fn skip_space(&mut self) -> Result<Option<u8>> {
        loop {
            let part = fill(&mut self.input)?;
            let Some(byte) = part.first().copied() else { return Ok(None) };
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            self.line += u64::from(byte == b'\n');
            self.consume(1);
        }
    }

    fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.bytes += count as u64;
    }

    fn unreadable(&self, reason: &str) -> Error {
        TransferError::Unreadable { line: self.line, reason: reason.to_owned() }.into()
    }
}

fn fill(input: &mut impl BufRead) -> Result<&[u8]> {
    // Two calls, because a borrow that is returned cannot be taken again in the loop.
    while let Err(e) = input.fill_buf() {
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(Error::io("read", "the input", e));
        }
    }
    input.fill_buf().map_err(|e| Error::io("read", "the input", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines and texts, read through buffers of every small size.
    #[track_caller]
    fn check(input: &str, want: &[(u64, &str)]) {
        for capacity in 1..12 {
            let reader = io::BufReader::with_capacity(capacity, input.as_bytes());
            let mut splitter = Splitter::new(reader, 100);
            let mut found = Vec::new();
            while let Some(item) = splitter.next_item().unwrap() {
                let text = item.text.map_or_else(
                    |e| format!("! {e}"),
                    |text| String::from_utf8(text).unwrap().trim().to_owned(),
                );
                found.push((item.line, text));
            }
            let want: Vec<_> =
                want.iter().map(|(line, text)| (*line, (*text).to_owned())).collect();
            assert_eq!(found, want, "{input:?}, buffers of {capacity}");
            assert_eq!(splitter.bytes, input.len() as u64);
        }
    }

    #[test]
    fn lines_and_arrays_are_cut() {
        check("", &[]);
        check(" \n\n", &[]);
        check(
            "{\"a\":1}\n\n {\"b\":2} \r\n{\"c\":3}",
            &[(1, "{\"a\":1}"), (3, "{\"b\":2}"), (4, "{\"c\":3}")],
        );
        check("[]", &[]);
        check(
            "\n[ {\"a\":[1,2]} ,\n{\"b\":\"],\\\"\"}\n]\n",
            &[(2, "{\"a\":[1,2]}"), (3, "{\"b\":\"],\\\"\"}")],
        );
        let long = "x".repeat(101);
        check(&format!("{long}\n{{}}"), &[(1, "! longer than 100 bytes"), (2, "{}")]);
    }

    #[test]
    fn broken_arrays_are_refused() {
        for (input, want) in [
            ("[{\"a\":1}", "line 1: the input ends within the array"),
            ("[{}\n] {}", "line 2: something follows the array"),
            ("[{\"a\":\"]", "line 1: the input ends within the array"),
        ] {
            let mut splitter = Splitter::new(input.as_bytes(), 100);
            let error = loop {
                match splitter.next_item() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{input} was accepted"),
                    Err(e) => break e.to_string(),
                }
            };
            assert_eq!(error, want);
        }
    }
}
