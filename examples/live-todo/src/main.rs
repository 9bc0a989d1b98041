//! A to-do list that its clients see change, on the loopback interface: `live-todo`.
//!
//! Two clients follow the open to-dos of one list. What one of them does, the other is told; one of
//! them loses its connection, and goes on where it was.

mod client;
mod server;

use std::path::Path;

use anyhow::{Result, ensure};
use hearth_jsonstore::{Options, Store, block_on};

use self::{client::Client, server::Server};

fn main() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("live-todo-{}", std::process::id()));
    let shown = run(&folder);
    let _ = std::fs::remove_dir_all(&folder);
    shown
}

fn run(folder: &Path) -> Result<()> {
    let store = block_on(Store::open(Options::new(folder)))?;
    let server = Server::start(&store)?;
    let mut ada = Client::connect("Ada", server.address(), None)?;
    let mut grace = Client::connect("Grace", server.address(), None)?;

    ada.send("add Buy milk")?;
    ada.send("add Call the plumber")?;
    grace.follow_until(&["Buy milk", "Call the plumber"])?;
    grace.send("done Buy milk")?;
    ada.follow_until(&["Call the plumber"])?;

    // Her view and its position are all that Ada needs to go on.
    let position = ada.disconnect();
    grace.send("add Water the plants")?;
    grace.send("done Call the plumber")?;
    grace.follow_until(&["Water the plants"])?;
    let mut ada = Client::connect("Ada", server.address(), Some(position))?;
    let told = ada.follow_until(&["Water the plants"])?;
    ensure!(told == 2, "one came and one went, and {told} changes were told");

    drop((ada, grace));
    server.stop()?;
    block_on(store.close())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clients_see_the_same() -> Result<()> {
        let dir = tempfile::tempdir()?;
        run(dir.path())
    }
}
