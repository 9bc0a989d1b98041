//! Free lists of the thread: what a request needs and the next one can use again.

use std::{cell::RefCell, thread::LocalKey};

use bytes::BytesMut;

/// Values that wait for their next use; at most so many, the rest is dropped.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    free: RefCell<Vec<T>>,
    free_max: usize,
}

impl<T> Pool<T> {
    /// An empty pool that keeps at most `free_max` values.
    pub(crate) const fn new(free_max: usize) -> Self {
        Self { free: RefCell::new(Vec::new()), free_max }
    }
}

/// A value from this thread's pool, if one is free.
pub(crate) fn take<T>(pool: &'static LocalKey<Pool<T>>) -> Option<T> {
    // Fails only while the thread ends.
    pool.try_with(|pool| pool.free.borrow_mut().pop()).ok()?
}

/// Puts a value back; drops it where the pool is full or gone.
pub(crate) fn give<T>(pool: &'static LocalKey<Pool<T>>, value: T) {
    let mut value = Some(value);
    let _ = pool.try_with(|pool| {
        let mut free = pool.free.borrow_mut();
        if free.len() < pool.free_max {
            free.extend(value.take());
        }
    });
    // What was not taken is dropped here, where the list is no longer borrowed: its drop may use
    // the pool again.
}

thread_local! {
    static READ: Pool<BytesMut> = const { Pool::new(256) };
    static READ_LARGE: Pool<BytesMut> = const { Pool::new(32) };
    static WRITE: Pool<Vec<u8>> = const { Pool::new(256) };
}

/// Capacity of a buffer that is read into while nothing is known of what comes.
pub(crate) const READ_BYTES: usize = 4 * 1024;
/// Capacity of a buffer for bodies and long heads.
pub(crate) const READ_LARGE_BYTES: usize = 16 * 1024;
/// Capacity of a buffer in which responses are collected.
pub(crate) const WRITE_BYTES: usize = 8 * 1024;

/// An empty buffer of at least [`READ_BYTES`].
pub(crate) fn read_buffer() -> BytesMut {
    take(&READ).unwrap_or_else(|| BytesMut::with_capacity(READ_BYTES))
}

/// An empty buffer of at least [`READ_LARGE_BYTES`].
pub(crate) fn large_read_buffer() -> BytesMut {
    take(&READ_LARGE).unwrap_or_else(|| BytesMut::with_capacity(READ_LARGE_BYTES))
}

/// Takes a read buffer back. Buffers of which somebody still holds a part are of no use.
pub(crate) fn give_read_buffer(mut buffer: BytesMut) {
    buffer.clear();
    let capacity = buffer.capacity();
    // An unused buffer is whole; of a used one the memory in front has to be taken back first.
    let is_large = capacity > READ_BYTES && buffer.try_reclaim(READ_LARGE_BYTES);
    if is_large || buffer.try_reclaim(READ_BYTES) {
        let pool = if buffer.capacity() >= READ_LARGE_BYTES { &READ_LARGE } else { &READ };
        give(pool, buffer);
    }
}

/// An empty buffer of at least [`WRITE_BYTES`].
pub(crate) fn write_buffer() -> Vec<u8> {
    take(&WRITE).unwrap_or_else(|| Vec::with_capacity(WRITE_BYTES))
}

/// Takes a write buffer back; one that grew is not worth keeping.
pub(crate) fn give_write_buffer(mut buffer: Vec<u8>) {
    if (WRITE_BYTES..=4 * WRITE_BYTES).contains(&buffer.capacity()) {
        buffer.clear();
        give(&WRITE, buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_buffers_come_back_whole() {
        let mut buffer = read_buffer();
        buffer.extend_from_slice(&[1; 3000]);
        let held = buffer.split_to(2000).freeze();
        give_read_buffer(buffer);
        assert!(take(&READ).is_none(), "a part of it is still held");
        drop(held);

        let mut buffer = read_buffer();
        buffer.extend_from_slice(&[1; 3000]);
        drop(buffer.split_to(2000).freeze());
        give_read_buffer(buffer);
        let buffer = take(&READ).expect("nobody holds a part");
        assert!(buffer.is_empty() && buffer.capacity() >= READ_BYTES);
    }

    #[test]
    fn pools_are_bounded() {
        thread_local!(static SMALL: Pool<u8> = const { Pool::new(2) });
        (0..5).for_each(|value| give(&SMALL, value));
        assert_eq!((take(&SMALL), take(&SMALL), take(&SMALL)), (Some(1), Some(0), None));
    }
}
