//! Checks the document against its router.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::model::error_code::ErrorCode;
use crate::web::Endpoints;
use crate::web::answer::Json;
use crate::web::error::WebProblem;
use crate::web::openapi::{Api, about};
use crate::web::test_kit::Gateway;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

async fn document(gateway: &Gateway, prefix: &str) -> Value {
    let answer = gateway.get(&format!("{prefix}/openapi.json"), "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    answer.json
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().unwrap().iter()
}

#[tokio::test]
async fn a_method_is_served_if_and_only_if_it_is_documented() {
    let gateway = Gateway::start();
    let document = document(&gateway, "/auth").await;
    assert!(30 < members(&document["paths"]).count());
    for (path, operations) in members(&document["paths"]) {
        let filled = path.replace(['{', '}'], "");
        let documented: BTreeSet<&str> = members(operations)
            .map(|(method, _)| method.as_str())
            .collect();
        assert!(
            documented
                .iter()
                .all(|method| METHODS.contains(method) || documented.contains("options")),
            "{path}"
        );
        for method in METHODS.into_iter().chain(["options"]) {
            let answer = gateway
                .send(&method.to_uppercase(), &filled, &[], String::new())
                .await;
            let is_served = answer.status != 405 && answer.json["code"] != "method_refused";
            assert_eq!(
                is_served,
                documented.contains(method),
                "{method} {path} {answer:?}"
            );
            if !is_served {
                let told = answer.header("allow").to_lowercase();
                let mut told: BTreeSet<&str> = told.split(',').collect();
                assert_eq!(told.remove("head"), documented.contains("get"), "{path}");
                assert_eq!(told, documented, "{path}");
            }
        }
    }
}

/// An endpoint enters the document when [`Api`] registers its path (`web/endpoints`). Its argument and response types
/// describe themselves by `Describe`; the response type of a handler names the refusals of its use case.
#[test]
fn nothing_is_served_past_the_document() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web");
    let mut found = Vec::new();
    for file in files(&source) {
        let text = fs::read_to_string(&file).unwrap();
        let name = file
            .strip_prefix(&source)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let words = [
            ".route(",
            ".route_service(",
            ".nest(",
            ".nest_service(",
            ".merge(",
        ];
        if !name.contains("tests") && words.iter().any(|word| text.contains(word)) {
            found.push(name);
        }
    }
    assert_eq!(found, ["openapi/mod.rs"]);
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

#[tokio::test]
async fn the_document_follows_the_prefix_and_the_names_of_the_configuration() {
    let gateway = Gateway::start_with(|config| {
        config.account.api_key_header = "x-door-key".parse().unwrap();
    });
    let schemes = &document(&gateway, "/auth").await["components"]["securitySchemes"];
    assert_eq!(schemes["api_key"]["name"], "x-door-key");
    assert_eq!(schemes["cookie"]["name"], "doorward_session");
    let gateway = gateway.with(Endpoints::new("/id/v1"));
    let document = document(&gateway, "/id/v1").await;
    let paths: Vec<_> = members(&document["paths"])
        .map(|(path, _)| path.as_str())
        .collect();
    let elsewhere: Vec<_> = paths
        .iter()
        .filter(|path| !path.starts_with("/id/v1/"))
        .collect();
    assert_eq!(elsewhere, [&"/.well-known/jwks.json"]);
}

#[tokio::test]
async fn every_reference_leads_somewhere_and_every_operation_has_its_own_name() {
    let gateway = Gateway::start();
    let document = document(&gateway, "/auth").await;
    let mut left = vec![&document];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(members) => left.extend(members.values()),
            _ => {}
        }
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let place = document.pointer(reference.strip_prefix('#').unwrap());
            assert!(place.is_some(), "{reference}");
        }
    }
    let operations = members(&document["paths"]).flat_map(|(_, operations)| members(operations));
    let names: Vec<_> = operations
        .map(|(_, operation)| operation["operationId"].as_str().unwrap())
        .collect();
    // Code generators adapt ids to the style of their language, where two ids may not differ only in case or
    // underscores.
    let folded = |name: &&str| {
        let letters = name.chars().filter(char::is_ascii_alphanumeric);
        letters.collect::<String>().to_ascii_lowercase()
    };
    let distinct: BTreeSet<_> = names.iter().map(folded).collect();
    assert_eq!(names.len(), distinct.len(), "{names:?}");
    for name in &names {
        assert!(
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(|c| c.is_ascii_alphanumeric()),
            "{name}"
        );
    }
    for name in ["listApiKeys", "rotateApiKey", "logIn", "postVerifySlash"] {
        assert!(names.contains(&name), "{name} is missing: {names:?}");
    }
}

async fn full() -> Result<Json<Vec<String>>, WebProblem> {
    Err(ErrorCode::KeyLimit.into())
}

#[tokio::test]
async fn an_answer_that_is_not_documented_fails_where_debug_assertions_are_on() {
    for (kinds, status) in [(vec![], 500), (vec![ErrorCode::KeyLimit], 422)] {
        let operation = about("Test", "getFull", "Is full").refuses(&kinds);
        let endpoints = Endpoints::of("/auth", Api::new("/auth").get("/full", full, operation));
        let text = endpoints.state.document.text("x", "y");
        assert_eq!(text.contains("apikey_limit"), status == 422);
        let gateway = Gateway::start().with(endpoints);
        assert_eq!(gateway.get("/auth/full", "").await.status, status);
    }
}

#[tokio::test]
async fn the_page_may_run_its_own_script_and_no_other() {
    let gateway = Gateway::start();
    let page = gateway.get("/auth/docs", "").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(!policy.contains("unsafe"), "{policy}");
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
        "trusted-types 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(
        !page.text.contains("http")
            && !page.text.contains("<script>")
            && !page.text.contains("style=")
    );
    for (path, media_type) in [("docs.js", "text/javascript"), ("docs.css", "text/css")] {
        let file = gateway.get(&format!("/auth/assets/{path}"), "").await;
        assert_eq!(
            (file.status, file.header("content-type")),
            (200, format!("{media_type}; charset=utf-8").as_str())
        );
        assert_eq!(
            file.header("content-security-policy"),
            "default-src 'none'; frame-ancestors 'none'"
        );
    }
    // Only that page may run scripts.
    let login = gateway.get("/auth/login", "").await;
    assert!(
        !login
            .header("content-security-policy")
            .contains("script-src")
    );
}
