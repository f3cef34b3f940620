//! Rules of texts as patterns (ECMA-262), for the schemas. The types of `model` judge; schemathesis sends what fits and what
//! does not, and so finds where the two differ.

use crate::model::access::{Name, ResourceId};

/// An e-mail address; white space around it is cut.
pub(in crate::web) const EMAIL: &str = r"^[ \t\r\n]*(?=[^@]{1,64}@)[A-Za-z0-9#$&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9#$&'*+/=?^_`{|}~-]+)*@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*(?![0-9]+[ \t\r\n]*$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?[ \t\r\n]*$";
/// A username before white space around it is cut and it is folded.
pub(in crate::web) const USERNAME: &str =
    r"^[ \t\r\n]*(?![Uu]-)[A-Za-z0-9][A-Za-z0-9._-]{1,63}[ \t\r\n]*$";
/// A text for people.
pub(in crate::web) const PRINTED: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";
/// A role.
pub(in crate::web) const ROLE: &str = r"^[!-+\--~]{1,255}$";
/// A kind of resource.
pub(in crate::web) const NAME: &str = Name::PATTERN;
/// Which resource.
pub(in crate::web) const RESOURCE_ID: &str = ResourceId::PATTERN;
/// A user's id.
pub(in crate::web) const UID: &str = "^u-[A-Za-z0-9_-]{8,64}$";
/// The id of an account.
pub(in crate::web) const ACCOUNT_ID: &str = "^a-[A-Za-z0-9_-]{8,64}$";

/// The id of an API key.
pub(in crate::web) const KEY_ID: &str = "^[A-Za-z0-9_-]{8}$";
/// The id of a session.
pub(in crate::web) const SESSION_ID: &str = "^s-[A-Za-z0-9_-]{8,64}$";

/// The pattern of a piece of a path, and an example, by its name and the piece before it.
pub(in crate::web::openapi) fn of_piece(before: &str, name: &str) -> (&'static str, &'static str) {
    match (before, name) {
        (_, "account_id") => (ACCOUNT_ID, "a-7hJk3nQr5s"),
        (_, "uid") => (UID, "u-4fGh2kLm9p"),
        (_, "resource") => (NAME, "list"),
        ("apikeys", "id") => (KEY_ID, "4fGh2kLm"),
        ("sessions", "id") => (SESSION_ID, "s-9kLm2pQr4t"),
        ("settings", "id") => ("^(global|set-[A-Za-z0-9_-]{8,64})$", "global"),
        (_, "target") => ("^.+$", "lists"),
        _ => (RESOURCE_ID, "42"),
    }
}
