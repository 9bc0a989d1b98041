//! A page that lists a directory.

use std::{
    fmt::Write,
    fs::File,
    time::{Duration, UNIX_EPOCH},
};

use hearth_http_core::{HeaderValue, Response, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustix::fs::{AtFlags, FileType, statat};

use crate::{path, root::Symlinks};

struct Entry {
    name: String,
    is_directory: bool,
    len: u64,
    modified: Option<u64>,
}

/// Lists `directory`, which is what the request path `shown` (raw, ending with a slash) leads to.
///
/// Only what could be served is listed. Reads the directory on the calling thread, at most
/// [`ENTRY_COUNT_MAX`] entries of it.
pub(crate) fn list(directory: &File, shown: &str, hidden: bool, symlinks: Symlinks) -> Response {
    let (entries, is_complete) = match read(directory, hidden, symlinks) {
        Ok(read) => read,
        Err(error) => {
            tracing::warn!(%error, path = shown, "the directory cannot be listed");
            return Response::status_text(hearth_http_core::StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    Response::html(render(shown, &entries, is_complete))
        .with_header(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))
        .with_header(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
}

fn read(
    directory: &File,
    hidden: bool,
    symlinks: Symlinks,
) -> rustix::io::Result<(Vec<Entry>, bool)> {
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if path::check_segment(name, hidden).is_err() || matches!(name, "." | "..") {
            continue;
        }
        if entries.len() == ENTRY_COUNT_MAX {
            return Ok((entries, false));
        }
        let mut flags = AtFlags::SYMLINK_NOFOLLOW;
        let is_link = entry.file_type() == FileType::Symlink;
        match symlinks {
            Symlinks::Deny if is_link => continue,
            Symlinks::Follow => flags = AtFlags::empty(),
            _ => {}
        }
        let Ok(stat) = statat(directory, name, flags) else { continue };
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let is_directory = file_type == FileType::Directory;
        // Where a link leads is not looked into: it may be outside. Its target is checked when it is opened.
        let is_content = is_directory || file_type == FileType::RegularFile || is_link;
        if !is_content {
            continue;
        }
        entries.push(Entry {
            name: name.to_owned(),
            is_directory,
            len: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: u64::try_from(stat.st_mtime).ok().filter(|_| !is_link),
        });
    }
    entries.sort_by(|a, b| {
        let key = |entry: &Entry| (!entry.is_directory, entry.name.to_lowercase());
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    Ok((entries, true))
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
