//! API keys: the whole key is verified on every request, and no longer than its owner wants.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::harness::gateway::Gateway;
use crate::harness::people::{Caller, changed, password_of};
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;
use crate::harness::{epoch_s, wait_for};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    (upstream, gateway)
}

fn status(gateway: &Gateway, key: &str) -> u16 {
    gateway
        .get("/protected/x")
        .by(&Caller::Key(key.to_owned()))
        .send()
        .status
}

/// Returns the key with the right checksum: CRC-32 of everything before it, modulo 62^5, as five digits of base 62.
fn with_checksum(text: &str) -> String {
    let body = &text[..text.len() - 5];
    let mut rest = crc32fast::hash(body.as_bytes()) % 62_u32.pow(5);
    let mut digits = [b'0'; 5];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[rest as usize % 62];
        rest /= 62;
    }
    format!("{body}{}", std::str::from_utf8(&digits).unwrap())
}

#[test]
fn a_key_has_the_form_of_the_contract_and_is_shown_once() {
    let (upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let expires = "2999-01-01T00:00:00Z";
    let body = json!({"name": "backup", "scopes": ["reports:read"], "expires": expires});
    let answer = gateway
        .post("/auth/apikeys")
        .by(&anna.caller())
        .json(&body)
        .send()
        .expect(201);
    let (id, key) = (answer.member("id"), answer.member("apikey"));
    gateway.secret(&key);
    let (prefix, secret) = key.split_once('.').unwrap();
    assert_eq!(
        (prefix, id.len(), secret.len()),
        (format!("dwk_{id}").as_str(), 8, 32)
    );
    assert!(
        format!("{id}{secret}").bytes().all(|b| DIGITS.contains(&b)),
        "not base 62"
    );
    assert_eq!(with_checksum(&key), key);

    gateway
        .get("/protected/x")
        .by(&Caller::Key(key.clone()))
        .send()
        .expect(200);
    let seen = upstream.last();
    assert_eq!(seen.header("x-auth-method"), Some("apikey"));
    assert_eq!(seen.header("x-auth-key-id"), Some(id.as_str()));
    assert_eq!(seen.header("x-auth-uid"), Some(anna.uid.as_str()));
    assert_eq!(seen.header("x-auth-scopes"), Some("reports:read"));

    let list = gateway.get_by(&anna.caller(), "/auth/apikeys").expect(200);
    let one = gateway
        .get_by(&anna.caller(), &format!("/auth/apikeys/{id}"))
        .expect(200);
    for answer in [&list, &one] {
        assert!(
            !answer.text().contains(secret) && !answer.text().contains("digest"),
            "{}",
            answer.text()
        );
    }
    let list = list.json();
    assert_eq!(
        (
            &list["count"],
            &list["items"][0]["id"],
            &list["items"][0]["name"]
        ),
        (&json!(1), &json!(id), &json!("backup"))
    );
    assert_eq!(one.json()["scopes"], json!(["reports:read"]));
    assert!(one.member("expires").starts_with("2999-01-01T00:00:00"));
    // Both may be omitted.
    let bare = gateway
        .post("/auth/apikeys")
        .by(&anna.caller())
        .json(&json!({}))
        .send()
        .expect(201);
    gateway.secret(&bare.member("apikey"));
}

#[test]
fn after_a_warm_hit_the_secret_is_still_looked_at() {
    let (_upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &[]).text;
    assert_eq!((status(&gateway, &key), status(&gateway, &key)), (200, 200));
    let mut caller = gateway.connect();
    for index in 0..200 {
        // Other secrets with the same id and a right checksum: one digit changed at a time, then all of them.
        let mut forged = key.clone().into_bytes();
        let place = 13 + index % 27;
        forged[place] = DIGITS[(DIGITS
            .iter()
            .position(|digit| *digit == forged[place])
            .unwrap()
            + 1
            + index / 27)
            % 62];
        let forged = with_checksum(std::str::from_utf8(&forged).unwrap());
        assert_ne!(forged, key);
        let answer = gateway
            .get("/protected/x")
            .by(&Caller::Key(forged.clone()))
            .send_on(&mut caller);
        answer.refused(401, "api_key_invalid");
        if index % 20 == 0 {
            assert_eq!(
                status(&gateway, &key),
                200,
                "the wrong one pushed the right one out"
            );
        }
    }
}

#[test]
fn whatever_is_wrong_with_a_key_the_answer_is_the_same() {
    let (upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &[]).text;
    let unknown = with_checksum(&format!("dwk_{}.{}", "00000000", "a".repeat(32)));
    let checksum = format!(
        "{}{}",
        &key[..key.len() - 1],
        if key.ends_with('0') { '1' } else { '0' }
    );
    let cut = &key[..key.len() - 1];
    let cases = [
        unknown,
        checksum,
        cut.to_owned(),
        format!("{key}0"),
        format!("{key} x"),
        key.replace("dwk_", "DWK_"),
        key.replace("dwk_", ""),
        key.replace('.', ""),
        key.to_ascii_lowercase(),
        key.split('.').next().unwrap().to_owned(),
        "x".to_owned(),
        "x".repeat(97),
        "x".repeat(5000),
        format!("{key},{key}"),
    ];
    let mut first = None;
    for wrong in cases {
        let answer = gateway
            .get("/protected/x")
            .by(&Caller::Key(wrong.clone()))
            .send();
        answer.refused(401, "api_key_invalid");
        let neutral = answer.neutral();
        assert_eq!(*first.get_or_insert(neutral.clone()), neutral, "{wrong}");
        // A wrong credential is refused even where a credential is optional.
        gateway
            .get("/optional/x")
            .by(&Caller::Key(wrong))
            .send()
            .refused(401, "api_key_invalid");
    }
    assert_eq!(upstream.count(), 0);
    gateway
        .get(&format!("/protected/x?apikey={key}&api_key={key}"))
        .send()
        .refused(401, "credential_missing");
}

#[test]
fn two_credentials_are_malformed() {
    let (upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &[]).text;
    let (bearer, wrong) = (format!("Bearer {}", anna.jwt), "Bearer x".to_owned());
    let cases: [&[(&str, &str)]; 6] = [
        &[("Authorization", &bearer), ("X-Api-Key", &key)],
        &[("X-Api-Key", "x"), ("Authorization", &bearer)],
        &[("Authorization", &wrong), ("X-Api-Key", &key)],
        &[("Authorization", &bearer), ("Authorization", &bearer)],
        &[("X-Api-Key", &key), ("x-api-key", &key)],
        &[("Authorization", &bearer), ("authorization", "Basic eDp5")],
    ];
    for fields in cases {
        for path in ["/protected/x", "/optional/x", "/auth/me"] {
            let request = fields
                .iter()
                .fold(gateway.get(path), |request, (name, value)| {
                    request.header(name, *value)
                });
            request.send().refused(400, "credential_conflict");
        }
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_revoked_key_is_refused_at_once_under_load() {
    let (_upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &[]);
    assert_eq!(status(&gateway, &key.text), 200);
    let (is_revoked, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = gateway.connect();
                    let mut late = 0;
                    while !is_over.load(Ordering::SeqCst) {
                        let was_revoked = is_revoked.load(Ordering::SeqCst);
                        let status = gateway
                            .get("/protected/x")
                            .by(&key.caller())
                            .send_on(&mut connection)
                            .status;
                        late += usize::from(was_revoked && status == 200);
                        assert!(matches!(status, 200 | 401), "{status}");
                    }
                    late
                })
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(200));
        gateway
            .delete(&format!("/auth/apikeys/{}", key.id))
            .by(&anna.caller())
            .send()
            .expect(204);
        is_revoked.store(true, Ordering::SeqCst);
        std::thread::sleep(std::time::Duration::from_millis(300));
        is_over.store(true, Ordering::SeqCst);
        for caller in callers {
            assert_eq!(
                caller.join().unwrap(),
                0,
                "a request after the revocation passed"
            );
        }
    });
    gateway
        .delete(&format!("/auth/apikeys/{}", key.id))
        .by(&anna.caller())
        .send()
        .refused_as(404);
    gateway
        .get_by(&key.caller(), "/protected/x")
        .refused(401, "api_key_invalid");
}

#[test]
fn a_key_ends_with_its_time_its_owner_or_a_password_that_says_so() {
    let (_upstream, gateway) = gateway();
    let (anna, ben) = (gateway.person("anna"), gateway.person("ben"));
    let soon = epoch_s() + 2;
    let soon = time::OffsetDateTime::from_unix_timestamp(i64::try_from(soon).unwrap()).unwrap();
    let soon = soon
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap();
    let answer = gateway
        .post("/auth/apikeys")
        .by(&anna.caller())
        .json(&json!({"expires": soon}))
        .send()
        .expect(201);
    let short = answer.member("apikey");
    gateway.secret(&short);
    assert_eq!(status(&gateway, &short), 200);

    let (key, other) = (gateway.key(&ben, &[]), gateway.key(&anna, &[]));
    assert_eq!(
        (status(&gateway, &key.text), status(&gateway, &other.text)),
        (200, 200)
    );
    gateway.cli(&["account", "disable", "ben"], "").done();
    assert_eq!(
        (status(&gateway, &key.text), status(&gateway, &other.text)),
        (401, 200)
    );
    gateway.cli(&["account", "enable", "ben"], "").done();
    assert_eq!(
        status(&gateway, &key.text),
        200,
        "a key outlives a time of disablement, as its owner may use it again"
    );

    let mut body = changed(&anna.password, &password_of("newer"));
    gateway.secret(&password_of("newer"));
    gateway
        .put("/auth/password")
        .by(&anna.caller())
        .json(&body)
        .send()
        .expect(200);
    assert_eq!(status(&gateway, &other.text), 200);
    body = changed(&password_of("newer"), &password_of("newest"));
    gateway.secret(&password_of("newest"));
    body["revoke_keys"] = json!(true);
    gateway
        .put("/auth/password")
        .by(&anna.caller())
        .json(&body)
        .send()
        .expect(200);
    assert_eq!(status(&gateway, &other.text), 401);
    wait_for("the end of a key", || {
        (status(&gateway, &short) == 401).then_some(())
    });
}

#[test]
fn an_account_has_fifty_keys_and_no_more() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let anna = gateway.person("anna");
    let make = || {
        let request = gateway.post("/auth/apikeys").by(&anna.caller());
        request.json(&json!({})).send()
    };
    let mut keys: Vec<_> = (0..50).map(|_| make().expect(201)).collect();
    make().refused(422, "apikey_limit");
    let id = keys.remove(0).member("id");
    let place = format!("/auth/apikeys/{id}");
    gateway.delete(&place).by(&anna.caller()).send().expect(204);
    make().expect(201);
    make().refused(422, "apikey_limit");
    // Another account has its own fifty.
    let ben = gateway.person("ben");
    gateway.key(&ben, &[]);
}
