//! The page that changes the password.

use serde_json::json;

use crate::account::test_kit::{OTHER, PASSWORD};
use crate::store::AccountChange;
use crate::web::test_kit::{Answer, Gateway};
use crate::web::tests::browser::{FORM, OWN, gateway, listed, log_in, pair};

/// The destination, as in a form or query.
const BACK: &str = "rd=https%3A%2F%2Fapp.example.com%2Fx";

async fn get(gateway: &Gateway, path: &str, cookie: &str) -> Answer {
    let fields = [("cookie", cookie)];
    gateway.send("GET", path, &fields, String::new()).await
}

async fn change(gateway: &Gateway, cookie: &str, old: &str, new: &str, more: &str) -> Answer {
    let form = format!("old_password={old}&new_password={new}&verify_password={new}{more}");
    let fields = [FORM, OWN, ("cookie", cookie)];
    gateway.send("POST", "/auth/password", &fields, form).await
}

#[tokio::test]
async fn who_is_not_logged_in_is_led_to_the_login_and_back() {
    let gateway = gateway("http://door", listed());
    let jwt = gateway.person("anna").await.text_of("jwt_token");
    let page = format!("/auth/password?{BACK}");
    let form = format!("old_password=a&new_password=b&verify_password=b&{BACK}");
    let sent = gateway
        .send("POST", "/auth/password", &[FORM, OWN], form)
        .await;
    for answer in [
        get(&gateway, &page, "a=b").await,
        get(&gateway, &page, "doorward_session=dws_x").await,
        // Pages are for browsers, which use no bearer tokens.
        gateway.get(&page, &jwt).await,
        sent,
    ] {
        assert_eq!(answer.status, 303, "{answer:?}");
        let login = answer.header("location");
        let shown = gateway.send("GET", login, &[], String::new()).await;
        let back = "value=\"http:&#x2f;&#x2f;door&#x2f;auth&#x2f;password?rd=https%3A%2F%2Fapp.example.com%2Fx\"";
        assert!(shown.text.contains(back), "{login} {}", shown.text);
    }
}

#[tokio::test]
async fn the_page_has_a_strict_policy_and_leads_to_listed_origins_only() {
    let gateway = gateway("http://door", listed());
    gateway.person("anna").await;
    let cookie = pair(&log_in(&gateway, OWN, "").await);
    for (query, target) in [
        ("", ""),
        ("?rd=https%3A%2F%2Fevil.org", ""),
        (&format!("?{BACK}"), " https://app.example.com"),
    ] {
        let page = get(&gateway, &format!("/auth/password{query}"), &cookie).await;
        assert_eq!(page.status, 200, "{page:?}");
        assert!(page.text.contains("<strong id=\"person\">anna</strong>"));
        let policy = format!(
            "default-src 'none'; style-src 'self'; form-action 'self'{target}; frame-ancestors 'none'; base-uri 'none'"
        );
        assert_eq!(page.header("content-security-policy"), policy);
        assert_eq!(page.header("referrer-policy"), "same-origin");
        for word in ["<script", "style=", "evil.org"] {
            assert!(!page.text.contains(word), "{query}: {word}");
        }
    }
}

#[tokio::test]
async fn whoever_is_logged_in_changes_the_password_and_is_led_on() {
    let gateway = gateway("http://door", listed());
    gateway.person("anna").await;
    let cookie = pair(&log_in(&gateway, OWN, "").await);
    let other = pair(&log_in(&gateway, OWN, "").await);
    let back = format!("&{BACK}");
    let cases = [
        ("wrong", OTHER, 403, "The old password is wrong."),
        (PASSWORD, "short", 422, "The new password is not accepted: "),
        (
            PASSWORD,
            PASSWORD,
            422,
            "The new password is not accepted: ",
        ),
    ];
    for (old, new, status, words) in cases {
        let answer = change(&gateway, &cookie, old, new, &back).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.text.contains(words), "{words}: {}", answer.text);
        for secret in [PASSWORD, OTHER] {
            assert!(!answer.text.contains(secret), "{}", answer.text);
        }
    }
    let answer = change(&gateway, &cookie, PASSWORD, OTHER, "&uid=u-12345678").await;
    assert_eq!(answer.code(), "body_malformed");
    let answer = change(&gateway, &cookie, PASSWORD, OTHER, &back).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, "https://app.example.com/x")
    );
    assert_eq!(get(&gateway, "/auth/me", &cookie).await.status, 200);
    assert_eq!(get(&gateway, "/auth/me", &other).await.status, 401);
    assert_eq!(gateway.login("anna", PASSWORD).await.status, 401);
    // Without a destination, the login page confirms the change, but only to the logged-in person.
    let answer = change(&gateway, &cookie, OTHER, PASSWORD, "").await;
    let location = answer.header("location");
    assert_eq!(location, "/auth/login?notice=password_changed");
    let said = "The password is changed.";
    assert!(get(&gateway, location, &cookie).await.text.contains(said));
    assert!(!get(&gateway, location, "a=b").await.text.contains(said));
}

#[tokio::test]
async fn guesses_on_the_page_count_as_everywhere() {
    let gateway = gateway("http://door", listed());
    gateway.person("anna").await;
    let cookie = pair(&log_in(&gateway, OWN, "").await);
    for status in [403, 403, 403, 403, 403, 429] {
        let answer = change(&gateway, &cookie, "wrong", OTHER, "").await;
        assert_eq!(answer.status, status);
        assert_eq!(status == 429, !answer.header("retry-after").is_empty());
    }
    assert_eq!(gateway.login("anna", PASSWORD).await.status, 401);
}

#[tokio::test]
async fn who_owes_a_password_changes_it_and_is_led_on() {
    let gateway = gateway("http://door", listed());
    gateway.person("anna").await;
    let store = &gateway.snapshot.services.store;
    let found = store.accounts(None, 1).await.unwrap().remove(0);
    let owes = AccountChange {
        password_must_change: Some(true),
        ..AccountChange::default()
    };
    store.update_account(&found.uid, owes).await.unwrap();
    let answer = log_in(&gateway, OWN, &format!("&{BACK}")).await;
    let page = format!("/auth/password?{BACK}");
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, page.as_str())
    );
    let cookie = pair(&answer);
    let shown = get(&gateway, &page, &cookie).await;
    assert!(shown.text.contains("You must change it before"));
    let shown = get(&gateway, "/auth/login", &cookie).await;
    assert!(shown.text.contains("You must change your password"));
    assert!(shown.text.contains("href=\"&#x2f;auth&#x2f;password\""));
    let answer = change(&gateway, &cookie, PASSWORD, OTHER, &format!("&{BACK}")).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, "https://app.example.com/x")
    );
    let me = get(&gateway, "/auth/me", &cookie).await;
    assert_eq!(me.json["roles"], json!(["user"]));
}
