//! Limits on what one account, one resource or unregistered callers can store. Each is checked inside the transaction
//! that adds to it, so concurrent calls cannot exceed it.

/// API keys of one account: all of them are read when they are listed and when a password change revokes them.
pub const KEYS_MAX: usize = 50;
/// Sessions of one account. A login beyond the limit ends the least recently used one, so that forgotten devices never
/// lock a person out.
pub const SESSIONS_MAX: usize = 200;
/// One-time tokens of one account. A further one voids the one that would expire first.
pub const TOKENS_MAX: usize = 16;
/// Memberships of one account, from all sources. A further one is refused.
pub const MEMBERSHIPS_MAX: u64 = 10_000;
/// Members of one resource.
pub const MEMBERS_MAX: u64 = 100_000;
/// Pending accounts from self-registration.
pub const PENDING_MAX: u64 = 50_000;
