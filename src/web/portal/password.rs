//! GET, POST /confirm and /reset: the targets of links in mails.
//!
//! A GET consumes nothing, since mail scanners open every link.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::account::halt::Halt;
use crate::account::me::ConfirmRefusal;
use crate::account::password::{TokenPasswordRefusal, WantedPassword};
use crate::model::account::{Purpose, Username};
use crate::model::error_code::ErrorCode;
use crate::model::secret::Secret;
use crate::snapshot::RequestScope;
use crate::web::body::{FormFields, PageForm};
use crate::web::caller::{AnyRequest, OwnPage, call};
use crate::web::error::{Refused, WebProblem};
use crate::web::portal::{PASSWORD, Portal, may_register, parameter, password_rules, words_of};

#[derive(Serialize)]
struct PasswordFields<'a> {
    title: &'static str,
    message: Option<String>,
    /// The text of the button.
    button: &'static str,
    /// Whether the form asks for a password.
    sets_password: bool,
    /// The account's username, for password managers.
    username: &'a str,
    /// The password rules.
    rules: String,
    /// Whether the form is shown.
    is_open: bool,
    may_register: bool,
}

impl<'a> PasswordFields<'a> {
    fn new(scope: &RequestScope, link: &'a MailedLink) -> Self {
        let (title, button) = match link.purpose {
            Purpose::Confirm => ("Choose a password", "Set the password"),
            Purpose::Reset => ("Choose a new password", "Set the password"),
            Purpose::ChangeIdentity => ("Confirm your new address", "Use this address"),
        };
        Self {
            title,
            button,
            sets_password: link.purpose != Purpose::ChangeIdentity,
            username: link.holder.as_ref().map_or("", Username::as_str),
            rules: password_rules(scope),
            message: None,
            is_open: true,
            may_register: may_register(scope),
        }
    }
}

/// The link of a mail.
struct MailedLink {
    token: Secret,
    purpose: Purpose,
    /// The username of its account; `None` if the link is not accepted.
    holder: Option<Username>,
}

impl MailedLink {
    /// Looks up the purpose of a query's link without consuming it. A link that is not accepted, or not on this page,
    /// is treated as the first of `pages`.
    async fn read(
        scope: &RequestScope,
        query: Option<&str>,
        pages: &[Purpose],
    ) -> Result<Self, WebProblem> {
        let token = Secret::new(parameter(query, "token").unwrap_or_default());
        let accounts = &scope.snapshot.accounts;
        let found = accounts.token_holder(token.expose()).await?;
        let found = found.filter(|(purpose, _)| pages.contains(purpose));
        let first = pages.first().copied().unwrap_or(Purpose::Confirm);
        let (purpose, holder) =
            found.map_or((first, None), |(purpose, holder)| (purpose, Some(holder)));
        Ok(Self {
            token,
            purpose,
            holder,
        })
    }
}

/// Purposes that the confirm page accepts.
const CONFIRM: &[Purpose] = &[Purpose::Confirm, Purpose::ChangeIdentity];
/// Purposes that the reset page accepts.
const RESET: &[Purpose] = &[Purpose::Reset];

/// Shows the page that completes a registration or activates a new address, depending on the link.
pub(in crate::web) async fn show_confirm(
    State(portal): State<Arc<Portal>>,
    AnyRequest(scope): AnyRequest,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused<ConfirmRefusal>> {
    let link = MailedLink::read(&scope, query.as_deref(), CONFIRM).await?;
    Ok(show(&portal, &scope, &link))
}

/// Shows the page that replaces a forgotten password.
pub(in crate::web) async fn show_reset(
    State(portal): State<Arc<Portal>>,
    AnyRequest(scope): AnyRequest,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused<ConfirmRefusal>> {
    let link = MailedLink::read(&scope, query.as_deref(), RESET).await?;
    Ok(show(&portal, &scope, &link))
}

/// Shows the form, or the alternatives if the link is not accepted.
fn show(portal: &Portal, scope: &RequestScope, link: &MailedLink) -> Response {
    if link.holder.is_none() {
        return refused(portal, scope, link, ErrorCode::TokenInvalid.into());
    }
    portal.page(PASSWORD, &PasswordFields::new(scope, link), None)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct PasswordForm {
    #[schemars(with = "String")]
    new_password: Secret,
    #[schemars(with = "String")]
    verify_password: Secret,
}

/// The form that confirms an address.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoFields {}

/// Sets the first password, or activates a new address.
pub(in crate::web) async fn confirm(
    State(portal): State<Arc<Portal>>,
    OwnPage(scope): OwnPage,
    RawQuery(query): RawQuery,
    fields: FormFields,
) -> Result<Response, Refused<(TokenPasswordRefusal, ConfirmRefusal)>> {
    let link = MailedLink::read(&scope, query.as_deref(), CONFIRM).await?;
    let response = match link.purpose {
        Purpose::ChangeIdentity => {
            let NoFields {} = fields.read()?;
            change_identity(&portal, &scope, &link).await?
        }
        Purpose::Confirm | Purpose::Reset => set(&portal, &scope, &link, fields.read()?).await?,
    };
    Ok(response)
}

async fn change_identity(
    portal: &Portal,
    scope: &RequestScope,
    link: &MailedLink,
) -> Result<Response, WebProblem> {
    let accounts = &scope.snapshot.accounts;
    let confirmed = accounts
        .confirm_identity(&call(scope, None), link.token.expose())
        .await;
    match confirmed {
        Ok(_) => portal.lead_to_login("address_changed"),
        Err(Halt::Refused(refusal)) => Ok(refused(portal, scope, link, refusal.into())),
        Err(Halt::Failed(error)) => Err(error.into()),
    }
}

/// Sets a new password.
pub(in crate::web) async fn reset(
    State(portal): State<Arc<Portal>>,
    OwnPage(scope): OwnPage,
    RawQuery(query): RawQuery,
    PageForm(form): PageForm<PasswordForm>,
) -> Result<Response, Refused<TokenPasswordRefusal>> {
    let link = MailedLink::read(&scope, query.as_deref(), RESET).await?;
    Ok(set(&portal, &scope, &link, form).await?)
}

async fn set(
    portal: &Portal,
    scope: &RequestScope,
    link: &MailedLink,
    form: PasswordForm,
) -> Result<Response, WebProblem> {
    let wanted = WantedPassword {
        new: form.new_password,
        verify: form.verify_password,
        revoke_keys: false,
    };
    let accounts = &scope.snapshot.accounts;
    let set = accounts
        .set_password_by_token(
            &call(scope, None),
            link.token.expose(),
            (None, Some(link.purpose)),
            wanted,
        )
        .await;
    match set {
        Ok(_) => portal.lead_to_login("password_set"),
        Err(halt) => Ok(refused(portal, scope, link, halt.into())),
    }
}

/// Shows the page again with the error. For a void link it has no form, but says what to do instead.
fn refused(
    portal: &Portal,
    scope: &RequestScope,
    link: &MailedLink,
    problem: WebProblem,
) -> Response {
    let is_void = problem.kind == ErrorCode::TokenInvalid;
    let message = match (is_void, link.purpose) {
        (false, _) => words_of(&problem),
        (true, Purpose::Reset) => format!("{VOID} You can request another one."),
        (true, _) => format!("{VOID} If you already have a password, log in with it."),
    };
    let filled = PasswordFields {
        message: Some(message),
        is_open: !is_void,
        ..PasswordFields::new(scope, link)
    };
    portal.page_of_problem(problem, PASSWORD, &filled, None)
}

/// The message about a link that is not accepted.
const VOID: &str = "This link was already used, has expired, or is incomplete.";
