//! Verifies that everything acknowledged is present: in a running gateway, or on a copy while none runs.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::model::key_file::{KeyFile, KeyMarks};
use crate::store::inspect::{self, InspectedRecord};
use crate::store::sled::census::SIDE_FILE;
use crate::store::sled::database::open_path;
use crate::store::sled::{Census, SledStore, files};
use crate::store::{Result, StoreError, layout};

/// Problems that are listed; further ones are only counted.
const PROBLEMS_MAX: usize = 100;

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
        if self.problems.len() < PROBLEMS_MAX {
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
    fn compare(&mut self, expected: &Census, counted: &Census) {
        if let Some(found) = expected.differs(counted) {
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
        let mut counted = Census::EMPTY;
        let mut findings = Findings::default();
        while let Some(entries) = walk.next()? {
            for (key, value) in entries {
                counted.add(&key, &value);
                findings.look_at(&key, &value);
            }
        }
        findings.compare(&walk.census, &counted);
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
        return Ok(Findings {
            problems: vec!["the database is missing".to_owned()],
            ..Findings::default()
        });
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
    let side = side(dir).unwrap_or_else(|problem| {
        findings.add(problem);
        None
    });
    // sled creates an empty database if the file is missing.
    let length = fs::metadata(copy.join(files::DATABASE)).map_or(0, |metadata| metadata.len());
    if length == 0 {
        findings.add("the database's file is missing or empty".to_owned());
        return findings;
    }
    let looked = catch_unwind(AssertUnwindSafe(|| {
        look_through(dir, copy, &mut findings, side.as_ref())
    }));
    let panicked = |_| Err("the engine panicked while reading".to_owned());
    if let Err(problem) = looked.unwrap_or_else(panicked) {
        findings.add(problem);
    }
    findings
}

fn side(dir: &Path) -> Result<Option<Census>, String> {
    let bytes = Census::read_side(dir).map_err(|error| format!("{SIDE_FILE}: {error}"))?;
    let side = bytes.map(|bytes| Census::decode(&bytes)).transpose();
    side.map_err(|error| format!("the file {SIDE_FILE}: {error}"))
}

/// Checks every record; returns the problem that ends the check.
fn look_through(
    dir: &Path,
    copy: &Path,
    findings: &mut Findings,
    side: Option<&Census>,
) -> Result<(), String> {
    let database = open_path(dir, copy).map_err(|error| match error {
        StoreError::Refused { found, .. } => found,
        error => error.to_string(),
    })?;
    let place = layout::census::<Census>();
    let (mut counted, mut census) = (Census::EMPTY, None);
    for entry in database.db.iter() {
        let (key, value) = entry.map_err(|error| {
            let records = counted.records;
            format!("only {records} records can be read ({error})")
        })?;
        if *key == *place.bytes() {
            census = Some(Census::decode(&value));
        } else {
            counted.add(&key, &value);
            findings.look_at(&key, &value);
        }
    }
    let census = census.ok_or("the census is missing")?;
    let census = census.map_err(|error| error.to_string())?;
    findings.compare(&census, &counted);
    side.map_or(Ok(()), |side| census.compare_with_copy(side))
}
