//! Pages for people who cannot log in, and for people who are refused.

use crate::account::test_kit::PASSWORD;
use crate::config::Registration;
use crate::web::test_kit::{Answer, Gateway};
use crate::web::tests::browser::{FORM, OWN, gateway, listed, log_in, pair};

/// Header fields that a browser sends with a navigation.
const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const NAVIGATES: (&str, &str) = ("sec-fetch-mode", "navigate");

async fn open(gateway: &Gateway, path: &str, more: &[(&str, &str)]) -> Answer {
    let fields = [&[HTML, NAVIGATES], more].concat();
    gateway.send("GET", path, &fields, String::new()).await
}

async fn post(gateway: &Gateway, path: &str, form: &str) -> Answer {
    let fields = [FORM, OWN, HTML, NAVIGATES];
    gateway.send("POST", path, &fields, form.to_owned()).await
}

fn is_page(answer: &Answer) -> bool {
    answer.header("content-type") == "text/html; charset=utf-8"
        && answer.header("cache-control") == "no-store"
        && answer.header("referrer-policy") == "same-origin"
        && answer
            .header("content-security-policy")
            .contains("frame-ancestors 'none'")
        && !answer.text.contains("<script")
}

#[tokio::test]
async fn the_login_page_leads_to_what_is_open() {
    for (registration, is_open) in [
        (Registration::Open, true),
        (Registration::Invite, false),
        (Registration::Closed, false),
    ] {
        let gateway = Gateway::start_with(|config| config.account.registration = registration);
        let page = open(&gateway, "/auth/login", &[]).await;
        assert!(
            page.text.contains("href=\"&#x2f;auth/forgot\""),
            "{}",
            page.text
        );
        assert_eq!(page.text.contains("href=\"&#x2f;auth/register\""), is_open);
        let page = open(&gateway, "/auth/register", &[]).await;
        assert!(is_page(&page), "{page:?}");
        assert_eq!(page.status, if is_open { 200 } else { 403 });
        assert_eq!(page.text.contains("<form"), is_open, "{}", page.text);
    }
}

#[tokio::test]
async fn a_person_registers_by_the_page() {
    let gateway = gateway("http://door", listed());
    let form = "identity=anna%40example.org&username=anna&name=%22%3E%3Cb%3EAnna";
    for origin in [
        None,
        Some("null"),
        Some("https://ui.example.com"),
        Some("http://evil.org"),
    ] {
        let mut fields = vec![FORM];
        fields.extend(origin.map(|origin| ("origin", origin)));
        let answer = gateway
            .send("POST", "/auth/register", &fields, form.to_owned())
            .await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "origin_refused"),
            "{origin:?}"
        );
    }
    let wrong = post(
        &gateway,
        "/auth/register",
        &form.replace("username=anna", "username=u-x"),
    )
    .await;
    assert_eq!(wrong.status, 422);
    assert!(
        is_page(&wrong) && wrong.text.contains("role=\"alert\""),
        "{}",
        wrong.text
    );
    assert!(
        wrong.text.contains("value=\"&quot;&gt;&lt;b&gt;Anna\""),
        "{}",
        wrong.text
    );
    assert!(gateway.mailbox.take().is_empty());
    for form in [
        "identity=a",
        "identity=a&username=b&name=c&template=confirm_new",
        "identity=a&identity=b&username=c&name=d",
    ] {
        assert_eq!(
            post(&gateway, "/auth/register", form).await.status,
            400,
            "{form}"
        );
    }
    // The second time the name and address are taken, and nothing reveals it.
    for _ in 0..2 {
        let done = post(&gateway, "/auth/register", form).await;
        assert_eq!(
            (done.status, done.header("location")),
            (303, "/auth/login?notice=registered")
        );
        assert!(!gateway.mailbox.take().is_empty());
    }
    let page = open(&gateway, "/auth/login?notice=registered", &[]).await;
    assert!(page.text.contains("A mail has been sent to the address."));
}

#[tokio::test]
async fn a_person_asks_for_a_link_by_the_page() {
    let gateway = gateway("http://door", listed());
    gateway.person("anna").await;
    gateway.mailbox.take();
    let page = open(&gateway, "/auth/forgot", &[]).await;
    assert!(page.status == 200 && is_page(&page), "{page:?}");
    for (name, mails) in [("nobody", 0), ("anna", 1), ("anna%40example.org", 1)] {
        let done = post(&gateway, "/auth/forgot", &format!("username={name}")).await;
        assert_eq!(
            (done.status, done.header("location")),
            (303, "/auth/login?notice=reset_sent")
        );
        assert_eq!(gateway.mailbox.take().len(), mails, "{name}");
    }
    let page = open(&gateway, "/auth/login?notice=reset_sent", &[]).await;
    assert!(page.text.contains("If there is such an account"));
    let foreign = [FORM, ("origin", "http://evil.org")];
    let answer = gateway
        .send("POST", "/auth/forgot", &foreign, "username=anna".to_owned())
        .await;
    assert_eq!(answer.status, 403);
    assert!(gateway.mailbox.take().is_empty());
}

#[tokio::test]
async fn a_link_that_counts_for_nothing_says_so_at_once() {
    let gateway = gateway("http://door", listed());
    gateway.person("anna").await;
    gateway.mailbox.take();
    assert_eq!(
        post(&gateway, "/auth/forgot", "username=anna").await.status,
        303
    );
    let token = gateway.mailbox.token();
    let good = format!("/auth/reset?token={token}");
    // Opening the page consumes nothing, however often.
    for _ in 0..3 {
        let page = open(&gateway, &good, &[]).await;
        assert!(page.status == 200 && is_page(&page), "{page:?}");
        let text = &page.text;
        assert!(
            text.contains("value=\"anna\" autocomplete=\"username\" readonly"),
            "{text}"
        );
        assert!(
            text.contains("autocomplete=\"new-password\" aria-describedby=\"rules\""),
            "{text}"
        );
        assert!(text.contains("At least 8 characters."), "{text}");
        assert!(!text.contains(&token), "{text}");
    }
    let swapped = format!("/auth/confirm?token={token}");
    let twice = format!("{good}&token={token}");
    let set = format!("new_password={PASSWORD}x&verify_password={PASSWORD}x");
    for path in [
        "/auth/reset",
        "/auth/reset?token=",
        "/auth/reset?token=dwo_made-up",
        "/auth/confirm",
        &swapped,
        &twice,
    ] {
        for answer in [
            open(&gateway, path, &[]).await,
            post(&gateway, path, &set).await,
        ] {
            assert!(
                answer.status == 400 && is_page(&answer),
                "{path} {answer:?}"
            );
            assert!(answer.text.contains("This link was already used"), "{path}");
            assert!(!answer.text.contains("<form"), "{path} {}", answer.text);
            for way in ["login", "forgot", "register"] {
                assert!(
                    answer.text.contains(&format!("href=\"&#x2f;auth/{way}\"")),
                    "{path} {way}"
                );
            }
        }
    }
    assert_eq!(post(&gateway, &good, &set).await.status, 303);
    let used = open(&gateway, &good, &[]).await;
    assert_eq!(used.status, 400);
    assert!(!used.text.contains("<form"), "{}", used.text);
}

#[tokio::test]
async fn a_name_that_has_used_up_its_guesses_is_told_what_happened_and_for_how_long() {
    let gateway = gateway("http://door", listed());
    for status in [401, 401, 401, 401, 401, 429] {
        let page = post(&gateway, "/auth/login", "username=nobody&password=wrong").await;
        assert_eq!(page.status, status);
        assert!(is_page(&page), "{page:?}");
        if status == 429 {
            assert_eq!(page.header("retry-after"), "600");
            let told = "There were too many wrong passwords for this name or from your network.";
            assert!(page.text.contains(told), "{}", page.text);
            assert!(
                page.text.contains("Try again in 10 minutes."),
                "{}",
                page.text
            );
        }
    }
}

#[tokio::test]
async fn words_about_a_loop_come_only_after_one() {
    let gateway = gateway("http://door", listed());
    gateway.person("anna").await;
    let cookie = pair(&log_in(&gateway, OWN, "").await);
    let way = "/auth/login?rd=https%3A%2F%2Fapp.example.com%2F";
    let first = open(&gateway, way, &[("cookie", &cookie)]).await;
    assert!(first.text.contains("Continue to"), "{}", first.text);
    assert!(!first.text.contains("sends you here again"));
    let marked = format!("{cookie}; {}", pair(&first));
    for (path, cookies, is_loop) in [
        (way, &marked, true),
        (way, &cookie, false),
        (
            "/auth/login?rd=https%3A%2F%2Fapp.example.com%2Fother",
            &marked,
            false,
        ),
        ("/auth/login", &marked, false),
    ] {
        let page = open(&gateway, path, &[("cookie", cookies)]).await;
        assert_eq!(
            page.text.contains("sends you here again"),
            is_loop,
            "{path} {cookies}"
        );
    }
    // A login that redirects there counts as the first visit.
    let led = log_in(&gateway, OWN, "&rd=https%3A%2F%2Fapp.example.com%2F").await;
    let all: Vec<_> = led
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|it| it.to_str().unwrap())
        .collect();
    assert!(
        all.iter().any(
            |it| it.starts_with("doorward_way=") && it.contains("; Path=/auth/login; HttpOnly")
        ),
        "{all:?}"
    );
}

#[tokio::test]
async fn who_is_logged_in_may_log_in_as_somebody_else() {
    let gateway = gateway("http://door", listed());
    gateway.person("anna").await;
    let cookie = pair(&log_in(&gateway, OWN, "").await);
    let page = open(&gateway, "/auth/login?as=another", &[("cookie", &cookie)]).await;
    assert!(
        page.text.contains("<strong id=\"other\">anna</strong>"),
        "{}",
        page.text
    );
    assert!(page.text.contains("name=\"password\""), "{}", page.text);
    let me = gateway
        .send(
            "GET",
            "/auth/me",
            &[("cookie", cookie.as_str())],
            String::new(),
        )
        .await;
    assert_eq!(me.status, 200, "looking at it ends nothing");
}

#[tokio::test]
async fn a_person_who_is_refused_gets_a_page_and_a_program_a_document() {
    let gateway = gateway("http://door", listed());
    gateway.person("anna").await;
    let cookie = pair(&log_in(&gateway, OWN, "").await);
    let session = ("cookie", cookie.as_str());
    let cases = [
        ("GET", "/auth/nothing", vec![session], 404, "not_found"),
        ("GET", "/auth/logout", vec![session], 405, "method_refused"),
        ("GET", "/auth/accounts", vec![session], 403, "role_missing"),
        ("GET", "/auth/sessions", vec![], 401, "credential_missing"),
        (
            "GET",
            "/auth/roles?x=1",
            vec![session],
            400,
            "query_malformed",
        ),
        (
            "POST",
            "/auth/login",
            vec![session, FORM, ("origin", "http://evil.org")],
            403,
            "origin_refused",
        ),
    ];
    for (method, path, fields, status, code) in cases {
        let as_person = [
            &fields[..],
            &[HTML, NAVIGATES, ("referer", "http://door/before")],
        ]
        .concat();
        let page = gateway.send(method, path, &as_person, String::new()).await;
        assert_eq!(page.status, status, "{path} {}", page.text);
        assert!(is_page(&page), "{path} {page:?}");
        let text = &page.text;
        assert!(
            text.contains(&format!("<code id=\"code\">{code}</code>")),
            "{text}"
        );
        assert!(
            text.contains("<code id=\"request\">0000000000000007</code>"),
            "{text}"
        );
        assert_eq!(
            text.contains("<strong id=\"person\">anna</strong>"),
            !fields.is_empty(),
            "{text}"
        );
        assert!(
            text.contains("href=\"http:&#x2f;&#x2f;door&#x2f;auth&#x2f;login?"),
            "{text}"
        );
        assert!(
            text.contains("id=\"back\" href=\"http:&#x2f;&#x2f;door&#x2f;before\""),
            "{text}"
        );
        assert!(
            page.header("content-security-policy")
                .contains("form-action 'none'")
        );
        assert_eq!(page.header("www-authenticate").is_empty(), status != 401);
        assert_eq!(page.header("allow").is_empty(), status != 405);
        for program in [
            vec![("accept", "*/*")],
            vec![("accept", "text/html"), ("sec-fetch-mode", "cors")],
        ] {
            let as_program = [&fields[..], &program].concat();
            let answer = gateway.send(method, path, &as_program, String::new()).await;
            assert_eq!(
                answer.header("content-type"),
                "application/problem+json",
                "{path}"
            );
            assert_eq!((answer.status, answer.code().as_str()), (status, code));
        }
    }
}

#[tokio::test]
async fn a_page_of_a_refusal_leads_nowhere_that_is_not_listed() {
    let gateway = gateway("http://door", listed());
    for (referer, back) in [
        ("http://door/before", "http:&#x2f;&#x2f;door&#x2f;before"),
        (
            "https://app.example.com/x",
            "https:&#x2f;&#x2f;app.example.com&#x2f;x",
        ),
        (
            "http://door/auth/reset?token=dwo_x",
            "http:&#x2f;&#x2f;door&#x2f;",
        ),
        ("http://door/auth/nothing", "http:&#x2f;&#x2f;door&#x2f;"),
        ("http://door.evil.org/", "http:&#x2f;&#x2f;door&#x2f;"),
        ("https://evil.org/", "http:&#x2f;&#x2f;door&#x2f;"),
        ("javascript:alert(1)", "http:&#x2f;&#x2f;door&#x2f;"),
        ("//evil.org/", "http:&#x2f;&#x2f;door&#x2f;"),
        ("/x", "http:&#x2f;&#x2f;door&#x2f;"),
    ] {
        let page = open(&gateway, "/auth/nothing", &[("referer", referer)]).await;
        let wanted = format!("<a id=\"back\" href=\"{back}\">");
        assert!(page.text.contains(&wanted), "{referer} {}", page.text);
    }
}
