//! Access tokens in the shapes of well-known providers, minted by an independent library.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::epoch_s;
use crate::harness::gateway::Gateway;
use crate::harness::issuer::issuer;
use crate::harness::routes::routes;
use crate::harness::tokens::{AUDIENCE, key_set};
use crate::harness::tools::{harness_file, python};
use crate::harness::upstream::Upstream;
use crate::minted::minted;

/// A provider's token, its configuration, and the identity that the upstream gets.
struct Shape {
    provider: &'static str,
    alg: &'static str,
    header: Value,
    /// Claims besides `iss`, `iat` and `exp`.
    claims: Value,
    config: &'static str,
    /// Members of its public key besides the numbers; null removes one.
    jwk: Value,
    uid: &'static str,
    username: Option<&'static str>,
    roles: Option<&'static str>,
    scopes: Option<&'static str>,
}

fn issuer_of(provider: &str) -> String {
    format!("https://{provider}.example.test/")
}

/// Returns as many group ids as an Entra token can contain before it refers to an endpoint instead.
fn groups() -> Vec<String> {
    (0..200)
        .map(|n| format!("{n:08x}-7d2c-4c3e-9b1a-5f6d8e0a{n:04x}"))
        .collect()
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn shapes() -> Vec<Shape> {
    vec![
        Shape {
            provider: "entra",
            alg: "RS256",
            header: json!({"kid": "entra-1", "x5t": "nOo3ZDrODXEK1jKWhXslHR_KXEg", "nonce": "8DsG"}),
            claims: json!({
                "aud": AUDIENCE, "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ", "oid": "8f0e", "ver": "2.0",
                "tid": "72f988bf", "azp": "6731de76", "scp": "reports:read Files.Read", "groups": groups(),
                "roles": ["Reports.Reader"], "preferred_username": "anna@example.test", "name": "Anna Müller",
                "acct": 0, "azpacr": "1"
            }),
            config: "roles_claim = \"roles\"\nscopes_claim = \"scp\"\nusername_claim = \"preferred_username\"",
            jwk: json!({"kid": "entra-1", "x5t": "nOo3", "x5c": ["MIIC"], "use": "sig", "cloud_instance_name": "x"}),
            uid: "entra:AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
            username: Some("entra:anna@example.test"),
            roles: Some("Reports.Reader"),
            scopes: Some("Files.Read reports:read"),
        },
        Shape {
            provider: "cognito",
            alg: "RS256",
            header: json!({"kid": "cog/1="}),
            claims: json!({
                "sub": "2f1c", "cognito:groups": ["dev", "ops"], "client_id": AUDIENCE, "token_use": "access",
                "scope": "reports:read", "username": "anna", "version": 2, "origin_jti": "x", "event_id": "y"
            }),
            config: "audience_claims = [\"aud\", \"client_id\"]\nrequired_claims = { token_use = \"access\" }\n\
                     roles_claim = \"cognito:groups\"\nusername_claim = \"username\"",
            jwk: json!({"kid": "cog/1=", "use": "sig", "alg": "RS256"}),
            uid: "cognito:2f1c",
            username: Some("cognito:anna"),
            roles: Some("dev ops"),
            scopes: Some("reports:read"),
        },
        Shape {
            provider: "keycloak",
            alg: "RS512",
            header: json!({"kid": "kc"}),
            claims: json!({
                "aud": [AUDIENCE, "account"], "sub": "f:1:anna", "typ": "Bearer", "azp": "spa", "sid": "x", "acr": "1",
                "realm_access": {"roles": ["offline_access", "uma_authorization"]},
                "resource_access": {"my.app": {"roles": ["dev"]}, "account": {"roles": ["view-profile"]}},
                "scope": "openid email", "preferred_username": "anna", "allowed-origins": ["*"]
            }),
            config: "algorithms = [\"RS512\"]\nroles_claim = 'resource_access.\"my.app\".roles'\n\
                     username_claim = \"preferred_username\"",
            jwk: json!({"kid": "kc", "alg": null, "use": "sig", "x5c": ["MIIC"]}),
            uid: "keycloak:f:1:anna",
            username: Some("keycloak:anna"),
            roles: Some("dev"),
            scopes: Some("email openid"),
        },
        Shape {
            provider: "auth0",
            alg: "RS256",
            header: json!({"kid": "a0"}),
            claims: json!({
                "aud": [AUDIENCE, "https://tenant.auth0.example/userinfo"], "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
                "azp": "x", "scope": "reports:read offline_access", "permissions": ["read:reports"],
                "https://example.com/roles": ["dev", "admin"]
            }),
            config: "roles_claim = \"https://example.com/roles\"",
            jwk: json!({"kid": "a0", "use": "sig", "alg": "RS256", "x5c": ["MIIC"], "x5t": "x"}),
            uid: "auth0:auth0|5f7c8ec7c33c6c004bbafe82",
            username: None,
            roles: Some("dev"),
            scopes: Some("offline_access reports:read"),
        },
        Shape {
            provider: "okta",
            alg: "RS256",
            header: json!({"kid": "ok", "typ": "application/okta-internal-at+jwt"}),
            claims: json!({
                "ver": 1, "jti": "AT.x", "aud": AUDIENCE, "cid": "0oa", "uid": "00u", "scp": ["openid", "reports:read"],
                "sub": "anna@example.test", "Groups": ["Everyone", "dev"]
            }),
            config: "typ = [\"okta-internal-at+jwt\"]\nscopes_claim = \"scp\"\nroles_claim = \"Groups\"",
            jwk: json!({"kid": "ok", "use": "sig", "alg": "RS256"}),
            uid: "okta:anna@example.test",
            username: None,
            roles: Some("Everyone dev"),
            scopes: Some("openid reports:read"),
        },
        Shape {
            provider: "uaa",
            alg: "RS256",
            header: json!({"jku": "http://127.0.0.1:1/token_keys", "kid": "default-jwt-key-1", "x5c": ["MIIC"]}),
            claims: json!({
                "sub": "23d8", "xs.user.attributes": {}, "user_name": "anna", "origin": "ldap", "aud": [AUDIENCE, "uaa"],
                "scope": ["openid", "reports:read", "my app.read"], "cid": "sb", "client_id": "sb", "azp": "sb",
                "grant_type": "password", "rev_sig": "9cb4", "zid": "1ae9", "ext_attr": {"enhancer": "XSUAA"}
            }),
            config: "roles_claim = \"\"\nusername_claim = \"user_name\"",
            jwk: json!({"kid": "default-jwt-key-1", "alg": "RS256", "use": "sig", "value": "-----BEGIN PUBLIC KEY-----"}),
            uid: "uaa:23d8",
            username: Some("uaa:anna"),
            roles: None,
            scopes: Some("openid reports:read"),
        },
        Shape {
            provider: "google-iap",
            alg: "ES256",
            header: json!({"kid": "iap"}),
            claims: json!({
                "aud": AUDIENCE, "sub": "accounts.google.com:114", "email": "anna@example.test",
                "google": {"access_levels": ["accessPolicies/1/accessLevels/x"]}, "hd": "example.test"
            }),
            config: "subject_claim = \"email\"\nroles_claim = \"google.access_levels\"",
            jwk: json!({"kid": "iap", "alg": "ES256", "use": "sig"}),
            uid: "google-iap:anna@example.test",
            username: None,
            roles: Some("accessPolicies/1/accessLevels/x"),
            scopes: None,
        },
        Shape {
            provider: "authentik",
            alg: "RS256",
            header: json!({"kid": "ak"}),
            claims: json!({
                "aud": AUDIENCE, "sub": "a1", "preferred_username": "anna", "groups": ["authentik Admins", "dev"],
                "acr": "goauthentik.io/providers/oauth2/default", "amr": ["pwd"], "scope": "openid profile"
            }),
            config: "username_claim = \"preferred_username\"",
            jwk: json!({"kid": "ak", "alg": "RS256", "use": "sig"}),
            uid: "authentik:a1",
            username: Some("authentik:anna"),
            roles: Some("dev"),
            scopes: Some("openid profile"),
        },
        Shape {
            provider: "zitadel",
            alg: "RS256",
            header: json!({"kid": "311"}),
            claims: json!({
                "aud": ["2345@app", AUDIENCE], "sub": "165",
                "urn:zitadel:iam:org:project:roles": {"dev": {"1": "x.zitadel.cloud"}, "admin": {"1": "x"}}
            }),
            config: "roles_claim = \"urn:zitadel:iam:org:project:roles\"",
            jwk: json!({"kid": "311", "alg": "RS256", "use": "sig"}),
            uid: "zitadel:165",
            username: None,
            roles: Some("dev"),
            scopes: None,
        },
        Shape {
            provider: "bare",
            alg: "PS256",
            header: json!({}),
            claims: json!({"aud": AUDIENCE, "sub": "anna", "roles": "dev, ops"}),
            config: "algorithms = [\"PS256\"]\nroles_claim = \"roles\"",
            jwk: json!({"kid": null, "alg": null, "use": null, "key_ops": null, "d": null}),
            uid: "bare:anna",
            username: None,
            roles: Some("dev ops"),
            scopes: None,
        },
    ]
}

/// Returns the tokens of all shapes and the keys that verify them.
fn mint(shapes: &[Shape]) -> Vec<Value> {
    let now = epoch_s();
    let asked: Vec<_> = shapes
        .iter()
        .map(|shape| {
            let mut claims = shape.claims.clone();
            claims["iss"] = issuer_of(shape.provider).into();
            claims["iat"] = now.into();
            claims["exp"] = (now + 300).into();
            json!({"alg": shape.alg, "header": shape.header, "claims": claims})
        })
        .collect();
    let mut program = Command::new(python("python"));
    program.arg(harness_file("mint.py"));
    minted(program, &json!({ "shapes": asked }))
}

#[test]
fn the_tokens_of_each_provider_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let shapes = shapes();
    let made = mint(&shapes);
    let mut config = String::new();
    for (shape, made) in shapes.iter().zip(&made) {
        let mut jwk = made["jwk"].clone();
        jwk.as_object_mut()
            .unwrap()
            .append(&mut shape.jwk.as_object().unwrap().clone());
        let file = key_set(dir.path(), shape.provider, &[jwk]);
        let more = format!(
            "jwks_file = \"{}\"\nsubject_prefix = \"{}:\"\n{}",
            file.display(),
            shape.provider,
            shape.config
        );
        config.push_str(&issuer(shape.provider, &issuer_of(shape.provider), &more));
    }
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!("{config}{}", routes(&upstream)));
    for (shape, made) in shapes.iter().zip(&made) {
        let token = made["token"].as_str().unwrap();
        let answer = gateway.get("/protected/x").bearer(token).send();
        assert_eq!(answer.status, 200, "{}", shape.provider);
        let seen = upstream.last();
        assert_eq!(seen.header("x-auth-uid"), Some(shape.uid));
        assert_eq!(
            seen.header("x-auth-username"),
            shape.username,
            "{}",
            shape.provider
        );
        assert_eq!(
            seen.header("x-auth-roles"),
            shape.roles,
            "{}",
            shape.provider
        );
        assert_eq!(
            seen.header("x-auth-scopes"),
            shape.scopes,
            "{}",
            shape.provider
        );
    }
    let longest = made
        .iter()
        .map(|made| made["token"].as_str().unwrap().len());
    assert!(8192 < longest.max().unwrap());
    // Omitted values are counted.
    let left_out = "doorward_issuer_values_left_out_total{issuer=\"authentik\"}";
    assert_eq!(gateway.metric(left_out), 1);
}
