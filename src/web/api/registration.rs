//! POST /register as JSON.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::account::halt::refusals;
use crate::account::register::{NewPerson, RegisterRefusal};
use crate::model::account::{EmailAddress, PersonName, Username};
use crate::model::error_code::ErrorCode;
use crate::model::field::{Checked, InvalidField};
use crate::snapshot::RequestScope;
use crate::web::answer::{Accepted, MessageAnswer};
use crate::web::body::JsonBody;
use crate::web::caller::{AnyRequest, call};
use crate::web::error::{Refused, WebProblem};
use crate::web::pace::even_out;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Registration")]
pub(in crate::web) struct RegisterBody {
    /// An e-mail address of at most 254 bytes.
    identity: Checked<EmailAddress>,
    /// 2 to 64 of `a-z 0-9 . _ -`, starting with a letter or digit, but not with `u-`; upper case is folded.
    username: Checked<Username>,
    /// What the person is called: 1 to 128 characters, none of them a control character.
    name: Checked<PersonName>,
    /// The mail: there is one.
    #[schemars(extend("enum" = ["confirm_new", null]))]
    template: Option<String>,
}

refusals! {
    /// The request names a mail that does not exist.
    pub(in crate::web) enum TemplateRefusal {
        Unknown => ErrorCode::TemplateUnknown,
    }
}

/// The response, whether or not the name or address is taken.
pub(in crate::web) const ACCEPTED: &str =
    "A mail has been sent to the address. It says what to do next.";

/// Registers a person: 202 whether or not the name or address is taken, unless `account.reveal_existing` is set.
pub(in crate::web) async fn register(
    AnyRequest(scope): AnyRequest,
    JsonBody(body): JsonBody<RegisterBody>,
) -> Result<Accepted<MessageAnswer>, Refused<(RegisterRefusal, InvalidField, TemplateRefusal)>> {
    if body
        .template
        .is_some_and(|template| template != "confirm_new")
    {
        return Err(TemplateRefusal::Unknown.into());
    }
    let person = NewPerson::of(body.identity, body.username, body.name)?;
    registered(&scope, person).await?;
    Ok(Accepted(MessageAnswer { message: ACCEPTED }))
}

/// Registers a person, in the same time whether or not the name or address is taken.
pub(in crate::web) async fn registered(
    scope: &RequestScope,
    person: NewPerson,
) -> Result<(), WebProblem> {
    let clock = &scope.snapshot.services.clock;
    let started = clock.elapsed();
    scope
        .snapshot
        .accounts
        .register(&call(scope, None), person)
        .await?;
    even_out(clock.as_ref(), started).await;
    Ok(())
}
