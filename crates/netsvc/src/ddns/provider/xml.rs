//! As much XML as two services need: the text of an element, wherever it stands.

use roxmltree::{Document, ParsingOptions};

/// The text of the first element of this name.
pub(super) fn first(xml: &str, element: &str) -> Option<String> {
    all(xml, element).into_iter().next()
}

/// The texts of all elements of this name; none if the document is malformed.
pub(super) fn all(xml: &str, element: &str) -> Vec<String> {
    // Document type declarations are refused, and with them entities that grow.
    let options = ParsingOptions { nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    let xml = xml.trim_start_matches('\u{feff}');
    let Ok(document) = Document::parse_with_options(xml, options) else {
        return Vec::new();
    };
    let found = document.descendants().filter(|node| node.tag_name().name() == element);
    found.map(|node| node.text().unwrap_or_default().trim().to_owned()).collect()
}

/// The name of the outermost element; `None` if the document is malformed.
pub(super) fn root(xml: &str) -> Option<String> {
    let xml = xml.trim_start_matches('\u{feff}');
    let document = Document::parse(xml).ok()?;
    Some(document.root_element().tag_name().name().to_owned())
}

/// A text as XML content.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A list of one name's records has some dozens.
const NODES_MAX: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements() {
        let xml = "<?xml version=\"1.0\" encoding=\"utf-16\"?><a xmlns=\"urn:x\"><b> 1 </b>\
                   <b>&quot;x&amp;quot;&quot;</b><c/></a>";
        assert_eq!(all(xml, "b"), ["1", "\"x&quot;\""]);
        assert_eq!(first(xml, "d"), None);
        assert_eq!(first("<a><b>1</b>", "b"), None, "half an answer");
        assert_eq!(escape("\"a<b>&c\""), "&quot;a&lt;b&gt;&amp;c&quot;");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(<a>|</a>|<b/>|&amp;|&#0;|<!--|]]>|<!DOCTYPE x>|\\PC){0,40}") {
            let _ = (all(&text, "a"), root(&text));
        }

        #[test]
        fn what_is_escaped_is_read(text in "[ -~]{0,40}") {
            let xml = format!("<a><b>{}</b></a>", escape(&text));
            proptest::prop_assert_eq!(first(&xml, "b"), Some(text.trim().to_owned()));
        }
    }
}
