//! A server of key sets with answers chosen by the test, over plain HTTP or TLS.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::harness::http::read_head;
use crate::harness::tokens::AUDIENCE;
use crate::harness::upstream::Upstream;

/// The current answer of the server.
#[derive(Clone)]
pub(crate) enum Says {
    /// A 200 with this JSON, and additional header lines.
    Json(Value, &'static str),
    /// Exactly these bytes.
    Raw(Vec<u8>),
    /// The same JSON after a delay.
    Slowly(Duration, Value),
    /// No answer: the server closes the connection.
    Nothing,
}

/// A server whose paths can each have an answer of their own; the others get the common one.
pub(crate) struct KeyServer {
    pub(crate) upstream: Upstream,
    says: Arc<Mutex<Says>>,
    paths: Arc<Mutex<Vec<(String, Says)>>>,
}

impl KeyServer {
    pub(crate) fn start(says: Says) -> Self {
        let says = Arc::new(Mutex::new(says));
        let paths: Arc<Mutex<Vec<(String, Says)>>> = Arc::default();
        let (shared, by_path) = (Arc::clone(&says), Arc::clone(&paths));
        let upstream = Upstream::serving(move |exchange| {
            exchange.close = true;
            let of_path = by_path
                .lock()
                .unwrap()
                .iter()
                .find(|(path, _)| *path == exchange.seen.target)
                .map(|(_, says)| says.clone());
            let says = of_path.unwrap_or_else(|| shared.lock().unwrap().clone());
            match says {
                Says::Json(body, fields) => exchange.write(ok(&body, fields)),
                Says::Raw(bytes) => exchange.write(bytes),
                Says::Slowly(time, body) => {
                    std::thread::sleep(time);
                    exchange.write(ok(&body, ""));
                }
                Says::Nothing => {}
            }
        });
        Self {
            upstream,
            says,
            paths,
        }
    }

    /// Starts a server with these keys.
    pub(crate) fn with(keys: &[Value]) -> Self {
        Self::start(set(keys))
    }

    pub(crate) fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    /// Sets the answer for one path.
    pub(crate) fn says_at(&self, path: &str, says: Says) {
        let mut paths = self.paths.lock().unwrap();
        paths.retain(|(known, _)| known != path);
        paths.push((path.to_owned(), says));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.upstream.address
    }

    /// Returns the number of requests.
    pub(crate) fn count(&self) -> usize {
        self.upstream.count()
    }

    /// Returns the configuration of an issuer whose keys are on this server.
    pub(crate) fn config(&self, name: &str, iss: &str, more: &str) -> String {
        let source = format!("jwks_url = \"http://{}/jwks\"", self.address());
        issuer(name, iss, &format!("{source}\n{more}"))
    }
}

/// Returns an answer with these keys.
pub(crate) fn set(keys: &[Value]) -> Says {
    Says::Json(json!({ "keys": keys }), "")
}

pub(crate) fn status(status: u16) -> Says {
    Says::Raw(format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").into_bytes())
}

fn ok(body: &Value, fields: &str) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Returns an `[[issuer]]` for the audience of the tests; `more`: further lines, including a source of keys.
pub(crate) fn issuer(name: &str, iss: &str, more: &str) -> String {
    format!(
        "[[issuer]]\nname = \"{name}\"\nissuer = \"{iss}\"\naudience = [\"{AUDIENCE}\"]\n{more}\n"
    )
}

/// Serves one JSON document over TLS for every request until the process ends. `identity`: a PEM file with the server's
/// certificate and key.
pub(crate) fn serve_tls(identity: &Path, document: &Value) -> SocketAddr {
    let pem = std::fs::read(identity).unwrap();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(&pem).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = ok(document, "Connection: close\r\n");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = BufReader::new(StreamOwned::new(connection, stream));
            if read_head(&mut stream).is_some() {
                let _ = stream.get_mut().write_all(answer.as_bytes());
                stream.get_mut().conn.send_close_notify();
                let _ = stream.get_mut().flush();
            }
        }
    });
    address
}
