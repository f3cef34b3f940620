//! GET, PATCH /me; PUT /me/identity; GET /methods.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::account::Accounts;
use crate::account::me::{ConfirmRefusal, MeRefusal, OwnChange};
use crate::account::roles::RoleFilter;
use crate::config::Registration;
use crate::model::access::Scope;
use crate::model::account::{EmailAddress, PersonName};
use crate::model::error_code::ErrorCode;
use crate::model::field::{Checked, InvalidField};
use crate::model::identity::{Identity, Principal};
use crate::model::secret::Secret;
use crate::web::answer::{Json, List};
use crate::web::api::password::PasswordAnswer;
use crate::web::api::session::PASSWORD_METHOD;
use crate::web::body::JsonBody;
use crate::web::caller::{AnyRequest, OwnLogin, RecognisedCaller, call};
use crate::web::error::{Refused, WebProblem};
use crate::web::pace::even_out;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Me")]
pub(in crate::web) struct MeAnswer {
    uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    roles: Vec<String>,
    scopes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings_id: Option<String>,
    resources: BTreeMap<String, String>,
    method: &'static str,
}

/// Returns the caller's identity as recognised for this request. A foreign identity has no local account.
pub(in crate::web) async fn show(caller: RecognisedCaller) -> Json<MeAnswer> {
    Json(answer(caller.accounts(), &caller.identity))
}

fn answer(accounts: &Accounts, identity: &Identity) -> MeAnswer {
    let account = match &identity.principal {
        Principal::Own { account, .. } => Some(account),
        Principal::Foreign { .. } => None,
    };
    let scopes = identity.scopes.iter().map(Scope::as_str);
    MeAnswer {
        uid: identity.subject().to_owned(),
        account_id: account.map(|account| account.account_id.as_str().to_owned()),
        username: identity.username().map(str::to_owned),
        roles: accounts.roles_of_caller(identity, &RoleFilter::default()),
        scopes: scopes.map(str::to_owned).collect(),
        settings_id: account.map(|account| account.settings_id.as_str().to_owned()),
        resources: accounts.resources().clone(),
        method: identity.method.as_str(),
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MeChange")]
pub(in crate::web) struct OwnChangeBody {
    /// What the person is called: 1 to 128 characters, none of them a control character.
    name: Option<Checked<PersonName>>,
    /// An e-mail address of at most 254 bytes; it needs the password beside it, and counts once its token is posted.
    identity: Option<Checked<EmailAddress>>,
    #[schemars(with = "Option<String>")]
    password: Option<Secret>,
}

/// Changes the caller's name, or mails a token to a new address. The response is 200 with `me`, in the same time
/// whether or not the address is taken.
pub(in crate::web) async fn change(
    OwnLogin(login): OwnLogin,
    JsonBody(body): JsonBody<OwnChangeBody>,
) -> Result<Json<MeAnswer>, Refused<(MeRefusal, InvalidField)>> {
    let clock = &login.scope.snapshot.services.clock;
    let started = clock.elapsed();
    let identity = match (body.identity, body.password) {
        (Some(identity), Some(password)) => Some((identity, password)),
        (None, None) if body.name.is_some() => None,
        _ => {
            let detail = "name, or identity with password";
            return Err(WebProblem::because(ErrorCode::BodyMalformed, detail).into());
        }
    };
    let is_mailed = identity.is_some();
    let change = OwnChange {
        name: body.name.map(Checked::valid).transpose()?,
        identity: match identity {
            Some((identity, password)) => Some((identity.valid()?, password)),
            None => None,
        },
    };
    login
        .accounts()
        .change_me(&login.call(), &login.account.uid, change)
        .await?;
    if is_mailed {
        even_out(clock.as_ref(), started).await;
    }
    Ok(Json(answer(login.accounts(), &login.identity)))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "IdentityConfirmation")]
pub(in crate::web) struct IdentityBody {
    #[schemars(with = "String")]
    token: Secret,
}

/// Activates the address to which a token was mailed. The token suffices without a login, since the mail may be opened
/// in another browser.
pub(in crate::web) async fn confirm_identity(
    AnyRequest(scope): AnyRequest,
    JsonBody(body): JsonBody<IdentityBody>,
) -> Result<Json<PasswordAnswer>, Refused<ConfirmRefusal>> {
    let accounts = &scope.snapshot.accounts;
    let account = accounts
        .confirm_identity(&call(&scope, None), body.token.expose())
        .await?;
    Ok(Json(account.into()))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Method")]
pub(in crate::web) struct MethodAnswer {
    name: &'static str,
}

#[derive(Serialize, JsonSchema)]
pub(in crate::web) struct Policies {
    registration: &'static str,
    password_length_min: usize,
    password_classes_min: usize,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Methods")]
pub(in crate::web) struct MethodsAnswer {
    #[serde(flatten)]
    methods: List<MethodAnswer>,
    policies: Policies,
}

/// Returns the available ways to log in and register.
pub(in crate::web) async fn methods(AnyRequest(scope): AnyRequest) -> Json<MethodsAnswer> {
    let settings = scope.snapshot.accounts.settings();
    Json(MethodsAnswer {
        methods: List::whole(vec![MethodAnswer {
            name: PASSWORD_METHOD,
        }]),
        policies: Policies {
            registration: match settings.registration {
                Registration::Open => "open",
                Registration::Invite => "invite",
                Registration::Closed => "closed",
            },
            password_length_min: settings.password_length_min,
            password_classes_min: settings.password_classes_min,
        },
    })
}
