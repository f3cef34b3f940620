//! One operation of the document: what its handler takes and gives, described by the handler's own types as far as types
//! can, and the rest where the handler gets its path.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::HeaderMap;
use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::account::halt::Refuses;
use crate::model::deny::DenyReason;
use crate::web::error::{Kind, OAuthProblem, Problem, Refused};

/// The media type of JSON.
pub(in crate::web) const JSON: &str = "application/json";
/// The media type of forms.
pub(in crate::web) const FORM: &str = "application/x-www-form-urlencoded";
/// The media type of pages.
pub(in crate::web) const HTML: &str = "text/html";

/// Where the document keeps schemas.
pub(in crate::web::openapi) const SCHEMAS: &str = "#/components/schemas/";

/// The security schemes of the document.
pub(in crate::web) const BEARER: &str = "bearer";
pub(in crate::web) const API_KEY: &str = "api_key";
pub(in crate::web) const COOKIE: &str = "cookie";
pub(in crate::web) const BASIC: &str = "basic";

/// An argument or an answer of a handler that describes its part of the operation.
pub(in crate::web) trait Describe {
    /// Adds the part to the operation.
    fn describe(operation: &mut Operation, schemas: &mut Schemas);
}

/// A handler whose arguments and answer describe the operation. `M`: the arguments, so that one type may implement it once
/// for each list of arguments.
pub(in crate::web) trait DescribedHandler<M> {
    /// Adds the parts of all arguments, in their order, and of the answer.
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
                // Without arguments or an answer that takes them they would count as unused.
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

macro_rules! describes_nothing {
    ($($argument:ty),*) => {
        $(impl Describe for $argument {
            fn describe(_: &mut Operation, _: &mut Schemas) {}
        })*
    };
}
describes_nothing!(HeaderMap, RawQuery, Response);

impl<T> Describe for State<T> {
    fn describe(_: &mut Operation, _: &mut Schemas) {}
}

impl<T: Describe> Describe for Result<T, Problem> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        T::describe(operation, schemas);
    }
}

impl<T: Describe, R: Refuses> Describe for Result<T, Refused<R>> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        T::describe(operation, schemas);
        operation.refuse(R::ALL);
        // Every use case reads or writes the store.
        operation.refuse(&[Kind::StoreUnavailable]);
    }
}

impl<T: Describe> Describe for Result<T, OAuthProblem> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        T::describe(operation, schemas);
        operation.is_oauth = true;
    }
}

/// The schemas that operations refer to. What is taken and what is given differ: a member that is left out of an answer
/// is not one that a body may leave out.
pub(in crate::web) struct Schemas {
    taken: SchemaGenerator,
    given: SchemaGenerator,
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
            taken: generator(Contract::Deserialize),
            given: generator(Contract::Serialize),
        }
    }

    /// The schema of what callers send.
    pub(in crate::web) fn taken<T: JsonSchema>(&mut self) -> Value {
        self.taken.subschema_for::<T>().to_value()
    }

    /// The schema of what they get.
    pub(in crate::web) fn given<T: JsonSchema>(&mut self) -> Value {
        self.given.subschema_for::<T>().to_value()
    }

    /// A schema in place, for a query: its members become parameters.
    pub(in crate::web) fn members<T: JsonSchema>(&mut self) -> Value {
        T::json_schema(&mut self.taken).to_value()
    }

    /// All that was referred to.
    pub(in crate::web::openapi) fn definitions(mut self) -> Map<String, Value> {
        let mut all = self.taken.take_definitions(true);
        all.extend(self.given.take_definitions(true));
        all
    }
}

/// An answer that refuses or fails: status, code, and the title or, of an OAuth endpoint, the registered error.
pub(in crate::web::openapi) type Row = (u16, &'static str, &'static str);

/// A good answer.
#[derive(Clone, Debug, Default)]
pub(in crate::web::openapi) struct Answer {
    pub(in crate::web::openapi) description: &'static str,
    /// Schema and example by media type.
    pub(in crate::web::openapi) content: BTreeMap<&'static str, (Value, Option<Value>)>,
    pub(in crate::web::openapi) headers: Vec<&'static str>,
}

/// An operation while it is being described.
#[derive(Default)]
pub(in crate::web) struct Operation {
    pub(in crate::web::openapi) tag: &'static str,
    pub(in crate::web::openapi) id: String,
    pub(in crate::web::openapi) summary: &'static str,
    pub(in crate::web::openapi) description: &'static str,
    /// Whether a cookie needs an `Origin` beside it.
    pub(in crate::web::openapi) changes: bool,
    /// Schemes that open it, each with the roles or scopes it must have; a scheme without a name is none at all.
    pub(in crate::web::openapi) security: Vec<(&'static str, Vec<&'static str>)>,
    /// Pattern and example of each path parameter, in the order of the path.
    pub(in crate::web) path_parameters: Vec<(&'static str, &'static str)>,
    pub(in crate::web) parameters: Vec<Value>,
    /// Schema and example by media type.
    pub(in crate::web::openapi) bodies: BTreeMap<&'static str, (Value, Option<Value>)>,
    pub(in crate::web) may_lack_body: bool,
    pub(in crate::web::openapi) answers: BTreeMap<u16, Answer>,
    /// Refused by the handler or by what stands in its arguments.
    pub(in crate::web::openapi) refusals: BTreeSet<Row>,
    /// The same as errors of an OAuth endpoint, and what only such a one refuses.
    pub(in crate::web::openapi) oauth: BTreeSet<Row>,
    /// Whether the handler refuses as OAuth says (RFC 6749 section 5.2).
    pub(in crate::web::openapi) is_oauth: bool,
    /// Statuses of refusals that may come as a page.
    pub(in crate::web::openapi) pages: BTreeSet<u16>,
    /// Whether the handler recognises the caller by itself.
    recognises: bool,
}

/// An operation: under which heading, its name, and in one line what it does. Generators make the names of functions of
/// the name, so it never changes.
pub(in crate::web) fn about(tag: &'static str, id: &str, summary: &'static str) -> Operation {
    Operation {
        tag,
        id: id.to_owned(),
        summary,
        ..Operation::default()
    }
}

impl Operation {
    /// More than the summary says.
    pub(in crate::web) fn more(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// What the use case may refuse or fail with. What the handler's arguments refuse they say themselves.
    pub(in crate::web) fn refuses(mut self, kinds: &[Kind]) -> Self {
        self.refuse(kinds);
        self
    }

    /// What an OAuth endpoint may refuse beside that.
    pub(in crate::web) fn refuses_grants(mut self, problems: &[OAuthProblem]) -> Self {
        self.refuse_grants(problems);
        self
    }

    pub(in crate::web) fn refuse_grants(&mut self, problems: &[OAuthProblem]) {
        let rows = problems
            .iter()
            .map(|problem| (problem.status(), problem.code, problem.error));
        self.oauth.extend(rows);
    }

    /// An example of the JSON that it takes.
    pub(in crate::web) fn takes(mut self, example: Value) -> Self {
        self.bodies.entry(JSON).or_default().1 = Some(example);
        self
    }

    /// A form that it takes: members of a schema with a description each, and which of them must be there.
    pub(in crate::web) fn takes_form(mut self, members: &Value, required: &[&str]) -> Self {
        let schema = json!({ "type": "object", "properties": members, "required": required });
        self.bodies.entry(FORM).or_default().0 = schema;
        self
    }

    /// An example of the JSON that it gives.
    pub(in crate::web) fn gives(mut self, status: u16, example: Value) -> Self {
        let content = &mut self.answers.entry(status).or_default().content;
        content.entry(JSON).or_default().1 = Some(example);
        self
    }

    /// An answer that the handler's type does not tell.
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

    /// A page for people.
    pub(in crate::web) fn shows_page(self) -> Self {
        self.answers(200, "The page.", Some((HTML, json!({ "type": "string" }))))
    }

    /// Refusals with these statuses may come as a page.
    pub(in crate::web) fn refuses_on_page(mut self, statuses: &[u16]) -> Self {
        self.pages.extend(statuses);
        self
    }

    /// A parameter of the query that the handler reads by hand. Whatever else is there is not looked at.
    pub(in crate::web) fn reads(mut self, name: &str, description: &str) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "query", "description": description, "schema": { "type": "string" },
        }));
        self
    }

    /// A header field that the handler reads by hand.
    pub(in crate::web) fn reads_field(mut self, name: &str, description: &str) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "header", "description": description, "schema": { "type": "string" },
        }));
        self
    }

    /// The rest of the path, of any form.
    pub(in crate::web) fn takes_rest_of_path(mut self) -> Self {
        self.path_parameters.push(("^.+$", "lists"));
        self
    }

    /// It recognises the caller by hand.
    pub(in crate::web) fn recognises(mut self) -> Self {
        self.recognises = true;
        self
    }

    /// The body may be left out.
    pub(in crate::web) fn may_lack_body(mut self) -> Self {
        self.may_lack_body = true;
        self
    }

    /// Adds what depends on whether the operation changes something.
    pub(in crate::web::openapi) fn complete(&mut self) {
        if self.recognises {
            self.recognise();
        }
        // What changes something may be refused for want of an audit trail, and may be written too late to know.
        if self.changes {
            self.refuse(&[Kind::AuditUnavailable, Kind::WriteUnknown]);
        }
    }

    /// Credentials that the handler reads by itself. A scheme without a name: none is needed.
    pub(in crate::web) fn open_to(mut self, schemes: &[&'static str]) -> Self {
        for scheme in schemes {
            self.accept(scheme, &[]);
        }
        self
    }

    /// A security scheme, with the roles or scopes that the credential must have.
    pub(in crate::web) fn accept(&mut self, scheme: &'static str, needs: &[&'static str]) {
        self.security.push((scheme, needs.to_vec()));
    }

    pub(in crate::web) fn refuse(&mut self, kinds: &[Kind]) {
        self.refusals.extend(kinds.iter().map(|kind| kind.row()));
        let rows = kinds.iter().map(|kind| {
            let problem = OAuthProblem::from(Problem::from(*kind));
            (problem.status(), problem.code, problem.error)
        });
        self.oauth.extend(rows);
    }

    /// What recognising a caller may come to.
    pub(in crate::web) fn recognise(&mut self) {
        self.refuse(&[
            DenyReason::CredentialMissing.into(),
            DenyReason::CredentialConflict.into(),
            DenyReason::BearerInvalid.into(),
            DenyReason::BearerExpired.into(),
            DenyReason::SessionEnded.into(),
            DenyReason::ApiKeyInvalid.into(),
            DenyReason::RateLimited.into(),
            Kind::StoreUnavailable,
            Kind::IssuerUnavailable,
        ]);
        if self.changes {
            self.refuse(&[DenyReason::OriginRefused.into()]);
        }
    }

    /// An answer of a handler's type. A description that is given where the handler gets its path counts instead.
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

    /// What is refused of every body.
    pub(in crate::web) fn refuse_bodies(&mut self) {
        self.refuse(&[
            Kind::BodyMalformed,
            Kind::ContentType,
            DenyReason::BodyTooLarge.into(),
        ]);
    }

    /// What it may answer with: the check that keeps the document true.
    pub(in crate::web::openapi) fn documents(&self) -> Documented {
        let oauth = self.oauth.iter().filter(|_| self.is_oauth);
        let bad = self.refusals.iter().chain(oauth);
        let good = self.answers.keys().map(|status| (*status, ""));
        let bad = bad.map(|(status, code, _)| (*status, *code));
        Documented(good.chain(bad).collect())
    }
}

/// What an operation may answer with: statuses, each with a code if it refuses or fails.
#[derive(Clone, Debug, Default)]
pub(in crate::web) struct Documented(BTreeSet<(u16, &'static str)>);

impl Documented {
    /// Fails in debug builds if the document does not know an answer of this place, whose body is not written yet.
    pub(in crate::web) fn look(&self, response: &Response, place: &str) {
        if cfg!(debug_assertions) {
            let lacks = self.lacks(response);
            debug_assert!(lacks.is_none(), "the document lacks {lacks:?} of {place}");
        }
    }

    /// What of an answer the document does not know.
    fn lacks(&self, response: &Response) -> Option<String> {
        let status = response.status().as_u16();
        let extensions = response.extensions();
        let problem = extensions.get::<Problem>();
        let code = problem.map(|problem| problem.kind.row().1);
        let oauth = extensions.get::<OAuthProblem>();
        match code.or(oauth.map(|oauth| oauth.code)) {
            Some(code) if code == Kind::Internal.as_str() => None,
            Some(code) => (!self.0.contains(&(status, code))).then(|| code.to_owned()),
            None if self.0.iter().any(|(known, _)| *known == status) => None,
            None => Some(status.to_string()),
        }
    }
}

/// The header fields that a refusal of this status carries beside those of every answer.
pub(in crate::web::openapi) fn fields_of(status: u16) -> &'static [&'static str] {
    match status {
        401 => &["WWW-Authenticate"],
        405 => &["Allow"],
        429 => &["Retry-After", "RateLimit", "RateLimit-Policy"],
        503 => &["Retry-After"],
        _ => &[],
    }
}
