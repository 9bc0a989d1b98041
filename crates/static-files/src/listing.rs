//! A page that lists a directory.

use std::{
    fmt::Write,
    fs::File,
    time::{Duration, UNIX_EPOCH},
};

use hearth_http_core::{HeaderValue, Response, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::root::{Entry, Root};

/// Lists `directory`, which was found at `key` beneath `root`, and which the request path `shown` (raw, ending with a
/// slash) leads to.
///
/// Only what could be served is listed. Reads the directory on the calling thread, at most
/// [`ENTRY_COUNT_MAX`] entries of it.
pub(crate) fn list(
    root: &Root,
    directory: &File,
    key: &str,
    shown: &str,
    hidden: bool,
) -> Response {
    let (mut entries, is_complete) = match root.entries(directory, key, hidden, ENTRY_COUNT_MAX) {
        Ok(read) => read,
        Err(error) => {
            tracing::warn!(%error, path = shown, "the directory cannot be listed");
            return Response::status_text(hearth_http_core::StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    entries.sort_by(|a, b| {
        let key = |entry: &Entry| (!entry.is_directory, entry.name.to_lowercase());
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    Response::html(render(shown, &entries, is_complete))
        .with_header(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))
        .with_header(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
}

fn render(shown: &str, entries: &[Entry], is_complete: bool) -> String {
    let mut title = String::new();
    escape(&percent_decode_str(shown).decode_utf8_lossy(), &mut title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Index of {title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>Index of {title}</h1>\n<table>\n\
         <thead><tr><th scope=\"col\">Name</th><th scope=\"col\">Size</th>\
         <th scope=\"col\">Last modified</th></tr></thead>\n<tbody>\n"
    );
    if !shown.trim_matches('/').is_empty() {
        page.push_str("<tr><td><a href=\"../\">Parent directory</a></td><td></td><td></td></tr>\n");
    }
    for entry in entries {
        row(entry, &mut page);
    }
    page.push_str("</tbody>\n</table>\n");
    if !is_complete {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "<p>Only the first {ENTRY_COUNT_MAX} entries are shown.</p>");
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn row(entry: &Entry, page: &mut String) {
    let slash = if entry.is_directory { "/" } else { "" };
    let href = utf8_percent_encode(&entry.name, UNRESERVED);
    let _ = write!(page, "<tr><td><a href=\"{href}{slash}\">");
    escape(&entry.name, page);
    let _ = write!(page, "{slash}</a></td><td>");
    if !entry.is_directory && entry.modified.is_some() {
        size(entry.len, page);
    }
    page.push_str("</td><td>");
    if let Some(seconds) = entry.modified.filter(|seconds| *seconds < 253_402_300_800) {
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        let _ = write!(page, "<time>{date}</time>");
    }
    page.push_str("</td></tr>\n");
}

fn size(len: u64, page: &mut String) {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if len < 1024 {
        let _ = write!(page, "{len} B");
        return;
    }
    let mut tenths = len.saturating_mul(10) / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < units.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    let _ = write!(page, "{}.{} {name}", tenths / 10, tenths % 10);
}

fn escape(text: &str, page: &mut String) {
    for character in text.chars() {
        match character {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            other => page.push(other),
        }
    }
}

/// A listing is made anew for every request, so it is bounded.
const ENTRY_COUNT_MAX: usize = 4096;
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}th{text-align:left}td,th{padding:.2rem .5rem;\
border-bottom:1px solid #8884}td:nth-child(2),th:nth-child(2){text-align:right}\
@media(prefers-color-scheme:dark){html{background:#111;color:#eee}a{color:#8bf}}";
