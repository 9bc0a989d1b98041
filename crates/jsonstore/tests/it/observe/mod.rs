//! What the store tells of itself.

mod health;
mod metrics;
mod slow;

use std::{
    cell::RefCell,
    io::{self, Write},
    sync::{Arc, Once},
};

use hearth_jsonstore::{
    Options, Store, block_on,
    testing::{SimEnv, SimVfs, small_options},
};

/// A store in memory, whose clock moves when told.
fn simulated(change: impl FnOnce(&mut Options)) -> (Store, Arc<SimEnv>, SimVfs) {
    let (vfs, env) = (SimVfs::new(), Arc::new(SimEnv::new(1)));
    let mut options = small_options(&vfs, &env);
    change(&mut options);
    (block_on(Store::open(options)).unwrap(), env, vfs)
}

fn real(change: impl FnOnce(&mut Options)) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new(dir.path());
    change(&mut options);
    let store = block_on(Store::open(options)).unwrap();
    (dir, store)
}

thread_local! {
    static CAPTURED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Captured;

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        CAPTURED.with_borrow_mut(|captured| captured.extend(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged meanwhile by this thread.
///
/// One subscriber for the whole process, because a subscriber of one thread is not asked about a
/// place in the code that another thread comes by first: tracing then thinks that nobody listens.
fn captured(work: impl FnOnce()) -> String {
    static SUBSCRIBED: Once = Once::new();
    SUBSCRIBED.call_once(|| {
        let subscriber = tracing_subscriber::fmt().with_writer(|| Captured).with_ansi(false);
        tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
        tracing::callsite::rebuild_interest_cache();
    });
    CAPTURED.take();
    work();
    String::from_utf8(CAPTURED.take()).unwrap()
}
