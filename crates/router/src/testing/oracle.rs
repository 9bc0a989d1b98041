//! Slow and obvious matchers.

use std::cmp::Reverse;

use crate::{
    PathPolicy, Pattern,
    constraint::Constraint,
    host::HostPattern,
    pattern::{Param, Segment},
};

/// Patterns in the order in which they are to be tried.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    list: Vec<(Pattern, usize)>,
}

/// The place of a segment in the order of trial, smallest first:
/// literal text; parameters with most literal text around them, then with the longest prefix, then
/// by constraint, none last; equals in the order in which they were first added; catch-alls.
type Rank = (u8, Reverse<usize>, Reverse<usize>, u8, usize);

impl Oracle {
    /// Adds a pattern; `false` if there is one that matches the same paths.
    pub(super) fn add(&mut self, text: &str, number: usize) -> bool {
        let pattern = Pattern::parse(text).expect("the generator makes patterns");
        let is_new = !self.list.iter().any(|(known, _)| {
            let alike = |(a, b): (&Segment, &Segment)| same(a, b);
            known.segments().len() == pattern.segments().len()
                && known.segments().iter().zip(pattern.segments()).all(alike)
        });
        if is_new {
            self.list.push((pattern, number));
        }
        is_new
    }

    pub(super) fn patterns(&self) -> Vec<&str> {
        self.list.iter().map(|(pattern, _)| pattern.as_str()).collect()
    }

    /// Number and parameters of the first pattern, in the order of precedence, that matches.
    pub(super) fn find(&self, path: &str) -> Option<(usize, Vec<String>)> {
        let mut matching: Vec<_> = self
            .list
            .iter()
            .filter_map(|(pattern, number)| {
                Some((self.ranks(pattern), *number, fits(pattern, path)?))
            })
            .collect();
        matching.sort();
        matching.into_iter().next().map(|(_, number, params)| (number, params))
    }

    /// Precedence is decided at the leftmost segment in which two patterns differ.
    fn ranks(&self, pattern: &Pattern) -> Vec<Rank> {
        let rank = |(depth, segment): (usize, &Segment)| match segment {
            Segment::Static(_) => (0, Reverse(0), Reverse(0), 0, 0),
            Segment::Param(Param { prefix, suffix, constraint, .. }) => (
                1,
                Reverse(prefix.len() + suffix.len()),
                Reverse(prefix.len()),
                constraint.as_ref().map_or(u8::MAX, Constraint::rank),
                self.first_with(pattern, depth),
            ),
            Segment::CatchAll { .. } => (2, Reverse(0), Reverse(0), 0, 0),
        };
        pattern.segments().iter().enumerate().map(rank).collect()
    }

    /// The first pattern that agrees with this one up to and including a segment.
    fn first_with(&self, pattern: &Pattern, depth: usize) -> usize {
        let agrees = |(other, _): &(Pattern, usize)| {
            let pairs = other.segments().iter().zip(pattern.segments()).take(depth + 1);
            other.segments().len() > depth && pairs.into_iter().all(|(a, b)| same(a, b))
        };
        self.list.iter().position(agrees).expect("the pattern itself does")
    }
}

/// Whether two segments fit the same texts.
fn same(a: &Segment, b: &Segment) -> bool {
    match (a, b) {
        (Segment::Static(a), Segment::Static(b)) => a == b,
        (Segment::Param(a), Segment::Param(b)) => {
            (&a.prefix, &a.suffix, &a.constraint) == (&b.prefix, &b.suffix, &b.constraint)
        }
        (Segment::CatchAll { .. }, Segment::CatchAll { .. }) => true,
        _ => false,
    }
}

/// The parameters, if the pattern matches.
fn fits(pattern: &Pattern, path: &str) -> Option<Vec<String>> {
    let mut rest = Some(path.strip_prefix('/')?);
    let mut params = Vec::new();
    for segment in pattern.segments() {
        let left = rest?;
        if let Segment::CatchAll { .. } = segment {
            params.push(left.to_owned());
            return Some(params);
        }
        let (text, behind) = match left.split_once('/') {
            Some((text, behind)) => (text, Some(behind)),
            None => (left, None),
        };
        match segment {
            Segment::Static(literal) if **literal == *text => {}
            Segment::Param(Param { prefix, suffix, constraint, .. }) => {
                let value = text.strip_prefix(&**prefix)?.strip_suffix(&**suffix)?;
                if value.is_empty()
                    || constraint.as_ref().is_some_and(|c| !c.accepts(value.as_bytes()))
                {
                    return None;
                }
                params.push(value.to_owned());
            }
            _ => return None,
        }
        rest = behind;
    }
    rest.is_none().then_some(params)
}

/// Site and parameters for a host: the pattern whose labels, from the right, are most specific.
pub(super) fn host(patterns: &[(HostPattern, u32)], host: &str) -> Option<(u32, Vec<String>)> {
    let labels: Vec<&str> = host.strip_suffix('.').unwrap_or(host).split('.').collect();
    let mut matching: Vec<_> = patterns
        .iter()
        .filter_map(|(pattern, site)| {
            let (ranks, params) = host_fits(&pattern.shape(), &labels)?;
            Some((ranks, *site, params))
        })
        .collect();
    matching.sort();
    matching.into_iter().next().map(|(_, site, params)| (site, params))
}

/// The place of a host pattern in the order of precedence, and the parameters, if it matches.
fn host_fits(shape: &str, labels: &[&str]) -> Option<(Vec<u8>, Vec<String>)> {
    let mut parts: Vec<&str> = shape.split('.').collect();
    let is_wild = parts.first() == Some(&"*");
    if is_wild {
        parts.remove(0);
    }
    // What a star stands for: at least one label.
    let skipped = labels.len().checked_sub(parts.len())?;
    if is_wild != (skipped > 0) {
        return None;
    }
    let (star, rest) = labels.split_at(skipped);
    if star.last().is_some_and(|label| label.is_empty()) {
        return None;
    }
    let mut ranks = Vec::new();
    let mut params = Vec::new();
    for (part, label) in parts.iter().zip(rest) {
        match *part {
            _ if label.is_empty() => return None,
            "{}" => params.push((*label).to_owned()),
            literal if literal.eq_ignore_ascii_case(label) => {}
            _ => return None,
        }
        ranks.push(u8::from(*part == "{}"));
    }
    ranks.reverse();
    ranks.extend(is_wild.then_some(2));
    Some((ranks, params))
}

/// The canonical path, by splitting and joining.
pub(super) fn canonical(path: &str, policy: PathPolicy) -> Option<String> {
    let mut text = String::new();
    let mut rest = path.strip_prefix('/')?;
    while let Some((before, behind)) = rest.split_once('%') {
        let code = u8::from_str_radix(behind.get(..2)?, 16).ok()?;
        if code == 0 || behind.starts_with('+') {
            return None;
        }
        text.push_str(before);
        match char::from(code) {
            plain @ ('a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~') => text.push(plain),
            _ => text.push_str(&format!("%{code:02X}")),
        }
        rest = behind.get(2..)?;
    }
    text.push_str(rest);
    let parts: Vec<&str> = text.split('/').collect();
    let (last, inner) = parts.split_last()?;
    let is_dots = |part: &str| part == "." || part == "..";
    let merges = policy != PathPolicy::KeepSlashes;
    let ambiguous = parts.iter().any(|part| is_dots(part)) || inner.contains(&"") && merges;
    if policy == PathPolicy::Refuse && ambiguous {
        return None;
    }
    let mut kept: Vec<&str> = Vec::new();
    for part in inner.iter().chain(is_dots(last).then_some(last)) {
        match *part {
            "." => {}
            ".." => {
                kept.pop()?;
            }
            "" if merges => {}
            other => kept.push(other),
        }
    }
    kept.push(if is_dots(last) { "" } else { last });
    Some(format!("/{}", kept.join("/")))
}
