//! Floor 3: the account's life, without HTTP.

/// What the use cases share.
#[derive(Debug)]
pub struct Accounts {}
