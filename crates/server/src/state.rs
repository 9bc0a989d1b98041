//! Where what must outlive the process is kept.

use std::{
    env, fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::system;

/// The folder for state: what systemd gives (`STATE_DIRECTORY`), else `/var/lib/hearth` for root, else a folder of
/// the user (`XDG_STATE_HOME`, or `~/.local/state`; on Windows `LOCALAPPDATA`). Who has none has `.hearth` where the
/// process was started, which is served to nobody by default.
#[must_use]
pub fn folder() -> PathBuf {
    own_folder().unwrap_or_else(|| ".hearth".into())
}

/// The same; `None` where there is no place for it.
#[must_use]
pub fn own_folder() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(given) = set("STATE_DIRECTORY") {
        // systemd joins several folders by colons; the first is ours.
        let text = given.to_string_lossy().into_owned();
        return Some(text.split(':').next().unwrap_or(&text).into());
    }
    system::shared_state().or_else(|| Some(system::own_state(set)?.join("hearth")))
}

/// Makes a folder that only its owner may look into, and those that it is in.
///
/// # Errors
/// What the system says.
pub fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Thirty-two random bytes that stay the same for all processes of this user on this machine: a file of `folder`.
///
/// # Errors
/// What the system says.
pub fn secret(folder: &Path, name: &str) -> io::Result<[u8; 32]> {
    let path = folder.join(name);
    for _ in 0..2 {
        if let Ok(bytes) = fs::read(&path)
            && let Ok(secret) = <[u8; 32]>::try_from(bytes)
        {
            return Ok(secret);
        }
        make_private(folder)?;
        let mut secret = [0; 32];
        system::random(&mut secret)?;
        let temporary = folder.join(format!("{name}.{}", std::process::id()));
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&temporary)?.write_all(&secret)?;
        // Of two processes at once, the one whose link is there first has made it; the other reads that.
        let linked = fs::hard_link(&temporary, &path);
        fs::remove_file(&temporary)?;
        match linked {
            Ok(()) => return Ok(secret),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_stays() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        let first = secret(&inner, "pcp").unwrap();
        assert_ne!(first, [0; 32]);
        assert_eq!(secret(&inner, "pcp").unwrap(), first);
        fs::write(inner.join("pcp"), b"short").unwrap();
        assert!(secret(&inner, "pcp").is_err());
    }
}
