//! The key files that are found in a store's directory, each compared with its mark among the records.

use std::path::Path;

use crate::crypto::key_file::{self, Found};
use crate::model::clock::Timestamp;
use crate::model::key_file::{KeyFile, KeyMark, KeyMarks};

/// How a key file stands to the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It is the one that they were written with.
    Fits,
    /// It is there, and nothing tells which it should be: a gateway that starts takes it for good.
    Unknown,
    /// It is not there, and nothing has ever hung on it: a gateway that starts makes it.
    NotMade,
    /// It is not there, and records hang on it.
    Missing,
    /// It is another one.
    Altered,
    /// Something is there that cannot be read, and why.
    Unreadable(String),
}

impl KeyState {
    /// The word that a list shows: stable, `snake_case`.
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

/// A key file as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFinding {
    /// Which.
    pub file: KeyFile,
    /// How it stands to the records.
    pub state: KeyState,
    /// When it was made, as far as that is known.
    pub since: Option<Timestamp>,
    /// Who else may use it, and what mends that.
    pub exposed: Option<&'static str>,
    /// What it should be known by from now on, if that is another mark than it has.
    pub(crate) mark: Option<KeyMark>,
}

impl KeyFinding {
    /// What is wrong with it; `None`: nothing.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let name = self.file.name();
        let what = match &self.state {
            KeyState::Missing => "is missing".to_owned(),
            KeyState::Altered => "is not the one that the records were written with".to_owned(),
            KeyState::Unreadable(why) => format!("cannot be read: {why}"),
            KeyState::Fits | KeyState::Unknown | KeyState::NotMade => {
                return self
                    .exposed
                    .map(|exposed| format!("key file {name}: {exposed}"));
            }
        };
        let hangs = self.file.protects();
        Some(format!("key file {name} {what} (it is for {hangs})"))
    }
}

/// Looks at every key file of a directory, beside the marks of the records. `has_accounts`: there are records that can hang
/// on key files.
#[must_use]
pub fn look(keys: &Path, marks: &KeyMarks, has_accounts: bool) -> Vec<KeyFinding> {
    // A store of an older gateway has no marks, and had all of its files from the start.
    let is_older = marks.is_empty() && has_accounts;
    let of = |file: KeyFile| {
        let mark = marks.get(&file);
        let found = key_file::look(keys, file.name());
        let mut finding = KeyFinding {
            file,
            state: KeyState::Missing,
            since: mark.map(|mark| mark.since),
            exposed: None,
            mark: None,
        };
        match found {
            Found::Missing if mark.is_none() && !is_older => finding.state = KeyState::NotMade,
            Found::Missing => {}
            Found::Unreadable(why) => finding.state = KeyState::Unreadable(why),
            Found::File {
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
                    None => KeyState::Unknown,
                    Some(mark) if mark.fingerprints.contains(&fingerprint) => KeyState::Fits,
                    Some(_) => KeyState::Altered,
                };
                finding.mark = Some(wanted).filter(|wanted| mark != Some(wanted));
            }
        }
        finding
    };
    KeyFile::ALL.into_iter().map(of).collect()
}
