//! A mail as a message: RFC 5322 in bytes.

use std::time::{Duration, UNIX_EPOCH};

use lettre::Message;
use lettre::message::header::{
    ContentTransferEncoding, ContentType, HeaderName, HeaderValue, MIME_VERSION_1_0,
};
use lettre::message::{Body, Mailbox};
use zeroize::Zeroizing;

use crate::crypto::token;
use crate::mail::template::Text;
use crate::model::account::EmailAddress;
use crate::model::clock::Timestamp;

/// Longest line of a message without its end (RFC 5322 section 2.1.1).
const LINE_BYTES_MAX: usize = 998;

/// Builds a message of one plain part, its lines ended by `\n` as files and terminals of this system want it; a
/// transport over SMTP ends them by CRLF itself.
///
/// An error says what does not fit, and holds no address.
pub(crate) fn build(
    from: &Mailbox,
    to: &EmailAddress,
    text: &Text,
    now: Timestamp,
) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let to = to.as_str().parse();
    let to = to.map_err(|_| "the recipient's address is none that a mail can carry")?;
    let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(now.millis()).unwrap_or_default());
    let id = format!("<{}@{}>", token::draw_jti(), from.email.domain());
    let message = Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(text.subject.as_str())
        .date(at)
        .message_id(Some(id))
        // Nobody's holiday notice answers (RFC 3834).
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ))
        .header(MIME_VERSION_1_0)
        .header(ContentType::TEXT_PLAIN)
        .body(body(&text.body))
        .map_err(|_| "the message cannot be built")?;
    let mut bytes = Zeroizing::new(message.formatted());
    bytes.retain(|byte| *byte != b'\r');
    Ok(bytes)
}

/// The text as it is, in 7 or 8 bits.
///
/// Left to itself the library encodes a text with a line of 76 characters or more, as a line with a link is, so that
/// `token=` becomes `token=3D` and the line breaks. Up to 998 characters there is no need.
fn body(text: &str) -> Body {
    if text.lines().any(|line| LINE_BYTES_MAX < line.len()) {
        return Body::new(text.to_owned());
    }
    let encoding = if text.is_ascii() {
        ContentTransferEncoding::SevenBit
    } else {
        ContentTransferEncoding::EightBit
    };
    let lines = text.lines().collect::<Vec<_>>().join("\r\n") + "\r\n";
    Body::dangerous_pre_encoded(lines.into_bytes(), encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(body: &str) -> String {
        let from = "Doorward <noreply@localhost>".parse().unwrap();
        let text = Text {
            subject: "T\u{fc}r".to_owned(),
            body: Zeroizing::new(body.to_owned()),
        };
        let to = EmailAddress::parse("anna@example.org").unwrap();
        let message = build(&from, &to, &text, Timestamp::from_secs(0)).unwrap();
        String::from_utf8(message.to_vec()).unwrap()
    }

    #[test]
    fn lines_up_to_998_bytes_stand_as_they_are() {
        let line = "=".repeat(LINE_BYTES_MAX);
        assert!(built(&format!("{line}\n")).contains(&format!("\n\n{line}\n")));
        let longer = built(&format!("{line}=\n"));
        assert!(
            longer.lines().all(|line| line.len() <= LINE_BYTES_MAX),
            "{longer}"
        );
    }

    #[test]
    fn a_subject_beyond_ascii_is_encoded() {
        assert!(built("text\n").contains("Subject: =?utf-8?b?"));
    }
}
