//! The state that handlers share across requests.

use std::sync::Arc;

use axum::extract::FromRef;

use crate::web::openapi::ApiDocument;
use crate::web::portal::Portal;

/// The state of the router.
#[derive(Clone, Debug)]
pub(in crate::web) struct WebState {
    pub(in crate::web) portal: Arc<Portal>,
    /// The API document of all endpoints.
    pub(in crate::web) document: Arc<ApiDocument>,
}

impl FromRef<WebState> for Arc<Portal> {
    fn from_ref(state: &WebState) -> Self {
        Self::clone(&state.portal)
    }
}

impl FromRef<WebState> for Arc<ApiDocument> {
    fn from_ref(state: &WebState) -> Self {
        Self::clone(&state.document)
    }
}
