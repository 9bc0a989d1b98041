//! Host names of sites.

/// Why a text is no host of a site; each says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidHost {
    #[error("it is empty; leave `hosts` out to answer for all hosts")]
    Empty,
    #[error("write it without `http://` and path, as in `example.com`")]
    Url,
    #[error("write it without a port; a site answers on every listener")]
    Port,
    #[error("`*` stands alone for the first label, as in `*.example.com`")]
    Wildcard,
    #[error("write international names in their ASCII form, as in `xn--bcher-kva.example`")]
    NotAscii,
    #[error("labels have 1 to 63 letters, digits, `-` and `_`, and no `-` at an end")]
    Label,
    #[error("a host name has at most 253 characters")]
    TooLong,
}

/// The name in lower case and without a final dot; `*.` may stand in front.
pub(crate) fn parse(text: &str) -> Result<String, InvalidHost> {
    if text.contains('/') {
        return Err(InvalidHost::Url);
    }
    if !text.is_ascii() {
        return Err(InvalidHost::NotAscii);
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.is_empty() {
        return Err(InvalidHost::Empty);
    }
    if name.len() > 253 {
        return Err(InvalidHost::TooLong);
    }
    // An address literal, `[::1]`, stands in the Host field just so.
    if let Some(literal) = name.strip_prefix('[') {
        let (address, rest) = literal.split_once(']').ok_or(InvalidHost::Label)?;
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(InvalidHost::Label);
        }
        return if rest.is_empty() { Ok(name) } else { Err(InvalidHost::Port) };
    }
    if name.contains(':') {
        return Err(InvalidHost::Port);
    }
    let labels = name.strip_prefix("*.").unwrap_or(&name);
    if labels.contains('*') {
        return Err(InvalidHost::Wildcard);
    }
    if !labels.split('.').all(is_label) {
        return Err(InvalidHost::Label);
    }
    Ok(name)
}

fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    (1..=63).contains(&label.len())
        && label.bytes().all(allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, want) in [
            ("Example.COM", Ok("example.com")),
            ("example.com.", Ok("example.com")),
            ("localhost", Ok("localhost")),
            ("*.example.com", Ok("*.example.com")),
            ("192.0.2.1", Ok("192.0.2.1")),
            ("[::1]", Ok("[::1]")),
            ("", Err(InvalidHost::Empty)),
            (".", Err(InvalidHost::Empty)),
            ("https://example.com", Err(InvalidHost::Url)),
            ("example.com:80", Err(InvalidHost::Port)),
            ("[::1]:80", Err(InvalidHost::Port)),
            ("[::1", Err(InvalidHost::Label)),
            ("a.*.com", Err(InvalidHost::Wildcard)),
            ("*", Err(InvalidHost::Wildcard)),
            ("bücher.example", Err(InvalidHost::NotAscii)),
            ("a..b", Err(InvalidHost::Label)),
            ("-a.b", Err(InvalidHost::Label)),
            ("a b", Err(InvalidHost::Label)),
        ] {
            assert_eq!(parse(text), want.map(str::to_owned), "{text}");
        }
        assert_eq!(parse(&"a.".repeat(200)), Err(InvalidHost::TooLong));
    }
}
