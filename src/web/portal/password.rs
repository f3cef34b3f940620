//! GET, POST /confirm and /reset: what the links in mails open.
//!
//! A GET consumes nothing: scanners of mail open every link.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::account::halt::Halt;
use crate::account::password::WantedPassword;
use crate::model::account::{Purpose, Username};
use crate::model::secret::Secret;
use crate::snapshot::RequestScope;
use crate::web::body::{FormFields, PageForm};
use crate::web::caller::{Anybody, OwnPage, call};
use crate::web::error::{Kind, Problem};
use crate::web::portal::{PASSWORD, Portal, may_register, parameter, password_rules, words_of};

#[derive(Serialize)]
struct Filled<'a> {
    title: &'static str,
    message: Option<String>,
    /// What the button says.
    button: &'static str,
    /// Whether a password is asked for.
    sets_password: bool,
    /// Whose, for password managers.
    username: &'a str,
    /// What it must be like.
    rules: String,
    /// Whether the form is of any use.
    is_open: bool,
    may_register: bool,
}

impl<'a> Filled<'a> {
    fn new(scope: &RequestScope, link: &'a Link) -> Self {
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

/// A link that was mailed.
struct Link {
    token: Secret,
    purpose: Purpose,
    /// The name of its account; `None`: it counts for nothing.
    holder: Option<Username>,
}

impl Link {
    /// Looks what the link of a query is for, without consuming it. One that counts for nothing, or not on this page, is
    /// taken for one of `pages`, the first.
    async fn read(
        scope: &RequestScope,
        query: Option<&str>,
        pages: &[Purpose],
    ) -> Result<Self, Problem> {
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

/// What the confirm page is for.
const CONFIRM: &[Purpose] = &[Purpose::Confirm, Purpose::ChangeIdentity];
/// What the reset page is for.
const RESET: &[Purpose] = &[Purpose::Reset];

/// The page that ends a registration, or makes a new address count: the link tells which.
pub(in crate::web) async fn show_confirm(
    State(portal): State<Arc<Portal>>,
    Anybody(scope): Anybody,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let link = Link::read(&scope, query.as_deref(), CONFIRM).await?;
    Ok(show(&portal, &scope, &link))
}

/// The page that replaces a forgotten password.
pub(in crate::web) async fn show_reset(
    State(portal): State<Arc<Portal>>,
    Anybody(scope): Anybody,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let link = Link::read(&scope, query.as_deref(), RESET).await?;
    Ok(show(&portal, &scope, &link))
}

/// The form, or what may be done where the link counts for nothing.
fn show(portal: &Portal, scope: &RequestScope, link: &Link) -> Response {
    if link.holder.is_none() {
        return refused(portal, scope, link, Kind::TokenInvalid.into());
    }
    portal.page(PASSWORD, &Filled::new(scope, link), None)
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

/// Sets the first password, or makes a new address count.
pub(in crate::web) async fn confirm(
    State(portal): State<Arc<Portal>>,
    OwnPage(scope): OwnPage,
    RawQuery(query): RawQuery,
    fields: FormFields,
) -> Result<Response, Problem> {
    let link = Link::read(&scope, query.as_deref(), CONFIRM).await?;
    match link.purpose {
        Purpose::ChangeIdentity => {
            let NoFields {} = fields.read()?;
            change_identity(&portal, &scope, &link).await
        }
        Purpose::Confirm | Purpose::Reset => set(&portal, &scope, &link, fields.read()?).await,
    }
}

async fn change_identity(
    portal: &Portal,
    scope: &RequestScope,
    link: &Link,
) -> Result<Response, Problem> {
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
) -> Result<Response, Problem> {
    let link = Link::read(&scope, query.as_deref(), RESET).await?;
    set(&portal, &scope, &link, form).await
}

async fn set(
    portal: &Portal,
    scope: &RequestScope,
    link: &Link,
    form: PasswordForm,
) -> Result<Response, Problem> {
    let wanted = WantedPassword {
        new: form.new_password,
        verify: form.verify_password,
        revoke_keys: false,
    };
    let accounts = &scope.snapshot.accounts;
    let set = accounts
        .set_password_by_link(
            &call(scope, None),
            link.token.expose(),
            link.purpose,
            wanted,
        )
        .await;
    match set {
        Ok(_) => portal.lead_to_login("password_set"),
        Err(halt) => Ok(refused(portal, scope, link, halt.into())),
    }
}

/// The page again, with what is wrong; a link that is void has no form any more, and says what to do instead.
fn refused(portal: &Portal, scope: &RequestScope, link: &Link, problem: Problem) -> Response {
    let is_void = problem.kind == Kind::TokenInvalid;
    let message = match (is_void, link.purpose) {
        (false, _) => words_of(&problem),
        (true, Purpose::Reset) => format!("{VOID} You can have another one sent."),
        (true, _) => format!("{VOID} If you have a password already, log in with it."),
    };
    let filled = Filled {
        message: Some(message),
        is_open: !is_void,
        ..Filled::new(scope, link)
    };
    portal.page_of_problem(problem, PASSWORD, &filled, None)
}

/// What is known of a link that counts for nothing.
const VOID: &str = "This link was used already, it is too old, or it is not complete.";
