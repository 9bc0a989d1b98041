//! The TLS machine of one connection: ciphertext in and out of buffers, no I/O.
//!
//! rustls' unbuffered interface, because the buffered one keeps 4 KiB per idle connection.

use hearth_http_core::{ClientCertificate, TlsInfo};
use rustls::{
    Error, HandshakeKind, ProtocolVersion,
    crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic},
};

use super::{buffer::Buffer, config::Chosen};

/// Keys and state of one connection.
pub(super) struct Session {
    // Boxed, because futures that hold it are moved about.
    tls: Box<UnbufferedServerConnection>,
    /// The peer said that it sends no more.
    pub(super) is_peer_done: bool,
    /// Something was said to the peer, so that it may expect alerts to be encrypted.
    pub(super) has_spoken: bool,
    /// See [`TlsInfo::client_trust`].
    client_trust: u32,
    /// What went wrong. rustls must not be asked again: it would look at the same input.
    failure: Option<Error>,
}

/// The three queues between a session and the outside.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Received and not decrypted.
    pub(super) sealed: Buffer,
    /// Decrypted and not asked for.
    pub(super) opened: Buffer,
    /// Encrypted and not sent.
    pub(super) outgoing: Buffer,
}

/// What [`Session::run`] is to do, besides taking in what was received.
#[derive(Clone, Copy)]
enum Goal<'a> {
    /// Stop when that many bytes can be read.
    Open(usize),
    /// Encrypt this.
    Seal(&'a [u8]),
    /// Say that we send no more.
    Close,
}

impl Session {
    pub(super) fn new(chosen: Chosen) -> Result<Self, Error> {
        let Chosen { config, client_trust } = chosen;
        let tls = Box::new(UnbufferedServerConnection::new(config)?);
        Ok(Self { tls, is_peer_done: false, has_spoken: false, client_trust, failure: None })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Decrypts what was received until `want` bytes can be read or there is no more. What rustls
    /// wants to tell the peer is put into `outgoing`, also in case of an error.
    pub(super) fn open(&mut self, queues: &mut Queues, want: usize) -> Result<(), Error> {
        self.run(queues, Goal::Open(want))
    }

    /// Encrypts `plaintext` behind what is in `outgoing`.
    pub(super) fn seal(&mut self, queues: &mut Queues, plaintext: &[u8]) -> Result<(), Error> {
        self.run(queues, Goal::Seal(plaintext))
    }

    /// Says behind what is in `outgoing` that nothing follows; after a failure the alert has said it.
    pub(super) fn close(&mut self, queues: &mut Queues) {
        let _alert = self.run(queues, Goal::Close);
    }

    /// What the handshake agreed on.
    pub(super) fn info(&self, server_name: Option<Box<str>>) -> TlsInfo {
        let suite = self.tls.negotiated_cipher_suite();
        TlsInfo {
            server_name,
            alpn: self.tls.alpn_protocol().map(Into::into),
            version: match self.tls.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "",
            },
            cipher_suite: suite.and_then(|suite| suite.suite().as_str()).unwrap_or_default(),
            resumed: self.tls.handshake_kind() == Some(HandshakeKind::Resumed),
            client_trust: self.client_trust,
            client_certificate: self.client_certificate(),
        }
    }

    fn client_certificate(&self) -> Option<ClientCertificate> {
        let der = self.tls.peer_certificates()?.first()?;
        // The SHA-256 that is here anyway, inside a suite of the provider.
        let digest = TLS13_AES_128_GCM_SHA256.tls13()?.common.hash_provider.hash(der);
        let sha256 = digest.as_ref().try_into().ok()?;
        Some(ClientCertificate { der: (**der).into(), sha256 })
    }

    fn run(&mut self, queues: &mut Queues, goal: Goal<'_>) -> Result<(), Error> {
        let result = match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => self.advance(queues, goal),
        };
        self.failure = result.clone().err();
        result
    }

    /// Lets rustls go from state to state until it waits for the peer or `goal` is reached.
    fn advance(&mut self, queues: &mut Queues, goal: Goal<'_>) -> Result<(), Error> {
        let Queues { sealed, opened, outgoing } = queues;
        loop {
            // Always all that is there: rustls remembers offsets into what it has seen of it.
            let UnbufferedStatus { mut discard, state, .. } =
                self.tls.process_tls_records(sealed.filled_mut());
            let mut done = false;
            match state {
                Err(error) => {
                    sealed.consume(discard);
                    self.encode_alert(sealed, outgoing);
                    return Err(error);
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        opened.put(record.payload);
                    }
                    done = matches!(goal, Goal::Open(want) if opened.len() >= want);
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    put(outgoing, |space| {
                        data.encode(space).map_err(|error| required_to_encode(&error))
                    })?;
                    self.has_spoken = true;
                }
                // What is in `outgoing` is sent in order, so it may be called sent now.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    done = std::mem::replace(&mut self.is_peer_done, true);
                }
                Ok(ConnectionState::WriteTraffic(traffic)) => {
                    reach(goal, traffic, outgoing)?;
                    done = true;
                }
                Ok(ConnectionState::BlockedHandshake) => done = true,
                Ok(_) => return Err(Error::General("early data is not offered".into())),
            }
            sealed.consume(discard);
            if done {
                return Ok(());
            }
        }
    }

    /// Puts the alert that belongs to an error into `outgoing`, behind what was to be said before it.
    fn encode_alert(&mut self, sealed: &mut Buffer, outgoing: &mut Buffer) {
        loop {
            let UnbufferedStatus { state, .. } = self.tls.process_tls_records(sealed.filled_mut());
            match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    let before = outgoing.len();
                    let encoded = put(outgoing, |space| {
                        data.encode(space).map_err(|error| required_to_encode(&error))
                    });
                    self.has_spoken = true;
                    let record = outgoing.filled().get(before..).unwrap_or_default();
                    // Behind its alert rustls must not be asked again.
                    if encoded.is_err() || is_alert(record) {
                        return;
                    }
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                _ => return,
            }
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

/// Does what is possible only once the handshake is over.
fn reach(
    goal: Goal<'_>,
    mut traffic: WriteTraffic<'_, ServerConnectionData>,
    outgoing: &mut Buffer,
) -> Result<(), Error> {
    match goal {
        Goal::Open(_) => Ok(()),
        Goal::Seal(plaintext) => put(outgoing, |space| {
            traffic.encrypt(plaintext, space).map_err(|error| required_to_encrypt(&error))
        }),
        Goal::Close => put(outgoing, |space| {
            traffic.queue_close_notify(space).map_err(|error| required_to_encrypt(&error))
        }),
    }
}

/// Calls `encode` with space behind what is in `outgoing`, and again with as much as it requires.
fn put(
    outgoing: &mut Buffer,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), Error> {
    let mut space = 0;
    loop {
        match encode(outgoing.spare(space)) {
            Ok(len) => {
                outgoing.fill(len);
                return Ok(());
            }
            Err(Some(required)) if required > space => space = required,
            Err(_) => return Err(Error::EncryptError),
        }
    }
}

/// Whether this record is an alert, in TLS 1.3 under encryption: two bytes, their type and a tag of 16. No message
/// of the handshake is as short as that.
fn is_alert(record: &[u8]) -> bool {
    record.first() == Some(&21) || (record.first() == Some(&23) && record.len() == 5 + 19)
}

fn required_to_encode(error: &EncodeError) -> Option<usize> {
    match error {
        EncodeError::InsufficientSize(size) => Some(size.required_size),
        EncodeError::AlreadyEncoded => None,
    }
}

fn required_to_encrypt(error: &EncryptError) -> Option<usize> {
    match error {
        EncryptError::InsufficientSize(size) => Some(size.required_size),
        // The keys have encrypted as much as they may.
        EncryptError::EncryptExhausted => None,
    }
}
