//! API keys, memberships and the endpoints for administrators.

use serde_json::json;

use crate::web::api::{accounts, keys, members};
use crate::web::endpoints::OwnApi;
use crate::web::endpoints::examples::{
    account_example, key_example, list_example, session_example,
};
use crate::web::openapi::about;

const KEYS: &str = "API keys";
const MEMBERS: &str = "Memberships";
const ACCOUNTS: &str = "Administration";

pub(in crate::web::endpoints) fn api_keys(api: OwnApi) -> OwnApi {
    let mut shown_once = key_example();
    if let Some(members) = shown_once.as_object_mut() {
        members.insert("apikey".to_owned(), "dwk_4fGh2kLm.the secret".into());
    }
    api.get(
        "/apikeys",
        keys::list,
        about(
            KEYS,
            "listApiKeys",
            "Lists the caller's API keys, page by page",
        )
        .with_response(200, list_example(&key_example())),
    )
    .post(
        "/apikeys",
        keys::create,
        about(
            KEYS,
            "createApiKey",
            "Creates a key; it is shown only in this answer",
        )
        .with_body(json!({ "name": "first" }))
        .with_response(201, shown_once.clone()),
    )
    .get(
        "/apikeys/{id}",
        keys::show,
        about(KEYS, "getApiKey", "Returns one of the caller's keys")
            .with_response(200, key_example()),
    )
    .patch(
        "/apikeys/{id}",
        keys::change,
        about(KEYS, "updateApiKey", "Changes one of the caller's keys")
            .more("Omitted members stay unchanged; `null` removes a limit.")
            .with_body(json!({ "name": "second", "expires": null }))
            .with_response(200, key_example()),
    )
    .delete(
        "/apikeys/{id}",
        keys::revoke,
        about(KEYS, "revokeApiKey", "Revokes one of the caller's keys"),
    )
    .post(
        "/apikeys/{id}/rotate",
        keys::rotate,
        about(
            KEYS,
            "rotateApiKey",
            "Creates a new secret for one of the caller's keys; it is shown only in this answer",
        )
        .with_body(json!({ "overlap_s": 3600 }))
        .with_response(200, shown_once),
    )
}

pub(in crate::web::endpoints) fn memberships(api: OwnApi) -> OwnApi {
    let member = json!({ "uid": "u-4fGh2kLm9p", "level": "member" });
    api.get(
        "/members/{resource}/{id}",
        members::list,
        about(MEMBERS, "listMembers", "Lists the members of a resource, page by page")
            .with_response(200, list_example(&member)),
    )
    .get(
        "/members/{resource}/{id}/{uid}",
        members::show,
        about(MEMBERS, "getMember", "Returns one member").with_response(200, member.clone()),
    )
    .put(
        "/members/{resource}/{id}/{uid}",
        members::set,
        about(MEMBERS, "setMember", "Sets a level")
            .more("For managers of that resource and for administrators; no manager can set a level above their own.")
            .with_body(json!({ "level": "member" }))
            .with_response(200, member),
    )
    .delete(
        "/members/{resource}/{id}/{uid}",
        members::end,
        about(MEMBERS, "removeMember", "Ends a membership"),
    )
}

pub(in crate::web::endpoints) fn administration(api: OwnApi) -> OwnApi {
    api.get(
        "/accounts",
        accounts::list,
        about(ACCOUNTS, "listAccounts", "Lists the accounts, page by page")
            .with_response(200, list_example(&account_example())),
    )
    .post(
        "/accounts",
        accounts::invite,
        about(ACCOUNTS, "createAccount", "Creates a pending account and mails an invitation")
            .with_body(json!({ "identity": "anna@example.org", "username": "anna", "name": "Anna", "roles": ["editor"] }))
            .with_response(201, account_example()),
    )
    .get("/accounts/{account_id}", accounts::show, about(ACCOUNTS, "getAccount", "Returns one account").with_response(200, account_example()))
    .patch(
        "/accounts/{account_id}",
        accounts::change,
        about(ACCOUNTS, "updateAccount", "Changes an account")
            .with_body(json!({ "status": "disabled" }))
            .with_response(200, account_example()),
    )
    .delete(
        "/accounts/{account_id}",
        accounts::remove,
        about(ACCOUNTS, "removeAccount", "Deletes an account permanently"),
    )
    .get(
        "/accounts/{account_id}/sessions",
        accounts::sessions,
        about(ACCOUNTS, "listSessionsOfAccount", "Lists the sessions of one account, page by page")
            .with_response(200, list_example(&session_example())),
    )
    .delete(
        "/accounts/{account_id}/sessions",
        accounts::end_sessions,
        about(ACCOUNTS, "endSessionsOfAccount", "Ends all sessions of one account"),
    )
}
