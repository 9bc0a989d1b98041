//! Media types by file name.

use hearth_http_core::HeaderValue;

/// Types of our own choice, by extension in lower case.
pub(crate) type Overrides = Vec<(Box<str>, HeaderValue)>;

/// The `content-type` of a file, and whether its extension is one that we know.
pub(crate) fn content_type(path: &str, overrides: &Overrides) -> (HeaderValue, bool) {
    let unknown = (HeaderValue::from_static("application/octet-stream"), false);
    let Some(extension) = extension(path) else { return unknown };
    let own = overrides.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension));
    if let Some((_, value)) = own {
        return (value.clone(), true);
    }
    let Some(essence) = essence(extension) else { return unknown };
    let value = if essence.starts_with("text/") {
        HeaderValue::try_from(format!("{essence}; charset=utf-8"))
    } else {
        Ok(HeaderValue::from_static(essence))
    };
    value.map_or(unknown, |value| (value, true))
}

/// What follows the last dot of the last segment.
fn extension(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    name.rsplit_once('.').map(|(_, extension)| extension).filter(|text| !text.is_empty())
}

fn essence(extension: &str) -> Option<&'static str> {
    let corrected = CORRECTIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension));
    match corrected {
        Some((_, essence)) => Some(essence),
        None => mime_guess::from_ext(extension).first_raw(),
    }
}

/// Where the table of `mime_guess` is not what a web server should say: RFC 9239 for JavaScript, sources to be
/// shown rather than downloaded, RFC 9512 for YAML, video segments.
const CORRECTIONS: [(&str, &str); 12] = [
    ("cjs", "text/javascript"),
    ("ico", "image/vnd.microsoft.icon"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("map", "application/json"),
    ("mjs", "text/javascript"),
    ("rs", "text/plain"),
    ("toml", "application/toml"),
    ("ts", "video/mp2t"),
    ("xml", "application/xml"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("jxl", "image/jxl"),
];

#[cfg(test)]
mod tests {
    use super::content_type;

    #[test]
    fn table() {
        let own = vec![("foo".into(), "application/x-foo".parse().expect("a value"))];
        for (path, want) in [
            ("index.html", "text/html; charset=utf-8"),
            ("INDEX.HTML", "text/html; charset=utf-8"),
            ("a/b.css", "text/css; charset=utf-8"),
            ("app.js", "text/javascript; charset=utf-8"),
            ("app.mjs", "text/javascript; charset=utf-8"),
            ("app.js.map", "application/json"),
            ("data.json", "application/json"),
            ("app.webmanifest", "application/manifest+json"),
            ("a.wasm", "application/wasm"),
            ("a.svg", "image/svg+xml"),
            ("a.png", "image/png"),
            ("a.jpeg", "image/jpeg"),
            ("a.webp", "image/webp"),
            ("a.avif", "image/avif"),
            ("a.woff2", "font/woff2"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.md", "text/markdown; charset=utf-8"),
            ("a.pdf", "application/pdf"),
            ("a.mp4", "video/mp4"),
            ("a.gz", "application/gzip"),
            ("feed.xml", "application/xml"),
            ("main.rs", "text/plain; charset=utf-8"),
            ("x.foo", "application/x-foo"),
            ("LICENSE", "application/octet-stream"),
            ("v1.2/LICENSE", "application/octet-stream"),
            ("a.unheard", "application/octet-stream"),
            ("a.", "application/octet-stream"),
        ] {
            assert_eq!(content_type(path, &own).0, want, "{path}");
        }
    }
}
