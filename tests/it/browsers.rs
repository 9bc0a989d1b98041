//! Clients that people use: curl, nghttp, Chromium.

use std::{path::Path, process::Command};

use hearth_e2e::{peers, program};

use crate::{rust_docs, servers};

#[test]
fn curl_loads_pages() {
    let Some(curl) = peers::find("curl") else { return };
    let root = rust_docs::root();
    let server = servers::hearth(&root, "");
    let expected = std::fs::read(root.join("index.html")).expect("the page");
    let plain = format!("http://{}/index.html", server.address());
    let tls = format!("https://localhost:{}/index.html", server.tls.port());
    let rows: [(&[&str], &str); 5] = [
        (&["--http1.1"], &plain),
        (&["--http2-prior-knowledge"], &plain),
        (&["--http1.1"], &tls),
        (&["--http2"], &tls),
        (&["--http2", "--compressed"], &tls),
    ];
    for (options, url) in rows {
        let mut command = Command::new(&curl);
        command.args(["-sS", "--fail", "--max-time", "20", "--cacert"]);
        command.arg(&server.certificate.chain).args(options).arg(url);
        let output = peers::run(30, &mut command).expect("curl");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "curl {options:?} {url}: {error}");
        assert!(output.stdout == expected, "curl {options:?} {url}: the bytes differ");
    }
}

#[test]
fn nghttp_loads_a_page_with_its_assets() {
    let Some(nghttp) = peers::find("nghttp") else { return };
    let server = servers::hearth(&rust_docs::root(), "");
    for url in [
        format!("http://{}/std/index.html", server.address()),
        format!("https://localhost:{}/std/index.html", server.tls.port()),
    ] {
        let mut command = Command::new(&nghttp);
        let output =
            peers::run(40, command.args(["-nas", "--no-verify-peer", &url])).expect("nghttp");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "nghttp {url}: {text}");
        // One line for each file: id, times, code, size, path. The page has a dozen assets.
        let codes: Vec<&str> =
            text.lines().filter(|line| line.contains(" /")).filter_map(status).collect();
        assert!(codes.len() > 3, "{text}");
        assert!(codes.iter().all(|code| *code == "200"), "{text}");
    }
}

/// The status column of a line of `nghttp -s`.
fn status(line: &str) -> Option<&str> {
    line.split_whitespace().find(|word| word.len() == 3 && word.parse::<u16>().is_ok())
}

#[test]
fn chromium_renders_without_an_error() {
    let Some(chromium) = peers::find("chromium") else { return };
    let rust_docs = servers::hearth(&rust_docs::root(), "");
    let site = servers::hearth(&program::workspace().join("examples/site"), "");
    let rows = [
        (&rust_docs, "/std/index.html", "The Rust Standard Library"),
        (&site, "/gallery.html", "Dusk"),
        (&site, "/thanks.html?name=Ada", "Ada: Your message"),
    ];
    for (server, path, text) in rows {
        let plain = format!("http://{}{path}", server.address());
        let tls = format!("https://localhost:{}{path}", server.tls.port());
        for url in [plain, tls] {
            let log = render(&chromium, server.folder.path(), &url);
            assert!(log.page.contains(text), "{url}: {}", log.console);
            let errors: Vec<_> = log.console.lines().filter(|line| is_error(line)).collect();
            assert!(errors.is_empty(), "{url}: {errors:?}");
        }
    }
    screenshot(&chromium, &rust_docs);
}

/// Whether a line of the browser's log tells of something that did not load or did not run. Its hints about the page's
/// markup (preloads that go unused) are not about the server.
fn is_error(line: &str) -> bool {
    line.contains(":CONSOLE")
        && ["Failed to load", "Uncaught", "net::ERR", "Refused", "blocked"]
            .iter()
            .any(|sign| line.contains(sign))
}

struct Rendered {
    page: String,
    console: String,
}

/// Loads a page, runs its scripts, answers the document and what the browser logged.
fn render(chromium: &Path, folder: &Path, url: &str) -> Rendered {
    let mut command = headless(chromium, folder);
    command.args(["--virtual-time-budget=10000", "--dump-dom", url]);
    let output = peers::run(90, &mut command).expect("chromium");
    Rendered {
        page: String::from_utf8_lossy(&output.stdout).into_owned(),
        console: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// With `E2E_BLESS` set, takes the picture that the book shows.
fn screenshot(chromium: &Path, server: &servers::Server) {
    let file = match std::env::var_os("E2E_BLESS") {
        Some(_) => program::workspace().join("docs/src/images/rust-docs.png"),
        None => server.folder.path().join("rust-docs.png"),
    };
    let mut command = headless(chromium, server.folder.path());
    command.arg(format!("--screenshot={}", file.display())).arg("--window-size=1100,760");
    command.arg("--virtual-time-budget=10000");
    command.arg(format!("https://localhost:{}/std/index.html", server.tls.port()));
    peers::run(90, &mut command).expect("chromium");
    let picture = std::fs::read(&file).expect("a picture");
    assert!(picture.len() > 20_000, "the picture is empty: {} bytes", picture.len());
}

fn headless(chromium: &Path, folder: &Path) -> Command {
    let mut command = Command::new(chromium);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--ignore-certificate-errors",
        "--enable-logging=stderr",
    ]);
    command.arg(format!("--user-data-dir={}", folder.join("chromium").display()));
    command
}
