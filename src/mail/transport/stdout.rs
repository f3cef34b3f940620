//! The transport `stdout`: standard output, for trying things out.

use std::sync::Arc;

use async_trait::async_trait;

use crate::mail::letter::OutgoingMessage;
use crate::mail::transport::{DeliveryError, Transport};
use crate::telemetry::output::{Output, Stream};

/// Standard output, by its one writer. A mail that the reader does not accept stays in the outbox.
#[derive(Debug)]
pub(in crate::mail) struct Stdout(pub(super) Arc<Output>);

#[async_trait]
impl Transport for Stdout {
    async fn deliver(&self, letter: &OutgoingMessage) -> Result<(), DeliveryError> {
        let message = framed(letter.message.as_bytes());
        let written = self.0.deliver(Stream::Mail, message).await;
        written.map_err(DeliveryError::unreachable)
    }

    async fn probe(&self) -> Result<(), DeliveryError> {
        Ok(())
    }

    fn is_local(&self) -> bool {
        true
    }
}

/// A message between lines that mark its beginning and its end.
fn framed(message: &[u8]) -> Vec<u8> {
    [b"----- mail -----\n", message, b"----- end of mail -----\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_message_is_written() {
        let expected = "----- mail -----\nTo: a@b.test\n\ntext\n----- end of mail -----\n";
        let framed = framed(b"To: a@b.test\n\ntext\n");
        assert_eq!(String::from_utf8(framed).unwrap(), expected);
    }
}
