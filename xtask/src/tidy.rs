//! `cargo xtask tidy`: the rules of the house that a program can check.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, bail};

use crate::workspace::{self, Package};

/// Lines of a source file above which it needs a reason.
const FILE_LINES_WARN: usize = 800;
const FILE_LINES_MAX: usize = 1500;
/// The marker that gives the reason.
const LONG_FILE: &str = "// tidy: long-file because ";
/// Bytes of a tracked file; larger ones belong to a package registry or are generated.
const FILE_BYTES_MAX: u64 = 1 << 20;

pub(crate) fn run() -> anyhow::Result<()> {
    let packages = workspace::packages()?;
    let mut problems = layers(&packages)?;
    problems.extend(required_files(&packages));
    problems.extend(files()?);
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    if !problems.is_empty() {
        bail!("tidy found {} problem(s)", problems.len());
    }
    println!("tidy: {} packages in order", packages.len());
    Ok(())
}

/// A crate uses only crates of strictly lower layers, and only those that `layers.toml` names.
fn layers(packages: &[Package]) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(workspace::root().join("layers.toml"))?;
    let table: toml::Table = text.parse()?;
    let mut layer_of = BTreeMap::new();
    let mut allowed = BTreeMap::new();
    for (layer, crates) in table["layer"].as_table().context("layers.toml has no [layer.N]")? {
        let layer: u32 = layer.parse().context("a layer is a number")?;
        for (name, uses) in crates.as_table().into_iter().flatten() {
            let uses = uses.as_array().into_iter().flatten().filter_map(toml::Value::as_str);
            layer_of.insert(name.clone(), layer);
            allowed.insert(name.clone(), uses.map(str::to_owned).collect::<Vec<_>>());
        }
    }
    let mut problems = Vec::new();
    for package in packages.iter().filter(|package| package.is_crate()) {
        let name = package.folder.trim_start_matches("crates/");
        if package.name != format!("hearth-{name}") {
            problems.push(format!("{}: the package must be named hearth-{name}", package.folder));
        }
        let Some(layer) = layer_of.get(name) else {
            problems.push(format!("layers.toml does not place `{name}`"));
            continue;
        };
        for used in package.uses.iter().filter_map(|used| used.strip_prefix("hearth-")) {
            if !allowed.get(name).is_some_and(|allowed| allowed.iter().any(|a| a == used)) {
                problems.push(format!("layers.toml does not let `{name}` use `{used}`"));
            }
            if layer_of.get(used).is_none_or(|below| below >= layer) {
                problems.push(format!("`{name}` uses `{used}`, which is not in a lower layer"));
            }
        }
    }
    Ok(problems)
}

/// Every crate explains itself, and inherits the workspace's lints.
fn required_files(packages: &[Package]) -> Vec<String> {
    let root = workspace::root();
    let mut problems = Vec::new();
    for package in packages {
        let folder = root.join(&package.folder);
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        if !manifest.contains("[lints]\nworkspace = true") {
            problems.push(format!(
                "{}/Cargo.toml: `[lints] workspace = true` is missing",
                package.folder
            ));
        }
        for name in ["README.md", "CHANGELOG.md"] {
            if package.is_crate() && !folder.join(name).is_file() {
                problems.push(format!("{}: {name} is missing", package.folder));
            }
        }
    }
    problems
}

/// Length, size, and words of each tracked file; links of each Markdown file.
fn files() -> anyhow::Result<Vec<String>> {
    let root = workspace::root();
    let mut problems = Vec::new();
    for path in workspace::tracked_files()? {
        let full = root.join(&path);
        let Ok(metadata) = fs::metadata(&full) else { continue };
        if metadata.len() > FILE_BYTES_MAX {
            problems.push(format!("{path}: {} bytes; at most {FILE_BYTES_MAX}", metadata.len()));
        }
        let Ok(text) = fs::read_to_string(&full) else { continue };
        if path.ends_with(".rs") {
            problems.extend(source(&path, &text));
        }
        if path.ends_with(".md") {
            problems.extend(links(&path, &text, &full));
        }
        // The project stands alone: nothing in it may need what only its makers have.
        if path != "xtask/src/tidy.rs" && text.contains("../shared") {
            problems.push(format!("{path}: refers to a folder outside of the project"));
        }
    }
    Ok(problems)
}

fn source(path: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX && !text.contains(LONG_FILE) {
        return Some(format!("{path}: {lines} lines; split it, or say `{LONG_FILE}…`"));
    }
    if lines > FILE_LINES_WARN && !text.contains(LONG_FILE) {
        eprintln!("tidy: note: {path} has {lines} lines");
    }
    None
}

/// Relative links must lead somewhere.
fn links(path: &str, text: &str, full: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split([')', '#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains(':') {
                continue;
            }
            let folder = full.parent().unwrap_or(full);
            if !folder.join(target).exists() {
                problems
                    .push(format!("{path}:{}: the link to `{target}` leads nowhere", number + 1));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    /// So that an ordinary `cargo test` finds what CI would.
    #[test]
    fn the_workspace_is_tidy() {
        super::run().expect("tidy");
    }
}
