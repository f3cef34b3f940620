//! The names of backups, which contain the time of each, and the choice of those that are kept.

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::clock::Timestamp;
use crate::store::backup::{BackupError, io_error};
use crate::store::sled::files;

/// Suffix of a backup's name.
const ENDING: &str = ".backup";

/// Removes all backups of the gateway up to `now` except the newest `keep`. Also returns how many are later than `now`.
pub(crate) fn prune(
    place: &Path,
    keep: usize,
    now: Timestamp,
) -> Result<(Vec<PathBuf>, usize), BackupError> {
    let names = own_names(place)?;
    let is_past = |name: &&String| time_of(name).is_some_and(|at| at <= now);
    let past = names.iter().filter(is_past).count();
    let mut removed = Vec::new();
    for name in names.iter().filter(is_past).take(past.saturating_sub(keep)) {
        let path = place.join(name);
        fs::remove_file(&path).map_err(io_error("remove", &path))?;
        removed.push(path);
    }
    Ok((removed, names.len() - past))
}

/// Returns the names of the gateway's backups in a directory, oldest first.
pub(crate) fn own_names(place: &Path) -> Result<Vec<String>, BackupError> {
    let mut names = names_in(place)?;
    names.retain(|name| time_of(name).is_some());
    Ok(names)
}

/// Returns all names in a directory, sorted; none if it does not exist. Names that are not UTF-8 are skipped.
pub(crate) fn names_in(dir: &Path) -> Result<Vec<String>, BackupError> {
    let entries = files::if_there(fs::read_dir(dir)).map_err(io_error("read", dir))?;
    let mut names = Vec::new();
    for entry in entries.into_iter().flatten() {
        let entry = entry.map_err(io_error("read", dir))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// Returns the name of a backup made at this time; names sort chronologically.
pub(crate) fn name(now: Timestamp) -> String {
    format!("doorward-{}{ENDING}", stamp(now))
}

/// Formats a time for a file name: `20300131T120000.000Z`.
pub(crate) fn stamp(at: Timestamp) -> String {
    at.to_rfc3339().replace(['-', ':'], "")
}

/// Returns the time in the name of a backup of the gateway; `None`: the name has another form.
pub(crate) fn time_of(name: &str) -> Option<Timestamp> {
    time_in(name.strip_prefix("doorward-")?.strip_suffix(ENDING)?)
}

/// Parses a time written by [`stamp`].
pub(crate) fn time_in(stamp: &str) -> Option<Timestamp> {
    let (date, time) = stamp.split_once('T')?;
    let [year, month, day] = [date.get(..4)?, date.get(4..6)?, date.get(6..)?];
    let [hour, minute, rest] = [time.get(..2)?, time.get(2..4)?, time.get(4..)?];
    Timestamp::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{rest}"))
}
