//! Which media types gain by compression.

/// A list of media types; `*` stands for any text at the beginning or the end.
#[derive(Debug, Clone)]
pub(crate) struct Types {
    patterns: Vec<Box<str>>,
    excluded: &'static [&'static str],
}

impl Types {
    pub(crate) fn new(patterns: impl IntoIterator<Item = String>) -> Self {
        let patterns = patterns.into_iter().map(|text| text.to_ascii_lowercase().into()).collect();
        Self { patterns, excluded: &[] }
    }

    pub(crate) fn contains(&self, content_type: &[u8]) -> bool {
        let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
        let essence = essence.trim_ascii();
        let is = |pattern: &str| matches(pattern.as_bytes(), essence);
        self.patterns.iter().any(|pattern| is(pattern))
            && !self.excluded.iter().any(|pattern| is(pattern))
    }
}

impl Default for Types {
    fn default() -> Self {
        let patterns = DEFAULT.iter().map(|&text| text.into()).collect();
        Self { patterns, excluded: &["text/event-stream"] }
    }
}

fn matches(pattern: &[u8], essence: &[u8]) -> bool {
    match pattern {
        [b'*', suffix @ ..] => essence
            .split_at_checked(essence.len().wrapping_sub(suffix.len()))
            .is_some_and(|(_, end)| end.eq_ignore_ascii_case(suffix)),
        [prefix @ .., b'*'] => essence
            .split_at_checked(prefix.len())
            .is_some_and(|(start, _)| start.eq_ignore_ascii_case(prefix)),
        exact => essence.eq_ignore_ascii_case(exact),
    }
}

/// What is text, or structured like it, or an uncompressed image or font.
const DEFAULT: [&str; 25] = [
    "text/*",
    "*+json",
    "*+xml",
    "*+text",
    "*+yaml",
    "application/json",
    "application/javascript",
    "application/x-javascript",
    "application/xml",
    "application/wasm",
    "application/yaml",
    "application/toml",
    "application/graphql",
    "application/x-ndjson",
    "application/x-sh",
    "application/sql",
    "application/rtf",
    "application/vnd.ms-fontobject",
    "application/vnd.apple.mpegurl",
    "font/ttf",
    "font/otf",
    "font/collection",
    "image/bmp",
    "image/x-icon",
    "image/vnd.microsoft.icon",
];

#[cfg(test)]
mod tests {
    use super::Types;

    #[test]
    fn defaults() {
        let types = Types::default();
        for (content_type, want) in [
            ("text/html", true),
            ("TEXT/HTML; charset=utf-8", true),
            ("text/plain ;charset=utf-8", true),
            ("text/event-stream", false),
            ("application/json", true),
            ("application/problem+json", true),
            ("application/atom+xml", true),
            ("image/svg+xml", true),
            ("application/wasm", true),
            ("font/ttf", true),
            ("font/woff2", false),
            ("image/png", false),
            ("image/jpeg", false),
            ("video/mp4", false),
            ("application/octet-stream", false),
            ("application/zip", false),
            ("application/grpc", false),
            ("json", false),
            ("", false),
        ] {
            assert_eq!(types.contains(content_type.as_bytes()), want, "{content_type}");
        }
    }

    #[test]
    fn own() {
        let types = Types::new(["Image/*".to_owned(), "text/html".to_owned()]);
        for (content_type, want) in
            [("image/png", true), ("text/html", true), ("text/css", false), ("image", false)]
        {
            assert_eq!(types.contains(content_type.as_bytes()), want, "{content_type}");
        }
    }
}
