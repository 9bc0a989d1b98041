//! `hearth probe`, as those who ask it meet it.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Stdio},
};

use crate::{
    client::connect,
    process::{hearth, run},
};

/// Ends with the test.
struct Probe(Child);

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const TOKEN: &str = "0123456789abcdef";

#[test]
fn only_who_knows_the_token_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let mut command = hearth();
    command.args(["probe", "--listen", "127.0.0.1:0", "--token-file"]).arg(&file);
    let mut probe = Probe(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(probe.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (_, address) = line.trim().rsplit_once('/').unwrap();
    let address = address.parse().unwrap();
    let ask = |field: &str| {
        let mut stream = connect(address);
        let question = r#"{"url": "http://127.0.0.1/", "expect": ""}"#;
        write!(
            stream,
            "POST / HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n{field}content-length: {}\r\n\r\n{question}",
            question.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for field in ["", "authorization: Bearer 0123456789abcdeX\r\n", "authorization: Bearer \r\n"] {
        let answer = ask(field);
        assert!(answer.contains(" 403 ") && answer.contains("needs its token"), "{answer}");
    }
    let answer = ask(&format!("authorization: Bearer {TOKEN}\r\n"));
    assert!(
        answer.contains(" 422 ") && answer.contains("does not lead to a challenge"),
        "{answer}"
    );
}

#[test]
fn a_token_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    for (text, want) in [
        (None, "No such file"),
        (Some(""), "a token is one line of 16 to 256"),
        (Some("short"), "a token is one line"),
        (Some("0123456789abcdef 0123456789abcdef"), "a token is one line"),
        (Some("0123456789abcdef\n0123456789abcdef"), "a token is one line"),
    ] {
        if let Some(text) = text {
            fs::write(&file, text).unwrap();
        }
        let mut command = hearth();
        command.args(["probe", "--listen", "127.0.0.1:0", "--token-file"]).arg(&file);
        let output = run(&mut command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(want), "{text:?}: {said}");
        assert_eq!(output.status.code(), Some(2), "{said}");
    }
}
