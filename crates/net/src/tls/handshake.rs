//! From the first byte of an encrypted stream to its first byte of content.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hearth_http_core::Transport;
use rustls::server::{Accepted, Acceptor};

use super::{
    Hold, TlsConfig, Turn,
    config::Chosen,
    pace::poll_turn,
    resolver,
    session::{Queues, Session},
    transport::{TlsTransport, poll_receive, poll_send},
};

/// Bytes of a handshake that are read at a time.
const PIECE: usize = 8 * 1024;
/// Bytes that may lie unprocessed during a handshake; rustls takes no message above 64 KiB.
const UNPROCESSED_MAX: usize = 80 * 1024;

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer went away; scanners and browsers that open connections on suspicion do that.
    #[error("the peer went away during the TLS handshake")]
    PeerGone,
    /// The peer speaks plain HTTP to an encrypted port. It was told so.
    #[error("the peer speaks plain HTTP on a TLS port")]
    PlainHttp,
    /// The peer, or our certificate, does not permit it. The peer was sent the alert.
    #[error("the TLS handshake failed")]
    Tls(#[source] rustls::Error),
    /// The peer took too long; see `Limits::handshake_timeout`.
    #[error("the TLS handshake timed out")]
    TimedOut,
    /// The stream failed.
    #[error("the stream failed during the TLS handshake")]
    Io(#[source] io::Error),
}

/// A handshake in progress.
#[derive(Debug)]
pub(crate) struct Handshake<T> {
    /// `None` after the end.
    io: Option<T>,
    queues: Queues,
    stage: Stage,
    server_name: Option<Box<str>>,
    turn: Option<Turn>,
    /// How long it will wait at most, until somebody was told.
    untold_hold: Option<Duration>,
}

#[derive(Debug)]
enum Stage {
    /// The client's hello says which configuration applies.
    Choose { config: Arc<TlsConfig>, acceptor: Box<AcceptorState> },
    /// Something has to be there before it goes on.
    Hold { chosen: Chosen, hold: Hold },
    /// The rest.
    Shake(Session),
    /// Failed; what is left to say is being said.
    Refuse(Option<HandshakeError>),
}

/// `Acceptor` has no Debug.
struct AcceptorState {
    acceptor: Acceptor,
    /// How much of what was received it has seen.
    seen: usize,
}

impl<T: Transport> Handshake<T> {
    pub(crate) fn new(io: T, config: &Arc<TlsConfig>) -> Self {
        let stage = match config.single() {
            Some(single) => begin(single),
            None => {
                let acceptor = AcceptorState { acceptor: Acceptor::default(), seen: 0 };
                Stage::Choose { config: config.clone(), acceptor: Box::new(acceptor) }
            }
        };
        Self {
            io: Some(io),
            queues: Queues::default(),
            stage,
            server_name: None,
            turn: None,
            untold_hold: None,
        }
    }

    /// Takes turns with other handshakes.
    pub(crate) fn in_turn(mut self, turn: Turn) -> Self {
        self.turn = Some(turn);
        self
    }

    /// How long the handshake will wait for something at most; told once.
    pub(crate) fn take_hold(&mut self) -> Option<Duration> {
        self.untold_hold.take()
    }

    /// The encrypted stream, once both sides agree. What follows the handshake, such as tickets,
    /// may still have to be flushed.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<TlsTransport<T>, HandshakeError>> {
        loop {
            if !self.queues.sealed.is_empty() {
                ready!(poll_turn(&mut self.turn, cx));
                self.advance();
            }
            if let Stage::Hold { chosen, hold } = &mut self.stage
                && hold.poll(cx).is_ready()
            {
                self.stage = begin(chosen.clone());
                continue;
            }
            if let Stage::Refuse(error) = &mut self.stage {
                let error = error.take().unwrap_or(HandshakeError::PeerGone);
                // One attempt: a peer that does not read its alert is not waited for.
                if let Some(io) = &mut self.io {
                    let _ = poll_send(io, &mut self.queues.outgoing, cx);
                }
                return Poll::Ready(Err(error));
            }
            if let Some(transport) = self.finish() {
                return Poll::Ready(Ok(transport));
            }
            let Some(io) = &mut self.io else {
                return Poll::Ready(Err(HandshakeError::PeerGone));
            };
            ready!(poll_send(io, &mut self.queues.outgoing, cx)).map_err(HandshakeError::Io)?;
            let received = poll_receive(io, &mut self.queues.sealed, PIECE, cx);
            if received.is_pending() {
                self.queues.sealed.settle();
            }
            if ready!(received).map_err(HandshakeError::Io)? == 0 {
                return Poll::Ready(Err(HandshakeError::PeerGone));
            }
        }
    }

    /// Takes in what was received.
    fn advance(&mut self) {
        let queues = &mut self.queues;
        let received = queues.sealed.filled();
        if received.len() > UNPROCESSED_MAX {
            let error = rustls::Error::General("more bytes than any handshake message has".into());
            if !matches!(&self.stage, Stage::Shake(session) if session.has_spoken) {
                queues.outgoing.put(alert(&error));
            }
            self.stage = Stage::Refuse(Some(HandshakeError::Tls(error)));
            return;
        }
        if is_plain_http(received) {
            queues.outgoing.put(PLAIN_HTTP_ANSWER);
            self.stage = Stage::Refuse(Some(HandshakeError::PlainHttp));
            return;
        }
        if let Stage::Choose { config, acceptor } = &mut self.stage {
            match acceptor.look_at(received) {
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    let chosen = config.choose(&hello);
                    if let Some(hold) = config.hold(&hello) {
                        self.untold_hold = Some(hold.at_most());
                        self.stage = Stage::Hold { chosen, hold };
                        return;
                    }
                    self.stage = begin(chosen);
                }
                Ok(None) => return,
                Err((error, told)) => {
                    queues.outgoing.put(if told.is_empty() { alert(&error) } else { &told });
                    self.stage = Stage::Refuse(Some(HandshakeError::Tls(error)));
                    return;
                }
            }
        }
        if let Stage::Shake(session) = &mut self.stage {
            // What a previous handshake left behind, by failing, is not this one's.
            let _of_another = resolver::take_server_name();
            let opened = session.open(queues, 1);
            if let Some(name) = resolver::take_server_name() {
                self.server_name = Some(name);
            }
            if let Err(error) = opened {
                // rustls keeps silent about some of them.
                if queues.outgoing.is_empty() && !session.has_spoken {
                    queues.outgoing.put(alert(&error));
                }
                self.stage = Stage::Refuse(Some(HandshakeError::Tls(error)));
            }
        }
    }

    /// The stream, if the handshake is over.
    fn finish(&mut self) -> Option<TlsTransport<T>> {
        match &self.stage {
            Stage::Shake(session) if !session.is_handshaking() => {}
            _ => return None,
        }
        let io = self.io.take()?;
        let Stage::Shake(session) = std::mem::replace(&mut self.stage, Stage::Refuse(None)) else {
            return None;
        };
        let info = session.info(self.server_name.take());
        Some(TlsTransport::new(io, session, std::mem::take(&mut self.queues), info))
    }
}

impl AcceptorState {
    fn look_at(&mut self, received: &[u8]) -> Result<Option<Accepted>, (rustls::Error, Vec<u8>)> {
        let mut unseen = received.get(self.seen..).unwrap_or_default();
        while !unseen.is_empty() {
            match self.acceptor.read_tls(&mut unseen) {
                Ok(len) if len > 0 => self.seen += len,
                _ => break,
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(accepted) => return Ok(accepted),
                Err((error, mut alert)) => {
                    let mut bytes = Vec::new();
                    let _infallible = alert.write_all(&mut bytes);
                    return Err((error, bytes));
                }
            }
        }
        Ok(None)
    }
}

impl std::fmt::Debug for AcceptorState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AcceptorState").field("seen", &self.seen).finish_non_exhaustive()
    }
}

fn begin(chosen: Chosen) -> Stage {
    match Session::new(chosen) {
        Ok(session) => Stage::Shake(session),
        Err(error) => Stage::Refuse(Some(HandshakeError::Tls(error))),
    }
}

/// Whether these bytes begin a request in the clear. No TLS record begins with a letter.
fn is_plain_http(received: &[u8]) -> bool {
    received.iter().take(3).all(u8::is_ascii_uppercase) && received.len() >= 3
}

/// The fatal alert for an error, in the clear (RFC 8446 §6.2).
fn alert(error: &rustls::Error) -> &'static [u8] {
    match error {
        // The peer has ended it already.
        rustls::Error::AlertReceived(_) => &[],
        rustls::Error::InvalidMessage(_) => &[21, 3, 3, 0, 2, 2, 50], // decode_error
        _ => &[21, 3, 3, 0, 2, 2, 40],                                // handshake_failure
    }
}

const PLAIN_HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
content-type: text/plain; charset=utf-8\r\n\
content-length: 55\r\n\
connection: close\r\n\r\n\
This port speaks HTTPS. Use https:// instead of http://";
