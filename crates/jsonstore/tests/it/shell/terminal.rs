//! The shell at a real terminal: a pty of our own.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use super::{filled, program};

/// Only a machine that hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
const UP: &str = "\x1b[A";
const TAB: &str = "\t";
const ENTER: &str = "\r";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    shown: String,
}

impl Terminal {
    fn open(dir: &Path) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize { ws_row: 30, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let slave = File::from(rustix::fs::open(name, flags, Mode::empty()).unwrap());
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        let child = program()
            .arg(dir.join("store"))
            .arg("shell")
            .env("JSONSTORE_HISTORY", dir.join("history"))
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .unwrap();
        drop(slave);
        let keyboard = File::from(master);
        let mut output = keyboard.try_clone().unwrap();
        let (send, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The end is an error: nobody has the other side open any more.
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                if send.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut terminal = Self { child, keyboard, screen, shown: String::new() };
        terminal.expect("`help` lists the commands");
        terminal.expect("> ");
        terminal
    }

    fn press(&mut self, keys: &str) -> &mut Self {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self
    }

    /// Waits until this is shown; what came before it is forgotten.
    #[track_caller]
    fn expect(&mut self, text: &str) -> &mut Self {
        let begun = Instant::now();
        loop {
            if let Some(at) = self.shown.find(text) {
                self.shown.drain(..at + text.len());
                return self;
            }
            let left = PATIENCE.saturating_sub(begun.elapsed());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(e) => panic!("{text:?} is not shown ({e}), but {:?}", self.shown),
            }
        }
    }

    fn leaves_well(mut self) {
        // The other side is closed when the program is gone.
        let end = loop {
            if let Err(end) = self.screen.recv_timeout(PATIENCE) {
                break end;
            }
        };
        assert_eq!(end, RecvTimeoutError::Disconnected, "it does not end");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Of a test that failed; one that ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn store() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    filled(&dir.path().join("store"));
    dir
}

#[test]
fn tab_completes_and_documents_are_a_table() {
    let dir = store();
    let mut terminal = Terminal::open(dir.path());
    terminal.press("fin").press(TAB).expect("find ");
    terminal.press("pe").press(TAB).expect("people ");
    terminal.press("{na").press(TAB).expect("\"name\"");
    terminal.press(": \"Ada\"}").press(ENTER);
    terminal.expect("_id  born  name").expect("  1  1815  Ada").expect("1 documents").expect("> ");
    // An index and an option.
    terminal.press("find people {\"born\": 1815} --hi").press(TAB).expect("--hint ");
    terminal
        .press("bo")
        .press(TAB)
        .expect("born ")
        .press("--count")
        .press(ENTER)
        .expect("\n1")
        .expect("> ");
    terminal.press(CTRL_D);
    terminal.leaves_well();
}

#[test]
fn a_command_over_several_lines_and_json() {
    let dir = store();
    let mut terminal = Terminal::open(dir.path());
    terminal.press(".mode json").press(ENTER).expect("> ");
    terminal.press("find people {\"name\":").press(ENTER).press("\"Grace\"}").press(ENTER);
    terminal.expect("{\"_id\":2,\"born\":1906,\"name\":\"Grace\"}").expect("> ");
    terminal.press("exit").press(ENTER);
    terminal.leaves_well();
}

#[test]
fn history_lasts_and_is_the_owners() {
    let dir = store();
    let mut first = Terminal::open(dir.path());
    first.press("get people 3").press(ENTER).expect("Barbara").expect("> ");
    first.press(" get people 2").press(ENTER).expect("Grace").expect("> ");
    first.press(CTRL_D);
    first.leaves_well();
    let path = dir.path().join("history");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("get people 3"), "{text}");
    assert!(!text.contains("get people 2"), "a line after a space is not kept: {text}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
    let mut second = Terminal::open(dir.path());
    second.press(UP).expect("get people 3").press(ENTER).expect("Barbara").expect("> ");
    second.press(CTRL_D);
    second.leaves_well();
}

#[test]
fn errors_are_pointed_at_and_control_c_drops_the_line() {
    let dir = store();
    let mut terminal = Terminal::open(dir.path());
    terminal.press("find people {\"a\": nope}").press(ENTER);
    terminal.expect("\n                     ^ no JSON: expected ident").expect("> ");
    terminal.press("delete people 1").press(CTRL_C).expect("> ");
    terminal.press("get people 1").press(ENTER).expect("Ada").expect("> ");
    terminal.press(CTRL_D);
    terminal.leaves_well();
}

#[test]
fn watching_ends_at_enter() {
    let dir = store();
    let mut terminal = Terminal::open(dir.path());
    terminal.press("watch people").press(ENTER).expect("Enter ends it").expect("\n");
    terminal.press(ENTER).expect("> ");
    terminal.press("get people 2").press(ENTER).expect("Grace").expect("> ");
    terminal.press(CTRL_D);
    terminal.leaves_well();
}

#[test]
fn top_looks_again_until_enter() {
    let dir = store();
    let mut terminal = Terminal::open(dir.path());
    terminal.press("top --every 0.05").press(ENTER);
    // Each look clears the screen and begins at its top.
    for _ in 0..2 {
        terminal.expect("\x1b[H\x1b[J").expect("per second").expect("Enter ends it");
    }
    terminal.press(ENTER).expect("> ");
    terminal.press("get people 2").press(ENTER).expect("Grace").expect("> ");
    terminal.press(CTRL_D);
    terminal.leaves_well();
}
