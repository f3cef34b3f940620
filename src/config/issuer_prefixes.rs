//! The prefixes of `[[issuer]]`, which distinguish the users of an issuer from those of others and of the gateway
//! itself.

use crate::config::forms::{is_visible, text};
use crate::config::keys::keys;
use crate::config::reader::SectionReader;
use crate::model::id::UserId;

/// The prefixes of one issuer.
#[derive(Debug, Default)]
pub(super) struct IssuerPrefixes {
    pub(super) subject: String,
    pub(super) username: String,
}

/// The prefixes of the issuers read so far; a subject prefix with whether it is written or the default.
#[derive(Debug, Default)]
pub(super) struct PrefixRegistry {
    seen: Vec<(String, bool)>,
    usernames: Vec<String>,
}

const SUBJECT: &str = "at most 64 visible ASCII characters without comma, not starting with u-, which is reserved for uids of this gateway";
const USERNAME: &str = "at most 64 visible ASCII characters without comma, at least one of which cannot occur in a username of this gateway, such as \
                        a colon, not starting with u-, which is reserved for uids of this gateway; or \"\"";

keys! { pub(super) PrefixKeys = "issuer[]"; {
    /// Prefix of each subject of this issuer. The prefix of one issuer must not be a beginning of another's ("" is a
    /// beginning of all). Two equal prefixes, both written, declare that both issuers speak for the same people.
    subject_prefix: String = text(SUBJECT, subject_prefix);
    /// Prefix of each username, with a character that no username of the gateway has, such as a colon. Default: name and a
    /// colon. "": the issuer can assert the username of any account of the gateway, including an administrator's.
    username_prefix: String = text(USERNAME, username_prefix);
}}

impl PrefixRegistry {
    /// Reads both prefixes of an issuer, and compares them with those of the issuers before it.
    pub(super) fn read(
        &mut self,
        reader: &mut SectionReader<'_>,
        name: Option<&str>,
        has_usernames: bool,
    ) -> IssuerPrefixes {
        let subject = reader.take(&PrefixKeys::subject_prefix);
        let is_written = reader.has(&PrefixKeys::subject_prefix);
        // An invalid prefix has been reported, and is not compared with others.
        if subject.is_some() || !is_written {
            self.compare(reader, subject.clone().unwrap_or_default(), is_written);
        }
        let username = reader.take(&PrefixKeys::username_prefix);
        if has_usernames && username.as_deref() == Some("") {
            reader.warn(
                &PrefixKeys::username_prefix,
                "a prefix: with \"\" this issuer can assign the username of an account here, even an administrator's",
            );
        }
        let username =
            username.unwrap_or_else(|| name.map(|name| format!("{name}:")).unwrap_or_default());
        if has_usernames && !username.is_empty() {
            let collides = |other: &String| is_beginning_of_one(other, &username);
            if self.usernames.iter().any(collides) {
                reader.warn(
                    &PrefixKeys::username_prefix,
                    "a prefix that is not the beginning of another issuer's prefix, nor the other way round: otherwise two people could get one username",
                );
            }
            self.usernames.push(username.clone());
        }
        IssuerPrefixes {
            subject: subject.unwrap_or_default(),
            username,
        }
    }

    fn compare(&mut self, reader: &SectionReader<'_>, subject: String, is_written: bool) {
        let overlaps = |(other, _): &&(String, bool)| is_beginning_of_one(other, &subject);
        let mut shared = false;
        for (other, other_is_written) in self.seen.iter().filter(overlaps) {
            if *other == subject && is_written && *other_is_written {
                shared = true;
                continue;
            }
            reader.add(
                &PrefixKeys::subject_prefix,
                "a prefix that is not the beginning of another issuer's prefix, nor the other way round: otherwise two people could get one uid \
                 (\"\" is the beginning of every prefix; equal prefixes, written for both issuers, mean that both identify \
                 the same people)",
            );
            break;
        }
        if shared {
            reader.warn(
                &PrefixKeys::subject_prefix,
                "a prefix that no other issuer has, unless both issuers identify the same people: equal subjects get one uid",
            );
        }
        self.seen.push((subject, is_written));
    }
}

/// Reads a prefix of names or roles, which may be empty.
pub(super) fn prefix(text: &str) -> Option<String> {
    let fits = text.is_empty() || (is_visible(text, 64) && !text.contains(','));
    fits.then(|| text.to_owned())
}

fn subject_prefix(text: &str) -> Option<String> {
    prefix(text).filter(|prefix| !speaks_for_ours(prefix))
}

fn username_prefix(text: &str) -> Option<String> {
    subject_prefix(text).filter(|prefix| sets_apart(prefix))
}

/// Whether one prefix starts with the other, regardless of case.
fn is_beginning_of_one(a: &str, b: &str) -> bool {
    let mut pairs = a.bytes().zip(b.bytes());
    pairs.all(|(a, b)| a.eq_ignore_ascii_case(&b))
}

/// Whether no account of the gateway can have a username with this prefix.
fn sets_apart(prefix: &str) -> bool {
    let is_of_usernames = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    prefix.is_empty() || !prefix.bytes().all(is_of_usernames)
}

/// Whether a name with this prefix could be a uid of the gateway's own accounts, which no issuer may assert.
fn speaks_for_ours(prefix: &str) -> bool {
    !prefix.is_empty() && is_beginning_of_one(prefix, UserId::PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prefix_makes_a_name_ours() {
        for bad in ["u", "u-", "u-corp-", "U", "U-", "U-corp:", "u-:"] {
            assert!(speaks_for_ours(bad), "{bad}");
        }
        for good in ["", "corp:", "user-", "x-u-", "u:"] {
            assert!(!speaks_for_ours(good), "{good}");
        }
    }

    #[test]
    fn a_username_prefix_holds_what_no_username_here_has() {
        for bad in ["corp", "corp-", "corp.", "corp_", "CORP", "c-0.9_"] {
            assert!(!sets_apart(bad), "{bad}");
        }
        for good in ["", ":", "corp:", "corp/", "@corp", "corp-("] {
            assert!(sets_apart(good), "{good}");
        }
    }

    #[test]
    fn prefixes_overlap_where_one_begins_the_other() {
        for (a, b, overlap) in [
            ("", "", true),
            ("", "corp:", true),
            ("corp:", "corp:", true),
            ("corp:", "CORP:", true),
            ("corp:", "corp:eu:", true),
            ("Corp:eu:", "corp:", true),
            ("corp:", "corq:", false),
            ("corp:eu:", "corp:us:", false),
        ] {
            assert_eq!(is_beginning_of_one(a, b), overlap, "{a} {b}");
            assert_eq!(is_beginning_of_one(b, a), overlap, "{b} {a}");
        }
    }
}
