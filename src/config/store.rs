//! `[store]`: the store of records.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::forms::{choice, is_path, millis, number, seconds, text};
use crate::config::keys::keys;
use crate::config::reader::SectionReader;

const YEAR_S: u64 = 31_536_000;
const HOUR_MS: u64 = 3_600_000;
const ENGINES: &[(&str, StoreEngine)] =
    &[("sled", StoreEngine::Sled), ("memory", StoreEngine::Memory)];
const CREATES: &[(&str, StoreCreate)] = &[
    ("if_missing", StoreCreate::IfMissing),
    ("never", StoreCreate::Never),
];

keys! { pub(super) StoreKeys = "store", later ["url"]; {
    /// "sled": embedded, on disk. "memory": gone with the process, for tests.
    engine: StoreEngine = choice(ENGINES, &["postgres"]) => StoreEngine::Sled;
    /// The gateway's own directory, mode 0700: records, signing keys, the socket of the command line.
    path: String = text("the path of a directory", path) => "data/doorward".to_owned();
    /// Where there is no store: "if_missing": a start makes one and warns of it; "never": it is refused, so that a volume which is
    /// not mounted is not taken for an empty store. Set it to "never" once there is one.
    create: StoreCreate = choice(CREATES, &[]) => StoreCreate::IfMissing;
    /// Bound of each cache in front of the store, in entries of about 1 KiB; who has many roles counts for several.
    cache_entries: u64 = number(1..=100_000_000) => 100_000;
    /// How often the records and key files are copied into path/backup and read back, in seconds; 0: never. How many of these
    /// copies are kept, without those whose names are later than now. docs/store.md tells how to bring one back.
    backup_every_s: Duration = seconds(0..=YEAR_S) => Duration::from_hours(24);
    backup_keep: usize = number(1..=1000) => 7;
    /// How long a write may take; then its caller is answered 503: store_unavailable where it was not begun, write_unknown where it
    /// may yet be done.
    write_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_secs(5);
}}

/// The engine of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreEngine {
    /// Embedded, on disk.
    Sled,
    /// In memory, and lost when the process ends.
    Memory,
}

/// Whether a start creates a missing store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreCreate {
    /// It creates the store, and logs a warning.
    IfMissing,
    /// It fails, since the store may be on a volume that is not mounted.
    Never,
}

/// Settings of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The engine.
    pub engine: StoreEngine,
    /// The gateway's directory, mode 0700: `db/`, `keys/`, `backup/`, `admin.sock`.
    pub path: PathBuf,
    /// Whether a missing store is created.
    pub create: StoreCreate,
    /// Other directories to which the relative path may have led, in which a store may have been left behind.
    pub elsewhere: Vec<PathBuf>,
    /// Maximum number of entries of each cache in front of the store.
    pub cache_entries: u64,
    /// Interval of backups into `path/backup`; `None`: never.
    pub backup_every: Option<Duration>,
    /// Number of backups that are kept.
    pub backup_keep: usize,
    /// Maximum time of a write. After it, the outcome is reported as unknown.
    pub write_timeout: Duration,
}

pub(super) fn read(mut reader: SectionReader<'_>) -> StoreSettings {
    let written = reader.get(&StoreKeys::path);
    let base = reader.base();
    let settings = StoreSettings {
        engine: reader.get(&StoreKeys::engine),
        path: base.join(&written),
        create: reader.get(&StoreKeys::create),
        elsewhere: base.elsewhere(&written),
        cache_entries: reader.get(&StoreKeys::cache_entries),
        backup_every: Some(reader.get(&StoreKeys::backup_every_s)).filter(|every| !every.is_zero()),
        backup_keep: reader.get(&StoreKeys::backup_keep),
        write_timeout: reader.get(&StoreKeys::write_timeout_ms),
    };
    reader.finish();
    settings
}

/// Reads a path without resolving it, since it may have led elsewhere in the past.
fn path(text: &str) -> Option<String> {
    is_path(text).then(|| text.to_owned())
}
