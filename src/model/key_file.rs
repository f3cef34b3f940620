//! The key files of a store: their names, and the records that depend on them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::model::account::Digest;
use crate::model::clock::Timestamp;

/// A file of the directory `keys` that stored records depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum KeyFile {
    ApiKey,
    Assertion,
    Count,
    Mail,
    Refresh,
    Signing,
}

impl KeyFile {
    /// Every key file once, in the order of the names.
    pub const ALL: [Self; 6] = [
        Self::ApiKey,
        Self::Assertion,
        Self::Count,
        Self::Mail,
        Self::Refresh,
        Self::Signing,
    ];

    /// Returns the file's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ApiKey => "apikey.key",
            Self::Assertion => "assertion.json",
            Self::Count => "count.key",
            Self::Mail => "mail.key",
            Self::Refresh => "refresh.key",
            Self::Signing => "signing.json",
        }
    }

    /// Returns the key file of this name; `None` if there is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.name() == name)
    }

    /// Returns the records that depend on it, in a few words for a list.
    #[must_use]
    pub const fn protects(self) -> &'static str {
        match self {
            Self::ApiKey => "API keys",
            Self::Assertion => "assertions for upstreams",
            Self::Count => "counters of failed logins and mails, known networks",
            Self::Mail => "mails that wait",
            Self::Refresh => "refreshes whose answer was lost",
            Self::Signing => "access tokens",
        }
    }

    /// Returns what becomes void when the file is replaced.
    #[must_use]
    pub const fn voids(self) -> &'static str {
        match self {
            Self::ApiKey => {
                "every API key: all of them are refused, and their owners have to make new ones"
            }
            Self::Assertion => {
                "every assertion that is under way: upstreams refuse the new ones until they fetch the public keys again"
            }
            Self::Count => {
                "every counter: whoever is locked out may guess again, and the next login of each account is told to its owner \
                 as one from a new network"
            }
            Self::Mail => {
                "every mail that waits: it never leaves, and what it was to bring has to be asked for again"
            }
            Self::Refresh => {
                "every refresh whose answer was lost on the way: the login that it belongs to ends, and all others go on"
            }
            Self::Signing => {
                "every access token: programs get another one with their refresh token or log in again; sessions of browsers go on"
            }
        }
    }
}

/// The mark by which the store recognises a key file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyMark {
    /// Fingerprints of the accepted contents. More than one during a replacement, since a crash may leave either of
    /// them.
    pub fingerprints: Vec<Digest>,
    /// Time of creation of the file, or of the ring if it holds one.
    pub since: Timestamp,
}

/// The marks of the key files that have one.
pub type KeyMarks = BTreeMap<KeyFile, KeyMark>;

impl Serialize for KeyFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for KeyFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| de::Error::custom("the name of a key file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_file_and_they_are_sorted() {
        for file in KeyFile::ALL {
            assert_eq!(KeyFile::parse(file.name()), Some(file));
        }
        assert!(KeyFile::ALL.is_sorted_by_key(|file| file.name()));
        assert_eq!(KeyFile::parse("some.key"), None);
    }
}
