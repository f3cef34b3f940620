//! A mail in the outbox.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::clock::Timestamp;
use crate::model::id::MailId;

/// A mail as stored in the outbox: sealed, since it may contain a one-time token, with the data that delivery needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedMail {
    /// The mail's id, to which the seal is bound.
    pub id: MailId,
    /// Sender, recipient and message.
    pub sealed: SealedMail,
    /// Time of creation.
    pub created: Timestamp,
    /// Not sent from this time on: the expiry of the token in it.
    pub expires: Timestamp,
    /// Earliest time of the next attempt.
    pub next_try: Timestamp,
    /// Number of failed attempts.
    pub attempts: u32,
    /// Number of these attempts in which the recipient was permanently refused.
    pub refusals: u32,
}

/// Bytes that are encrypted with a key of the store.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedMail(pub Vec<u8>);

impl fmt::Debug for SealedMail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

impl Serialize for SealedMail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for SealedMail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text);
        bytes
            .map(Self)
            .map_err(|_| serde::de::Error::custom("not base64"))
    }
}

/// The mails that are due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueMails {
    /// The due mails, the longest waiting first.
    pub mails: Vec<QueuedMail>,
    /// Time at which the next mail is due, as far as it was read.
    pub next: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_comes_back_and_is_not_shown() {
        let sealed = SealedMail(vec![0, 1, 254, 255]);
        let text = serde_json::to_string(&sealed).unwrap();
        assert_eq!(text, "\"AAH+/w==\"");
        assert_eq!(serde_json::from_str::<SealedMail>(&text).unwrap(), sealed);
        assert!(serde_json::from_str::<SealedMail>("\"*\"").is_err());
        assert_eq!(format!("{sealed:?}"), "Sealed(4 bytes)");
    }
}
