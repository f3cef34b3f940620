//! `[mail]`: transport, links and limits of mails.

use std::path::PathBuf;

use crate::config::forms::{choice, is_path, number, or_none, path, text};
use crate::config::keys::{ConfigKey, keys};
use crate::config::reader::SectionReader;
use crate::config::secrets::SecretSources;
use crate::config::settings::settings;
use crate::config::smtp::{self, SmtpKeys, SmtpSettings};
use crate::model::account::EmailAddress;

/// The transport of mails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailTransport {
    /// One `.eml` file per message, mode 0600.
    File(PathBuf),
    /// To standard output, for trying things out.
    Stdout,
    /// To a program that reads mails from its standard input, such as sendmail.
    Sendmail(PathBuf),
    /// To a mail server.
    Smtp(SmtpSettings),
}

/// `[mail]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailSettings {
    /// The transport of mails.
    pub transport: MailTransport,
    /// Sender, such as `Doorward <noreply@localhost>`.
    pub from: String,
    /// Link of the mail `confirm_new`, with places for `{public_url}` and `{token}`.
    pub confirm_link: String,
    /// Link of the mail `password_reset`.
    pub reset_link: String,
    /// Limits of mails that anyone can cause.
    pub limits: MailLimits,
    /// Directory with templates that replace the built-in ones.
    pub templates: Option<PathBuf>,
}

const LINK: &str = "a link such as {public_url}/auth/confirm?token={token}: it begins with {public_url}/, http:// or \
     https:// and holds {token} once";

/// The gateway's own pages to which links of mails lead.
const CONFIRM: &str = "confirm";
const RESET: &str = "reset";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TransportChoice {
    File,
    Stdout,
    Sendmail,
    Smtp,
}

const TRANSPORTS: &[(&str, TransportChoice)] = &[
    ("file", TransportChoice::File),
    ("smtp", TransportChoice::Smtp),
    ("sendmail", TransportChoice::Sendmail),
    ("stdout", TransportChoice::Stdout),
];
const PER_HOUR_MAX: u64 = 1_000_000;

settings! {
/// Limits of mails that anyone can cause.
#[derive(Copy)]
pub struct MailLimits {}
MailLimitKeys = "mail"; {
    /// Maximum number of mails in an hour that strangers can cause by registration and forgotten passwords: to one address;
    /// for one client network (2, 5 and 20 times as many for a /56, /48 and /32 of IPv6); and in all, for registration and
    /// for forgotten passwords each. Further mails are not sent; the answer is the same. Notices to an owner do not count.
    per_address_per_hour: u32 = number(1..=PER_HOUR_MAX) => 3;
    per_network_per_hour: u32 = number(1..=PER_HOUR_MAX) => 10;
    per_hour: u32 = number(1..=PER_HOUR_MAX) => 1000;
}}

keys! { pub(super) MailKeys = "mail", and [SmtpKeys, MailLimitKeys]; {
    /// "smtp": to a mail server. "sendmail": to a program on this machine. "file": one .eml file per message, mode 0600, in
    /// the directory below. "stdout": to standard output. The last two are for trials. With every transport, a mail is kept
    /// in the store, sealed, until it is delivered, and delivery is retried until its link expires.
    transport: TransportChoice = choice(TRANSPORTS, &[]) => TransportChoice::File;
    directory: PathBuf = path("the path of a directory");
    from: String = text("a sender such as Doorward <noreply@localhost>", sender) => "Doorward <noreply@localhost>".to_owned();
    /// Links in mails. {public_url} and {token} are replaced; the default follows listen.auth_prefix.
    confirm_link: String = text(LINK, link);
    reset_link: String = text(LINK, link);
    /// Directory with texts that replace the built-in ones (docs/mail.md). "": none.
    templates: Option<PathBuf> = or_none(path("the path of a directory, or \"\"")) => None;
    /// Absolute path of the program, which is called with -i -f SENDER -- RECIPIENT and the mail on its standard input. A
    /// program that is setgid, like that of Postfix, does not work under systemd's NoNewPrivileges: use smtp to localhost
    /// instead.
    sendmail_command: PathBuf = text("the absolute path of a program", program) => PathBuf::from("/usr/sbin/sendmail");
}}

pub(super) fn read(
    reader: &mut SectionReader<'_>,
    auth_prefix: &str,
    sources: SecretSources<'_>,
) -> MailSettings {
    let transport = reader.get(&MailKeys::transport);
    let directory = reader
        .take(&MailKeys::directory)
        .unwrap_or_else(|| reader.base().join("data/mail"));
    let command = reader.get(&MailKeys::sendmail_command);
    let smtp = smtp::read(reader, transport == TransportChoice::Smtp, sources);
    let mut link_of = |key: &ConfigKey<String>, page: &str| {
        reader
            .take(key)
            .unwrap_or_else(|| default_link(auth_prefix, page))
    };
    let confirm_link = link_of(&MailKeys::confirm_link, CONFIRM);
    let reset_link = link_of(&MailKeys::reset_link, RESET);
    MailSettings {
        transport: match transport {
            TransportChoice::File => MailTransport::File(directory),
            TransportChoice::Stdout => MailTransport::Stdout,
            TransportChoice::Sendmail => MailTransport::Sendmail(command),
            TransportChoice::Smtp => MailTransport::Smtp(smtp),
        },
        from: reader.get(&MailKeys::from),
        confirm_link,
        reset_link,
        limits: MailLimits::read(reader),
        templates: reader.get(&MailKeys::templates),
    }
}

impl MailSettings {
    /// Changes the prefix of links that lead to the gateway's own pages.
    pub(super) fn move_links(&mut self, from: &str, to: &str) {
        for (link, page) in [
            (&mut self.confirm_link, CONFIRM),
            (&mut self.reset_link, RESET),
        ] {
            if *link == default_link(from, page) {
                *link = default_link(to, page);
            }
        }
    }
}

fn default_link(auth_prefix: &str, page: &str) -> String {
    format!("{{public_url}}{auth_prefix}/{page}?token={{token}}")
}

/// Reads the absolute path of a program.
fn program(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(text);
    (is_path(text) && path.is_absolute()).then_some(path)
}

/// Reads an address, alone or after a name.
fn sender(text: &str) -> Option<String> {
    let address = match text.split_once('<') {
        Some((_, rest)) => rest.strip_suffix('>')?,
        None => text,
    };
    let fits = EmailAddress::reachable(address).is_ok() && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

fn link(text: &str) -> Option<String> {
    let begins = ["{public_url}/", "http://", "https://"]
        .iter()
        .any(|beginning| text.starts_with(beginning));
    let filled = text.replace("{public_url}", "");
    let fits = begins
        && filled.matches("{token}").count() == 1
        && !filled.replace("{token}", "").contains(['{', '}'])
        && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_hold_the_token_once() {
        for good in [
            "{public_url}/auth/confirm?token={token}",
            "https://app.example.com/#/confirm/{token}",
        ] {
            assert!(link(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "{public_url}/x",
            "{token}",
            "{public_url}/{token}{token}",
            "{public_url}/{token}{user}",
            "{public_url}.evil.test/{token}",
            "ftp://a/{token}",
            "https://a b/{token}",
        ] {
            assert_eq!(link(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_sender_is_an_address_with_or_without_a_name() {
        for good in ["a@b", "Door Ward <a@b.example>"] {
            assert!(sender(good).is_some(), "{good}");
        }
        for bad in ["", "a", "A <a>", "A <a@b", "A\n<a@b>", "<a@b> x"] {
            assert_eq!(sender(bad), None, "{bad}");
        }
    }
}
