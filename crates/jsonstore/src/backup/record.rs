//! `backup.json`: what a backup holds, with the hash of every file and of itself.

use serde_json::{Value, json};

use super::{BackupError, pack::Written};
use crate::{
    crypt::MasterKey,
    error::{Error, Result},
};

pub(crate) const FILE: &str = "backup.json";
const FORMAT: u64 = 1;
/// Stands where the hash will be, and is hashed in its place.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The hash is the last member, so it lies at a fixed distance from the end.
const TAIL: &str = "\"\n}\n";
/// No record is longer.
pub(crate) const BYTES_MAX: u64 = 256 << 20;
const MAC_PURPOSE: &str = "hearth-jsonstore backup record 1";

/// What a backup copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum BackupKind {
    /// What the last full backup does not hold.
    Differential,
    /// Everything.
    #[default]
    Full,
    /// What the previous backup and those it builds on do not hold.
    Incremental,
}

impl BackupKind {
    /// As it is written in names and in `backup.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Differential => "differential",
            Self::Full => "full",
            Self::Incremental => "incremental",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Differential, Self::Full, Self::Incremental].into_iter().find(|k| k.name() == name)
    }
}

/// What one backup is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupInfo {
    /// Its folder.
    pub name: String,
    /// What was copied.
    pub kind: BackupKind,
    /// The backup it builds on.
    pub parent: Option<String>,
    /// The last commit in it.
    pub seq: u64,
    /// The first moment it can be restored to: what is older lies in its segments only as it was then.
    pub first_seq: u64,
    /// When it was made, in milliseconds since 1970.
    pub wall_ms: u64,
    /// Bytes of the files that it holds itself.
    pub bytes: u64,
    /// True if a key is needed to read what the backup wrote.
    pub is_sealed: bool,
    /// True if the store's key is needed to open what is restored.
    pub is_encrypted: bool,
}

impl BackupInfo {
    /// When it was made, as RFC 3339 writes it.
    pub fn time(&self) -> String {
        super::format_time(self.wall_ms as i64)
    }
}

/// One file that a backup needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileRecord {
    /// Within the backup's folder.
    pub(crate) name: String,
    /// The backup whose folder holds it.
    pub(crate) stored_in: String,
    pub(crate) written: Written,
    /// Of a segment: the hash of its footer, which names its content.
    pub(crate) footer: Option<[u8; 32]>,
}

/// Everything in `backup.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) info: BackupInfo,
    /// Hash of the parent's record: a parent of the same name but other content is noticed.
    pub(crate) parent_hash: Option<[u8; 32]>,
    pub(crate) store_id: [u8; 16],
    /// The log is needed from here, and is there up to there.
    pub(crate) floor: u64,
    pub(crate) end: u64,
    /// Where the last commit ends. After it come at most marks, which another line need not have.
    pub(crate) commits_end: u64,
    pub(crate) log_file_bytes: u64,
    /// Compatible, read-only compatible, incompatible features.
    pub(crate) features: [u32; 3],
    pub(crate) files: Vec<FileRecord>,
    /// Hash of the record itself.
    pub(crate) hash: [u8; 32],
    /// Made with the backup's key, to tell a wrong one.
    mac: Option<[u8; 32]>,
}

impl Record {
    pub(crate) fn new(
        info: BackupInfo,
        parent_hash: Option<[u8; 32]>,
        store_id: [u8; 16],
        [floor, commits_end, end]: [u64; 3],
        log_file_bytes: u64,
        files: Vec<FileRecord>,
        key: Option<&MasterKey>,
    ) -> Self {
        let mac = key.map(|key| key.mac(MAC_PURPOSE, info.name.as_bytes()));
        Self {
            info,
            parent_hash,
            store_id,
            floor,
            end,
            commits_end,
            log_file_bytes,
            features: [0; 3],
            files,
            hash: [0; 32],
            mac,
        }
    }

    /// The text; sets the hash.
    pub(crate) fn encode(&mut self) -> String {
        let info = &self.info;
        let parent = info.parent.as_ref().zip(self.parent_hash);
        let value = json!({
            "format": FORMAT,
            "name": info.name,
            "kind": info.kind.name(),
            "parent": parent.map(|(name, hash)| json!({"name": name, "hash": hex(&hash)})),
            "store": hex(&self.store_id),
            "seq": {"first": info.first_seq, "last": info.seq},
            "lsn": {"first": self.floor, "last": self.commits_end, "end": self.end},
            "log_file_bytes": self.log_file_bytes,
            "time": super::retention::format_time(info.wall_ms as i64),
            "wall_ms": info.wall_ms,
            "bytes": info.bytes,
            "encrypted": info.is_encrypted,
            "key_check": self.mac.map(|mac| hex(&mac)),
            "features": self.features,
            "files": self.files.iter().map(file_to_json).collect::<Vec<_>>(),
        });
        let mut text = format!("{value:#}");
        let end = text.trim_end().trim_end_matches('}').trim_end().len();
        text.truncate(end);
        text.push_str(",\n  \"hash\": \"");
        let hash_at = text.len();
        text.push_str(NO_HASH);
        text.push_str(TAIL);
        self.hash = *blake3::hash(text.as_bytes()).as_bytes();
        text.replace_range(hash_at..hash_at + NO_HASH.len(), &hex(&self.hash));
        text
    }

    /// `name` is the folder it was found in. Any change of any byte is refused.
    pub(crate) fn decode(name: &str, text: &[u8]) -> Result<Self> {
        let bad = |what: &str| Error::corrupt(format!("{name}/{FILE}"), 0, what);
        let hash_at = text.len().checked_sub(TAIL.len() + NO_HASH.len());
        let hash_at = hash_at.ok_or_else(|| bad("the record ends too early"))?;
        let mut clear = text.to_vec();
        let digits = clear.splice(hash_at..hash_at + NO_HASH.len(), NO_HASH.bytes());
        let digits = String::from_utf8(digits.collect()).unwrap_or_default();
        let hash = *blake3::hash(&clear).as_bytes();
        if hex(&hash) != digits {
            return Err(bad("the hash of the record is wrong"));
        }
        let value: Value =
            serde_json::from_slice(text).map_err(|_| bad("the record is no JSON"))?;
        if let Some(found) = value["format"].as_u64().filter(|format| *format > FORMAT) {
            return Err(Error::UnknownFormat {
                file: format!("{name}/{FILE}"),
                found: u32::try_from(found).unwrap_or(u32::MAX),
                known: FORMAT as u32,
            });
        }
        let mut record = from_json(&value).ok_or_else(|| bad("the record is malformed"))?;
        record.hash = hash;
        if record.features[2] != 0 {
            let file = format!("{name}/{FILE}");
            return Err(Error::UnknownFormat { file, found: 2, known: FORMAT as u32 });
        }
        if record.info.name != name {
            return Err(bad("the record belongs to another folder"));
        }
        Ok(record)
    }

    /// Refuses a key that did not make this backup, and none where one is needed.
    pub(crate) fn check_key(&self, key: Option<&MasterKey>) -> Result<()> {
        match (self.mac, key) {
            (None, _) => Ok(()),
            (Some(_), None) => {
                Err(Error::WrongKey("the backup is encrypted and no key was given for it"))
            }
            (Some(mac), Some(key)) if key.mac(MAC_PURPOSE, self.info.name.as_bytes()) == mac => {
                Ok(())
            }
            _ => Err(Error::WrongKey("the key does not open this backup")),
        }
    }

    pub(crate) fn missing_link(&self, needs: &str) -> Error {
        let backup = self.info.name.clone();
        BackupError::MissingLink { backup, needs: needs.to_owned() }.into()
    }

    /// Segments, log files and the manifest.
    pub(crate) fn files_in<'a>(
        &'a self,
        folder: &'a str,
    ) -> impl Iterator<Item = &'a FileRecord> + 'a {
        self.files.iter().filter(move |file| file.name.starts_with(folder))
    }
}

fn file_to_json(file: &FileRecord) -> Value {
    json!({
        "name": file.name,
        "in": file.stored_in,
        "bytes": file.written.bytes,
        "blake3": hex(&file.written.hash),
        "footer": file.footer.map(|footer| hex(&footer)),
    })
}

fn from_json(value: &Value) -> Option<Record> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let parent = &value["parent"];
    let parent_hash = if parent.is_null() { None } else { Some(unhex(parent["hash"].as_str()?)?) };
    let key_check = &value["key_check"];
    let mac = if key_check.is_null() { None } else { Some(unhex(key_check.as_str()?)?) };
    let info = BackupInfo {
        name: text(&value["name"])?,
        kind: BackupKind::from_name(value["kind"].as_str()?)?,
        parent: if parent.is_null() { None } else { Some(text(&parent["name"])?) },
        seq: value["seq"]["last"].as_u64()?,
        first_seq: value["seq"]["first"].as_u64()?,
        wall_ms: value["wall_ms"].as_u64()?,
        bytes: value["bytes"].as_u64()?,
        is_sealed: mac.is_some(),
        is_encrypted: value["encrypted"].as_bool()?,
    };
    let mut features = [0; 3];
    for (feature, value) in features.iter_mut().zip(value["features"].as_array()?) {
        *feature = u32::try_from(value.as_u64()?).ok()?;
    }
    let file = |value: &Value| {
        let footer = &value["footer"];
        Some(FileRecord {
            name: text(&value["name"]).filter(|name| is_safe(name))?,
            stored_in: text(&value["in"]).filter(|name| is_safe(name))?,
            written: Written {
                bytes: value["bytes"].as_u64()?,
                hash: unhex(value["blake3"].as_str()?)?,
            },
            footer: if footer.is_null() { None } else { Some(unhex(footer.as_str()?)?) },
        })
    };
    Some(Record {
        info,
        parent_hash,
        store_id: unhex(value["store"].as_str()?)?,
        floor: value["lsn"]["first"].as_u64()?,
        end: value["lsn"]["end"].as_u64()?,
        commits_end: value["lsn"]["last"].as_u64()?,
        log_file_bytes: value["log_file_bytes"].as_u64().filter(|bytes| *bytes > 0)?,
        features,
        files: value["files"].as_array()?.iter().map(file).collect::<Option<_>>()?,
        hash: [0; 32],
        mac,
    })
}

/// A name in a record never leads out of the folder of backups.
fn is_safe(name: &str) -> bool {
    !name.is_empty()
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/'))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let info = BackupInfo {
            name: "000002-incremental".into(),
            kind: BackupKind::Incremental,
            parent: Some("000001-full".into()),
            seq: 12,
            first_seq: 7,
            wall_ms: 1_800_000_000_000,
            bytes: 99,
            is_sealed: true,
            is_encrypted: false,
        };
        let file = FileRecord {
            name: "seg/00000001.seg".into(),
            stored_in: "000001-full".into(),
            written: Written { bytes: 5, hash: [7; 32] },
            footer: Some([8; 32]),
        };
        let key = MasterKey::new([3; 32]);
        Record::new(info, Some([1; 32]), [2; 16], [4096, 8000, 8192], 65536, vec![file], Some(&key))
    }

    #[test]
    fn records_round_trip_and_any_change_is_refused() {
        let mut record = record();
        let text = record.encode().into_bytes();
        let name = record.info.name.clone();
        assert_eq!(Record::decode(&name, &text).unwrap(), record);
        assert!(Record::decode("000003-full", &text).is_err(), "in another folder");
        for byte in 0..text.len() {
            for bit in 0..8 {
                let mut damaged = text.clone();
                damaged[byte] ^= 1 << bit;
                assert!(Record::decode(&name, &damaged).is_err(), "byte {byte} bit {bit}");
            }
        }
        for len in 0..text.len() {
            assert!(Record::decode(&name, &text[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn keys_are_told_apart_and_not_written_down() {
        let mut record = record();
        let text = record.encode();
        assert!(!text.contains(&hex(&[3; 32])));
        assert!(record.check_key(Some(&MasterKey::new([3; 32]))).is_ok());
        for wrong in [None, Some(&MasterKey::new([4; 32]))] {
            assert!(matches!(record.check_key(wrong), Err(Error::WrongKey(_))));
        }
    }

    #[test]
    fn names_do_not_lead_out() {
        for name in ["../x", "/etc/passwd", "a//b", "", ".", "a/../b", "a\\b", "ä"] {
            assert!(!is_safe(name), "{name}");
        }
        assert!(is_safe("seg/0000000a.seg"));
    }
}
