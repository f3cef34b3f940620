//! `[store]`: where the records are kept.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::forms::{choice, is_path, millis, number, seconds, text};
use crate::config::keys::keys;
use crate::config::reader::Reader;

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

/// Which engine keeps the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreEngine {
    /// Embedded, on disk.
    Sled,
    /// In memory: gone with the process.
    Memory,
}

/// Whether a start makes a store where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreCreate {
    /// It does, and says so.
    IfMissing,
    /// It is refused: a volume that is not mounted looks like a store that is not there.
    Never,
}

/// Where the records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The engine.
    pub engine: StoreEngine,
    /// Our directory, 0700: `db/`, `keys/`, `backup/`, `admin.sock`.
    pub path: PathBuf,
    /// Whether one is made there if there is none.
    pub create: StoreCreate,
    /// Where the same relative path has led under another rule or environment: a store there was left behind.
    pub elsewhere: Vec<PathBuf>,
    /// Bound of each cache in front of the store, in entries.
    pub cache_entries: u64,
    /// How often a backup is made into `path/backup`; `None`: never.
    pub backup_every: Option<Duration>,
    /// How many of them are kept.
    pub backup_keep: usize,
    /// How long a write may take before its caller is told that its outcome is not known.
    pub write_timeout: Duration,
}

pub(super) fn read(mut reader: Reader<'_>) -> StoreSettings {
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

/// Takes a path as it is written: a relative one may have led elsewhere before.
fn path(text: &str) -> Option<String> {
    is_path(text).then(|| text.to_owned())
}
