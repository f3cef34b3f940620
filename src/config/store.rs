//! `[store]`: where the records are kept.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::reader::{Reader, is_path};

/// How often backups are made if nobody says.
const DAY: Duration = Duration::from_hours(24);
const YEAR_S: u64 = 31_536_000;
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
const HOUR_MS: u64 = 3_600_000;

/// Which engine keeps the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreEngine {
    /// Embedded, on disk.
    Sled,
    /// In memory: gone with the process.
    Memory,
}

/// Where the records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The engine.
    pub engine: StoreEngine,
    /// Our directory, 0700: `db/`, `keys/`, `backup/`, `admin.sock`.
    pub path: PathBuf,
    /// Where the same relative path has led under another rule or environment: a store there was left behind.
    pub elsewhere: Vec<PathBuf>,
    /// Bound of each cache in front of the store, in entries. Default 100,000.
    pub cache_entries: u64,
    /// How often a backup is made into `path/backup`; `None`: never. Default one day.
    pub backup_every: Option<Duration>,
    /// How many of them are kept. Default 7.
    pub backup_keep: usize,
    /// How long a write may take before its caller is told that its outcome is not known. Default 5 s.
    pub write_timeout: Duration,
}

pub(super) fn read(mut reader: Reader<'_>) -> StoreSettings {
    let engines = [("sled", StoreEngine::Sled), ("memory", StoreEngine::Memory)];
    let written = reader
        .text("path", "the path of a directory", |text| {
            is_path(text).then(|| text.to_owned())
        })
        .unwrap_or_else(|| "data/doorward".to_owned());
    let base = reader.base();
    let settings = StoreSettings {
        engine: reader
            .choice("engine", &engines, &["postgres"])
            .unwrap_or(StoreEngine::Sled),
        path: base.join(&written),
        elsewhere: base.elsewhere(&written),
        cache_entries: reader
            .number("cache_entries", 1..=100_000_000)
            .unwrap_or(100_000),
        backup_every: reader
            .seconds("backup_every_s", 0..=YEAR_S)
            .map_or(Some(DAY), |every| (!every.is_zero()).then_some(every)),
        backup_keep: reader.count("backup_keep", 1..=1000).unwrap_or(7),
        write_timeout: reader
            .millis("write_timeout_ms", 1..=HOUR_MS)
            .unwrap_or(WRITE_TIMEOUT),
    };
    reader.finish();
    settings
}
