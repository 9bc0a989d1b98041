//! XML from strangers: bounded, without DTD, read by local names.

use roxmltree::{Document, Node, ParsingOptions};

/// Why XML was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More bytes or elements than any router needs.
    #[error("the XML is too large")]
    TooLarge,
    /// A document type declaration, which may define entities that grow.
    #[error("the XML has a document type declaration")]
    Doctype,
    /// It is not well-formed.
    #[error("the XML is malformed")]
    Malformed,
    /// It is well-formed, but what is needed is not in it.
    #[error("the XML lacks {0}")]
    Lacks(&'static str),
}

/// Parses `text`, which should come from `String::from_utf8_lossy`: routers put names in Latin-1 into
/// documents that say UTF-8.
pub(crate) fn parse(text: &str) -> Result<Document<'_>, Refusal> {
    if text.len() > XML_BYTES_MAX {
        return Err(Refusal::TooLarge);
    }
    let options =
        ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    // Some routers end their documents in zero bytes, some begin them with empty lines.
    let text = text.trim_matches(|char: char| char.is_ascii_whitespace() || char == '\0');
    Document::parse_with_options(text, options).map_err(|error| match error {
        roxmltree::Error::DtdDetected => Refusal::Doctype,
        roxmltree::Error::NodesLimitReached | roxmltree::Error::AttributesLimitReached => {
            Refusal::TooLarge
        }
        _ => Refusal::Malformed,
    })
}

/// The first element below `node` with this local name, whatever its namespace: routers mix them up.
pub(crate) fn find<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.descendants().find(|found| found.is_element() && is_named(found, name))
}

/// The text of the first child with this local name.
pub(crate) fn child_text<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let child = node.children().find(|child| child.is_element() && is_named(child, name))?;
    Some(child.text().unwrap_or_default().trim())
}

pub(crate) fn is_named(node: &Node<'_, '_>, name: &str) -> bool {
    node.tag_name().name() == name
}

/// `text` inside an element.
pub(crate) fn escape(text: &str, into: &mut String) {
    for char in text.chars() {
        match char {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            char => into.push(char),
        }
    }
}

/// The largest description in the wild is about 40 KB.
pub(crate) const XML_BYTES_MAX: usize = 256 * 1024;
const NODES_MAX: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Result<&str, Refusal>) {
        let got = parse(text);
        let root = got.as_ref().map(|document| document.root_element().tag_name().name());
        assert_eq!(root.map_err(|refusal| *refusal), want, "{text:.80}");
    }

    #[test]
    fn documents() {
        check("<a/>", Ok("a"));
        check("\r\n<?xml version=\"1.0\"?><n:a xmlns:n='x'/>\0\n", Ok("a"));
        check("", Err(Refusal::Malformed));
        check("<a>", Err(Refusal::Malformed));
        check("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", Err(Refusal::Doctype));
        check(&format!("<a>{}</a>", " ".repeat(XML_BYTES_MAX)), Err(Refusal::TooLarge));
        check(&format!("<a>{}</a>", "<b/>".repeat(20_000)), Err(Refusal::TooLarge));
    }

    #[test]
    fn deep_nesting_is_no_stack_overflow() {
        let deep = "<a>".repeat(60_000);
        assert!(parse(&deep).is_err());
        let deep = format!("{}{}", "<a>".repeat(9_000), "</a>".repeat(9_000));
        let _ = parse(&deep).map(|document| find(document.root(), "b").is_none());
    }
}
