//! A gateway of the tests: the router on a snapshot of real parts, asked without a socket.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::account::call::Call;
use crate::account::register::NewPerson;
use crate::account::test_kit::{
    Mailbox, PASSWORD, account_settings, role_settings, token_settings,
};
use crate::config::{
    Config, Limits, Listen, LogSettings, MailSettings, MailTransport, PublicUrl, StoreEngine,
    StoreSettings,
};
use crate::crypto::password::PasswordPool;
use crate::crypto::signing::SigningKeys;
use crate::crypto::token::TokenKeys;
use crate::mail::Mailer;
use crate::mail::post::Post;
use crate::model::access::Name;
use crate::model::clock::{Clock, ManualClock, Timestamp};
use crate::model::id::RequestId;
use crate::model::route::{Upstream, UpstreamAddress};
use crate::model::secret::Secret;
use crate::snapshot::{RequestScope, Services, Snapshot};
use crate::store::Store;
use crate::store::generations::Generations;
use crate::store::memory::MemoryStore;
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::Metrics;

pub(in crate::web) struct Gateway {
    router: Router,
    pub(in crate::web) snapshot: Arc<Snapshot>,
    pub(in crate::web) mailbox: Arc<Mailbox>,
}

#[derive(Debug)]
pub(in crate::web) struct Answer {
    pub(in crate::web) status: u16,
    pub(in crate::web) headers: HeaderMap,
    pub(in crate::web) text: String,
    /// `Null` if the body is no JSON.
    pub(in crate::web) json: Value,
}

impl Answer {
    /// A member that is a text.
    pub(in crate::web) fn text_of(&self, member: &str) -> String {
        let value = self.json.get(member).and_then(Value::as_str);
        value
            .unwrap_or_else(|| panic!("no {member} in {self:?}"))
            .to_owned()
    }

    pub(in crate::web) fn code(&self) -> String {
        self.text_of("code")
    }

    pub(in crate::web) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

impl Gateway {
    pub(in crate::web) fn start() -> Self {
        let now = Timestamp::from_secs(1_800_000_000);
        let mailbox = Arc::new(Mailbox::default());
        let clock = Arc::new(ManualClock::at(now));
        let config = config();
        let tokens = &config.tokens;
        let signing = SigningKeys::open(None, tokens.algorithm, tokens.access_ttl, now).unwrap();
        let store = MemoryStore::new(Arc::new(Generations::new()));
        let metrics = Arc::new(Metrics::new());
        let services = Services {
            store: Arc::new(store) as Arc<dyn Store>,
            passwords: Arc::new(PasswordPool::start(1, 64).unwrap()),
            token_keys: Arc::new(TokenKeys::open(None).unwrap()),
            signing: Arc::new(signing),
            mailer: Arc::clone(&mailbox) as Arc<dyn Mailer>,
            post: Post::open(
                None,
                Arc::clone(&clock) as Arc<dyn Clock>,
                Arc::clone(&metrics),
            )
            .unwrap(),
            clock: clock as Arc<dyn Clock>,
            metrics,
            access: Arc::new(AccessLog::start(false).unwrap()),
        };
        Self {
            router: crate::web::router("/auth"),
            snapshot: Arc::new(Snapshot::build(Arc::new(config), services).unwrap()),
            mailbox,
        }
    }

    /// The same snapshot behind another router.
    pub(in crate::web) fn with_router(self, router: Router) -> Self {
        Self { router, ..self }
    }

    /// Sends a request with these header fields and this body.
    pub(in crate::web) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let scope = RequestScope {
            id: RequestId::from_number(7),
            client: IpAddr::from([192, 0, 2, 7]),
            snapshot: Arc::clone(&self.snapshot),
        };
        let request = request.extension(scope).body(Body::from(body)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            json: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        }
    }

    /// Sends JSON (or nothing, for `Null`) with a credential: a JWT, an API key, or none for an empty text.
    pub(in crate::web) async fn ask(
        &self,
        method: &str,
        path: &str,
        credential: &str,
        body: Value,
    ) -> Answer {
        let bearer = format!("Bearer {credential}");
        let mut headers = Vec::new();
        if credential.starts_with("dwk_") {
            headers.push(("x-api-key", credential));
        } else if !credential.is_empty() {
            headers.push(("authorization", bearer.as_str()));
        }
        let text = if body.is_null() {
            String::new()
        } else {
            headers.push(("content-type", "application/json"));
            body.to_string()
        };
        self.send(method, path, &headers, text).await
    }

    pub(in crate::web) async fn get(&self, path: &str, credential: &str) -> Answer {
        self.ask("GET", path, credential, Value::Null).await
    }

    /// Sends a form.
    pub(in crate::web) async fn form(&self, path: &str, credential: &str, form: &str) -> Answer {
        let bearer = format!("Bearer {credential}");
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
        if credential.starts_with("dwk_") {
            headers.push(("x-api-key", credential));
        } else if !credential.is_empty() {
            headers.push(("authorization", bearer.as_str()));
        }
        self.send("POST", path, &headers, form.to_owned()).await
    }

    /// Registers somebody, sets [`PASSWORD`] and logs in: the login's answer.
    pub(in crate::web) async fn person(&self, name: &str) -> Answer {
        let identity = format!("{name}@example.org");
        let body = json!({ "identity": identity, "username": name, "name": "N. N." });
        let registered = self.ask("POST", "/auth/register", "", body).await;
        assert_eq!(registered.status, 202, "{registered:?}");
        let token = self.mailbox.token();
        let body = json!({
            "new_password": PASSWORD, "verify_password": PASSWORD, "reset_token": token,
        });
        let set = self.ask("PUT", "/auth/password", "", body).await;
        assert_eq!(set.status, 200, "{set:?}");
        self.login(name, PASSWORD).await
    }

    /// Makes an administrator and logs in.
    pub(in crate::web) async fn administrator(&self, name: &str) -> Answer {
        let person = NewPerson::parse(&format!("{name}@example.org"), name, "N. N.").unwrap();
        let password = Some(Secret::new(PASSWORD.to_owned()));
        let accounts = &self.snapshot.accounts;
        let made = accounts.create(&Call::cli(), person, true, password).await;
        assert!(made.is_ok());
        self.login(name, PASSWORD).await
    }

    pub(in crate::web) async fn login(&self, name: &str, password: &str) -> Answer {
        let body = json!({ "username": name, "password": password });
        self.ask("POST", "/auth/login", "", body).await
    }
}

fn config() -> Config {
    let second = Duration::from_secs(1);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    Config {
        listen: Listen {
            addresses: vec![address],
            admin_address: address,
            admin_token: None,
            public_url: PublicUrl {
                text: "http://door".to_owned(),
                scheme: "http".to_owned(),
                authority: "door".to_owned(),
                is_loopback: false,
            },
            trusted_proxies: Vec::new(),
            auth_hosts: Vec::new(),
            auth_prefix: "/auth".to_owned(),
            workers: 1,
        },
        limits: Limits {
            head_bytes_max: 32 * 1024,
            head_fields_max: 100,
            target_bytes_max: 8 * 1024,
            head_timeout: second,
            body_bytes_max: 1 << 20,
            keepalive_timeout: second,
            connections_max: 10,
            upstream_connect_timeout: second,
            upstream_read_timeout: second,
            upstream_write_timeout: second,
            upstream_idle_max: 1,
            drain_timeout: second,
        },
        store: StoreSettings {
            engine: StoreEngine::Memory,
            path: PathBuf::new(),
            cache_entries: 1000,
        },
        tokens: token_settings(),
        issuers: Vec::new(),
        account: account_settings(),
        mail: MailSettings {
            transport: MailTransport::Stdout,
            from: "Doorward <noreply@localhost>".to_owned(),
            confirm_link: "{public_url}/auth/confirm?token={token}".to_owned(),
            reset_link: "{public_url}/auth/reset?token={token}".to_owned(),
            templates: None,
        },
        log: LogSettings {
            level: "info".to_owned(),
            access: false,
        },
        roles: role_settings(),
        upstreams: vec![Upstream {
            name: "lists".to_owned(),
            addresses: vec![UpstreamAddress::BuiltinEcho],
            resources: vec![Name::parse("list").unwrap()],
            public_path: "/l".to_owned(),
        }],
        routes: Vec::new(),
    }
}
