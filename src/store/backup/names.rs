//! The names of backups, which tell when each was made, and which of them are kept.

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::clock::Timestamp;
use crate::store::backup::{BackupError, io_error};
use crate::store::sled::files;

/// What a backup's name ends in.
const ENDING: &str = ".backup";

/// Removes all of our own backups but the newest `keep` that are no later than `now`; how many are later.
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

/// The names of our own backups in a directory, the oldest first.
pub(crate) fn own_names(place: &Path) -> Result<Vec<String>, BackupError> {
    let mut names = names_in(place)?;
    names.retain(|name| time_of(name).is_some());
    Ok(names)
}

/// All names in a directory, sorted; none if there is no directory. A name that is no UTF-8 is none of ours.
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

/// What a backup of this moment is called; names sort as their times do.
pub(crate) fn name(now: Timestamp) -> String {
    format!("doorward-{}{ENDING}", stamp(now))
}

/// A time as a part of a file name: `20300131T120000.000Z`.
pub(crate) fn stamp(at: Timestamp) -> String {
    at.to_rfc3339().replace(['-', ':'], "")
}

/// When one of our own backups was made, by its name; `None`: it is none.
pub(crate) fn time_of(name: &str) -> Option<Timestamp> {
    time_in(name.strip_prefix("doorward-")?.strip_suffix(ENDING)?)
}

/// The time that [`stamp`] wrote.
pub(crate) fn time_in(stamp: &str) -> Option<Timestamp> {
    let (date, time) = stamp.split_once('T')?;
    let [year, month, day] = [date.get(..4)?, date.get(4..6)?, date.get(6..)?];
    let [hour, minute, rest] = [time.get(..2)?, time.get(2..4)?, time.get(4..)?];
    Timestamp::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{rest}"))
}
