//! One connection of a ring.

use std::{
    io::{self, IoSlice},
    net::TcpStream,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::MutexGuard;
use tokio::io::ReadBuf;

use super::{Driver, Ring, SEND_BYTES};

/// A TCP stream whose input and small output go through a ring. May be used and dropped on any thread.
#[derive(Debug)]
pub(crate) struct RingStream {
    ring: Arc<Ring>,
    number: u32,
}

/// A lock and the slot it is for.
struct Locked<'a> {
    driver: MutexGuard<'a, Driver>,
    number: u32,
}

impl RingStream {
    /// Takes over a socket, which must not block.
    pub(crate) fn new(ring: &Arc<Ring>, stream: TcpStream) -> Self {
        let number = ring.driver.lock().open(OwnedFd::from(stream));
        Self { ring: ring.clone(), number }
    }

    fn lock(&self) -> Locked<'_> {
        Locked { driver: self.ring.driver.lock(), number: self.number }
    }

    /// As `AsyncRead`.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut locked = self.lock();
        let Driver { slots, kernel, wakers, .. } = &mut *locked.driver;
        let Some(slot) = slots.get_mut(self.number as usize) else { return gone() };
        let before = buf.filled().len();
        if !slot.copied.is_empty() {
            let len = slot.copied.len().min(buf.remaining());
            buf.put_slice(slot.copied.get(..len).unwrap_or_default());
            slot.copied.drain(..len);
            if slot.copied.is_empty() {
                // An idle connection owns no buffer.
                slot.copied = Vec::new();
            }
        }
        while buf.remaining() > 0
            && let Some((buffer, from)) = slot.buffers.front_mut()
        {
            let bytes = kernel.bytes(*buffer).get(usize::from(*from)..).unwrap_or_default();
            let len = bytes.len().min(buf.remaining());
            buf.put_slice(bytes.get(..len).unwrap_or_default());
            if len == bytes.len() {
                kernel.release(*buffer);
                slot.buffers.pop_front();
            } else {
                // No more than the length of a buffer.
                *from += u16::try_from(len).unwrap_or(0);
            }
        }
        if buf.filled().len() > before || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        match slot.input_end {
            Some(Ok(())) => return Poll::Ready(Ok(())),
            Some(Err(code)) => return Poll::Ready(Err(io::Error::from_raw_os_error(code))),
            None => {}
        }
        remember(&mut slot.reader, cx, wakers);
        if !slot.is_receiving {
            locked.want(|todo| todo.receive = true);
        }
        Poll::Pending
    }

    /// Takes bytes for the next turn, if they are few; otherwise sends them at once, as far as the
    /// socket takes them.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = slices.iter().map(|slice| slice.len()).sum::<usize>();
        let mut locked = self.lock();
        let Driver { slots, spare, .. } = &mut *locked.driver;
        let Some(slot) = slots.get_mut(self.number as usize) else { return gone() };
        if let Some(code) = slot.output_error {
            return Poll::Ready(Err(io::Error::from_raw_os_error(code)));
        }
        if slot.output.len() + len <= SEND_BYTES && !slot.is_sending {
            if slot.output.capacity() == 0 {
                slot.output = spare.pop().unwrap_or_else(|| Vec::with_capacity(SEND_BYTES));
            }
            slices.iter().for_each(|slice| slot.output.extend_from_slice(slice));
            locked.want(|todo| todo.send = true);
            return Poll::Ready(Ok(len));
        }
        drop(locked);
        self.poll_direct(cx, |socket| sendmsg(socket, slices))
    }

    /// Calls `send` when everything before it was sent, until it does not say `WouldBlock`.
    pub(crate) fn poll_direct(
        &self,
        cx: &mut Context<'_>,
        mut send: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let mut locked = self.lock();
        let Driver { slots, wakers, .. } = &mut *locked.driver;
        let Some(slot) = slots.get_mut(self.number as usize) else { return gone() };
        if let Some(code) = slot.output_error {
            return Poll::Ready(Err(io::Error::from_raw_os_error(code)));
        }
        let Some(socket) = &slot.socket else { return gone() };
        if !slot.is_sending && slot.output.is_empty() && !slot.is_polling {
            loop {
                match send(socket.as_fd()) {
                    Err(rustix::io::Errno::INTR) => {}
                    Err(rustix::io::Errno::AGAIN) => break,
                    sent => return Poll::Ready(sent.map_err(io::Error::from)),
                }
            }
        }
        let wants_poll = !slot.is_sending && slot.output.is_empty();
        remember(&mut slot.writer, cx, wakers);
        if wants_poll {
            locked.want(|todo| todo.poll = true);
        }
        Poll::Pending
    }

    /// Waits until what was written before this turn has been sent.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut locked = self.lock();
        let Driver { slots, wakers, .. } = &mut *locked.driver;
        let Some(slot) = slots.get_mut(self.number as usize) else { return gone() };
        match slot.output_error {
            Some(code) => Poll::Ready(Err(io::Error::from_raw_os_error(code))),
            None if slot.is_sending => {
                remember(&mut slot.writer, cx, wakers);
                Poll::Pending
            }
            // It is as good as sent: dropping the connection does not lose it.
            None => Poll::Ready(Ok(())),
        }
    }

    /// Sends what was written, then tells the peer that there is no more.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut locked = self.lock();
        let Driver { slots, wakers, .. } = &mut *locked.driver;
        let Some(slot) = slots.get_mut(self.number as usize) else { return gone() };
        if slot.output_error.is_none() && (slot.is_sending || !slot.output.is_empty()) {
            remember(&mut slot.writer, cx, wakers);
            return Poll::Pending;
        }
        let Some(socket) = &slot.socket else { return gone() };
        let result = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
        Poll::Ready(result.map_err(io::Error::from))
    }
}

impl Drop for RingStream {
    fn drop(&mut self) {
        self.ring.driver.lock().close(self.number);
    }
}

impl Locked<'_> {
    /// Notes something to do in the next turn.
    fn want(&mut self, note: impl FnOnce(&mut super::slot::Todo)) {
        let Driver { slots, queue, .. } = &mut *self.driver;
        if let Some(slot) = slots.get_mut(self.number as usize) {
            slot.queue(queue, self.number, note);
        }
        self.driver.wake_runner();
    }
}

/// Keeps the waker. One that it replaces is woken in the next turn: dropping it within the lock might drop
/// who knows what.
fn remember(place: &mut Option<Waker>, cx: &Context<'_>, wakers: &mut Vec<Waker>) {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        place => wakers.extend(place.replace(cx.waker().clone())),
    }
}

/// Of a slot that does not exist, which cannot be.
fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

fn sendmsg(socket: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendFlags};
    if let [slice] = slices {
        return rustix::net::send(socket, slice, SendFlags::NOSIGNAL);
    }
    let mut nothing = SendAncillaryBuffer::default();
    rustix::net::sendmsg(socket, slices, &mut nothing, SendFlags::NOSIGNAL)
}
