//! A cached caller ends with whatever verified it, also in the cache of the thread that serves its requests.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::account::test_kit::{OTHER, PASSWORD};
use crate::auth::Authorizer;
use crate::auth::grant::Stop;
use crate::model::access::{Membership, Name, ResourceId};
use crate::model::deny::DenyReason;
use crate::model::identity::Identity;
use crate::snapshot::Snapshot;
use crate::web::test_kit::{Answer, Gateway};

/// Returns the identity of a credential in this field.
async fn identity(
    authorizer: &Authorizer,
    (field, value): (&'static str, &str),
) -> Result<Arc<Identity>, Stop> {
    let value = HeaderValue::from_str(value).unwrap();
    let headers = HeaderMap::from_iter([(HeaderName::from_static(field), value)]);
    let client = [192, 0, 2, 7].into();
    let found = authorizer.authenticate(&headers, client).await?;
    Ok(found.unwrap())
}

async fn by_bearer(gateway: &Gateway, jwt: &str) -> Result<Arc<Identity>, Stop> {
    let value = format!("Bearer {jwt}");
    identity(&gateway.snapshot.authorizer, ("authorization", &value)).await
}

async fn by_key(gateway: &Gateway, key: &str) -> Result<Arc<Identity>, Stop> {
    identity(&gateway.snapshot.authorizer, ("x-api-key", key)).await
}

/// Starts a gateway with a person whose token and API key this thread keeps.
async fn scene() -> (Gateway, Answer, String, Answer) {
    let gateway = Gateway::start();
    let login = gateway.person("anna").await;
    let jwt = login.text_of("jwt_token");
    let made = gateway.ask("POST", "/auth/apikeys", &jwt, json!({})).await;
    assert_eq!(made.status, 201, "{made:?}");
    for _ in 0..3 {
        by_bearer(&gateway, &jwt).await.unwrap();
        by_key(&gateway, &made.text_of("apikey")).await.unwrap();
    }
    assert!(Authorizer::holds_near(&jwt), "the token is not kept");
    assert!(Authorizer::holds_near(&made.text_of("apikey")));
    (gateway, login, jwt, made)
}

fn refused<T>(result: &Result<T, Stop>) -> Option<DenyReason> {
    match result {
        Err(Stop::Deny(reason)) => Some(*reason),
        _ => None,
    }
}

#[tokio::test]
async fn a_logout_ends_it() {
    let (gateway, _, jwt, _) = scene().await;
    let out = gateway.ask("POST", "/auth/logout", &jwt, Value::Null).await;
    assert_eq!(out.status, 204);
    let after = by_bearer(&gateway, &jwt).await;
    assert_eq!(refused(&after), Some(DenyReason::SessionEnded));
    assert!(!Authorizer::holds_near(&jwt), "the text is not removed");
}

#[tokio::test]
async fn a_revoked_key_ends_it() {
    let (gateway, _, jwt, made) = scene().await;
    let path = format!("/auth/apikeys/{}", made.text_of("id"));
    let gone = gateway.ask("DELETE", &path, &jwt, Value::Null).await;
    assert_eq!(gone.status, 204, "{gone:?}");
    let after = by_key(&gateway, &made.text_of("apikey")).await;
    assert_eq!(refused(&after), Some(DenyReason::ApiKeyInvalid));
}

#[tokio::test]
async fn a_rotated_key_ends_it() {
    let (gateway, _, jwt, made) = scene().await;
    let path = format!("/auth/apikeys/{}/rotate", made.text_of("id"));
    let body = json!({ "overlap_s": 0 });
    let rotated = gateway.ask("POST", &path, &jwt, body).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let after = by_key(&gateway, &made.text_of("apikey")).await;
    assert_eq!(refused(&after), Some(DenyReason::ApiKeyInvalid));
}

#[tokio::test]
async fn a_changed_password_ends_other_sessions() {
    let (gateway, _, jwt, _) = scene().await;
    let other = gateway.login("anna", PASSWORD).await.text_of("jwt_token");
    let body = json!({
        "old_password": PASSWORD, "new_password": OTHER, "verify_password": OTHER,
    });
    let changed = gateway.ask("PUT", "/auth/password", &other, body).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let after = by_bearer(&gateway, &jwt).await;
    assert_eq!(refused(&after), Some(DenyReason::SessionEnded));
}

#[tokio::test]
async fn a_changed_level_applies_at_once() {
    let (gateway, login, jwt, made) = scene().await;
    let account = by_bearer(&gateway, &jwt).await.unwrap();
    assert!(account.resource_roles.is_empty());
    let membership = Membership {
        resource: Name::parse("list").unwrap(),
        id: ResourceId::parse("42").unwrap(),
        level: Name::parse("member").unwrap(),
    };
    let store = &gateway.snapshot.services.store;
    let uid = account.own_uid().unwrap();
    let set = store.set_membership(uid, membership, None).await;
    assert!(set.is_ok());
    assert_eq!(login.text_of("uid"), uid.as_str());
    let key = made.text_of("apikey");
    for after in [
        by_bearer(&gateway, &jwt).await,
        by_key(&gateway, &key).await,
    ] {
        assert_eq!(after.unwrap().resource_roles.len(), 1);
    }
}

#[tokio::test]
async fn a_disabled_account_ends_it() {
    let (gateway, login, jwt, made) = scene().await;
    let boss = gateway.administrator("boss").await.text_of("jwt_token");
    let path = format!("/auth/accounts/{}", login.text_of("account_id"));
    let body = json!({ "status": "disabled" });
    let changed = gateway.ask("PATCH", &path, &boss, body).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let after = by_bearer(&gateway, &jwt).await;
    assert_eq!(refused(&after), Some(DenyReason::SessionEnded));
    let after = by_key(&gateway, &made.text_of("apikey")).await;
    assert_eq!(refused(&after), Some(DenyReason::ApiKeyInvalid));
}

#[tokio::test]
async fn a_new_configuration_verifies_again() {
    let (gateway, _, jwt, _) = scene().await;
    let mut config = (*gateway.snapshot.config).clone();
    config.tokens.audience = "another".to_owned();
    let services = Arc::clone(&gateway.snapshot.services);
    let newer = Snapshot::build(Arc::new(config), services).unwrap();
    let bearer = format!("Bearer {jwt}");
    for _ in 0..4 {
        let after = identity(&newer.authorizer, ("authorization", &bearer)).await;
        assert_eq!(refused(&after), Some(DenyReason::BearerInvalid));
    }
    // A request that began before the reload is decided by its own configuration.
    assert!(by_bearer(&gateway, &jwt).await.is_ok());
}

#[tokio::test]
async fn a_text_counts_only_in_the_field_that_it_was_verified_in() {
    let (gateway, _, jwt, made) = scene().await;
    assert_eq!(
        refused(&by_key(&gateway, &jwt).await),
        Some(DenyReason::ApiKeyInvalid)
    );
    let key = made.text_of("apikey");
    let cookie = format!("doorward_session={key}");
    let path = ("cookie", cookie.as_str());
    let headers: &[(&str, &str)] = &[path];
    let me = gateway
        .send("GET", "/auth/me", headers, String::new())
        .await;
    assert_eq!(me.status, 401, "{me:?}");
    assert!(by_bearer(&gateway, &jwt).await.is_ok() && by_key(&gateway, &key).await.is_ok());
}

#[tokio::test]
async fn a_login_and_a_refresh_cache_what_a_verification_would() {
    let gateway = Gateway::start();
    let login = gateway.person("anna").await;
    is_cached_as_verified(&gateway, &login.text_of("jwt_token")).await;
    let form = format!(
        "grant_type=refresh_token&refresh_token={}",
        login.text_of("refresh_token")
    );
    let refreshed = gateway.form("/auth/token", "", &form).await;
    is_cached_as_verified(&gateway, &refreshed.text_of("access_token")).await;
}

/// Expects that the first request with a token is a hit, of the entry that a verification would have made.
async fn is_cached_as_verified(gateway: &Gateway, jwt: &str) {
    let warmed = gateway.snapshot.authorizer.cached_entry(jwt).unwrap();
    let misses = &gateway.snapshot.services.metrics.identity_cache_misses;
    let before = misses.get();
    by_bearer(gateway, jwt).await.unwrap();
    assert_eq!(misses.get(), before);
    // The same configuration with empty caches.
    let config = Arc::clone(&gateway.snapshot.config);
    let services = Arc::clone(&gateway.snapshot.services);
    let empty = Snapshot::build(config, services).unwrap();
    let bearer = format!("Bearer {jwt}");
    let verified = identity(&empty.authorizer, ("authorization", &bearer)).await;
    assert!(verified.is_ok());
    assert_eq!(empty.authorizer.cached_entry(jwt), Some(warmed));
}

#[tokio::test]
async fn a_wrong_signature_is_refused_alike_each_time() {
    let (gateway, _, jwt, _) = scene().await;
    let (signed, signature) = jwt.rsplit_once('.').unwrap();
    // Another character in the middle, so that the last bits stay zero.
    let (before, after) = signature.split_at(40);
    let (old, after) = after.split_at(1);
    let forged = format!(
        "{signed}.{before}{}{after}",
        if old == "A" { "B" } else { "A" }
    );
    let refusals = || {
        let text = gateway.snapshot.services.metrics.render();
        let lines = text.lines().filter(|line| line.contains("signature"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let headers = HeaderMap::from_iter([(
        http::header::AUTHORIZATION,
        HeaderValue::from_str(&format!("Bearer {forged}")).unwrap(),
    )]);
    let mut found = Vec::new();
    for count in 1..=3 {
        let client = [192, 0, 2, 7].into();
        let authorizer = &gateway.snapshot.authorizer;
        let refused = authorizer.authenticate_in_detail(&headers, client).await;
        found.push(refused.unwrap_err());
        let refusals = refusals();
        let ends = |line: &String| line.ends_with(&format!(" {count}"));
        assert!(refusals.iter().any(ends), "{refusals:?}");
    }
    assert_eq!(found[0].stop, Stop::Deny(DenyReason::BearerInvalid));
    assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
    assert!(!Authorizer::holds_near(&forged));
}
