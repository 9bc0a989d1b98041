//! Where a configuration file is looked for when none is named.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::parse::Format;

/// The places where a program's file may lie, best first.
#[derive(Debug, Clone)]
pub struct Search {
    stem: String,
    directories: Vec<PathBuf>,
}

impl Search {
    /// The usual places: the working directory, `$XDG_CONFIG_HOME/NAME` (or `~/.config/NAME`), and
    /// `/etc/NAME`; on Windows `%APPDATA%\NAME` and `%ProgramData%\NAME`.
    pub fn new(name: &str) -> Self {
        Self::with_variables(name, |variable| env::var_os(variable))
    }

    /// The same with other variables than the process has.
    pub fn with_variables(name: &str, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        // XDG Base Directory Specification: a relative path in a variable is to be ignored.
        let absolute = |variable_name: &str| {
            variable(variable_name).map(PathBuf::from).filter(|path| path.is_absolute())
        };
        let mut directories = vec![PathBuf::new()];
        if cfg!(windows) {
            let roots = [absolute("APPDATA"), absolute("ProgramData")];
            directories.extend(roots.into_iter().flatten().map(|root| root.join(name)));
        } else {
            let home = || absolute("HOME").map(|home| home.join(".config"));
            let user = absolute("XDG_CONFIG_HOME").or_else(home);
            directories.extend(user.map(|root| root.join(name)));
            directories.push(Path::new("/etc").join(name));
        }
        Self { stem: name.to_owned(), directories }
    }

    /// Exactly these directories.
    pub fn in_directories(name: &str, directories: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { stem: name.to_owned(), directories: directories.into_iter().collect() }
    }

    /// Every path that is tried, best first.
    pub fn candidates(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.directories.iter().flat_map(move |directory| {
            Format::EXTENSIONS
                .iter()
                .map(move |extension| directory.join(format!("{}.{extension}", self.stem)))
        })
    }

    /// The first candidate that is a file.
    pub fn find(&self) -> Option<PathBuf> {
        self.candidates().find(|path| path.is_file())
    }
}
