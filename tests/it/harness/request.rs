//! Requests built field by field, each sent over a connection of its own unless the test specifies otherwise.

use std::fmt::Write;
use std::marker::PhantomData;
use std::net::SocketAddr;

use serde_json::Value;

use crate::harness::gateway::Gateway;
use crate::harness::http::{Connection, Response};
use crate::harness::people::Caller;

/// A request under construction; by default it is sent over a connection of its own.
#[must_use]
pub(crate) struct Request<'g> {
    address: SocketAddr,
    /// Keeps the gateway running as long as the request exists.
    gateway: PhantomData<&'g Gateway>,
    method: String,
    target: String,
    host: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl<'g> Request<'g> {
    pub(crate) fn new(gateway: &'g Gateway, method: &str, target: &str) -> Self {
        Self {
            address: gateway.address,
            gateway: PhantomData,
            method: method.to_owned(),
            target: target.to_owned(),
            host: gateway.address.to_string(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Sends the request to a proxy in front of the gateway.
    pub(crate) fn through(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self.host(&address.to_string())
    }

    /// Returns a description for messages.
    pub(crate) fn told(&self) -> String {
        format!("{} {} {:?}", self.method, self.target, self.headers)
    }

    /// Adds the caller's credential.
    pub(crate) fn by(mut self, caller: &Caller) -> Self {
        self.headers.extend(caller.header());
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", format!("Bearer {token}"))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json")
            .body(body.to_string())
    }

    /// Adds a form; the pairs must be encoded already.
    pub(crate) fn form(self, pairs: &[(&str, &str)]) -> Self {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        self.header("Content-Type", "application/x-www-form-urlencoded")
            .body(pairs.join("&"))
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    #[track_caller]
    pub(crate) fn send(self) -> Response {
        let is_head = self.method == "HEAD";
        let mut connection = Connection::open(self.address);
        connection.write(self.bytes("Connection: close\r\n"));
        connection.try_answer(is_head).expect("no answer came")
    }

    /// Sends the request on a connection that stays open.
    #[track_caller]
    pub(crate) fn send_on(self, connection: &mut Connection) -> Response {
        let is_head = self.method == "HEAD";
        connection.write(self.bytes(""));
        connection.try_answer(is_head).expect("no answer came")
    }

    fn bytes(&self, more: &str) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n{more}",
            self.method, self.target, self.host
        );
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        if let Some(body) = &self.body {
            write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        head.push_str("\r\n");
        [head.as_bytes(), self.body.as_deref().unwrap_or_default()].concat()
    }
}
