//! Messages and their wire form (RFC 1035 §4, RFC 6891, RFC 2136), as far as this crate asks.
//!
//! Sans-I/O. What comes from the network is bounded by its own length: compression pointers lead
//! strictly backwards, so no name takes more steps than its message has bytes.
#![deny(clippy::indexing_slicing)]

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::Name;

/// What is asked, or what a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordType {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Everything (RFC 2136: every record of a name).
    Any,
    /// Which authorities may issue certificates (RFC 8659).
    Caa,
    /// Another name for the same thing.
    Cname,
    /// Name server.
    Ns,
    /// Extension (RFC 6891); not a record that can be asked for.
    Opt,
    /// Start of a zone.
    Soa,
    /// Signature of a transaction (RFC 8945); not a record that can be asked for.
    Tsig,
    /// Text.
    Txt,
    /// Any other, by number.
    Other(u16),
}

/// The class of a name. Nearly always the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// Any class; in an update: delete the whole record set.
    Any,
    /// Chaos: what name servers say about themselves and about who asks.
    Chaos,
    /// The internet.
    Internet,
    /// In an update: delete this one record.
    None,
    /// Any other, by number.
    Other(u16),
}

/// How a server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rcode(pub u16);

/// What a record holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordData {
    /// IPv4 address.
    A(Ipv4Addr),
    /// IPv6 address.
    Aaaa(Ipv6Addr),
    /// Which authorities may issue certificates.
    Caa {
        /// Bit 7: who does not know the tag must not issue.
        flags: u8,
        /// `issue`, `issuewild`, `iodef`, …, in lower case.
        tag: String,
        /// Meaning depends on the tag.
        value: Vec<u8>,
    },
    /// Another name for the same thing.
    Cname(Name),
    /// Name server.
    Ns(Name),
    /// Any other, as it stood in the message; also a deletion in an update, which is empty.
    Other(Vec<u8>),
    /// Start of a zone.
    Soa {
        /// The primary server.
        primary: Name,
        /// Version of the zone.
        serial: u32,
        /// How long "there is no such record" may be kept, in seconds.
        negative_ttl: u32,
    },
    /// Text, in pieces of at most 255 bytes.
    Txt(Vec<Vec<u8>>),
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Whose record.
    pub name: Name,
    /// Its type.
    pub kind: RecordType,
    /// Its class.
    pub class: Class,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    /// What it holds.
    pub data: RecordData,
}

/// A question, or in an update the zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) kind: RecordType,
    pub(crate) class: Class,
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Query = 0,
    Update = 5,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: u16,
    pub(crate) is_response: bool,
    pub(crate) opcode: u8,
    pub(crate) is_authoritative: bool,
    pub(crate) is_truncated: bool,
    pub(crate) wants_recursion: bool,
    pub(crate) rcode: Rcode,
    pub(crate) questions: Vec<Question>,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
    /// Where the last additional record begins, if it is a signature.
    pub(crate) tsig_at: Option<usize>,
}

/// Why bytes are no message. The peer is at fault, or somebody in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// A name is malformed, or a compression pointer does not lead backwards.
    #[error("a name in the message is malformed")]
    Name,
    /// A record does not fit its own length.
    #[error("a record in the message does not fit its length")]
    Record,
    /// The message ends early.
    #[error("the message is cut off")]
    Truncated,
}

impl Record {
    /// A record of the internet class.
    pub(crate) fn new(name: Name, ttl: u32, data: RecordData) -> Self {
        let kind = match &data {
            RecordData::A(_) => RecordType::A,
            RecordData::Aaaa(_) => RecordType::Aaaa,
            RecordData::Caa { .. } => RecordType::Caa,
            RecordData::Cname(_) => RecordType::Cname,
            RecordData::Ns(_) => RecordType::Ns,
            RecordData::Other(_) => RecordType::Other(0),
            RecordData::Soa { .. } => RecordType::Soa,
            RecordData::Txt(_) => RecordType::Txt,
        };
        Self { name, kind, class: Class::Internet, ttl, data }
    }
}

impl RecordData {
    /// The address that the record holds.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::A(address) => Some((*address).into()),
            Self::Aaaa(address) => Some((*address).into()),
            _ => None,
        }
    }

    /// The pieces of a text put together. `None` for other records, and for text outside UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Txt(pieces) => String::from_utf8(pieces.concat()).ok(),
            _ => None,
        }
    }

    /// A text in pieces that fit.
    pub(crate) fn of_text(text: &str) -> Self {
        match text.is_empty() {
            true => Self::Txt(vec![Vec::new()]),
            false => Self::Txt(text.as_bytes().chunks(255).map(<[u8]>::to_vec).collect()),
        }
    }
}

impl fmt::Display for RecordData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(address) => write!(f, "{address}"),
            Self::Aaaa(address) => write!(f, "{address}"),
            Self::Caa { flags, tag, value } => {
                write!(f, "{flags} {tag} \"{}\"", value.escape_ascii())
            }
            Self::Cname(name) | Self::Ns(name) => write!(f, "{name}"),
            Self::Other(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Soa { primary, serial, .. } => write!(f, "{primary} {serial}"),
            Self::Txt(pieces) => write!(f, "\"{}\"", pieces.concat().escape_ascii()),
        }
    }
}

impl Rcode {
    /// No error.
    pub const NO_ERROR: Self = Self(0);
    /// The server found our message malformed.
    pub const FORMAT_ERROR: Self = Self(1);
    /// The server failed.
    pub const SERVER_FAILURE: Self = Self(2);
    /// There is no such name.
    pub const NO_SUCH_NAME: Self = Self(3);
    /// The server does not know this kind of message.
    pub const NOT_IMPLEMENTED: Self = Self(4);
    /// The server does not want to answer us.
    pub const REFUSED: Self = Self(5);
    /// The server is not in charge of the zone, or does not know our key.
    pub const NOT_AUTHORITATIVE: Self = Self(9);
    /// The name is not in the zone that an update names.
    pub const NOT_ZONE: Self = Self(10);
    /// TSIG: the signature does not fit.
    pub const BAD_SIGNATURE: Self = Self(16);
    /// TSIG: the server does not know the key.
    pub const BAD_KEY: Self = Self(17);
    /// TSIG: the two clocks differ.
    pub const BAD_TIME: Self = Self(18);
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::NO_ERROR => "NOERROR",
            Self::FORMAT_ERROR => "FORMERR",
            Self::SERVER_FAILURE => "SERVFAIL",
            Self::NO_SUCH_NAME => "NXDOMAIN",
            Self::NOT_IMPLEMENTED => "NOTIMP",
            Self::REFUSED => "REFUSED",
            Self::NOT_AUTHORITATIVE => "NOTAUTH",
            Self::NOT_ZONE => "NOTZONE",
            Self::BAD_SIGNATURE => "BADSIG",
            Self::BAD_KEY => "BADKEY",
            Self::BAD_TIME => "BADTIME",
            Self(code) => return write!(f, "RCODE {code}"),
        };
        f.write_str(name)
    }
}

impl Message {
    /// A question.
    pub(crate) fn query(id: u16, name: Name, kind: RecordType, class: Class) -> Self {
        Self { questions: vec![Question { name, kind, class }], ..Self::new(id, Opcode::Query) }
    }

    /// An update of a zone (RFC 2136): its section of updates is called `authorities` here.
    pub(crate) fn update(id: u16, zone: Name, updates: Vec<Record>) -> Self {
        let zone = Question { name: zone, kind: RecordType::Soa, class: Class::Internet };
        let message = Self::new(id, Opcode::Update);
        Self { questions: vec![zone], authorities: updates, ..message }
    }

    fn new(id: u16, opcode: Opcode) -> Self {
        Self {
            id,
            is_response: false,
            opcode: opcode as u8,
            is_authoritative: false,
            is_truncated: false,
            wants_recursion: false,
            rcode: Rcode::NO_ERROR,
            questions: Vec::new(),
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            tsig_at: None,
        }
    }

    /// The wire form. Names are not compressed: what we send is small.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        let flags = u16::from(self.is_response) << 15
            | u16::from(self.opcode & 15) << 11
            | u16::from(self.is_authoritative) << 10
            | u16::from(self.is_truncated) << 9
            | u16::from(self.wants_recursion) << 8
            | self.rcode.0 & 15;
        put_u16(&mut out, self.id);
        put_u16(&mut out, flags);
        put_count(&mut out, self.questions.len());
        for section in [&self.answers, &self.authorities, &self.additionals] {
            put_count(&mut out, section.len());
        }
        for question in &self.questions {
            out.extend_from_slice(question.name.wire());
            put_u16(&mut out, question.kind.code());
            put_u16(&mut out, question.class.code());
        }
        for record in [&self.answers, &self.authorities, &self.additionals].into_iter().flatten() {
            record.encode(&mut out);
        }
        out
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`MessageError`]; whoever sent it is at fault.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader { bytes, at: 0 };
        let (id, flags) = (reader.u16()?, reader.u16()?);
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        let [question_count, answer_count, authority_count, additional_count] = counts;
        let questions = (0..question_count).map(|_| reader.question()).collect::<Result<_, _>>()?;
        let answers = reader.records(answer_count)?;
        let authorities = reader.records(authority_count)?;
        let mut additionals = reader.records(additional_count.saturating_sub(1))?;
        let last_at = reader.at;
        additionals.extend(reader.records(additional_count.min(1))?);
        let last = additionals.last().filter(|last| last.kind == RecordType::Tsig);
        // RFC 6891 §6.1.3: the upper bits of the code stand in the OPT record.
        let opt = additionals.iter().find(|record| record.kind == RecordType::Opt);
        let rcode_high = opt.map_or(0, |opt| u16::try_from(opt.ttl >> 24).unwrap_or(0));
        Ok(Self {
            id,
            is_response: flags & 0x8000 != 0,
            opcode: u8::try_from(flags >> 11 & 15).expect("four bits"),
            is_authoritative: flags & 0x0400 != 0,
            is_truncated: flags & 0x0200 != 0,
            wants_recursion: flags & 0x0100 != 0,
            rcode: Rcode(rcode_high << 4 | flags & 15),
            questions,
            answers,
            authorities,
            tsig_at: last.map(|_| last_at),
            additionals,
        })
    }

    /// Adds the record that says how large an answer over UDP may be.
    pub(crate) fn add_opt(&mut self, payload_bytes_max: u16) {
        self.additionals.push(Record {
            name: Name::root(),
            kind: RecordType::Opt,
            class: Class::from_code(payload_bytes_max),
            ttl: 0,
            data: RecordData::Other(Vec::new()),
        });
    }
}

impl Record {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name.wire());
        put_u16(out, self.kind.code());
        put_u16(out, self.class.code());
        out.extend_from_slice(&self.ttl.to_be_bytes());
        let mut data = Vec::new();
        self.data.encode(&mut data);
        put_count(out, data.len());
        out.extend_from_slice(&data);
    }
}

impl RecordData {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::A(address) => out.extend_from_slice(&address.octets()),
            Self::Aaaa(address) => out.extend_from_slice(&address.octets()),
            Self::Caa { flags, tag, value } => {
                out.push(*flags);
                put_piece(out, tag.as_bytes());
                out.extend_from_slice(value);
            }
            Self::Cname(name) | Self::Ns(name) => out.extend_from_slice(name.wire()),
            Self::Other(bytes) => out.extend_from_slice(bytes),
            Self::Soa { primary, serial, negative_ttl } => {
                out.extend_from_slice(primary.wire());
                out.extend_from_slice(Name::root().wire());
                for value in [*serial, 0, 0, 0, *negative_ttl] {
                    out.extend_from_slice(&value.to_be_bytes());
                }
            }
            Self::Txt(pieces) => pieces.iter().for_each(|piece| put_piece(out, piece)),
        }
    }
}

/// A cursor over a message.
pub(crate) struct Reader<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn u8(&mut self) -> Result<u8, MessageError> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, MessageError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, MessageError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], MessageError> {
        let end = self.at.checked_add(count).ok_or(MessageError::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(MessageError::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("as many bytes were taken"))
    }

    /// A name, with its compression undone.
    pub(crate) fn name(&mut self) -> Result<Name, MessageError> {
        let mut labels: Vec<&'a [u8]> = Vec::new();
        let mut after = None;
        // Each pointer must lead before the part it stands in, so this ends.
        let mut part_at = self.at;
        let mut total = 1;
        loop {
            let length = self.u8()?;
            match length {
                0 => break,
                1..=63 => {
                    total += 1 + usize::from(length);
                    if total > 255 {
                        return Err(MessageError::Name);
                    }
                    labels.push(self.take(usize::from(length))?);
                }
                0xc0.. => {
                    let target = usize::from(length & 0x3f) << 8 | usize::from(self.u8()?);
                    after.get_or_insert(self.at);
                    if target >= part_at {
                        return Err(MessageError::Name);
                    }
                    part_at = target;
                    self.at = target;
                }
                _ => return Err(MessageError::Name),
            }
        }
        if let Some(after) = after {
            self.at = after;
        }
        Name::from_labels(labels.into_iter()).map_err(|_| MessageError::Name)
    }

    fn question(&mut self) -> Result<Question, MessageError> {
        let name = self.name()?;
        let (kind, class) = (RecordType::from_code(self.u16()?), Class::from_code(self.u16()?));
        Ok(Question { name, kind, class })
    }

    fn records(&mut self, count: u16) -> Result<Vec<Record>, MessageError> {
        // Not `with_capacity(count)`: the count is a claim, the bytes are not.
        (0..count).map(|_| self.record()).collect()
    }

    fn record(&mut self) -> Result<Record, MessageError> {
        let name = self.name()?;
        let (kind, class) = (RecordType::from_code(self.u16()?), Class::from_code(self.u16()?));
        let ttl = self.u32()?;
        let length = usize::from(self.u16()?);
        let at = self.at;
        let raw = self.take(length)?;
        let end = self.at;
        // Names within the data may point to anywhere before, so they are read from the whole.
        let mut data = Reader { bytes: self.bytes.get(..end).unwrap_or_default(), at };
        let is_empty_update = raw.is_empty();
        let data = match kind {
            _ if is_empty_update => RecordData::Other(Vec::new()),
            RecordType::A => RecordData::A(data.array::<4>()?.into()),
            RecordType::Aaaa => RecordData::Aaaa(data.array::<16>()?.into()),
            RecordType::Caa => data.caa(end)?,
            RecordType::Cname => RecordData::Cname(data.name()?),
            RecordType::Ns => RecordData::Ns(data.name()?),
            RecordType::Soa => data.soa()?,
            RecordType::Txt => data.txt(end)?,
            _ => RecordData::Other(raw.to_vec()),
        };
        Ok(Record { name, kind, class, ttl, data })
    }

    fn caa(&mut self, end: usize) -> Result<RecordData, MessageError> {
        let flags = self.u8()?;
        let length = usize::from(self.u8()?);
        let tag = String::from_utf8_lossy(self.take(length)?).to_ascii_lowercase();
        let value = self.take(end.saturating_sub(self.at))?.to_vec();
        Ok(RecordData::Caa { flags, tag, value })
    }

    fn soa(&mut self) -> Result<RecordData, MessageError> {
        let (primary, _mailbox) = (self.name()?, self.name()?);
        let serial = self.u32()?;
        let _refresh_retry_expire = self.take(12)?;
        Ok(RecordData::Soa { primary, serial, negative_ttl: self.u32()? })
    }

    fn txt(&mut self, end: usize) -> Result<RecordData, MessageError> {
        let mut pieces = Vec::new();
        while self.at < end {
            let length = usize::from(self.u8()?);
            pieces.push(self.take(length).map_err(|_| MessageError::Record)?.to_vec());
        }
        Ok(RecordData::Txt(pieces))
    }
}

impl RecordType {
    /// The number of the type.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Ns => 2,
            Self::Cname => 5,
            Self::Soa => 6,
            Self::Txt => 16,
            Self::Aaaa => 28,
            Self::Opt => 41,
            Self::Tsig => 250,
            Self::Any => 255,
            Self::Caa => 257,
            Self::Other(code) => code,
        }
    }

    /// The type of a number.
    #[must_use]
    pub const fn from_code(code: u16) -> Self {
        match code {
            1 => Self::A,
            2 => Self::Ns,
            5 => Self::Cname,
            6 => Self::Soa,
            16 => Self::Txt,
            28 => Self::Aaaa,
            41 => Self::Opt,
            250 => Self::Tsig,
            255 => Self::Any,
            257 => Self::Caa,
            code => Self::Other(code),
        }
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Any => "ANY",
            Self::Caa => "CAA",
            Self::Cname => "CNAME",
            Self::Ns => "NS",
            Self::Opt => "OPT",
            Self::Soa => "SOA",
            Self::Tsig => "TSIG",
            Self::Txt => "TXT",
            Self::Other(code) => return write!(f, "TYPE{code}"),
        };
        f.write_str(name)
    }
}

impl Class {
    /// The number of the class.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Internet => 1,
            Self::Chaos => 3,
            Self::None => 254,
            Self::Any => 255,
            Self::Other(code) => code,
        }
    }

    /// The class of a number.
    #[must_use]
    pub const fn from_code(code: u16) -> Self {
        match code {
            1 => Self::Internet,
            3 => Self::Chaos,
            254 => Self::None,
            255 => Self::Any,
            code => Self::Other(code),
        }
    }
}

pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    put_u16(out, u16::try_from(count).expect("a message of ours has few and short parts"));
}

/// At most 255 bytes behind their length. Longer pieces do not come from us.
fn put_piece(out: &mut Vec<u8>, piece: &[u8]) {
    let piece = piece.get(..255).unwrap_or(piece);
    out.push(u8::try_from(piece.len()).expect("at most 255"));
    out.extend_from_slice(piece);
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_query_is_as_the_standard_draws_it() {
        let message = Message::query(0x1234, name("a.example"), RecordType::Txt, Class::Internet);
        let wire = b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\
                     \x01a\x07example\x00\x00\x10\x00\x01";
        assert_eq!(message.encode(), wire);
        assert_eq!(Message::decode(wire).unwrap(), message);
    }

    #[test]
    fn compressed_names() {
        let head = b"\0\0\x84\0\0\0\0\x01\0\0\0\0";
        let record = |name: &[u8], data: &[u8]| {
            let mut wire = [head.as_slice(), name].concat();
            wire.extend([0, 5, 0, 1, 0, 0, 0, 60, 0, u8::try_from(data.len()).unwrap()]);
            wire.extend(data);
            Message::decode(&wire).map(|message| message.answers[0].data.to_string())
        };
        let plain = b"\x01a\x01b\0";
        assert_eq!(record(plain, b"\x01c\xc0\x0e"), Ok("c.b".to_owned()));
        // To itself, forwards, into nothing, and a length that does not exist.
        assert_eq!(record(b"\xc0\x0c", b"\0"), Err(MessageError::Name));
        assert_eq!(record(b"\xc0\x20", b"\0"), Err(MessageError::Name));
        assert_eq!(record(b"\x80\x01", b"\0"), Err(MessageError::Name));
        assert_eq!(record(plain, b"\x05c"), Err(MessageError::Truncated));
    }

    #[test]
    fn texts_longer_than_a_piece() {
        let text = "x".repeat(600);
        let data = RecordData::of_text(&text);
        assert_eq!(data.text(), Some(text));
        assert!(matches!(&data, RecordData::Txt(pieces) if pieces.len() == 3));
    }

    fn any_name() -> impl Strategy<Value = Name> {
        proptest::collection::vec("[a-z0-9_-]{1,20}", 1..6)
            .prop_map(|labels| labels.join(".").parse().unwrap())
    }

    fn any_data() -> impl Strategy<Value = RecordData> {
        let piece = || proptest::collection::vec(any::<u8>(), 0..=255);
        prop_oneof![
            any::<[u8; 4]>().prop_map(|bytes| RecordData::A(bytes.into())),
            any::<[u8; 16]>().prop_map(|bytes| RecordData::Aaaa(bytes.into())),
            any_name().prop_map(RecordData::Cname),
            any_name().prop_map(RecordData::Ns),
            proptest::collection::vec(piece(), 1..4).prop_map(RecordData::Txt),
            (any_name(), any::<u32>(), any::<u32>()).prop_map(|(primary, serial, negative_ttl)| {
                RecordData::Soa { primary, serial, negative_ttl }
            }),
            (any::<u8>(), "[a-z]{1,15}", piece()).prop_map(|(flags, tag, value)| RecordData::Caa {
                flags,
                tag,
                value
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            id: u16,
            question in any_name(),
            records in proptest::collection::vec((any_name(), any::<u32>(), any_data()), 0..8),
        ) {
            let mut message = Message::query(id, question, RecordType::A, Class::Internet);
            let record = |(name, ttl, data)| Record::new(name, ttl, data);
            message.answers = records.into_iter().map(record).collect();
            message.is_response = true;
            prop_assert_eq!(Message::decode(&message.encode()).unwrap(), message);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Message::decode(&bytes);
        }

        #[test]
        fn no_change_of_a_message_panics(
            records in proptest::collection::vec((any_name(), any_data()), 1..5),
            changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..8),
            cut: u16,
        ) {
            let question = name("x.example");
            let mut message = Message::query(1, question, RecordType::A, Class::Internet);
            message.answers =
                records.into_iter().map(|(name, data)| Record::new(name, 1, data)).collect();
            let mut wire = message.encode();
            for (at, byte) in changes {
                let at = usize::from(at) % wire.len();
                wire[at] = byte;
            }
            wire.truncate(usize::from(cut));
            if let Ok(message) = Message::decode(&wire) {
                // What was understood can be said again.
                let again = Message::decode(&message.encode());
                prop_assert!(again.is_ok() || message.answers.len() > 1000);
            }
        }
    }
}
