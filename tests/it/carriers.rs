//! Which fields may carry a credential, which of them count on a route, and which are passed to an upstream.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::harness::gateway::Gateway;
use crate::harness::routes::routes;
use crate::harness::tokens::{AUDIENCE, ISSUER, Signer, claims, key_set};
use crate::harness::upstream::Upstream;

const EDGE: &str = "Cf-Access-Jwt-Assertion";

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A gateway with an issuer whose tokens an edge proxy attaches, and one whose tokens are bearer tokens.
struct Edge {
    upstream: Upstream,
    gateway: Gateway,
    signer: Signer,
    _dir: tempfile::TempDir,
}

impl Edge {
    fn start(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let signer = Signer::es256();
        let set = key_set(dir.path(), "keys.json", &[signer.jwk("es")]);
        let issuer = |name: &str, iss: &str, more: &str| {
            format!(
                "[[issuer]]\nname = \"{name}\"\nissuer = \"{iss}\"\naudience = [\"{AUDIENCE}\"]\njwks_file = \"{}\"\n\
                 subject_prefix = \"{name}:\"\n{more}\n",
                set.display()
            )
        };
        let upstream = Upstream::start();
        let gateway = Gateway::start(&format!(
            "[listen]\ntrusted_proxies = [\"127.0.0.1/32\"]\n{}{}{}{more}",
            issuer("cloudflare", ISSUER, &format!("header = \"{EDGE}\"")),
            issuer("corp", "https://corp.example.test", ""),
            routes(&upstream),
        ));
        Self {
            upstream,
            gateway,
            signer,
            _dir: dir,
        }
    }

    /// Returns a token that the edge attaches.
    fn attached(&self) -> String {
        self.signer.token("es", &claims(&json!({})))
    }

    /// Returns a token that a client sends.
    fn sent(&self) -> String {
        let corp = json!({"iss": "https://corp.example.test"});
        self.signer.token("es", &claims(&corp))
    }
}

fn passing(path: &str, more: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\nupstream = \"main\"\nrequire = \"optional\"\n{more}\n")
}

#[test]
fn an_api_key_counts_as_bearer_and_as_the_password_of_basic() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &["reports:read"]).text;
    let fields = [
        format!("Bearer {key}"),
        format!("bEARER  {key}"),
        basic("", &key),
        basic("anybody", &key),
        basic("anna", &key).replacen("Basic", "basic", 1),
        basic("anna", &key).trim_end_matches('=').to_owned(),
    ];
    for field in &fields {
        for path in ["/protected/x", "/reports/x"] {
            let request = gateway.get(path).header("Authorization", field);
            request.send().expect(200);
            let seen = upstream.last();
            assert_eq!(seen.header("x-auth-method"), Some("apikey"), "{field}");
            assert_eq!(seen.header("x-auth-uid"), Some(anna.uid.as_str()));
            assert_eq!(seen.header("authorization"), None, "{field}");
        }
        let me = gateway.get("/auth/me").header("Authorization", field);
        assert_eq!(me.send().expect(200).json()["method"], "apikey");
    }
    let before = upstream.count();
    let wrong = format!("{}0", &key[..key.len() - 1]);
    for field in [format!("Bearer {wrong}"), basic("anna", &wrong)] {
        let request = gateway.get("/protected/x").header("Authorization", field);
        request.send().refused(401, "api_key_invalid");
    }
    // A password of another form is not one of the gateway's credentials.
    let app = basic("anna", "secret");
    let request = gateway.get("/protected/x").header("Authorization", &app);
    request.send().refused(401, "credential_missing");
    let conflicts = [
        [
            ("Authorization", fields[0].clone()),
            ("X-Api-Key", key.clone()),
        ],
        [
            ("Authorization", fields[2].clone()),
            ("X-Api-Key", key.clone()),
        ],
        [
            ("Authorization", fields[0].clone()),
            ("Authorization", fields[2].clone()),
        ],
        [
            ("Authorization", format!("Bearer {}", anna.jwt)),
            ("X-Api-Key", key.clone()),
        ],
        [
            ("Authorization", format!("Bearer {}", anna.jwt)),
            ("Authorization", app.clone()),
        ],
    ];
    for fields in conflicts {
        let [(one, first), (other, second)] = fields;
        let request = gateway
            .get("/protected/x")
            .header(one, first)
            .header(other, second);
        request.send().refused(400, "credential_conflict");
    }
    assert_eq!(upstream.count(), before);
    let optional = gateway.get("/optional/x").header("Authorization", &app);
    optional.send().expect(200);
    assert_eq!(upstream.last().header("x-auth-method"), Some("anonymous"));
    assert_eq!(upstream.last().header("authorization"), None);
}

#[test]
fn credentials_that_a_route_does_not_accept_belong_to_its_application() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "{}{}{}{}",
        routes(&upstream),
        passing("/cookie/**", "accept = [\"cookie\"]"),
        passing("/key/**", "accept = [\"apikey\", \"cookie\"]"),
        passing(
            "/named/**",
            "accept = [\"cookie\"]\npass_credentials = [\"apikey\", \"cookie\"]"
        ),
    ));
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &[]).text;
    let jwt = anna.jwt.clone();
    let app = "Bearer the-applications-own";
    // The service's own credential passes unchanged next to the gateway's key.
    let own = gateway.get("/key/x").header("Authorization", app);
    own.header("X-Api-Key", &key).send().expect(200);
    let seen = upstream.last();
    assert_eq!(seen.header("authorization"), Some(app));
    assert_eq!(seen.header("x-auth-uid"), Some(anna.uid.as_str()));
    assert!(!seen.text().contains(&key));
    for fields in [
        vec![("Authorization", app.to_owned())],
        vec![("Authorization", basic("anna", "secret"))],
        vec![("Authorization", "Digest username=\"anna\"".to_owned())],
        vec![
            ("Authorization", app.to_owned()),
            ("X-Api-Key", "app-key".to_owned()),
        ],
    ] {
        let mut request = gateway.get("/cookie/x");
        for (name, value) in &fields {
            request = request.header(name, value);
        }
        request.send().expect(200);
        for (name, value) in &fields {
            assert_eq!(upstream.last().header(name), Some(value.as_str()), "{name}");
        }
        assert_eq!(upstream.last().header("x-auth-method"), Some("anonymous"));
    }
    // The gateway's own credentials are recognised by their form: here they do not count, and are not passed on.
    let carried = |text: &str| {
        [
            ("Authorization", format!("Bearer {text}")),
            ("Authorization", basic("anna", text)),
            ("Authorization", format!("Token {text}")),
            ("X-Api-Key", text.to_owned()),
        ]
    };
    for (name, value) in carried(&key).into_iter().chain(carried(&jwt)) {
        let request = gateway.get("/cookie/x").header(name, &value);
        request.send().expect(200);
        assert_eq!(upstream.last().header("x-auth-method"), Some("anonymous"));
        assert_eq!(upstream.last().header(name), None, "{value}");
    }
    for (name, value) in carried(&key) {
        gateway
            .get("/named/x")
            .header(name, &value)
            .send()
            .expect(200);
        assert_eq!(upstream.last().header(name), Some(value.as_str()));
    }
    for (name, value) in carried(&jwt) {
        gateway
            .get("/named/x")
            .header(name, &value)
            .send()
            .expect(200);
        assert_eq!(upstream.last().header(name), None, "{value}");
    }
    let cookie = gateway
        .get("/named/x")
        .header("Cookie", "a=1; doorward_session=x");
    cookie.send().refused(401, "session_ended");
    let cookie = gateway.get("/key/x").header("X-Api-Key", &key);
    cookie
        .header("Cookie", "a=1; doorward_session=x")
        .send()
        .expect(200);
    assert_eq!(upstream.last().header("cookie"), Some("a=1"));
}

#[test]
fn tokens_of_an_edge_count_in_their_own_field_and_nowhere_else() {
    let edge = Edge::start(&format!(
        "{}{}",
        passing("/passing/**", "pass_credentials = [\"authorization\"]"),
        passing("/keys/**", "accept = [\"apikey\"]"),
    ));
    let gateway = &edge.gateway;
    let (attached, sent) = (edge.attached(), edge.sent());
    gateway
        .get("/protected/x")
        .header(EDGE, &attached)
        .send()
        .expect(200);
    let seen = edge.upstream.last();
    assert!(
        seen.header("x-auth-uid")
            .is_some_and(|uid| uid.starts_with("cloudflare:"))
    );
    assert!(!seen.text().contains(&attached), "{}", seen.text());
    gateway.get("/protected/x").bearer(&sent).send().expect(200);
    let before = edge.upstream.count();
    let anna = gateway.person("anna");
    for wrong in [
        gateway.get("/protected/x").bearer(&attached),
        gateway.get("/protected/x").header(EDGE, &sent),
        gateway.get("/protected/x").header(EDGE, &anna.jwt),
        gateway
            .get("/protected/x")
            .header(EDGE, format!("Bearer {attached}")),
        gateway.get("/protected/x").header(EDGE, ""),
    ] {
        let told = wrong.told();
        let answer = wrong.send();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (401, "bearer_invalid"),
            "{told}"
        );
    }
    let key = gateway.key(&anna, &[]).text;
    for (name, value) in [
        ("Authorization", format!("Bearer {sent}")),
        ("X-Api-Key", key.clone()),
        (EDGE, attached.clone()),
    ] {
        let request = gateway.get("/protected/x").header(EDGE, &attached);
        request
            .header(name, value)
            .send()
            .refused(400, "credential_conflict");
    }
    assert_eq!(edge.upstream.count(), before);
    gateway
        .get("/passing/x")
        .header(EDGE, &attached)
        .send()
        .expect(200);
    assert_eq!(edge.upstream.last().header(EDGE), Some(attached.as_str()));
    // Where only keys count, the edge's token is no conflict, and is still not passed on.
    let request = gateway
        .get("/keys/x")
        .header(EDGE, &attached)
        .header("X-Api-Key", &key);
    request.send().expect(200);
    assert_eq!(
        edge.upstream.last().header("x-auth-uid"),
        Some(anna.uid.as_str())
    );
    assert_eq!(edge.upstream.last().header(EDGE), None);
    gateway.get("/keys/x").bearer(&sent).send().expect(200);
    assert_eq!(
        edge.upstream.last().header("x-auth-method"),
        Some("anonymous")
    );
    assert_eq!(edge.upstream.last().header("authorization"), None);
}

#[test]
fn what_browsers_attach_unasked_needs_an_origin_that_may() {
    let edge = Edge::start("[session]\norigins = [\"https://spa.example.com\"]\n");
    let gateway = &edge.gateway;
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &[]).text;
    let own = format!("http://{}", gateway.address);
    let ambient = [
        (EDGE, edge.attached()),
        ("Authorization", basic("anna", &key)),
    ];
    let foreign = [None, Some("null"), Some("http://evil.example"), Some("")];
    let before = edge.upstream.count();
    for (name, value) in &ambient {
        for origin in foreign {
            let with_origin = |request: crate::harness::request::Request<'_>| match origin {
                Some(origin) => request.header("Origin", origin).send(),
                None => request.send(),
            };
            for method in ["POST", "PUT", "DELETE"] {
                let request = gateway.request(method, "/protected/x").header(name, value);
                with_origin(request).refused(403, "origin_refused");
                let asked = gateway
                    .get("/auth/verify")
                    .header(name, value)
                    .header("X-Forwarded-Uri", "/protected/x")
                    .header("X-Forwarded-Method", method);
                with_origin(asked).refused(403, "origin_refused");
            }
            let websocket = gateway.get("/protected/x").header(name, value);
            let websocket = websocket.header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
            with_origin(websocket).refused(403, "origin_refused");
            let own = gateway.post("/auth/roles/refresh").header(name, value);
            let own = own.json(&json!({"resource": "list", "id": "1"}));
            with_origin(own).refused(403, "origin_refused");
        }
    }
    assert_eq!(edge.upstream.count(), before);
    for (name, value) in &ambient {
        for origin in [own.as_str(), "https://spa.example.com"] {
            let request = gateway.post("/protected/x").header(name, value);
            request.header("Origin", origin).send().expect(200);
        }
        gateway
            .get("/protected/x")
            .header(name, value)
            .send()
            .expect(200);
    }
    // Programs send these fields themselves, and browsers never do.
    for (name, value) in [
        ("X-Api-Key", key.clone()),
        ("Authorization", format!("Bearer {key}")),
    ] {
        let request = gateway.post("/protected/x").header(name, value);
        request
            .header("Origin", "http://evil.example")
            .send()
            .expect(200);
    }
}
