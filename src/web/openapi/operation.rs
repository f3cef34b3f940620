//! An operation of the document. The types of its handler describe its input and output as far as possible; the rest is
//! written where the handler's path is registered.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::HeaderMap;
use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::account::halt::Refuses;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::role_source::SourceDown;
use crate::web::error::{OAuthProblem, Refused, WebProblem};

/// The media type of JSON.
pub(in crate::web) const JSON: &str = "application/json";
/// The media type of forms.
pub(in crate::web) const FORM: &str = "application/x-www-form-urlencoded";
/// The media type of pages.
pub(in crate::web) const HTML: &str = "text/html";

/// Location of the schemas in the document.
pub(in crate::web::openapi) const SCHEMAS: &str = "#/components/schemas/";

/// The security schemes of the document.
pub(in crate::web) const BEARER: &str = "bearer";
pub(in crate::web) const API_KEY: &str = "api_key";
pub(in crate::web) const COOKIE: &str = "cookie";
pub(in crate::web) const BASIC: &str = "basic";

/// An argument or response type of a handler that describes its part of the operation.
pub(in crate::web) trait Describe {
    /// Adds the part to the operation.
    fn describe(_: &mut Operation, _: &mut Schemas) {}
}

/// A handler whose argument and response types describe the operation. `M` is the argument list, so that one type can
/// implement the trait once per list.
pub(in crate::web) trait DescribedHandler<M> {
    /// Adds the parts of all arguments, in order, and of the response.
    fn describe_all(operation: &mut Operation, schemas: &mut Schemas);
}

macro_rules! described_handler {
    ($($argument:ident)*) => {
        impl<H, F, R: Describe, $($argument: Describe),*> DescribedHandler<($($argument,)*)> for H
        where
            H: Fn($($argument),*) -> F,
            F: Future<Output = R>,
        {
            fn describe_all(operation: &mut Operation, schemas: &mut Schemas) {
                $($argument::describe(operation, schemas);)*
                R::describe(operation, schemas);
                // Avoids unused warnings in expansions where nothing uses them.
                let _ = (operation, schemas);
            }
        }
    };
}
described_handler!();
described_handler!(A);
described_handler!(A B);
described_handler!(A B C);
described_handler!(A B C D);
described_handler!(A B C D E);

impl Describe for HeaderMap {}
impl Describe for RawQuery {}
impl Describe for Response {}
impl<T> Describe for State<T> {}

impl<T: Describe> Describe for Result<T, WebProblem> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        T::describe(operation, schemas);
    }
}

impl<T, R: RefusalSet, P> Describe for Result<T, Refused<R, P>>
where
    Result<T, P>: Describe,
{
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        Result::<T, P>::describe(operation, schemas);
        R::describe(operation);
        // Every use case reads or writes the store.
        operation.refuse(&[ErrorCode::StoreUnavailable]);
    }
}

/// The refusals of a handler: one type, or a tuple of several.
pub(in crate::web) trait RefusalSet {
    fn describe(operation: &mut Operation);
}

impl<R: Refuses> RefusalSet for R {
    fn describe(operation: &mut Operation) {
        operation.refuse(&R::documented());
    }
}

impl RefusalSet for SourceDown {
    fn describe(operation: &mut Operation) {
        operation.refuse(&[ErrorCode::RoleSourceUnavailable]);
    }
}

impl<A: RefusalSet, B: RefusalSet> RefusalSet for (A, B) {
    fn describe(operation: &mut Operation) {
        A::describe(operation);
        B::describe(operation);
    }
}

impl<A: RefusalSet, B: RefusalSet, C: RefusalSet> RefusalSet for (A, B, C) {
    fn describe(operation: &mut Operation) {
        <(A, B)>::describe(operation);
        C::describe(operation);
    }
}

impl<T: Describe> Describe for Result<T, OAuthProblem> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        T::describe(operation, schemas);
        operation.is_oauth = true;
    }
}

/// The schemas that operations refer to. Input and output have separate generators: a member that a response may omit
/// is not necessarily optional in a body.
pub(in crate::web) struct Schemas {
    input: SchemaGenerator,
    output: SchemaGenerator,
}

impl Schemas {
    pub(in crate::web::openapi) fn new() -> Self {
        let generator = |contract| {
            let mut settings = SchemaSettings::draft2020_12();
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
            settings.contract = contract;
            settings.into_generator()
        };
        Self {
            input: generator(Contract::Deserialize),
            output: generator(Contract::Serialize),
        }
    }

    /// Returns the schema of a request body.
    pub(in crate::web) fn request_schema<T: JsonSchema>(&mut self) -> Value {
        self.input.subschema_for::<T>().to_value()
    }

    /// Returns the schema of a response body.
    pub(in crate::web) fn response_schema<T: JsonSchema>(&mut self) -> Value {
        self.output.subschema_for::<T>().to_value()
    }

    /// Returns an inline schema, for a query: its members become parameters.
    pub(in crate::web) fn members<T: JsonSchema>(&mut self) -> Value {
        T::json_schema(&mut self.input).to_value()
    }

    /// Returns all schemas that were referenced.
    pub(in crate::web::openapi) fn definitions(mut self) -> Map<String, Value> {
        let mut all = self.input.take_definitions(true);
        all.extend(self.output.take_definitions(true));
        all
    }
}

/// A refusal or failure: status, code, and the title or, for an OAuth endpoint, the registered error.
pub(in crate::web::openapi) type Row = (u16, &'static str, &'static str);

/// A security scheme, and the roles or scopes that it requires.
type SecurityScheme = (&'static str, &'static [&'static str]);

/// A successful response.
#[derive(Clone, Debug, Default)]
pub(in crate::web::openapi) struct DocumentedAnswer {
    pub(in crate::web::openapi) description: &'static str,
    /// Schema and example by media type.
    pub(in crate::web::openapi) content: BTreeMap<&'static str, (Value, Option<Value>)>,
    pub(in crate::web::openapi) headers: Vec<&'static str>,
}

/// An operation under construction.
#[derive(Default)]
pub(in crate::web) struct Operation {
    pub(in crate::web::openapi) tag: &'static str,
    pub(in crate::web::openapi) id: String,
    pub(in crate::web::openapi) summary: &'static str,
    pub(in crate::web::openapi) description: &'static str,
    /// The accepted security schemes, each with its required roles or scopes; an empty name means no credential.
    pub(in crate::web::openapi) security: Vec<SecurityScheme>,
    /// Pattern and example of each path parameter, in the order of the path.
    pub(in crate::web) path_parameters: Vec<(&'static str, &'static str)>,
    pub(in crate::web) parameters: Vec<Value>,
    /// Schema and example by media type.
    pub(in crate::web::openapi) bodies: BTreeMap<&'static str, (Value, Option<Value>)>,
    pub(in crate::web) may_lack_body: bool,
    pub(in crate::web::openapi) answers: BTreeMap<u16, DocumentedAnswer>,
    /// The refusals of the handler and its arguments.
    pub(in crate::web::openapi) refusals: BTreeSet<Row>,
    /// The refusals as errors of an OAuth endpoint, and those that only such an endpoint has.
    pub(in crate::web::openapi) oauth: BTreeSet<Row>,
    /// Whether the handler refuses in OAuth's format (RFC 6749 section 5.2).
    pub(in crate::web::openapi) is_oauth: bool,
    /// Statuses of refusals that may be sent as a page.
    pub(in crate::web::openapi) pages: BTreeSet<u16>,
    /// Whether an argument or the handler recognises the caller.
    recognises: bool,
}

/// Creates an operation with its tag, id and one-line summary. Code generators derive function names from the id, so it
/// never changes.
pub(in crate::web) fn about(tag: &'static str, id: &str, summary: &'static str) -> Operation {
    Operation {
        tag,
        id: id.to_owned(),
        summary,
        ..Operation::default()
    }
}

impl Operation {
    /// Adds a longer description.
    pub(in crate::web) fn more(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// Adds refusals that the handler's types do not describe.
    pub(in crate::web) fn refuses(mut self, kinds: &[ErrorCode]) -> Self {
        self.refuse(kinds);
        self
    }

    /// Adds an example of the JSON body.
    pub(in crate::web) fn with_body(mut self, example: Value) -> Self {
        self.bodies.entry(JSON).or_default().1 = Some(example);
        self
    }

    /// Adds a form body: the members of its schema, each with a description, and the required ones.
    pub(in crate::web) fn takes_form(mut self, members: &Value, required: &[&str]) -> Self {
        let schema = json!({ "type": "object", "properties": members, "required": required });
        self.bodies.entry(FORM).or_default().0 = schema;
        self
    }

    /// Adds an example of the JSON response.
    pub(in crate::web) fn with_response(mut self, status: u16, example: Value) -> Self {
        let content = &mut self.answers.entry(status).or_default().content;
        content.entry(JSON).or_default().1 = Some(example);
        self
    }

    /// Adds a response that the handler's type does not describe.
    pub(in crate::web) fn answers(
        mut self,
        status: u16,
        description: &'static str,
        content: Option<(&'static str, Value)>,
    ) -> Self {
        let answer = self.answers.entry(status).or_default();
        answer.description = description;
        if let Some((media_type, schema)) = content {
            answer.content.entry(media_type).or_default().0 = schema;
        }
        if matches!(status, 302 | 303) {
            answer.headers.push("Location");
        }
        self
    }

    /// Adds a page for people as the response.
    pub(in crate::web) fn shows_page(self) -> Self {
        self.answers(200, "The page.", Some((HTML, json!({ "type": "string" }))))
    }

    /// Marks statuses whose refusals may be sent as a page.
    pub(in crate::web) fn refuses_on_page(mut self, statuses: &[u16]) -> Self {
        self.pages.extend(statuses);
        self
    }

    /// Adds a query parameter that the handler reads itself. The handler ignores other query parameters.
    pub(in crate::web) fn reads(self, name: &str, description: &str) -> Self {
        self.parameter("query", name, description)
    }

    /// Adds a header field that the handler reads itself.
    pub(in crate::web) fn reads_field(self, name: &str, description: &str) -> Self {
        self.parameter("header", name, description)
    }

    fn parameter(mut self, place: &str, name: &str, description: &str) -> Self {
        self.parameters.push(json!({
            "name": name, "in": place, "description": description, "schema": { "type": "string" },
        }));
        self
    }

    /// Adds a path parameter that matches the rest of the path in any form.
    pub(in crate::web) fn takes_rest_of_path(mut self) -> Self {
        self.path_parameters.push(("^.+$", "lists"));
        self
    }

    /// Marks that the handler itself recognises the caller.
    pub(in crate::web) fn recognises(mut self) -> Self {
        self.recognises = true;
        self
    }

    /// Makes the body optional.
    pub(in crate::web) fn may_lack_body(mut self) -> Self {
        self.may_lack_body = true;
        self
    }

    /// Adds security schemes that the handler checks itself. An empty name means that no credential is needed.
    pub(in crate::web) fn open_to(mut self, schemes: &[&'static str]) -> Self {
        self.security
            .extend(schemes.iter().map(|scheme| (*scheme, &[][..])));
        self
    }

    pub(in crate::web) fn refuse(&mut self, kinds: &[ErrorCode]) {
        self.refusals.extend(kinds.iter().map(|kind| kind.row()));
        let rows = kinds.iter().map(|kind| OAuthProblem::from(*kind).row());
        self.oauth.extend(rows);
    }

    /// Marks that an argument recognises the caller, by one of these security schemes with the roles or scopes that the
    /// credential must have.
    pub(in crate::web) fn recognise(&mut self, schemes: &[SecurityScheme]) {
        self.recognises = true;
        self.security.extend(schemes);
    }

    /// Adds the refusals that depend on whether the caller is recognised and whether the operation changes something.
    pub(in crate::web::openapi) fn complete(&mut self, changes: bool) {
        if self.recognises {
            self.refuse(&[
                DenyReason::CredentialMissing.into(),
                DenyReason::CredentialConflict.into(),
                DenyReason::BearerInvalid.into(),
                DenyReason::BearerExpired.into(),
                DenyReason::SessionEnded.into(),
                DenyReason::ApiKeyInvalid.into(),
                DenyReason::RateLimited.into(),
                ErrorCode::StoreUnavailable,
                ErrorCode::IssuerUnavailable,
            ]);
        }
        if self.recognises && changes {
            self.refuse(&[DenyReason::OriginRefused.into()]);
        }
        // A change may be refused because the audit trail is unavailable, and its write may time out with an unknown
        // outcome.
        if changes {
            self.refuse(&[ErrorCode::AuditUnavailable, ErrorCode::WriteUnknown]);
        }
    }

    /// Adds the response of a handler's type. A description given where the path is registered takes precedence.
    pub(in crate::web) fn answer(
        &mut self,
        status: u16,
        description: &'static str,
        schema: Option<Value>,
    ) {
        let answer = self.answers.entry(status).or_default();
        if answer.description.is_empty() {
            answer.description = description;
        }
        if let Some(schema) = schema {
            answer.content.entry(JSON).or_default().0 = schema;
        }
    }

    pub(in crate::web) fn body(&mut self, media_type: &'static str, schema: Value) {
        self.bodies.entry(media_type).or_default().0 = schema;
    }

    /// Adds the refusals common to all bodies.
    pub(in crate::web) fn refuse_bodies(&mut self) {
        self.refuse(&[
            ErrorCode::BodyMalformed,
            ErrorCode::ContentType,
            DenyReason::BodyTooLarge.into(),
        ]);
    }

    /// Returns the documented responses, against which actual ones are checked.
    pub(in crate::web::openapi) fn documents(&self) -> Documented {
        let oauth = self.oauth.iter().filter(|_| self.is_oauth);
        let bad = self.refusals.iter().chain(oauth);
        let good = self.answers.keys().map(|status| (*status, ""));
        let bad = bad.map(|(status, code, _)| (*status, *code));
        Documented(good.chain(bad).collect())
    }
}

/// The documented responses of an operation: statuses, each with a code if it is a refusal or failure.
#[derive(Clone, Debug, Default)]
pub(in crate::web) struct Documented(BTreeSet<(u16, &'static str)>);

impl Documented {
    /// Fails in debug builds if the document lacks this response, whose body is not yet written. `place` names the
    /// operation.
    pub(in crate::web) fn look(&self, response: &Response, place: &str) {
        if cfg!(debug_assertions) {
            let lacks = self.lacks(response);
            debug_assert!(lacks.is_none(), "the document lacks {lacks:?} of {place}");
        }
    }

    /// Returns the code or status of a response that the document lacks.
    fn lacks(&self, response: &Response) -> Option<String> {
        let status = response.status().as_u16();
        match WebProblem::of(response) {
            Some(problem) if problem.kind == ErrorCode::Internal => None,
            Some(problem) => {
                let code = problem.kind.as_str();
                (!self.0.contains(&(status, code))).then(|| code.to_owned())
            }
            None if self.0.iter().any(|(known, _)| *known == status) => None,
            None => Some(status.to_string()),
        }
    }
}

/// Returns the header fields that a refusal of this status has besides those of every response.
pub(in crate::web::openapi) fn fields_of(status: u16) -> &'static [&'static str] {
    match status {
        401 => &["WWW-Authenticate"],
        405 => &["Allow"],
        429 => &["Retry-After", "RateLimit", "RateLimit-Policy"],
        503 => &["Retry-After"],
        _ => &[],
    }
}
