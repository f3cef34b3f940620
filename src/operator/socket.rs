//! `admin.sock`: the connection between the command line and the process that has the store open.
//!
//! Each direction carries one line of JSON. The socket is in the gateway's directory (0700), has mode 0600, and answers
//! only peers that run as this process's user or as root. Several peers are served at once, so a silent or slow one
//! does not delay the others.

use std::collections::VecDeque;
use std::fs::Permissions;
use std::io::ErrorKind::{ConnectionRefused, NotFound};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use zeroize::Zeroizing;

use crate::operator::control::{AccountCommand, Command, Reply};
use crate::operator::execute::execute;
use crate::snapshot::Current;

/// Maximum length of a command, in bytes.
const COMMAND_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Maximum length of an answer, in bytes.
const REPLY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Maximum number of commands in progress, and of peers that have not sent theirs yet. Another peer replaces the one
/// that has been silent for the longest time.
const PEERS_MAX: usize = 16;
/// Maximum time for a peer to send its command.
const LINE_PATIENCE: Duration = Duration::from_secs(5);
/// Maximum time to carry out a command, and for the peer to read its answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Maximum time to carry out a command about very many records.
const LONG_PATIENCE: Duration = Duration::from_mins(10);

/// Requests for a reload, each with the sender for its answer.
pub type Reloads = mpsc::Sender<oneshot::Sender<Reply>>;

/// An error of the server's setup, or of a command's exchange with the server.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers there.
    #[error("another gateway answers on {path}")]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot use {path}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The peer sent something other than a reply.
    #[error("the gateway on {path} gave no readable answer; is it of another version?")]
    Reply {
        /// The socket.
        path: PathBuf,
    },
}

impl SocketError {
    /// Whether another process answers on the socket.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Taken { .. })
    }

    /// Whether the disk cannot be written.
    #[must_use]
    pub fn is_of_the_disk(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), QuotaExceeded | ReadOnlyFilesystem | StorageFull))
    }
}

/// Returns the path of the socket in a store's directory.
#[must_use]
pub fn path_in(directory: &Path) -> PathBuf {
    directory.join("admin.sock")
}

/// Binds the socket. One on which no process answers is left over from a crash and is replaced.
///
/// # Errors
/// [`SocketError::Taken`] if another gateway answers on it, [`SocketError::Io`] if the system refuses.
pub async fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let io = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    if UnixStream::connect(path).await.is_ok() {
        return Err(SocketError::Taken {
            path: path.to_owned(),
        });
    }
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != NotFound => return Err(io(source)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(io)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(io)?;
    Ok(listener)
}

/// Answers commands until the future is dropped.
///
/// `reloads`: the receiver of requests for a reload.
pub async fn serve(listener: UnixListener, current: Arc<Current>, reloads: Reloads) {
    let server = Arc::new(Server {
        current,
        reloads,
        long: Semaphore::new(1),
    });
    let mut silent = PendingPeers::default();
    let mut answered = JoinSet::new();
    loop {
        let has_room = answered.len() < PEERS_MAX;
        tokio::select! {
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, _)) if is_own_or_root(&stream) => silent.hear(stream),
                Ok(_) => tracing::warn!("refused a peer of another user on admin.sock"),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot accept on admin.sock"
                    );
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(heard) = silent.peers.join_next(), if has_room => match heard {
                Ok(Ok((line, writer))) => {
                    let server = Arc::clone(&server);
                    answered.spawn(async move { log_end(server.answer(&line, writer).await) });
                }
                Ok(Err(error)) => log_end(Err(error)),
                // It was replaced by a newer peer.
                Err(_) => {}
            },
            Some(_) = answered.join_next() => {}
        }
    }
}

/// Peers that have not sent their command yet.
#[derive(Default)]
struct PendingPeers {
    peers: JoinSet<std::io::Result<(CommandLine, OwnedWriteHalf)>>,
    /// Oldest first.
    order: VecDeque<AbortHandle>,
}

impl PendingPeers {
    fn hear(&mut self, stream: UnixStream) {
        self.order.retain(|peer| !peer.is_finished());
        if PEERS_MAX <= self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
        }
        self.order.push_back(self.peers.spawn(hear(stream)));
    }
}

/// A command, which may hold a password.
type CommandLine = Zeroizing<String>;

async fn hear(stream: UnixStream) -> std::io::Result<(CommandLine, OwnedWriteHalf)> {
    let (reader, writer) = stream.into_split();
    let mut line = Zeroizing::new(String::new());
    let mut reader = BufReader::new(reader.take(COMMAND_BYTES_MAX));
    tokio::time::timeout(LINE_PATIENCE, reader.read_line(&mut line)).await??;
    Ok((line, writer))
}

fn log_end(end: std::io::Result<()>) {
    match end {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            tracing::warn!("a peer on admin.sock took too long");
        }
        Err(error) => tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a peer on admin.sock closed the connection"
        ),
    }
}

fn is_own_or_root(stream: &UnixStream) -> bool {
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw())
}

/// The state with which commands are carried out.
struct Server {
    current: Arc<Current>,
    reloads: Reloads,
    /// The permit for a command about very many records, which needs much memory; one runs at a time.
    long: Semaphore,
}

impl Server {
    async fn answer(&self, line: &str, mut writer: OwnedWriteHalf) -> std::io::Result<()> {
        let reply = match serde_json::from_str::<Command>(line) {
            Ok(Command::Reload) => tokio::time::timeout(PATIENCE, self.reload()).await?,
            Ok(command) => self.execute(command).await?,
            Err(_) => Reply::Refused(
                "the command is not understood: is the gateway of another version?".to_owned(),
            ),
        };
        let mut text = serde_json::to_vec(&reply)?;
        text.push(b'\n');
        let sent = async {
            writer.write_all(&text).await?;
            writer.shutdown().await
        };
        tokio::time::timeout(PATIENCE, sent).await?
    }

    async fn reload(&self) -> Reply {
        let (caller, reloaded) = oneshot::channel();
        // A gateway that drains no longer reloads.
        let _ = self.reloads.send(caller).await;
        let ending = || Reply::Failed("the gateway is shutting down".to_owned());
        reloaded.await.unwrap_or_else(|_| ending())
    }

    async fn execute(&self, command: Command) -> std::io::Result<Reply> {
        let is_long = matches!(
            &command,
            Command::Account(AccountCommand::Import { .. }) | Command::Store(_)
        );
        let patience = if is_long { LONG_PATIENCE } else { PATIENCE };
        let executed = async {
            let _permit = if is_long {
                self.long.acquire().await.ok()
            } else {
                None
            };
            execute(command, &self.current.load()).await
        };
        Ok(tokio::time::timeout(patience, executed).await?)
    }
}

/// Sends a command to the server on this socket; `None`: no server runs there.
///
/// # Errors
/// [`SocketError`] if a server runs there but does not reply.
pub async fn ask(path: &Path, command: &Command) -> Result<Option<Reply>, SocketError> {
    let io = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    let (reader, mut writer) = match UnixStream::connect(path).await {
        Ok(stream) => stream.into_split(),
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => return Ok(None),
        Err(source) => return Err(io(source)),
    };
    let mut line = Zeroizing::new(serde_json::to_vec(command).map_err(|error| io(error.into()))?);
    line.push(b'\n');
    writer.write_all(&line).await.map_err(io)?;
    let mut reply = Vec::new();
    reader
        .take(REPLY_BYTES_MAX)
        .read_to_end(&mut reply)
        .await
        .map_err(io)?;
    serde_json::from_slice(&reply)
        .map(Some)
        .map_err(|_| SocketError::Reply {
            path: path.to_owned(),
        })
}
