//! What handlers share beside the request's own surroundings.

use std::sync::Arc;

use axum::extract::FromRef;

use crate::web::openapi::Document;
use crate::web::portal::Portal;

/// The state of the router.
#[derive(Clone, Debug)]
pub(in crate::web) struct WebState {
    pub(in crate::web) portal: Arc<Portal>,
    /// What is written of all endpoints.
    pub(in crate::web) document: Arc<Document>,
}

impl FromRef<WebState> for Arc<Portal> {
    fn from_ref(state: &WebState) -> Self {
        Self::clone(&state.portal)
    }
}

impl FromRef<WebState> for Arc<Document> {
    fn from_ref(state: &WebState) -> Self {
        Self::clone(&state.document)
    }
}
