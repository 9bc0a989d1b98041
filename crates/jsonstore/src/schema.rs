//! What documents of a collection have to look like, as JSON Schema 2020-12.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use jsonschema::{Draft, PatternOptions, Validator};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    api::Collection,
    catalog::Settings,
    engine::{Core, Hold},
    error::{DocumentError, Error, Result},
    follow::{Change, Effects, Follower},
    jb1,
    key::Id,
};

/// The member of the settings.
const MEMBER: &str = "schema";
/// Documents that a report names.
const OFFENDERS_MAX: usize = 100;
/// Problems of one document that are named.
const PROBLEMS_MAX: usize = 16;
/// Bytes of a pattern when compiled. Matching takes time in proportion to the text.
const PATTERN_COMPILED_BYTES_MAX: usize = 1 << 20;
/// Bytes of a schema as text.
const SCHEMA_BYTES_MAX: usize = 1 << 20;

/// What a schema does about documents that break it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaMode {
    /// They are refused. What is stored already may stay, and is checked when it is written again.
    Enforce,
    /// They are stored and counted; the last of them are in [`Collection::schema_offenders`].
    Warn,
}

/// A document that breaks the schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Offender {
    /// Its id.
    pub id: Id,
    /// What is wrong, each with the place as a JSON Pointer: the first 16.
    pub problems: Vec<String>,
}

/// What stored documents have to do with a schema.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct SchemaReport {
    /// Documents looked at.
    pub documents: u64,
    /// How many of them break it.
    pub offender_count: u64,
    /// The first 100 of them.
    pub offenders: Vec<Offender>,
}

/// Follows the documents of a collection and refuses what it must.
#[derive(Debug)]
pub(crate) struct Schema {
    validator: Validator,
    mode: SchemaMode,
    offender_count: AtomicU64,
    /// The last ones, when they are only counted.
    offenders: Mutex<VecDeque<Offender>>,
}

impl Collection {
    /// Sets what documents have to look like from now on, and says which stored ones do not. Those
    /// are not changed.
    ///
    /// # Errors
    /// [`Error::InvalidSchema`]; I/O errors.
    ///
    /// # Cancel safety
    /// As [`Collection::insert`].
    pub async fn set_schema(&self, schema: &Value, mode: SchemaMode) -> Result<SchemaReport> {
        compile(schema)?;
        let text = match mode {
            SchemaMode::Enforce => "enforce",
            SchemaMode::Warn => "warn",
        };
        let member = json!({ "schema": schema, "mode": text });
        self.alter(move |settings| {
            settings.insert(MEMBER.to_owned(), member);
            Ok(())
        })
        .await?;
        // From here on nothing is written that is not checked; what is there is looked at now.
        self.check_schema(schema).await
    }

    /// Documents may look like anything again.
    ///
    /// # Errors
    /// I/O errors.
    pub async fn remove_schema(&self) -> Result<()> {
        self.alter(|settings| {
            settings.remove(MEMBER);
            Ok(())
        })
        .await
    }

    /// Which stored documents break a schema, whether it is the collection's or not.
    ///
    /// # Errors
    /// [`Error::InvalidSchema`]; I/O errors.
    pub async fn check_schema(&self, schema: &Value) -> Result<SchemaReport> {
        let validator = compile(schema)?;
        let Some(keyspace) = self.existing() else { return Ok(SchemaReport::default()) };
        self.store.run(move |core| core.check_documents(keyspace, &validator)).await
    }

    /// How many documents broke the schema since the store was opened, and the last 100 of them:
    /// with [`SchemaMode::Warn`], which lets them pass.
    pub fn schema_offenders(&self) -> (u64, Vec<Offender>) {
        let state = self.existing().and_then(|number| self.core().collection_state(number));
        let schema = state.and_then(|state| state.schema.clone());
        schema.map_or((0, Vec::new()), |schema| {
            let offenders = schema.offenders.lock().iter().cloned().collect();
            (schema.offender_count.load(Ordering::Relaxed), offenders)
        })
    }
}

impl Schema {
    /// The schema that settings speak of.
    pub(crate) fn of(settings: &Settings) -> Result<Option<Arc<Self>>> {
        let Some(member) = settings.get(MEMBER) else { return Ok(None) };
        let mode = match member["mode"].as_str() {
            Some("enforce") => SchemaMode::Enforce,
            Some("warn") => SchemaMode::Warn,
            _ => return Err(Error::corrupt("settings", 0, "the mode of a schema is unknown")),
        };
        let validator = compile(&member["schema"])?;
        let (offender_count, offenders) = (AtomicU64::new(0), Mutex::default());
        Ok(Some(Arc::new(Self { validator, mode, offender_count, offenders })))
    }
}

impl Schema {
    /// Whether a document would be let in.
    pub(crate) fn accepts(&self, document: &Value) -> std::result::Result<(), String> {
        let problems = problems(&self.validator, document);
        match problems.is_empty() || self.mode == SchemaMode::Warn {
            true => Ok(()),
            false => Err(problems.join("; ")),
        }
    }
}

impl Follower for Schema {
    fn follow(&self, change: &Change<'_>, _effects: &mut Effects) -> Result<()> {
        let Some(new) = change.new else { return Ok(()) };
        let problems = problems(&self.validator, &value(new)?);
        if problems.is_empty() {
            return Ok(());
        }
        let offender = Offender { id: Id(change.key.to_vec()), problems };
        if self.mode == SchemaMode::Enforce {
            let (id, problems) = (offender.id.to_json(), offender.problems);
            return Err(Error::SchemaViolation { id, problems });
        }
        self.offender_count.fetch_add(1, Ordering::Relaxed);
        let mut last = self.offenders.lock();
        if last.len() == OFFENDERS_MAX {
            last.pop_front();
        }
        last.push_back(offender);
        Ok(())
    }

    fn concerns(&self, _paths: &[&str]) -> bool {
        true
    }
}

impl Core {
    fn check_documents(
        self: &Arc<Self>,
        keyspace: u32,
        validator: &Validator,
    ) -> Result<SchemaReport> {
        let hold = Hold::new(self, false, 0);
        let mut iter = self.iter(keyspace, &[], hold.seq)?;
        let hide = self.hide(keyspace, &hold);
        let mut report = SchemaReport::default();
        while let Some(entry) = iter.next_visible()? {
            let document = entry.value.unwrap_or_default();
            if hide.hides(&document) {
                continue;
            }
            report.documents += 1;
            let problems = problems(validator, &value(&document)?);
            if problems.is_empty() {
                continue;
            }
            report.offender_count += 1;
            if report.offenders.len() < OFFENDERS_MAX {
                report.offenders.push(Offender { id: Id(entry.key.to_vec()), problems });
            }
        }
        Ok(report)
    }
}

/// References reach nothing outside of the schema itself: the store reads no file and no network
/// for a schema.
fn compile(schema: &Value) -> Result<Validator> {
    let bad = |reason: String| Error::InvalidSchema { reason };
    let bytes = schema.to_string().len();
    if bytes > SCHEMA_BYTES_MAX {
        return Err(bad(format!("it has {bytes} bytes, {SCHEMA_BYTES_MAX} are allowed")));
    }
    let patterns = PatternOptions::regex()
        .size_limit(PATTERN_COMPILED_BYTES_MAX)
        .dfa_size_limit(PATTERN_COMPILED_BYTES_MAX);
    let options =
        jsonschema::options().with_draft(Draft::Draft202012).with_pattern_options(patterns);
    options.build(schema).map_err(|e| bad(e.to_string()))
}

fn problems(validator: &Validator, document: &Value) -> Vec<String> {
    let all = validator.iter_errors(document).take(PROBLEMS_MAX);
    let place =
        |path: &str| if path.is_empty() { "the document".to_owned() } else { path.to_owned() };
    all.map(|e| format!("{}: {e}", place(e.instance_path().as_str()))).collect()
}

fn value(document: &[u8]) -> Result<Value> {
    let mut json = Vec::new();
    jb1::print(document, &mut json).map_err(|_| DocumentError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| DocumentError::Malformed.into())
}
