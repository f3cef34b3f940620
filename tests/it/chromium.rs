//! The pages in a real browser, with JavaScript and without.

use crate::harness::browser::Browser;
use crate::harness::gateway::Gateway;
use crate::harness::people::{address_of, password_of};
use crate::harness::routes::routes;
use crate::harness::upstream::{Exchange, Upstream};

/// A page whose script changes its title, and whose form posts to the gateway from another origin.
fn pages(exchange: &mut Exchange) {
    exchange.body();
    let target = exchange.seen.target.clone();
    let gateway = target.split_once("?to=").map_or("", |(_, to)| to);
    let page = format!(
        "<!DOCTYPE html><title>still</title><h1>{}</h1><script>document.title = \"moved\"</script>\
        <form method=post action=\"http://{gateway}/protected/x\"><button>Win</button></form>",
        exchange.seen.header("x-auth-username").unwrap_or("nobody")
    );
    let length = page.len();
    exchange.write(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n{page}"
    ));
}

/// A gateway whose login may return to the upstream itself.
fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::serving(pages);
    let gateway = Gateway::start(&format!(
        "[session]\nreturn_to = [\"http://{}\"]\n{}",
        upstream.address,
        routes(&upstream)
    ));
    (upstream, gateway)
}

#[test]
fn people_register_and_log_in_without_javascript() {
    life(false);
}

#[test]
fn people_register_and_log_in_with_javascript() {
    life(true);
}

fn life(javascript: bool) {
    let (upstream, gateway) = gateway();
    let app = format!("http://{}", upstream.address);
    let door = format!("http://{}", gateway.address);
    let browser = Browser::start(javascript);
    browser.open(&format!("{door}/public/x"));
    assert_eq!(browser.title(), if javascript { "moved" } else { "still" });

    confirm(&gateway, &browser, &door);

    // A page that requires a login redirects to the login, and the login redirects back to it.
    let asked = format!("{door}/protected/page?a=b");
    browser.open(&asked);
    browser.arrives(&format!("{door}/auth/login?rd="));
    log_in(&browser, "entirely Wrong 9 words");
    assert_eq!(
        browser.text(".message"),
        "The name or the password is wrong."
    );
    assert_eq!(browser.cookies().len(), 0);
    log_in(&browser, &password_of("anna"));
    browser.arrives(&asked);
    assert_eq!(browser.text("h1"), "anna");
    let cookies = browser.cookies();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    gateway.secret(cookies[0]["value"].as_str().unwrap());
    assert_eq!(
        (
            cookies[0]["name"].as_str(),
            cookies[0]["httpOnly"].as_bool()
        ),
        (Some("doorward_session"), Some(true))
    );
    assert_eq!(
        (
            cookies[0]["sameSite"].as_str(),
            cookies[0]["secure"].as_bool()
        ),
        (Some("Lax"), Some(false))
    );

    // Requests from a page of another origin on the same site carry the cookie, and it is not accepted.
    browser.open(&format!("{app}/?to={}", gateway.address));
    browser.click("button");
    browser.arrives(&format!("{door}/protected/x"));
    assert!(
        browser.source().contains("origin_refused"),
        "{}",
        browser.source()
    );
    assert!(upstream.seen().iter().all(|seen| seen.method == "GET"));

    is_refused_by_a_page(&browser, &door);

    browser.open(&format!("{door}/auth/login"));
    assert_eq!(browser.text("#person"), "anna");
    assert_eq!(browser.count("#astray"), 0, "nothing went wrong");
    browser.click("button");
    browser.arrives(&format!("{door}/auth/login?notice=logged_out"));
    let is_session = |cookie: &serde_json::Value| cookie["name"] == "doorward_session";
    assert!(!browser.cookies().iter().any(is_session));
    browser.open(&asked);
    browser.arrives(&format!("{door}/auth/login?rd="));

    // The redirect after the form may lead to another origin, because the page's policy names it.
    browser.open(&format!("{door}/auth/login?rd={app}/landing"));
    log_in(&browser, &password_of("anna"));
    browser.arrives(&format!("{app}/landing"));

    reset(&gateway, &browser, &door);
}

/// A refusal shows anna her name, the missing right, and the possible next steps.
fn is_refused_by_a_page(browser: &Browser, door: &str) {
    browser.open(&format!("{door}/admin/x"));
    assert_eq!(browser.text("#person"), "anna");
    assert_eq!(browser.text("#code"), "role_missing");
    assert!(
        browser
            .text("#missing")
            .starts_with("Your account lacks a role")
    );
    assert_eq!(browser.text("#request").len(), 16);
    assert_eq!(
        browser.style("main", "border-radius"),
        "8px",
        "the style is taken under the page's policy"
    );
    browser.click("#login");
    browser.arrives(&format!("{door}/auth/login?as=another&rd="));
    assert_eq!(browser.text("#other"), "anna");
    browser.open(&format!("{door}/nowhere"));
    assert_eq!(browser.text("#code"), "no_route");
    assert_eq!(browser.text("#person"), "anna");
    browser.click("#back");
    browser.arrives(&format!("{door}/"));
}

#[test]
fn a_password_that_must_change_is_changed_without_javascript() {
    owed(false);
}

#[test]
fn a_password_that_must_change_is_changed_with_javascript() {
    owed(true);
}

fn owed(javascript: bool) {
    let (upstream, gateway) = gateway();
    let app = format!("http://{}", upstream.address);
    let door = format!("http://{}", gateway.address);
    let (root, anna) = (gateway.administrator("root"), gateway.person("anna"));
    gateway
        .request("PATCH", &format!("/auth/accounts/{}", anna.account_id))
        .by(&root.caller())
        .json(&serde_json::json!({"password_must_change": true}))
        .send()
        .expect(200);
    let browser = Browser::start(javascript);
    browser.open(&format!("{door}/auth/login?rd={app}/landing"));
    log_in(&browser, &anna.password);
    browser.arrives(&format!("{door}/auth/password?rd="));
    gateway.secret(browser.cookies()[0]["value"].as_str().unwrap());
    assert_eq!(browser.text("#person"), "anna");
    // The login page redirects here as well, and routes stay closed.
    browser.open(&format!("{door}/auth/login"));
    browser.click("#change");
    browser.arrives(&format!("{door}/auth/password"));
    browser.open(&format!("{door}/protected/x"));
    assert!(browser.source().contains("password_must_change"));

    browser.open(&format!("{door}/auth/password?rd={app}/landing"));
    let newer = password_of("newer");
    change(&browser, "entirely Wrong 9 words", &newer);
    assert_eq!(browser.text(".message"), "The old password is wrong.");
    change(&browser, &anna.password, &newer);
    browser.arrives(&format!("{app}/landing"));
    browser.open(&format!("{door}/protected/x"));
    assert_eq!(browser.text("h1"), "anna", "the login goes on");

    // Users can also open the page themselves, and see the outcome.
    browser.open(&format!("{door}/auth/password"));
    change(&browser, &newer, &anna.password);
    browser.arrives(&format!("{door}/auth/login?notice=password_changed"));
    assert!(
        browser
            .text(".notice")
            .starts_with("The password is changed.")
    );
    gateway.try_login("anna", &newer).expect(401);
    gateway.try_login("anna", &anna.password).expect(200);
}

/// Fills in and sends the page that changes the password.
fn change(browser: &Browser, old: &str, new: &str) {
    browser.fill("old_password", old);
    browser.fill("new_password", new);
    browser.fill("verify_password", new);
    browser.click("main form button");
}

/// Replaces the values that the page has kept, and sends it.
fn log_in(browser: &Browser, password: &str) {
    if browser.value("username").is_empty() {
        browser.fill("username", "anna");
    }
    assert_eq!(browser.value("username"), "anna");
    browser.fill("password", password);
    browser.click("button");
}

/// Registers anna, and sets her password with the mailed link.
fn confirm(gateway: &Gateway, browser: &Browser, door: &str) {
    let mailbox = gateway.mailbox();
    browser.open(&format!("{door}/auth/login"));
    browser.click("#register");
    browser.arrives(&format!("{door}/auth/register"));
    browser.fill("identity", &address_of("anna"));
    browser.fill("username", "anna");
    browser.fill("name", "Anna");
    browser.click("button");
    browser.arrives(&format!("{door}/auth/login?notice=registered"));
    assert!(browser.text(".notice").starts_with("A mail has been sent"));
    let token = mailbox.token(&address_of("anna"));
    browser.open(&format!("{door}/auth/confirm?token={token}"));
    assert_eq!(
        browser.style("main", "border-radius"),
        "8px",
        "the style is loaded under the page's policy"
    );
    assert_eq!(
        browser.count("#username[value=anna][autocomplete=username]"),
        1,
        "password managers are told whose it is"
    );
    assert!(browser.text("#rules").starts_with("At least 8 characters."));
    browser.fill("new_password", "password");
    browser.fill("verify_password", "password");
    browser.click("button");
    assert!(
        browser
            .text(".message")
            .starts_with("The new password is not accepted"),
        "{}",
        browser.source()
    );
    assert!(!browser.source().contains(&token));
    browser.fill("new_password", &password_of("anna"));
    browser.fill("verify_password", &password_of("anna"));
    browser.click("button");
    browser.arrives(&format!("{door}/auth/login"));
    assert_eq!(
        browser.text(".notice"),
        "The password is set. Log in with it."
    );
    // The same link once more: the page says at once that it is void, and links to the login.
    browser.open(&format!("{door}/auth/confirm?token={token}"));
    assert_eq!(browser.count("form"), 0);
    assert!(
        browser
            .text(".message")
            .starts_with("This link was already used")
    );
    browser.click("#login");
    browser.arrives(&format!("{door}/auth/login"));
}

/// Replaces anna's password with the mailed link; her previous session ends.
fn reset(gateway: &Gateway, browser: &Browser, door: &str) {
    let mailbox = gateway.mailbox();
    browser.open(&format!("{door}/auth/login?as=another"));
    browser.click("#forgot");
    browser.arrives(&format!("{door}/auth/forgot"));
    browser.fill("username", "anna");
    browser.click("button");
    browser.arrives(&format!("{door}/auth/login?notice=reset_sent"));
    let token = mailbox.token(&address_of("anna"));
    browser.open(&format!("{door}/auth/reset?token={token}"));
    browser.fill("new_password", &password_of("newer"));
    browser.fill("verify_password", &password_of("newer"));
    browser.click("button");
    browser.arrives(&format!("{door}/auth/login"));
    browser.open(&format!("{door}/protected/x"));
    browser.arrives(&format!("{door}/auth/login?rd="));
    gateway.secret(&password_of("newer"));
    gateway.try_login("anna", &password_of("newer")).expect(200);
}
