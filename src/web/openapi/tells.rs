//! What the arguments and answers of handlers mean for an operation. Whoever writes another one says it here.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use http::HeaderMap;
use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::model::access::Scope;
use crate::model::deny::DenyReason;
use crate::web::answer::{Accepted, Created, Json, NoContent};
use crate::web::body::{JsonBody, JsonOrNothing, JsonText, OAuthForm, PageForm, Place, Query};
use crate::web::caller::{
    Administrator, AnyCaller, AnyLogin, Anybody, LastIdentity, LoginLater, MemberCaller, OwnLogin,
    OwnPage, Recognised,
};
use crate::web::error::{Kind, OAuthProblem, Problem};
use crate::web::openapi::operation::{Operation, Schemas, Tell};
use crate::web::openapi::rules::PathParameters;
use crate::web::portal::Portal;

/// The schemes of the document.
pub(in crate::web) const BEARER: &str = "bearer";
pub(in crate::web) const API_KEY: &str = "api_key";
pub(in crate::web) const COOKIE: &str = "cookie";
pub(in crate::web) const BASIC: &str = "basic";

/// What is refused of bodies.
const BODY: [Kind; 3] = [
    Kind::BodyMalformed,
    Kind::ContentType,
    Kind::Denied(DenyReason::BodyTooLarge),
];

fn open_to(operation: &mut Operation, schemes: &[(&'static str, &[&'static str])]) {
    operation.security.extend(
        schemes
            .iter()
            .map(|(scheme, needs)| (*scheme, needs.to_vec())),
    );
}

macro_rules! tells_nothing {
    ($($argument:ty),*) => {
        $(impl Tell for $argument {
            fn tell(_: &mut Operation, _: &mut Schemas) {}
        })*
    };
}
tells_nothing!(
    Anybody,
    LastIdentity,
    State<Arc<Portal>>,
    HeaderMap,
    RawQuery,
    Response
);

/// Read as JSON or as a form: what they hold is said where it gets its path.
impl Tell for Request {
    fn tell(operation: &mut Operation, _: &mut Schemas) {
        operation.refuse(&BODY);
    }
}

impl Tell for OwnPage {
    fn tell(operation: &mut Operation, _: &mut Schemas) {
        operation.refuse(&[DenyReason::OriginRefused.into()]);
    }
}

impl Tell for Recognised {
    fn tell(operation: &mut Operation, _: &mut Schemas) {
        operation.recognise();
        open_to(operation, &[(BEARER, &[]), (COOKIE, &[]), (API_KEY, &[])]);
    }
}

impl Tell for AnyCaller {
    fn tell(operation: &mut Operation, schemas: &mut Schemas) {
        Recognised::tell(operation, schemas);
        operation.refuse(&[DenyReason::PasswordMustChange.into()]);
    }
}

impl Tell for AnyLogin {
    fn tell(operation: &mut Operation, _: &mut Schemas) {
        operation.recognise();
        operation.refuse(&[Kind::LoginNeeded]);
        open_to(operation, &[(BEARER, &[]), (COOKIE, &[])]);
    }
}

impl Tell for LoginLater {
    fn tell(operation: &mut Operation, schemas: &mut Schemas) {
        AnyLogin::tell(operation, schemas);
        open_to(operation, &[("", &[])]);
    }
}

impl Tell for OwnLogin {
    fn tell(operation: &mut Operation, schemas: &mut Schemas) {
        AnyLogin::tell(operation, schemas);
        operation.refuse(&[DenyReason::PasswordMustChange.into()]);
    }
}

impl Tell for MemberCaller {
    fn tell(operation: &mut Operation, _: &mut Schemas) {
        operation.recognise();
        operation.refuse(&[
            DenyReason::PasswordMustChange.into(),
            DenyReason::ScopeMissing.into(),
            Kind::LoginNeeded,
        ]);
        let schemes: [(_, &[_]); 3] = [(BEARER, &[]), (COOKIE, &[]), (API_KEY, &[Scope::MEMBERS])];
        open_to(operation, &schemes);
    }
}

impl Tell for Administrator {
    fn tell(operation: &mut Operation, _: &mut Schemas) {
        operation.recognise();
        operation.refuse(&[
            DenyReason::PasswordMustChange.into(),
            DenyReason::ScopeMissing.into(),
            DenyReason::RoleMissing.into(),
        ]);
        let schemes: [(_, &[_]); 3] = [
            (BEARER, &["admin"]),
            (COOKIE, &["admin"]),
            (API_KEY, &[Scope::ADMIN]),
        ];
        open_to(operation, &schemes);
    }
}

impl Tell for JsonText {
    fn tell(operation: &mut Operation, _: &mut Schemas) {
        operation.refuse(&BODY);
        operation.body(json!({ "type": "object" }));
    }
}

impl<T: JsonSchema> Tell for JsonBody<T> {
    fn tell(operation: &mut Operation, schemas: &mut Schemas) {
        JsonText::tell(operation, schemas);
        operation.body(schemas.taken::<T>());
    }
}

impl<T: JsonSchema> Tell for JsonOrNothing<T> {
    fn tell(operation: &mut Operation, schemas: &mut Schemas) {
        JsonBody::<T>::tell(operation, schemas);
        operation.may_lack_body = true;
    }
}

impl Tell for OAuthForm {
    fn tell(operation: &mut Operation, _: &mut Schemas) {
        operation.refuse(&[Kind::BodyMalformed, DenyReason::BodyTooLarge.into()]);
        operation.tell_grants(&[OAuthProblem::CONTENT_TYPE, OAuthProblem::PARAMETER]);
    }
}

impl Tell for PageForm {
    fn tell(operation: &mut Operation, _: &mut Schemas) {
        operation.refuse(&BODY);
    }
}

impl<T: JsonSchema> Tell for Query<T> {
    fn tell(operation: &mut Operation, schemas: &mut Schemas) {
        operation.refuse(&[Kind::QueryMalformed]);
        let schema = schemas.members::<T>();
        let members = schema.get("properties").and_then(Value::as_object);
        for (name, member) in members.into_iter().flatten() {
            operation.parameters.push(json!({
                "name": name,
                "in": "query",
                "description": member.get("description"),
                "schema": { "type": "string", "pattern": member.get("pattern") },
            }));
        }
    }
}

impl<T: PathParameters> Tell for Place<T> {
    fn tell(operation: &mut Operation, _: &mut Schemas) {
        operation.path_parameters.extend(T::ALL);
        operation.refuse(&[Kind::NotFound]);
    }
}

impl<T: JsonSchema> Tell for Json<T> {
    fn tell(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answer_json(200, "Done.", schemas.given::<T>());
    }
}

impl<T: JsonSchema> Tell for Created<T> {
    fn tell(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answer_json(201, "Made.", schemas.given::<T>());
    }
}

impl<T: JsonSchema> Tell for Accepted<T> {
    fn tell(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answer_json(202, "Taken.", schemas.given::<T>());
    }
}

impl Tell for NoContent {
    fn tell(operation: &mut Operation, _: &mut Schemas) {
        operation.answer(204, "Done; there is nothing to say.");
    }
}

impl<T: Tell> Tell for Result<T, Problem> {
    fn tell(operation: &mut Operation, schemas: &mut Schemas) {
        T::tell(operation, schemas);
    }
}

impl<T: Tell> Tell for Result<T, OAuthProblem> {
    fn tell(operation: &mut Operation, schemas: &mut Schemas) {
        T::tell(operation, schemas);
        operation.is_oauth = true;
    }
}
