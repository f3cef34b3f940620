//! The format of requests and responses.

use axum::response::Response;

use crate::snapshot::OwnEndpoints;
use crate::web::Endpoints;
use crate::web::openapi::{Api, about};
use crate::web::test_kit::Gateway;

#[tokio::test]
async fn bodies_are_what_is_documented_and_nothing_else() {
    let gateway = Gateway::start();
    let jwt = gateway.person("anna").await.text_of("jwt_token");
    let register = r#"{"identity":"b@example.org","username":"bert","name":"B""#;
    let json = "application/json";
    let mut cases = vec![
        ("/auth/register", json, format!("{register}}}"), 202),
        ("/auth/register", json, format!("{register}}} {{}}"), 400),
        ("/auth/register", json, "[]".to_owned(), 400),
        (
            "/auth/register",
            json,
            r#"["c@example.org","carl","C",null]"#.to_owned(),
            400,
        ),
        ("/auth/register", json, String::new(), 400),
        ("/auth/register", json, r#"{"identity":1}"#.to_owned(), 400),
        ("/auth/register", "text/plain", format!("{register}}}"), 415),
        ("/auth/register", "", format!("{register}}}"), 415),
        ("/auth/login", json, "x".repeat(70_000), 413),
        (
            "/auth/apikeys",
            json,
            r#"{"expires":"soon"}"#.to_owned(),
            422,
        ),
        (
            "/auth/apikeys",
            json,
            r#"{"uid":"u-12345678"}"#.to_owned(),
            400,
        ),
        ("/auth/apikeys", json, "{}".to_owned(), 201),
    ];
    for (more, status) in [
        (r#""is_admin":true"#, 400),
        (r#""roles":["admin"]"#, 400),
        (r#""uid":"u-12345678""#, 400),
        (r#""status":"active""#, 400),
        (r#""name":"C""#, 400),
        (r#""template":"evil""#, 422),
    ] {
        cases.push((
            "/auth/register",
            json,
            format!("{register},{more}}}"),
            status,
        ));
    }
    let short = register.replace("bert", "b");
    cases.push(("/auth/register", json, format!("{short}}}"), 422));
    let bearer = format!("Bearer {jwt}");
    for (path, media_type, body, status) in cases {
        let mut headers = vec![("authorization", bearer.as_str())];
        if !media_type.is_empty() {
            headers.push(("content-type", media_type));
        }
        let answer = gateway.send("POST", path, &headers, body.clone()).await;
        assert_eq!(
            answer.status, status,
            "{path} {media_type} {body} {answer:?}"
        );
    }
}

/// No second factor exists: a code sent anyway does not affect the login.
#[tokio::test]
async fn a_login_takes_a_code_and_does_not_look_at_it() {
    let gateway = Gateway::start();
    gateway.person("anna").await;
    let login = r#"{"username":"anna","password":"Quiet-Harbour-42""#;
    let cases = [
        (r#","otp":"123456""#, 200),
        (r#","otp":"","method":"password""#, 200),
        (r#","otp":null,"method":null"#, 200),
        (r#","otp":123456"#, 400),
        (r#","otp":"1","otp":"1""#, 400),
        (r#","totp":"123456""#, 400),
        (r#","method":"otp""#, 422),
    ];
    for (more, status) in cases {
        let wrong = if status == 200 { 401 } else { status };
        for (login, status) in [
            (login.replace("42", "43"), wrong),
            (login.to_owned(), status),
        ] {
            let fields = [("content-type", "application/json")];
            let body = format!("{login}{more}}}");
            let answer = gateway.send("POST", "/auth/login", &fields, body).await;
            assert_eq!(answer.status, status, "{more} {answer:?}");
        }
    }
}

#[tokio::test]
async fn every_error_is_a_problem_and_every_answer_has_the_common_fields() {
    let gateway = Gateway::start();
    let cases = [
        ("GET", "/", 404, "not_found"),
        ("GET", "/auth", 404, "not_found"),
        ("GET", "/auth/", 404, "not_found"),
        ("GET", "/auth/nothing", 404, "not_found"),
        ("PUT", "/auth/login", 405, "method_refused"),
        ("DELETE", "/auth/me", 405, "method_refused"),
        ("GET", "/auth/me", 401, "credential_missing"),
        ("POST", "/auth/login", 415, "content_type"),
        (
            "GET",
            "/auth/roles?resource=List",
            401,
            "credential_missing",
        ),
    ];
    for (method, path, status, code) in cases {
        let answer = gateway.send(method, path, &[], String::new()).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.code(), code, "{method} {path}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json["request_id"], "0000000000000007");
        assert_eq!(answer.json["type"], format!("urn:doorward:problem:{code}"));
        assert_eq!(answer.json["status"], status);
        assert_eq!(status == 405, !answer.header("allow").is_empty());
        assert_eq!(status == 401, !answer.header("www-authenticate").is_empty());
    }
    let jwks = gateway.get("/.well-known/jwks.json", "").await;
    assert_eq!(jwks.status, 200);
    assert!(jwks.json["keys"].is_array());
    let methods = gateway.get("/auth/methods", "").await;
    assert_eq!(
        methods.json["items"],
        serde_json::json!([{ "name": "password" }])
    );
    for answer in [jwks, methods, gateway.get("/auth/nothing", "").await] {
        assert_eq!(answer.header("x-request-id"), "0000000000000007");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
    }
}

async fn boom() -> Response {
    panic!("hunter2")
}

#[tokio::test]
async fn a_handler_that_panics_is_a_problem_too() {
    let api = Api::new("/auth").get("/boom", boom, about("Test", "panic", "Panics"));
    let gateway = Gateway::start().with(Endpoints::of("/auth", api));
    let answer = gateway.get("/auth/boom", "").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (500, "internal_error")
    );
    assert!(!answer.text.contains("hunter2"));
    assert_eq!(answer.header("x-request-id"), "0000000000000007");
}

#[tokio::test]
async fn without_its_surroundings_a_request_gets_500() {
    let request = http::Request::get("/auth/methods").body(bytes::Bytes::new());
    let response = Endpoints::new("/auth").answer(request.unwrap()).await;
    assert_eq!(response.status(), 500);
}

#[tokio::test]
async fn head_gives_the_fields_without_the_body() {
    let gateway = Gateway::start();
    for (path, status) in [("/auth/methods", 200), ("/auth/me", 401), ("/auth/x", 404)] {
        let answer = gateway.send("HEAD", path, &[], String::new()).await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (status, ""),
            "{path}"
        );
        assert!(!answer.header("content-type").is_empty());
    }
}

#[tokio::test]
async fn the_prefix_is_configured() {
    let gateway = Gateway::start().with(Endpoints::new("/id/v1"));
    assert_eq!(gateway.get("/id/v1/methods", "").await.status, 200);
    assert_eq!(gateway.get("/auth/methods", "").await.status, 404);
}
