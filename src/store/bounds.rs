//! How much one account, one resource or a stranger can have at rest. Each is counted inside the transaction that adds to
//! it, so that no number of calls at once goes beyond.

/// API keys of one account: each is looked at when they are listed and when a password ends them.
pub const KEYS_MAX: usize = 50;
/// Sessions of one account. A login beyond ends the one that was not used for the longest time, as people expect: nobody
/// is kept out by devices that they have forgotten.
pub const SESSIONS_MAX: usize = 200;
/// One-time tokens of one account. One more voids the one that would expire first.
pub const TOKENS_MAX: usize = 16;
/// Memberships of one account, whoever gave them. One more is refused to the giver.
pub const MEMBERSHIPS_MAX: u64 = 10_000;
/// Members of one resource.
pub const MEMBERS_MAX: u64 = 100_000;
/// Pending accounts that strangers have registered.
pub const PENDING_MAX: u64 = 50_000;
