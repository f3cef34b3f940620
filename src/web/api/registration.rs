//! POST /register.

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::account::register::{NewPerson, Register};
use crate::web::answer::Json;
use crate::web::body::JsonBody;
use crate::web::caller::{Anybody, call};
use crate::web::error::{Kind, Problem};
use crate::web::pace::even_out;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct RegisterBody {
    identity: String,
    username: String,
    name: String,
    template: Option<String>,
}

/// Registers somebody: 202 whether or not the name or the address is taken, unless `account.reveal_existing` is set.
pub(in crate::web) async fn register(
    Anybody(scope): Anybody,
    JsonBody(body): JsonBody<RegisterBody>,
) -> Result<(StatusCode, Json<serde_json::Value>), Problem> {
    let clock = &scope.snapshot.services.clock;
    let started = clock.elapsed();
    if body
        .template
        .is_some_and(|template| template != "confirm_new")
    {
        return Err(Kind::TemplateUnknown.into());
    }
    let person = NewPerson::parse(&body.identity, &body.username, &body.name)?;
    let outcome = scope
        .snapshot
        .accounts
        .register(&call(&scope, None), person)
        .await?;
    match outcome {
        Register::Closed => Err(Kind::RegistrationClosed.into()),
        Register::UsernameTaken => Err(Kind::UsernameTaken.into()),
        Register::IdentityTaken => Err(Kind::IdentityTaken.into()),
        Register::Accepted => {
            even_out(clock.as_ref(), started).await;
            let message = "A mail has been sent to the address. It says what to do next.";
            Ok((StatusCode::ACCEPTED, Json(json!({ "message": message }))))
        }
    }
}
