//! kill -9 of a real process with 8 writers on a real file system.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use hearth_jsonstore::{Isolation, Options, Store, block_on};

const WRITERS: u64 = 8;

/// The child: not a test by itself, but the other half of the one below.
#[test]
fn child_of_the_kill_test() {
    let Ok(dir) = std::env::var("E2E_KILL_DIR") else { return };
    let mut options = Options::new(dir);
    options.memtable_bytes = 256 << 10;
    options.wal_file_bytes = 1 << 20;
    options.l0_trigger = 2;
    let store = block_on(Store::open(options)).unwrap();
    let out = Mutex::new(std::io::stdout());
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, out) = (store.clone(), &out);
            scope.spawn(move || {
                let c = store.collection("c").unwrap();
                // Two documents per transaction: both or none must be there.
                let (a, b) = (writer * 2, writer * 2 + 1);
                let next =
                    block_on(c.get(a)).unwrap().map_or(0, |d| d.value()["n"].as_u64().unwrap());
                for n in next + 1.. {
                    block_on(async {
                        let tx = store.begin(Isolation::Snapshot);
                        let pad = "y".repeat((n % 700) as usize);
                        tx.put(&c, &format!("{{\"_id\":{a},\"n\":{n},\"pad\":\"{pad}\"}}"))
                            .await
                            .unwrap();
                        tx.put(&c, &format!("{{\"_id\":{b},\"n\":{n}}}")).await.unwrap();
                        tx.commit().await.unwrap();
                    });
                    let mut out = out.lock().unwrap();
                    writeln!(out, "ack {writer} {n}").unwrap();
                    out.flush().unwrap();
                }
            });
        }
    });
}

#[test]
fn no_acknowledged_commit_is_lost_by_kill_9() {
    let rounds = if std::env::var("E2E_LONG").is_ok() { 200 } else { 8 };
    let dir = tempfile::tempdir().unwrap();
    let mut acked: BTreeMap<u64, u64> = BTreeMap::new();
    let mut slowest = Duration::ZERO;
    let mut total = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "child_of_the_kill_test",
                "--exact",
                "kill::child_of_the_kill_test",
                "--nocapture",
            ])
            .env("E2E_KILL_DIR", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let life = Duration::from_millis(60 + (round * 7919) % 400);
        let (mut start, mut killed) = (None, false);
        for line in lines {
            let Ok(line) = line else { break };
            let mut words = line.split(' ').skip_while(|w| !w.ends_with("ack")).skip(1);
            let (Some(writer), Some(n)) = (words.next(), words.next()) else { continue };
            let begun = *start.get_or_insert_with(Instant::now);
            acked.insert(writer.parse().unwrap(), n.parse().unwrap());
            total += 1;
            if begun.elapsed() >= life && !killed {
                killed = true;
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let start = Instant::now();
        let store = block_on(Store::open(Options::new(dir.path()))).unwrap();
        let c = store.collection("c").unwrap();
        block_on(c.get(0)).unwrap();
        slowest = slowest.max(start.elapsed());
        for (writer, n) in &acked {
            let read =
                |id: u64| block_on(c.get(id)).unwrap().unwrap().value()["n"].as_u64().unwrap();
            let (a, b) = (read(writer * 2), read(writer * 2 + 1));
            assert!(a >= *n, "round {round}: writer {writer} lost {n}, found {a}");
            assert_eq!(a, b, "round {round}: writer {writer}: a transaction in part");
        }
        block_on(store.verify()).unwrap();
    }
    println!("{rounds} kills, {total} acknowledged commits, slowest reopening {slowest:?}");
    assert!(slowest < Duration::from_secs(2));
}
