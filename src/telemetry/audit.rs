//! Audit events: one JSON line for each change or attempt on an account.
//!
//! Events travel through `tracing`, so that code that records one needs no handle; `AuditLines` writes them.
//! `docs/audit.md` documents each field and each action.

use std::fmt::Debug;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::telemetry::output::{Output, Stream, Unrecorded};

/// The target reserved for audit events.
pub(crate) const TARGET: &str = "audit";

/// An action, completed or attempted.
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
    RemoveAccount,
    ImportAccount,
    ChangeName,
    RequestIdentity,
    ChangeIdentity,
    ChangeSettings,
    RotateKeys,
    RenewKeyFile,
    RestoreStore,
    Reload,
}

impl AuditAction {
    /// Returns the name in the log: stable, `snake_case`.
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
            Self::RemoveAccount => "remove_account",
            Self::ImportAccount => "import_account",
            Self::ChangeName => "change_name",
            Self::RequestIdentity => "request_identity",
            Self::ChangeIdentity => "change_identity",
            Self::ChangeSettings => "change_settings",
            Self::RotateKeys => "rotate_keys",
            Self::RenewKeyFile => "renew_key_file",
            Self::RestoreStore => "restore_store",
            Self::Reload => "reload",
        }
    }
}

/// One audit event. Contains no secret: names, ids and outcomes only.
#[derive(Clone, Debug)]
pub struct AuditEvent<'a> {
    /// The action.
    pub action: AuditAction,
    /// `ok`, or the code of the refusal.
    pub outcome: &'a str,
    /// The uid of the actor, `cli` or `signal`.
    pub actor: Option<&'a str>,
    /// The account acted on.
    pub subject: Option<&'a str>,
    /// The client network of the request.
    pub from: Option<&'a str>,
    /// The request id.
    pub request_id: Option<&'a str>,
    /// Another object acted on: a key id, `list/42`.
    pub object: Option<&'a str>,
}

impl<'a> AuditEvent<'a> {
    /// Creates an event of the process itself, which belongs to no request and no account.
    #[must_use]
    pub const fn by_process(actor: &'a str, action: AuditAction, outcome: &'a str) -> Self {
        Self {
            action,
            outcome,
            actor: Some(actor),
            subject: None,
            from: None,
            request_id: None,
            object: None,
        }
    }
}

/// Records an event that was completed or refused. Never waits; emitted under the target `audit`, which `AuditLines`
/// writes.
pub fn record(event: &AuditEvent<'_>) {
    tracing::info!(
        target: TARGET,
        action = event.action.as_str(),
        outcome = event.outcome,
        actor = event.actor,
        subject = event.subject,
        from = event.from,
        request_id = event.request_id,
        object = event.object,
    );
}

/// Records an event that is about to happen, with the outcome `begun`, and returns once it is written. Does nothing
/// unless `[audit] required` is set.
///
/// # Errors
/// [`Unrecorded`] within a second if it cannot be written; the change must not be made then.
pub async fn begin(output: &Output, event: &AuditEvent<'_>) -> Result<(), Unrecorded> {
    let record = || AuditRecord {
        time: output.now().to_rfc3339(),
        audit: event.action.as_str().to_owned(),
        outcome: event.outcome.to_owned(),
        actor: event.actor.map(str::to_owned),
        subject: event.subject.map(str::to_owned),
        from: event.from.map(str::to_owned),
        request_id: event.request_id.map(str::to_owned),
        object: event.object.map(str::to_owned),
    };
    output.begin(|| record().to_bytes()).await
}

/// The outcome of an event that is about to happen.
pub const BEGUN: &str = "begun";
/// The outcome of an event that was completed.
pub const DONE: &str = "ok";

/// One event in written form: every field in every line, `null` if unknown.
#[derive(Default, serde::Serialize)]
struct AuditRecord {
    time: String,
    audit: String,
    outcome: String,
    actor: Option<String>,
    subject: Option<String>,
    from: Option<String>,
    request_id: Option<String>,
    object: Option<String>,
}

impl AuditRecord {
    fn to_bytes(&self) -> Vec<u8> {
        // Serializing texts does not fail.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

impl Visit for AuditRecord {
    fn record_str(&mut self, field: &Field, value: &str) {
        let value = value.to_owned();
        match field.name() {
            "action" => self.audit = value,
            "outcome" => self.outcome = value,
            "actor" => self.actor = Some(value),
            "subject" => self.subject = Some(value),
            "from" => self.from = Some(value),
            "request_id" => self.request_id = Some(value),
            "object" => self.object = Some(value),
            _ => {}
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn Debug) {
        // Every field of an event is a text.
    }
}

/// A layer that queues audit events as JSON, one line each. Refusals go to a separate stream: strangers can cause any
/// number of them, and they must not displace completed actions.
#[derive(Debug)]
pub(crate) struct AuditLines(pub(crate) Arc<Output>);

impl<S: Subscriber> Layer<S> for AuditLines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut line = AuditRecord {
            time: self.0.now().to_rfc3339(),
            ..AuditRecord::default()
        };
        event.record(&mut line);
        let stream = if line.outcome == DONE {
            Stream::Audit
        } else {
            Stream::AuditRefusals
        };
        self.0.line(stream, line.to_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};
    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::test_kit::Lines;

    /// The page for operators.
    const PAGE: &str = include_str!("../../docs/audit.md");

    /// Every action once.
    const ACTIONS: [AuditAction; 27] = [
        AuditAction::Register,
        AuditAction::SetPassword,
        AuditAction::ChangePassword,
        AuditAction::RequestReset,
        AuditAction::LogIn,
        AuditAction::Refresh,
        AuditAction::RefreshReuse,
        AuditAction::LogOut,
        AuditAction::EndSession,
        AuditAction::CreateApiKey,
        AuditAction::ChangeApiKey,
        AuditAction::RotateApiKey,
        AuditAction::RevokeApiKey,
        AuditAction::SetMembership,
        AuditAction::EndMembership,
        AuditAction::CreateAccount,
        AuditAction::ChangeAccount,
        AuditAction::RemoveAccount,
        AuditAction::ImportAccount,
        AuditAction::ChangeName,
        AuditAction::RequestIdentity,
        AuditAction::ChangeIdentity,
        AuditAction::ChangeSettings,
        AuditAction::RotateKeys,
        AuditAction::RenewKeyFile,
        AuditAction::RestoreStore,
        AuditAction::Reload,
    ];

    fn written(event: &AuditEvent<'_>) -> String {
        let lines = Lines::default();
        let output = lines.output();
        let layer = AuditLines(Arc::clone(&output));
        tracing::subscriber::with_default(Registry::default().with(layer), || record(event));
        output.close();
        lines.text()
    }

    fn event<'a>() -> AuditEvent<'a> {
        AuditEvent {
            action: AuditAction::SetMembership,
            outcome: "ok",
            actor: Some("u-aaaaaaaa"),
            subject: None,
            from: None,
            request_id: None,
            object: Some("list/42\n{\"forged\":1}\u{1b}[31m"),
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let text = written(&event());
        assert_eq!(text.lines().count(), 1);
        assert!(text.ends_with('\n') && !text.contains('\u{1b}'));
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            json!({
                "time": "2027-01-15T08:00:00.000Z",
                "audit": "set_membership",
                "outcome": "ok",
                "actor": "u-aaaaaaaa",
                "subject": null,
                "from": null,
                "request_id": null,
                "object": "list/42\n{\"forged\":1}\u{1b}[31m",
            })
        );
    }

    /// Returns the words in backquotes that begin the rows of a table.
    fn rows(section: &str) -> BTreeSet<String> {
        let (_, after) = PAGE.split_once(section).unwrap();
        let table = after.split("\n## ").next().unwrap();
        let word = |line: &str| {
            let (word, _) = line.strip_prefix("| `")?.split_once('`')?;
            Some(word.to_owned())
        };
        table.lines().filter_map(word).collect()
    }

    #[test]
    fn the_page_tells_every_field_and_every_action_and_no_other() {
        let line: Value = serde_json::from_str(&written(&event())).unwrap();
        let fields = line.as_object().unwrap().keys().cloned().collect();
        assert_eq!(rows("\n## Fields\n"), fields);
        let actions = ACTIONS.iter().map(|it| it.as_str().to_owned());
        let actions: BTreeSet<_> = actions.collect();
        assert_eq!(actions.len(), ACTIONS.len());
        assert_eq!(rows("\n## Actions\n"), actions);
    }
}
