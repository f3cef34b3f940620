//! POST /login as JSON, /token, /logout; GET, DELETE /sessions.

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::account::halt::refusals;
use crate::account::login::{LoginRefusal, SessionCarrier};
use crate::account::refresh::RefreshRefusal;
use crate::model::account::Session;
use crate::model::error_code::ErrorCode;
use crate::model::id::SessionId;
use crate::model::identity::AuthnMethod;
use crate::model::secret::Secret;
use crate::web::answer::{Json, List, NoContent};
use crate::web::body::{JsonBody, OAuthForm, PathParam, Query};
use crate::web::caller::{AnyLogin, AnyRequest, OwnLogin, call};
use crate::web::cookie;
use crate::web::cursor::PageQuery;
use crate::web::error::{OAuthProblem, Refused, WebProblem};

/// The only login method.
pub(in crate::web) const PASSWORD_METHOD: &str = "password";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Credentials")]
pub(in crate::web) struct LoginBody {
    /// The name or the address.
    username: String,
    #[schemars(with = "String")]
    password: Secret,
    /// Taken and not looked at: no account has a second factor, so that no code makes a login any better or worse.
    #[serde(rename = "otp")]
    #[schemars(with = "Option<String>")]
    _otp: Option<Secret>,
    /// The way to log in: there is one.
    #[schemars(extend("enum" = [PASSWORD_METHOD, null]))]
    method: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Login")]
pub(in crate::web) struct LoginAnswer {
    jwt_token: String,
    token_type: &'static str,
    expires_in: u64,
    refresh_token: String,
    uid: String,
    account_id: String,
    username: String,
    settings_id: String,
    /// The kinds of resources, and the URL of the service of each.
    resources: BTreeMap<String, String>,
}

refusals! {
    /// The request names a way to log in that does not exist.
    pub(in crate::web) enum MethodRefusal {
        Unknown => ErrorCode::MethodUnknown,
    }
}

/// Logs in with a name or address and a password.
pub(in crate::web) async fn log_in(
    AnyRequest(scope): AnyRequest,
    JsonBody(body): JsonBody<LoginBody>,
) -> Result<Json<LoginAnswer>, Refused<(LoginRefusal, MethodRefusal)>> {
    if body.method.is_some_and(|method| method != PASSWORD_METHOD) {
        return Err(MethodRefusal::Unknown.into());
    }
    let accounts = &scope.snapshot.accounts;
    let opened = accounts
        .login(
            &call(&scope, None),
            &body.username,
            body.password,
            SessionCarrier::Program,
        )
        .await?;
    scope
        .snapshot
        .authorizer
        .warm_cache(&opened.access_token)
        .await;
    Ok(Json(LoginAnswer {
        jwt_token: opened.access_token.expose().to_owned(),
        token_type: "Bearer",
        expires_in: opened.expires_in.as_secs(),
        refresh_token: opened.refresh_token.expose().to_owned(),
        uid: opened.account.uid.into(),
        account_id: opened.account.account_id.into(),
        username: opened.account.username.into(),
        settings_id: opened.account.settings_id.into(),
        resources: accounts.resources().clone(),
    }))
}

/// RFC 6749 section 5.1.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tokens")]
pub(in crate::web) struct TokenAnswer {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    refresh_token: String,
}

refusals! {
    /// The request asks for another grant than a refresh.
    pub(in crate::web) enum GrantRefusal {
        Unsupported => ErrorCode::GrantTypeUnsupported,
    }
}

/// Refreshes the tokens of a session (RFC 6749 section 6).
pub(in crate::web) async fn refresh(
    AnyRequest(scope): AnyRequest,
    form: OAuthForm,
) -> Result<Json<TokenAnswer>, Refused<(RefreshRefusal, GrantRefusal), OAuthProblem>> {
    if form.one("grant_type")? != "refresh_token" {
        return Err(GrantRefusal::Unsupported.into());
    }
    let presented = form.one("refresh_token")?;
    let tokens = scope
        .snapshot
        .accounts
        .refresh(&call(&scope, None), presented)
        .await?;
    scope
        .snapshot
        .authorizer
        .warm_cache(&tokens.access_token)
        .await;
    Ok(Json(TokenAnswer {
        access_token: tokens.access_token.expose().to_owned(),
        token_type: "Bearer",
        expires_in: tokens.expires_in.as_secs(),
        refresh_token: tokens.refresh_token.expose().to_owned(),
    }))
}

/// Ends the session of the caller's login.
pub(in crate::web) async fn log_out(login: AnyLogin) -> Result<Response, WebProblem> {
    login
        .accounts()
        .log_out(&login.call(), &login.account.uid, &login.session)
        .await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    if login.identity.method == AuthnMethod::Session {
        cookie::clear(response.headers_mut(), &login.scope.snapshot);
    }
    Ok(response)
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Session")]
pub(in crate::web) struct SessionAnswer {
    id: String,
    created: String,
    last_seen: String,
    from: String,
    /// When it ends if it is not used again.
    expires: String,
    /// Whether it is the one that asks.
    current: bool,
}

impl SessionAnswer {
    pub(in crate::web) fn new(session: Session, asking: Option<&SessionId>) -> Self {
        let expires = session.idle_end.min(session.absolute_end);
        Self {
            current: asking == Some(&session.id),
            created: session.created.to_rfc3339(),
            last_seen: session.last_seen.to_rfc3339(),
            from: session.from,
            expires: expires.to_rfc3339(),
            id: session.id.into(),
        }
    }
}

/// Returns one page of the caller's sessions.
pub(in crate::web) async fn list(
    OwnLogin(login): OwnLogin,
    Query(query): Query<PageQuery<SessionId>>,
) -> Result<Json<List<SessionAnswer>>, WebProblem> {
    let after = query.after()?;
    let page = login
        .accounts()
        .sessions(&login.account.uid, after.as_ref())
        .await?;
    Ok(Json(List::page(page, |session| {
        SessionAnswer::new(session, Some(&login.session))
    })))
}

/// Returns one of the caller's sessions.
pub(in crate::web) async fn show(
    OwnLogin(login): OwnLogin,
    PathParam(id): PathParam<SessionId>,
) -> Result<Json<SessionAnswer>, WebProblem> {
    let found = login.accounts().session(&login.account.uid, &id).await?;
    let session = found.ok_or(ErrorCode::NotFound)?;
    Ok(Json(SessionAnswer::new(session, Some(&login.session))))
}

/// Ends one of the caller's sessions.
pub(in crate::web) async fn end(
    OwnLogin(login): OwnLogin,
    PathParam(id): PathParam<SessionId>,
) -> Result<NoContent, WebProblem> {
    let uid = &login.account.uid;
    login
        .accounts()
        .end_session(&login.call(), uid, &id)
        .await?;
    Ok(NoContent)
}

/// Ends all of the caller's sessions, including the current one.
pub(in crate::web) async fn end_all(OwnLogin(login): OwnLogin) -> Result<NoContent, WebProblem> {
    login
        .accounts()
        .end_all_sessions(&login.call(), &login.account.uid)
        .await?;
    Ok(NoContent)
}
