//! One who follows the list, and keeps a view of it.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

/// How long an update may take that has to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a client knows: it outlives the connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// Title by id.
    open: BTreeMap<String, String>,
    /// The commit as of which it is right.
    seq: u64,
}

pub(crate) struct Client {
    name: &'static str,
    lines: BufReader<TcpStream>,
    view: View,
}

impl Client {
    /// Begins anew, or goes on from a view.
    pub(crate) fn connect(
        name: &'static str,
        address: SocketAddr,
        from: Option<View>,
    ) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        match &from {
            Some(view) => writeln!(stream, "follow {}", view.seq)?,
            None => writeln!(stream, "follow")?,
        }
        let is_new = from.is_none();
        let view = from.unwrap_or_default();
        let mut client = Self { name, lines: BufReader::new(stream), view };
        if is_new {
            // The first update is what there is.
            client.apply_next()?;
        }
        Ok(client)
    }

    pub(crate) fn send(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.lines.get_mut(), "{line}")?)
    }

    /// Follows until these are the open ones; returns how many came or went.
    pub(crate) fn follow_until(&mut self, titles: &[&str]) -> Result<usize> {
        let mut told = 0;
        loop {
            let mut open: Vec<&str> = self.view.open.values().map(String::as_str).collect();
            open.sort_unstable();
            if open == titles {
                println!("{:<6} commit {:>3}: {}", self.name, self.view.seq, open.join(", "));
                return Ok(told);
            }
            told += self.apply_next()?;
        }
    }

    pub(crate) fn disconnect(self) -> View {
        println!("{:<6} is gone", self.name);
        self.view
    }

    fn apply_next(&mut self) -> Result<usize> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        let update: Value = serde_json::from_str(&line).context("no update")?;
        let mut told = 0;
        for (id, title) in update["add"].as_object().context("no additions")? {
            let title = title.as_str().context("no title")?;
            self.view.open.insert(id.clone(), title.to_owned());
            told += 1;
        }
        for id in update["remove"].as_array().context("no removals")? {
            self.view.open.remove(id.as_str().context("no id")?);
            told += 1;
        }
        if let Some(seq) = update["seq"].as_u64() {
            self.view.seq = seq;
        }
        Ok(told)
    }
}
