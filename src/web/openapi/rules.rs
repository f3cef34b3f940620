//! Rules for texts as patterns (ECMA-262), for the schemas. The types of `model` perform the actual checks;
//! schemathesis sends matching and other texts, and thereby finds differences between the two.

use crate::model::access::{Name, ResourceId};
use crate::model::id::{AccountId, KeyId, SessionId, UserId};

/// A kind of resource.
pub(in crate::web) const NAME: &str = Name::PATTERN;
/// The id of a resource.
pub(in crate::web) const RESOURCE_ID: &str = ResourceId::PATTERN;
/// A user's id.
pub(in crate::web) const UID: &str = "^u-[A-Za-z0-9_-]{8,64}$";

/// A type that a path or query carries as text, with its description for the document.
pub(in crate::web) trait Parameter {
    /// The pattern that every text of this type matches.
    const PATTERN: &'static str;
    const EXAMPLE: &'static str;
}

impl Parameter for AccountId {
    const PATTERN: &'static str = "^a-[A-Za-z0-9_-]{8,64}$";
    const EXAMPLE: &'static str = "a-7hJk3nQr5s";
}

impl Parameter for KeyId {
    const PATTERN: &'static str = "^[A-Za-z0-9_-]{8}$";
    const EXAMPLE: &'static str = "4fGh2kLm";
}

impl Parameter for Name {
    const PATTERN: &'static str = NAME;
    const EXAMPLE: &'static str = "list";
}

impl Parameter for ResourceId {
    const PATTERN: &'static str = RESOURCE_ID;
    const EXAMPLE: &'static str = "42";
}

impl Parameter for SessionId {
    const PATTERN: &'static str = "^s-[A-Za-z0-9_-]{8,64}$";
    const EXAMPLE: &'static str = "s-9kLm2pQr4t";
}

impl Parameter for UserId {
    const PATTERN: &'static str = UID;
    const EXAMPLE: &'static str = "u-4fGh2kLm9p";
}

/// The parameters of one path: one type, or a tuple in the order of the path.
pub(in crate::web) trait PathParameters {
    /// Pattern and example of each parameter.
    const ALL: &'static [(&'static str, &'static str)];
}

impl<T: Parameter> PathParameters for T {
    const ALL: &'static [(&'static str, &'static str)] = &[(T::PATTERN, T::EXAMPLE)];
}

impl<A: Parameter, B: Parameter> PathParameters for (A, B) {
    const ALL: &'static [(&'static str, &'static str)] =
        &[(A::PATTERN, A::EXAMPLE), (B::PATTERN, B::EXAMPLE)];
}

impl<A: Parameter, B: Parameter, C: Parameter> PathParameters for (A, B, C) {
    const ALL: &'static [(&'static str, &'static str)] = &[
        (A::PATTERN, A::EXAMPLE),
        (B::PATTERN, B::EXAMPLE),
        (C::PATTERN, C::EXAMPLE),
    ];
}
