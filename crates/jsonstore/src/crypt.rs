//! Encryption at rest: one AES-256-GCM key per file, derived from the master key and a random salt.
//!
//! Nonces are counters (the position of a frame or block in its file). They never repeat under a
//! key, because files are written once and a recycled log file gets a new salt and hence a new key.

use std::{fmt, sync::Arc};

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use zeroize::Zeroizing;

/// The secret from which every file's key is derived. Printing it shows nothing.
#[derive(Clone)]
pub struct MasterKey(Arc<Zeroizing<[u8; 32]>>);

impl MasterKey {
    /// From 32 random bytes; not from a password.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    /// A hash that only holders of the key can make.
    pub(crate) fn mac(&self, purpose: &str, bytes: &[u8]) -> [u8; 32] {
        let derived = Zeroizing::new(blake3::derive_key(purpose, &**self.0));
        *blake3::keyed_hash(&derived, bytes).as_bytes()
    }

    pub(crate) fn file_cipher(
        &self,
        store_id: [u8; 16],
        file_id: u64,
        salt: &[u8; 32],
    ) -> FileCipher {
        let derive = hkdf::Hkdf::<sha2::Sha256>::new(Some(salt), &**self.0);
        let mut key = Zeroizing::new([0; 32]);
        let mut info = Vec::with_capacity(40);
        info.extend_from_slice(b"hearth-jsonstore file");
        info.extend_from_slice(&store_id);
        info.extend_from_slice(&file_id.to_le_bytes());
        derive.expand(&info, &mut *key).expect("32 bytes is a valid HKDF output length");
        let cipher = Aes256Gcm::new_from_slice(&*key).expect("the key has 32 bytes");
        FileCipher { cipher: Box::new(cipher), store_id, file_id }
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// Seals and opens the parts of one file.
pub(crate) struct FileCipher {
    cipher: Box<Aes256Gcm>,
    store_id: [u8; 16],
    file_id: u64,
}

impl FileCipher {
    pub(crate) const TAG: usize = 16;

    /// `position` is the nonce: it must not repeat within the file.
    pub(crate) fn seal(&self, position: u64, kind: u8, clear: &[u8]) -> Vec<u8> {
        let aad = self.aad(position, kind);
        self.cipher
            .encrypt(&nonce(position), Payload { msg: clear, aad: &aad })
            .expect("a block is far below the limit of AES-GCM")
    }

    pub(crate) fn open(&self, position: u64, kind: u8, sealed: &[u8]) -> Option<Vec<u8>> {
        let aad = self.aad(position, kind);
        self.cipher.decrypt(&nonce(position), Payload { msg: sealed, aad: &aad }).ok()
    }

    fn aad(&self, position: u64, kind: u8) -> [u8; 33] {
        let mut aad = [0; 33];
        aad[..16].copy_from_slice(&self.store_id);
        aad[16..24].copy_from_slice(&self.file_id.to_le_bytes());
        aad[24..32].copy_from_slice(&position.to_le_bytes());
        aad[32] = kind;
        aad
    }
}

impl fmt::Debug for FileCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileCipher({})", self.file_id)
    }
}

fn nonce(position: u64) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&position.to_le_bytes());
    *Nonce::from_slice(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_opens_only_in_its_place() {
        let key = MasterKey::new([7; 32]);
        let cipher = key.file_cipher([1; 16], 5, &[2; 32]);
        let sealed = cipher.seal(64, 1, b"secret");
        assert_eq!(cipher.open(64, 1, &sealed).as_deref(), Some(&b"secret"[..]));
        assert!(cipher.open(128, 1, &sealed).is_none(), "moved within the file");
        assert!(cipher.open(64, 2, &sealed).is_none(), "another kind");
        let other = key.file_cipher([1; 16], 6, &[2; 32]);
        assert!(other.open(64, 1, &sealed).is_none(), "moved to another file");
        let other = MasterKey::new([8; 32]).file_cipher([1; 16], 5, &[2; 32]);
        assert!(other.open(64, 1, &sealed).is_none(), "another master key");
        assert_eq!(format!("{key:?}"), "MasterKey(..)");
    }
}
