//! A to-do list that survives power loss: `todo-store add "Buy milk"`, `done ID`, `list`.

use anyhow::{Result, bail};
use hearth_jsonstore::{Options, Store, Update, block_on};
use serde_json::json;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let path = std::env::var("TODO_STORE").unwrap_or_else(|_| "todo-store.db".to_owned());
    block_on(run(&path, &words))
}

async fn run(path: &str, words: &[&str]) -> Result<()> {
    let store = Store::open(Options::new(path)).await?;
    let todos = store.collection("todos")?;
    match words {
        ["add", title] => {
            // Acknowledged means durable: no power cut takes it back.
            let id = todos.insert(&json!({"title": title, "done": false})).await?;
            println!("{}", id.to_json());
        }
        ["done", id] => {
            if !todos.update(*id, &Update::new().set("done", true)).await? {
                bail!("no to-do has the id {id}");
            }
        }
        ["list"] | [] => {
            let mut scan = todos.scan(..);
            while let Some(todo) = scan.next().await? {
                let todo = todo.value();
                let mark = if todo["done"] == true { 'x' } else { ' ' };
                println!("[{mark}] {} {}", todo["_id"], todo["title"]);
            }
        }
        _ => bail!("usage: todo-store [add TITLE | done ID | list]"),
    }
    store.close().await?;
    Ok(())
}
