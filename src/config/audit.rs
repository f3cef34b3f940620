//! `[audit]`: requirements for the audit trail.

use crate::config::forms::flag;
use crate::config::keys::keys;
use crate::config::reader::SectionReader;

keys! { pub(super) AuditKeys = "audit"; {
    /// true: an action that the audit trail cannot tell of is refused with 503 within a second. Its event is written before the
    /// change is made, with the outcome "begun", and again with its outcome. docs/audit.md has the details.
    required: bool = flag() => false;
}}

/// `[audit]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// Whether an action that cannot be recorded in the audit trail is refused with 503.
    pub required: bool,
}

pub(super) fn read(mut reader: SectionReader<'_>) -> AuditSettings {
    let settings = AuditSettings {
        required: reader.get(&AuditKeys::required),
    };
    reader.finish();
    settings
}
