//! Callers, and accounts created as people create them: through the endpoints.

use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::http::Response;

/// A caller.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    Anonymous,
    /// A caller with the access token of a login.
    Session(String),
    /// A caller with an API key.
    Key(String),
}

impl Caller {
    pub(crate) fn header(&self) -> Option<(String, String)> {
        match self {
            Self::Anonymous => None,
            Self::Session(token) => Some(("Authorization".to_owned(), format!("Bearer {token}"))),
            Self::Key(key) => Some(("X-Api-Key".to_owned(), key.clone())),
        }
    }
}

/// An account and one login of it.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) identity: String,
    pub(crate) password: String,
    pub(crate) uid: String,
    pub(crate) account_id: String,
    pub(crate) jwt: String,
    pub(crate) refresh: String,
}

impl Person {
    pub(crate) fn caller(&self) -> Caller {
        Caller::Session(self.jwt.clone())
    }
}

/// An API key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) text: String,
}

impl Key {
    pub(crate) fn caller(&self) -> Caller {
        Caller::Key(self.text.clone())
    }
}

pub(crate) fn address_of(username: &str) -> String {
    format!("{username}@example.org")
}

/// Returns a password that passes all rules and is different for each user.
pub(crate) fn password_of(username: &str) -> String {
    format!("seven {username} hedgehogs Sing-4")
}

impl Gateway {
    /// Registers a user and returns the confirm token from the mail.
    #[track_caller]
    pub(crate) fn register(&self, username: &str) -> String {
        let mailbox = self.mailbox();
        let identity = address_of(username);
        let body = json!({"identity": identity, "username": username, "name": "Somebody"});
        self.post("/auth/register").json(&body).send().expect(202);
        mailbox.token(&identity)
    }

    /// Sets a password with a mailed token.
    pub(crate) fn set_password(&self, token: &str, password: &str) -> Response {
        self.secret(password);
        self.put("/auth/password")
            .json(&wanted(token, password))
            .send()
    }

    /// Requests a reset and returns the token from the mail.
    #[track_caller]
    pub(crate) fn forgot(&self, username: &str) -> String {
        let mailbox = self.mailbox();
        self.post("/auth/forgot")
            .json(&json!({"username": username}))
            .send()
            .expect(202);
        mailbox.token(&address_of(username))
    }

    /// Logs in; returns the raw answer.
    pub(crate) fn try_login(&self, name: &str, password: &str) -> Response {
        self.secret(password);
        let answer = self
            .post("/auth/login")
            .json(&json!({"username": name, "password": password}))
            .send();
        if answer.status == 200 {
            for member in ["jwt_token", "refresh_token"] {
                self.secret(&answer.member(member));
            }
        }
        answer
    }

    /// Logs in with the user's password as set by the harness.
    #[track_caller]
    pub(crate) fn login(&self, username: &str) -> Person {
        let password = password_of(username);
        let answer = self.try_login(username, &password).expect(200);
        let [uid, account_id, jwt, refresh] =
            ["uid", "account_id", "jwt_token", "refresh_token"].map(|name| answer.member(name));
        Person {
            identity: address_of(username),
            password,
            uid,
            account_id,
            jwt,
            refresh,
        }
    }

    /// Registers, confirms and logs in.
    #[track_caller]
    pub(crate) fn person(&self, username: &str) -> Person {
        let token = self.register(username);
        self.set_password(&token, &password_of(username))
            .expect(200);
        self.login(username)
    }

    /// Adds an administrator as the operator does, and logs in.
    #[track_caller]
    pub(crate) fn administrator(&self, username: &str) -> Person {
        let identity = address_of(username);
        let task = [
            "account",
            "add",
            username,
            "--identity",
            &identity,
            "--name",
            "Operator",
            "--admin",
            "--password-stdin",
        ];
        self.cli(&task, &password_of(username)).done();
        self.login(username)
    }

    /// Refreshes; returns the raw answer.
    pub(crate) fn refresh(&self, token: &str) -> Response {
        self.secret(token);
        let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
        let answer = self.post("/auth/token").form(&form).send();
        if answer.status == 200 {
            for member in ["access_token", "refresh_token"] {
                self.secret(&answer.member(member));
            }
        }
        answer
    }

    /// Creates an API key.
    #[track_caller]
    pub(crate) fn key(&self, owner: &Person, scopes: &[&str]) -> Key {
        let body = json!({"name": "test", "scopes": scopes});
        let answer = self
            .post("/auth/apikeys")
            .by(&owner.caller())
            .json(&body)
            .send()
            .expect(201);
        let key = Key {
            id: answer.member("id"),
            text: answer.member("apikey"),
        };
        self.secret(&key.text);
        key
    }

    /// Sets a membership as the operator does.
    #[track_caller]
    pub(crate) fn member(&self, username: &str, id: &str, level: &str) {
        self.cli(&["member", "set", username, "list", id, level], "")
            .done();
    }
}

/// Returns the body that sets a password with a token.
pub(crate) fn wanted(token: &str, password: &str) -> Value {
    json!({"reset_token": token, "new_password": password, "verify_password": password})
}

/// Returns the body that changes a password with the old one.
pub(crate) fn changed(old: &str, new: &str) -> Value {
    json!({"old_password": old, "new_password": new, "verify_password": new})
}
