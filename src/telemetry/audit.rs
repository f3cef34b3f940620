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
    RevokeApiKey,
    SetMembership,
    EndMembership,
    CreateAccount,
    ChangeAccount,
    RotateKeys,
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

/// Writes one event to the log, under the target `audit`.
pub fn record(_event: &AuditEvent<'_>) {
    todo!()
}
