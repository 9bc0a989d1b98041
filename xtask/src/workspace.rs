//! What the tasks know of the workspace.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use crate::process;

/// One member.
pub(crate) struct Package {
    pub(crate) name: String,
    /// Folder, relative to the root, with `/`.
    pub(crate) folder: String,
    /// Its features, `default` excluded.
    pub(crate) features: Vec<String>,
    /// Workspace packages it depends on outside of tests.
    pub(crate) uses: Vec<String>,
}

impl Package {
    /// Whether it is one of `crates/`.
    pub(crate) fn is_crate(&self) -> bool {
        self.folder.starts_with("crates/")
    }
}

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// Every member, by name.
pub(crate) fn packages() -> anyhow::Result<Vec<Package>> {
    let mut metadata = process::cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&process::output(&mut metadata)?)?;
    let root = root();
    let list = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let mut packages =
        list.iter().map(|value| package(value, &root)).collect::<Result<Vec<_>, _>>()?;
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

fn package(value: &Value, root: &Path) -> anyhow::Result<Package> {
    let name = value["name"].as_str().context("a package without a name")?;
    let manifest = Path::new(value["manifest_path"].as_str().context("no manifest path")?);
    let folder = manifest.parent().context("a manifest without a folder")?;
    let folder = folder.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
    let features = value["features"].as_object().into_iter().flatten();
    let features = features.map(|(name, _)| name.clone()).filter(|name| name != "default");
    let uses = value["dependencies"].as_array().into_iter().flatten();
    let uses = uses
        .filter(|dependency| !dependency["path"].is_null() && dependency["kind"] != "dev")
        .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned));
    Ok(Package {
        name: name.to_owned(),
        folder,
        features: features.collect(),
        uses: uses.collect(),
    })
}

/// Files that git tracks, relative to the root.
pub(crate) fn tracked_files() -> anyhow::Result<Vec<String>> {
    let mut git = std::process::Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let list = process::output(&mut git)?;
    Ok(list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
