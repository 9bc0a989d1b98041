//! The only unsafe code of this crate: an io_uring and the memory that the kernel reads and writes.
//!
//! Everything an operation points to belongs to [`Kernel`] until the operation has ended: bytes to
//! send are handed over and come back with the completion, bytes received lie in a pool of its
//! own. So nothing that a caller does, or omits, can free what the kernel still uses.
#![allow(unsafe_code, reason = "shared memory with the kernel; ADR 0014")]

use std::{
    alloc::Layout,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use io_uring::{
    IoUring, cqueue, opcode, squeue,
    types::{self, BufRingEntry},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Buffers that wait for bytes to be received: as many connections may have news between two turns before
/// the rest has to ask again. A power of two.
pub(super) const BUFFERS: u16 = 256;
/// Bytes of each.
pub(super) const BUFFER_BYTES: usize = 4096;
/// Operations that are handed over at once; more take another call.
const SUBMISSIONS: u32 = 512;
/// Completions that wait; the kernel keeps those beyond it in a list.
const COMPLETIONS: u32 = 4096;
/// How long the end of a ring waits for operations that were cancelled. They end at once, or something
/// is broken: then their memory is never freed.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// The only pool of buffers of a ring.
const GROUP: u16 = 0;

/// A ring, and all memory that its operations use.
pub(super) struct Kernel {
    /// `None` only while it is dropped.
    ring: Option<IoUring>,
    pool: Pool,
    /// What is being sent for each slot.
    sending: Vec<Option<Sending>>,
    /// Operations whose last completion has not come.
    in_flight: usize,
    /// Slots whose reception stopped with bytes, which is reported after them.
    stopped: Vec<u32>,
}

/// Bytes on their way out.
struct Sending {
    bytes: Vec<u8>,
    sent: usize,
    /// Keeps the number of the descriptor from being given to another socket.
    fd: i32,
}

/// Receive buffers that the kernel chooses from.
struct Pool {
    /// Entries that name free buffers; the kernel reads them.
    entries: NonNull<BufRingEntry>,
    /// The buffers; the kernel writes those that are free.
    bytes: NonNull<u8>,
    tail: u16,
    /// Bytes in each buffer that is ours; 0 where the kernel has it.
    filled: Box<[u16]>,
}

/// What an operation of a slot reports. Slots are the caller's numbers for sockets.
#[derive(Debug)]
pub(super) enum Event {
    /// Bytes came, in this buffer.
    Received(u32, u16),
    /// The peer sends no more, or the socket failed.
    ReceiveEnded(u32, io::Result<()>),
    /// Reception was cancelled, or the pool was empty: whoever wants more asks again.
    ReceiveStopped(u32),
    /// The bytes were sent, or will never be; the buffer is empty.
    Sent(u32, io::Result<()>, Vec<u8>),
    /// The socket may take bytes.
    Writable(u32),
}

/// Operations, as they are told from each other in completions.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Receive = 1,
    Send = 2,
    Poll = 3,
    Cancel = 4,
}

impl Kind {
    fn data(self, slot: u32) -> u64 {
        u64::from(self as u8) << 32 | u64::from(slot)
    }

    fn split(data: u64) -> Option<(Self, u32)> {
        let kind = match data >> 32 {
            1 => Self::Receive,
            2 => Self::Send,
            3 => Self::Poll,
            _ => return None,
        };
        Some((kind, data as u32))
    }
}

impl Kernel {
    /// A ring of the calling thread, which alone may call [`enter`](Self::enter). `signal` is written when there
    /// is something to enter for.
    ///
    /// # Errors
    /// If the kernel is too old (before 6.1), forbids io_uring, or lacks memory or descriptors.
    pub(super) fn new(signal: &OwnedFd) -> io::Result<Self> {
        let ring: IoUring = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_single_issuer()
            .setup_submit_all()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(SUBMISSIONS)?;
        ring.submitter().register_eventfd(signal.as_raw_fd())?;
        let mut pool = Pool::new();
        // SAFETY: the entries are page-aligned, there are `BUFFERS` of them, and they are freed only after the ring
        // has ended (`Drop`), or never.
        unsafe {
            let entries = pool.entries.as_ptr().addr() as u64;
            ring.submitter().register_buf_ring_with_flags(entries, BUFFERS, GROUP, 0)?;
        }
        (0..BUFFERS).for_each(|buffer| pool.offer(buffer));
        Ok(Self { ring: Some(ring), pool, sending: Vec::new(), in_flight: 0, stopped: Vec::new() })
    }

    /// Watches for the signal.
    ///
    /// # Errors
    /// If the runtime has no I/O driver, or no descriptor is left.
    pub(super) fn watch(signal: &OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
        let signal = signal.try_clone()?;
        // SAFETY: an owned descriptor stays open, and the same, as long as its owner lives, which is moved in.
        Ok(unsafe { AsyncFd::register_with_interest(signal, Interest::READABLE) }?)
    }

    /// Receives until it is cancelled, fails, or the pool is empty.
    pub(super) fn receive(&mut self, slot: u32, socket: BorrowedFd<'_>) {
        let entry = opcode::RecvMulti::new(types::Fd(socket.as_raw_fd()), GROUP).build();
        // SAFETY: it writes into buffers of the pool only.
        unsafe { self.push(&entry.user_data(Kind::Receive.data(slot))) };
    }

    /// Sends all of `bytes`. One operation at a time per slot.
    ///
    /// # Panics
    /// If the slot is sending already.
    pub(super) fn send(&mut self, slot: u32, socket: BorrowedFd<'_>, bytes: Vec<u8>) {
        let index = slot as usize;
        if self.sending.len() <= index {
            self.sending.resize_with(index + 1, || None);
        }
        let fd = socket.as_raw_fd();
        let before = self.sending[index].replace(Sending { bytes, sent: 0, fd });
        assert!(before.is_none(), "a slot sends one thing at a time");
        self.send_rest(slot);
    }

    fn send_rest(&mut self, slot: u32) {
        let Some(Some(sending)) = self.sending.get(slot as usize) else { return };
        let rest = sending.bytes.get(sending.sent..).unwrap_or_default();
        let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(types::Fd(sending.fd), rest.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        // SAFETY: the bytes stay in `sending`, unmoved and unchanged, until the completion has come: only
        // `next_event` takes them out.
        unsafe { self.push(&entry.user_data(Kind::Send.data(slot))) };
    }

    /// Reports once when the socket may take bytes, or has failed.
    pub(super) fn poll_writable(&mut self, slot: u32, socket: BorrowedFd<'_>) {
        let entry = opcode::PollAdd::new(types::Fd(socket.as_raw_fd()), libc::POLLOUT as u32);
        // SAFETY: it refers to no memory.
        unsafe { self.push(&entry.build().user_data(Kind::Poll.data(slot))) };
    }

    /// Ends the reception of a slot; that is reported.
    pub(super) fn cancel_receive(&mut self, slot: u32) {
        self.cancel(Kind::Receive, slot);
    }

    /// Ends what a slot still sends; that is reported.
    pub(super) fn cancel_send(&mut self, slot: u32) {
        self.cancel(Kind::Send, slot);
    }

    /// Ends a slot's wait for room; that is reported.
    pub(super) fn cancel_poll(&mut self, slot: u32) {
        self.cancel(Kind::Poll, slot);
    }

    fn cancel(&mut self, kind: Kind, slot: u32) {
        let entry = opcode::AsyncCancel::new(kind.data(slot)).build();
        // SAFETY: it refers to no memory.
        unsafe { self.push(&entry.user_data(Kind::Cancel.data(slot))) };
    }

    /// # Safety
    /// What the entry points to must stay valid until its last completion.
    unsafe fn push(&mut self, entry: &squeue::Entry) {
        let Some(ring) = &mut self.ring else { return };
        loop {
            // SAFETY: promised by the caller.
            if unsafe { ring.submission().push(entry) }.is_ok() {
                self.in_flight += 1;
                return;
            }
            // The queue is full. Only the thread of the ring queues that much: others queue for it.
            if let Err(error) = ring.submit()
                && !is_passing(&error)
            {
                tracing::error!(%error, "io_uring takes no operations");
                return;
            }
        }
    }

    /// Hands over what was queued and lets the kernel report; a system call only if there is either.
    ///
    /// # Errors
    /// As `io_uring_enter`; operations that were not taken are taken the next time.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        let Some(ring) = &mut self.ring else { return Ok(()) };
        if has_more(ring) { self.force_enter() } else { Ok(()) }
    }

    /// Whether there is something left to enter for: the kernel runs only so much of its work at a time, and
    /// signals only what comes after.
    pub(super) fn is_behind(&mut self) -> bool {
        self.ring.as_mut().is_some_and(has_more)
    }

    fn force_enter(&mut self) -> io::Result<()> {
        let Some(ring) = &mut self.ring else { return Ok(()) };
        let queued = ring.submission().len() as u32;
        // SAFETY: there is no argument.
        match unsafe { ring.submitter().enter::<()>(queued, 0, GET_EVENTS, None) } {
            Err(error) if !is_passing(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// What was reported, one after the other.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(slot) = self.stopped.pop() {
                return Some(Event::ReceiveStopped(slot));
            }
            let completion = self.ring.as_mut()?.completion().next()?;
            if let Some(event) = self.understand(&completion) {
                return Some(event);
            }
        }
    }

    fn understand(&mut self, completion: &cqueue::Entry) -> Option<Event> {
        let (flags, result) = (completion.flags(), completion.result());
        let ends = !cqueue::more(flags);
        self.in_flight -= usize::from(ends);
        let (kind, slot) = Kind::split(completion.user_data())?;
        match kind {
            Kind::Receive => self.received(slot, result, cqueue::buffer_select(flags), ends),
            Kind::Send => {
                let sending = self.sending.get_mut(slot as usize)?.as_mut()?;
                sending.sent += usize::try_from(result).unwrap_or(0);
                if result > 0 && sending.sent < sending.bytes.len() {
                    self.send_rest(slot);
                    return None;
                }
                let mut bytes = self.sending.get_mut(slot as usize)?.take()?.bytes;
                bytes.clear();
                Some(Event::Sent(slot, outcome(result), bytes))
            }
            Kind::Poll => Some(Event::Writable(slot)),
            Kind::Cancel => None,
        }
    }

    fn received(
        &mut self,
        slot: u32,
        result: i32,
        buffer: Option<u16>,
        ends: bool,
    ) -> Option<Event> {
        // A buffer comes with bytes, rarely without.
        let len = u16::try_from(result).unwrap_or(0);
        match (buffer, len) {
            (Some(buffer), 1..) => {
                *self.pool.filled.get_mut(usize::from(buffer))? = len;
                if ends {
                    self.stopped.push(slot);
                }
                return Some(Event::Received(slot, buffer));
            }
            (Some(buffer), 0) => self.pool.offer(buffer),
            (None, _) => {}
        }
        let must_ask_again = result == -libc::ENOBUFS || result == -libc::ECANCELED;
        Some(match must_ask_again {
            true => Event::ReceiveStopped(slot),
            false => Event::ReceiveEnded(slot, outcome(result)),
        })
    }

    /// The bytes of a buffer that was reported and not released; empty for others.
    pub(super) fn bytes(&self, buffer: u16) -> &[u8] {
        self.pool.bytes(buffer)
    }

    /// Gives a buffer that was reported back to the kernel.
    pub(super) fn release(&mut self, buffer: u16) {
        if let Some(filled) = self.pool.filled.get_mut(usize::from(buffer))
            && std::mem::take(filled) > 0
        {
            self.pool.offer(buffer);
        }
    }
}

impl Kernel {
    /// Ends all operations, then the ring. Effective only on its thread.
    pub(super) fn end(&mut self) {
        let Some(ring) = &self.ring else { return };
        let _none_left = ring.submitter().register_sync_cancel(None, types::CancelBuilder::any());
        let begin = Instant::now();
        while self.in_flight > 0 && begin.elapsed() < END_TIMEOUT {
            let entered = self.force_enter();
            while self.next_event().is_some() {}
            if entered.is_err() {
                break;
            }
            std::thread::yield_now();
        }
        self.ring = None;
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.end();
        if self.in_flight > 0 {
            tracing::error!(left = self.in_flight, "io_uring does not end; its memory is kept");
            std::mem::forget(std::mem::take(&mut self.sending));
            return;
        }
        // SAFETY: the ring has ended and nothing was in flight: the kernel uses the pool no more, and with `self` the
        // last that could ask for it is gone.
        unsafe { self.pool.free() };
    }
}

impl Pool {
    fn new() -> Self {
        Self {
            entries: allocate(entries_layout()).cast(),
            bytes: allocate(bytes_layout()),
            tail: 0,
            filled: vec![0; usize::from(BUFFERS)].into(),
        }
    }

    /// Lets the kernel write to this buffer, which nobody reads any more.
    fn offer(&mut self, buffer: u16) {
        let position = usize::from(self.tail % BUFFERS);
        let offset = usize::from(buffer % BUFFERS) * BUFFER_BYTES;
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: position and offset lie within what was allocated. The kernel does not read this entry before
        // it sees the new tail, since no more than `BUFFERS` are offered at a time. The tail is the last
        // member of the first entry, aligned, and written by nobody else.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(position);
            entry.set_addr(self.bytes.as_ptr().add(offset).expose_provenance() as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    fn bytes(&self, buffer: u16) -> &[u8] {
        let Some(&filled) = self.filled.get(usize::from(buffer)) else { return &[] };
        let len = usize::from(filled).min(BUFFER_BYTES);
        // SAFETY: within what was allocated, and initialised from the start. A buffer whose length is not 0 was
        // reported and not offered since, so the kernel does not write to it.
        unsafe {
            let first = self.bytes.as_ptr().add(usize::from(buffer) * BUFFER_BYTES);
            std::slice::from_raw_parts(first, len)
        }
    }

    /// # Safety
    /// The kernel must not know of the pool any more, and nobody uses it afterwards.
    unsafe fn free(&mut self) {
        // SAFETY: allocated in `new` with these layouts; freed once, by the promise.
        unsafe {
            std::alloc::dealloc(self.entries.as_ptr().cast(), entries_layout());
            std::alloc::dealloc(self.bytes.as_ptr(), bytes_layout());
        }
    }
}

// SAFETY: the pool owns the memory its pointers name, and has no tie to a thread.
unsafe impl Send for Pool {}

const PAGE: usize = 4096;

const fn layout(bytes: usize) -> Layout {
    match Layout::from_size_align(bytes, PAGE) {
        Ok(layout) => layout,
        Err(_) => panic!("a page is a power of two"),
    }
}

const fn entries_layout() -> Layout {
    layout(BUFFERS as usize * size_of::<BufRingEntry>())
}

const fn bytes_layout() -> Layout {
    layout(BUFFERS as usize * BUFFER_BYTES)
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: neither layout is empty.
    NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })
        .unwrap_or_else(|| std::alloc::handle_alloc_error(layout))
}

fn outcome(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
}

fn has_more(ring: &mut IoUring) -> bool {
    let queue = ring.submission();
    !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
}

/// Whether the same call will do later.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

/// `IORING_ENTER_GETEVENTS`: run what the kernel put off until we ask.
const GET_EVENTS: u32 = 1;
