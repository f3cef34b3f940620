//! A message with its sender and recipient, which is sealed for the outbox.

use zeroize::Zeroizing;

use crate::crypto::seal::SealKey;
use crate::model::id::MailId;
use crate::model::mail::SealedMail;

/// A message with its envelope.
#[derive(Clone, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// Address of the sender.
    pub from: String,
    /// Address of the recipient.
    pub to: String,
    /// The whole message, with lines ended by `\n`. It may hold a one-time token.
    pub message: Zeroizing<String>,
}

impl std::fmt::Debug for OutgoingMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Letter(..)")
    }
}

impl OutgoingMessage {
    /// Seals it for the outbox under its id; `None`: it exceeds the limits of the library.
    pub(crate) fn seal(&self, key: &SealKey, id: &MailId) -> Option<SealedMail> {
        // Addresses contain no control characters.
        let parts = [&self.from, "\0", &self.to, "\0", &self.message];
        let text = Zeroizing::new(parts.concat());
        let sealed = key.seal(id.as_str().as_bytes(), text.as_bytes());
        sealed.ok().map(SealedMail)
    }

    /// Opens a sealed letter; `None`: it was sealed with another key or under another id.
    pub(crate) fn open(key: &SealKey, id: &MailId, sealed: &SealedMail) -> Option<Self> {
        let bytes = key.open_sealed(id.as_str().as_bytes(), &sealed.0)?;
        let (from, rest) = std::str::from_utf8(&bytes).ok()?.split_once('\0')?;
        let (to, message) = rest.split_once('\0')?;
        Some(Self {
            from: from.to_owned(),
            to: to.to_owned(),
            message: Zeroizing::new(message.to_owned()),
        })
    }

    /// The message with lines ended by CRLF, as SMTP requires.
    pub(crate) fn on_the_wire(&self) -> Zeroizing<Vec<u8>> {
        let lines = self.message.matches('\n').count();
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.message.len() + lines));
        for byte in self.message.bytes() {
            if byte == b'\n' {
                bytes.push(b'\r');
            }
            bytes.push(byte);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::token;

    #[test]
    fn it_opens_under_its_own_id_only() {
        let key = SealKey::open(None, "mail.key").unwrap();
        let letter = OutgoingMessage {
            from: "door@example.org".to_owned(),
            to: "anna@example.org".to_owned(),
            message: Zeroizing::new("To: \"a\"\n\nt\u{fc}r\n".to_owned()),
        };
        let (id, other) = (token::draw_mail_id(), token::draw_mail_id());
        let sealed = letter.seal(&key, &id).unwrap();
        assert_eq!(
            OutgoingMessage::open(&key, &id, &sealed),
            Some(letter.clone())
        );
        assert_eq!(OutgoingMessage::open(&key, &other, &sealed), None);
        let wire = String::from_utf8(letter.on_the_wire().to_vec()).unwrap();
        assert_eq!(wire, "To: \"a\"\r\n\r\nt\u{fc}r\r\n");
        assert_eq!(format!("{letter:?}"), "Letter(..)");
    }
}
