//! The signals that end or reload the gateway, handled from the very start.

use std::sync::Arc;
use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::process::ProcessError;

/// The signals received. One that arrives while no task waits is seen by the next wait, once.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals {
    ends: Arc<Notify>,
    hangups: Arc<Notify>,
}

impl Signals {
    /// Listens on a separate thread, because the runtime of the gateway depends on the configuration, which is not read
    /// yet. Before this call, a SIGHUP ends the process.
    ///
    /// # Errors
    /// [`ProcessError::System`]
    pub(super) fn listen() -> Result<Self, ProcessError> {
        let cannot = |source| ProcessError::System {
            what: "listen for signals",
            source,
        };
        let runtime = Builder::new_current_thread().enable_io().build();
        let runtime = runtime.map_err(cannot)?;
        let context = runtime.enter();
        let on = |kind| signal(kind).map_err(cannot);
        let terminate = on(SignalKind::terminate())?;
        let interrupt = on(SignalKind::interrupt())?;
        let hangup = on(SignalKind::hangup())?;
        drop(context);
        let signals = Self::default();
        let receiver = signals.clone();
        let thread = thread::Builder::new().name("signals".to_owned());
        thread
            .spawn(move || runtime.block_on(receiver.forward([terminate, interrupt], hangup)))
            .map_err(cannot)?;
        Ok(signals)
    }

    async fn forward(self, [mut terminate, mut interrupt]: [Signal; 2], mut hangup: Signal) {
        loop {
            tokio::select! {
                Some(()) = terminate.recv() => self.ends.notify_one(),
                Some(()) = interrupt.recv() => self.ends.notify_one(),
                Some(()) = hangup.recv() => self.hangups.notify_one(),
                else => return,
            }
        }
    }

    /// Waits for SIGTERM or SIGINT.
    pub(super) async fn end(&self) {
        self.ends.notified().await;
    }

    /// Waits for SIGHUP.
    pub(super) async fn hangup(&self) {
        self.hangups.notified().await;
    }
}
