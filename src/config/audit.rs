//! `[audit]`: requirements for the audit trail.

use crate::config::forms::flag;
use crate::config::settings::settings;

settings! {
/// `[audit]`
pub struct AuditSettings {}
AuditKeys = "audit"; {
    /// true: an action that cannot be recorded in the audit trail is refused with 503 within a second. Its event is written
    /// before the change is made, with the outcome "begun", and again with its outcome. docs/audit.md has the details.
    required: bool = flag() => false;
}}
