//! Starting with few file descriptors: it serves, or says what is missing; it never panics.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};

use crate::process::{hearth, signal};

/// What became of a start.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    Served,
    /// The code of the error.
    Refused(String),
}

#[test]
#[cfg(target_os = "linux")]
fn a_start_without_descriptors_says_so() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("index.html"), "hello").unwrap();
    let text = format!(
        "listeners = [{{ address = '127.0.0.1:0' }}]\n[[sites]]\nroot = {:?}\n",
        dir.path().display().to_string()
    );
    let config = dir.path().join("hearth.toml");
    fs::write(&config, text).unwrap();
    let mut refused = Vec::new();
    for count in 5..300 {
        let mut command = Command::new("sh");
        for (name, value) in hearth().get_envs() {
            assert!(value.is_none(), "variables are only taken away");
            command.env_remove(name);
        }
        let script = format!("ulimit -n {count}; exec \"$0\" \"$@\"");
        command.arg("-c").arg(script).arg(hearth().get_program());
        match start(command.args(["serve", "--json", "-c"]).arg(&config), count) {
            Start::Served => break,
            Start::Refused(code) => refused.push(code),
        }
    }
    assert!(refused.len() < 290, "it never served");
    // Whatever was missing: a descriptor for events, or for a listener.
    assert!(refused.iter().all(|code| code == "H-SRV-018" || code == "H-SRV-008"), "{refused:?}");
    assert!(refused.iter().any(|code| code == "H-SRV-018"), "{refused:?}");
}

fn start(command: &mut Command, count: u32) -> Start {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut banner = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut banner).unwrap();
    if !banner.is_empty() {
        signal(child.id(), "TERM");
    }
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let status = child.wait().unwrap();
    if !banner.is_empty() {
        assert!(status.success(), "{count} descriptors: {status}: {said}");
        return Start::Served;
    }
    assert!(!said.contains("panicked"), "{count} descriptors: {said}");
    assert!(matches!(status.code(), Some(1 | 5)), "{count} descriptors: {status}: {said}");
    let code = said.split_once("error[").and_then(|(_, rest)| rest.split_once(']'));
    Start::Refused(code.unwrap_or_else(|| panic!("{count} descriptors: {said}")).0.to_owned())
}
