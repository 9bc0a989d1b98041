//! Route patterns: `/users/{id:int}/files/{*path}`.

use std::fmt;

use crate::{PathPolicy, constraint::Constraint};

/// A parsed pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Box<str>,
    segments: Vec<Segment>,
}

/// One part between slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    /// This text and no other.
    Static(Box<str>),
    /// Text around one value.
    Param(Param),
    /// Everything that is left, slashes and all; may be empty.
    CatchAll { name: Box<str> },
}

/// A segment with one value in it: `v{version:int}.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Param {
    pub(crate) name: Box<str>,
    pub(crate) prefix: Box<str>,
    pub(crate) suffix: Box<str>,
    pub(crate) constraint: Option<Constraint>,
}

/// Why a text is no pattern. The author of the route must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// `len(...)` wants one or two numbers.
    #[error("`len({argument})` is no length: write `len(4)` or `len(2,5)`, from 1 up")]
    BadLength {
        /// What stood in the parentheses.
        argument: Box<str>,
    },
    /// A `%` that begins no escape.
    #[error("`%` must be followed by two hexadecimal digits other than 00")]
    BadEscape,
    /// Names are made of letters, digits and `_`.
    #[error("`{name}` is no parameter name: use letters, digits and `_`, not a digit first")]
    BadName {
        /// The name.
        name: Box<str>,
    },
    /// The expression does not compile.
    #[error("the regular expression is refused: {message}")]
    BadRegex {
        /// What the compiler of expressions says.
        message: String,
    },
    /// A catch-all takes all that is left, so nothing can follow it.
    #[error("`{{*{name}}}` must be the whole last segment")]
    CatchAllNotLast {
        /// Its name.
        name: Box<str>,
    },
    /// `.` and `..` are resolved before routing, so they can never match.
    #[error("a segment `.` or `..` never matches: they are resolved before routing")]
    DotSegment,
    /// A name stands twice.
    #[error("the parameter `{name}` stands twice in the pattern")]
    DuplicateName {
        /// The name.
        name: Box<str>,
    },
    /// Two slashes in a row.
    #[error("`//` never matches while repeated slashes are merged")]
    EmptySegment,
    /// A pattern begins with a slash.
    #[error("a pattern begins with `/`")]
    NoLeadingSlash,
    /// Another router's way to write a parameter.
    #[error("`{segment}` is no parameter here: write `{{name}}` or `{{*name}}`")]
    OldSyntax {
        /// The segment.
        segment: Box<str>,
    },
    /// A query or a fragment is no part of a path.
    #[error("`{found}` cannot stand in a path: a pattern has no query and no fragment")]
    NotAPath {
        /// `?` or `#`.
        found: char,
    },
    /// More than the tree holds.
    #[error("a pattern has at most {SEGMENTS_MAX} segments and 4096 bytes")]
    TooLong,
    /// One value per segment.
    #[error("a segment holds one parameter: split it in the handler, or use a regex on the whole")]
    TwoParams,
    /// A brace without its other half.
    #[error("unbalanced brace: write `{{{{` or `}}}}` for a literal one")]
    UnbalancedBrace,
    /// No such constraint.
    #[error(
        "no constraint is called `{constraint}`: there are uint, int, uuid, hex, alpha, alnum, \
         len(...) and regex(...)"
    )]
    UnknownConstraint {
        /// What stood behind the colon.
        constraint: Box<str>,
    },
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`] says what is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut rest = text.strip_prefix('/').ok_or(PatternError::NoLeadingSlash)?;
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong);
        }
        let mut segments = Vec::new();
        loop {
            let (segment, behind) = parse_segment(rest)?;
            segments.push(segment);
            match behind {
                Some(behind) => rest = behind,
                None => break,
            }
        }
        let pattern = Self { text: text.into(), segments };
        pattern.check()?;
        Ok(pattern)
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Names of the parameters, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(Segment::name)
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Two patterns of one shape match exactly the same paths.
    pub(crate) fn shape(&self) -> String {
        let mut shape = String::with_capacity(self.text.len());
        for segment in &self.segments {
            shape.push('/');
            segment.write_shape(&mut shape);
        }
        shape
    }

    /// Changes the literal parts into the spelling that canonical request paths have.
    pub(crate) fn canonicalise(&mut self, policy: PathPolicy) -> Result<(), PatternError> {
        let last = self.segments.len().saturating_sub(1);
        for (at, segment) in self.segments.iter_mut().enumerate() {
            match segment {
                Segment::Static(text) => {
                    *text = crate::canonical::literal(text)?;
                    match &**text {
                        "." | ".." => return Err(PatternError::DotSegment),
                        "" if at != last && policy != PathPolicy::KeepSlashes => {
                            return Err(PatternError::EmptySegment);
                        }
                        _ => {}
                    }
                }
                Segment::Param(param) => {
                    param.prefix = crate::canonical::literal(&param.prefix)?;
                    param.suffix = crate::canonical::literal(&param.suffix)?;
                }
                Segment::CatchAll { .. } => {}
            }
        }
        Ok(())
    }

    /// The pattern with, or without, a slash at its end; `None` for `/` and where it ends in a catch-all.
    pub(crate) fn slash_twin(&self) -> Option<Self> {
        let mut twin = self.clone();
        match self.segments.as_slice() {
            [.., Segment::CatchAll { .. }] => return None,
            [Segment::Static(only)] if only.is_empty() => return None,
            [.., Segment::Static(last)] if last.is_empty() => {
                twin.segments.pop();
                twin.text = self.text.strip_suffix('/')?.into();
            }
            _ => {
                twin.segments.push(Segment::Static("".into()));
                twin.text = format!("{}/", self.text).into();
            }
        }
        (twin.segments.len() <= SEGMENTS_MAX).then_some(twin)
    }

    /// The pattern without its catch-all: what `/files` is to `/files/{*path}`. `None` if that is the root.
    pub(crate) fn mount_point(&self) -> Option<Self> {
        let (Segment::CatchAll { name }, rest) = self.segments.split_last()? else { return None };
        if rest.is_empty() {
            return None;
        }
        let text = self.text.strip_suffix(&format!("/{{*{name}}}"))?;
        Some(Self { text: text.into(), segments: rest.to_vec() })
    }

    fn check(&self) -> Result<(), PatternError> {
        if self.segments.len() > SEGMENTS_MAX {
            return Err(PatternError::TooLong);
        }
        let names: Vec<&str> = self.names().collect();
        for (at, name) in names.iter().enumerate() {
            if names.iter().take(at).any(|earlier| earlier == name) {
                return Err(PatternError::DuplicateName { name: (*name).into() });
            }
        }
        let last = self.segments.len().saturating_sub(1);
        for (at, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::CatchAll { name } if at != last => {
                    return Err(PatternError::CatchAllNotLast { name: name.clone() });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Segment {
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Static(_) => None,
            Self::Param(param) => Some(&param.name),
            Self::CatchAll { name } => Some(name),
        }
    }

    fn write_shape(&self, out: &mut String) {
        match self {
            Self::Static(text) => push_escaped(out, text),
            Self::Param(param) => {
                push_escaped(out, &param.prefix);
                out.push_str("{:");
                if let Some(constraint) = &param.constraint {
                    out.push_str(&constraint.to_string());
                }
                out.push('}');
                push_escaped(out, &param.suffix);
            }
            Self::CatchAll { .. } => out.push_str("{*}"),
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(text) => f.write_str(text),
            Self::Param(Param { name, prefix, suffix, constraint: Some(constraint) }) => {
                write!(f, "{prefix}{{{name}:{constraint}}}{suffix}")
            }
            Self::Param(Param { name, prefix, suffix, constraint: None }) => {
                write!(f, "{prefix}{{{name}}}{suffix}")
            }
            Self::CatchAll { name } => write!(f, "{{*{name}}}"),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One segment, and what follows the slash behind it.
fn parse_segment(text: &str) -> Result<(Segment, Option<&str>), PatternError> {
    let (prefix, rest) = parse_literal(text)?;
    let Some(inside) = rest.strip_prefix('{') else {
        if let Some(b':' | b'*') = prefix.as_bytes().first() {
            return Err(PatternError::OldSyntax { segment: prefix.into() });
        }
        return Ok((Segment::Static(prefix.into()), rest.strip_prefix('/')));
    };
    let (name, constraint, rest) = parse_braces(inside)?;
    let (suffix, rest) = parse_literal(rest)?;
    if rest.starts_with('{') {
        return Err(PatternError::TwoParams);
    }
    let behind = rest.strip_prefix('/');
    if let Some(name) = name.strip_prefix('*') {
        let name = parse_name(name)?;
        if !prefix.is_empty() || !suffix.is_empty() || constraint.is_some() {
            return Err(PatternError::CatchAllNotLast { name });
        }
        return Ok((Segment::CatchAll { name }, behind));
    }
    let constraint = constraint.map(Constraint::parse).transpose()?;
    let name = parse_name(name)?;
    let param = Param { name, prefix: prefix.into(), suffix: suffix.into(), constraint };
    Ok((Segment::Param(param), behind))
}

/// Literal text up to a slash, a parameter or the end.
fn parse_literal(text: &str) -> Result<(String, &str), PatternError> {
    let mut literal = String::new();
    let mut rest = text;
    loop {
        let stop = rest.find(['{', '}', '/', '?', '#']).unwrap_or(rest.len());
        let (plain, behind) = rest.split_at(stop);
        literal.push_str(plain);
        if let Some(behind) = behind.strip_prefix("{{") {
            literal.push('{');
            rest = behind;
        } else if let Some(behind) = behind.strip_prefix("}}") {
            literal.push('}');
            rest = behind;
        } else {
            return match behind.chars().next() {
                Some('}') => Err(PatternError::UnbalancedBrace),
                Some(found @ ('?' | '#')) => Err(PatternError::NotAPath { found }),
                _ => Ok((literal, behind)),
            };
        }
    }
}

/// The inside of `{name:constraint}`: name, constraint and what follows the closing brace.
fn parse_braces(text: &str) -> Result<(&str, Option<&str>, &str), PatternError> {
    let stop = text.find([':', '}']).ok_or(PatternError::UnbalancedBrace)?;
    let (name, rest) = text.split_at(stop);
    if let Some(behind) = rest.strip_prefix('}') {
        return Ok((name, None, behind));
    }
    let rest = rest.strip_prefix(':').ok_or(PatternError::UnbalancedBrace)?;
    let end = constraint_len(rest).ok_or(PatternError::UnbalancedBrace)?;
    let (constraint, behind) = rest.split_at(end);
    Ok((name, Some(constraint), behind.strip_prefix('}').ok_or(PatternError::UnbalancedBrace)?))
}

/// Where the brace stands that closes a parameter: behind the parentheses, whatever is in them.
fn constraint_len(text: &str) -> Option<usize> {
    let mut depth = 0_u32;
    let mut in_class = false;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' if depth > 0 => {
                bytes.next();
            }
            b'[' if depth > 0 => in_class = true,
            b']' if depth > 0 => in_class = false,
            b'(' if !in_class => depth += 1,
            b')' if !in_class => depth = depth.checked_sub(1)?,
            b'}' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

fn parse_name(name: &str) -> Result<Box<str>, PatternError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts_well = name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    if starts_well && name.bytes().all(allowed) {
        Ok(name.into())
    } else {
        Err(PatternError::BadName { name: name.into() })
    }
}

fn push_escaped(out: &mut String, literal: &str) {
    for char in literal.chars() {
        if matches!(char, '{' | '}') {
            out.push(char);
        }
        out.push(char);
    }
}

/// Depth of the tree; the matcher notes where each segment begins in a table of this size.
pub(crate) const SEGMENTS_MAX: usize = 32;

const PATTERN_BYTES_MAX: usize = 4096;
