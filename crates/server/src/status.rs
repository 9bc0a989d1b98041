//! What a running `hearth up` does and how it goes, for other processes of this user: a file, and a lock that tells
//! whether its writer lives.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::state;

/// How the components are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The site's name.
    pub domain: String,
    /// The process.
    pub pid: u32,
    /// When this was written, in seconds since 1970.
    pub at: u64,
    /// Each component, in the order in which a connection comes.
    pub components: Vec<Component>,
}

/// One component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: State,
    /// The same in words.
    pub text: String,
    /// What to do, where somebody must.
    pub fix: Option<String>,
    /// Since when it is in this state, in seconds since 1970.
    pub since: u64,
}

/// How a component is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It fails.
    Failed,
    /// It works.
    Ok,
    /// Nothing is wanted of it.
    Off,
    /// It could not be seen whether it works.
    Unknown,
    /// It is being worked on.
    Working,
}

/// Held as long as the process keeps a site up.
#[derive(Debug)]
pub struct Lock {
    // Closing it lets go, however the process ends.
    _file: File,
    folder: PathBuf,
}

impl Lock {
    /// The only one of this user on this machine.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where another process has it; what the system says otherwise.
    pub fn take() -> io::Result<Self> {
        let folder = state::folder();
        state::make_private(&folder)?;
        let file = File::create(folder.join("up.lock"))?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(Self { _file: file, folder })
    }

    /// Tells how it goes.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, status: &Status) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(status)?;
        let temporary = self.folder.join("status.json.new");
        fs::write(&temporary, text)?;
        fs::rename(temporary, self.folder.join("status.json"))
    }
}

/// Whether a process of this user keeps a site up.
#[must_use]
pub fn is_running() -> bool {
    let lock = File::open(state::folder().join("up.lock"));
    let Ok(lock) = lock else { return false };
    lock.try_lock_shared().is_err()
}

/// What the last one said.
///
/// # Errors
/// What the system says.
pub fn read() -> io::Result<Status> {
    read_from(&state::folder())
}

fn read_from(folder: &Path) -> io::Result<Status> {
    Ok(serde_json::from_slice(&fs::read(folder.join("status.json"))?)?)
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
