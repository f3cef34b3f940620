//! Builds messages in the format of RFC 5322.

use std::time::{Duration, UNIX_EPOCH};

use lettre::Message;
use lettre::message::header::{
    ContentTransferEncoding, ContentType, HeaderName, HeaderValue, MIME_VERSION_1_0,
};
use lettre::message::{Body, Mailbox, MultiPart, SinglePart};
use zeroize::Zeroizing;

use crate::crypto::token;
use crate::mail::letter::OutgoingMessage;
use crate::mail::template::Text;
use crate::model::account::EmailAddress;
use crate::model::clock::Timestamp;

/// Maximum length of a line without its end (RFC 5322 section 2.1.1).
const LINE_BYTES_MAX: usize = 998;

/// Maximum length of a message, so that it fits into a record of the store when it is sealed.
const MESSAGE_BYTES_MAX: usize = 40 * 1024;

fn carried(address: &EmailAddress) -> Option<lettre::Address> {
    address.as_str().parse().ok()
}

/// Builds a message from a plain part and, if there is one, an HTML part with the same content. Its lines end in `\n`, as
/// files and local programs expect; the SMTP transport converts them to CRLF.
///
/// An error describes the part that does not fit, and contains no address.
pub(crate) fn build(
    from: &Mailbox,
    to: &EmailAddress,
    text: &Text,
    now: Timestamp,
) -> Result<OutgoingMessage, &'static str> {
    let to = carried(to).ok_or("the recipient's address cannot be used in a mail")?;
    let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(now.millis()).unwrap_or_default());
    let id = format!("<{}@{}>", token::draw_jti(), from.email.domain());
    let builder = Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to.clone()))
        .subject(text.subject.as_str())
        .date(at)
        .message_id(Some(id))
        // Suppresses automatic replies (RFC 3834).
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ))
        .header(MIME_VERSION_1_0);
    let message = match &text.html {
        None => builder
            .header(ContentType::TEXT_PLAIN)
            .body(body(&text.body)),
        Some(html) => builder.multipart(
            MultiPart::alternative()
                .singlepart(SinglePart::plain(body(&text.body)))
                .singlepart(SinglePart::html(body(html))),
        ),
    };
    let message = message.map_err(|_| "the message cannot be built")?;
    let mut bytes = Zeroizing::new(message.formatted());
    bytes.retain(|byte| *byte != b'\r');
    if MESSAGE_BYTES_MAX < bytes.len() {
        return Err("the message is too long");
    }
    let message = std::str::from_utf8(&bytes).map_err(|_| "the message is not UTF-8")?;
    Ok(OutgoingMessage {
        from: from.email.to_string(),
        to: to.to_string(),
        message: Zeroizing::new(message.to_owned()),
    })
}

/// The unencoded text, in 7 or 8 bits.
///
/// By default the library encodes a text with a line of 76 characters or more, such as one with a link, so that `token=`
/// becomes `token=3D` and the line breaks. Lines of up to 998 characters need no encoding.
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
            html: None,
        };
        let to = EmailAddress::parse("anna@example.org").unwrap();
        let letter = build(&from, &to, &text, Timestamp::from_secs(0)).unwrap();
        letter.message.to_string()
    }

    /// Every address accepted at registration is accepted by every transport.
    #[test]
    fn each_address_that_is_taken_can_be_carried() {
        let local = "#$&'*+-/=?^_`{|}~.09azAZ";
        for address in [
            format!("{local}@b"),
            format!("{}@{}.x", "x".repeat(64), "y".repeat(63)),
            "-a@0-9.z".to_owned(),
            "a@xn--mller-kva.example".to_owned(),
        ] {
            let address = EmailAddress::reachable(&address).unwrap();
            let carried = carried(&address).unwrap();
            assert_eq!(carried.to_string(), address.as_str());
            // Servers without SMTPUTF8 accept it.
            assert!(carried.to_string().is_ascii());
        }
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
    fn html_stands_beside_the_plain_part_and_neither_is_encoded() {
        let from = "Doorward <noreply@localhost>".parse().unwrap();
        let long = "x".repeat(300);
        let text = Text {
            subject: "Both".to_owned(),
            body: Zeroizing::new(format!("plain={long}\n")),
            html: Some(Zeroizing::new(format!("<p>html={long}</p>\n"))),
        };
        let to = EmailAddress::parse("Anna@Example.org").unwrap();
        let letter = build(&from, &to, &text, Timestamp::from_secs(0)).unwrap();
        let message = letter.message.as_str();
        assert!(message.contains("Content-Type: multipart/alternative;"));
        let plain = message.find(&format!("\n\nplain={long}\n")).unwrap();
        let html = message.find(&format!("\n\n<p>html={long}</p>\n")).unwrap();
        assert!(
            plain < html,
            "readers take the last part that they understand"
        );
        assert_eq!(letter.from, "noreply@localhost");
        assert_eq!(letter.to, "Anna@Example.org");
        let text = Text {
            html: Some(Zeroizing::new("<p>".repeat(MESSAGE_BYTES_MAX / 3))),
            ..text
        };
        assert!(build(&from, &to, &text, Timestamp::from_secs(0)).is_err());
    }

    #[test]
    fn a_subject_beyond_ascii_is_encoded() {
        assert!(built("text\n").contains("Subject: =?utf-8?b?"));
    }
}
