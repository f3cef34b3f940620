//! A verified caller with the values of its identity headers.

use std::sync::Arc;

use http::HeaderValue;

use crate::model::access::{Role, Scope};
use crate::model::identity::Identity;

/// An identity and the values of its identity headers, made once and cloned per request.
#[derive(Debug)]
pub struct Caller {
    /// The verified identity.
    pub identity: Arc<Identity>,
    pub(crate) uid: Option<HeaderValue>,
    pub(crate) username: Option<HeaderValue>,
    /// Global roles only.
    pub(crate) roles: Option<HeaderValue>,
    pub(crate) scopes: Option<HeaderValue>,
    pub(crate) key_id: Option<HeaderValue>,
    /// The omitted values of a foreign token's claims, for operators.
    left_out: Option<String>,
}

impl Caller {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            uid: value(identity.subject()),
            username: identity.username().and_then(value),
            roles: list(identity.roles.iter().map(Role::as_str)),
            scopes: list(identity.scopes.iter().map(Scope::as_str)),
            key_id: identity.key_id.as_ref().and_then(|id| value(id.as_str())),
            identity: Arc::new(identity),
            left_out: None,
        }
    }

    /// Sets the omitted values of its token's claims.
    pub(in crate::auth) fn without(self, left_out: Option<String>) -> Self {
        Self { left_out, ..self }
    }

    /// Returns the omitted values of its token's claims and the reasons, for operators; `None` if there are none, or if
    /// the token is not a foreign one.
    #[must_use]
    pub fn left_out(&self) -> Option<&str> {
        self.left_out.as_deref()
    }

    /// Whether each value for the upstream has at most `bytes_max` bytes; `roles` are those of this request.
    ///
    /// Others assign roles, and issuers assign scopes: an upstream answers a value that it cannot read with a 400 that
    /// does not say why.
    pub(crate) fn fits(&self, roles: Option<&HeaderValue>, bytes_max: usize) -> bool {
        let values = [
            self.uid.as_ref(),
            self.username.as_ref(),
            roles,
            self.scopes.as_ref(),
        ];
        values
            .into_iter()
            .flatten()
            .all(|value| value.len() <= bytes_max)
    }
}

/// Formats a list for an identity header: separated by single spaces, which no role or scope contains.
pub(crate) fn list<'a>(words: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let mut text = String::new();
    for word in words {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    if text.is_empty() { None } else { value(&text) }
}

/// Creates a value from shared bytes, so that a clone does not allocate. Every text passed here is visible ASCII.
fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(bytes::Bytes::copy_from_slice(text.as_bytes())).ok()
}
