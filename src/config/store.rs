//! `[store]`: the store of records.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::forms::{choice, is_path, millis, number, seconds_or_off, text};
use crate::config::reader::SectionReader;
use crate::config::settings::settings;

const YEAR_S: u64 = 31_536_000;
const HOUR_MS: u64 = 3_600_000;
const ENGINES: &[(&str, StoreEngine)] =
    &[("sled", StoreEngine::Sled), ("memory", StoreEngine::Memory)];
const CREATES: &[(&str, StoreCreate)] = &[
    ("if_missing", StoreCreate::IfMissing),
    ("never", StoreCreate::Never),
];

settings! {
/// Settings of the store.
pub struct StoreSettings {
    /// Other directories to which the relative path may have led, in which a store may have been left behind.
    elsewhere: Vec<PathBuf>,
}
StoreKeys = "store", later ["url"]; {
    /// "sled": embedded, on disk. "memory": lost when the process ends, for tests.
    engine: StoreEngine = choice(ENGINES, &["postgres"]) => StoreEngine::Sled;
    /// The gateway's own directory, mode 0700: records, signing keys, the socket of the command line.
    path: PathBuf = text("the path of a directory", path) => PathBuf::from("data/doorward");
    /// What a start does if there is no store. "if_missing": it creates one and logs a warning. "never": it fails, so that a
    /// volume that is not mounted is not mistaken for an empty store. Set it to "never" once the store exists.
    create: StoreCreate = choice(CREATES, &[]) => StoreCreate::IfMissing;
    /// Maximum size of each cache in front of the store, in entries of about 1 KiB; an account with many roles counts as
    /// several.
    cache_entries: u64 = number(1..=100_000_000) => 100_000;
    /// Interval in seconds at which the records and key files are copied into path/backup and the copy is read back (0:
    /// never), and the number of copies that are kept, not counting those whose names are later than now. docs/store.md
    /// describes how to restore one.
    backup_every_s: Option<Duration> = seconds_or_off(YEAR_S) => Some(Duration::from_hours(24)), as backup_every;
    backup_keep: usize = number(1..=1000) => 7;
    /// Maximum time of a write. After it, the caller is answered with 503: store_unavailable if the write was not begun,
    /// write_unknown if it may still be done.
    write_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_secs(5), as write_timeout;
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

pub(super) fn read(reader: &mut SectionReader<'_>) -> StoreSettings {
    let mut settings = StoreSettings::read(reader, Vec::new());
    let base = reader.base();
    settings.elsewhere = base.elsewhere(&settings.path);
    settings.path = base.join(&settings.path);
    settings
}

/// Reads a path without resolving it, since it may have led elsewhere in the past.
fn path(text: &str) -> Option<PathBuf> {
    is_path(text).then(|| text.into())
}
