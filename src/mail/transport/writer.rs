//! The thread that hands messages over: writing blocks, and must not block a thread that proxies.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tokio::sync::oneshot;
use zeroize::Zeroizing;

/// Messages that may wait; a short burst of registrations fits, a flood does not.
const WAITING_MAX: usize = 256;

struct Job {
    message: Zeroizing<Vec<u8>>,
    reply: oneshot::Sender<io::Result<()>>,
}

/// A bounded queue of messages with one thread behind it.
///
/// What is queued is delivered even if its caller stops waiting: a mail that was promised goes out. When the writer is
/// dropped the thread ends after what is queued.
#[derive(Debug)]
pub(in crate::mail) struct Writer {
    jobs: SyncSender<Job>,
}

impl Writer {
    /// Starts the thread; `deliver` writes one whole message.
    pub(in crate::mail) fn start(
        deliver: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        thread::Builder::new()
            .name("mail".to_owned())
            .spawn(move || work(&waiting, deliver))?;
        Ok(Self { jobs })
    }

    /// Hands a message over; returns once it is delivered.
    pub(in crate::mail) async fn deliver(&self, message: Zeroizing<Vec<u8>>) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        let job = Job { message, reply };
        self.jobs
            .try_send(job)
            .map_err(|_| io::Error::new(io::ErrorKind::WouldBlock, "too many mails are waiting"))?;
        answer
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the mail thread has ended")))
    }
}

fn work(waiting: &Receiver<Job>, mut deliver: impl FnMut(&[u8]) -> io::Result<()>) {
    while let Ok(job) = waiting.recv() {
        let outcome = deliver(&job.message);
        // Nobody may be waiting for the answer any more.
        let _ = job.reply.send(outcome);
    }
}
