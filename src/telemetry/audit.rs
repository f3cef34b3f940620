//! Audit events: one line for each change or attempt on an account.

/// What was done or tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum AuditAction {
    Register,
    SetPassword,
    ChangePassword,
    RequestReset,
    LogIn,
    Refresh,
    RefreshReuse,
    LogOut,
    EndSession,
    CreateApiKey,
    ChangeApiKey,
    RotateApiKey,
    RevokeApiKey,
    SetMembership,
    EndMembership,
    CreateAccount,
    ChangeAccount,
    RotateKeys,
}

impl AuditAction {
    /// The name in the log: stable, `snake_case`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::SetPassword => "set_password",
            Self::ChangePassword => "change_password",
            Self::RequestReset => "request_reset",
            Self::LogIn => "log_in",
            Self::Refresh => "refresh",
            Self::RefreshReuse => "refresh_reuse",
            Self::LogOut => "log_out",
            Self::EndSession => "end_session",
            Self::CreateApiKey => "create_api_key",
            Self::ChangeApiKey => "change_api_key",
            Self::RotateApiKey => "rotate_api_key",
            Self::RevokeApiKey => "revoke_api_key",
            Self::SetMembership => "set_membership",
            Self::EndMembership => "end_membership",
            Self::CreateAccount => "create_account",
            Self::ChangeAccount => "change_account",
            Self::RotateKeys => "rotate_keys",
        }
    }
}

/// One event. Holds no secret: names, ids and outcomes only.
#[derive(Clone, Debug)]
pub struct AuditEvent<'a> {
    /// What.
    pub action: AuditAction,
    /// `ok`, or the code of the refusal.
    pub outcome: &'a str,
    /// Who did it: a uid, or `cli`.
    pub actor: Option<&'a str>,
    /// On whose account.
    pub subject: Option<&'a str>,
    /// From where: the client network.
    pub from: Option<&'a str>,
    /// Request id.
    pub request_id: Option<&'a str>,
    /// On what else: a key id, `list/42`.
    pub object: Option<&'a str>,
}

/// Writes one event to the log, under the target `audit`; what is not known is left out. Texts are escaped there.
pub fn record(event: &AuditEvent<'_>) {
    tracing::info!(
        target: "audit",
        action = event.action.as_str(),
        outcome = event.outcome,
        actor = event.actor,
        subject = event.subject,
        from = event.from,
        request_id = event.request_id,
        object = event.object,
        "account event"
    );
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Layer, Registry};

    use super::*;

    /// Keeps target and fields of each event.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    struct Fields(String);

    impl tracing::field::Visit for Fields {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            // Writing into a `String` does not fail.
            let _ = write!(self.0, " {field}={value:?}");
        }
    }

    impl<S: tracing::Subscriber> Layer<S> for Kept {
        fn on_event(
            &self,
            event: &tracing::Event<'_>,
            _context: tracing_subscriber::layer::Context<'_, S>,
        ) {
            let mut fields = Fields(event.metadata().target().to_owned());
            event.record(&mut fields);
            self.0.lock().unwrap().push(fields.0);
        }
    }

    #[test]
    fn an_event_is_one_line_of_what_is_known() {
        let kept = Kept::default();
        tracing::subscriber::with_default(Registry::default().with(kept.clone()), || {
            record(&AuditEvent {
                action: AuditAction::SetMembership,
                outcome: "ok",
                actor: Some("u-aaaaaaaa"),
                subject: None,
                from: None,
                request_id: None,
                object: Some("list/42\nforged"),
            });
        });
        assert_eq!(
            *kept.0.lock().unwrap(),
            [
                "audit message=account event action=\"set_membership\" outcome=\"ok\" actor=\"u-aaaaaaaa\" \
              object=\"list/42\\nforged\""
            ]
        );
    }
}
