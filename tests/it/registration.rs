//! Registration reveals nothing to strangers, reserves nothing, and gives an account only to the reader of the mail.

use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::people::{address_of, password_of};
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;

fn gateway(more: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!("{}{more}", routes(&upstream)));
    (upstream, gateway)
}

fn person(identity: &str, username: &str) -> Value {
    json!({"identity": identity, "username": username, "name": "Zebulon Quagmire"})
}

#[test]
fn the_answer_is_the_same_whether_or_not_anything_is_taken() {
    let (_upstream, gateway) = gateway("");
    gateway.person("anna");
    gateway.register("pending");
    let mailbox = gateway.mailbox();
    // Registered name and address; recipient of the mail; whether the mail contains a token.
    let cases = [
        (person("free@example.org", "free"), "free@example.org", true),
        (
            person("anna@example.org", "other"),
            "anna@example.org",
            false,
        ),
        (
            person("ANNA@example.org", "other2"),
            "anna@example.org",
            false,
        ),
        (
            person("anna+tag@example.org", "other3"),
            "anna@example.org",
            false,
        ),
        (person("ben@example.org", "anna"), "ben@example.org", false),
        (
            person("cora@example.org", "ANNA"),
            "cora@example.org",
            false,
        ),
        (
            person("anna@example.org", "anna"),
            "anna@example.org",
            false,
        ),
        (
            person("pending@example.org", "pending"),
            "pending@example.org",
            true,
        ),
        (
            person("dora@example.org", "pending"),
            "dora@example.org",
            true,
        ),
    ];
    let mut first = None;
    for (body, to, has_token) in cases {
        let answer = gateway
            .post("/auth/register")
            .json(&body)
            .send()
            .expect(202);
        assert!(answer.json()["message"].is_string());
        let neutral = answer.neutral();
        assert_eq!(*first.get_or_insert(neutral.clone()), neutral, "{body}");
        let mail = mailbox.next(to);
        assert_eq!(mail.token().is_some(), has_token, "{body}: {mail:?}");
        if let Some(token) = mail.token() {
            gateway.secret(&token);
            assert!(
                !answer.text().contains(&token),
                "the answer tells the token"
            );
        }
    }
}

#[test]
fn gmail_addresses_that_are_one_mailbox_are_one_account() {
    let (_upstream, gateway) = gateway("");
    let mailbox = gateway.mailbox();
    gateway
        .post("/auth/register")
        .json(&person("first.last@gmail.com", "first"))
        .send()
        .expect(202);
    let token = mailbox.token("first.last@gmail.com");
    gateway
        .set_password(&token, &password_of("first"))
        .expect(200);
    gateway
        .post("/auth/register")
        .json(&person("f.i.r.s.t.last+x@gmail.com", "second"))
        .send()
        .expect(202);
    let mail = mailbox.next("first.last@gmail.com");
    assert!(mail.token().is_none(), "{mail:?}");
    // Login ignores case and nothing else.
    let login = |name: &str| gateway.try_login(name, &password_of("first")).status;
    assert_eq!(
        (login("First.Last@GMAIL.com"), login("firstlast@gmail.com")),
        (200, 401)
    );
}

#[test]
fn pending_reserves_nothing_and_the_first_password_wins() {
    let (_upstream, gateway) = gateway("");
    let mailbox = gateway.mailbox();
    let register = |identity: &str, username: &str| {
        gateway
            .post("/auth/register")
            .json(&person(identity, username))
            .send()
            .expect(202);
        mailbox.token(identity)
    };
    let one = register("anna@example.org", "anna");
    let two = register("anna@example.org", "anna");
    let same_name = register("squatter@example.org", "anna");
    let same_address = register("anna@example.org", "anna2");
    let unrelated = register("ben@example.org", "ben");
    gateway
        .try_login("anna", &password_of("anna"))
        .refused_as(401);
    gateway.set_password(&two, &password_of("anna")).expect(200);
    for void in [&one, &two, &same_name, &same_address] {
        gateway
            .set_password(void, &password_of("thief"))
            .refused(400, "token_invalid");
    }
    gateway.login("anna");
    assert_eq!(gateway.try_login("anna", &password_of("thief")).status, 401);
    gateway
        .set_password(&unrelated, &password_of("ben"))
        .expect(200);
}

#[test]
fn two_who_confirm_one_name_at_once_get_one_account() {
    // Five of the six logins below are wrong.
    let (_upstream, gateway) = gateway("[account]\nlockout_attempts = 10\n");
    let mailbox = gateway.mailbox();
    let tokens: Vec<_> = (0..6)
        .map(|index| {
            let identity = format!("anna{index}@example.org");
            gateway
                .post("/auth/register")
                .json(&person(&identity, "anna"))
                .send()
                .expect(202);
            mailbox.token(&identity)
        })
        .collect();
    let answers = crate::harness::at_once(tokens.len(), |index| {
        gateway
            .set_password(&tokens[index], &password_of(&index.to_string()))
            .status
    });
    let done = answers.iter().filter(|status| **status == 200).count();
    assert_eq!(done, 1, "{answers:?}");
    let open = (0..6).filter(|index| {
        gateway
            .try_login("anna", &password_of(&index.to_string()))
            .status
            == 200
    });
    assert_eq!(open.count(), 1);
}

#[test]
fn mails_lead_to_the_configured_place_and_name_nobody() {
    let (_upstream, gateway) = gateway("");
    let mailbox = gateway.mailbox();
    gateway
        .post("/auth/register")
        .host("evil.test")
        .json(&person("anna@example.org", "anna"))
        .send()
        .expect(202);
    let mail = mailbox.next("anna@example.org");
    let token = mail.token().unwrap();
    gateway.secret(&token);
    let link = format!("http://{}/auth/confirm?token={token}", gateway.address);
    assert!(
        mail.text.lines().any(|line| line.trim() == link),
        "the link has no line of its own: {}",
        mail.text
    );
    for forged in ["evil.test", "Zebulon", "Quagmire"] {
        assert!(
            !mail.raw.contains(forged) && !mail.subject.contains(forged),
            "{forged}: {}",
            mail.raw
        );
    }
    assert!(token.len() >= 22, "less than 128 bits: {token}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &mailbox.files()[0].metadata().unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

/// A registration that is correct except for one field.
fn with(name: &str, value: Value) -> Value {
    let mut body = person("anna@example.org", "anna");
    body[name] = value;
    body
}

#[test]
fn values_that_break_a_rule_are_422() {
    let (_upstream, gateway) = gateway("");
    let (long_identity, long_name) = (format!("{}@example.org", "a".repeat(250)), "a".repeat(65));
    let identities = [
        "",
        "anna",
        "@example.org",
        "anna@",
        "anna@b@c",
        "anna\r\nBcc: x@evil.test@example.org",
        "anna@example.org\r\nBcc: x",
        "a\0@b.c",
        "anna@exa\nmple.org",
        &long_identity,
    ];
    let usernames = [
        "",
        "a",
        "u-12345678",
        "-anna",
        ".anna",
        "an na",
        "anna@example.org",
        "\u{e4}nna",
        "an\nna",
        "an/na",
        "an,na",
        &long_name,
    ];
    let names = ["", "a\r\nb", "a\0"];
    let wrong = identities.map(|it| with("identity", json!(it))).into_iter();
    let wrong = wrong.chain(usernames.map(|it| with("username", json!(it))));
    for body in wrong.chain(names.map(|it| with("name", json!(it)))) {
        let answer = gateway.post("/auth/register").json(&body).send();
        assert_eq!(answer.status, 422, "{body}");
        answer.refused_as(422);
    }
    assert!(
        gateway.mailbox().files().is_empty(),
        "a refused registration caused a mail"
    );
}

#[test]
fn what_breaks_the_form_is_400() {
    let (_upstream, gateway) = gateway("");
    for field in [
        "is_admin",
        "roles",
        "status",
        "uid",
        "password",
        "account_id",
        "Identity",
    ] {
        let body = with(field, json!(true));
        let answer = gateway.post("/auth/register").json(&body).send();
        answer.refused_as(400);
    }
    let is_refused = |body: &Value| {
        let answer = gateway.post("/auth/register").json(body).send();
        assert!(
            matches!(answer.status, 400 | 422),
            "{body}: {}",
            answer.status
        );
        answer.refused_as(answer.status);
    };
    for field in ["identity", "username", "name"] {
        for wrong in [json!(7), json!(["a"]), json!({}), json!(null), json!(true)] {
            is_refused(&with(field, wrong));
        }
        let mut body = person("anna@example.org", "anna");
        body.as_object_mut().unwrap().remove(field);
        is_refused(&body);
    }
    let text = gateway
        .post("/auth/register")
        .header("Content-Type", "text/plain");
    text.body(person("anna@example.org", "anna").to_string())
        .send()
        .refused_as(415);
    gateway
        .request("DELETE", "/auth/register")
        .send()
        .refused_as(405);
    assert!(
        gateway.mailbox().files().is_empty(),
        "a refused registration caused a mail"
    );
}

#[test]
fn where_registration_is_not_open_strangers_are_refused() {
    for mode in ["invite", "closed"] {
        let (_upstream, gateway) = gateway(&format!("[account]\nregistration = \"{mode}\"\n"));
        gateway
            .post("/auth/register")
            .json(&person("anna@example.org", "anna"))
            .send()
            .refused_as(403);
        assert!(gateway.mailbox().files().is_empty());
        // An invitation by the operator.
        let mailbox = gateway.mailbox();
        let task = [
            "account",
            "add",
            "ben",
            "--identity",
            "ben@example.org",
            "--name",
            "Ben",
        ];
        gateway.cli(&task, "").done();
        let token = mailbox.token(&address_of("ben"));
        gateway
            .set_password(&token, &password_of("ben"))
            .expect(200);
        gateway.login("ben");
    }
}

#[test]
fn a_retired_name_is_never_given_out_again() {
    let (_upstream, gateway) = gateway("");
    let anna = gateway.person("anna");
    gateway.cli(&["account", "disable", "anna"], "").done();
    let mailbox = gateway.mailbox();
    gateway
        .post("/auth/register")
        .json(&person("new@example.org", "anna"))
        .send()
        .expect(202);
    assert!(mailbox.next("new@example.org").token().is_none());
    gateway
        .post("/auth/register")
        .json(&person(&anna.identity, "new"))
        .send()
        .expect(202);
    assert!(
        mailbox.next(&anna.identity).token().is_none(),
        "no token makes a disabled account active"
    );
    gateway
        .post("/auth/forgot")
        .json(&json!({"username": "anna"}))
        .send()
        .expect(202);
    gateway.person("later");
    assert!(
        mailbox
            .unread(&anna.identity)
            .and_then(|mail| mail.token())
            .is_none()
    );
}

/// Over every transport, a taken name or address causes its mail.
#[test]
fn an_address_that_no_mail_gets_to_is_refused_at_once() {
    let gateway = Gateway::start("");
    let label = "x".repeat(64);
    for (number, identity) in [
        "a@[127.0.0.1]",
        "a@[IPv6:::1]",
        "a@127.0.0.1",
        "\"a b\"@example.org",
        "a..b@example.org",
        "a@example.org.",
        "a@b%c.example",
        "a%b@example.org",
        "m\u{fc}ller@example.org",
        "a@m\u{fc}ller.example",
        &format!("{label}x@example.org"),
        &format!("a@{label}.example"),
    ]
    .iter()
    .enumerate()
    {
        let body = person(identity, &format!("name{number}"));
        let answer = gateway.post("/auth/register").json(&body).send();
        answer.refused(422, "value_invalid");
    }
    // Phone keyboards append a space to a completed word.
    let mailbox = gateway.mailbox();
    let body = person(" anna@example.org ", "anna ");
    gateway
        .post("/auth/register")
        .json(&body)
        .send()
        .expect(202);
    let token = mailbox.token("anna@example.org");
    gateway
        .set_password(&token, &password_of("anna"))
        .expect(200);
    gateway.login("anna");
}
