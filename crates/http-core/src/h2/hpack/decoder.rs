//! From a header block to fields.

use std::collections::VecDeque;

use super::{
    ENTRY_OVERHEAD, huffman,
    table::{self, Kind},
};

/// One field of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::h2) struct Field<'a> {
    pub(in crate::h2) name: &'a [u8],
    pub(in crate::h2) value: &'a [u8],
    pub(in crate::h2) kind: Kind,
    /// Whether the value has only octets that may stand in one.
    pub(in crate::h2) is_valid: bool,
}

/// Why a block cannot be decoded: the tables of both ends differ from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::h2) enum Invalid {
    Compression,
    /// Much larger than what we announced to accept.
    TooLarge,
}

/// The state of decompression, which all blocks of a connection share.
#[derive(Debug)]
pub(in crate::h2) struct Decoder {
    /// The newest first.
    entries: VecDeque<Entry>,
    /// What the entries cost.
    size: usize,
    /// What they may cost, as the peer last said.
    capacity: usize,
    /// What the peer may say.
    capacity_max: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    text: Box<[u8]>,
    name_len: usize,
    kind: Kind,
    is_valid: bool,
}

impl Entry {
    fn field(&self) -> Field<'_> {
        let (name, value) = self.text.split_at_checked(self.name_len).unwrap_or_default();
        Field { name, value, kind: self.kind, is_valid: self.is_valid }
    }

    fn size(&self) -> usize {
        self.text.len() + ENTRY_OVERHEAD
    }
}

impl Decoder {
    pub(in crate::h2) fn new(capacity_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            capacity: capacity_max,
            capacity_max,
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Gives every field of `block` to `sink`. The sum of the fields' sizes (RFC 9113 §6.5.2) may not
    /// pass `bytes_max`: short references to long entries make small blocks large.
    pub(in crate::h2) fn decode(
        &mut self,
        block: &[u8],
        bytes_max: usize,
        mut sink: impl FnMut(Field<'_>),
    ) -> Result<(), Invalid> {
        let mut block = Block(block);
        let mut left = bytes_max;
        let mut may_resize = true;
        while let Some(first) = block.peek() {
            if first & 0xe0 == 0x20 {
                // RFC 7541 §4.2: only before the first field.
                if !may_resize {
                    return Err(Invalid::Compression);
                }
                self.resize(block.integer(5)?)?;
                continue;
            }
            may_resize = false;
            let size = if first & 0x80 != 0 {
                let field = self.entry(block.integer(7)?)?;
                sink(field);
                field.name.len() + field.value.len()
            } else {
                self.literal(&mut block, first, &mut sink)?
            };
            left = left.checked_sub(size + ENTRY_OVERHEAD).ok_or(Invalid::TooLarge)?;
        }
        Ok(())
    }

    /// A field whose value, and perhaps name, stands in the block.
    fn literal(
        &mut self,
        block: &mut Block<'_>,
        first: u8,
        sink: &mut impl FnMut(Field<'_>),
    ) -> Result<usize, Invalid> {
        let is_indexed = first & 0x40 != 0;
        let index = block.integer(if is_indexed { 6 } else { 4 })?;
        let mut name = std::mem::take(&mut self.name);
        let mut value = std::mem::take(&mut self.value);
        name.clear();
        value.clear();
        let kind = if index == 0 {
            block.string(&mut name)?;
            Kind::of(&name)
        } else {
            let field = self.entry(index)?;
            name.extend_from_slice(field.name);
            field.kind
        };
        block.string(&mut value)?;
        let is_valid = table::is_value(&value);
        sink(Field { name: &name, value: &value, kind, is_valid });
        if is_indexed {
            self.insert(&name, &value, kind, is_valid);
        }
        let size = name.len() + value.len();
        // Kept for the next literal, unless they have grown beyond what is usual.
        if name.capacity() + value.capacity() <= SCRATCH_MAX {
            (self.name, self.value) = (name, value);
        }
        Ok(size)
    }

    fn entry(&self, index: usize) -> Result<Field<'_>, Invalid> {
        if let Some((name, value, kind)) = table::entry(index) {
            let (name, value) = (name.as_bytes(), value.as_bytes());
            return Ok(Field { name, value, kind: *kind, is_valid: true });
        }
        let at = index.checked_sub(STATIC_LEN + 1).ok_or(Invalid::Compression)?;
        self.entries.get(at).map(Entry::field).ok_or(Invalid::Compression)
    }

    fn insert(&mut self, name: &[u8], value: &[u8], kind: Kind, is_valid: bool) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        self.evict(self.capacity.saturating_sub(size));
        // RFC 7541 §4.4: one that is larger than the table only empties it.
        if size <= self.capacity {
            let text = [name, value].concat().into_boxed_slice();
            self.entries.push_front(Entry { text, name_len: name.len(), kind, is_valid });
            self.size += size;
        }
    }

    fn resize(&mut self, capacity: usize) -> Result<(), Invalid> {
        if capacity > self.capacity_max {
            return Err(Invalid::Compression);
        }
        self.capacity = capacity;
        self.evict(capacity);
        Ok(())
    }

    fn evict(&mut self, size_max: usize) {
        while self.size > size_max {
            let Some(oldest) = self.entries.pop_back() else { break };
            self.size -= oldest.size();
        }
    }
}

/// What is left of a block.
struct Block<'a>(&'a [u8]);

impl Block<'_> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn byte(&mut self) -> Result<u8, Invalid> {
        let (first, rest) = self.0.split_first().ok_or(Invalid::Compression)?;
        self.0 = rest;
        Ok(*first)
    }

    /// RFC 7541 §5.1, with a prefix of so many bits.
    fn integer(&mut self, bits: u32) -> Result<usize, Invalid> {
        let mask = (1 << bits) - 1;
        let mut value = usize::from(self.byte()? & mask);
        if value < usize::from(mask) {
            return Ok(value);
        }
        // Four more octets: more than any length or index that is accepted.
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Invalid::Compression)
    }

    /// RFC 7541 §5.2.
    fn string(&mut self, out: &mut Vec<u8>) -> Result<(), Invalid> {
        let is_huffman = self.peek().is_some_and(|first| first & 0x80 != 0);
        let len = self.integer(7)?;
        let (text, rest) = self.0.split_at_checked(len).ok_or(Invalid::Compression)?;
        self.0 = rest;
        if is_huffman {
            return huffman::decode(text, out).map_err(|_| Invalid::Compression);
        }
        out.extend_from_slice(text);
        Ok(())
    }
}

const STATIC_LEN: usize = 61;
const SCRATCH_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<String, Invalid> {
        let mut text = String::new();
        decoder.decode(block, 10_000, |field| {
            let name = String::from_utf8_lossy(field.name);
            text += &format!("{name}: {}\n", String::from_utf8_lossy(field.value));
        })?;
        Ok(text)
    }

    #[test]
    fn requests_of_the_rfc() {
        // RFC 7541 §C.3 and §C.4: the same requests, plain and in Huffman code.
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let coded = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for blocks in [plain, coded] {
            let mut decoder = Decoder::new(4096);
            let want = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n";
            assert_eq!(decode(&mut decoder, &hex(blocks[0])).unwrap(), want);
            let want = format!("{want}cache-control: no-cache\n");
            assert_eq!(decode(&mut decoder, &hex(blocks[1])).unwrap(), want);
            let want = ":method: GET\n:scheme: https\n:path: /index.html\n\
                        :authority: www.example.com\ncustom-key: custom-value\n";
            assert_eq!(decode(&mut decoder, &hex(blocks[2])).unwrap(), want);
            assert_eq!((decoder.entries.len(), decoder.size), (3, 164));
        }
    }

    #[test]
    fn the_table_evicts_its_oldest() {
        // RFC 7541 §C.5: responses, with a table of 256 octets.
        let mut decoder = Decoder::new(256);
        let first = "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 \
                     2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 \
                     6c65 2e63 6f6d";
        decode(&mut decoder, &hex(first)).unwrap();
        assert_eq!(decoder.size, 222);
        let second = decode(&mut decoder, &hex("4803 3330 37c1 c0bf")).unwrap();
        assert!(second.starts_with(":status: 307\ncache-control: private\n"), "{second}");
        assert_eq!((decoder.entries.len(), decoder.size), (4, 222));
    }

    #[test]
    fn what_cannot_be_decoded() {
        let mut decoder = Decoder::new(4096);
        for block in [
            "80",
            "be",
            "ff",
            "ffffffffffff00",
            "40",
            "4001",
            "400161",
            "40016105",
            "7f2001",
            "8220",
            "3fe21f",
            "0001618fff",
            "00016184ffffffff",
        ] {
            let decoded = decode(&mut decoder, &hex(block));
            assert_eq!(decoded, Err(Invalid::Compression), "{block}");
        }
        assert_eq!(decode(&mut decoder, &hex("203fe11f82")).as_deref(), Ok(":method: GET\n"));
    }

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut decoder = Decoder::new(64);
        decode(&mut decoder, &hex("400161 0162")).unwrap();
        assert_eq!(decoder.size, 34);
        let long = [&hex("400161")[..], &[64], &[b'x'; 64]].concat();
        decode(&mut decoder, &long).unwrap();
        assert_eq!((decoder.entries.len(), decoder.size), (0, 0));
    }

    #[test]
    fn references_cannot_make_a_small_block_large() {
        let mut decoder = Decoder::new(4096);
        let entry = [&hex("400161")[..], &hex("7f8909"), &[b'x'; 1288]].concat();
        decode(&mut decoder, &entry).unwrap();
        assert_eq!(decode(&mut decoder, &[0xbe; 7]).map(|text| text.len()), Ok(7 * 1292));
        assert_eq!(decode(&mut decoder, &[0xbe; 8]), Err(Invalid::TooLarge));
    }
}
