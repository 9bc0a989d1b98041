//! Files that are read again while the server runs: certificates of sites, and who vouches for clients.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use hearth_net::Certificate;
use hearth_tls_acme::Code;
use parking_lot::Mutex;

use super::{
    clients::Clients,
    tls::{Shelf, brought},
};
use crate::plan::{CertificateFiles, Plan};

/// What was read from files and can be read again; cheap to clone.
#[derive(Clone)]
pub(super) struct Reload(Arc<Inner>);

struct Inner {
    shelf: Shelf,
    /// Held while files are read.
    sites: Mutex<Sites>,
    clients: Option<Arc<Clients>>,
}

struct Sites {
    /// The hosts of each site, and the certificate that it brings.
    brought: Vec<(Vec<String>, Option<Certificate>)>,
    /// Where that is, in the same order.
    files: Vec<Option<CertificateFiles>>,
}

/// What a file looks like from outside. A new one has another inode, one that is written anew another time or length.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    #[cfg(unix)]
    inode: u64,
}

impl Sites {
    fn of(plan: &Plan) -> Self {
        let files = plan.sites.iter().map(|site| site.certificate_files.clone()).collect();
        Self { brought: brought(plan), files }
    }
}

impl Reload {
    pub(super) fn new(plan: &Plan, shelf: Shelf, clients: Option<Arc<Clients>>) -> Self {
        Self(Arc::new(Inner { shelf, sites: Mutex::new(Sites::of(plan)), clients }))
    }

    /// The files of these sites in the place of those before. What was read of the same files stays in use until they
    /// are [read](Self::read) again, which takes over nothing worse.
    pub(super) fn replace(&self, plan: &Plan) {
        let mut sites = self.0.sites.lock();
        let mut next = Sites::of(plan);
        for ((_, certificate), files) in next.brought.iter_mut().zip(&next.files) {
            let same = |known: &Option<CertificateFiles>| known.is_some() && known == files;
            if let Some(place) = sites.files.iter().position(same) {
                certificate.clone_from(&sites.brought[place].1);
            }
        }
        *sites = next;
        self.0.shelf.put(&sites.brought);
    }

    /// Reads everything again. What cannot be used is told, and leaves in use what there is.
    pub(super) fn read(&self) {
        self.read_certificates();
        if let Some(clients) = &self.0.clients {
            clients.reload();
        }
    }

    /// The certificates that sites bring, at this moment.
    pub(super) fn certificates(&self) -> Vec<Certificate> {
        let sites = self.0.sites.lock();
        sites.brought.iter().filter_map(|(_, certificate)| certificate.clone()).collect()
    }

    /// Reads everything again whenever a file has changed and then stayed as it was for a moment.
    ///
    /// # Cancel safety
    /// Dropped, it has read a change or not.
    pub(super) async fn watch(self) {
        let mut read = self.stamps();
        let mut seen = read.clone();
        loop {
            tokio::time::sleep(LOOK_PAUSE).await;
            let now = self.stamps();
            // Half of a file, or a certificate without its key, is nothing to be read.
            if now != read && now == seen {
                self.read();
                read = self.stamps();
            }
            seen = now;
        }
    }

    /// What every file looks like; other sites have others.
    fn stamps(&self) -> BTreeMap<PathBuf, Option<Stamp>> {
        let files = self.files().into_iter();
        files.map(|file| (file.clone(), Stamp::of(&file).ok())).collect()
    }

    fn files(&self) -> Vec<PathBuf> {
        let sites = self.0.sites.lock();
        let pairs = sites.files.iter().flatten();
        let mut files: Vec<_> = pairs.flat_map(|pair| [&pair.chain, &pair.key]).cloned().collect();
        for client in self.0.clients.iter().flat_map(|clients| clients.files()) {
            files.extend([client.authorities].into_iter().chain(client.revocations));
        }
        files
    }

    fn read_certificates(&self) {
        let mut sites = self.0.sites.lock();
        let Sites { brought, files } = &mut *sites;
        let mut changed = 0;
        for ((_, certificate), files) in brought.iter_mut().zip(files) {
            let (Some(own), Some(files)) = (certificate, files) else { continue };
            match better(own, files) {
                Ok(Some(fresh)) => (*own, changed) = (fresh, changed + 1),
                Ok(None) => {}
                Err(why) => {
                    let (code, fix) =
                        (Code::CertificateUnusable.as_str(), Code::CertificateUnusable.fix());
                    tracing::warn!(target: "hearth", code, fix, "{why}; the one before is served");
                }
            }
        }
        if changed > 0 {
            self.0.shelf.put(brought);
            tracing::info!(target: "hearth", changed, "certificates were read anew");
        }
    }
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reload")
    }
}

/// What the files hold, where it is another certificate than this one and no worse.
fn better(own: &Certificate, files: &CertificateFiles) -> Result<Option<Certificate>, String> {
    let fresh = files.read().map_err(|error| crate::outside::causes(&error))?;
    if fresh.key().cert == own.key().cert {
        return Ok(None);
    }
    let now = SystemTime::now();
    match fresh.check(now) {
        Err(error) if own.is_valid_at(now) => Err(format!("{}: {error}", files.chain.display())),
        _ => Ok(Some(fresh)),
    }
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            modified: metadata.modified().ok(),
            len: metadata.len(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(&metadata),
        })
    }
}

/// Between two looks at the files.
const LOOK_PAUSE: Duration = Duration::from_secs(2);
