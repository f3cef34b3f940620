//! The document of all endpoints (`OpenAPI`), made of the router itself: a path is served only through [`Api`], which
//! writes it down.
//!
//! What an operation takes, who may call it and what its arguments refuse is described by the types of its handler
//! ([`Describe`]); codes and statuses come from the one table of `error`. What is written by hand, the refusals of use
//! cases above all, is checked in every debug build: an answer that the document does not know fails the request.

mod document;
mod operation;
mod page;
pub(in crate::web) mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::routing::{self, MethodRouter};
use serde_json::Value;

use crate::web::openapi::document::written;

pub(in crate::web) use crate::web::openapi::document::Document;
pub(in crate::web) use crate::web::openapi::operation::{
    API_KEY, BASIC, BEARER, COOKIE, Describe, DescribedHandler, Documented, FORM, JSON, Operation,
    Schemas, about,
};
pub(in crate::web) use crate::web::openapi::page::{document, script, show, style};
pub(in crate::web) use crate::web::openapi::rules::{Parameter, PathParameters};

/// The endpoints: their router and what is written of them.
pub(in crate::web) struct Api<S> {
    prefix: String,
    router: Router<S>,
    /// What may be answered to other proxies.
    questions: Documented,
    schemas: Schemas,
    /// Operations by path and method.
    paths: BTreeMap<String, BTreeMap<&'static str, Value>>,
}

/// What a path that takes every method is asked with. TRACE and CONNECT never get as far.
const EVERY: [&str; 7] = ["get", "head", "post", "put", "patch", "delete", "options"];

macro_rules! method {
    ($name:ident) => {
        /// Serves this method of a path below the prefix.
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
            let path = format!("{}{path}", self.prefix);
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

    /// Writes down where other proxies ask, with every method: the only paths that no router serves, since each of their
    /// requests is asked about.
    pub(in crate::web) fn questions(mut self, path: &str, mut operation: Operation) -> Self {
        operation.complete();
        let path = format!("{}{path}", self.prefix);
        for method in EVERY {
            operation.id = id_of(method, path.strip_prefix(&self.prefix).unwrap_or(&path));
            self.write(&path, method, &operation);
        }
        self.questions = operation.documents();
        self
    }

    /// Serves GET of a path of its own, wherever the prefix is.
    pub(in crate::web) fn get_outside<H, M, T>(
        self,
        path: &str,
        handler: H,
        operation: Operation,
    ) -> Self
    where
        H: Handler<T, S> + DescribedHandler<M>,
        T: 'static,
    {
        self.serve::<H, M>(path, "get", routing::get(handler), operation)
    }

    fn serve<H: DescribedHandler<M>, M>(
        mut self,
        path: &str,
        method: &'static str,
        route: MethodRouter<S>,
        mut operation: Operation,
    ) -> Self {
        operation.changes = method != "get";
        operation.complete();
        H::describe_all(&mut operation, &mut self.schemas);
        let route = checked(route, path, method, &operation);
        self.write(path, method, &operation);
        self.router = self.router.route(path, route);
        self
    }

    fn write(&mut self, path: &str, method: &'static str, operation: &Operation) {
        // A rest of the path is one parameter like any other.
        let path = path.replace("{*", "{");
        let value = written(&path, operation);
        self.paths.entry(path).or_default().insert(method, value);
    }

    /// The router, what the document knows of answers to questions, and the document.
    pub(in crate::web) fn finish(self) -> (Router<S>, Documented, Document) {
        let document = Document::new(self.paths, self.schemas);
        (self.router, self.questions, document)
    }
}

/// The name of an operation by its method and path: `post` of `/verify/{target}` is `postVerifyTarget`, and `post` of
/// `/verify/` is `postVerifySlash`.
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

/// The route; where debug assertions are on, with a look at each answer: whether the document knows it.
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
    let look = middleware::from_fn(move |request: Request, next: Next| {
        let (documented, place) = (Arc::clone(&documented), Arc::clone(&place));
        async move {
            let response = next.run(request).await;
            documented.look(&response, &place);
            response
        }
    });
    route.route_layer(look)
}
