//! The keys of `[mail]` for a mail server.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::forms::{choice, number, or_none, path, raw_text, seconds, text, visible};
use crate::config::reader::SectionReader;
use crate::config::secrets::{self, SecretSources, SharedSecret};
use crate::config::settings::settings;

/// Encryption of the connection to the mail server. With TLS the certificate is always verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// TLS from the first byte.
    Required,
    /// STARTTLS. Nothing is sent to a server that does not offer it.
    Starttls,
    /// No encryption, on loopback only.
    None,
}

impl SmtpTls {
    /// Returns the default port.
    const fn port(self) -> u16 {
        match self {
            Self::Required => 465,
            Self::Starttls => 587,
            Self::None => 25,
        }
    }
}

/// Credentials for the mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpLogin {
    /// The name.
    pub username: String,
    /// The password.
    pub password: SharedSecret,
}

const HOST: &str = "the name or address of a mail server";
const PASSWORD: &str = "1 to 512 characters, none of them a control character";

const TLS: &[(&str, SmtpTls)] = &[
    ("required", SmtpTls::Required),
    ("starttls", SmtpTls::Starttls),
    ("none", SmtpTls::None),
];

settings! {
/// Settings of the mail server.
pub struct SmtpSettings {
    /// Credentials; `None`: the gateway does not log in.
    login: Option<SmtpLogin>,
}
SmtpKeys = "mail"; {
    /// The mail server: a name, or an address.
    smtp_host: String = text(HOST, host) => String::new(), as host;
    /// Default: the port that goes with smtp_tls.
    smtp_port: u16 = number(1..=65_535) => 0, as port;
    /// "required": TLS from the first byte (port 465). "starttls": STARTTLS, and no mail to a server that does not offer it
    /// (port 587). "none": without encryption, on loopback only (port 25). With TLS, the certificate is always verified.
    smtp_tls: SmtpTls = choice(TLS, &[]) => SmtpTls::Required, as tls;
    /// Credentials for the mail server. The password is preferably in a file of its own, or the systemd credential
    /// doorward.smtp_password.
    smtp_username: String = text("1 to 254 visible ASCII characters", visible::<254>);
    smtp_password: String = raw_text(PASSWORD);
    smtp_password_file: PathBuf = path("the path of a file");
    /// Maximum time of one delivery, from the connection to the server's last reply.
    smtp_timeout_s: Duration = seconds(1..=300) => Duration::from_secs(30), as timeout;
    /// PEM file with the certificate authorities of the mail server. "": those that the system trusts.
    ca_file: Option<PathBuf> = or_none(path("the path of a file, or \"\"")) => None;
}}

/// Reads the keys. `is_wanted`: whether mails are sent by SMTP.
pub(super) fn read(
    reader: &mut SectionReader<'_>,
    is_wanted: bool,
    sources: SecretSources<'_>,
) -> SmtpSettings {
    let login = login(reader, sources);
    let mut settings = SmtpSettings::read(reader, login);
    if settings.port == 0 {
        settings.port = settings.tls.port();
    }
    secrets::check_readable(reader, &SmtpKeys::ca_file, settings.ca_file.as_ref());
    if is_wanted && settings.host.is_empty() && !reader.has(&SmtpKeys::smtp_host) {
        reader.add(&SmtpKeys::smtp_host, HOST);
    }
    if is_wanted && settings.tls == SmtpTls::None && !is_loopback(&settings.host) {
        reader.add(
            &SmtpKeys::smtp_tls,
            "\"required\" or \"starttls\": \"none\" is for a mail server on loopback only",
        );
    }
    settings
}

fn login(reader: &mut SectionReader<'_>, sources: SecretSources<'_>) -> Option<SmtpLogin> {
    let username = reader.take(&SmtpKeys::smtp_username);
    let (key, file_key) = (&SmtpKeys::smtp_password, &SmtpKeys::smtp_password_file);
    let password = secrets::secret(reader, (key, file_key), is_password, sources);
    let is_named = reader.has(&SmtpKeys::smtp_username);
    let has_key = reader.has(key) || reader.has(file_key);
    if is_named && password.is_none() && !has_key {
        reader.add(key, "a value, since smtp_username is set");
    }
    if !is_named && has_key {
        reader.add(
            &SmtpKeys::smtp_username,
            "a value, since smtp_password is set",
        );
    }
    Some(SmtpLogin {
        username: username?,
        password: SharedSecret(password?),
    })
}

fn is_password(text: &str) -> bool {
    (1..=512).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// Reads a name of letters, digits, dots, dashes and underscores, or an address, or an empty text for none.
fn host(text: &str) -> Option<String> {
    let text = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let is_name = text.len() <= 253
        && !text.starts_with(['.', '-'])
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    (is_name || text.parse::<Ipv6Addr>().is_ok()).then(|| text.to_owned())
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for (text, taken) in [
            ("smtp.example.com", Some("smtp.example.com")),
            ("localhost", Some("localhost")),
            ("192.0.2.1", Some("192.0.2.1")),
            ("[::1]", Some("::1")),
            ("", Some("")),
            ("smtp.example.com:25", None),
            ("smtps://example.com", None),
            ("a b", None),
            (".example.com", None),
        ] {
            assert_eq!(host(text).as_deref(), taken, "{text}");
        }
        for (text, is) in [("127.9.9.9", true), ("::1", true), ("localhost", true)] {
            assert_eq!(is_loopback(text), is, "{text}");
        }
        for text in ["", "192.0.2.1", "localhost.example.com", "mail"] {
            assert!(!is_loopback(text), "{text}");
        }
    }
}
