//! Opens files beneath one directory and nowhere else.

#[cfg(unix)]
mod by_handle;
#[cfg(any(test, not(unix)))]
mod by_path;

use std::io;

#[cfg(unix)]
pub(crate) use self::by_handle::Root;
#[cfg(not(unix))]
pub(crate) use self::by_path::Root;
use crate::path;

/// Which symbolic links beneath the root are followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Symlinks {
    /// None: a path with a symbolic link in it does not exist.
    Deny,
    /// All, wherever they lead. Whoever can create a link beneath the root can publish any file that the
    /// server may read.
    Follow,
    /// Those that stay within the root. The default.
    #[default]
    WithinRoot,
}

/// Why a path cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("no such file beneath the root")]
    NotFound,
    #[error("the file may not be read by the server")]
    Denied(#[source] io::Error),
    #[error("the file cannot be opened")]
    Failed(#[source] io::Error),
}

/// Something in a directory.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) is_directory: bool,
    pub(crate) len: u64,
    /// In seconds since 1970; not told of links.
    pub(crate) modified: Option<u64>,
}

/// Whether a name may be listed.
fn is_listed(name: &str, hidden: bool) -> bool {
    !matches!(name, "." | "..") && path::check_segment(name, hidden).is_ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::{Root, Symlinks, by_path};

    /// What each policy makes of each path, with and without `openat2`.
    #[test]
    fn policies() {
        let outside = tempfile::tempdir().expect("a directory");
        fs::write(outside.path().join("secret"), "secret").expect("a file");
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("d/e")).expect("directories");
        fs::write(at("d/file"), "file").expect("a file");
        symlink("file", at("d/relative")).expect("a link");
        symlink("../d/file", at("d/upward")).expect("a link");
        symlink(at("d/file"), at("absolute")).expect("a link");
        symlink("d", at("directory")).expect("a link");
        symlink(outside.path().join("secret"), at("out")).expect("a link");
        symlink(outside.path(), at("outdir")).expect("a link");
        symlink("../../../../../../../../etc/passwd", at("d/climb")).expect("a link");
        symlink("loop", at("loop")).expect("a link");
        symlink("/proc/self/root", at("magic")).expect("a link");
        let rows = [
            ("d/file", true, true, true),
            ("d/missing", false, false, false),
            ("d/file/", false, false, false),
            ("d/file/x", false, false, false),
            ("d", true, true, true),
            ("d/", true, true, true),
            ("", true, true, true),
            ("d/relative", false, true, true),
            ("d/upward", false, true, true),
            ("absolute", false, true, true),
            ("directory/file", false, true, true),
            ("directory/", false, true, true),
            ("out", false, false, true),
            ("outdir/secret", false, false, true),
            ("d/climb", false, false, true),
            ("loop", false, false, false),
            ("magic/etc/passwd", false, false, true),
        ];
        for (path, deny, within, follow) in rows {
            for (symlinks, want) in
                [(Symlinks::Deny, deny), (Symlinks::WithinRoot, within), (Symlinks::Follow, follow)]
            {
                let open = || Root::open(root.path(), symlinks, 0).expect("a root");
                for (how, root) in [("kernel", open()), ("no kernel", open().without_kernel())] {
                    assert_eq!(root.find(path).is_ok(), want, "{path:?}, {symlinks:?}, {how}");
                }
                let root = by_path::Root::open(root.path(), symlinks, 0).expect("a root");
                assert_eq!(root.find(path).is_ok(), want, "{path:?}, {symlinks:?}, by path");
            }
        }
    }

    /// What is listed is the same, whoever lists it.
    #[test]
    fn entries() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("d")).expect("a directory");
        fs::write(at("d/file"), "four").expect("a file");
        fs::write(at("d/.hidden"), "").expect("a file");
        fs::create_dir(at("d/inner")).expect("a directory");
        symlink("file", at("d/link")).expect("a link");
        symlink("inner", at("d/folder")).expect("a link");
        for (symlinks, want) in [
            (Symlinks::Deny, &["file 4 false", "inner true"][..]),
            (Symlinks::WithinRoot, &["file 4 false", "folder", "inner true", "link"]),
            (Symlinks::Follow, &["file 4 false", "folder true", "inner true", "link"]),
        ] {
            let show = |(mut entries, is_complete): (Vec<super::Entry>, bool)| {
                assert!(is_complete);
                entries.sort_by(|one, other| one.name.cmp(&other.name));
                let show = |entry: &super::Entry| match (entry.modified, entry.is_directory) {
                    (None, false) => entry.name.clone(),
                    (_, true) => format!("{} true", entry.name),
                    (_, false) => format!("{} {} false", entry.name, entry.len),
                };
                entries.iter().map(show).collect::<Vec<_>>()
            };
            let by_handle = Root::open(root.path(), symlinks, 0).expect("a root");
            let (directory, _) = by_handle.find("d/").expect("a directory");
            let listed = by_handle.entries(&directory, "d/", false, 10).expect("listed");
            assert_eq!(show(listed), want, "{symlinks:?}");
            let by_path = by_path::Root::open(root.path(), symlinks, 0).expect("a root");
            let listed = by_path.entries(&directory, "d/", false, 10).expect("listed");
            assert_eq!(show(listed), want, "{symlinks:?}, by path");
            assert!(!by_path.entries(&directory, "d/", true, 1).expect("listed").1);
        }
    }

    #[test]
    fn a_replaced_root_is_noticed() {
        let parent = tempfile::tempdir().expect("a directory");
        for release in ["1", "2"] {
            fs::create_dir(parent.path().join(release)).expect("a directory");
        }
        fs::write(parent.path().join("2/new"), "").expect("a file");
        let link = parent.path().join("current");
        symlink("1", &link).expect("a link");
        let root = Root::open(&link, Symlinks::Deny, 0).expect("a root");
        fs::remove_file(&link).expect("the link");
        root.refresh(1000, 1000); // no root at all: the old one stays
        symlink("2", &link).expect("a link");
        root.refresh(1999, 1000);
        assert!(root.find("new").is_err(), "checked only once a second");
        root.refresh(2000, 1000);
        assert!(root.find("new").is_ok());
    }
}
