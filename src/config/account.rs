//! `[account]`: the account's life.

use std::time::Duration;

use http::HeaderName;

use crate::config::headers;
use crate::config::listen::processors;
use crate::config::reader::Reader;
use crate::model::route::IdentityHeaderNames;

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Whoever comes.
    Open,
    /// Only whom an administrator invites.
    Invite,
    /// Nobody.
    Closed,
}

/// The account's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSettings {
    /// Who may register.
    pub registration: Registration,
    /// Failed passwords that one name, or one account, may have from one client network. Default 5.
    pub lockout_attempts: u32,
    /// How long a failed password counts. Default 10 min.
    pub lockout: Duration,
    /// Shortest password, in characters. Default 8.
    pub password_length_min: usize,
    /// Classes that a password under 15 characters needs. Default 3; 0: none.
    pub password_classes_min: usize,
    /// Life of a confirm token. Default 24 h.
    pub confirm_ttl: Duration,
    /// Life of a reset token. Default 15 min.
    pub reset_ttl: Duration,
    /// Whether register and forgot say what exists. Default no.
    pub reveal_existing: bool,
    /// Whether administrators get reset tokens by mail. Default no.
    pub reset_administrators: bool,
    /// Whether owners are told of logins from new networks or after many failures. Default yes.
    pub notify_logins: bool,
    /// Threads that hash passwords; default: processors less one, at least 1.
    pub hash_threads: usize,
    /// Name of the header that carries an API key, lower case. Default `x-api-key`.
    pub api_key_header: HeaderName,
}

pub(super) fn read(mut reader: Reader<'_>) -> AccountSettings {
    let registrations = [
        ("open", Registration::Open),
        ("invite", Registration::Invite),
        ("closed", Registration::Closed),
    ];
    let settings = AccountSettings {
        registration: reader
            .choice("registration", &registrations, &[])
            .unwrap_or(Registration::Open),
        lockout_attempts: reader
            .number("lockout_attempts", 1..=100_000)
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(5),
        lockout: reader
            .seconds("lockout_s", 1..=86_400)
            .unwrap_or(Duration::from_mins(10)),
        password_length_min: reader.count("password_length_min", 8..=128).unwrap_or(8),
        password_classes_min: reader.count("password_classes_min", 0..=4).unwrap_or(3),
        confirm_ttl: reader
            .seconds("confirm_ttl_s", 1..=30 * 86_400)
            .unwrap_or(Duration::from_hours(24)),
        reset_ttl: reader
            .seconds("reset_ttl_s", 1..=86_400)
            .unwrap_or(Duration::from_mins(15)),
        reveal_existing: reader.flag("reveal_existing").unwrap_or(false),
        reset_administrators: reader.flag("reset_administrators").unwrap_or(false),
        notify_logins: reader.flag("notify_logins").unwrap_or(true),
        hash_threads: reader
            .count("hash_threads", 1..=256)
            .unwrap_or_else(|| processors().saturating_sub(1).max(1)),
        api_key_header: reader
            .text("api_key_header", headers::EXPECTED, api_key_header)
            .unwrap_or(HeaderName::from_static(headers::API_KEY)),
    };
    reader.finish();
    settings
}

/// Takes the name of a header that is ours to give; identity headers are removed from requests, so a key in one of
/// them would never arrive.
fn api_key_header(text: &str) -> Option<HeaderName> {
    let name = headers::name(text)?;
    let is_identity = IdentityHeaderNames::default().all().contains(&&name);
    (!is_identity).then_some(name)
}
