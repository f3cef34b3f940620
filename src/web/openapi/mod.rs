//! The API document (`OpenAPI`) of all endpoints, generated from the router: paths are registered only through [`Api`],
//! which documents them.
//!
//! The types of a handler describe its input, its permitted callers and what its arguments and its use case refuse
//! ([`Describe`]); codes and statuses come from the single table of `model/error_code`. The rest is handwritten. Every
//! debug build checks it: an undocumented response fails the request.

mod document;
mod operation;
mod page;
pub(in crate::web) mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::middleware;
use axum::response::Response;
use axum::routing::{self, MethodRouter};
use serde_json::Value;

use crate::web::openapi::document::written;

pub(in crate::web) use crate::web::openapi::document::ApiDocument;
pub(in crate::web) use crate::web::openapi::operation::{
    API_KEY, BASIC, BEARER, COOKIE, Describe, DescribedHandler, Documented, FORM, JSON, Operation,
    Schemas, about,
};
pub(in crate::web) use crate::web::openapi::page::{document, script, show, style};
pub(in crate::web) use crate::web::openapi::rules::{Parameter, PathParameters};

/// The endpoints: their router and their documentation.
pub(in crate::web) struct Api<S> {
    prefix: String,
    router: Router<S>,
    /// The documented answers to other proxies.
    questions: Documented,
    schemas: Schemas,
    /// Operations by path and method.
    paths: BTreeMap<String, BTreeMap<&'static str, Value>>,
}

/// The methods documented for a path that accepts every method. TRACE and CONNECT are refused earlier.
const EVERY: [&str; 7] = ["get", "head", "post", "put", "patch", "delete", "options"];

macro_rules! method {
    ($name:ident) => {
        /// Serves this method of a path.
        pub(in crate::web) fn $name<H, M, T>(
            self,
            path: &str,
            handler: H,
            operation: Operation,
        ) -> Self
        where
            H: Handler<T, S> + DescribedHandler<M>,
            T: 'static,
        {
            let path = self.whole(path);
            let route = routing::$name(handler);
            self.serve::<H, M>(&path, stringify!($name), route, operation)
        }
    };
}

impl<S: Clone + Send + Sync + 'static> Api<S> {
    pub(in crate::web) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            router: Router::new(),
            questions: Documented::default(),
            schemas: Schemas::new(),
            paths: BTreeMap::new(),
        }
    }

    method!(get);
    method!(post);
    method!(put);
    method!(patch);
    method!(delete);

    /// Documents a path where other proxies ask, for every method. No router serves these paths, since any request to
    /// them is a question.
    pub(in crate::web) fn questions(mut self, path: &str, mut operation: Operation) -> Self {
        operation.complete(false);
        let whole = self.whole(path);
        for method in EVERY {
            operation.id = id_of(method, path);
            self.write(&whole, method, &operation);
        }
        self.questions = operation.documents();
        self
    }

    /// Returns the full path. Well-known paths (RFC 8615) are at the root, whatever the prefix.
    fn whole(&self, path: &str) -> String {
        let is_well_known = path.starts_with("/.well-known/");
        let prefix = if is_well_known { "" } else { &self.prefix };
        format!("{prefix}{path}")
    }

    fn serve<H: DescribedHandler<M>, M>(
        mut self,
        path: &str,
        method: &'static str,
        route: MethodRouter<S>,
        mut operation: Operation,
    ) -> Self {
        H::describe_all(&mut operation, &mut self.schemas);
        operation.complete(method != "get");
        let route = checked(route, path, method, &operation);
        self.write(path, method, &operation);
        self.router = self.router.route(path, route);
        self
    }

    fn write(&mut self, path: &str, method: &'static str, operation: &Operation) {
        // A wildcard is one parameter like any other.
        let path = path.replace("{*", "{");
        let value = written(&path, operation);
        self.paths.entry(path).or_default().insert(method, value);
    }

    /// Returns the router, the documented answers to other proxies, and the document.
    pub(in crate::web) fn finish(self) -> (Router<S>, Documented, ApiDocument) {
        let document = ApiDocument::new(self.paths, self.schemas);
        (self.router, self.questions, document)
    }
}

/// Returns the id of an operation from its method and path: `post` of `/verify/{target}` is `postVerifyTarget`, and
/// `post` of `/verify/` is `postVerifySlash`.
fn id_of(method: &str, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric());
    let mut id = method.to_owned();
    for word in words.filter(|word| !word.is_empty()) {
        let (first, rest) = word.split_at(1);
        id.push_str(&first.to_ascii_uppercase());
        id.push_str(rest);
    }
    if path.ends_with('/') {
        id.push_str("Slash");
    }
    id
}

/// Returns the route; with debug assertions, each response is checked against the document.
fn checked<S: Clone + Send + Sync + 'static>(
    route: MethodRouter<S>,
    path: &str,
    method: &'static str,
    operation: &Operation,
) -> MethodRouter<S> {
    if !cfg!(debug_assertions) {
        return route;
    }
    let documented = Arc::new(operation.documents());
    let place: Arc<str> = format!("{method} {path}").into();
    let look = middleware::map_response(move |response: Response| {
        documented.look(&response, &place);
        ready(response)
    });
    route.route_layer(look)
}
