//! POST /login, /token, /logout; GET, DELETE /sessions.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::account::login::Login;
use crate::account::refresh::Refresh;
use crate::model::account::Session;
use crate::model::id::SessionId;
use crate::model::secret::Secret;
use crate::web::answer::{Json, List};
use crate::web::body::{JsonBody, OAuthForm, Place};
use crate::web::caller::{AnyLogin, Anybody, OwnLogin, call};
use crate::web::error::{Kind, OAuthProblem, Problem};

/// The one way to log in that there is.
pub(in crate::web) const PASSWORD_METHOD: &str = "password";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct LoginBody {
    username: String,
    password: Secret,
    method: Option<String>,
}

#[derive(Serialize)]
pub(in crate::web) struct LoginAnswer {
    jwt_token: String,
    token_type: &'static str,
    expires_in: u64,
    refresh_token: String,
    uid: String,
    account_id: String,
    username: String,
    settings_id: String,
    resources: BTreeMap<String, String>,
}

/// Logs in by name or address and password.
pub(in crate::web) async fn log_in(
    Anybody(scope): Anybody,
    JsonBody(body): JsonBody<LoginBody>,
) -> Result<Json<LoginAnswer>, Problem> {
    if body.method.is_some_and(|method| method != PASSWORD_METHOD) {
        return Err(Kind::MethodUnknown.into());
    }
    let accounts = &scope.snapshot.accounts;
    let outcome = accounts
        .login(&call(&scope, None), &body.username, body.password)
        .await?;
    let Login::Opened(opened) = outcome else {
        return Err(Kind::LoginRefused.into());
    };
    scope
        .snapshot
        .authorizer
        .foresee(opened.access_token.expose())
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
#[derive(Serialize)]
pub(in crate::web) struct TokenAnswer {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    refresh_token: String,
}

/// Refreshes (RFC 6749 section 6).
pub(in crate::web) async fn refresh(
    Anybody(scope): Anybody,
    form: OAuthForm,
) -> Result<Json<TokenAnswer>, OAuthProblem> {
    if form.one("grant_type")? != "refresh_token" {
        let code = "grant_type_unsupported";
        return Err(OAuthProblem::new(400, "unsupported_grant_type", code));
    }
    let presented = form.one("refresh_token")?;
    let outcome = scope
        .snapshot
        .accounts
        .refresh(&call(&scope, None), presented)
        .await
        .map_err(Problem::from)?;
    match outcome {
        Refresh::Refreshed {
            access_token,
            expires_in,
            refresh_token,
        } => {
            scope
                .snapshot
                .authorizer
                .foresee(access_token.expose())
                .await;
            Ok(Json(TokenAnswer {
                access_token: access_token.expose().to_owned(),
                token_type: "Bearer",
                expires_in: expires_in.as_secs(),
                refresh_token: refresh_token.expose().to_owned(),
            }))
        }
        Refresh::Invalid => {
            let code = "refresh_token_invalid";
            Err(OAuthProblem::new(400, "invalid_grant", code))
        }
    }
}

/// Ends the session of the login that asks.
pub(in crate::web) async fn log_out(login: AnyLogin) -> Result<StatusCode, Problem> {
    login
        .accounts()
        .log_out(&login.call(), &login.account.uid, &login.session)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize)]
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
    fn new(session: Session, asking: &SessionId) -> Self {
        let expires = session.idle_end.min(session.absolute_end);
        Self {
            current: session.id == *asking,
            created: session.created.to_rfc3339(),
            last_seen: session.last_seen.to_rfc3339(),
            from: session.from,
            expires: expires.to_rfc3339(),
            id: session.id.into(),
        }
    }
}

/// One's own sessions.
pub(in crate::web) async fn list(
    OwnLogin(login): OwnLogin,
) -> Result<Json<List<SessionAnswer>>, Problem> {
    let sessions = login.accounts().sessions(&login.account.uid).await?;
    let items = sessions
        .into_iter()
        .map(|session| SessionAnswer::new(session, &login.session))
        .collect();
    Ok(Json(List::whole(items)))
}

/// One of one's own sessions.
pub(in crate::web) async fn show(
    OwnLogin(login): OwnLogin,
    Place(id): Place<String>,
) -> Result<Json<SessionAnswer>, Problem> {
    let id = SessionId::parse(&id).map_err(|_| Kind::NotFound)?;
    let found = login.accounts().session(&login.account.uid, &id).await?;
    let session = found.ok_or(Kind::NotFound)?;
    Ok(Json(SessionAnswer::new(session, &login.session)))
}

/// Ends one of one's own sessions.
pub(in crate::web) async fn end(
    OwnLogin(login): OwnLogin,
    Place(id): Place<String>,
) -> Result<StatusCode, Problem> {
    let id = SessionId::parse(&id).map_err(|_| Kind::NotFound)?;
    let uid = &login.account.uid;
    if login
        .accounts()
        .end_session(&login.call(), uid, &id)
        .await?
    {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Kind::NotFound.into())
    }
}

/// Ends all of one's own sessions, the one that asks included.
pub(in crate::web) async fn end_all(OwnLogin(login): OwnLogin) -> Result<StatusCode, Problem> {
    login
        .accounts()
        .end_all_sessions(&login.call(), &login.account.uid)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
