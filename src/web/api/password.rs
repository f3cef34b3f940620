//! PUT /password; POST /forgot as JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::account::halt::NotFound;
use crate::account::password::{PasswordChangeRefusal, TokenPasswordRefusal, WantedPassword};
use crate::account::reset::ResetRefusal;
use crate::model::account::Account;
use crate::model::error_code::ErrorCode;
use crate::model::secret::Secret;
use crate::snapshot::RequestScope;
use crate::web::answer::{Accepted, Json, MessageAnswer};
use crate::web::api::registration::TemplateRefusal;
use crate::web::body::JsonBody;
use crate::web::caller::{AnyRequest, DeferredLogin, call};
use crate::web::error::{Refused, WebProblem};
use crate::web::pace::even_out;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewPassword")]
pub(in crate::web) struct PasswordBody {
    #[schemars(with = "String")]
    new_password: Secret,
    #[schemars(with = "String")]
    verify_password: Secret,
    /// Whose password; it must be the owner.
    uid: Option<String>,
    #[schemars(with = "Option<String>")]
    reset_token: Option<Secret>,
    #[schemars(with = "Option<String>")]
    old_password: Option<Secret>,
    /// Whether the API keys end too.
    revoke_keys: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Person")]
pub(in crate::web) struct PasswordAnswer {
    account_id: String,
    uid: String,
    username: String,
}

impl From<Account> for PasswordAnswer {
    fn from(account: Account) -> Self {
        Self {
            account_id: account.account_id.into(),
            uid: account.uid.into(),
            username: account.username.into(),
        }
    }
}

/// Sets a password, authorised by a mailed token, or by a login and the old password.
pub(in crate::web) async fn set(
    AnyRequest(scope): AnyRequest,
    later: DeferredLogin,
    JsonBody(body): JsonBody<PasswordBody>,
) -> Result<Json<PasswordAnswer>, Refused<(TokenPasswordRefusal, PasswordChangeRefusal, NotFound)>>
{
    let wanted = WantedPassword {
        new: body.new_password,
        verify: body.verify_password,
        revoke_keys: body.revoke_keys.unwrap_or(false),
    };
    let account = match (body.reset_token, body.old_password) {
        (Some(token), None) => {
            // The token determines whose password is set; another login in the same browser is irrelevant.
            let accounts = &scope.snapshot.accounts;
            let uid = body.uid.as_deref();
            accounts
                .set_password_by_token(&call(&scope, None), token.expose(), (uid, None), wanted)
                .await?
        }
        (None, Some(old)) => {
            let login = later.login().await?;
            let own = &login.account.uid;
            if body.uid.is_some_and(|uid| uid != own.as_str()) {
                return Err(NotFound.into());
            }
            let who = (own, &login.session);
            login
                .accounts()
                .change_password(&login.call(), who, old, wanted)
                .await?
        }
        _ => {
            let detail = "exactly one of reset_token and old_password";
            return Err(WebProblem::because(ErrorCode::BodyMalformed, detail).into());
        }
    };
    Ok(Json(account.into()))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ForgottenPassword")]
pub(in crate::web) struct ForgotBody {
    identity: Option<String>,
    username: Option<String>,
    /// The mail: there is one.
    #[schemars(extend("enum" = ["password_reset", null]))]
    template: Option<String>,
}

/// The response, whether or not the account exists.
pub(in crate::web) const ACCEPTED: &str =
    "If there is such an account, a mail has been sent to its address.";

/// Mails a reset token if the account exists. The response is always 202, in the same time, unless
/// `account.reveal_existing` is set.
pub(in crate::web) async fn forgot(
    AnyRequest(scope): AnyRequest,
    JsonBody(body): JsonBody<ForgotBody>,
) -> Result<Accepted<MessageAnswer>, Refused<(ResetRefusal, TemplateRefusal)>> {
    if body
        .template
        .is_some_and(|template| template != "password_reset")
    {
        return Err(TemplateRefusal::Unknown.into());
    }
    let ((Some(name), None) | (None, Some(name))) = (body.identity, body.username) else {
        let detail = "exactly one of identity and username";
        return Err(WebProblem::because(ErrorCode::BodyMalformed, detail).into());
    };
    reset_requested(&scope, &name).await?;
    Ok(Accepted(MessageAnswer { message: ACCEPTED }))
}

/// Mails a reset token if the account exists, in the same time in either case.
pub(in crate::web) async fn reset_requested(
    scope: &RequestScope,
    name: &str,
) -> Result<(), WebProblem> {
    let clock = &scope.snapshot.services.clock;
    let started = clock.elapsed();
    let accounts = &scope.snapshot.accounts;
    accounts.request_reset(&call(scope, None), name).await?;
    even_out(clock.as_ref(), started).await;
    Ok(())
}
