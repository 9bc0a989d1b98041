//! The program `jsonstore` and its shell.

mod script;
mod terminal;

use std::{path::Path, process::Command};

use hearth_jsonstore::{Index, Options, Store, block_on};
use serde_json::json;

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jsonstore"));
    command.env_remove("JSONSTORE_KEY").env_remove("RUST_BACKTRACE").env("TERM", "xterm");
    command
}

/// A store with some people.
fn filled(dir: &Path) {
    block_on(async {
        let store = Store::open(Options::new(dir)).await?;
        let people = store.collection("people")?;
        for (id, name, born) in [(1, "Ada", 1815), (2, "Grace", 1906), (3, "Barbara", 1928)] {
            people.insert(&json!({"_id": id, "name": name, "born": born})).await?;
        }
        people.create_index(Index::on("born")).await?;
        store.close().await
    })
    .unwrap();
}
