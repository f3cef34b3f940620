//! `[account]`: registration, passwords and logins.

use std::time::Duration;

use http::HeaderName;

use crate::config::forms::{choice, flag, number, seconds, text};
use crate::config::headers;
use crate::config::listen::processors;
use crate::config::settings::settings;
use crate::model::route::IdentityHeaderNames;

const DAY_S: u64 = 86_400;
const REGISTRATIONS: &[(&str, Registration)] = &[
    ("open", Registration::Open),
    ("invite", Registration::Invite),
    ("closed", Registration::Closed),
];

settings! {
/// Settings of accounts.
pub struct AccountSettings {}
AccountKeys = "account"; {
    /// Who may register: "open", "invite" (an administrator invites) or "closed".
    registration: Registration = choice(REGISTRATIONS, &[]) => Registration::Open;
    /// Maximum number of failed passwords for one name, or one account, from one client network (an IPv4 address or an IPv6
    /// /64) within lockout_s, a sliding window; further attempts are answered with 429 until the oldest failure has left the
    /// window. All names together may have 100 failures from one network, or lockout_attempts if that is more. After the
    /// same number of failures in a row from anywhere, an account pauses after each further failure, longer each time and at
    /// most lockout_s, except for networks where it is logged in. `doorward account set-password` ends the pause of an account.
    lockout_attempts: u32 = number(1..=100_000) => 5;
    lockout_s: Duration = seconds(1..=DAY_S) => Duration::from_mins(10), as lockout;
    /// Minimum length of a password in characters, at least 8.
    password_length_min: usize = number(8..=128) => 8;
    /// Number of character classes (lower case, upper case, digit, punctuation) that a password under 15 characters needs; 0:
    /// none.
    password_classes_min: usize = number(0..=4) => 3;
    /// Life of a token that confirms a registration, and of one that resets a password.
    confirm_ttl_s: Duration = seconds(1..=30 * DAY_S) => Duration::from_hours(24), as confirm_ttl;
    reset_ttl_s: Duration = seconds(1..=DAY_S) => Duration::from_mins(15), as reset_ttl;
    /// true: the answers to registration and forgotten passwords reveal whether a name or an address has an account; the
    /// owner gets no mail instead. For places where people know each other anyway.
    reveal_existing: bool = flag() => false;
    /// true: an administrator can reset a forgotten password by mail, and so can anyone who reads that mailbox.
    reset_administrators: bool = flag() => false;
    /// true: the owner gets a mail when a login comes from a client network that is new to the account (the last 16 are
    /// known, and the first needs no mail), or follows five or more failed passwords in a row.
    notify_logins: bool = flag() => true;
    /// Number of threads that hash passwords; each needs 19 MiB while it does. Default: one less than the processors, at
    /// least 1.
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

/// Reads the name of a header that can carry an API key. Identity headers cannot, since they are removed from requests.
fn api_key_header(text: &str) -> Option<HeaderName> {
    let name = headers::name(text)?;
    let is_identity = IdentityHeaderNames::default().all().contains(&&name);
    (!is_identity).then_some(name)
}
