//! Verifies that everything acknowledged is present: in a running gateway, or on a copy while none runs.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::model::key_file::{KeyFile, KeyMarks};
use crate::store::error::{Result, StoreError};
use crate::store::inspect::{self, InspectedRecord};
use crate::store::layout;
use crate::store::sled::census::{Census, SIDE_FILE};
use crate::store::sled::database::open_path;
use crate::store::sled::{SledStore, files};

/// Problems that are listed; further ones are only counted.
const TOLD_MAX: usize = 100;

/// The copy that is checked while no gateway runs.
const COPY: &str = "check.new";

/// The result of a check.
#[derive(Debug, Default)]
pub struct Findings {
    /// Records read.
    pub records: u64,
    /// The problems and their places, one line each, at most a hundred.
    pub problems: Vec<String>,
    /// Number of further problems.
    pub more: u64,
    /// The fingerprint records of the key files.
    pub key_marks: KeyMarks,
    /// Accounts read.
    pub accounts: u64,
}

impl Findings {
    /// Adds a problem.
    pub fn add(&mut self, problem: String) {
        if self.problems.len() < TOLD_MAX {
            self.problems.push(problem);
        } else {
            self.more += 1;
        }
    }

    /// Checks one record: checksum, version, and whether it can be decoded.
    pub(crate) fn look_at(&mut self, key: &[u8], value: &[u8]) {
        self.records += 1;
        match inspect::read(key, value) {
            Ok(InspectedRecord::Account(_)) => self.accounts += 1,
            Ok(InspectedRecord::KeyMark(name, mark)) => {
                // Another name is a key file of a newer gateway.
                if let Some(file) = KeyFile::parse(&name) {
                    self.key_marks.insert(file, mark);
                }
            }
            Ok(_) => {}
            Err(error) => self.add(format!("{}: {error}", layout::label(key))),
        }
    }

    /// Compares the counted records with their census.
    pub(crate) fn compare(&mut self, told: &Census, counted: &Census) {
        if let Some(found) = told.differs(counted) {
            self.add(format!("the {found}"));
        }
    }
}

impl SledStore {
    /// Checks every record as it is now, while others read and write. Blocks its thread.
    ///
    /// # Errors
    /// [`StoreError`] if the engine cannot read at all.
    pub fn check(&self) -> Result<Findings> {
        let mut walk = self.walk()?;
        let (told, mut counted) = (walk.census(), Census::EMPTY);
        let mut findings = Findings::default();
        while let Some(entries) = walk.next()? {
            for (key, value) in entries {
                counted.add(&key, &value);
                findings.look_at(&key, &value);
            }
        }
        findings.compare(&told, &counted);
        Ok(findings)
    }
}

/// Checks every record of a store that no gateway has open. Blocks.
///
/// The engine cannot open a database without writing to it, so it opens a copy, which needs space on the disk.
///
/// # Errors
/// [`StoreError::Locked`] if a process has the store open; [`StoreError::Engine`] if there is none or it cannot be
/// copied.
pub fn check(dir: &Path) -> Result<Findings> {
    fs::metadata(dir).map_err(StoreError::cannot_open)?;
    let _lock = files::lock(dir)?;
    if !dir.join(files::DATABASE).exists() {
        let mut findings = Findings::default();
        findings.add("the database is missing".to_owned());
        return Ok(findings);
    }
    let copy = dir.join(COPY);
    files::remove_all(&copy).map_err(StoreError::cannot_open)?;
    let findings = files::copy_dir(&dir.join(files::DATABASE), &copy)
        .map_err(StoreError::cannot_open)
        .map(|()| survey(dir, &copy));
    files::remove_all(&copy).map_err(StoreError::cannot_open)?;
    findings
}

fn survey(dir: &Path, copy: &Path) -> Findings {
    let mut findings = Findings::default();
    let side = match Census::read_side(dir) {
        Ok(side) => side.map(|bytes| Census::decode(&bytes)),
        Err(error) => {
            findings.add(format!("{SIDE_FILE}: {error}"));
            None
        }
    };
    let side = side.transpose().unwrap_or_else(|error| {
        findings.add(format!("the file {SIDE_FILE}: {error}"));
        None
    });
    // sled creates an empty database if the file is missing.
    let length = fs::metadata(copy.join(files::DATABASE)).map_or(0, |metadata| metadata.len());
    if length == 0 {
        findings.add("the database's file is missing or empty".to_owned());
        return findings;
    }
    let looked = catch_unwind(AssertUnwindSafe(|| {
        look_through(dir, copy, &mut findings, side.as_ref());
    }));
    if looked.is_err() {
        findings.add("the engine panicked on what it read".to_owned());
    }
    findings
}

fn look_through(dir: &Path, copy: &Path, findings: &mut Findings, side: Option<&Census>) {
    let database = match open_path(dir, copy) {
        Ok(database) => database,
        Err(StoreError::Refused { found, .. }) => return findings.add(found),
        Err(error) => return findings.add(error.to_string()),
    };
    let place = layout::census::<Census>();
    let (mut counted, mut told) = (Census::EMPTY, None);
    for entry in database.db.iter() {
        let (key, value) = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let records = counted.records;
                return findings.add(format!("only {records} records can be read ({error})"));
            }
        };
        if *key == *place.bytes() {
            told = Some(Census::decode(&value));
        } else {
            counted.add(&key, &value);
            findings.look_at(&key, &value);
        }
    }
    match told {
        None => findings.add("there is no census".to_owned()),
        Some(Err(error)) => findings.add(error.to_string()),
        Some(Ok(told)) => {
            findings.compare(&told, &counted);
            if let Some(Err(found)) = side.map(|side| told.compare_with_copy(side)) {
                findings.add(found);
            }
        }
    }
}
