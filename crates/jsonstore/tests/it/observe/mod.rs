//! What the store tells of itself.

mod health;
mod metrics;
mod slow;

use std::sync::Arc;

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
