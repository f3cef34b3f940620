//! `[audit]`: what is demanded of the audit trail.

use crate::config::reader::Reader;

/// `[audit]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// Whether nothing may be done that cannot be put into the trail: such an action is answered with 503.
    pub required: bool,
}

pub(super) fn read(mut reader: Reader<'_>) -> AuditSettings {
    let settings = AuditSettings {
        required: reader.flag("required").unwrap_or(false),
    };
    reader.finish();
    settings
}
