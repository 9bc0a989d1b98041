//! From the host of a request to the site it is for.

use std::{collections::HashMap, fmt::Write as _, net::Ipv6Addr, ops::Range};

use foldhash::fast::FixedState;
use smallvec::SmallVec;

/// A host pattern: `example.com`, `*.example.com`, `{tenant}.example.com`, `[::1]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPattern {
    /// Lower case but for names of parameters, without a dot at the end.
    text: Box<str>,
    labels: Vec<Label>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Label {
    Static(Box<str>),
    Param(Box<str>),
    /// `*`: one or more labels, the leftmost only.
    Wildcard,
}

/// Why a text is no host pattern. The author of the routes must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A character that no host name has.
    #[error("`{label}` is no part of a host name; write names from outside ASCII as `xn--…`")]
    BadLabel {
        /// The label.
        label: Box<str>,
    },
    /// A name stands twice.
    #[error("the parameter `{name}` stands twice in the host")]
    DuplicateName {
        /// The name.
        name: Box<str>,
    },
    /// Neither a name nor an address.
    #[error("a host is empty, or longer than 253 bytes")]
    Empty,
    /// Ports belong to listeners.
    #[error("a host pattern has no port: the listener has")]
    Port,
    /// More parameters than are kept.
    #[error("a host pattern has at most {PARAMS_MAX} parameters")]
    TooManyParams,
    /// `*` elsewhere than at the beginning.
    #[error("`*` is a whole label and stands first: `*.example.com`")]
    Wildcard,
}

/// Sites by host.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    exact: HashMap<Box<[u8]>, u32, FixedState>,
    /// A bit for the length of each exact name, modulo 64: most other hosts are told by it.
    exact_lengths: u64,
    /// Trie of labels from the right; node 0 is the root. Empty if no pattern has a `*` or a parameter.
    nodes: Vec<LabelNode>,
}

#[derive(Debug, Default)]
struct LabelNode {
    statics: HashMap<Box<[u8]>, usize, FixedState>,
    param: Option<usize>,
    wildcard: Option<u32>,
    site: Option<u32>,
}

/// The site for a host, and where in the host the parameters of its pattern lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostMatch {
    pub(crate) site: u32,
    /// In the order of the pattern.
    pub(crate) params: Captures,
}

type Captures = SmallVec<[Range<u16>; PARAMS_MAX]>;

impl HostPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, HostError> {
        let lower = text.to_ascii_lowercase();
        let bare = lower.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(&lower).parse::<Ipv6Addr>() {
            let text: Box<str> = format!("[{address}]").into();
            return Ok(Self { labels: vec![Label::Static(text.clone())], text });
        }
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        if name.is_empty() || name.len() > HOST_BYTES_MAX {
            return Err(HostError::Empty);
        }
        if name.contains(':') {
            return Err(HostError::Port);
        }
        // Parameter names keep their case.
        let original = text.get(..name.len()).unwrap_or_default();
        let labels = original.split('.').enumerate().map(|(at, label)| parse_label(at, label));
        let labels = labels.collect::<Result<Vec<_>, _>>()?;
        let text = labels.iter().map(Label::to_string).collect::<Vec<_>>().join(".").into();
        let pattern = Self { text, labels };
        let names: Vec<&str> = pattern.names().collect();
        for (at, name) in names.iter().enumerate() {
            if names.iter().take(at).any(|earlier| earlier == name) {
                return Err(HostError::DuplicateName { name: (*name).into() });
            }
        }
        if names.len() > PARAMS_MAX {
            return Err(HostError::TooManyParams);
        }
        Ok(pattern)
    }

    /// The pattern, in lower case but for names of parameters.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Names of the parameters, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().filter_map(|label| match label {
            Label::Param(name) => Some(&**name),
            Label::Static(_) | Label::Wildcard => None,
        })
    }

    /// Two patterns of one shape match exactly the same hosts.
    pub(crate) fn shape(&self) -> String {
        let label = |label: &Label| match label {
            Label::Static(text) => text.to_string(),
            Label::Param(_) => "{}".to_owned(),
            Label::Wildcard => "*".to_owned(),
        };
        self.labels.iter().map(label).collect::<Vec<_>>().join(".")
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Static(text) => f.write_str(text),
            Self::Param(name) => write!(f, "{{{name}}}"),
            Self::Wildcard => f.write_str("*"),
        }
    }
}

impl Hosts {
    /// Adds a pattern whose shape is new.
    pub(crate) fn insert(&mut self, pattern: &HostPattern, site: u32) {
        if pattern.labels.iter().all(|label| matches!(label, Label::Static(_))) {
            self.exact.insert(pattern.text.as_bytes().into(), site);
            self.exact_lengths |= length_bit(pattern.text.len());
            return;
        }
        if self.nodes.is_empty() {
            self.nodes.push(LabelNode::default());
        }
        let mut at = 0;
        for label in pattern.labels.iter().rev() {
            let next = self.nodes.len();
            let node = self.nodes.get_mut(at).expect("node numbers come from the list itself");
            at = match label {
                Label::Static(text) => *node.statics.entry(text.as_bytes().into()).or_insert(next),
                Label::Param(_) => *node.param.get_or_insert(next),
                Label::Wildcard => {
                    node.wildcard = Some(site);
                    return;
                }
            };
            if at == next {
                self.nodes.push(LabelNode::default());
            }
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.site = Some(site);
        }
    }

    /// Whether every request is for the default site.
    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.nodes.is_empty()
    }

    /// The site for `host`, which has no port. Exact names win over patterns; at each label from the right a
    /// literal one wins over a parameter, and that over `*`.
    #[inline]
    pub(crate) fn find(&self, host: &[u8]) -> Option<HostMatch> {
        let bare = host.strip_suffix(b".").unwrap_or(host);
        let is_known_length = self.exact_lengths & length_bit(bare.len()) != 0;
        if self.nodes.is_empty() && !is_known_length && bare.first() != Some(&b'[') {
            return None;
        }
        self.find_name(host)
    }

    fn find_name(&self, host: &[u8]) -> Option<HostMatch> {
        let mut buffer = [0_u8; HOST_BYTES_MAX];
        let host = lower(host, &mut buffer)?;
        if let Some(&site) = self.exact.get(host) {
            return Some(HostMatch { site, params: Captures::new() });
        }
        let mut params = Captures::new();
        let site = self.descend(0, Some(host), &mut params)?;
        // They were found from right to left.
        params.reverse();
        Some(HostMatch { site, params })
    }

    /// The recursion is as deep as the longest pattern has labels.
    fn descend(&self, at: usize, rest: Option<&[u8]>, params: &mut Captures) -> Option<u32> {
        let node = self.nodes.get(at)?;
        let Some(rest) = rest else { return node.site };
        let (before, label, start) = match rest.iter().rposition(|&byte| byte == b'.') {
            Some(dot) => (rest.get(..dot), rest.get(dot + 1..)?, dot + 1),
            None => (None, rest, 0),
        };
        if label.is_empty() {
            return None;
        }
        if let Some(&next) = node.statics.get(label)
            && let Some(site) = self.descend(next, before, params)
        {
            return Some(site);
        }
        if let Some(next) = node.param {
            let range = u16::try_from(start).ok()?..u16::try_from(rest.len()).ok()?;
            params.push(range);
            if let Some(site) = self.descend(next, before, params) {
                return Some(site);
            }
            params.pop();
        }
        node.wildcard
    }
}

/// `host` in lower case, without a dot at its end; an IPv6 address in its canonical form. Nothing is allocated.
fn lower<'b>(host: &[u8], buffer: &'b mut [u8; HOST_BYTES_MAX]) -> Option<&'b [u8]> {
    if let Some(inner) = host.strip_prefix(b"[") {
        let inner = std::str::from_utf8(inner.strip_suffix(b"]")?).ok()?;
        let address: Ipv6Addr = inner.parse().ok()?;
        let mut writer = SliceWriter { buffer: buffer.as_mut_slice(), len: 0 };
        write!(writer, "[{address}]").ok()?;
        let len = writer.len;
        return buffer.get(..len);
    }
    let host = host.strip_suffix(b".").unwrap_or(host);
    let target = buffer.get_mut(..host.len())?;
    for (to, from) in target.iter_mut().zip(host) {
        *to = from.to_ascii_lowercase();
    }
    Some(target)
}

fn length_bit(len: usize) -> u64 {
    1 << (len % 64)
}

struct SliceWriter<'b> {
    buffer: &'b mut [u8],
    len: usize,
}

impl std::fmt::Write for SliceWriter<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.buffer.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

fn parse_label(at: usize, label: &str) -> Result<Label, HostError> {
    let bad = || HostError::BadLabel { label: label.into() };
    if label == "*" && at == 0 {
        return Ok(Label::Wildcard);
    }
    if label.contains('*') {
        return Err(HostError::Wildcard);
    }
    let word = |text: &str, extra: u8| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == extra;
        !text.is_empty() && text.bytes().all(allowed)
    };
    if let Some(name) = label.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return if word(name, b'_') { Ok(Label::Param(name.into())) } else { Err(bad()) };
    }
    if word(label, b'-') {
        Ok(Label::Static(label.to_ascii_lowercase().into()))
    } else {
        Err(bad())
    }
}

/// RFC 1035 §2.3.4, without the dot at the end.
const HOST_BYTES_MAX: usize = 253;

/// Parameters in one host pattern.
const PARAMS_MAX: usize = 4;
