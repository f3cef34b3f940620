//! Who may call what: extractors that a handler names in its arguments, and what they mean for the document.

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
use crate::model::id::SessionId;
use crate::model::identity::{Identity, Principal};
use crate::snapshot::RequestScope;
use crate::web::error::{Kind, Problem};
use crate::web::openapi::{API_KEY, BEARER, COOKIE, Describe, Operation, Schemas};

/// A post of one of our own pages, whoever is logged in: of a foreign page it is refused.
pub(in crate::web) struct OwnPage(pub(in crate::web) RequestScope);

/// The request's surroundings; anybody may call.
pub(in crate::web) struct Anybody(pub(in crate::web) RequestScope);

/// Whoever is recognised, however little they may do.
pub(in crate::web) struct Recognised {
    pub(in crate::web) scope: RequestScope,
    pub(in crate::web) identity: Arc<Identity>,
}

/// Whom the caller's credential stood for at its last request: taken before the caller is recognised anew.
pub(in crate::web) struct LastIdentity(pub(in crate::web) Option<Arc<Identity>>);

/// Whoever is recognised and owes no change of password.
pub(in crate::web) struct AnyCaller(pub(in crate::web) Recognised);

/// A login of an account of ours, even one that must change its password first.
pub(in crate::web) struct AnyLogin {
    pub(in crate::web) scope: RequestScope,
    pub(in crate::web) identity: Arc<Identity>,
    pub(in crate::web) account: Arc<Account>,
    pub(in crate::web) session: SessionId,
}

/// A login that is asked for only if the body says that one is needed.
pub(in crate::web) struct LoginLater(Parts);

/// A login of an account of ours.
pub(in crate::web) struct OwnLogin(pub(in crate::web) AnyLogin);

/// A login, or an API key with `auth:members`: what they may change is for the use case to say.
pub(in crate::web) struct MemberCaller(pub(in crate::web) Recognised);

/// A login of an administrator, or their API key with `auth:admin`.
pub(in crate::web) struct Administrator(pub(in crate::web) Recognised);

impl Recognised {
    pub(in crate::web) fn accounts(&self) -> &Accounts {
        &self.scope.snapshot.accounts
    }

    pub(in crate::web) fn actor(&self) -> Actor<'_> {
        Actor::Caller(&self.identity)
    }

    pub(in crate::web) fn call(&self) -> Call {
        call(&self.scope, Some(&self.identity))
    }

    fn owes_password(&self) -> bool {
        matches!(&self.identity.principal, Principal::Own { account, .. } if account.password_must_change)
    }
}

impl AnyLogin {
    pub(in crate::web) fn accounts(&self) -> &Accounts {
        &self.scope.snapshot.accounts
    }

    pub(in crate::web) fn call(&self) -> Call {
        call(&self.scope, Some(&self.identity))
    }
}

impl LoginLater {
    /// Recognises the login now.
    pub(in crate::web) async fn login(mut self) -> Result<AnyLogin, Problem> {
        AnyLogin::from_request_parts(&mut self.0, &()).await
    }
}

/// The request as far as its caller is told by it.
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

/// The circumstances of a request, for the audit trail.
pub(in crate::web) fn call(scope: &RequestScope, caller: Option<&Identity>) -> Call {
    Call {
        actor: caller.map(|identity| identity.subject().to_owned()),
        from: Some(client_network_name(scope.client)),
        request_id: Some(scope.id.as_str().to_owned()),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Anybody {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let scope = parts.extensions.get::<RequestScope>();
        scope
            .cloned()
            .map(Self)
            .ok_or_else(|| Kind::Internal.into())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OwnPage {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Anybody(scope) = Anybody::from_request_parts(parts, state).await?;
        let view = own_view(&scope, &parts.method, &parts.headers);
        if scope.snapshot.authorizer.own_page_sent(&view) {
            return Ok(Self(scope));
        }
        let refused = Kind::Denied(DenyReason::OriginRefused);
        if parts.headers.contains_key(header::ORIGIN) {
            return Err(refused.into());
        }
        let detail = "no Origin header came; a form comes from a page whose browser sends it, a program sends application/json";
        Err(Problem::because(refused, detail))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Recognised {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Anybody(scope) = Anybody::from_request_parts(parts, state).await?;
        let view = own_view(&scope, &parts.method, &parts.headers);
        let found = scope.recognise(&view).await?;
        let identity = found.ok_or(DenyReason::CredentialMissing)?;
        Ok(Self { scope, identity })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for LastIdentity {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Anybody(scope) = Anybody::from_request_parts(parts, state).await?;
        Ok(Self(
            scope.snapshot.authorizer.last_identity(&parts.headers),
        ))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AnyCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Recognised::from_request_parts(parts, state).await?;
        if caller.owes_password() {
            return Err(DenyReason::PasswordMustChange.into());
        }
        Ok(Self(caller))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AnyLogin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Recognised { scope, identity } = Recognised::from_request_parts(parts, state).await?;
        let Principal::Own {
            account,
            session: Some(session),
        } = &identity.principal
        else {
            return Err(Kind::LoginNeeded.into());
        };
        let (account, session) = (Arc::clone(account), session.clone());
        Ok(Self {
            scope,
            identity,
            account,
            session,
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for LoginLater {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Ok(Self(parts.clone()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OwnLogin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let login = AnyLogin::from_request_parts(parts, state).await?;
        if login.account.password_must_change {
            return Err(DenyReason::PasswordMustChange.into());
        }
        Ok(Self(login))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for MemberCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let AnyCaller(caller) = AnyCaller::from_request_parts(parts, state).await?;
        match &caller.identity.principal {
            Principal::Own {
                session: Some(_), ..
            } => Ok(Self(caller)),
            Principal::Own { session: None, .. } if caller.identity.has_scope(Scope::MEMBERS) => {
                Ok(Self(caller))
            }
            Principal::Own { session: None, .. } => Err(DenyReason::ScopeMissing.into()),
            Principal::Foreign { .. } => Err(Kind::LoginNeeded.into()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
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

impl Describe for Anybody {
    fn describe(_: &mut Operation, _: &mut Schemas) {}
}

impl Describe for LastIdentity {
    fn describe(_: &mut Operation, _: &mut Schemas) {}
}

impl Describe for OwnPage {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.refuse(&[DenyReason::OriginRefused.into()]);
    }
}

impl Describe for Recognised {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.recognise();
        operation.accept(BEARER, &[]);
        operation.accept(COOKIE, &[]);
        operation.accept(API_KEY, &[]);
    }
}

impl Describe for AnyCaller {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        Recognised::describe(operation, schemas);
        operation.refuse(&[DenyReason::PasswordMustChange.into()]);
    }
}

impl Describe for AnyLogin {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.recognise();
        operation.refuse(&[Kind::LoginNeeded]);
        operation.accept(BEARER, &[]);
        operation.accept(COOKIE, &[]);
    }
}

impl Describe for LoginLater {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        AnyLogin::describe(operation, schemas);
        operation.accept("", &[]);
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
        operation.recognise();
        operation.refuse(&[
            DenyReason::PasswordMustChange.into(),
            DenyReason::ScopeMissing.into(),
            DenyReason::RoleMissing.into(),
            Kind::LoginNeeded,
            Kind::RoleSourceUnavailable,
        ]);
        operation.accept(BEARER, &[]);
        operation.accept(COOKIE, &[]);
        operation.accept(API_KEY, &[Scope::MEMBERS]);
    }
}

impl Describe for Administrator {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.recognise();
        operation.refuse(&[
            DenyReason::PasswordMustChange.into(),
            DenyReason::ScopeMissing.into(),
            DenyReason::RoleMissing.into(),
        ]);
        operation.accept(BEARER, &["admin"]);
        operation.accept(COOKIE, &["admin"]);
        operation.accept(API_KEY, &[Scope::ADMIN]);
    }
}
