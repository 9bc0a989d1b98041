//! Locks, atomics and parking for the parts that loom explores: the commit sequencer, the list of
//! snapshots, the lock queues and the document cache. Elsewhere the ordinary ones are used.
//!
//! Ordinarily these are parking_lot's and std's; under `cfg(loom)` loom's, in the same shape.

#[cfg(not(loom))]
pub(crate) use {
    parking_lot::{Condvar, Mutex},
    std::{hint::spin_loop, sync::atomic, thread},
};

#[cfg(loom)]
pub(crate) use {
    self::modelled::{Condvar, Mutex, atomic, spin_loop},
    loom::thread,
};

#[cfg(loom)]
mod modelled {
    use std::ops::{Deref, DerefMut};

    pub(crate) use loom::{
        sync::atomic,
        // A spinning thread must let the one run that it waits for.
        thread::yield_now as spin_loop,
    };

    /// loom's mutex without poisoning.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    /// Empty only while a `Condvar` waits with it.
    pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect("a model that panicked is over")))
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().expect("not waiting")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("not waiting")
        }
    }

    /// loom's condition variable, with parking_lot's signature.
    #[derive(Debug, Default)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let inner = guard.0.take().expect("not waiting");
            guard.0 = Some(self.0.wait(inner).expect("a model that panicked is over"));
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}
