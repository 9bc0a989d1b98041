//! How long caches may keep a file.

use hearth_http_core::HeaderValue;

/// A pattern and the `cache-control` of the files that match it.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) pattern: Pattern,
    pub(crate) value: HeaderValue,
}

/// What a rule is matched against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// A media type, or `image/*`.
    Media(Box<str>),
    /// A glob over the path beneath the root; one without a slash is matched against the file's name.
    Path(Box<str>),
}

/// The `cache-control` of a file: the first rule that matches, then what its name and type suggest.
pub(crate) fn cache_control(
    path: &str,
    content_type: &[u8],
    rules: &[Rule],
    immutable_hashed: bool,
) -> Option<HeaderValue> {
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
    let rule = rules.iter().find(|rule| rule.pattern.matches(path, essence));
    if let Some(rule) = rule {
        return Some(rule.value.clone());
    }
    let is_html = essence == b"text/html";
    // A page names the hashed files of its version, so the page itself must be asked for anew.
    if is_html {
        return Some(HeaderValue::from_static("no-cache"));
    }
    (immutable_hashed && has_content_hash(path))
        .then(|| HeaderValue::from_static("public, max-age=31536000, immutable"))
}

impl Pattern {
    /// A media type where it reads like one, otherwise a glob.
    pub(crate) fn parse(text: &str) -> Self {
        let top_level = ["application", "audio", "font", "image", "model", "text", "video"];
        match text.split_once('/') {
            Some((top, sub)) if top_level.contains(&top) && !sub.contains(['/', '.']) => {
                Self::Media(text.to_ascii_lowercase().into())
            }
            _ => Self::Path(text.trim_start_matches('/').into()),
        }
    }

    fn matches(&self, path: &str, essence: &[u8]) -> bool {
        match self {
            Self::Media(wanted) => match wanted.strip_suffix('*') {
                Some(prefix) => essence.starts_with(prefix.as_bytes()),
                None => essence == wanted.as_bytes(),
            },
            Self::Path(glob) if glob.contains('/') => is_match(glob.as_bytes(), path.as_bytes()),
            Self::Path(glob) => {
                let name = path.rsplit('/').next().unwrap_or_default();
                is_match(glob.as_bytes(), name.as_bytes())
            }
        }
    }
}

/// `*` stands for any text without a slash, `**` for any text, `**/` for any number of whole segments, `?` for one
/// byte that is no slash.
///
/// Only the last star of each kind is retried, so the time is bounded by the product of the lengths.
fn is_match(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut here) = (0, 0);
    let mut star: Option<Retry> = None;
    let mut double: Option<Retry> = None;
    loop {
        match (glob.get(at), text.get(here)) {
            (Some(b'*'), _) if glob.get(at + 1) == Some(&b'*') => {
                let begins_segment = at == 0 || glob.get(at - 1) == Some(&b'/');
                let kind = match glob.get(at + 2) {
                    Some(b'/') if begins_segment => Kind::Segments,
                    _ => Kind::Anything,
                };
                at += if kind == Kind::Segments { 3 } else { 2 };
                double = Some(Retry { at, here, kind });
                star = None;
                continue;
            }
            (Some(b'*'), _) => {
                at += 1;
                star = Some(Retry { at, here, kind: Kind::WithinSegment });
                continue;
            }
            (Some(b'?'), Some(byte)) if *byte != b'/' => {
                (at, here) = (at + 1, here + 1);
                continue;
            }
            (Some(wanted), Some(byte)) if wanted == byte => {
                (at, here) = (at + 1, here + 1);
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        star = star.and_then(|star| star.widen(text));
        if star.is_none() {
            double = double.and_then(|double| double.widen(text));
        }
        let Some(retry) = star.or(double) else { return false };
        (at, here) = (retry.at, retry.here);
    }
}

/// Where matching goes on after a star, which has swallowed the text before `here`.
#[derive(Clone, Copy)]
struct Retry {
    at: usize,
    here: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Anything,
    Segments,
    WithinSegment,
}

impl Retry {
    /// Lets the star swallow as little more as it can.
    fn widen(self, text: &[u8]) -> Option<Self> {
        let rest = text.get(self.here..)?;
        let more = match self.kind {
            Kind::Anything => rest.first().map(|_| 1),
            Kind::Segments => rest.iter().position(|&byte| byte == b'/').map(|slash| slash + 1),
            Kind::WithinSegment => rest.first().filter(|&&byte| byte != b'/').map(|_| 1),
        }?;
        Some(Self { here: self.here + more, ..self })
    }
}

/// Whether a file's name holds a hash of its content, as bundlers write it: `app.3f2a9c1b.js`,
/// `index-BxYz12ab.js`.
///
/// A wrong "yes" would pin a file in browsers for a year, so what could be a word, a date or a version
/// does not count.
fn has_content_hash(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some((stem, _extension)) = name.rsplit_once('.') else { return false };
    // `app.3f2a9c1b.min.js`, `app.3f2a9c1b.js.map`
    let stem = ["min", "js", "css", "mjs"]
        .iter()
        .find_map(|inner| stem.strip_suffix(inner)?.strip_suffix('.'))
        .unwrap_or(stem);
    let last = stem.rsplit(['.', '-', '_']).next().unwrap_or_default();
    if last.len() == stem.len() {
        return false;
    }
    is_hex_hash(last) || is_base64_hash(last)
}

fn is_hex_hash(text: &str) -> bool {
    let all = |test: fn(&u8) -> bool| text.as_bytes().iter().all(test);
    (8..=64).contains(&text.len())
        && all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && !all(u8::is_ascii_digit)
        && !all(u8::is_ascii_alphabetic)
}

/// Eight characters of base64 that no word has: upper case, lower case and a digit.
fn is_base64_hash(text: &str) -> bool {
    let any = |test: fn(&u8) -> bool| text.as_bytes().iter().any(test);
    text.len() == 8
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && any(u8::is_ascii_digit)
        && any(u8::is_ascii_lowercase)
        && any(u8::is_ascii_uppercase)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Pattern, Rule, cache_control, has_content_hash, is_match};

    #[test]
    fn hashed_names() {
        for name in [
            "app.3f2a9c1b.js",
            "assets/app-3f2a9c1b.css",
            "a/b/main_0123456789abcdef0123.js",
            "index-BxYz12ab.js",
            "app.3f2a9c1b.min.js",
            "app.3f2a9c1b.js.map",
            "font.d41d8cd98f00b204e9800998ecf8427e.woff2",
        ] {
            assert!(has_content_hash(name), "{name}");
        }
        for name in [
            "app.js",
            "3f2a9c1b.js", // could be any name; nothing stands before it
            "photo-20240131.jpg",
            "jquery-3.7.1.min.js",
            "report-12345678.pdf",
            "my-document.js",
            "deadbeef/app.js",
            "a-deadbeef.js", // no digit
            "a-3f2a9c1.js",  // too short
            "a.3F2A9C1B.js",
            "my-JavaDocs.js",
            "LICENSE",
            "app.3f2a9c1b",
        ] {
            assert!(!has_content_hash(name), "{name}");
        }
    }

    #[test]
    fn globs() {
        for (glob, text, want) in [
            ("*.js", "a.js", true),
            ("*.js", "a.jsx", false),
            ("*.js", ".js", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("a/*", "a/b", true),
            ("a/*", "a/b/c", false),
            ("a/**", "a/b/c", true),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/b/b/c", true),
            ("a/**/c", "a/bc", false),
            ("**/*.js", "a.js", true),
            ("**/*.js", "x/y/a.js", true),
            ("**/*.js", "x/y/a.css", false),
            ("x/*.min.*", "x/a.b.min.js", true),
            ("*a*b*c", "xaxbxbxc", true),
            ("", "", true),
            ("", "a", false),
            ("**", "", true),
            ("*", "", true),
        ] {
            assert_eq!(is_match(glob.as_bytes(), text.as_bytes()), want, "{glob} on {text}");
        }
    }

    fn naive(glob: &[u8], text: &[u8]) -> bool {
        match (glob, text) {
            ([], []) => true,
            ([b'*', b'*', rest @ ..], _) => {
                naive(rest, text) || (!text.is_empty() && naive(glob, &text[1..]))
            }
            ([b'*', rest @ ..], _) => {
                naive(rest, text)
                    || (!text.is_empty() && text[0] != b'/' && naive(glob, &text[1..]))
            }
            ([b'?', rest @ ..], [byte, tail @ ..]) => *byte != b'/' && naive(rest, tail),
            ([wanted, rest @ ..], [byte, tail @ ..]) => wanted == byte && naive(rest, tail),
            ([_, ..], []) | ([], [_, ..]) => false,
        }
    }

    proptest! {
        #[test]
        fn globs_agree_with_a_naive_matcher(glob in "[ab?*]{0,6}(/[ab*]{1,4})?", text in "[ab/]{0,10}") {
            // `**/` also matches nothing, which the naive matcher does not know.
            prop_assume!(!glob.contains("**/"));
            prop_assert_eq!(is_match(glob.as_bytes(), text.as_bytes()), naive(glob.as_bytes(), text.as_bytes()));
        }
    }

    #[test]
    fn rules() {
        let rule = |pattern: &str, value: &'static str| Rule {
            pattern: Pattern::parse(pattern),
            value: value.parse().expect("a value"),
        };
        let rules = [
            rule("/private/**", "no-store"),
            rule("*.css", "max-age=60"),
            rule("image/*", "max-age=3600"),
            rule("text/html", "max-age=5"),
        ];
        let year = "public, max-age=31536000, immutable";
        for (path, media, with_rules, without) in [
            ("private/x/a.css", "text/css", Some("no-store"), None),
            ("a/b.css", "text/css; charset=utf-8", Some("max-age=60"), None),
            ("a.png", "image/png", Some("max-age=3600"), None),
            ("index.html", "text/html; charset=utf-8", Some("max-age=5"), Some("no-cache")),
            ("app.3f2a9c1b.js", "text/javascript", Some(year), Some(year)),
            ("page.3f2a9c1b.html", "text/html", Some("max-age=5"), Some("no-cache")),
            ("data.json", "application/json", None, None),
        ] {
            for (rules, want) in [(&rules[..], with_rules), (&[], without)] {
                let got = cache_control(path, media.as_bytes(), rules, true);
                let got = got.as_ref().map(|value| value.to_str().expect("text"));
                assert_eq!(got, want, "{path}, {} rules", rules.len());
            }
        }
        assert_eq!(cache_control("app.3f2a9c1b.js", b"text/javascript", &[], false), None);
    }
}
