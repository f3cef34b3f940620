//! Extractors that check who is calling, and their part of the API document.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, Method, header};

use crate::account::call::Call;
use crate::account::{Accounts, Actor, is_administrator};
use crate::auth::view::OwnView;
use crate::model::access::Scope;
use crate::model::account::Account;
use crate::model::client_network::client_network_name;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::id::SessionId;
use crate::model::identity::{Identity, Principal};
use crate::snapshot::RequestScope;
use crate::web::error::WebProblem;
use crate::web::openapi::{API_KEY, BEARER, COOKIE, Describe, Operation, Schemas};

/// A form sent by one of the gateway's own pages, with or without a login. Forms of other origins are refused.
pub(in crate::web) struct OwnPage(pub(in crate::web) RequestScope);

/// The request's scope, without any requirement on the caller.
pub(in crate::web) struct AnyRequest(pub(in crate::web) RequestScope);

/// A recognised caller, including one that must change its password first.
pub(in crate::web) struct RecognisedCaller {
    pub(in crate::web) scope: RequestScope,
    pub(in crate::web) identity: Arc<Identity>,
}

/// The identity this credential had on its previous request, read before the caller is recognised.
pub(in crate::web) struct LastIdentity(pub(in crate::web) Option<Arc<Identity>>);

/// A recognised caller that has no pending change of password.
pub(in crate::web) struct AnyCaller(pub(in crate::web) RecognisedCaller);

/// A login of a local account, including one that must change its password first.
pub(in crate::web) struct AnyLogin {
    pub(in crate::web) scope: RequestScope,
    pub(in crate::web) identity: Arc<Identity>,
    pub(in crate::web) account: Arc<Account>,
    pub(in crate::web) session: SessionId,
}

/// A login that the handler recognises only if the body requires one.
pub(in crate::web) struct DeferredLogin(Parts);

/// A login of a local account that has no pending change of password.
pub(in crate::web) struct OwnLogin(pub(in crate::web) AnyLogin);

/// A login, or an API key with the scope `auth:members`. The use case decides what the caller may change.
pub(in crate::web) struct MemberCaller(pub(in crate::web) RecognisedCaller);

/// An administrator's login, or an administrator's API key with the scope `auth:admin`.
pub(in crate::web) struct Administrator(pub(in crate::web) RecognisedCaller);

impl RecognisedCaller {
    pub(in crate::web) async fn of(
        scope: RequestScope,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Self, WebProblem> {
        let found = scope.recognise(&own_view(&scope, method, headers)).await?;
        let identity = found.ok_or(DenyReason::CredentialMissing)?;
        Ok(Self { scope, identity })
    }

    pub(in crate::web) fn accounts(&self) -> &Accounts {
        &self.scope.snapshot.accounts
    }

    pub(in crate::web) fn actor(&self) -> Actor<'_> {
        Actor::Caller(&self.identity)
    }

    pub(in crate::web) fn call(&self) -> Call {
        call(&self.scope, Some(&self.identity))
    }
}

/// Whether a login has no access until its password is changed.
pub(in crate::web) fn owes_password(identity: &Identity) -> bool {
    matches!(&identity.principal, Principal::Own { account, .. } if account.password_must_change)
}

impl AnyLogin {
    pub(in crate::web) fn accounts(&self) -> &Accounts {
        &self.scope.snapshot.accounts
    }

    pub(in crate::web) fn call(&self) -> Call {
        call(&self.scope, Some(&self.identity))
    }
}

impl DeferredLogin {
    /// Recognises the login.
    pub(in crate::web) async fn login(mut self) -> Result<AnyLogin, WebProblem> {
        AnyLogin::from_request_parts(&mut self.0, &()).await
    }
}

/// The part of the request from which its caller is recognised.
pub(in crate::web) fn own_view<'a>(
    scope: &'a RequestScope,
    method: &'a Method,
    headers: &'a HeaderMap,
) -> OwnView<'a> {
    OwnView {
        method,
        headers,
        client: scope.client,
        origin: &scope.origin,
    }
}

/// Returns the account and session of a login; `None` for every other kind of credential.
pub(in crate::web) fn session_of(identity: &Identity) -> Option<(&Arc<Account>, &SessionId)> {
    match &identity.principal {
        Principal::Own { account, session } => Some((account, session.as_ref()?)),
        Principal::Foreign { .. } => None,
    }
}

/// Returns the circumstances of a request for the audit trail.
pub(in crate::web) fn call(scope: &RequestScope, caller: Option<&Identity>) -> Call {
    Call {
        actor: caller.map(|identity| identity.subject().to_owned()),
        from: Some(client_network_name(scope.client)),
        request_id: Some(scope.id.as_str().to_owned()),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AnyRequest {
    type Rejection = WebProblem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, WebProblem> {
        let scope = parts.extensions.get::<RequestScope>();
        scope
            .cloned()
            .map(Self)
            .ok_or_else(|| ErrorCode::Internal.into())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OwnPage {
    type Rejection = WebProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, WebProblem> {
        let AnyRequest(scope) = AnyRequest::from_request_parts(parts, state).await?;
        let view = own_view(&scope, &parts.method, &parts.headers);
        if scope.snapshot.authorizer.own_page_sent(&view) {
            return Ok(Self(scope));
        }
        let refused = ErrorCode::Denied(DenyReason::OriginRefused);
        if parts.headers.contains_key(header::ORIGIN) {
            return Err(refused.into());
        }
        let detail = "the Origin header is missing: browsers send it with a form; programs should send application/json";
        Err(WebProblem::because(refused, detail))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RecognisedCaller {
    type Rejection = WebProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, WebProblem> {
        let AnyRequest(scope) = AnyRequest::from_request_parts(parts, state).await?;
        Self::of(scope, &parts.method, &parts.headers).await
    }
}

impl<S: Send + Sync> FromRequestParts<S> for LastIdentity {
    type Rejection = WebProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, WebProblem> {
        let AnyRequest(scope) = AnyRequest::from_request_parts(parts, state).await?;
        Ok(Self(
            scope.snapshot.authorizer.last_identity(&parts.headers),
        ))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AnyCaller {
    type Rejection = WebProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, WebProblem> {
        let caller = RecognisedCaller::from_request_parts(parts, state).await?;
        if owes_password(&caller.identity) {
            return Err(DenyReason::PasswordMustChange.into());
        }
        Ok(Self(caller))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AnyLogin {
    type Rejection = WebProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, WebProblem> {
        let RecognisedCaller { scope, identity } =
            RecognisedCaller::from_request_parts(parts, state).await?;
        let (account, session) = session_of(&identity).ok_or(ErrorCode::LoginNeeded)?;
        let (account, session) = (Arc::clone(account), session.clone());
        Ok(Self {
            scope,
            identity,
            account,
            session,
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for DeferredLogin {
    type Rejection = WebProblem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, WebProblem> {
        Ok(Self(parts.clone()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OwnLogin {
    type Rejection = WebProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, WebProblem> {
        let login = AnyLogin::from_request_parts(parts, state).await?;
        if login.account.password_must_change {
            return Err(DenyReason::PasswordMustChange.into());
        }
        Ok(Self(login))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for MemberCaller {
    type Rejection = WebProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, WebProblem> {
        let AnyCaller(caller) = AnyCaller::from_request_parts(parts, state).await?;
        match &caller.identity.principal {
            Principal::Own {
                session: Some(_), ..
            } => Ok(Self(caller)),
            Principal::Own { session: None, .. } if caller.identity.has_scope(Scope::MEMBERS) => {
                Ok(Self(caller))
            }
            Principal::Own { session: None, .. } => Err(DenyReason::ScopeMissing.into()),
            Principal::Foreign { .. } => Err(ErrorCode::LoginNeeded.into()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Administrator {
    type Rejection = WebProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, WebProblem> {
        let AnyCaller(caller) = AnyCaller::from_request_parts(parts, state).await?;
        if is_administrator(&caller.identity) {
            return Ok(Self(caller));
        }
        let lacks_scope = matches!(
            &caller.identity.principal,
            Principal::Own { account, session: None } if account.is_admin
        );
        Err(if lacks_scope {
            DenyReason::ScopeMissing.into()
        } else {
            DenyReason::RoleMissing.into()
        })
    }
}

impl Describe for AnyRequest {}
impl Describe for LastIdentity {}

impl Describe for OwnPage {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.refuse(&[DenyReason::OriginRefused.into()]);
    }
}

impl Describe for RecognisedCaller {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.recognise(&[(BEARER, &[]), (COOKIE, &[]), (API_KEY, &[])]);
    }
}

impl Describe for AnyCaller {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        RecognisedCaller::describe(operation, schemas);
        operation.refuse(&[DenyReason::PasswordMustChange.into()]);
    }
}

impl Describe for AnyLogin {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.recognise(&[(BEARER, &[]), (COOKIE, &[])]);
        operation.refuse(&[ErrorCode::LoginNeeded]);
    }
}

impl Describe for DeferredLogin {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        AnyLogin::describe(operation, schemas);
        operation.recognise(&[("", &[])]);
    }
}

impl Describe for OwnLogin {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        AnyLogin::describe(operation, schemas);
        operation.refuse(&[DenyReason::PasswordMustChange.into()]);
    }
}

impl Describe for MemberCaller {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.recognise(&[(BEARER, &[]), (COOKIE, &[]), (API_KEY, &[Scope::MEMBERS])]);
        operation.refuse(&[
            DenyReason::PasswordMustChange.into(),
            DenyReason::ScopeMissing.into(),
            ErrorCode::LoginNeeded,
        ]);
    }
}

impl Describe for Administrator {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.recognise(&[
            (BEARER, &["admin"]),
            (COOKIE, &["admin"]),
            (API_KEY, &[Scope::ADMIN]),
        ]);
        operation.refuse(&[
            DenyReason::PasswordMustChange.into(),
            DenyReason::ScopeMissing.into(),
            DenyReason::RoleMissing.into(),
        ]);
    }
}
