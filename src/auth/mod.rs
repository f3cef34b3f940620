//! Floor 3: the decision core. Nobody else decides.

pub mod grant;
pub mod view;

use std::sync::Arc;

use crate::auth::grant::{Decision, Stop};
use crate::auth::view::RequestView;
use crate::model::identity::Identity;

/// Decides, for every surface.
#[derive(Debug)]
pub struct Authorizer {}

impl Authorizer {
    /// The one decision: route, credential, identity, roles, requirement.
    pub async fn decide(&self, _view: &RequestView<'_>) -> Decision {
        todo!()
    }

    /// The first half: who sends these headers; `None`: no credential came.
    ///
    /// # Errors
    /// [`Stop::Deny`] for a credential that is not accepted, [`Stop::Fail`] when that cannot be told.
    pub async fn authenticate(
        &self,
        _headers: &http::HeaderMap,
    ) -> Result<Option<Arc<Identity>>, Stop> {
        todo!()
    }
}
