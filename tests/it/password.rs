//! Passwords are set by their owner: once with a mailed token of the right kind, or with the old password.

use serde_json::{Value, json};

use crate::harness::at_once;
use crate::harness::gateway::Gateway;
use crate::harness::people::{address_of, changed, password_of, wanted};
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;

fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    (upstream, gateway)
}

fn status(gateway: &Gateway, jwt: &str) -> u16 {
    gateway.get("/protected/x").bearer(jwt).send().status
}

#[test]
fn fifty_uses_of_one_token_at_once_are_one_success() {
    let (_upstream, gateway) = gateway();
    let token = gateway.register("anna");
    let uses = at_once(50, |index| {
        // The hashing pool is bounded: if it was full, the request is repeated.
        loop {
            let answer = gateway.set_password(&token, &password_of(&format!("try{index}")));
            if answer.status != 503 {
                break answer;
            }
            assert!(answer.header("retry-after").is_some());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    let done: Vec<_> = uses
        .iter()
        .enumerate()
        .filter(|(_, answer)| answer.status == 200)
        .map(|(index, _)| index)
        .collect();
    let [winner] = done.as_slice() else {
        panic!("{} uses succeeded", done.len())
    };
    for answer in uses.iter().filter(|answer| answer.status != 200) {
        answer.refused(400, "token_invalid");
    }
    gateway
        .try_login("anna", &password_of(&format!("try{winner}")))
        .expect(200);
}

#[test]
fn the_answer_says_whose_password_was_set_and_opens_no_session() {
    let (_upstream, gateway) = gateway();
    let token = gateway.register("anna");
    let answer = gateway
        .set_password(&token, &password_of("anna"))
        .expect(200);
    let anna = gateway.login("anna");
    assert_eq!(
        answer.json(),
        json!({"account_id": anna.account_id, "uid": anna.uid, "username": "anna"})
    );
}

#[test]
fn a_token_works_for_its_owner_only() {
    let (_upstream, gateway) = gateway();
    let (anna, ben) = (gateway.person("anna"), gateway.person("ben"));
    let token = gateway.forgot("anna");
    let mut body = wanted(&token, &password_of("newer"));
    gateway.secret(&password_of("newer"));
    for uid in [ben.uid.as_str(), "u-nobody00", "", "anna"] {
        body["uid"] = json!(uid);
        let answer = gateway.put("/auth/password").json(&body).send();
        assert!(
            matches!(answer.status, 400 | 422),
            "{uid}: {}",
            answer.status
        );
    }
    assert_eq!(status(&gateway, &ben.jwt), 200);
    gateway.login("ben");
    body["uid"] = json!(anna.uid);
    assert_eq!(
        gateway
            .put("/auth/password")
            .json(&body)
            .send()
            .expect(200)
            .member("uid"),
        anna.uid
    );
    // With the login of another account beside it, the token works for its own account or is refused.
    let token = gateway.forgot("anna");
    let answer = gateway
        .put("/auth/password")
        .by(&ben.caller())
        .json(&wanted(&token, &password_of("newest")))
        .send();
    assert!(answer.status != 200 || answer.member("uid") == anna.uid);
    gateway.login("ben");
}

#[test]
fn confirm_and_reset_tokens_cannot_stand_for_each_other() {
    let (_upstream, gateway) = gateway();
    let one = gateway.register("anna");
    let two = gateway.register("anna");
    gateway.set_password(&one, &password_of("anna")).expect(200);
    // A second confirm token must not reset the password of the account that is now active.
    gateway
        .set_password(&two, &password_of("thief"))
        .refused(400, "token_invalid");
    // A pending account gets no reset token, and its confirm token stays usable.
    let pending = gateway.register("pending");
    let mailbox = gateway.mailbox();
    gateway
        .post("/auth/forgot")
        .json(&json!({"username": "pending"}))
        .send()
        .expect(202);
    gateway.forgot("anna");
    assert!(
        mailbox
            .unread(&address_of("pending"))
            .and_then(|mail| mail.token())
            .is_none()
    );
    gateway
        .set_password(&pending, &password_of("pending"))
        .expect(200);
}

#[test]
fn forgot_tells_nothing_and_never_the_token() {
    let (_upstream, gateway) = gateway();
    gateway.person("anna");
    gateway.register("pending");
    gateway.administrator("root");
    gateway.person("gone");
    gateway.cli(&["account", "disable", "gone"], "").done();
    let mailbox = gateway.mailbox();
    let cases = [
        json!({"username": "anna"}),
        json!({"identity": "anna@example.org"}),
        json!({"identity": "ANNA@EXAMPLE.org"}),
        json!({"username": "nobody"}),
        json!({"identity": "nobody@example.org"}),
        json!({"username": "pending"}),
        json!({"username": "root"}),
        json!({"username": "gone"}),
    ];
    let mut first = None;
    for body in cases {
        let answer = gateway.post("/auth/forgot").json(&body).send().expect(202);
        let neutral = answer.neutral();
        assert_eq!(*first.get_or_insert(neutral.clone()), neutral, "{body}");
    }
    for _ in 0..3 {
        let token = mailbox.token("anna@example.org");
        assert!(
            !first.as_ref().unwrap().2.to_string().contains(&token),
            "the answer tells the token"
        );
    }
    for none in ["root", "gone", "pending"] {
        let mail = mailbox.unread(&address_of(none));
        assert!(
            mail.and_then(|mail| mail.token()).is_none(),
            "{none} got a reset token"
        );
    }
    for wrong in [
        json!({}),
        json!({"username": "anna", "identity": "anna@example.org", "x": 1}),
        json!({"username": 1}),
    ] {
        let answer = gateway.post("/auth/forgot").json(&wrong).send();
        assert!(
            matches!(answer.status, 400 | 422),
            "{wrong}: {}",
            answer.status
        );
    }
    let mailbox = gateway.mailbox();
    gateway
        .post("/auth/forgot")
        .host("evil.test")
        .json(&json!({"username": "anna"}))
        .send()
        .expect(202);
    let mail = mailbox.next("anna@example.org");
    gateway.secret(&mail.token().unwrap());
    assert!(!mail.raw.contains("evil.test"), "{}", mail.raw);
}

#[test]
fn a_reset_ends_every_session_and_voids_every_other_token() {
    let (_upstream, gateway) = gateway();
    let (anna, other) = (gateway.person("anna"), gateway.login("anna"));
    let key = gateway.key(&anna, &[]);
    let (one, two) = (gateway.forgot("anna"), gateway.forgot("anna"));
    assert_eq!(status(&gateway, &anna.jwt), 200);
    let mailbox = gateway.mailbox();
    gateway
        .set_password(&two, &password_of("newer"))
        .expect(200);
    for person in [&anna, &other] {
        assert_eq!(status(&gateway, &person.jwt), 401);
        gateway.refresh(&person.refresh).expect(400);
    }
    for token in [&one, &two] {
        gateway
            .set_password(token, &password_of("thief"))
            .refused(400, "token_invalid");
    }
    assert!(
        mailbox.next(&anna.identity).token().is_none(),
        "the owner is told"
    );
    gateway.get_by(&key.caller(), "/protected/x").expect(200);
    gateway.try_login("anna", &anna.password).refused_as(401);
    gateway.try_login("anna", &password_of("newer")).expect(200);
    // On request, keys end too.
    let token = gateway.forgot("anna");
    let mut body = wanted(&token, &password_of("newest"));
    gateway.secret(&password_of("newest"));
    body["revoke_keys"] = json!(true);
    gateway.put("/auth/password").json(&body).send().expect(200);
    gateway
        .get_by(&key.caller(), "/protected/x")
        .refused(401, "api_key_invalid");
}

#[test]
fn a_change_needs_the_old_password_and_ends_the_other_sessions() {
    let (_upstream, gateway) = gateway();
    let (anna, other) = (gateway.person("anna"), gateway.login("anna"));
    let new = password_of("newer");
    gateway.secret(&new);
    assert_eq!(
        (status(&gateway, &anna.jwt), status(&gateway, &other.jwt)),
        (200, 200)
    );
    let change = |body: &Value| {
        gateway
            .put("/auth/password")
            .by(&anna.caller())
            .json(body)
            .send()
    };
    change(&changed("wrong Old password 1", &new)).refused_as(403);
    assert_eq!(
        status(&gateway, &other.jwt),
        200,
        "a wrong old password ended a session"
    );
    // A refused new password is not a guess and changes nothing.
    change(&changed(&anna.password, "short")).refused_as(422);
    change(&changed(&anna.password, &anna.password)).refused_as(422);
    let mut differ = changed(&anna.password, &new);
    differ["verify_password"] = json!("another New password 2");
    change(&differ).refused_as(422);
    let mailbox = gateway.mailbox();
    assert_eq!(
        change(&changed(&anna.password, &new))
            .expect(200)
            .member("uid"),
        anna.uid
    );
    assert_eq!(
        (status(&gateway, &anna.jwt), status(&gateway, &other.jwt)),
        (200, 401)
    );
    gateway.refresh(&anna.refresh).expect(200);
    gateway.refresh(&other.refresh).expect(400);
    assert!(
        mailbox.next(&anna.identity).token().is_none(),
        "the owner is told"
    );
    gateway.try_login("anna", &anna.password).refused_as(401);
    gateway.try_login("anna", &new).expect(200);
}

#[test]
fn only_an_own_login_changes_a_password() {
    let (_upstream, gateway) = gateway();
    let (anna, ben) = (gateway.person("anna"), gateway.person("ben"));
    let key = gateway.key(&anna, &[]);
    let body = changed(&anna.password, &password_of("newer"));
    gateway
        .put("/auth/password")
        .json(&body)
        .send()
        .refused_as(401);
    let answer = gateway
        .put("/auth/password")
        .by(&key.caller())
        .json(&body)
        .send();
    assert!(matches!(answer.status, 401 | 403), "{}", answer.status);
    gateway
        .put("/auth/password")
        .by(&ben.caller())
        .json(&body)
        .send()
        .refused_as(403);
    let mut foreign = changed(&ben.password, &password_of("newer"));
    foreign["uid"] = json!(anna.uid);
    let answer = gateway
        .put("/auth/password")
        .by(&ben.caller())
        .json(&foreign)
        .send();
    assert!((400..=422).contains(&answer.status), "{}", answer.status);
    gateway.login("anna");
    gateway.login("ben");
}

#[test]
fn a_refused_password_consumes_nothing() {
    let (_upstream, gateway) = gateway();
    let token = gateway.register("annabel");
    for weak in [
        "",
        "aB3-xyz",
        "onlylower",
        "Password1!",
        "Annabel1!",
        "aaaaaaaaaaaaaaaaaaaa",
        &"aB3-".repeat(100),
    ] {
        gateway
            .put("/auth/password")
            .json(&wanted(&token, weak))
            .send()
            .refused_as(422);
    }
    let mut differ = wanted(&token, &password_of("annabel"));
    differ["verify_password"] = json!("another New password 2");
    gateway
        .put("/auth/password")
        .json(&differ)
        .send()
        .refused_as(422);
    // Any Unicode, unchanged: neither truncated nor folded.
    let long = format!("{} \u{1f511} \u{e9}\u{301} END", "Xy7-".repeat(60));
    gateway.set_password(&token, &long).expect(200);
    gateway
        .try_login("annabel", long.trim_end_matches("END"))
        .refused_as(401);
    gateway
        .try_login("annabel", &long.to_lowercase())
        .refused_as(401);
    gateway.try_login("annabel", &long).expect(200);
}

#[test]
fn malformed_password_requests_are_refused() {
    let (_upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let token = gateway.forgot("anna");
    let new = password_of("newer");
    let both = json!({"reset_token": token, "old_password": anna.password, "new_password": new, "verify_password": new});
    let cases = [
        both,
        json!({"new_password": new, "verify_password": new}),
        json!({"reset_token": token, "new_password": new}),
        json!({"reset_token": token, "verify_password": new}),
        json!({"reset_token": token, "new_password": new, "verify_password": new, "is_admin": true}),
        json!({"reset_token": [token], "new_password": new, "verify_password": new}),
        json!({"reset_token": token, "new_password": 12_345_678, "verify_password": 12_345_678}),
        json!({"reset_token": null, "new_password": new, "verify_password": new}),
        json!({"reset_token": token, "new_password": new, "verify_password": new, "revoke_keys": "yes"}),
        json!([token]),
    ];
    for body in cases {
        let answer = gateway.put("/auth/password").json(&body).send();
        assert!(
            matches!(answer.status, 400 | 422),
            "{body}: {}",
            answer.status
        );
        assert!(
            !answer.text().contains(&token) && !answer.text().contains(&new),
            "the refusal repeats a secret"
        );
    }
    // A POST is the page's form, which only the page itself sends.
    gateway
        .post("/auth/password")
        .json(&wanted(&token, &new))
        .send()
        .refused(403, "origin_refused");
    let answer = gateway.delete("/auth/password").send();
    answer.refused_as(405);
    assert!(answer.header("allow").unwrap().contains("PUT"));
    gateway
        .put(&format!("/auth/password?reset_token={token}"))
        .json(&json!({"new_password": new, "verify_password": new}))
        .send();
    gateway.set_password(&token, &new).expect(200);
}

/// A phone sends an umlaut as one character, a Mac may send it as two.
#[test]
fn a_password_is_the_same_on_every_keyboard() {
    const COMPOSED: &str = "gr\u{fc}ne Stra\u{df}en im M\u{e4}rz 7";
    const TYPED: &str = "gru\u{308}ne Stra\u{df}en im Ma\u{308}rz 7";
    let gateway = Gateway::start("");
    for (name, set) in [("anna", COMPOSED), ("bert", TYPED)] {
        let token = gateway.register(name);
        gateway.set_password(&token, set).expect(200);
        for typed in [COMPOSED, TYPED] {
            let spelled = format!(" {name}\t");
            let jwt = gateway
                .try_login(&spelled, typed)
                .expect(200)
                .member("jwt_token");
            // Both forms are the same password when it is changed, too.
            let body = changed(typed, COMPOSED);
            let answer = gateway
                .put("/auth/password")
                .bearer(&jwt)
                .json(&body)
                .send();
            answer.refused(422, "password_refused");
        }
        let spaced = format!("{COMPOSED} ");
        gateway
            .try_login(name, &spaced)
            .refused(401, "login_refused");
    }
}
