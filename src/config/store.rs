//! `[store]`: where the records are kept.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::reader::Reader;
use crate::config::secrets;

/// How often backups are made if nobody says.
const DAY: Duration = Duration::from_hours(24);
const YEAR_S: u64 = 31_536_000;

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
    /// Bound of each cache in front of the store, in entries. Default 100,000.
    pub cache_entries: u64,
    /// How often a backup is made into `path/backup`; `None`: never. Default one day.
    pub backup_every: Option<Duration>,
    /// How many of them are kept. Default 7.
    pub backup_keep: usize,
}

pub(super) fn read(mut reader: Reader<'_>) -> StoreSettings {
    let engines = [("sled", StoreEngine::Sled), ("memory", StoreEngine::Memory)];
    let settings = StoreSettings {
        engine: reader
            .choice("engine", &engines, &["postgres"])
            .unwrap_or(StoreEngine::Sled),
        path: reader
            .text("path", "the path of a directory", secrets::path)
            .unwrap_or_else(|| PathBuf::from("data/doorward")),
        cache_entries: reader
            .number("cache_entries", 1..=100_000_000)
            .unwrap_or(100_000),
        backup_every: reader
            .seconds("backup_every_s", 0..=YEAR_S)
            .map_or(Some(DAY), |every| (!every.is_zero()).then_some(every)),
        backup_keep: reader.count("backup_keep", 1..=1000).unwrap_or(7),
    };
    reader.finish();
    settings
}
