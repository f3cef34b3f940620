//! `[account]`: registration, passwords and logins.

use std::time::Duration;

use http::HeaderName;

use crate::config::forms::{choice, flag, number, seconds, text};
use crate::config::headers;
use crate::config::keys::keys;
use crate::config::listen::processors;
use crate::config::reader::SectionReader;
use crate::model::route::IdentityHeaderNames;

const DAY_S: u64 = 86_400;
const REGISTRATIONS: &[(&str, Registration)] = &[
    ("open", Registration::Open),
    ("invite", Registration::Invite),
    ("closed", Registration::Closed),
];

keys! { pub(super) AccountKeys = "account"; {
    /// Who may register: "open", "invite" (an administrator invites) or "closed".
    registration: Registration = choice(REGISTRATIONS, &[]) => Registration::Open;
    /// Failed passwords that one name, or one account, may have from one client network (an IPv4 address, an IPv6 /64) within
    /// lockout_s, a sliding window: then 429 until the oldest has left it. All names together have 100 from one network, or
    /// lockout_attempts if that is more; and an account that many in a row from anywhere, before it pauses longer after each,
    /// at most lockout_s, except for networks where it is logged in. `doorward account set-password` ends it for an account.
    lockout_attempts: u32 = number(1..=100_000) => 5;
    lockout_s: Duration = seconds(1..=DAY_S) => Duration::from_mins(10);
    /// Shortest password, in characters, at least 8.
    password_length_min: usize = number(8..=128) => 8;
    /// Of lower case, upper case, digit and punctuation, for passwords under 15 characters; 0 turns it off.
    password_classes_min: usize = number(0..=4) => 3;
    /// Life of the tokens that confirm a registration and reset a password.
    confirm_ttl_s: Duration = seconds(1..=30 * DAY_S) => Duration::from_hours(24);
    reset_ttl_s: Duration = seconds(1..=DAY_S) => Duration::from_mins(15);
    /// true: register and forgot tell callers whether a name or an address has an account, instead of telling the owner by
    /// mail: for places where people know each other anyway.
    reveal_existing: bool = flag() => false;
    /// true: an administrator who forgot the password gets a reset by mail. Whoever reads that mailbox is one then.
    reset_administrators: bool = flag() => false;
    /// true: a mail to the owner when a login comes from a client network that is new to the account (the last 16 are known,
    /// and the first needs no mail), or follows five or more failed passwords in a row.
    notify_logins: bool = flag() => true;
    /// Threads that hash passwords, 19 MiB each while they do. Default: the processors less one, at least 1.
    hash_threads: usize = number(1..=256) => processors().saturating_sub(1).max(1), restart account.hash_threads;
    /// The header that carries an API key.
    api_key_header: HeaderName = text(headers::EXPECTED, api_key_header) => HeaderName::from_static(headers::API_KEY);
}}

/// Who may register an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Anyone.
    Open,
    /// Only people whom an administrator invites.
    Invite,
    /// Registration is off.
    Closed,
}

/// Settings of accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSettings {
    /// Who may register an account.
    pub registration: Registration,
    /// Maximum number of failed passwords for one name, or one account, from one client network.
    pub lockout_attempts: u32,
    /// The time for which a failed password counts.
    pub lockout: Duration,
    /// Shortest password, in characters.
    pub password_length_min: usize,
    /// Number of character classes that a password under 15 characters needs.
    pub password_classes_min: usize,
    /// Life of a confirm token.
    pub confirm_ttl: Duration,
    /// Life of a reset token.
    pub reset_ttl: Duration,
    /// Whether the answers to registration and password reset reveal that an account exists.
    pub reveal_existing: bool,
    /// Whether administrators can reset their passwords by mail.
    pub reset_administrators: bool,
    /// Whether owners get a mail after a login from a new network or after many failures.
    pub notify_logins: bool,
    /// Threads that hash passwords.
    pub hash_threads: usize,
    /// Name of the header that carries an API key, in lower case.
    pub api_key_header: HeaderName,
}

pub(super) fn read(mut reader: SectionReader<'_>) -> AccountSettings {
    let settings = AccountSettings {
        registration: reader.get(&AccountKeys::registration),
        lockout_attempts: reader.get(&AccountKeys::lockout_attempts),
        lockout: reader.get(&AccountKeys::lockout_s),
        password_length_min: reader.get(&AccountKeys::password_length_min),
        password_classes_min: reader.get(&AccountKeys::password_classes_min),
        confirm_ttl: reader.get(&AccountKeys::confirm_ttl_s),
        reset_ttl: reader.get(&AccountKeys::reset_ttl_s),
        reveal_existing: reader.get(&AccountKeys::reveal_existing),
        reset_administrators: reader.get(&AccountKeys::reset_administrators),
        notify_logins: reader.get(&AccountKeys::notify_logins),
        hash_threads: reader.get(&AccountKeys::hash_threads),
        api_key_header: reader.get(&AccountKeys::api_key_header),
    };
    reader.finish();
    settings
}

/// Reads the name of a header that can carry an API key. Identity headers cannot, since they are removed from requests.
fn api_key_header(text: &str) -> Option<HeaderName> {
    let name = headers::name(text)?;
    let is_identity = IdentityHeaderNames::default().all().contains(&&name);
    (!is_identity).then_some(name)
}
