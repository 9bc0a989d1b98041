//! An event loop's io_uring: what many connections receive and send, by one system call for all.
//!
//! The ring stands beside the runtime's epoll, which still waits: the kernel writes an eventfd when it has
//! news. [`Ring::run`] is a task that is woken by that, and by the first connection that wants something
//! in this turn. The runtime's queue is in order, so it comes after all that were ready before it, and
//! hands over what they want together.
//!
//! Received bytes lie in a pool of the ring ([`kernel::BUFFERS`] of [`kernel::BUFFER_BYTES`]) until the connection's
//! task takes them, which most often happens before the next turn. What is left then is copied out, so
//! that a connection whose bytes nobody takes cannot use up the pool.

mod kernel;
mod slot;
mod stream;

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

pub(crate) use self::stream::RingStream;
use self::{
    kernel::{Event, Kernel},
    slot::{Slot, Todo},
};

/// Bytes that are collected for one send operation. What is longer is sent at once, past the ring.
pub(crate) const SEND_BYTES: usize = 8 * 1024;
/// Received bytes that wait for a connection's task before reception stops. What the kernel had in hand
/// comes on top: at most 32 buffers.
const WAITING_BYTES_MAX: usize = 64 * 1024;
/// Buffers for sending that are kept for the next ones.
const SPARE_MAX: usize = 256;
/// How long a connection that was dropped may take to send what it was given.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The ring of a worker. Connections may be used from any thread; [`run`](Self::run) only on that which made it.
pub(crate) struct Ring {
    driver: Mutex<Driver>,
    signal: OwnedFd,
}

/// Everything behind the lock.
struct Driver {
    kernel: Kernel,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots with something to do in the next turn.
    queue: Vec<u32>,
    /// Slots that got bytes in the last turn.
    received: Vec<u32>,
    spare: Vec<Vec<u8>>,
    /// Tasks to wake at the end of the turn.
    wakers: Vec<Waker>,
    /// Dropped connections that still send, and since when.
    closing: VecDeque<(Instant, u32, u32)>,
    /// Of the task that runs the ring.
    runner: Option<Waker>,
    is_woken: bool,
    /// Nothing is done any more.
    has_failed: bool,
}

impl Ring {
    /// Whether the kernel has what a ring needs, and lets us use it.
    pub(crate) fn probe() -> io::Result<()> {
        // On a thread of its own: what a ring leaves behind interrupts a system call of its thread.
        let thread = std::thread::Builder::new().name("hearth-probe".into());
        let probe = thread.spawn(|| Self::new().map(drop))?;
        probe.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    }

    /// A ring of the calling thread.
    ///
    /// # Errors
    /// If the kernel is older than 6.1, forbids io_uring (containers do), or descriptors are lacking.
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        let signal = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let driver = Driver {
            kernel: Kernel::new(&signal)?,
            slots: Vec::new(),
            free: Vec::new(),
            queue: Vec::new(),
            received: Vec::new(),
            spare: Vec::new(),
            wakers: Vec::new(),
            closing: VecDeque::new(),
            runner: None,
            is_woken: false,
            has_failed: false,
        };
        Ok(Arc::new(Self { driver: Mutex::new(driver), signal }))
    }

    /// Hands over and takes back, as long as the runtime has events. Within a runtime.
    ///
    /// # Errors
    /// If no descriptor is left to wait with.
    pub(crate) fn run(self: Arc<Self>) -> io::Result<impl Future<Output = ()> + Send + 'static> {
        let signal = Kernel::watch(&self.signal)?;
        let turn = move |cx: &mut Context<'_>| {
            // The counter itself is never read: each write is an event of its own.
            while let Poll::Ready(guard) = signal.poll_read_ready(cx) {
                match guard {
                    Ok(mut guard) => guard.clear_ready(),
                    Err(_shutdown) => return Poll::Ready(()),
                }
            }
            self.turn(cx.waker());
            Poll::Pending
        };
        Ok(std::future::poll_fn(turn))
    }

    /// Whether connections that are made now would only be lost.
    pub(crate) fn has_failed(&self) -> bool {
        self.driver.lock().has_failed
    }

    /// Ends everything under way; connections that are still held learn that they are gone. On the ring's thread.
    pub(crate) fn end(&self) {
        let mut driver = self.driver.lock();
        // Once more for what was written last.
        driver.turn();
        driver.kernel.end();
        driver.lose(libc::ECONNABORTED);
        let wakers = std::mem::take(&mut driver.wakers);
        // Closes the sockets.
        let _slots = std::mem::take(&mut driver.slots);
        drop(driver);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn turn(&self, runner: &Waker) {
        let mut driver = self.driver.lock();
        driver.is_woken = false;
        match &mut driver.runner {
            Some(known) if known.will_wake(runner) => {}
            known => *known = Some(runner.clone()),
        }
        driver.turn();
        let mut wakers = std::mem::take(&mut driver.wakers);
        drop(driver);
        // Without the lock: a task that is dropped by this may drop a connection.
        wakers.drain(..).for_each(Waker::wake);
        let mut driver = self.driver.lock();
        if driver.wakers.is_empty() {
            driver.wakers = wakers;
        }
    }
}

impl Driver {
    fn turn(&mut self) {
        if self.has_failed {
            return;
        }
        self.copy_out();
        let mut queue = std::mem::take(&mut self.queue);
        for slot in queue.drain(..) {
            self.hand_over(slot);
        }
        self.queue = queue;
        if let Err(error) = self.kernel.enter() {
            self.fail(&error);
        }
        while let Some(event) = self.kernel.next_event() {
            self.handle(event);
        }
        self.end_late();
        if self.kernel.is_behind() {
            self.wake_runner();
        }
    }

    /// Empties the pool's buffers that nobody has taken since the last turn.
    fn copy_out(&mut self) {
        let mut received = std::mem::take(&mut self.received);
        for slot in received.drain(..) {
            let Some(slot) = self.slots.get_mut(slot as usize) else { continue };
            while let Some((buffer, from)) = slot.buffers.pop_front() {
                let bytes = self.kernel.bytes(buffer);
                slot.copied.extend(bytes.get(usize::from(from)..).unwrap_or_default());
                self.kernel.release(buffer);
            }
        }
        self.received = received;
    }

    /// Queues an operation for what the slot wants.
    fn hand_over(&mut self, number: u32) {
        let Some(slot) = self.slots.get_mut(number as usize) else { return };
        let todo = std::mem::take(&mut slot.todo);
        let Some(socket) = &slot.socket else { return };
        let socket = socket.as_fd();
        if todo.receive && !slot.is_receiving && !slot.is_dropped {
            slot.is_receiving = true;
            self.kernel.receive(number, socket);
        }
        if todo.stop && slot.is_receiving {
            self.kernel.cancel_receive(number);
        }
        if todo.send && !slot.is_sending && !slot.output.is_empty() {
            slot.is_sending = true;
            self.kernel.send(number, socket, std::mem::take(&mut slot.output));
        }
        if todo.poll && !slot.is_polling && !slot.is_dropped {
            slot.is_polling = true;
            self.kernel.poll_writable(number, socket);
        }
        if todo.cut {
            self.kernel.cancel_poll(number);
        }
        self.settle(number);
    }

    fn handle(&mut self, event: Event) {
        let (Event::Received(number, _)
        | Event::ReceiveEnded(number, _)
        | Event::ReceiveStopped(number)
        | Event::Sent(number, ..)
        | Event::Writable(number)) = event;
        let Some(slot) = self.slots.get_mut(number as usize) else { return };
        match event {
            Event::Received(_, buffer) if slot.is_dropped => self.kernel.release(buffer),
            Event::Received(_, buffer) => {
                if slot.buffers.is_empty() {
                    self.received.push(number);
                }
                slot.buffers.push_back((buffer, 0));
                let waiting = slot.copied.len() + slot.buffers.len() * kernel::BUFFER_BYTES;
                if waiting > WAITING_BYTES_MAX && !slot.todo.stop {
                    slot.queue(&mut self.queue, number, |todo| todo.stop = true);
                }
                self.wakers.extend(slot.reader.take());
            }
            Event::ReceiveStopped(_) => {
                slot.is_receiving = false;
                slot.todo.stop = false;
                // Who waits has nothing yet. Others may empty the pool each time before it is this one's turn.
                if slot.reader.is_some() && !slot.receive_past_ring() {
                    slot.queue(&mut self.queue, number, |todo| todo.receive = true);
                } else {
                    self.wakers.extend(slot.reader.take());
                }
            }
            Event::ReceiveEnded(_, result) => {
                slot.is_receiving = false;
                slot.input_end = Some(result.map_err(|error| error.raw_os_error().unwrap_or(0)));
                self.wakers.extend(slot.reader.take());
            }
            Event::Sent(_, result, buffer) => {
                slot.is_sending = false;
                if let Err(error) = result {
                    slot.output_error = error.raw_os_error();
                    slot.output.clear();
                }
                if self.spare.len() < SPARE_MAX && buffer.capacity() <= 2 * SEND_BYTES {
                    self.spare.push(buffer);
                }
                if !slot.output.is_empty() {
                    slot.queue(&mut self.queue, number, |todo| todo.send = true);
                }
                self.wakers.extend(slot.writer.take());
            }
            Event::Writable(_) => {
                slot.is_polling = false;
                self.wakers.extend(slot.writer.take());
            }
        }
        self.settle(number);
    }
}

impl Driver {
    /// A slot for this socket.
    fn open(&mut self, socket: OwnedFd) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            // Descriptors run out long before.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(slot) = self.slots.get_mut(number as usize) {
            slot.socket = Some(socket);
        }
        number
    }

    /// The connection is dropped: reception ends at once, what was written is still sent.
    fn close(&mut self, number: u32) {
        let Some(slot) = self.slots.get_mut(number as usize) else { return };
        slot.is_dropped = true;
        // Not dropped here, within the lock: nobody knows what that drops.
        self.wakers.extend(slot.reader.take().into_iter().chain(slot.writer.take()));
        slot.copied = Vec::new();
        while let Some((buffer, _)) = slot.buffers.pop_front() {
            self.kernel.release(buffer);
        }
        let (stop, cut) = (slot.is_receiving, slot.is_polling);
        if stop || cut {
            slot.queue(&mut self.queue, number, |todo| {
                todo.stop |= stop;
                todo.cut |= cut;
            });
        }
        if slot.is_sending || !slot.output.is_empty() {
            let epoch = slot.epoch;
            self.closing.push_back((Instant::now(), number, epoch));
        }
        self.settle(number);
        if !self.queue.is_empty() {
            self.wake_runner();
        }
    }

    /// Closes the socket of a dropped connection when nothing is under way any more.
    fn settle(&mut self, number: u32) {
        let Some(slot) = self.slots.get_mut(number as usize) else { return };
        let is_busy = slot.is_receiving || slot.is_sending || slot.is_polling;
        let is_done = slot.output.is_empty() || slot.output_error.is_some() || self.has_failed;
        if slot.is_dropped && slot.socket.is_some() && !is_busy && is_done {
            // What is still queued for it finds no socket, or that of the next connection, which does not mind.
            let todo = Todo { is_queued: slot.todo.is_queued, ..Todo::default() };
            *slot = Slot { epoch: slot.epoch.wrapping_add(1), todo, ..Slot::default() };
            self.free.push(number);
        }
    }

    /// Cuts off dropped connections whose peers take nothing.
    fn end_late(&mut self) {
        while let Some(&(since, number, epoch)) = self.closing.front() {
            let slot = self.slots.get(number as usize).filter(|slot| slot.epoch == epoch);
            if slot.is_some() {
                if since.elapsed() < CLOSE_TIMEOUT {
                    return;
                }
                self.kernel.cancel_send(number);
            }
            self.closing.pop_front();
        }
    }

    /// Has the ring's task run after those that are ready.
    fn wake_runner(&mut self) {
        if !std::mem::replace(&mut self.is_woken, true)
            && let Some(runner) = &self.runner
        {
            runner.wake_by_ref();
        }
    }

    /// Nothing works any more: every connection learns that.
    fn fail(&mut self, error: &io::Error) {
        tracing::error!(%error, "io_uring has failed; the connections of this worker are lost");
        self.lose(error.raw_os_error().unwrap_or(libc::EIO));
    }

    fn lose(&mut self, code: i32) {
        self.has_failed = true;
        for slot in &mut self.slots {
            slot.input_end = Some(Err(code));
            slot.output_error = Some(code);
            self.wakers.extend(slot.reader.take().into_iter().chain(slot.writer.take()));
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("signal", &self.signal).finish_non_exhaustive()
    }
}
