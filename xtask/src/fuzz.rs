//! `cargo xtask fuzz`: fuzz targets, one after the other, for a while each.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{process, workspace};

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let (seconds, names) = match args.split_first() {
        Some((seconds, names)) => {
            (seconds.parse().context("fuzz takes a number of seconds, then names")?, names)
        }
        None => (60, &[][..]),
    };
    let folder = workspace::root().join("fuzz");
    let mut targets = targets(&folder)?;
    if let Some(unknown) = names.iter().find(|name| !targets.iter().any(|t| t.name == **name)) {
        let known: Vec<_> = targets.iter().map(|target| &target.name[..]).collect();
        bail!("no fuzz target named `{unknown}`; there are {}", known.join(", "));
    }
    targets.retain(|target| names.is_empty() || names.contains(&target.name));
    for target in targets {
        eprintln!("== fuzz {}, {seconds} s", target.name);
        target.run(&folder, seconds)?;
    }
    Ok(())
}

/// A program of `fuzz/`.
struct Target {
    name: String,
    /// The features that bring the crate it is about, and no other.
    features: Vec<String>,
}

impl Target {
    fn run(&self, folder: &Path, seconds: u32) -> anyhow::Result<()> {
        // New inputs go to the first corpus; the others are read.
        let corpus = folder.join("corpus").join(&self.name);
        std::fs::create_dir_all(&corpus)
            .with_context(|| format!("cannot create {}", corpus.display()))?;
        let seeds = folder.join("seeds").join(&self.name);
        let corpora = [&corpus, &seeds].into_iter().filter(|folder| folder.is_dir());
        let dictionary = folder.join("dictionaries").join(format!("{}.dict", self.name));

        let mut fuzz = std::process::Command::new("cargo");
        // Cargo sets these for us; the nightly toolchain must find its own.
        fuzz.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN").current_dir(workspace::root());
        // Targets that make a valid input to begin with put it there.
        fuzz.env("E2E_SEED_DIR", &corpus);
        fuzz.args(["+nightly", "fuzz", "run", "--features", &self.features.join(","), &self.name]);
        fuzz.args(corpora.collect::<Vec<&PathBuf>>()).arg("--");
        fuzz.arg(format!("-max_total_time={seconds}"));
        if dictionary.is_file() {
            fuzz.arg(format!("-dict={}", dictionary.display()));
        }
        process::run(fuzz.args(["-rss_limit_mb=2048", "-timeout=10", "-print_final_stats=1"]))
    }
}

/// Every target of the manifest, by name.
fn targets(folder: &Path) -> anyhow::Result<Vec<Target>> {
    let manifest = folder.join("Cargo.toml");
    let mut metadata = process::cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    metadata.arg("--manifest-path").arg(&manifest);
    let metadata: Value = serde_json::from_str(&process::output(&mut metadata)?)?;
    let list = metadata["packages"][0]["targets"].as_array().context("no targets")?;
    let programs = list.iter().filter(|target| target["kind"][0] == "bin");
    let mut targets = programs.map(target).collect::<Result<Vec<_>, _>>()?;
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(targets)
}

fn target(value: &Value) -> anyhow::Result<Target> {
    let name = value["name"].as_str().context("a target without a name")?;
    let features = value["required-features"].as_array().into_iter().flatten();
    let features = features.filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(Target { name: name.to_owned(), features })
}
