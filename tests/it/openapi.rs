//! The gateway behaves exactly as its document says: tested by schemathesis, for each kind of caller.
//!
//! How an endpoint gets into the document: see `web/openapi/tests.rs`.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::browser::Browser;
use crate::harness::gateway::Gateway;
use crate::harness::people::password_of;
use crate::harness::tools::python;
use crate::harness::wait_for;

/// The checks. Omitted is the one that everything matching the schemas is accepted: a schema knows neither declared
/// scopes nor tokens nor the time.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,missing_required_header,\
    unsupported_method,allow_header_conformance,ignored_auth,use_after_free,ensure_resource_availability";

/// Limits that are never reached, and a resource to have roles on.
const WIDE: &str = r#"
[account]
lockout_attempts = 100000
[mail]
per_address_per_hour = 100000
per_network_per_hour = 100000
per_hour = 100000
[roles]
resources = ["list"]
scopes = ["lists:read"]
"#;

/// Runs schemathesis against a gateway, on the operations that `chosen` selects. `config` is additional TOML, such as
/// the caller's credential.
fn run(gateway: &Gateway, config: &str, chosen: &[&str]) {
    let file = gateway.dir().join("schemathesis.toml");
    std::fs::write(&file, format!("[cache]\nenabled = false\n{config}")).unwrap();
    let origin = format!("http://{}", gateway.address);
    let output = Command::new(python("schemathesis"))
        .current_dir(gateway.dir())
        .env("NO_COLOR", "1")
        .arg("--config-file")
        .arg(&file)
        .args(["run", &format!("{origin}/auth/openapi.json")])
        .args(["--seed", "20261124", "--max-examples", "8", "--no-shrink"])
        .args(["--phases", "examples,coverage,fuzzing", "--checks", CHECKS])
        .args(chosen)
        .args(["--request-timeout", "10", "--warnings", "off"])
        // The forms of the pages accept only the pages' own origin.
        .args(["--header", &format!("Origin: {origin}")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("No issues found"), "{said}");
    let stderr = gateway.stderr();
    let errors: Vec<_> = stderr
        .lines()
        .filter(|line| line.contains(" ERROR "))
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// Without questions of proxies: a proxy's credential is its address.
const NO_QUESTIONS: [&str; 2] = ["--exclude-path-regex", "/verify"];

/// A login that is repeated once its session has ended: some operations end it.
fn login_of(username: &str) -> String {
    format!(
        "[auth.dynamic.openapi.bearer]\npath = \"/auth/login\"\nmethod = \"post\"\nextract_from = \"body\"\n\
        extract_selector = \"/jwt_token\"\n[auth.dynamic.openapi.bearer.payload]\nusername = {}\npassword = {}\n",
        json!(username),
        json!(password_of(username))
    )
}

#[test]
fn nobody_finds_an_answer_that_is_not_documented() {
    let gateway = Gateway::start(WIDE);
    run(&gateway, "", &NO_QUESTIONS);
}

#[test]
fn a_proxy_that_asks_finds_no_answer_that_is_not_documented() {
    let trusted = "[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let gateway = Gateway::start(&format!("{WIDE}{trusted}"));
    // Questions come with any method, and a document cannot list all methods.
    let chosen = [
        "--include-path-regex",
        "/verify",
        "--exclude-checks",
        "unsupported_method",
    ];
    run(&gateway, "", &chosen);
}

#[test]
fn a_login_finds_no_answer_that_is_not_documented() {
    let gateway = Gateway::start(WIDE);
    gateway.person("anna");
    gateway.member("anna", "42", "manager");
    run(&gateway, &login_of("anna"), &NO_QUESTIONS);
}

#[test]
fn an_administrator_finds_no_answer_that_is_not_documented() {
    let gateway = Gateway::start(WIDE);
    gateway.person("anna");
    gateway.administrator("root");
    run(&gateway, &login_of("root"), &NO_QUESTIONS);
}

#[test]
fn an_api_key_finds_no_answer_that_is_not_documented() {
    let gateway = Gateway::start(WIDE);
    gateway.person("anna");
    let scopes = [
        "auth:admin",
        "auth:members",
        "auth:introspect",
        "lists:read",
    ];
    let key = gateway.key(&gateway.administrator("root"), &scopes);
    let auth = format!("[auth.openapi.api_key]\napi_key = {}\n", json!(key.text));
    run(&gateway, &auth, &NO_QUESTIONS);
}

#[test]
fn the_document_is_valid_and_its_examples_fit() {
    let gateway = Gateway::start("[listen]\nauth_prefix = \"/id\"");
    let answer = gateway.get("/id/openapi.json").send().expect(200);
    let mut command = Command::new(python("python"));
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/harness/openapi_check.py"
    );
    let command = command
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(answer.text().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let count: usize = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap();
    assert!(100 < count, "{count} examples");
    let paths: Value = answer.json()["paths"].clone();
    assert!(paths.get("/id/login").is_some() && paths.get("/auth/login").is_none());
}

#[test]
fn the_page_shows_all_operations_and_sends_requests() {
    let gateway = Gateway::start("");
    gateway.person("anna");
    let door = format!("http://{}", gateway.address);
    let document = gateway.get("/auth/openapi.json").send().expect(200).json();
    let operations = document["paths"].as_object().unwrap().values();
    let count: usize = operations
        .map(|operations| operations.as_object().unwrap().len())
        .sum();
    let browser = Browser::start(true);
    browser.open(&format!("{door}/auth/docs"));
    wait_for("all operations", || {
        (browser.count("details.operation") == count).then_some(())
    });

    // A login with the values of the example; its token calls another endpoint.
    browser.click("#logIn summary");
    browser.type_over(
        "#logIn textarea",
        &json!({"username": "anna", "password": password_of("anna")}).to_string(),
    );
    browser.click("#logIn form button");
    assert_eq!(browser.text("#logIn .status"), "200 OK");
    let answer: Value = serde_json::from_str(&browser.text("#logIn .answer")).unwrap();
    let jwt = answer["jwt_token"].as_str().unwrap();
    gateway.secret(jwt);
    browser.click("#getMe summary");
    browser.click("#getMe form button");
    assert!(browser.text("#getMe .status").starts_with("401"));
    browser.click("#credential option[value=bearer]");
    browser.fill("secret", jwt);
    browser.click("#getMe form button");
    wait_for("an answer", || {
        (browser.text("#getMe .status") == "200 OK").then_some(())
    });
    assert!(browser.text("#getMe .answer").contains("\"anna\""));

    let complaints = browser.complaints();
    let own: Vec<_> = complaints
        .iter()
        .filter(|line| !line.contains("401"))
        .collect();
    assert!(own.is_empty(), "{own:?}");
}
