//! `[audit]`: what is demanded of the audit trail.

use crate::config::forms::Flag;
use crate::config::keys::keys;
use crate::config::reader::Reader;

keys! { pub(super) AuditKeys = "audit"; {
    required: bool = Flag => false;
}}

/// `[audit]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// Whether nothing may be done that cannot be put into the trail: such an action is answered with 503.
    pub required: bool,
}

pub(super) fn read(mut reader: Reader<'_>) -> AuditSettings {
    let settings = AuditSettings {
        required: reader.get(&AuditKeys::required),
    };
    reader.finish();
    settings
}
