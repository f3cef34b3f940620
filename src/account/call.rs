//! The circumstances of a call, for the audit trail.

use crate::account::Accounts;
use crate::account::halt::{Halt, Refuses};
use crate::model::error_code::ErrorCode;
use crate::model::id::UserId;
use crate::telemetry::audit::{self, AuditAction, AuditEvent};
use crate::telemetry::output::{Output, Unrecorded};

/// The audit outcome of a use case that sends no mail because a limit is used up. Callers never see it.
pub(in crate::account) const MAIL_LIMITED: &str = "mail_limited";

/// The audit outcome of a use case that found an account which may not act. Callers never see it.
pub(in crate::account) const NOT_ACTIVE: &str = "account_not_active";

/// The caller, client network and request id of a call. They are recorded, and limits are counted by the network; no
/// right follows from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The uid of the recognised caller, or `cli`.
    pub actor: Option<String>,
    /// The client network as written by [`client_network_name`](crate::model::client_network::client_network_name).
    pub from: Option<String>,
    /// The request's id.
    pub request_id: Option<String>,
}

impl Call {
    /// Returns a call of the operator at the machine.
    #[must_use]
    pub fn cli() -> Self {
        Self {
            actor: Some("cli".to_owned()),
            from: None,
            request_id: None,
        }
    }

    /// Writes one audit event: `outcome` is `ok` or the code of the refusal.
    pub(in crate::account) fn record(
        &self,
        action: AuditAction,
        outcome: &str,
        subject: Option<&str>,
        object: Option<&str>,
    ) {
        audit::record(&self.event(action, outcome, subject, object));
    }

    /// Ends a use case: writes the audit event of its result or refusal and returns the result. A failure has no event.
    pub(in crate::account) fn settle<T, R: Refuses>(
        &self,
        action: AuditAction,
        subject: Option<&UserId>,
        object: Option<&str>,
        result: Result<T, Halt<R>>,
    ) -> Result<T, Halt<R>> {
        if result.is_ok() {
            self.record(action, audit::DONE, subject.map(UserId::as_str), object);
        }
        self.settle_refusal(action, subject, object, result)
    }

    /// Like [`Call::settle`], for a use case that has already written the event of its success.
    pub(in crate::account) fn settle_refusal<T, R: Refuses>(
        &self,
        action: AuditAction,
        subject: Option<&UserId>,
        object: Option<&str>,
        result: Result<T, Halt<R>>,
    ) -> Result<T, Halt<R>> {
        if let Err(Halt::Refused(refusal)) = &result {
            let subject = subject.map(UserId::as_str);
            self.record(action, refusal.outcome(), subject, object);
        }
        result
    }

    /// Records an intended change in the audit trail, where the trail is required; see [`Accounts::begin`].
    pub(in crate::account) async fn begin(
        &self,
        output: &Output,
        action: AuditAction,
        subject: Option<&UserId>,
        object: Option<&str>,
    ) -> Result<(), Unrecorded> {
        let subject = subject.map(UserId::as_str);
        let event = self.event(action, audit::BEGUN, subject, object);
        audit::begin(output, &event).await
    }

    fn event<'a>(
        &'a self,
        action: AuditAction,
        outcome: &'a str,
        subject: Option<&'a str>,
        object: Option<&'a str>,
    ) -> AuditEvent<'a> {
        AuditEvent {
            action,
            outcome,
            actor: self.actor.as_deref(),
            subject,
            from: self.from.as_deref(),
            request_id: self.request_id.as_deref(),
            object,
        }
    }
}

impl Accounts {
    /// Records an intended change in the audit trail, where the trail is required. Each use case calls this after all
    /// its checks and before its change, so that failed attempts of strangers need no room in the trail.
    ///
    /// # Errors
    /// [`Unrecorded`] within a second, in which case the change must not be made.
    pub(in crate::account) async fn begin(
        &self,
        call: &Call,
        action: AuditAction,
        subject: Option<&UserId>,
        object: Option<&str>,
    ) -> Result<(), Unrecorded> {
        call.begin(&self.services.output, action, subject, object).await
    }

    /// Checks before a password guess whether the audit trail accepts lines, where it is required. Otherwise guesses
    /// would continue unrecorded, and the response would reveal the right one. Does not wait.
    ///
    /// # Errors
    /// [`Unrecorded`], in which case the password must not be verified.
    pub(in crate::account) fn check_trail(
        &self,
        call: &Call,
        action: AuditAction,
    ) -> Result<(), Unrecorded> {
        if self.services.output.takes_lines() {
            return Ok(());
        }
        // Writing this line, or the note of its loss, detects when the output works again.
        call.record(action, ErrorCode::AuditUnavailable.as_str(), None, None);
        Err(Unrecorded)
    }
}
