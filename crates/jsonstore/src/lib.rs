//! An embedded JSON document database that loses nothing.
//!
//! One log, group-committed; memtables and immutable sorted segments; snapshots for readers, fair
//! locks and validation for writers. Everything above the disk ([`Vfs`]) and the clock ([`Env`]) is
//! deterministic, so a simulator can crash it anywhere and replay what happened.
//!
//! Over it: queries in MongoDB's language through a planner, secondary and full-text indexes, change
//! logs and live queries, schemas and migrations, guarded sessions, backup and restore, import and
//! export.
//!
//! Not here: SQL, any network, more than one machine.
//!
//! ```
//! use hearth_jsonstore::{Options, Store, block_on};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path();
//! block_on(async {
//!     let store = Store::open(Options::new(path)).await?;
//!     let todos = store.collection("todos")?;
//!     let id = todos.insert(r#"{"title": "write it down"}"#).await?;
//!     assert!(todos.get(id).await?.is_some());
//!     hearth_jsonstore::Result::Ok(())
//! })
//! .unwrap();
//! ```
//!
//! Features: `cli` (the program), `mmap` (segments mapped into memory), `schema` (JSON Schema),
//! `testing` (simulator and checkers, outside semver).
#![cfg_attr(not(feature = "mmap"), forbid(unsafe_code))]

mod advice;
mod api;
mod backup;
mod bugs;
mod cache;
mod catalog;
#[cfg(feature = "cli")]
pub mod cli;
mod codec;
mod commit;
mod crypt;
mod engine;
mod env;
mod error;
mod expiry;
mod follow;
mod frame;
mod guard;
mod index;
mod jb1;
mod key;
mod live;
mod lock;
mod lsm;
mod manifest;
mod memtable;
mod migrate;
#[cfg(all(test, loom))]
mod models;
mod observe;
mod options;
mod plan;
mod pool;
mod query;
#[cfg(feature = "schema")]
mod schema;
mod segment;
mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text;
mod transfer;
mod vfs;
mod wal;

pub use crate::{
    advice::{Advice, AdviceAction, AutoIndex, AutoIndexLimits, QueryShape},
    api::{
        Collection, Cursor, Document, Find, Input, Isolation, Keyspace, Load, Prepared, Range,
        Snapshot, Stats, Store, Target, Transaction, Upserted, block_on,
    },
    backup::{
        Archive, BackupError, BackupInfo, BackupKind, BackupOptions, BackupProgress, BackupReport,
        BackupStep, Backups, DeepReport, DrillReport, RestoreOptions, RestorePoint, RestoreReport,
        Retention,
    },
    crypt::MasterKey,
    engine::{OpenStep, VerifyReport},
    env::{Env, RealEnv},
    error::{CycleEdge, DocumentError, Error, Result, Unindexable},
    guard::{GuardLimits, Principal, Rate},
    index::{Collation, Direction, Index, IndexInfo, IndexKind},
    jb1::Update,
    key::Id,
    live::{ChangeEvent, ChangeRetention, Changes, LiveQuery, LiveUpdate, Since, Watch},
    lock::LockMode,
    migrate::{MigrationReport, Migrations, Step},
    observe::{
        Alert, AlertLimits, AlertRule, Health, Latency, Metrics, Operation, OperationMetrics,
        SlowQuery,
    },
    options::{Durability, Options, Recovery},
    plan::{Explanation, QueryLimits},
    query::{Filter, JsonPath, Param, Pipeline, Projection, Sort},
    text::{
        Found, Highlight, Hit, Language, Piece, Search, TextError, TextField, TextIndex, TextQuery,
        TextStats,
    },
    transfer::{
        ExportOptions, ExportReport, Format, ImportOptions, ImportReport, OnDuplicate,
        TransferError, TransferProgress,
    },
    vfs::{LockGuard, Mapped, OpenMode, RealVfs, VFile, Vfs},
};

#[cfg(feature = "schema")]
pub use crate::schema::{Offender, SchemaMode, SchemaReport};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
