//! What is served for a host.

use std::{fs, path::Path, sync::Arc, time::Duration};

use hearth_config::{Diagnostic, Span, Spanned};
use hearth_http_core::{Bytes, Coding, HeaderName, HeaderValue, StatusCode};
use hearth_middleware::{Compress, StrictTransport};
use hearth_net::Certificate;
use hearth_router::Problem;
use hearth_static_files::{BuildError, StaticFiles};

use super::{
    CertificateFiles, Checks, ClientAuth, Redirect, certificate, client_auth, host, redirect,
};
use crate::{
    assemble::{HTTPS_PORT, site_routes},
    codes,
    config::{self, Config, Encoding},
};

/// A site, with everything that its requests need.
#[derive(Debug)]
pub struct Site {
    /// Its hosts, in lower case; empty for the site of all other hosts.
    pub hosts: Vec<String>,
    /// What its root is, for people.
    pub shown: String,
    /// The files of its root.
    pub files: Option<StaticFiles>,
    /// Folders under paths of their own.
    pub mounts: Vec<Mount>,
    /// Paths that lead elsewhere.
    pub redirects: Vec<Redirect>,
    /// Fields that every response gets; `None` removes the field.
    pub headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Contents of errors.
    pub error_pages: ErrorPages,
    /// Compression of what is not compressed on disk.
    pub compress: Option<Compress>,
    /// Whether requests in the clear are sent to TLS.
    pub redirects_to_https: bool,
    /// What browsers remember of its TLS.
    pub strict_transport: Option<StrictTransport>,
    /// Its certificate.
    pub certificate: Option<Certificate>,
    /// Where that was read, to be read again.
    pub certificate_files: Option<CertificateFiles>,
    /// Which clients it lets in; `None`: all.
    pub client_auth: Option<ClientAuth>,
}

/// A folder under a path of its own.
#[derive(Debug)]
pub struct Mount {
    /// The path.
    pub path: String,
    /// Its files.
    pub files: StaticFiles,
    /// Where it was written.
    pub span: Span,
}

/// Contents of errors: first by status, then by class.
pub type ErrorPages = Vec<(Answer, Bytes)>;

/// Which responses an error page is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// This one.
    Status(StatusCode),
    /// `4xx` or `5xx`: the first digit.
    Class(u16),
}

pub(super) fn plan(checks: &mut Checks<'_>, config: &Config) -> Vec<Site> {
    if config.sites.is_empty() {
        let message = "nothing is served: there is no site";
        let help = "add one: [[sites]] with root = \"FOLDER\"";
        checks.error(codes::UNREACHABLE, message, Span::UNKNOWN, "", help);
    }
    let mut taken: Vec<(String, Span)> = Vec::new();
    let has_authority = config.tls.acme.is_some();
    let one = |site| one(checks, site, &mut taken, has_authority);
    let mut sites: Vec<Site> = config.sites.iter().map(one).collect();
    client_auth::number(&mut sites);
    sites
}

fn one(
    checks: &mut Checks<'_>,
    site: &Spanned<config::Site>,
    taken: &mut Vec<(String, Span)>,
    has_authority: bool,
) -> Site {
    let hosts = hosts(checks, site, taken);
    if site.root.is_none() && site.mounts.is_empty() && site.redirects.is_empty() {
        let help = "give it a `root`, `mounts` or `redirects`";
        let message = "the site has nothing to serve";
        checks.error(codes::UNREACHABLE, message, site.span(), "this site", help);
    }
    let root = site.root.as_ref().and_then(|root| folder(checks, root));
    let files = root.as_deref().and_then(|root| files(checks, site, root));
    let error_pages = error_pages(checks, site, root.as_deref());
    let mounts = site.mounts.iter().filter_map(|mount| self::mount(checks, site, mount)).collect();
    let tls = site.tls.as_ref();
    let certificate = tls.and_then(|tls| certificate::load(checks, tls, &hosts, has_authority));
    let certificate_files = tls.and_then(|tls| certificate::files(checks, tls));
    let strict_transport = tls.and_then(|tls| tls.hsts.as_ref());
    let strict_transport = strict_transport.map(|hsts| self::strict_transport(checks, hsts));
    let client_auth = tls.and_then(|tls| tls.client_auth.as_ref());
    let client_auth = client_auth.and_then(|asks| client_auth::load(checks, asks));
    let planned = Site {
        shown: site.root.as_ref().map_or_else(String::new, |root| root.display().to_string()),
        hosts,
        files,
        mounts,
        redirects: redirect::plan(checks, &site.redirects),
        headers: headers(checks, site),
        error_pages,
        compress: compress(site),
        redirects_to_https: *site.redirect_to_https,
        strict_transport,
        certificate,
        certificate_files,
        client_auth,
    };
    check_routes(checks, &planned);
    planned
}

fn hosts(
    checks: &mut Checks<'_>,
    site: &Spanned<config::Site>,
    taken: &mut Vec<(String, Span)>,
) -> Vec<String> {
    let mut names = Vec::new();
    for written in &site.hosts {
        match host::parse(written) {
            Ok(name) => names.push((name, written.span())),
            Err(error) => {
                let message = format!("`{written}` is not a host name");
                checks.error(codes::HOST, message, written.span(), "", error.to_string());
            }
        }
    }
    // A site whose names are all wrong is not the default site.
    if site.hosts.is_empty() {
        names.push((String::new(), site.span()));
    }
    for (name, span) in &names {
        if let Some((_, first)) = taken.iter().find(|(known, _)| known == name) {
            let (message, help) = if name.is_empty() {
                ("two sites are for all hosts".to_owned(), "give one of them its `hosts`")
            } else {
                (format!("two sites are for `{name}`"), "remove the host from one of them")
            };
            let diagnostic = Diagnostic::error(codes::HOST_TWICE, message)
                .at(*span, "the second")
                .with_label(*first, "the first")
                .with_help(help);
            checks.push(diagnostic);
        }
        taken.push((name.clone(), *span));
    }
    names.into_iter().map(|(name, _)| name).filter(|name| !name.is_empty()).collect()
}

/// The folder, if it is one and can be read.
fn folder(
    checks: &mut Checks<'_>,
    root: &Spanned<std::path::PathBuf>,
) -> Option<std::path::PathBuf> {
    let path = checks.resolve(root);
    let shown = path.display();
    let problem = match fs::metadata(&path) {
        Ok(metadata) if !metadata.is_dir() => {
            Some((format!("{shown} is a file, not a folder"), "name the folder it lies in"))
        }
        Ok(_) => fs::read_dir(&path).err().map(|error| {
            let help = "let the user that runs the server read it";
            (format!("the folder {shown} cannot be read: {error}"), help)
        }),
        Err(error) => Some((
            format!("the folder {shown} cannot be used: {error}"),
            if root.span().is_known() {
                "create it, or correct the path; it is relative to the configuration file"
            } else {
                "create it, or correct the path"
            },
        )),
    };
    let Some((message, help)) = problem else { return Some(path) };
    checks.error(codes::ROOT, message, root.span(), "this folder", help);
    None
}

fn files(checks: &mut Checks<'_>, site: &config::Site, root: &Path) -> Option<StaticFiles> {
    let mut builder = StaticFiles::builder(root)
        .index(site.index.iter().map(|name| name.value().clone()))
        .listing(site.listing)
        .hidden_files(site.dotfiles)
        .precompressed(site.precompressed)
        .symlinks(match site.symlinks {
            config::Symlinks::Deny => hearth_static_files::Symlinks::Deny,
            config::Symlinks::WithinRoot => hearth_static_files::Symlinks::WithinRoot,
            config::Symlinks::Follow => hearth_static_files::Symlinks::Follow,
        });
    if let Some(compress) = compress(site) {
        // Files are encoded once, not for each request.
        builder = builder.encoder(Arc::new(compress));
    }
    if let (true, Some(index)) = (site.spa, site.index.first()) {
        builder = builder.fallback(index.value());
    }
    for rule in &site.cache {
        if rule.files.is_empty() {
            let help =
                "write a glob such as `*.css` or `assets/**`, or a media type such as `image/*`";
            checks.error(
                codes::PATTERN,
                "an empty pattern matches nothing",
                rule.files.span(),
                "",
                help,
            );
        }
        if HeaderValue::from_str(&rule.value).is_err() {
            let message =
                format!("`{}` cannot be sent in a header field", rule.value.escape_debug());
            let help = "write directives such as `public, max-age=3600`";
            checks.error(codes::HEADER, message, rule.value.span(), "", help);
        }
        builder = builder.cache_control(rule.files.value(), rule.value.value());
    }
    built(checks, site, builder.build())
}

/// What the checks above have not foreseen.
fn built(
    checks: &mut Checks<'_>,
    site: &config::Site,
    result: Result<StaticFiles, BuildError>,
) -> Option<StaticFiles> {
    let error = match result {
        Ok(files) => return Some(files),
        Err(error) => error,
    };
    let root_span = site.root.as_ref().map_or(Span::UNKNOWN, Spanned::span);
    match error {
        BuildError::InvalidName { name, .. } => {
            let index = site.index.iter().find(|index| *index.value() == name);
            let span = index.map_or(root_span, Spanned::span);
            let message = format!("`{name}` is not the name of a file beneath the root");
            let help = "write a plain file name, such as `index.html`";
            checks.error(codes::PATTERN, message, span, "", help);
        }
        // Reported where the rule stands.
        BuildError::InvalidValue { .. } => {}
        other => {
            let message = other.to_string();
            let help = "see the cause above; the folder must be readable";
            checks.error(codes::ROOT, message, root_span, "", help);
        }
    }
    None
}

fn mount(
    checks: &mut Checks<'_>,
    site: &config::Site,
    mount: &Spanned<config::Mount>,
) -> Option<Mount> {
    let root = folder(checks, &mount.root)?;
    let mut options = site.clone();
    options.root = Some(mount.root.clone());
    options.listing = mount.listing;
    options.spa = mount.spa;
    let files = files(checks, &options, &root)?;
    let path = mount.path.value().clone();
    if !path.starts_with('/') || path.contains(['{', '}', '*']) || path.trim_matches('/').is_empty()
    {
        let message = format!("`{path}` is not a path that a folder can lie under");
        let help = "write a path such as `/downloads`";
        checks.error(codes::PATTERN, message, mount.path.span(), "", help);
        return None;
    }
    Some(Mount { path, files, span: mount.path.span() })
}

/// Fields that only the connection may set (RFC 9110 §7.6.1, RFC 9112 §6).
const RESERVED: [&str; 8] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn headers(checks: &mut Checks<'_>, site: &config::Site) -> Vec<(HeaderName, Option<HeaderValue>)> {
    let mut fields: Vec<(HeaderName, Option<HeaderValue>)> = Vec::new();
    for (written, value) in &site.headers {
        let Ok(name) = HeaderName::from_bytes(written.as_bytes()) else {
            let message = format!("`{}` is not the name of a header field", written.escape_debug());
            let help = "names are letters, digits and -, without spaces and colon";
            checks.error(codes::HEADER, message, written.span(), "", help);
            continue;
        };
        if RESERVED.contains(&name.as_str()) {
            let message = format!("`{name}` is set by the server itself");
            checks.error(codes::HEADER, message, written.span(), "", "remove it");
            continue;
        }
        if fields.iter().any(|(known, _)| *known == name) {
            let message = format!("the field `{name}` is set twice");
            checks.error(codes::HEADER, message, written.span(), "", "keep one of the two");
        }
        match HeaderValue::from_str(value) {
            Ok(_) if value.is_empty() => fields.push((name, None)),
            Ok(value) => fields.push((name, Some(value))),
            Err(_) => {
                let message = format!("the value of `{name}` cannot be sent in a header field");
                let help = "values are visible ASCII on one line";
                checks.error(codes::HEADER, message, value.span(), "", help);
            }
        }
    }
    fields
}

fn error_pages(checks: &mut Checks<'_>, site: &config::Site, root: Option<&Path>) -> ErrorPages {
    let mut pages = Vec::new();
    for (key, file) in &site.error_pages {
        let answer = match key.as_str() {
            "4xx" => Some(Answer::Class(4)),
            "5xx" => Some(Answer::Class(5)),
            other => other
                .parse::<u16>()
                .ok()
                .filter(|status| (400..=599).contains(status) && other.len() == 3)
                .and_then(|status| StatusCode::from_u16(status).ok())
                .map(Answer::Status),
        };
        let Some(answer) = answer else {
            let message = format!("`{key}` is not the status of an error");
            let help = "write a status from 400 to 599, or `4xx` or `5xx` for a whole class";
            checks.error(codes::STATUS, message, key.span(), "", help);
            continue;
        };
        match error_page(root, file) {
            Ok(content) => pages.push((answer, content)),
            Err((message, help)) => {
                checks.error(codes::ERROR_PAGE, message, file.span(), "", help);
            }
        }
    }
    // Those for one status win over those for a class.
    pages.sort_by_key(|(answer, _)| matches!(answer, Answer::Class(_)));
    pages
}

fn error_page(root: Option<&Path>, file: &str) -> Result<Bytes, (String, &'static str)> {
    const PAGE_BYTES_MAX: u64 = 1024 * 1024;
    let Some(root) = root else {
        let message = "an error page is a file of the root, but there is no root".to_owned();
        return Err((message, "give the site a `root`"));
    };
    let relative = Path::new(file.trim_start_matches('/'));
    if relative.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
        let message = format!("the error page `{file}` does not lie beneath the root");
        return Err((message, "write its path from the root, without `..`"));
    }
    let path = root.join(relative);
    let shown = path.display();
    let metadata = fs::metadata(&path).map_err(|error| {
        let help = "create it, or correct the path; it is relative to the root";
        (format!("the error page {shown} cannot be read: {error}"), help)
    })?;
    if !metadata.is_file() || metadata.len() > PAGE_BYTES_MAX {
        let message = format!("the error page {shown} is no file of at most 1 MiB");
        return Err((message, "name an HTML file"));
    }
    let content = fs::read(&path).map_err(|error| {
        let help = "let the user that runs the server read it";
        (format!("the error page {shown} cannot be read: {error}"), help)
    })?;
    Ok(content.into())
}

fn strict_transport(checks: &mut Checks<'_>, hsts: &config::Hsts) -> StrictTransport {
    /// What those who keep the list for browsers ask for.
    const PRELOAD_MIN: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let preload = hsts.preload.as_ref();
    let policy = StrictTransport {
        max_age: hsts.max_age.get(),
        subdomains: hsts.subdomains,
        preload: preload.is_some_and(|preload| **preload),
    };
    if let Some(preload) = preload.filter(|_| policy.preload)
        && (!policy.subdomains || policy.max_age < PRELOAD_MIN)
    {
        let message = "browsers do not build this in";
        let help =
            "set `subdomains = true` and `max_age = \"365d\"` or more, or leave `preload` out";
        checks.error(codes::HSTS, message, preload.span(), "", help);
    }
    policy
}

fn compress(site: &config::Site) -> Option<Compress> {
    let compression = &site.compression;
    if !compression.enabled || compression.encodings.is_empty() {
        return None;
    }
    let codings = compression.encodings.iter().map(|encoding| match **encoding {
        Encoding::Brotli => Coding::Brotli,
        Encoding::Deflate => Coding::Deflate,
        Encoding::Gzip => Coding::Gzip,
        Encoding::Zstd => Coding::Zstd,
    });
    Some(Compress::new().codings(codings).bytes_min(compression.min_size.as_u64()))
}

/// Builds the routes of the site as serving does, and translates what the router says of them.
fn check_routes(checks: &mut Checks<'_>, site: &Site) {
    let routes = site_routes(hearth_router::Router::builder(), site, HTTPS_PORT);
    let Err(error) = routes.build() else { return };
    let span_of = |pattern: &str| {
        let redirect = site.redirects.iter().find(|redirect| redirect.from == pattern);
        let mount = || {
            let of = |mount: &&Mount| pattern.starts_with(mount.path.trim_end_matches('/'));
            site.mounts.iter().find(of).map(|mount| mount.span)
        };
        redirect.map(|redirect| redirect.span).or_else(mount).unwrap_or(Span::UNKNOWN)
    };
    for problem in error.problems() {
        checks.push(match problem {
            Problem::Conflict { first, second, .. } => {
                let last = |pattern: &str| {
                    let same = |redirect: &&Redirect| redirect.from == pattern;
                    site.redirects.iter().rfind(same).map(|redirect| redirect.span)
                };
                Diagnostic::error(
                    codes::CONFLICT,
                    format!("`{second}` is for the same paths as `{first}`"),
                )
                .at(last(second).unwrap_or_else(|| span_of(second)), "the second")
                .with_label(span_of(first), "the first")
                .with_help("remove one of the two")
            }
            Problem::Pattern { pattern, error, .. } => {
                Diagnostic::error(codes::PATTERN, format!("`{pattern}` is not a path pattern"))
                    .at(span_of(pattern), error.to_string())
                    .with_help(
                        "patterns are paths such as `/old`, `/user/{name}` or `/docs/{*rest}`",
                    )
            }
            Problem::RedirectParam { pattern, target, name, .. } => Diagnostic::error(
                codes::REDIRECT,
                format!("`{target}` uses `{{{name}}}`, which `{pattern}` does not take"),
            )
            .at(span_of(pattern), format!("has no `{name}`"))
            .with_help("use a parameter of `from`"),
            other => Diagnostic::error(codes::CONFLICT, other.to_string())
                .with_help("this is a fault of the server; please report it"),
        });
    }
}
