//! Transports of mails.

mod file;
mod sendmail;
mod smtp;
mod stdout;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::config::MailTransport;
use crate::mail::transport::file::MailFiles;
use crate::mail::transport::sendmail::Sendmail;
use crate::mail::transport::smtp::Smtp;
use crate::mail::transport::stdout::Stdout;
use crate::mail::transport::writer::MessageWriter;
use crate::mail::{MailError, OutgoingMessage};
use crate::model::clock::Clock;
use crate::telemetry::output::Output;

/// A failed attempt. The text is never the server's, which may repeat an address, or a link with its token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// No mail can be delivered at present.
    #[error("cannot reach it: {0}")]
    Unreachable(String),
    /// This mail could not be delivered.
    #[error("not accepted: {0}")]
    Failed(String),
    /// The recipient is refused permanently.
    #[error("recipient refused: {0}")]
    Refused(String),
}

impl DeliveryError {
    fn unreachable(error: impl std::fmt::Display) -> Self {
        Self::Unreachable(error.to_string())
    }
}

/// A transport. Each call ends within a bounded time, and may be dropped at any point.
#[async_trait]
pub trait Transport: Send + Sync + std::fmt::Debug + 'static {
    /// Hands a mail over, and returns when the other side has accepted it.
    ///
    /// # Errors
    /// [`DeliveryError`]. The other side may have accepted the mail nevertheless.
    async fn deliver(&self, letter: &OutgoingMessage) -> Result<(), DeliveryError>;

    /// Checks whether mails could be delivered, without sending one.
    ///
    /// # Errors
    /// [`DeliveryError::Unreachable`]
    async fn probe(&self) -> Result<(), DeliveryError>;

    /// Whether mails stay on this machine, where writing them takes milliseconds.
    fn is_local(&self) -> bool {
        false
    }
}

/// Builds the transport of a configuration.
pub(in crate::mail) fn build(
    settings: &MailTransport,
    clock: &Arc<dyn Clock>,
    output: &Arc<Output>,
) -> Result<Arc<dyn Transport>, MailError> {
    Ok(match settings {
        MailTransport::File(directory) => {
            let mut files =
                MailFiles::open(directory, Arc::clone(clock)).map_err(MailError::new)?;
            Arc::new(Files {
                directory: directory.clone(),
                writer: MessageWriter::start(move |message| files.write(message))
                    .map_err(MailError::new)?,
            })
        }
        MailTransport::Stdout => Arc::new(Stdout(Arc::clone(output))),
        MailTransport::Sendmail(program) => Arc::new(Sendmail(program.clone())),
        MailTransport::Smtp(settings) => {
            Arc::new(Smtp::new(settings, Arc::clone(clock)).map_err(MailError::because)?)
        }
    })
}

/// The problem that prevents a transport from delivering: its key and the expectation.
pub(in crate::mail) fn check(settings: &MailTransport) -> Option<(&'static str, String)> {
    match settings {
        MailTransport::File(_) | MailTransport::Stdout => None,
        MailTransport::Sendmail(program) => {
            let error = is_program(program).err()?;
            let expected = format!("a program that can be run: {error}");
            Some(("mail.sendmail_command", expected))
        }
        MailTransport::Smtp(settings) => {
            let why = smtp::check(settings).err()?;
            Some(("mail.ca_file", format!("a usable PEM file: {why}")))
        }
    }
}

fn is_program(path: &Path) -> io::Result<()> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(io::Error::from)
}

/// The transports that write, on a thread of their own, since writing blocks.
#[derive(Debug)]
struct Files {
    directory: PathBuf,
    writer: MessageWriter,
}

#[async_trait]
impl Transport for Files {
    async fn deliver(&self, letter: &OutgoingMessage) -> Result<(), DeliveryError> {
        let message = Zeroizing::new(letter.message.as_bytes().to_vec());
        let written = self.writer.deliver(message).await;
        written.map_err(DeliveryError::unreachable)
    }

    async fn probe(&self) -> Result<(), DeliveryError> {
        let found = std::fs::read_dir(&self.directory);
        found.map(drop).map_err(DeliveryError::unreachable)
    }

    fn is_local(&self) -> bool {
        true
    }
}
