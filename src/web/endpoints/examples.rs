//! Example requests and responses of the API document. A test checks them against the schemas.

use serde_json::{Value, json};

pub(in crate::web::endpoints) const JWT: &str = "eyJhbGciOiJFUzI1NiIs…";
pub(in crate::web::endpoints) const TIME: &str = "2026-11-24T08:30:00Z";

pub(in crate::web::endpoints) fn list_example(item: &Value) -> Value {
    json!({ "items": [item], "count": 1 })
}

pub(in crate::web::endpoints) fn person_example() -> Value {
    json!({ "account_id": "a-7hJk3nQr5s", "uid": "u-4fGh2kLm9p", "username": "anna" })
}

pub(in crate::web::endpoints) fn login_example() -> Value {
    json!({
        "jwt_token": JWT, "token_type": "Bearer", "expires_in": 900, "refresh_token": "dwr_…",
        "uid": "u-4fGh2kLm9p", "account_id": "a-7hJk3nQr5s", "username": "anna", "settings_id": "set-2bCd4fGh6j",
        "resources": { "list": "https://api.example.com/lists" },
    })
}

pub(in crate::web::endpoints) fn me_example() -> Value {
    json!({
        "uid": "u-4fGh2kLm9p", "account_id": "a-7hJk3nQr5s", "username": "anna",
        "roles": ["user", "list-42-invitee", "list-42-member"], "scopes": ["lists:read"],
        "settings_id": "set-2bCd4fGh6j", "resources": { "list": "https://api.example.com/lists" }, "method": "jwt",
    })
}

pub(in crate::web::endpoints) fn session_example() -> Value {
    json!({
        "id": "s-9kLm2pQr4t", "created": TIME, "last_seen": TIME, "from": "192.0.2.7", "expires": TIME, "current": true,
    })
}

pub(in crate::web::endpoints) fn key_example() -> Value {
    json!({
        "id": "4fGh2kLm", "name": "first", "scopes": ["lists:read"], "created": TIME, "expires": null,
        "allow_from": ["192.0.2.0/24"], "rate_per_minute": 600,
        "resources": [{ "resource": "list", "id": "42", "level": "member" }], "note": "for the nightly export", "overlap_until": null, "suspended": false, "last_used": TIME,
    })
}

pub(in crate::web::endpoints) fn account_example() -> Value {
    json!({
        "account_id": "a-7hJk3nQr5s", "uid": "u-4fGh2kLm9p", "username": "anna", "identity": "anna@example.org",
        "name": "Anna", "status": "active", "is_admin": false, "roles": ["editor"], "settings_id": "set-2bCd4fGh6j",
        "password_must_change": false, "created": TIME,
    })
}
