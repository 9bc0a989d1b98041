//! Bytes on their way through TLS, in memory that goes back to the thread when it is empty.

use std::cell::RefCell;

/// Room for 64 KiB of plaintext as four full records, with what stands before them.
const CAPACITY: usize = 72 * 1024;
/// Free buffers that a thread keeps.
const FREE_MAX: usize = 16;
/// What is left in a buffer is moved to memory of its own size if it is not more than this.
const SMALL: usize = 16 * 1024;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A queue of bytes. Owns no memory while it is empty, after [`settle`](Self::settle).
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// Initialised throughout; filled from `start` to `end`.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    pub(super) fn filled_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// At least `len` bytes to write to, behind the filled part.
    pub(super) fn spare(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = take_free();
        }
        if self.bytes.len() - self.end < len && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.bytes.len() - self.end < len {
            self.bytes.resize(self.end + len, 0);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Says that `len` bytes of [`spare`](Self::spare) were written.
    pub(super) fn fill(&mut self, len: usize) {
        debug_assert!(self.end + len <= self.bytes.len());
        self.end += len;
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.spare(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.fill(bytes.len());
    }

    /// Drops `len` bytes at the front.
    pub(super) fn consume(&mut self, len: usize) {
        self.start = (self.start + len).min(self.end);
        if self.is_empty() {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Gives back the memory that is not needed while the connection waits.
    pub(super) fn settle(&mut self) {
        if self.len() > SMALL || self.bytes.len() == self.len() {
            return;
        }
        let rest = self.filled().to_vec();
        give_free(std::mem::replace(&mut self.bytes, rest));
        self.end -= self.start;
        self.start = 0;
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        give_free(std::mem::take(&mut self.bytes));
    }
}

fn take_free() -> Vec<u8> {
    let free = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
    free.unwrap_or_else(|| vec![0; CAPACITY])
}

fn give_free(bytes: Vec<u8>) {
    if bytes.len() < CAPACITY || bytes.len() > 2 * CAPACITY {
        return;
    }
    let _at_thread_exit = FREE.try_with(|free| {
        let mut free = free.borrow_mut();
        if free.len() < FREE_MAX {
            free.push(bytes);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_bytes_in_order_and_memory_short() {
        let mut buffer = Buffer::default();
        assert!(buffer.is_empty() && buffer.filled().is_empty());
        for round in 0..100u8 {
            buffer.put(&[round; 3000]);
            buffer.consume(2900);
        }
        assert_eq!(buffer.len(), 100 * 100);
        assert_eq!(buffer.filled().last(), Some(&99));
        buffer.settle();
        assert_eq!(buffer.bytes.capacity(), 10_000);
        assert_eq!(buffer.filled().last(), Some(&99));
        buffer.consume(10_000);
        buffer.settle();
        assert_eq!(buffer.bytes.capacity(), 0);
    }

    #[test]
    fn grows_for_what_does_not_fit() {
        let mut buffer = Buffer::default();
        buffer.put(b"head");
        buffer.put(&vec![7; 3 * CAPACITY]);
        assert_eq!(buffer.len(), 4 + 3 * CAPACITY);
        assert_eq!(&buffer.filled()[..5], b"head\x07");
        buffer.settle();
        assert_eq!(buffer.len(), 4 + 3 * CAPACITY);
    }
}
