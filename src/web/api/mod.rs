//! The handlers, one module per topic.

pub(in crate::web) mod accounts;
pub(in crate::web) mod introspect;
pub(in crate::web) mod jwks;
pub(in crate::web) mod keys;
pub(in crate::web) mod me;
pub(in crate::web) mod members;
pub(in crate::web) mod password;
pub(in crate::web) mod registration;
pub(in crate::web) mod roles;
pub(in crate::web) mod session;
pub(in crate::web) mod settings;

use crate::model::error_code::ErrorCode;
use crate::web::error::WebProblem;

/// Answers paths that the gateway does not serve.
pub(in crate::web) async fn not_found() -> WebProblem {
    ErrorCode::NotFound.into()
}
