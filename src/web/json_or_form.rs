//! An endpoint with two handlers: one for programs, which send JSON, and one for the gateway's own pages, which send
//! forms.

use std::pin::Pin;

use axum::extract::Request;
use axum::handler::Handler;
use axum::response::Response;

use crate::web::body::is_form_sent;
use crate::web::openapi::{DescribedHandler, Operation, Schemas};

/// Routes forms to `form` and all other requests to `json`, which refuses other content types if it accepts a body.
pub(in crate::web) const fn json_or_form<J, F>(json: J, form: F) -> JsonOrForm<J, F> {
    JsonOrForm { json, form }
}

#[derive(Clone)]
pub(in crate::web) struct JsonOrForm<J, F> {
    json: J,
    form: F,
}

/// The arguments of both handlers.
pub(in crate::web) struct Both<J, F>(J, F);

impl<J, F, JArguments, FArguments, S> Handler<Both<JArguments, FArguments>, S> for JsonOrForm<J, F>
where
    J: Handler<JArguments, S>,
    F: Handler<FArguments, S>,
    S: Send + 'static,
{
    type Future = Pin<Box<dyn Future<Output = Response> + Send>>;

    fn call(self, request: Request, state: S) -> Self::Future {
        if is_form_sent(request.headers()) {
            Box::pin(self.form.call(request, state))
        } else {
            Box::pin(self.json.call(request, state))
        }
    }
}

impl<J, F, JArguments, FArguments> DescribedHandler<Both<JArguments, FArguments>>
    for JsonOrForm<J, F>
where
    J: DescribedHandler<JArguments>,
    F: DescribedHandler<FArguments>,
{
    fn describe_all(operation: &mut Operation, schemas: &mut Schemas) {
        J::describe_all(operation, schemas);
        F::describe_all(operation, schemas);
    }
}
