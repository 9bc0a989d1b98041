//! A catalogue that can be searched: `search-catalogue load FILE.jsonl` reads one product per line,
//! `search-catalogue find WORDS` shows the best ten.
//!
//! A product has a `title`, a `description` and `tags`. Words of the title count most.

use std::io::BufRead;

use anyhow::{Context, Result, bail};
use hearth_jsonstore::{Language, Options, Store, TextIndex, block_on};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = std::env::var("CATALOGUE").unwrap_or_else(|_| "catalogue.db".to_owned());
    block_on(run(&path, &arguments))
}

async fn run(path: &str, arguments: &[String]) -> Result<()> {
    let store = Store::open(Options::new(path)).await?;
    let products = store.collection("products")?;
    let index = TextIndex::new("words")
        .boosted("title", 3.0)
        .field("description")
        .boosted("tags", 1.5)
        .language(Language::English);
    // Costs nothing if it is there already.
    products.create_text_index(index).await?;
    match arguments {
        [command, file] if command == "load" => {
            let file = std::fs::File::open(file).with_context(|| format!("opening {file}"))?;
            let mut load = store.load().await?;
            for line in std::io::BufReader::new(file).lines() {
                load.put(&products, &line?)?;
            }
            load.finish().await?;
        }
        [command, words @ ..] if command == "find" && !words.is_empty() => {
            let search = products.search(&words.join(" ")).highlight(true);
            println!("{} products", search.count().await?);
            for found in search.documents().await? {
                let product = found.document.value();
                println!("{:6.2}  {} {}", found.score, product["_id"], product["title"]);
                for highlight in found.highlights.iter().filter(|h| h.field != "title") {
                    println!("        … {} …", highlight.marked("[", "]"));
                }
            }
        }
        _ => bail!("usage: search-catalogue load FILE.jsonl | find WORDS"),
    }
    store.close().await?;
    Ok(())
}
