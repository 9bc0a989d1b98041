//! Commands from standard input.

use std::{
    io::Write,
    path::Path,
    process::{Output, Stdio},
};

use hearth_jsonstore::{Options, Store, block_on};

use super::{filled, program};

fn script(dir: &Path, options: &[&str], text: &str) -> Output {
    let mut child = program()
        .arg(dir)
        .arg("shell")
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn check(text: &str, options: &[&str], is_ok: bool, out: &str, err: &str) {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let done = script(dir.path(), options, text);
    let (stdout, stderr) =
        (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert_eq!((&*stdout, &*stderr), (out, err), "{text}");
    assert_eq!(done.status.success(), is_ok, "{text}");
}

const ADA: &str = "{\"_id\":1,\"born\":1815,\"name\":\"Ada\"}\n";

#[test]
fn commands_in_turn() {
    check(
        "# people\nfind people {\"name\": \"Ada\"}\n\nfind people {\"born\":\n  {\"$gt\": 1900}} --count\n",
        &[],
        true,
        &format!("{ADA}2\n"),
        "",
    );
    check("get people 1", &[], true, ADA, "");
    check("put people {\"_id\": 9}\ndelete people 9\nexit\nget people 9", &[], true, "9\n", "");
    check(
        "collections\nindex list people",
        &[],
        true,
        "people\n{\"index\":{\"fields\":[{\"born\":1}],\"name\":\"born\"},\"name\":\"born\",\"state\":\"ready\"}\n",
        "",
    );
    check(
        "find people {\"_id\": 1} --fields {\"name\": 1, \"_id\": 0}",
        &[],
        true,
        "{\"name\":\"Ada\"}\n",
        "",
    );
    check(
        ".mode table\nscan people --limit 1",
        &[],
        true,
        "_id  born  name\n───  ────  ────\n  1  1815  Ada\n1 documents\n",
        "",
    );
    check(".mode table\nscan people --limit 1 --json", &[], true, ADA, "");
}

#[test]
fn the_first_error_ends_it_and_is_pointed_at() {
    check(
        "get people 1\nfind people {\"born\": nope}\nget people 1",
        &[],
        false,
        ADA,
        "Error: line 2:\n  find people {\"born\": nope}\n                        ^ no JSON: expected ident\n",
    );
    check(
        "find people {\"born\": {\"$gtt\": 1900}}",
        &[],
        false,
        "",
        "Error: line 1:\n  find people {\"born\": {\"$gtt\": 1900}}\n                        ^ invalid query at \"born.$gtt\": no such operator here\n",
    );
    check(
        "find people {\n\"born\": 1\n",
        &[],
        false,
        "",
        "Error: line 1:\nthe command is not complete\n",
    );
    check("get people 77", &[], false, "", "Error: line 1:\nno document 77 in people\n");
    check(
        ".mode xml",
        &[],
        false,
        "",
        "Error: line 1:\n  .mode xml\n        ^ `.mode json` or `.mode table`\n",
    );
    for (line, want) in [
        ("watch people", "`watch` does not end"),
        ("put people", "`put` needs a document here"),
        ("import people", "`import` needs a file here"),
        ("soak", "this opens a store itself"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let done = script(dir.path(), &[], line);
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && stderr.contains(want), "{line}: {stderr}");
    }
}

#[test]
fn a_word_that_is_no_command_is_pointed_at() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let done = script(dir.path(), &[], "fimd people");
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(stderr.contains("  fimd people\n  ^ ") && stderr.contains("'find'"), "{stderr}");
    let done = script(dir.path(), &[], "find people --limt 3");
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(stderr.contains("\n              ^ ") && stderr.contains("--limit"), "{stderr}");
    assert!(!done.status.success());
}

#[test]
fn with_keep_going_the_rest_is_done_and_the_code_says_so() {
    check(
        "get people 77\nget people 1\nfind people {\"a\" 1}\n",
        &["--keep-going"],
        false,
        ADA,
        "line 1:\nno document 77 in people\n\
         line 3:\n  find people {\"a\" 1}\n                   ^ no JSON: expected `:`\nError: 2 commands failed\n",
    );
    check("get people 1\n", &["--keep-going"], true, ADA, "");
}

#[test]
fn how_the_store_does() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let text = "health\n.slow 0\nfind people {\"name\": \"Ada\"}\nslow\ntop --count 1\nmetrics\nmetrics --prometheus\n.mode table\nslow\ntop --count 2 --every 0.01\n";
    let done = script(dir.path(), &[], text);
    let stdout = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(stdout.contains("\"score\":"), "{stdout}");
    assert!(stdout.contains("\"shape\":\"\\\"name\\\" = String\""), "{stdout}");
    assert!(stdout.contains("# TYPE jsonstore_commits_total counter"), "{stdout}");
    assert!(stdout.contains("ms  find people: \"name\" = String\n"), "{stdout}");
    assert_eq!(stdout.matches("per second").count(), 2, "{stdout}");
    let rows: Vec<&str> = stdout.lines().filter(|line| line.starts_with("find ")).collect();
    assert_eq!(rows.len(), 2, "{stdout}");
    assert!(rows.iter().all(|row| row[..24] == format!("{:<12}{:>12}", "find", 1)), "{stdout}");
}

#[test]
fn what_indexes_would_help() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let put = (10..400).map(|id| format!("put people {{\"_id\": {id}, \"name\": \"n{id}\"}}\n"));
    let mut text = put.collect::<String>();
    text.push_str("advice\n.mode table\nadvice\n");
    text.push_str(&"find people {\"name\": \"n77\"} --count\n".repeat(6));
    text.push_str("advice\n.mode json\nadvice\n");
    let done = script(dir.path(), &[], &text);
    let stdout = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(stdout.matches("no index would help").count(), 1, "{stdout}");
    let command = "index create people '{\"fields\":[{\"name\":1}]}'\n      6 queries lately";
    assert!(stdout.contains(command), "{stdout}");
    assert!(stdout.contains("      6 times: \"name\" = String; count\n"), "{stdout}");
    assert!(stdout.contains("\"action\":\"create\",\"collection\":\"people\""), "{stdout}");
}

/// What another program wrote is read without touching its store.
#[test]
fn a_report_is_read_without_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (path, report) = (dir.path().join("store"), dir.path().join("report.json"));
    filled(&path);
    let store = block_on(Store::open(Options::new(&path))).unwrap();
    store.set_slow_query(Some(std::time::Duration::ZERO));
    let people = store.collection("people").unwrap();
    block_on(people.find(hearth_jsonstore::Filter::default()).collect()).unwrap();
    std::fs::write(&report, store.report(None).1.to_string()).unwrap();
    let ask = |command: &str, from: bool| {
        let mut program = program();
        program.arg(&path).arg(command);
        if command == "top" {
            program.args(["--count", "1"]);
        }
        if from {
            program.arg("--from").arg(&report);
        }
        program.output().unwrap()
    };
    for (command, want) in [("top", "per second"), ("slow", "find people"), ("health", "of 100")] {
        let done = ask(command, true);
        let stdout = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && stdout.contains(want), "{command}: {stdout}");
        // Only one process can have it open.
        let done = ask(command, false);
        let stderr = String::from_utf8_lossy(&done.stderr);
        let says = if command == "health" { "cannot open" } else { "--from" };
        assert!(!done.status.success() && stderr.contains(says), "{command}: {stderr}");
    }
    let mut strict = program();
    strict.arg(&path).args(["health", "--at-least", "101", "--from"]).arg(&report);
    assert!(!strict.output().unwrap().status.success());
    // Of a program that is gone.
    let old = r#"{"metrics":{"wall_ms":1},"health":{"score":100,"alerts":[]},"slow":[]}"#;
    std::fs::write(&report, old).unwrap();
    assert!(String::from_utf8_lossy(&ask("top", true).stderr).contains("s old"));
    std::fs::write(&report, "{").unwrap();
    assert!(String::from_utf8_lossy(&ask("slow", true).stderr).contains("is no report"));
}

#[test]
fn the_directory_may_come_last() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let mut command = program();
    command.arg("shell").arg(dir.path()).stdin(Stdio::null());
    assert!(command.status().unwrap().success());
}
