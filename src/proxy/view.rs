//! From Pingora's head to what the decision sees.

use http::HeaderValue;
use pingora::http::RequestHeader;

use crate::auth::view::Target;
use crate::model::deny::DenyReason;

/// What a head that the guard let pass asks for.
///
/// # Errors
/// As [`Target::read`].
pub(crate) fn target_of(head: &RequestHeader) -> Result<Target, DenyReason> {
    let authority = head.uri.authority().map(|it| it.as_str().as_bytes());
    let host_field = head.headers.get(http::header::HOST);
    let authority = host_field.map(HeaderValue::as_bytes).or(authority);
    Target::read(authority.unwrap_or_default(), head.raw_path())
}
