//! Every endpoint, requested by every kind of caller: which ones it accepts, and the answers to all others.

use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::people::{Person, address_of, password_of};
use crate::harness::request::Request;
use crate::harness::tokens::{AUDIENCE, ISSUER, Signer, claims, key_set};

/// The header fields that a caller sends to be recognised.
type Credential = Vec<(&'static str, String)>;

/// The kinds, in the order of the columns below.
const KINDS: [&str; 10] = [
    "nobody",
    "a person's login",
    "a person's cookie",
    "an administrator's login",
    "a person's key",
    "an administrator's key with auth:members",
    "an administrator's key with auth:admin",
    "an administrator's key with auth:introspect",
    "a foreign identity",
    "a login that must change its password",
];

/// A gateway with everything that its callers need.
struct Door {
    gateway: Gateway,
    corp: Signer,
    _keys: tempfile::TempDir,
}

impl Door {
    fn start() -> Self {
        let keys = tempfile::tempdir().unwrap();
        let corp = Signer::es256();
        let set = key_set(keys.path(), "keys.json", &[corp.jwk("es")]);
        let gateway = Gateway::start(&format!(
            "[[issuer]]\nname = \"corp\"\nissuer = \"{ISSUER}\"\naudience = [\"{AUDIENCE}\"]\njwks_file = \"{}\"\n\
            [roles]\nresources = [\"list\"]\n",
            set.display()
        ));
        Self {
            gateway,
            corp,
            _keys: keys,
        }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.gateway.address)
    }

    fn bearer(person: &Person) -> Credential {
        vec![("Authorization", format!("Bearer {}", person.jwt))]
    }

    fn key(&self, owner: &Person, scopes: &[&str]) -> Credential {
        vec![("X-Api-Key", self.gateway.key(owner, scopes).text)]
    }

    /// Returns the cookie of a login by form, together with the origin of the gateway's own pages.
    fn cookie(&self, username: &str) -> Credential {
        let password: String =
            url::form_urlencoded::byte_serialize(password_of(username).as_bytes()).collect();
        let form = [("username", username), ("password", password.as_str())];
        let answer = self
            .gateway
            .post("/auth/login")
            .header("Origin", self.origin())
            .form(&form)
            .send()
            .expect(303);
        let cookie = answer.header("set-cookie").unwrap();
        let pair = cookie.split(';').next().unwrap().to_owned();
        self.gateway.secret(pair.split_once('=').unwrap().1);
        vec![("Cookie", pair), ("Origin", self.origin())]
    }

    /// Returns one caller of each kind, with sessions of their own.
    fn callers(&self, round: usize) -> [Credential; 10] {
        let gateway = &self.gateway;
        let person = |name: &str| gateway.person(&format!("{name}{round}"));
        let (anna, owing) = (person("anna"), person("owing"));
        person("cora");
        let root = gateway.administrator(&format!("root{round}"));
        gateway
            .request("PATCH", &format!("/auth/accounts/{}", owing.account_id))
            .by(&root.caller())
            .json(&json!({"password_must_change": true}))
            .send()
            .expect(200);
        let foreign = self.corp.token("es", &claims(&json!({})));
        [
            Vec::new(),
            Self::bearer(&anna),
            self.cookie(&format!("cora{round}")),
            Self::bearer(&root),
            self.key(&anna, &[]),
            self.key(&root, &["auth:members"]),
            self.key(&root, &["auth:admin"]),
            self.key(&root, &["auth:introspect"]),
            vec![("Authorization", format!("Bearer {foreign}"))],
            Self::bearer(&owing),
        ]
    }
}

/// The content sent to an endpoint; mostly something that changes nothing, so that callers do not interfere.
enum Sent {
    Nothing,
    Json(Value),
    Form(&'static [(&'static str, &'static str)]),
}

impl Sent {
    fn with<'g>(&self, request: Request<'g>) -> Request<'g> {
        match self {
            Self::Nothing => request,
            Self::Json(body) => request.json(body),
            Self::Form(pairs) => request.form(pairs),
        }
    }
}

type Row = (&'static str, &'static str, Sent, [u16; 10]);

/// Sends the requests of each caller, and reports all answers that differ from the table.
fn check(door: &Door, callers: &[Credential; 10], rows: &[Row]) {
    let mut wrong = Vec::new();
    for (method, path, sent, statuses) in rows {
        for ((kind, credential), status) in KINDS.iter().zip(callers).zip(statuses) {
            let mut request = sent.with(door.gateway.request(method, path));
            for (name, value) in credential {
                request = request.header(name, value.clone());
            }
            let answer = request.send();
            if answer.status != *status {
                let (found, text) = (answer.status, answer.text());
                wrong.push(format!(
                    "{method} {path} by {kind}: {found}, not {status}: {text}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Logins of the gateway's own accounts get this status, all other callers are refused.
const fn logins(status: u16) -> [u16; 10] {
    [401, status, status, status, 403, 403, 403, 403, 403, 403]
}

#[test]
fn public_endpoints_read_no_credential() {
    let door = Door::start();
    let callers = door.callers(1);
    let token = || json!({"reset_token": "x", "new_password": "p", "verify_password": "p"});
    let rows = [
        ("GET", "/auth/methods", Sent::Nothing, [200; 10]),
        // Only a trusted proxy may ask this endpoint.
        ("GET", "/auth/verify", Sent::Nothing, [403; 10]),
        ("GET", "/.well-known/jwks.json", Sent::Nothing, [200; 10]),
        ("GET", "/auth/assets/portal.css", Sent::Nothing, [200; 10]),
        ("GET", "/auth/login", Sent::Nothing, [200; 10]),
        // A malformed link is reported at once.
        ("GET", "/auth/confirm?token=x", Sent::Nothing, [400; 10]),
        ("GET", "/auth/reset?token=x", Sent::Nothing, [400; 10]),
        ("POST", "/auth/register", Sent::Json(json!({})), [400; 10]),
        ("POST", "/auth/forgot", Sent::Json(json!({})), [400; 10]),
        ("POST", "/auth/login", Sent::Json(json!({})), [400; 10]),
        (
            "POST",
            "/auth/token",
            Sent::Form(&[("grant_type", "refresh_token"), ("refresh_token", "x")]),
            [400; 10],
        ),
        ("PUT", "/auth/password", Sent::Json(token()), [400; 10]),
        (
            "PUT",
            "/auth/me/identity",
            Sent::Json(json!({"token": "x"})),
            [400; 10],
        ),
    ];
    check(&door, &callers, &rows);
    // Posts of the pages are refused from another origin or without one; only a caller with a cookie sends one here.
    let form = |path| {
        let sent = Sent::Form(&[("new_password", "p"), ("verify_password", "p")]);
        let statuses = [403, 403, 400, 403, 403, 403, 403, 403, 403, 403];
        ("POST", path, sent, statuses)
    };
    check(
        &door,
        &callers,
        &[form("/auth/confirm?token=x"), form("/auth/reset?token=x")],
    );
}

#[test]
fn endpoints_about_oneself_require_a_login() {
    let door = Door::start();
    let callers = door.callers(1);
    let change = || json!({"old_password": "x", "new_password": "a", "verify_password": "b"});
    let rows = [
        (
            "GET",
            "/auth/me",
            Sent::Nothing,
            [401, 200, 200, 200, 200, 200, 200, 200, 200, 200],
        ),
        ("PATCH", "/auth/me", Sent::Json(json!({})), logins(400)),
        (
            "PUT",
            "/auth/password",
            Sent::Json(change()),
            [401, 422, 422, 422, 403, 403, 403, 403, 403, 422],
        ),
        // A page requires a cookie; all other callers are redirected to the login.
        (
            "GET",
            "/auth/password",
            Sent::Nothing,
            [303, 303, 200, 303, 303, 303, 303, 303, 303, 303],
        ),
        (
            "POST",
            "/auth/password",
            Sent::Form(&[
                ("old_password", "x"),
                ("new_password", "a"),
                ("verify_password", "b"),
            ]),
            [403, 403, 422, 403, 403, 403, 403, 403, 403, 403],
        ),
        ("GET", "/auth/sessions", Sent::Nothing, logins(200)),
        (
            "GET",
            "/auth/sessions/s-unknown-one",
            Sent::Nothing,
            logins(404),
        ),
        (
            "DELETE",
            "/auth/sessions/s-unknown-one",
            Sent::Nothing,
            logins(404),
        ),
    ];
    check(&door, &callers, &rows);
}

#[test]
fn keys_and_settings_are_for_logins() {
    let door = Door::start();
    let callers = door.callers(1);
    let rows = [
        ("GET", "/auth/apikeys", Sent::Nothing, logins(200)),
        (
            "POST",
            "/auth/apikeys",
            Sent::Json(json!({"scopes": ["no:such"]})),
            logins(422),
        ),
        ("GET", "/auth/apikeys/AAAAAAAA", Sent::Nothing, logins(404)),
        (
            "PATCH",
            "/auth/apikeys/AAAAAAAA",
            Sent::Json(json!({"name": "x"})),
            logins(404),
        ),
        (
            "DELETE",
            "/auth/apikeys/AAAAAAAA",
            Sent::Nothing,
            logins(404),
        ),
        (
            "POST",
            "/auth/apikeys/AAAAAAAA/rotate",
            Sent::Json(json!({})),
            logins(404),
        ),
        ("GET", "/auth/settings/global", Sent::Nothing, logins(200)),
        (
            "PUT",
            "/auth/settings/global",
            Sent::Json(json!({})),
            [401, 403, 403, 200, 403, 403, 403, 403, 403, 403],
        ),
        (
            "GET",
            "/auth/settings/set-unknown-one",
            Sent::Nothing,
            logins(404),
        ),
        (
            "PUT",
            "/auth/settings/set-unknown-one",
            Sent::Json(json!({})),
            logins(404),
        ),
    ];
    check(&door, &callers, &rows);
}

#[test]
fn endpoints_about_rights_require_those_rights() {
    let door = Door::start();
    let callers = door.callers(1);
    let resource = || json!({"resource": "list", "id": "42"});
    let level = || Sent::Json(json!({"level": "member"}));
    let recognised = [401, 200, 200, 200, 200, 200, 200, 200, 200, 403];
    // Only administrators manage list 42 here: by a login, because a key needs auth:admin to be an administrator, and
    // auth:members to use this endpoint.
    let members = |status| [401, 403, 403, status, 403, 403, 403, 403, 403, 403];
    let rows = [
        ("GET", "/auth/roles", Sent::Nothing, recognised),
        (
            "GET",
            "/auth/roles?uid=u-unknown-one",
            Sent::Nothing,
            [401, 403, 403, 404, 403, 403, 404, 403, 403, 403],
        ),
        (
            "POST",
            "/auth/roles/refresh",
            Sent::Json(resource()),
            recognised,
        ),
        (
            "POST",
            "/auth/introspect",
            Sent::Form(&[("token", "x")]),
            [401, 200, 200, 200, 200, 200, 200, 200, 403, 403],
        ),
        ("GET", "/auth/members/list/42", Sent::Nothing, members(200)),
        (
            "GET",
            "/auth/members/list/42/u-unknown-one",
            Sent::Nothing,
            members(404),
        ),
        (
            "PUT",
            "/auth/members/list/42/u-unknown-one",
            level(),
            members(404),
        ),
        (
            "DELETE",
            "/auth/members/list/42/u-unknown-one",
            Sent::Nothing,
            members(404),
        ),
    ];
    check(&door, &callers, &rows);
}

#[test]
fn administration_is_for_administrators() {
    let door = Door::start();
    let callers = door.callers(1);
    let administrators = |status| [401, 403, 403, status, 403, 403, status, 403, 403, 403];
    let one = "/auth/accounts/a-unknown-one";
    let sessions = "/auth/accounts/a-unknown-one/sessions";
    let rows = [
        ("GET", "/auth/accounts", Sent::Nothing, administrators(200)),
        (
            "POST",
            "/auth/accounts",
            Sent::Json(json!({"identity": address_of("x"), "username": "x", "name": "X"})),
            administrators(422),
        ),
        ("GET", one, Sent::Nothing, administrators(404)),
        (
            "PATCH",
            one,
            Sent::Json(json!({"is_admin": true})),
            administrators(404),
        ),
        ("DELETE", one, Sent::Nothing, administrators(404)),
        ("GET", sessions, Sent::Nothing, administrators(404)),
        ("DELETE", sessions, Sent::Nothing, administrators(404)),
    ];
    check(&door, &callers, &rows);
}

#[test]
fn sessions_end_by_their_own_logins() {
    let door = Door::start();
    let logout = [401, 204, 204, 204, 403, 403, 403, 403, 403, 204];
    let rows = [("POST", "/auth/logout", Sent::Nothing, logout)];
    check(&door, &door.callers(1), &rows);
    let end = [401, 204, 204, 204, 403, 403, 403, 403, 403, 403];
    let rows = [("DELETE", "/auth/sessions", Sent::Nothing, end)];
    check(&door, &door.callers(2), &rows);
}
