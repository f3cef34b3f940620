//! The state of the key files in a store's directory, compared with their fingerprint records.

use std::path::Path;

use crate::crypto::key_file::{self, FoundKeyFile};
use crate::model::clock::Timestamp;
use crate::model::key_file::{KeyFile, KeyMark, KeyMarks};

/// The state of a key file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFileState {
    /// The records were written with this file.
    Fits,
    /// The file exists, and no record identifies the right one: the gateway adopts it at its start.
    Unknown,
    /// The file is missing and no record ever depended on it: the gateway creates it at its start.
    NotMade,
    /// The file is missing and records depend on it.
    Missing,
    /// The file is not the one that the records were written with.
    Altered,
    /// The file cannot be read, with the reason.
    Unreadable(String),
}

impl KeyFileState {
    /// Returns the stable `snake_case` name shown in lists.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Fits => "fits",
            Self::Unknown => "unknown",
            Self::NotMade => "not_made",
            Self::Missing => "missing",
            Self::Altered => "altered",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

/// The result of checking one key file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFinding {
    /// The key file.
    pub file: KeyFile,
    /// Its state.
    pub state: KeyFileState,
    /// When it was made, if known.
    pub since: Option<Timestamp>,
    /// Which other users can access it, and the remedy.
    pub exposed: Option<&'static str>,
    /// The fingerprint record it should have, if it differs from the present one.
    pub(crate) mark: Option<KeyMark>,
}

impl KeyFinding {
    /// Returns a description of the problem; `None`: the file is fine.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let name = self.file.name();
        let what = match &self.state {
            KeyFileState::Missing => "is missing".to_owned(),
            KeyFileState::Altered => "is not the one that the records were written with".to_owned(),
            KeyFileState::Unreadable(why) => format!("cannot be read: {why}"),
            KeyFileState::Fits | KeyFileState::Unknown | KeyFileState::NotMade => {
                let exposed = self.exposed?;
                return Some(format!("key file {name}: {exposed}"));
            }
        };
        let purpose = self.file.protects();
        Some(format!("key file {name} {what} (it is for {purpose})"))
    }
}

/// Checks every key file of a directory against the fingerprint records. `has_accounts`: whether there are records that
/// can depend on key files.
#[must_use]
pub fn look(keys: &Path, marks: &KeyMarks, has_accounts: bool) -> Vec<KeyFinding> {
    // An older gateway's store has no fingerprint records, but had all of its files from the start.
    let is_older = marks.is_empty() && has_accounts;
    let of = |file: KeyFile| {
        let mark = marks.get(&file);
        let mut finding = KeyFinding {
            file,
            state: KeyFileState::Missing,
            since: mark.map(|mark| mark.since),
            exposed: None,
            mark: None,
        };
        match key_file::look(keys, file.name()) {
            FoundKeyFile::Missing if mark.is_none() && !is_older => {
                finding.state = KeyFileState::NotMade;
            }
            FoundKeyFile::Missing => {}
            FoundKeyFile::Unreadable(why) => finding.state = KeyFileState::Unreadable(why),
            FoundKeyFile::File {
                fingerprint,
                written,
                exposed,
            } => {
                let since = mark.map_or(written, |mark| mark.since);
                let wanted = KeyMark {
                    fingerprints: vec![fingerprint],
                    since,
                };
                finding.since = Some(since);
                finding.exposed = exposed;
                finding.state = match mark {
                    None => KeyFileState::Unknown,
                    Some(mark) if mark.fingerprints.contains(&fingerprint) => KeyFileState::Fits,
                    Some(_) => KeyFileState::Altered,
                };
                finding.mark = Some(wanted).filter(|wanted| mark != Some(wanted));
            }
        }
        finding
    };
    KeyFile::ALL.into_iter().map(of).collect()
}
