//! What a ring knows of one connection.

use std::{collections::VecDeque, os::fd::OwnedFd, task::Waker};

use rustix::{io::Errno, net::RecvFlags};

use super::kernel::BUFFER_BYTES;

/// A connection, or the place for one.
#[derive(Default)]
pub(super) struct Slot {
    /// Open until nothing of the connection is under way, so that its number means no other.
    pub(super) socket: Option<OwnedFd>,
    /// Connections that were here before.
    pub(super) epoch: u32,
    pub(super) todo: Todo,
    pub(super) is_receiving: bool,
    pub(super) is_sending: bool,
    pub(super) is_polling: bool,
    pub(super) is_dropped: bool,
    /// Received bytes that were copied out of the pool; they come before those of `buffers`.
    pub(super) copied: Vec<u8>,
    /// Buffers of the pool that hold received bytes, and from where on. Empty between two turns.
    pub(super) buffers: VecDeque<(u16, u16)>,
    /// What comes after the last byte: nothing, or an error's number.
    pub(super) input_end: Option<Result<(), i32>>,
    /// To be sent in the next turn, or after what is being sent.
    pub(super) output: Vec<u8>,
    /// Why nothing can be sent any more.
    pub(super) output_error: Option<i32>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

/// What is to be handed over in the next turn.
#[derive(Default, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "a set")]
pub(super) struct Todo {
    /// The slot is in the ring's queue.
    pub(super) is_queued: bool,
    pub(super) receive: bool,
    /// End the reception.
    pub(super) stop: bool,
    pub(super) send: bool,
    pub(super) poll: bool,
    /// End the wait for room.
    pub(super) cut: bool,
}

impl Slot {
    /// Takes what there is without a buffer of the pool; for a slot that is not receiving and has no bytes.
    /// `false` if there is nothing.
    pub(super) fn receive_past_ring(&mut self) -> bool {
        let Some(socket) = &self.socket else { return false };
        let mut bytes = [0; BUFFER_BYTES];
        match rustix::net::recv(socket, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((0, _)) => self.input_end = Some(Ok(())),
            Ok((len, _)) => self.copied.extend_from_slice(bytes.get(..len).unwrap_or_default()),
            Err(Errno::AGAIN | Errno::INTR) => return false,
            Err(error) => self.input_end = Some(Err(error.raw_os_error())),
        }
        true
    }

    /// Notes something to do.
    pub(super) fn queue(
        &mut self,
        queue: &mut Vec<u32>,
        number: u32,
        note: impl FnOnce(&mut Todo),
    ) {
        note(&mut self.todo);
        if !std::mem::replace(&mut self.todo.is_queued, true) {
            queue.push(number);
        }
    }
}
