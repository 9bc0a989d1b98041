//! `jsonstore DIR shell`: the program's commands, one a line, on a store that stays open.
//!
//! At a terminal there are editing, history, completion and tables; otherwise it is a script, which
//! ends at its first error.

mod complete;
mod line;
mod table;

use std::{
    future::Future,
    io::{BufRead, IsTerminal, Write},
    path::PathBuf,
    pin::pin,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use crate::{Cursor, Error, Store, block_on};
use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Parser, error::ContextKind, error::ErrorKind};
use parking_lot::Mutex;
use rustyline::{Config, Editor, error::ReadlineError, history::FileHistory};
use serde_json::Value;

use self::{
    complete::Assistant,
    line::{LineError, Split, Word},
};
use super::Command;

/// Rows of one table; what lies beyond is for `.mode json`, which is a stream.
const TABLE_ROWS_MAX: usize = 1000;
/// Lines that the history keeps.
const HISTORY_MAX: usize = 1000;
/// Bytes of one command.
const COMMAND_BYTES_MAX: usize = 64 << 20;
/// When the terminal does not say.
const WIDTH: usize = 80;
/// What only the shell knows.
const SHELL_COMMANDS: [&str; 4] = [".mode", ".slow", "exit", "quit"];

#[derive(Debug, Args)]
pub(super) struct ShellCommand {
    /// In a script, go on after an error; the exit code says that there was one.
    #[arg(long)]
    keep_going: bool,
}

/// A line, as the program's own arguments without the directory.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, override_usage = "COMMAND [ARGUMENTS]", after_help = HELP)]
struct Line {
    /// JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const HELP: &str = "\
In the shell only:
  .mode json|table  How documents are printed
  .slow MS|off      From when on a query is slow
  exit, quit        Leave; so does Ctrl-D

A word that begins with { or [ is JSON and may go over several lines; quotes keep spaces together.
Tab completes commands, collections, indexes, options and fields.";

/// How it goes on after a line.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Line,
    Leave,
}

struct Shell {
    store: Store,
    as_json: bool,
    is_interactive: bool,
}

impl ShellCommand {
    pub(super) fn run(self, store: &Store, as_json: bool) -> Result<()> {
        let is_interactive = std::io::stdin().is_terminal();
        let as_json = as_json || !std::io::stdout().is_terminal();
        let mut shell = Shell { store: store.clone(), as_json, is_interactive };
        if is_interactive { shell.converse() } else { shell.read_script(self.keep_going) }
    }
}

impl Shell {
    fn converse(&mut self) -> Result<()> {
        let config = Config::builder()
            .auto_add_history(true)
            .history_ignore_space(true)
            .max_history_size(HISTORY_MAX)?
            .build();
        let mut editor: Editor<Assistant, FileHistory> = Editor::with_config(config)?;
        editor.set_helper(Some(Assistant::new(self.store.clone())));
        let history = history_file();
        if let Some(path) = &history {
            // There is none at the first time.
            let _ = editor.load_history(path);
        }
        println!("jsonstore {}; `help` lists the commands", env!("CARGO_PKG_VERSION"));
        loop {
            match editor.readline("> ") {
                Ok(line) => {
                    // Now: a command may end the program.
                    if let Some(path) = &history {
                        keep_history(&mut editor, path)
                            .with_context(|| format!("cannot write {}", path.display()))?;
                    }
                    match self.execute(&line) {
                        Ok(Next::Line) => {}
                        Ok(Next::Leave) => return Ok(()),
                        Err(e) => eprintln!("{}", e.show(&line)),
                    }
                }
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn read_script(&mut self, keep_going: bool) -> Result<()> {
        let input = std::io::stdin();
        let (mut command, mut first, mut failed) = (String::new(), 1, 0);
        for number in 1.. {
            let length = command.len();
            let read = input.lock().read_line(&mut command)?;
            if command.len() > COMMAND_BYTES_MAX {
                bail!("line {first}: a command has at most {COMMAND_BYTES_MAX} bytes");
            }
            let is_open = matches!(line::split(&command), Ok(Split::Open));
            if read == 0 && length == 0 {
                break;
            }
            if is_open && read > 0 {
                continue;
            }
            let done = if is_open {
                Err(LineError::new("the command is not complete", None))
            } else {
                self.execute(&command)
            };
            match done {
                Ok(Next::Line) => {}
                Ok(Next::Leave) => break,
                Err(e) => {
                    let e = anyhow!("line {first}:\n{}", e.show(&command));
                    if !keep_going {
                        return Err(e);
                    }
                    eprintln!("{e}");
                    failed += 1;
                }
            }
            command.clear();
            first = number + 1;
        }
        if failed > 0 {
            bail!("{failed} commands failed");
        }
        Ok(())
    }

    fn execute(&mut self, line: &str) -> Result<Next, LineError> {
        let words = match line::split(line)? {
            Split::Words(words) => words,
            Split::Open => return Err(LineError::new("the command is not complete", None)),
        };
        let Some(first) = words.first() else { return Ok(Next::Line) };
        if first.text.starts_with('.') {
            return self.set(&words).map(|()| Next::Line);
        }
        if matches!(&*first.text, "exit" | "quit") {
            return Ok(Next::Leave);
        }
        let parsed = match Line::try_parse_from(words.iter().map(|word| &word.text)) {
            Ok(parsed) => parsed,
            Err(e) if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
                print!("{e}");
                return Ok(Next::Line);
            }
            Err(e) => return Err(misread(&e, &words)),
        };
        self.run(parsed).map_err(|e| located(&e, &words))?;
        Ok(Next::Line)
    }

    /// What begins with a full stop.
    fn set(&mut self, words: &[Word]) -> Result<(), LineError> {
        let (name, value) = (&words[0], words.get(1));
        let at = Some(value.unwrap_or(name).at);
        match (&*name.text, value.map(|word| &*word.text)) {
            (".mode", Some("json")) => self.as_json = true,
            (".mode", Some("table")) => self.as_json = false,
            (".mode", _) => return Err(LineError::new("`.mode json` or `.mode table`", at)),
            (".slow", Some("off")) => self.store.set_slow_query(None),
            (".slow", value) => {
                let ms = value.and_then(|value| value.parse().ok());
                let ms =
                    ms.ok_or_else(|| LineError::new("`.slow MILLISECONDS` or `.slow off`", at))?;
                self.store.set_slow_query(Some(Duration::from_millis(ms)));
            }
            _ => return Err(LineError::new("no such setting: `.mode`, `.slow`", at)),
        }
        Ok(())
    }

    fn run(&self, line: Line) -> Result<()> {
        let as_json = self.as_json || line.json;
        match line.command {
            Command::Put { document: None, .. } => bail!("`put` needs a document here"),
            Command::Import(import) if import.is_piped() => bail!("`import` needs a file here"),
            Command::Soak { .. }
            | Command::Die { .. }
            | Command::Restore(_)
            | Command::Shell(_) => {
                bail!("this opens a store itself: run it on its own")
            }
            Command::VerifyBackup(verify) => verify.run(None, as_json),
            Command::Backups(list) => list.run(as_json),
            Command::Watch { collection, filter } if self.is_interactive => {
                eprintln!("Enter ends it");
                block_on(until_enter(super::query::watch(&self.store, &collection, &filter)))
            }
            Command::Watch { .. } => bail!("`watch` does not end: run it on its own"),
            command if as_json => block_on(super::run(&self.store, command, true)),
            command => self.show(command),
        }
    }

    /// Documents as a table; what is none as it is.
    fn show(&self, command: Command) -> Result<()> {
        let (cursor, limit) = match &command {
            Command::Find(find) if find.finds_documents() => {
                (find.cursor(&self.store)?, usize::MAX)
            }
            Command::Scan { collection, from, to, limit } => {
                let range = super::range(from.as_deref(), to.as_deref())?;
                (self.store.collection(collection)?.scan(range), *limit)
            }
            Command::Aggregate { collection, pipeline } => {
                (super::query::pipeline(&self.store, collection, pipeline)?, usize::MAX)
            }
            _ => return block_on(super::run(&self.store, command, false)),
        };
        let (rows, is_all) = block_on(rows(cursor, limit))?;
        let mut out = std::io::stdout().lock();
        if !rows.is_empty() {
            writeln!(out, "{}", table::table(&rows, width()))?;
        }
        match is_all {
            true => writeln!(out, "{} documents", rows.len())?,
            false => writeln!(out, "the first {} documents; `.mode json` prints all", rows.len())?,
        }
        Ok(())
    }
}

async fn rows(mut cursor: Cursor, limit: usize) -> Result<(Vec<Value>, bool)> {
    let mut rows = Vec::new();
    while rows.len() < limit {
        let Some(document) = cursor.next().await? else { break };
        if rows.len() == TABLE_ROWS_MAX {
            return Ok((rows, false));
        }
        rows.push(document.value());
    }
    Ok((rows, true))
}

/// Runs something until the user presses Enter.
async fn until_enter(work: impl Future<Output = Result<()>>) -> Result<()> {
    let pressed: Arc<Mutex<(bool, Option<Waker>)>> = Arc::default();
    let press = Arc::clone(&pressed);
    let waiting = std::thread::spawn(move || {
        // The end of the input counts as Enter.
        let _ = std::io::stdin().read_line(&mut String::new());
        let mut state = press.lock();
        state.0 = true;
        state.1.take().into_iter().for_each(Waker::wake);
    });
    let mut work = pin!(work);
    let done = std::future::poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        let mut state = pressed.lock();
        state.1 = Some(context.waker().clone());
        if state.0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await;
    if let Err(e) = &done {
        eprintln!("{e:#}; Enter goes on");
    }
    // It must not take the next line.
    let _ = waiting.join();
    Ok(())
}

/// What clap did not understand, and where.
fn misread(e: &clap::Error, words: &[Word]) -> LineError {
    let kinds =
        [ContextKind::InvalidSubcommand, ContextKind::InvalidValue, ContextKind::InvalidArg];
    let named = kinds.into_iter().find_map(|kind| e.get(kind)).map(ToString::to_string);
    let word = named.and_then(|named| words.iter().find(|word| word.text == named));
    let text = e.render().to_string();
    let text = text.trim_start_matches("error: ").split("\n\nFor more").next().unwrap_or_default();
    LineError::new(text.trim_end(), word.map(|word| word.at))
}

/// What the store says, at the operator or field it speaks of.
fn located(e: &anyhow::Error, words: &[Word]) -> LineError {
    let path = match e.downcast_ref::<Error>() {
        Some(Error::InvalidFilter { path, .. }) => path.rsplit('.').next().unwrap_or_default(),
        _ => "",
    };
    let place = |word: &Word| word.text.find(&format!("\"{path}\"")).map(|at| word.at + at);
    let is_json = |word: &&Word| word.text.starts_with(['{', '[']);
    let at = words.iter().filter(is_json).find_map(place).filter(|_| !path.is_empty());
    LineError::new(format!("{e:#}"), at)
}

fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| size.ws_col);
    if columns == 0 { WIDTH } else { columns.into() }
}

/// `JSONSTORE_HISTORY`, or where programs keep their state.
fn history_file() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = from("JSONSTORE_HISTORY") {
        return Some(path.into());
    }
    let state = from("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(from("HOME")?).join(".local/state")));
    Some(state?.join("jsonstore/history"))
}

/// Readable by its owner only: lines hold values.
fn keep_history(editor: &mut Editor<Assistant, FileHistory>, path: &PathBuf) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(editor.append_history(path)?)
}
