//! A mail that waits in the outbox.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::clock::Timestamp;
use crate::model::id::MailId;

/// A mail as the outbox keeps it: sealed, since it may hold a one-time token, with what its delivery needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedMail {
    /// Its id, to which the seal is bound.
    pub id: MailId,
    /// Sender, recipient and message.
    pub sealed: Sealed,
    /// When it was written.
    pub created: Timestamp,
    /// Not sent from then on: the end of the token in it.
    pub expires: Timestamp,
    /// Not tried before.
    pub next_try: Timestamp,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// How often of these the recipient was refused for good.
    pub refusals: u32,
}

/// Bytes that say nothing without the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text);
        bytes
            .map(Self)
            .map_err(|_| serde::de::Error::custom("not base64"))
    }
}

/// Mails whose time has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueMails {
    /// Those that have waited longest first.
    pub mails: Vec<QueuedMail>,
    /// When the next one is due, as far as it was seen.
    pub next: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_comes_back_and_is_not_shown() {
        let sealed = Sealed(vec![0, 1, 254, 255]);
        let text = serde_json::to_string(&sealed).unwrap();
        assert_eq!(text, "\"AAH+/w==\"");
        assert_eq!(serde_json::from_str::<Sealed>(&text).unwrap(), sealed);
        assert!(serde_json::from_str::<Sealed>("\"*\"").is_err());
        assert_eq!(format!("{sealed:?}"), "Sealed(4 bytes)");
    }
}
