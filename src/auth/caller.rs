//! A verified caller with what upstreams are told of it, ready to be copied into a request.

use std::sync::Arc;

use http::HeaderValue;

use crate::model::access::{Role, Scope};
use crate::model::identity::Identity;

/// An identity and the values of its identity headers, made once and cloned per request.
#[derive(Debug)]
pub struct Caller {
    /// Who.
    pub identity: Arc<Identity>,
    pub(crate) uid: Option<HeaderValue>,
    pub(crate) username: Option<HeaderValue>,
    /// Global roles only.
    pub(crate) roles: Option<HeaderValue>,
    pub(crate) scopes: Option<HeaderValue>,
    pub(crate) key_id: Option<HeaderValue>,
    /// What of a foreign token's claims was left out, for operators.
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

    /// The same, with what of its token's claims was left out.
    pub(in crate::auth) fn without(self, left_out: Option<String>) -> Self {
        Self { left_out, ..self }
    }

    /// What of its token's claims was left out and why, for operators; `None`: nothing, or it is no foreign token's.
    #[must_use]
    pub fn left_out(&self) -> Option<&str> {
        self.left_out.as_deref()
    }
}

impl Caller {
    /// Whether each value that an upstream would be told has at most so many bytes; `roles`: those of this request.
    ///
    /// Others give roles, and issuers give scopes: what an upstream cannot read it answers with a 400 that says nothing.
    pub(crate) fn fits(&self, roles: Option<&HeaderValue>, bytes_max: usize) -> bool {
        let told = [
            self.uid.as_ref(),
            self.username.as_ref(),
            roles,
            self.scopes.as_ref(),
        ];
        told.into_iter()
            .flatten()
            .all(|value| value.len() <= bytes_max)
    }
}

/// A list as identity headers carry it: separated by single spaces, which no role and no scope holds.
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

/// Into shared bytes, so that a clone allocates nothing. Every word that comes here is visible ASCII.
fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(bytes::Bytes::copy_from_slice(text.as_bytes())).ok()
}
