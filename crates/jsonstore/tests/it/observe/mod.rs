//! What the store tells of itself.

mod health;
mod metrics;
mod slow;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
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

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged meanwhile by this thread.
fn captured(work: impl FnOnce()) -> String {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber =
        tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, work);
    let logged = captured.0.lock().unwrap().clone();
    String::from_utf8(logged).unwrap()
}
