//! The transports of mails.

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
use crate::mail::transport::writer::Writer;
use crate::mail::{Letter, MailError};
use crate::model::clock::Clock;
use crate::telemetry::output::Output;

/// A failed attempt. The texts are the gateway's or the system's: a server's message may repeat an address, or a link
/// with its token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// No mail gets through at present.
    #[error("cannot reach it: {0}")]
    Unreachable(String),
    /// This mail did not get through.
    #[error("not taken: {0}")]
    Failed(String),
    /// The recipient is refused for good.
    #[error("recipient refused: {0}")]
    Refused(String),
}

/// A transport of mails. Each call is bounded in time, and may be cancelled at any point.
#[async_trait]
pub trait Transport: Send + Sync + std::fmt::Debug + 'static {
    /// Delivers a mail; returns once the other side has accepted it.
    ///
    /// # Errors
    /// [`DeliveryError`]; the other side may have accepted the mail nevertheless.
    async fn deliver(&self, letter: &Letter) -> Result<(), DeliveryError>;

    /// Checks whether mails would get through, as far as possible without sending one.
    ///
    /// # Errors
    /// [`DeliveryError::Unreachable`]
    async fn probe(&self) -> Result<(), DeliveryError>;

    /// Whether mails stay on this machine and are written within milliseconds.
    fn is_local(&self) -> bool;
}

/// Builds the configured transport.
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
                writer: Writer::start(move |message| files.write(message))
                    .map_err(MailError::new)?,
            })
        }
        MailTransport::Stdout => Arc::new(Stdout::onto(Arc::clone(output))),
        MailTransport::Sendmail(program) => Arc::new(Sendmail::new(program)),
        MailTransport::Smtp(settings) => {
            Arc::new(Smtp::new(settings, Arc::clone(clock)).map_err(MailError::because)?)
        }
    })
}

/// Returns what keeps a transport from being built or from delivering anything: the key, and what was expected.
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
    let is_file = path.metadata()?.is_file();
    if !is_file {
        return Err(io::Error::other("it is no file"));
    }
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(io::Error::from)
}

/// The file transport, with a writer thread because writing blocks.
#[derive(Debug)]
struct Files {
    directory: PathBuf,
    writer: Writer,
}

#[async_trait]
impl Transport for Files {
    async fn deliver(&self, letter: &Letter) -> Result<(), DeliveryError> {
        let message = Zeroizing::new(letter.message.as_bytes().to_vec());
        let written = self.writer.deliver(message).await;
        written.map_err(|error| DeliveryError::Unreachable(error.to_string()))
    }

    async fn probe(&self) -> Result<(), DeliveryError> {
        MailFiles::probe(&self.directory)
            .map_err(|error| DeliveryError::Unreachable(error.to_string()))
    }

    fn is_local(&self) -> bool {
        true
    }
}
