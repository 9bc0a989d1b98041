//! Public test suites, which come in packages of a registry and are not part of this repository.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use serde_json::Value;

/// The file of a package, fetched once into the target folder; `None` where there is no npm or no
/// network, which `E2E_NO_SKIP` makes a failure.
pub(crate) fn file(package: &str, version: &str, file: &str) -> Option<Value> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    let folder = folder().join(format!("{package}-{version}"));
    let path = folder.join("package").join(file);
    if !path.exists()
        && let Err(why) = fetch(&folder, package, version)
    {
        let text = format!("{package} {version} cannot be fetched: {why}");
        assert!(env::var_os("E2E_NO_SKIP").is_none(), "{text}");
        eprintln!("{text}: its tests are left out");
        return None;
    }
    Some(serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
}

/// Beside the folder of the running test program: `target/suites`.
fn folder() -> PathBuf {
    let program = env::current_exe().unwrap();
    program.ancestors().nth(3).unwrap().join("suites")
}

fn fetch(folder: &Path, package: &str, version: &str) -> Result<(), String> {
    let run = |command: &mut Command| match command.current_dir(folder).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    };
    fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    run(Command::new("npm").args(["pack", "--silent", &format!("{package}@{version}")]))?;
    run(Command::new("tar").arg("xzf").arg(format!("{package}-{version}.tgz")))
}
