//! The document of all endpoints (`OpenAPI`), made of the router itself: a path is served only through [`Api`], which
//! writes it down.
//!
//! What an operation takes, who may call it and what its arguments refuse is told by the types of its handler
//! ([`tells`]); codes and statuses come from the one table of `error`. What is left to say by hand, the refusals of use
//! cases above all, is checked in every debug build: an answer that the document does not know fails the request.

mod document;
mod names;
mod operation;
mod page;
pub(in crate::web) mod rules;
mod tells;
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
use crate::web::openapi::names::operation_id;
use crate::web::openapi::operation::Told;
use crate::web::portal::Portal;

pub(in crate::web) use crate::web::openapi::document::Document;
pub(in crate::web) use crate::web::openapi::operation::{
    Documented, JSON, Operation, Schemas, about,
};
pub(in crate::web) use crate::web::openapi::page::{document, script, show, style};
pub(in crate::web) use crate::web::openapi::rules::Parameter;
pub(in crate::web) use crate::web::openapi::tells::{API_KEY, BASIC, BEARER, COOKIE};

/// The endpoints: their router and what is written of them.
pub(in crate::web) struct Api {
    prefix: String,
    router: Router<Arc<Portal>>,
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
            H: Handler<T, Arc<Portal>> + Told<M>,
            T: 'static,
        {
            let path = format!("{}{path}", self.prefix);
            let route = routing::$name(handler);
            self.serve::<H, M>(&path, stringify!($name), route, operation)
        }
    };
}

impl Api {
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
        operation.complete(&mut self.schemas);
        let path = format!("{}{path}", self.prefix);
        for method in EVERY {
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
        H: Handler<T, Arc<Portal>> + Told<M>,
        T: 'static,
    {
        self.serve::<H, M>(path, "get", routing::get(handler), operation)
    }

    fn serve<H: Told<M>, M>(
        mut self,
        path: &str,
        method: &'static str,
        route: MethodRouter<Arc<Portal>>,
        mut operation: Operation,
    ) -> Self {
        operation.changes = method != "get";
        operation.expect_writes();
        self.tell::<H, M>(&mut operation);
        let route = checked(route, path, method, &operation);
        self.write(path, method, &operation);
        self.router = self.router.route(path, route);
        self
    }

    fn tell<H: Told<M>, M>(&mut self, operation: &mut Operation) {
        H::tell_all(operation, &mut self.schemas);
        operation.complete(&mut self.schemas);
    }

    fn write(&mut self, path: &str, method: &'static str, operation: &Operation) {
        // A rest of the path is one parameter like any other.
        let path = path.replace("{*", "{");
        let below = path.strip_prefix(&self.prefix).unwrap_or(&path);
        let value = written(&path, &operation_id(method, below), operation);
        self.paths.entry(path).or_default().insert(method, value);
    }

    /// The router, what the document knows of answers to questions, and the document.
    pub(in crate::web) fn finish(self) -> (Router<Arc<Portal>>, Documented, Document) {
        let document = Document::new(self.paths, self.schemas);
        (self.router, self.questions, document)
    }
}

/// The route; where debug assertions are on, with a look at each answer: whether the document knows it.
fn checked(
    route: MethodRouter<Arc<Portal>>,
    path: &str,
    method: &'static str,
    operation: &Operation,
) -> MethodRouter<Arc<Portal>> {
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
