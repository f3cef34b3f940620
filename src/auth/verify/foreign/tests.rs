use std::path::Path;

use serde_json::json;

use super::*;
use crate::config::{Config, EnvOverlay};
use crate::issuer::{IssuerParts, Issuers};
use crate::model::clock::{Clock, SystemClock};
use crate::telemetry::metrics::Metrics;

const ISSUER: &str = "https://id.test";

/// Creates an issuer with these additional lines of configuration.
fn issuer(more: &str) -> ForeignIssuer {
    let text = format!(
        "[[issuer]]\nname = 'corp'\nissuer = '{ISSUER}'\naudience = ['api']\n\
         introspection_url = 'http://127.0.0.1:9/i'\n{more}\n\
         [roles]\nlevels = ['public', 'invitee', 'member', 'manager']\nresources = ['list']\n"
    );
    let (config, _) = Config::parse(&text, &EnvOverlay::default()).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let parts = IssuerParts {
        dir: Path::new("unused"),
        keeps: true,
        clock: &clock,
        metrics: &Arc::new(Metrics::new()),
    };
    // Without TLS: the tests need no certificate authorities.
    let issuers = Issuers::open(&config.issuers, parts, None).unwrap();
    let state = issuers.iter().next().unwrap();
    ForeignIssuer::new(&config.issuers[0], state, &config.roles)
}

/// Returns claims that are accepted, with changes; null removes a claim.
fn claims(changes: &Value) -> Map<String, Value> {
    let mut claims = json!({"iss": ISSUER, "aud": "api", "exp": 2000, "sub": "anna"});
    let claims = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.remove(name);
        } else {
            claims.insert(name.clone(), value.clone());
        }
    }
    claims.clone()
}

fn accept(
    issuer: &ForeignIssuer,
    typ: Option<&str>,
    changes: &Value,
) -> Result<AcceptedToken, FaultKind> {
    let token = VerifiedToken {
        typ: typ.map(str::to_owned),
        claims: claims(changes),
    };
    let accepted = issuer.accept(&token, Timestamp::from_secs(1000));
    accepted.map_err(|fault| fault.kind)
}

fn identity(issuer: &ForeignIssuer, changes: &Value) -> Result<Identity, FaultKind> {
    accept(issuer, None, changes).map(|accepted| accepted.identity)
}

fn roles(identity: &Identity) -> Vec<&str> {
    identity.roles.iter().map(Role::as_str).collect()
}

fn scopes(identity: &Identity) -> Vec<&str> {
    identity.scopes.iter().map(Scope::as_str).collect()
}

#[test]
fn rfc8725_3_11_tokens_of_another_kind_are_refused() {
    let plain = issuer("");
    for typ in [
        None,
        Some("JWT"),
        Some("at+jwt"),
        Some("application/at+JWT"),
    ] {
        assert!(accept(&plain, typ, &json!({})).is_ok(), "{typ:?}");
    }
    for typ in [
        "dpop+jwt",
        "secevent+jwt",
        "kb+jwt",
        "doorward-assertion+jwt",
        "application/okta-internal-at+jwt",
        "",
    ] {
        let refused = accept(&plain, Some(typ), &json!({}));
        assert_eq!(refused.unwrap_err(), FaultKind::Type, "{typ}");
    }
    let okta = issuer("typ = ['okta-internal-at+jwt', 'application/X']");
    for typ in [
        "application/okta-internal-at+jwt",
        "OKTA-internal-at+jwt",
        "x",
    ] {
        assert!(accept(&okta, Some(typ), &json!({})).is_ok(), "{typ}");
    }
    assert!(accept(&okta, Some("dpop+jwt"), &json!({})).is_err());
    for (changes, kind) in [
        (json!({"typ": "Refresh"}), FaultKind::NotAccess),
        (json!({"typ": "Offline"}), FaultKind::NotAccess),
        (json!({"token_use": "refresh"}), FaultKind::NotAccess),
        (json!({"typ": "Logout"}), FaultKind::NotAccess),
        (
            json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}),
            FaultKind::NotAccess,
        ),
        (json!({"token_type": "DPoP"}), FaultKind::SenderBound),
        (json!({"typ": "DPoP"}), FaultKind::SenderBound),
        (json!({"cnf": {"jkt": "x"}}), FaultKind::SenderBound),
        (json!({"cnf": {"x5t#S256": "x"}}), FaultKind::SenderBound),
        (json!({"cnf": []}), FaultKind::SenderBound),
    ] {
        assert_eq!(identity(&plain, &changes).unwrap_err(), kind, "{changes}");
    }
    for changes in [
        json!({"typ": "Bearer"}),
        json!({"token_use": "access"}),
        json!({"typ": "ID"}),
    ] {
        assert!(identity(&plain, &changes).is_ok(), "{changes}");
    }
}

#[test]
fn no_issuer_speaks_for_our_people() {
    let bare = issuer("username_claim = 'name'\nusername_prefix = ''");
    for sub in ["u-abcdefgh", "U-abcdefgh", "u-", "U-x"] {
        assert_eq!(
            identity(&bare, &json!({ "sub": sub })).unwrap_err(),
            FaultKind::Reserved,
            "{sub}"
        );
        assert_eq!(
            identity(&bare, &json!({ "name": sub })).unwrap_err(),
            FaultKind::Reserved,
            "{sub}"
        );
    }
    for sub in [
        json!(""),
        json!(7),
        json!(7.5),
        json!(true),
        json!({}),
        json!(["anna"]),
        json!("a,b"),
        json!("a b"),
        json!("a\n"),
        json!("a\u{0}"),
        json!("\u{e9}"),
        json!("\u{ff55}-abcdefgh"),
        json!("\u{0443}-abcdefgh"),
        json!("\u{200b}u-abcdefgh"),
        json!("\u{a0}anna"),
        json!("x".repeat(256)),
    ] {
        assert_eq!(
            identity(&bare, &json!({ "sub": sub })).unwrap_err(),
            FaultKind::ClaimInvalid,
            "{sub}"
        );
    }
    assert_eq!(
        identity(&bare, &json!({"sub": null})).unwrap_err(),
        FaultKind::ClaimMissing
    );
    let prefixed = issuer("username_claim = 'name'\nsubject_prefix = 'corp:'");
    let prefixed = identity(&prefixed, &json!({"sub": "u-abcdefgh", "name": "U-Anna"})).unwrap();
    assert_eq!(
        (prefixed.subject(), prefixed.username()),
        ("corp:u-abcdefgh", Some("corp:U-Anna"))
    );
}

#[test]
fn a_username_never_reads_as_one_of_ours_unless_that_is_configured() {
    let silent = issuer("");
    let anna = identity(
        &silent,
        &json!({"preferred_username": "boss", "name": "boss"}),
    );
    assert_eq!(anna.unwrap().username(), None);
    let named = issuer("username_claim = 'preferred_username'");
    let own_prefix = issuer("username_claim = 'preferred_username'\nusername_prefix = '@'");
    let bare = issuer("username_claim = 'preferred_username'\nusername_prefix = ''");
    let boss = json!({"preferred_username": "boss"});
    for (issuer, expected) in [
        (&named, "corp:boss"),
        (&own_prefix, "@boss"),
        (&bare, "boss"),
    ] {
        assert_eq!(identity(issuer, &boss).unwrap().username(), Some(expected));
    }
    // A value that is not valid in a header is omitted and reported.
    for odd in [
        json!("Anna M\u{fc}ller"),
        json!("anna b"),
        json!("a,b"),
        json!("a\u{0}"),
        json!("a\r\nX-Auth-Roles: admin"),
        json!(""),
        json!(7),
        json!({"x": 1}),
        json!("x".repeat(300)),
    ] {
        let accepted = accept(&named, None, &json!({ "preferred_username": odd })).unwrap();
        assert_eq!(accepted.identity.username(), None, "{odd}");
        let told = accepted.left_out.unwrap();
        assert!(told.starts_with("username ") && told.is_ascii(), "{told}");
    }
}

#[test]
fn reserved_roles_need_to_be_allowed() {
    let claim = "roles_claim = 'realm.roles'";
    let all = json!({"realm": {"roles": [
        "dev", "admin", "Admin", "user", "USER", "pwchange", "list-4-2-member", "LIST-4-member",
        "list-a%2f-member", "list-1-public", "a b", "c,d", "\u{ff41}dmin", "admin\u{0}", "", 5, "x".repeat(256)
    ]}});
    let accepted = accept(&issuer(claim), None, &all).unwrap();
    assert_eq!(roles(&accepted.identity), ["dev"]);
    assert!(accepted.identity.resource_roles.is_empty());
    let told = accepted.left_out.unwrap();
    assert!(
        told.contains("role \"admin\": reserved, and not in roles_allow"),
        "{told}"
    );
    assert!(told.ends_with("; and 8 more"), "{told}");

    let allowed = issuer(&format!("{claim}\nroles_allow = ['admin', 'list-*']"));
    let allowed = identity(&allowed, &all).unwrap();
    assert!(allowed.has_role("admin") && !allowed.has_role("user") && !allowed.has_role("Admin"));
    let [role] = allowed.resource_roles.as_slice() else {
        panic!("one resource role")
    };
    assert_eq!(
        (role.id.as_str(), role.rank, role.exact),
        ("4-2", LevelRank(2), true)
    );

    let prefixed = issuer(&format!("{claim}\nroles_prefix = 'corp:'"));
    let prefixed = identity(&prefixed, &json!({"realm": {"roles": ["admin", "dev"]}})).unwrap();
    assert_eq!(roles(&prefixed), ["corp:admin", "corp:dev"]);
    // A prefix can turn an ordinary role into a reserved one.
    let sly = issuer(&format!("{claim}\nroles_prefix = 'list-'"));
    let sly = identity(&sly, &json!({"realm": {"roles": ["4-member", "x"]}})).unwrap();
    assert_eq!((roles(&sly), sly.resource_roles.len()), (vec!["list-x"], 0));
}

#[test]
fn roles_and_scopes_come_in_every_shape_that_issuers_write() {
    let issuer = issuer("roles_claim = 'roles'\nscopes_claim = 'scp'");
    let cases = [
        (json!(["dev", "ops"]), vec!["dev", "ops"]),
        (json!("ops dev"), vec!["dev", "ops"]),
        (json!("dev,ops, dev"), vec!["dev", "ops"]),
        (
            json!({"dev": {"1": "corp.test"}, "ops": {}}),
            vec!["dev", "ops"],
        ),
        (json!({"dev": true, "ops": false}), vec!["dev"]),
        (json!("dev"), vec!["dev"]),
        (json!(["dev ops"]), vec![]),
        (json!([["dev"]]), vec![]),
        (json!("dev\nops"), vec![]),
        (json!(7), vec![]),
        (json!(""), vec![]),
    ];
    for (value, expected) in cases {
        let found = identity(&issuer, &json!({"roles": value, "scp": value})).unwrap();
        assert_eq!(roles(&found), expected, "{value}");
        assert_eq!(scopes(&found), expected, "{value}");
    }
    let own = json!({"scp": ["auth:admin", "AUTH:members", "Auth:x", "lists:read", "a\u{a0}b"]});
    let accepted = accept(&issuer, None, &own).unwrap();
    assert_eq!(scopes(&accepted.identity), ["lists:read"]);
    assert!(
        accepted
            .left_out
            .unwrap()
            .contains("\"AUTH:members\": reserved")
    );
}

#[test]
fn claims_that_are_required_are_equal() {
    let issuer = issuer(
        "required_claims = { token_use = 'access', 'ext.tier' = 3, verified = true, '\"a.b\"' = 'c' }",
    );
    let good = json!({"token_use": "access", "ext": {"tier": 3}, "verified": true, "a.b": "c"});
    assert!(identity(&issuer, &good).is_ok());
    for (name, value) in [
        ("token_use", json!("id")),
        ("token_use", json!("Access")),
        ("token_use", json!(["access"])),
        ("token_use", json!(null)),
        ("ext", json!({"tier": "3"})),
        ("ext", json!({"tier": 4})),
        ("ext", json!(null)),
        ("verified", json!("true")),
        ("verified", json!(1)),
        ("a.b", json!("d")),
    ] {
        let mut wrong = good.clone();
        wrong[name] = value;
        assert_eq!(
            identity(&issuer, &wrong).unwrap_err(),
            FaultKind::ClaimRequired,
            "{wrong}"
        );
    }
}

#[test]
fn rfc7662_2_2_only_access_tokens_for_us_count() {
    let issuer = issuer("subject_prefix = 'corp:'");
    let with = |changes: &Value| {
        let mut all = json!({"active": true, "iss": null, "aud": ["other", "api"], "scope": "a b"});
        let members = all.as_object_mut().unwrap();
        members.append(&mut changes.as_object().unwrap().clone());
        let said = issuer.introspected(&claims(&all), Timestamp::from_secs(1000));
        said.map_err(|fault| fault.kind)
    };
    for good in [
        json!({}),
        json!({"iss": ISSUER, "token_type": "Bearer"}),
        json!({"token_use": "access_token", "typ": "Bearer"}),
        json!({"exp": null}),
    ] {
        let accepted = with(&good).unwrap();
        assert_eq!(accepted.identity.subject(), "corp:anna", "{good}");
        assert_eq!(scopes(&accepted.identity), ["a", "b"]);
    }
    for (bad, kind) in [
        (
            json!({"iss": "https://evil.test"}),
            FaultKind::IssuerUnknown,
        ),
        (json!({"iss": 7}), FaultKind::IssuerUnknown),
        (json!({"aud": null}), FaultKind::ClaimMissing),
        (json!({"aud": "other"}), FaultKind::Audience),
        (json!({"sub": null}), FaultKind::ClaimMissing),
        (json!({"nbf": 1100}), FaultKind::NotYetValid),
        (json!({"token_type": "DPoP"}), FaultKind::SenderBound),
        (json!({"token_type": "refresh_token"}), FaultKind::NotAccess),
        (json!({"token_use": "refresh_token"}), FaultKind::NotAccess),
        (json!({"token_use": "id"}), FaultKind::NotAccess),
        (json!({"typ": "Refresh"}), FaultKind::NotAccess),
        (json!({"typ": 7}), FaultKind::NotAccess),
        (json!({"cnf": {"jkt": "x"}}), FaultKind::SenderBound),
        (json!({"exp": 900}), FaultKind::Expired),
    ] {
        assert_eq!(with(&bad).unwrap_err(), kind, "{bad}");
    }
}
