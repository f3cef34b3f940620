//! One operation of the document: what its handler takes and gives, told by the handler's own types as far as types can
//! tell, and the rest by whoever puts it on a path.

use std::collections::{BTreeMap, BTreeSet};

use axum::response::Response;
use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::model::deny::DenyReason;
use crate::web::error::{Kind, OAuthProblem, Problem};

/// The media type of JSON.
pub(in crate::web) const JSON: &str = "application/json";
/// The media type of forms.
pub(in crate::web) const FORM: &str = "application/x-www-form-urlencoded";
/// The media type of pages.
pub(in crate::web) const HTML: &str = "text/html";

/// Where the document keeps schemas.
pub(in crate::web::openapi) const SCHEMAS: &str = "#/components/schemas/";

/// A handler's argument or answer that says what it means for the operation.
pub(in crate::web) trait Tell {
    /// Says it.
    fn tell(operation: &mut Operation, schemas: &mut Schemas);
}

/// A handler, whose arguments `M` and answer are told in their order.
pub(in crate::web) trait Told<M> {
    /// Has all of them say what they mean.
    fn tell_all(operation: &mut Operation, schemas: &mut Schemas);
}

macro_rules! told {
    ($($argument:ident)*) => {
        impl<H, F, R: Tell, $($argument: Tell),*> Told<($($argument,)*)> for H
        where
            H: Fn($($argument),*) -> F,
            F: Future<Output = R>,
        {
            fn tell_all(operation: &mut Operation, schemas: &mut Schemas) {
                $($argument::tell(operation, schemas);)*
                R::tell(operation, schemas);
                // Without arguments or an answer that takes them they would count as unused.
                let _ = (operation, schemas);
            }
        }
    };
}
told!();
told!(A);
told!(A B);
told!(A B C);
told!(A B C D);

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

/// A refusal that the operation may answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::web::openapi) struct Refusal {
    pub(in crate::web::openapi) status: u16,
    pub(in crate::web::openapi) code: &'static str,
    pub(in crate::web::openapi) title: &'static str,
}

impl From<Kind> for Refusal {
    fn from(kind: Kind) -> Self {
        let (status, code, title) = kind.row();
        Self {
            status,
            code,
            title,
        }
    }
}

/// A good answer.
#[derive(Clone, Debug, Default)]
pub(in crate::web::openapi) struct Answer {
    pub(in crate::web::openapi) description: &'static str,
    /// Schema and example by media type.
    pub(in crate::web::openapi) content: BTreeMap<&'static str, (Value, Option<Value>)>,
    pub(in crate::web::openapi) headers: Vec<&'static str>,
}

/// An operation while it is told.
pub(in crate::web) struct Operation {
    pub(in crate::web::openapi) tag: &'static str,
    pub(in crate::web::openapi) summary: &'static str,
    pub(in crate::web::openapi) description: &'static str,
    /// Whether a cookie needs an `Origin` beside it.
    pub(in crate::web::openapi) changes: bool,
    /// Schemes that open it, each with the roles or scopes it must have; a scheme without a name is none at all.
    pub(in crate::web::openapi) security: Vec<(&'static str, Vec<&'static str>)>,
    /// Pattern and example of each path parameter, in the order of the path.
    pub(in crate::web::openapi) path_parameters: Vec<(&'static str, &'static str)>,
    pub(in crate::web::openapi) parameters: Vec<Value>,
    /// Schema and example by media type.
    pub(in crate::web::openapi) bodies: BTreeMap<&'static str, (Value, Option<Value>)>,
    pub(in crate::web::openapi) may_lack_body: bool,
    pub(in crate::web::openapi) answers: BTreeMap<u16, Answer>,
    /// Refused by the handler or by what stands in its arguments.
    pub(in crate::web::openapi) refusals: BTreeSet<Refusal>,
    /// The errors of an OAuth endpoint: status, registered error, code.
    pub(in crate::web::openapi) oauth: BTreeSet<(u16, &'static str, &'static str)>,
    /// Whether the handler refuses as OAuth says (RFC 6749 section 5.2).
    pub(in crate::web::openapi) is_oauth: bool,
    /// Statuses of refusals that may come as a page.
    pub(in crate::web::openapi) pages: BTreeSet<u16>,
    /// What needs the schemas.
    later: Vec<Later>,
}

type Later = Box<dyn FnOnce(&mut Operation, &mut Schemas)>;

/// An operation: under which heading, and in one line what it does.
pub(in crate::web) fn about(tag: &'static str, summary: &'static str) -> Operation {
    Operation {
        tag,
        summary,
        description: "",
        changes: false,
        security: Vec::new(),
        path_parameters: Vec::new(),
        parameters: Vec::new(),
        bodies: BTreeMap::new(),
        may_lack_body: false,
        answers: BTreeMap::new(),
        refusals: BTreeSet::new(),
        oauth: BTreeSet::new(),
        is_oauth: false,
        pages: BTreeSet::new(),
        later: Vec::new(),
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
        self.tell_grants(problems);
        self
    }

    pub(in crate::web) fn tell_grants(&mut self, problems: &[OAuthProblem]) {
        let rows = problems
            .iter()
            .map(|problem| (problem.status(), problem.error, problem.code));
        self.oauth.extend(rows);
    }

    /// An example of the JSON that it takes.
    pub(in crate::web) fn takes(mut self, example: Value) -> Self {
        self.bodies.entry(JSON).or_default().1 = Some(example);
        self
    }

    /// JSON that the handler reads by hand, with an example.
    pub(in crate::web) fn takes_json<T: JsonSchema + 'static>(mut self, example: Value) -> Self {
        self.later.push(Box::new(|operation, schemas| {
            operation.body(schemas.taken::<T>());
        }));
        self.takes(example)
    }

    /// JSON that the handler writes by hand, with an example.
    pub(in crate::web) fn gives_json<T: JsonSchema + 'static>(
        mut self,
        status: u16,
        description: &'static str,
        example: Value,
    ) -> Self {
        self.later.push(Box::new(move |operation, schemas| {
            operation.answer_json(status, description, schemas.given::<T>());
        }));
        self.gives(status, example)
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
        self.later
            .push(Box::new(|operation, _| operation.recognise()));
        self
    }

    /// The body may be left out.
    pub(in crate::web) fn may_lack_body(mut self) -> Self {
        self.may_lack_body = true;
        self
    }

    /// Has everything said that was put off.
    pub(in crate::web::openapi) fn complete(&mut self, schemas: &mut Schemas) {
        for say in std::mem::take(&mut self.later) {
            say(self, schemas);
        }
    }

    /// A credential that the handler reads by hand. A scheme without a name: none is needed.
    pub(in crate::web) fn open_to(mut self, schemes: &[&'static str]) -> Self {
        let schemes = schemes.iter().map(|scheme| (*scheme, Vec::new()));
        self.security.extend(schemes);
        self
    }

    pub(in crate::web) fn refuse(&mut self, kinds: &[Kind]) {
        self.refusals
            .extend(kinds.iter().map(|kind| Refusal::from(*kind)));
        let rows = kinds.iter().map(|kind| {
            let problem = OAuthProblem::from(Problem::from(*kind));
            (problem.status(), problem.error, problem.code)
        });
        self.oauth.extend(rows);
    }

    /// What changes something may be refused for want of an audit trail, and may be written too late to tell.
    pub(in crate::web::openapi) fn expect_writes(&mut self) {
        if self.changes {
            self.refuse(&[Kind::AuditUnavailable, Kind::WriteUnknown]);
        }
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

    pub(in crate::web) fn answer(&mut self, status: u16, description: &'static str) {
        self.answers.entry(status).or_default().description = description;
    }

    pub(in crate::web) fn answer_json(
        &mut self,
        status: u16,
        description: &'static str,
        schema: Value,
    ) {
        let answer = self.answers.entry(status).or_default();
        answer.description = description;
        answer.content.entry(JSON).or_default().0 = schema;
    }

    pub(in crate::web) fn body(&mut self, schema: Value) {
        self.bodies.entry(JSON).or_default().0 = schema;
    }

    /// Whether it may answer so: the check that keeps the document true.
    pub(in crate::web::openapi) fn documents(&self) -> Documented {
        let mut statuses: BTreeSet<u16> = self.answers.keys().copied().collect();
        statuses.extend(self.refusals.iter().map(|refusal| refusal.status));
        let mut codes: BTreeSet<(u16, &'static str)> = self
            .refusals
            .iter()
            .map(|refusal| (refusal.status, refusal.code))
            .collect();
        let oauth = self.oauth.iter().filter(|_| self.is_oauth);
        for (status, _, code) in oauth {
            statuses.insert(*status);
            codes.insert((*status, code));
        }
        Documented { statuses, codes }
    }
}

/// What an operation may answer with.
#[derive(Clone, Debug, Default)]
pub(in crate::web) struct Documented {
    statuses: BTreeSet<u16>,
    codes: BTreeSet<(u16, &'static str)>,
}

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
            Some(code) => (!self.codes.contains(&(status, code))).then(|| code.to_owned()),
            None if self.statuses.contains(&status) => None,
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
