//! The circumstances of a call, for the audit trail.

use crate::account::Accounts;
use crate::account::halt::{Halt, Refuses};
use crate::model::error_code::ErrorCode;
use crate::model::id::UserId;
use crate::telemetry::audit::{self, AuditAction, AuditEvent};
use crate::telemetry::output::{Output, Unrecorded};

/// The outcome of a use case that sends no mail because there were too many. No caller learns it.
pub(in crate::account) const MAIL_LIMITED: &str = "mail_limited";

/// The outcome of a use case that found an account which may not act. No caller learns it.
pub(in crate::account) const NOT_ACTIVE: &str = "account_not_active";

/// Who asks, from where, under which request id. It is written down and nothing else: no right comes from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The uid of the recognised caller, or `cli`.
    pub actor: Option<String>,
    /// The client network, as [`client_network_name`](crate::model::client_network::client_network_name) writes it.
    pub from: Option<String>,
    /// The request's id.
    pub request_id: Option<String>,
}

impl Call {
    /// A call of the operator at the machine.
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

    /// Ends a use case: writes the audit event of its result, or of its refusal, and gives it back. A failure has no event.
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

    /// As [`Call::settle`], for a use case that writes the event of its success earlier.
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

    /// Puts into the audit trail what is about to be done, where the trail is required; see [`Accounts::begin`].
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
    /// Puts into the audit trail what is about to be done, where the trail is required. Each use case asks for it after
    /// all its checks and before its change: a failed attempt of a stranger needs no place in the trail.
    ///
    /// # Errors
    /// [`Unrecorded`] within a second; then the change must not be made.
    pub(in crate::account) async fn begin(
        &self,
        call: &Call,
        action: AuditAction,
        subject: Option<&UserId>,
        object: Option<&str>,
    ) -> Result<(), Unrecorded> {
        call.begin(&self.parts.output, action, subject, object)
            .await
    }

    /// Asks before a guess at a password whether the audit trail takes lines, where it is required: else guesses would go
    /// on that nobody hears of, and the right one would be told by its answer. Does not wait.
    ///
    /// # Errors
    /// [`Unrecorded`]; then the password must not be looked at.
    pub(in crate::account) fn check_trail(
        &self,
        call: &Call,
        action: AuditAction,
    ) -> Result<(), Unrecorded> {
        if self.parts.output.takes_lines() {
            return Ok(());
        }
        // Writing this line, or the note of its loss, shows when the output works again.
        call.record(action, ErrorCode::AuditUnavailable.as_str(), None, None);
        Err(Unrecorded)
    }
}
