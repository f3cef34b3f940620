//! A gateway for tests: the router on a snapshot of real parts, called without a socket.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::account::call::Call;
use crate::account::register::NewPerson;
use crate::account::test_kit::{Mailbox, PASSWORD, config};
use crate::config::Config;
use crate::mail::Mailer;
use crate::model::clock::{Clock, ManualClock, Timestamp};
use crate::model::id::RequestId;
use crate::model::secret::Secret;
use crate::snapshot::{OwnEndpoints, RequestScope, Services, Snapshot};
use crate::store::Store;
use crate::store::generations::Generations;
use crate::store::memory::MemoryStore;
use crate::web::Endpoints;

pub(in crate::web) struct Gateway {
    endpoints: Endpoints,
    pub(in crate::web) snapshot: Arc<Snapshot>,
    pub(in crate::web) mailbox: Arc<Mailbox>,
}

#[derive(Debug)]
pub(in crate::web) struct Answer {
    pub(in crate::web) status: u16,
    pub(in crate::web) headers: HeaderMap,
    pub(in crate::web) text: String,
    /// `Null` if the body is not JSON.
    pub(in crate::web) json: Value,
}

impl Answer {
    /// Returns a member that must be a string.
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
        Self::start_with(|_| {})
    }

    /// Starts a gateway with a changed configuration.
    pub(in crate::web) fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let store = MemoryStore::new(Arc::new(Generations::new()));
        Self::start_on(Arc::new(store), change)
    }

    /// Starts a gateway on this store.
    pub(in crate::web) fn start_on(
        store: Arc<dyn Store>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let now = Timestamp::from_secs(1_800_000_000);
        let mailbox = Arc::new(Mailbox::default());
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(now));
        let mut config = config();
        change(&mut config);
        let services = Services {
            store,
            mailer: Arc::clone(&mailbox) as Arc<dyn Mailer>,
            ..crate::services::test_kit::services(&config, clock)
        };
        Self {
            endpoints: Endpoints::new("/auth"),
            snapshot: Arc::new(Snapshot::build(Arc::new(config), Arc::new(services)).unwrap()),
            mailbox,
        }
    }

    /// Returns the same snapshot behind other endpoints.
    pub(in crate::web) fn with(self, endpoints: Endpoints) -> Self {
        Self { endpoints, ..self }
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
            origin: self.snapshot.config.listen.public_url.text.clone(),
            snapshot: Arc::clone(&self.snapshot),
            notes: Arc::default(),
        };
        let request = request.extension(scope).body(body.into()).unwrap();
        let response = self.endpoints.answer(request).await;
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

    /// Sends JSON (no body for `Null`) with a credential: a JWT, an API key, or an empty text for none.
    pub(in crate::web) async fn ask(
        &self,
        method: &str,
        path: &str,
        credential: &str,
        body: Value,
    ) -> Answer {
        let bearer = format!("Bearer {credential}");
        let mut headers = carrying(credential, &bearer);
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
        let mut headers = carrying(credential, &bearer);
        headers.push(("content-type", "application/x-www-form-urlencoded"));
        self.send("POST", path, &headers, form.to_owned()).await
    }

    /// Registers a person, sets [`PASSWORD`] and returns the response to the login.
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

    /// Creates an administrator and returns the response to the login.
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

/// Returns the header field that carries a credential; none for an empty text.
fn carrying<'a>(credential: &'a str, bearer: &'a str) -> Vec<(&'a str, &'a str)> {
    match credential {
        "" => Vec::new(),
        key if key.starts_with("dwk_") => vec![("x-api-key", key)],
        _ => vec![("authorization", bearer)],
    }
}
