//! The transport `smtp`: a mail server, with a pool of connections and a limit of every wait.
//!
//! lettre's own pool is not used: its connections wait for an answer without a limit, and a connection whose user is dropped
//! in the middle of a dialogue returns to it out of step with the server.

use std::error::Error as _;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::extension::ClientId;

use crate::config::{SmtpSettings, SmtpTls};
use crate::mail::OutgoingMessage;
use crate::mail::transport::{DeliveryError, Transport};
use crate::model::clock::Clock;

/// Maximum number of pooled connections.
const IDLE_MAX: usize = 4;
/// Maximum idle time of a pooled connection. Servers close idle connections, some of them after a few minutes.
const IDLE_FOR_MAX: Duration = Duration::from_secs(20);
/// Codes for a recipient that the server will never accept: no such mailbox, not local, invalid name, domain without mail.
/// Other permanent answers may be about the gateway, and may end when an operator fixes it.
const RECIPIENT_REFUSED: [&str; 4] = ["550", "551", "553", "556"];

/// The connection pool of a mail server.
pub(in crate::mail) struct Smtp {
    settings: SmtpSettings,
    tls: Option<TlsParameters>,
    hello: ClientId,
    clock: Arc<dyn Clock>,
    /// Idle connections, and the monotonic time since when they are idle. The lock is never held across an await.
    idle: Mutex<Vec<(AsyncSmtpConnection, Duration)>>,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smtp")
            .field("host", &self.settings.host)
            .field("port", &self.settings.port)
            .finish_non_exhaustive()
    }
}

/// Checks that the configured certificates can be used.
pub(in crate::mail) fn check(settings: &SmtpSettings) -> Result<(), String> {
    tls(settings).map(drop)
}

/// The TLS settings: the certificate must always be that of the configured name, signed by a trusted authority.
fn tls(settings: &SmtpSettings) -> Result<Option<TlsParameters>, String> {
    if settings.tls == SmtpTls::None {
        return Ok(None);
    }
    let mut builder = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.ca_file {
        let pem = std::fs::read(path).map_err(|error| error.to_string())?;
        let begins = b"-----BEGIN CERTIFICATE-----";
        if !pem.windows(begins.len()).any(|part| part == begins) {
            return Err("it contains no certificate".to_owned());
        }
        let certificate = Certificate::from_pem(&pem);
        let certificate =
            certificate.map_err(|_| "it contains something other than PEM".to_owned())?;
        // Only this authority is trusted.
        builder = builder
            .certificate_store(CertificateStore::None)
            .add_root_certificate(certificate);
    }
    let built = builder.build();
    built
        .map(Some)
        .map_err(|_| "its certificates cannot be used".to_owned())
}

impl Smtp {
    pub(in crate::mail) fn new(
        settings: &SmtpSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        Ok(Self {
            tls: tls(settings)?,
            settings: settings.clone(),
            hello: ClientId::default(),
            clock,
            idle: Mutex::default(),
        })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(AsyncSmtpConnection, Duration)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A working connection from the pool, or a new one.
    async fn connection(&self) -> Result<AsyncSmtpConnection, DeliveryError> {
        loop {
            let Some((mut connection, since)) = self.idle().pop() else {
                let connected = self.connect().await;
                return connected.map_err(|error| DeliveryError::Unreachable(words(&error)));
            };
            let is_fresh = self.clock.elapsed().saturating_sub(since) < IDLE_FOR_MAX;
            if is_fresh && connection.test_connected().await {
                return Ok(connection);
            }
        }
    }

    /// Limits a dialogue, whose connection is dropped with it on a timeout.
    async fn in_time<T>(
        &self,
        dialogue: impl Future<Output = Result<T, DeliveryError>>,
    ) -> Result<T, DeliveryError> {
        let timeout = self.settings.timeout;
        let ended = tokio::time::timeout(timeout, dialogue).await;
        ended.unwrap_or_else(|_| {
            let why = format!("no answer within {} s", timeout.as_secs());
            Err(DeliveryError::Unreachable(why))
        })
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let settings = &self.settings;
        let server = (settings.host.as_str(), settings.port);
        let wrapper = self
            .tls
            .clone()
            .filter(|_| settings.tls == SmtpTls::Required);
        let timeout = Some(settings.timeout);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, timeout, &self.hello, wrapper, None)
                .await?;
        if settings.tls == SmtpTls::Starttls
            && let Some(tls) = &self.tls
        {
            // An error if the server does not offer it. The dialogue never continues in clear.
            connection.starttls(tls.clone(), &self.hello).await?;
        }
        if let Some(login) = &settings.login {
            let credentials =
                Credentials::new(login.username.clone(), login.password.0.expose().to_owned());
            connection.auth(DEFAULT_MECHANISMS, &credentials).await?;
        }
        Ok(connection)
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let now = self.clock.elapsed();
        let mut idle = self.idle();
        if !connection.has_broken() && idle.len() < IDLE_MAX {
            idle.push((connection, now));
        }
    }

    async fn send(&self, letter: &OutgoingMessage) -> Result<(), DeliveryError> {
        let address = |text: &str| text.parse::<lettre::Address>();
        let (Ok(from), Ok(to)) = (address(&letter.from), address(&letter.to)) else {
            return Err(DeliveryError::Refused("it is not an address".to_owned()));
        };
        let envelope = Envelope::new(Some(from), vec![to]).map_err(|_| {
            DeliveryError::Refused("sender and recipient do not form an envelope".to_owned())
        })?;
        let mut connection = self.connection().await?;
        let sent = connection.send(&envelope, &letter.on_the_wire()).await;
        sent.map_err(|error| failure(&error))?;
        self.keep(connection);
        Ok(())
    }
}

#[async_trait]
impl Transport for Smtp {
    async fn deliver(&self, letter: &OutgoingMessage) -> Result<(), DeliveryError> {
        self.in_time(self.send(letter)).await
    }

    async fn probe(&self) -> Result<(), DeliveryError> {
        self.keep(self.in_time(self.connection()).await?);
        Ok(())
    }
}

/// The result of a mail on a working connection.
fn failure(error: &Error) -> DeliveryError {
    let code = error.status().map(|code| code.to_string());
    match code {
        Some(code) if RECIPIENT_REFUSED.contains(&code.as_str()) => {
            DeliveryError::Refused(words(error))
        }
        Some(_) => DeliveryError::Failed(words(error)),
        None if error.is_client() => DeliveryError::Failed(words(error)),
        None => DeliveryError::Unreachable(words(error)),
    }
}

/// An error without the server's text: its code, or the system's error.
fn words(error: &Error) -> String {
    if let Some(code) = error.status() {
        return format!("the server answered {code}");
    }
    if error.is_response() {
        return "the server's answer is not SMTP, or it closed the connection".to_owned();
    }
    let cause = error.source().map(ToString::to_string);
    cause.unwrap_or_else(|| error.to_string())
}
