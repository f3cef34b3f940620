//! The key files of a store: their names, and the records that depend on them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::model::account::Digest;
use crate::model::clock::Timestamp;
use crate::model::table::table;

table! {
    /// A file of the directory `keys` that stored records depend on.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    #[expect(missing_docs, reason = "the names say it")]
    pub enum KeyFile {
        ApiKey => (
            "apikey.key",
            "API keys",
            "every API key: all of them are refused, and their owners have to create new ones",
        ),
        Assertion => (
            "assertion.json",
            "assertions for upstreams",
            "every assertion in flight: upstreams refuse new ones until they fetch the public keys again",
        ),
        Count => (
            "count.key",
            "counters of failed logins and mails, known networks",
            "every counter: locked-out callers may guess again, and the next login of each account is reported to its owner \
             as one from a new network",
        ),
        Mail => (
            "mail.key",
            "queued mails",
            "every queued mail: it is never sent, and has to be requested again",
        ),
        Refresh => (
            "refresh.key",
            "repeats of refreshes whose answer was lost",
            "every refresh whose answer was lost in transit: its login ends, all others continue",
        ),
        Signing => (
            "signing.json",
            "access tokens",
            "every access token: programs get a new one with their refresh token or log in again; browser sessions continue",
        ),
    }
    /// Returns the name, the records that depend on the file, and what becomes void when it is replaced.
    fn row() -> (&'static str, &'static str, &'static str);
    /// Returns the file's name.
    pub fn name() -> &'static str = row.0;
    /// Returns the records that depend on it, in a few words for a list.
    pub fn protects() -> &'static str = row.1;
    /// Returns what becomes void when the file is replaced.
    pub fn voids() -> &'static str = row.2;
}

impl KeyFile {
    /// Returns the key file of this name; `None` if there is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.name() == name)
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
