//! A client's hello, made by hand (RFC 8446 §4.1.2), so that it can be wrong.

/// The parts of a hello. What [`new`](Self::new) makes is accepted by every server of TLS 1.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// `legacy_version`; 0x0303.
    pub version: u16,
    /// 32 bytes.
    pub random: [u8; 32],
    /// `legacy_session_id`, at most 32 bytes.
    pub session_id: Vec<u8>,
    /// `cipher_suites`.
    pub ciphers: Vec<u16>,
    /// `legacy_compression_methods`; one zero.
    pub compressions: Vec<u8>,
    /// Type and content. `None`: there is not even their length.
    pub extensions: Option<Vec<(u16, Vec<u8>)>>,
}

/// Types of extensions, by the names of their registry.
pub mod extension {
    #![allow(missing_docs)]
    pub const SERVER_NAME: u16 = 0;
    pub const SUPPORTED_GROUPS: u16 = 10;
    pub const EC_POINT_FORMATS: u16 = 11;
    pub const SIGNATURE_ALGORITHMS: u16 = 13;
    pub const HEARTBEAT: u16 = 15;
    pub const ALPN: u16 = 16;
    pub const EXTENDED_MASTER_SECRET: u16 = 23;
    pub const PRE_SHARED_KEY: u16 = 41;
    pub const EARLY_DATA: u16 = 42;
    pub const SUPPORTED_VERSIONS: u16 = 43;
    pub const COOKIE: u16 = 44;
    pub const PSK_KEY_EXCHANGE_MODES: u16 = 45;
    pub const KEY_SHARE: u16 = 51;
    pub const RENEGOTIATION_INFO: u16 = 0xff01;
}

impl ClientHello {
    /// TLS 1.3 and 1.2, with a key for X25519.
    #[must_use]
    pub fn new(name: &str) -> Self {
        use extension::{
            EC_POINT_FORMATS, EXTENDED_MASTER_SECRET, KEY_SHARE, PSK_KEY_EXCHANGE_MODES,
            RENEGOTIATION_INFO, SERVER_NAME, SIGNATURE_ALGORITHMS, SUPPORTED_GROUPS,
            SUPPORTED_VERSIONS,
        };
        let host = [&[0][..], &with_len16(name.as_bytes())].concat();
        // Any 32 bytes are a key of X25519, unless they are one of a few.
        let share = [&[0, 29][..], &with_len16(&[9; 32])].concat();
        let extensions = vec![
            (SERVER_NAME, with_len16(&host)),
            (SUPPORTED_VERSIONS, vec![4, 3, 4, 3, 3]),
            (SUPPORTED_GROUPS, with_len16(&[0, 29, 0, 23])),
            (SIGNATURE_ALGORITHMS, with_len16(&[4, 3, 8, 4, 8, 7, 4, 1])),
            (KEY_SHARE, with_len16(&share)),
            (PSK_KEY_EXCHANGE_MODES, vec![1, 1]),
            (EC_POINT_FORMATS, vec![1, 0]),
            (EXTENDED_MASTER_SECRET, vec![]),
            (RENEGOTIATION_INFO, vec![0]),
        ];
        Self {
            version: 0x0303,
            random: [7; 32],
            session_id: vec![5; 32],
            ciphers: vec![0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0x00ff],
            compressions: vec![0],
            extensions: Some(extensions),
        }
    }

    /// TLS 1.2 alone.
    #[must_use]
    pub fn tls12(name: &str) -> Self {
        let mut hello = Self::new(name);
        hello.ciphers = vec![0xc02b, 0xc02f, 0xcca9];
        hello.remove(extension::SUPPORTED_VERSIONS);
        hello.remove(extension::KEY_SHARE);
        hello.remove(extension::PSK_KEY_EXCHANGE_MODES);
        hello
    }

    /// Leaves an extension out.
    pub fn remove(&mut self, kind: u16) {
        self.extensions.iter_mut().for_each(|list| list.retain(|(known, _)| *known != kind));
    }

    /// Puts an extension in the place of the one of its type, or behind all others.
    pub fn set(&mut self, kind: u16, content: &[u8]) {
        let list = self.extensions.get_or_insert_default();
        match list.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, known)) => *known = content.to_vec(),
            None => list.push((kind, content.to_vec())),
        }
    }

    /// What a handshake message of type 1 has in it.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        let mut content = self.version.to_be_bytes().to_vec();
        content.extend_from_slice(&self.random);
        content.extend(with_len8(&self.session_id));
        let ciphers: Vec<u8> = self.ciphers.iter().flat_map(|one| one.to_be_bytes()).collect();
        content.extend(with_len16(&ciphers));
        content.extend(with_len8(&self.compressions));
        if let Some(extensions) = &self.extensions {
            let mut list = Vec::new();
            for (kind, extension) in extensions {
                list.extend_from_slice(&kind.to_be_bytes());
                list.extend(with_len16(extension));
            }
            content.extend(with_len16(&list));
        }
        content
    }

    /// The handshake message.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let content = self.content();
        let len = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes();
        [&[1], len.get(1..).unwrap_or_default(), &content].concat()
    }

    /// The message in one record.
    #[must_use]
    pub fn record(&self) -> Vec<u8> {
        record(22, 0x0301, &self.message())
    }
}

/// A record of the record protocol, whatever is in it.
#[must_use]
pub fn record(kind: u8, version: u16, content: &[u8]) -> Vec<u8> {
    let mut record = vec![kind];
    record.extend_from_slice(&version.to_be_bytes());
    record.extend(with_len16(content));
    record
}

fn with_len8(content: &[u8]) -> Vec<u8> {
    let len = u8::try_from(content.len()).unwrap_or(u8::MAX);
    [&[len], content].concat()
}

fn with_len16(content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).unwrap_or(u16::MAX);
    [&len.to_be_bytes()[..], content].concat()
}
