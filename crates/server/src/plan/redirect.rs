//! Redirects of a site: that each can be understood, and that none leads in a circle.

use hearth_config::{Diagnostic, Span, Spanned};
use hearth_http_core::StatusCode;
use hearth_router::PathTree;

use super::Checks;
use crate::{codes, config};

/// A path that leads elsewhere.
#[derive(Debug, Clone)]
pub struct Redirect {
    /// The pattern.
    pub from: String,
    /// The target, with the pattern's parameters in braces.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// Where it was written.
    pub span: Span,
}

pub(super) fn plan(
    checks: &mut Checks<'_>,
    redirects: &[Spanned<config::Redirect>],
) -> Vec<Redirect> {
    let planned: Vec<_> = redirects.iter().filter_map(|redirect| one(checks, redirect)).collect();
    check_circles(checks, &planned);
    planned
}

fn one(checks: &mut Checks<'_>, redirect: &Spanned<config::Redirect>) -> Option<Redirect> {
    let status = match &redirect.status {
        None => StatusCode::PERMANENT_REDIRECT,
        Some(status) => match **status {
            301 | 302 | 303 | 307 | 308 => StatusCode::from_u16(**status).ok()?,
            other => {
                let message = format!("{other} is not the status of a redirect");
                let help = "use 308 (for good) or 307 (for now); 301, 302 and 303 turn into GET";
                checks.error(codes::STATUS, message, status.span(), "", help);
                return None;
            }
        },
    };
    let is_anchored =
        ["/", "http://", "https://"].iter().any(|start| redirect.to.starts_with(start));
    let is_clean = redirect.to.bytes().all(|byte| matches!(byte, b'!'..=b'~'));
    if !is_anchored || !is_clean {
        let message = format!("`{}` is not a place that a redirect can lead to", redirect.to);
        let help = "write a path that begins with `/`, or a whole address with https://; what is no \
                    plain ASCII character is written as %XX";
        checks.error(codes::REDIRECT, message, redirect.to.span(), "", help);
        return None;
    }
    Some(Redirect {
        from: redirect.from.value().clone(),
        to: redirect.to.value().clone(),
        status,
        span: redirect.from.span(),
    })
}

/// Follows each redirect with a sample for its parameters; who comes to a redirect twice, comes there
/// for ever.
fn check_circles(checks: &mut Checks<'_>, redirects: &[Redirect]) {
    let mut tree = PathTree::builder();
    for (index, redirect) in redirects.iter().enumerate() {
        // What is wrong with a pattern is reported where the routes are built.
        let _ = tree.insert(&redirect.from, index);
    }
    let tree = tree.build();
    let mut reported = vec![false; redirects.len()];
    for start in 0..redirects.len() {
        let mut way = vec![start];
        while let Some(next) = way
            .last()
            .and_then(|last| redirects.get(*last))
            .and_then(|redirect| tree.find(&sample(&redirect.to)).map(|found| *found.value()))
        {
            if let Some(begin) = way.iter().position(|seen| *seen == next) {
                report_circle(checks, redirects, way.get(begin..).unwrap_or(&way), &mut reported);
                break;
            }
            way.push(next);
        }
    }
}

fn report_circle(
    checks: &mut Checks<'_>,
    redirects: &[Redirect],
    circle: &[usize],
    reported: &mut [bool],
) {
    let mut parts = circle.iter().filter_map(|index| redirects.get(*index));
    let Some(first) = parts.next() else { return };
    if circle.iter().any(|index| reported.get(*index).copied().unwrap_or(true)) {
        return;
    }
    for index in circle {
        if let Some(flag) = reported.get_mut(*index) {
            *flag = true;
        }
    }
    let message = if circle.len() == 1 {
        format!("the redirect from `{}` leads to itself", first.from)
    } else {
        format!("the redirect from `{}` leads in a circle", first.from)
    };
    let mut diagnostic = Diagnostic::error(codes::REDIRECT, message)
        .at(first.span, format!("leads to `{}`", first.to))
        .with_help("let it lead to a path that no redirect is for");
    for other in parts {
        diagnostic = diagnostic.with_label(other.span, format!("leads to `{}`", other.to));
    }
    checks.push(diagnostic);
}

/// The path of a target, with `1` for each parameter: that is a number as well as a word. Empty for other
/// sites.
fn sample(to: &str) -> String {
    if !to.starts_with('/') || to.starts_with("//") {
        return String::new();
    }
    let path = to.split(['?', '#']).next().unwrap_or_default();
    let mut sample = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, (_, after))) =
        rest.split_once('{').and_then(|(before, name)| Some((before, name.split_once('}')?)))
    {
        sample.push_str(before);
        sample.push('1');
        rest = after;
    }
    sample + rest
}

#[cfg(test)]
mod tests {
    use hearth_config::Loader;

    use super::*;
    use crate::config::Config;

    /// The redirects that are reported to lead in a circle.
    fn circles(redirects: &[(&str, &str)]) -> Vec<String> {
        let loaded = Loader::new().load::<Config>().unwrap();
        let mut checks = Checks { document: &loaded.document, report: loaded.document.report() };
        let planned: Vec<_> = redirects
            .iter()
            .map(|(from, to)| Redirect {
                from: (*from).to_owned(),
                to: (*to).to_owned(),
                status: StatusCode::FOUND,
                span: Span::UNKNOWN,
            })
            .collect();
        check_circles(&mut checks, &planned);
        let name = |diagnostic: &Diagnostic| {
            diagnostic.message().split('`').nth(1).unwrap_or_default().to_owned()
        };
        checks.report.diagnostics().iter().map(name).collect()
    }

    #[test]
    fn circles_are_found() {
        let none: [&str; 0] = [];
        assert_eq!(circles(&[("/a", "/b"), ("/b", "/c")]), none);
        assert_eq!(circles(&[("/a", "/a")]), ["/a"]);
        assert_eq!(circles(&[("/a", "/a?x=1")]), ["/a"]);
        assert_eq!(circles(&[("/a", "/b"), ("/b", "/a")]), ["/a"]);
        assert_eq!(circles(&[("/x", "/a"), ("/a", "/b"), ("/b", "/a")]), ["/a"]);
        assert_eq!(circles(&[("/{*all}", "/new/{all}")]), ["/{*all}"]);
        assert_eq!(circles(&[("/old/{*rest}", "/{rest}")]), none);
        assert_eq!(
            circles(&[("/u/{id:int}", "/users/{id}"), ("/users/{id}", "/u/{id}")]),
            ["/u/{id:int}"]
        );
        assert_eq!(circles(&[("/a", "https://example.com/a"), ("/b", "//b/b")]), none);
    }
}
