//! Operator commands, carried out by the gateway that has the store open, or by this process if none runs.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::config::{Config, StoreEngine};
use crate::issuer::refresh;
use crate::mail::delivery::{self, DeliveryScope};
use crate::operator::control::{AccountCommand, AccountPage, Command, Reply, Touch};
use crate::operator::place::PlaceError;
use crate::operator::socket::SocketError;
use crate::operator::{AppError, execute, import, key_files, place, socket};
use crate::process::{OpenOutput, load, start};
use crate::snapshot::services::{self, OpenError, StoreAccess};
use crate::snapshot::{Services, Snapshot};
use crate::store::error::StoreError;
use crate::telemetry::output::Output;

/// Maximum number of attempts to open a store that another process has locked while no gateway answers (it is starting
/// or ending); each attempt takes 2 s.
const LOCKED_TRIES: usize = 3;
/// Maximum time for an address of the gateway to accept a connection.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// Carries out a command.
///
/// `note` receives a line about the store if the command changes it, or if there is no store.
///
/// # Errors
/// [`AppError`] if the command could not be carried out; a refused command is a [`Reply`].
pub fn command(path: &Path, command: Command, note: fn(&str)) -> Result<Reply, AppError> {
    let (config, _) = load(path)?;
    let dir = config.store.path.clone();
    let notice = StoreNotice {
        note,
        other: place::as_other(&dir),
    };
    let carried_out = place::as_owner(&dir, || {
        let runtime = start(&mut Builder::new_current_thread())?;
        let ended = runtime.block_on(carry_out(config, command, &notice));
        import::clear(&dir);
        ended
    });
    carried_out?.map_err(|error| place::whose(error, &dir))
}

/// Asks the gateway that has the store open; `None`: no gateway runs.
pub(crate) fn ask(config: &Config, command: &Command) -> Result<Option<Reply>, AppError> {
    let path = socket::path_in(&config.store.path);
    let asked = socket::ask(&path, command);
    Ok(start(&mut Builder::new_current_thread())?.block_on(asked)?)
}

/// Reports which store a command works on.
struct StoreNotice {
    note: fn(&str),
    /// The user that the command runs as, as a suffix; empty if it is the operator's own.
    other: String,
}

impl StoreNotice {
    fn worked_on(&self, config: &Config, touch: Touch, how: &str) {
        if matches!(touch, Touch::Writes | Touch::Begins) {
            let (dir, other) = (config.store.path.display(), &self.other);
            (self.note)(&format!("store {dir}: {how}{other}"));
        }
    }

    fn without_records(&self, config: &Config) {
        if config.store.engine == StoreEngine::Sled {
            let dir = config.store.path.display();
            (self.note)(&format!(
                "no store in {dir}: decided without accounts, keys and memberships"
            ));
        }
    }
}

async fn carry_out(
    config: Config,
    mut command: Command,
    notice: &StoreNotice,
) -> Result<Reply, AppError> {
    let (touch, socket) = (command.touch(), socket::path_in(&config.store.path));
    let by_gateway = "through the running gateway";
    import::hand_over(&config, &socket, &mut command)?;
    if let Some(reply) = ask_gateway(&socket, &command).await? {
        notice.worked_on(&config, touch, by_gateway);
        return Ok(reply);
    }
    if matches!(command, Command::Reload) {
        let dir = config.store.path.display();
        let why =
            format!("no gateway is running on the store in {dir}: there is nothing to reload");
        return Err(AppError::Refused(why));
    }
    if let Some(reply) = key_files::here(&config, &command).await? {
        notice.worked_on(&config, touch, "opened; no gateway is running");
        return Ok(reply);
    }
    let records = place::records(&config, touch)?;
    let is_new = records == StoreAccess::Made && !place::holds_store(&config.store.path)?;
    if is_new {
        refuse_second_store(&config).await?;
    }
    // No gateway runs, so this process writes the log and the audit trail.
    let output = OpenOutput::for_command(&config)?;
    let services = match open(&config, (records, &output.0), &socket, &mut command).await? {
        ControlFlow::Continue(services) => services,
        ControlFlow::Break(reply) => {
            notice.worked_on(&config, touch, by_gateway);
            return Ok(reply);
        }
    };
    match records {
        StoreAccess::None => notice.without_records(&config),
        _ if is_new => {
            notice.worked_on(&config, touch, "created and opened; no gateway is running");
        }
        _ => notice.worked_on(&config, touch, "opened; no gateway is running"),
    }
    Box::pin(execute_here(config, command, services)).await
}

/// Sends a command to the gateway on this socket; `None`: no gateway runs there. Fetches the list of all accounts page by
/// page, since the length of a reply is limited.
async fn ask_gateway(socket: &Path, command: &Command) -> Result<Option<Reply>, SocketError> {
    if !matches!(command, Command::Account(AccountCommand::List)) {
        return socket::ask(socket, command).await;
    }
    let (mut accounts, mut after) = (Vec::new(), None);
    loop {
        let command = Command::Account(AccountCommand::ListPage { after });
        let page = match socket::ask(socket, &command).await? {
            Some(Reply::Done(page)) => page,
            other => return Ok(other),
        };
        let page = AccountPage::deserialize(page).map_err(|_| SocketError::Reply {
            path: socket.to_owned(),
        })?;
        accounts.extend(page.accounts);
        after = page.next;
        if after.is_none() {
            return Ok(Some(Reply::Done(Value::Array(accounts))));
        }
    }
}

/// Refuses to create a store if a gateway seems to run on another one.
async fn refuse_second_store(config: &Config) -> Result<(), PlaceError> {
    let first = config.listen.addresses.first().copied();
    for address in std::iter::once(config.listen.admin_address).chain(first) {
        if answers(address).await {
            return Err(PlaceError::Answered {
                here: config.store.path.clone(),
                address,
            });
        }
    }
    Ok(())
}

/// Whether an address of this machine accepts connections.
async fn answers(address: SocketAddr) -> bool {
    let mut target = address;
    match target {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => target.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => target.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let connect = async {
        let socket = if target.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // The system refuses this if the address belongs to another machine.
        let mut own = target;
        own.set_port(0);
        socket.bind(own)?;
        let stream = socket.connect(target).await?;
        // The local port can be the target port itself: the socket has then connected to itself.
        Ok::<bool, io::Error>(stream.local_addr()? != stream.peer_addr()?)
    };
    matches!(timeout(ANSWER_WAIT, connect).await, Ok(Ok(true)))
}

/// Opens the store. A gateway that is starting or ending has it locked, but does not answer on the socket; breaks with
/// the reply of one that has started in the meantime.
async fn open(
    config: &Config,
    (records, output): (StoreAccess, &Arc<Output>),
    socket: &Path,
    command: &mut Command,
) -> Result<ControlFlow<Reply, Arc<Services>>, AppError> {
    let mut tries = 1;
    loop {
        match services::open(config, records, Arc::clone(output)).await {
            Ok(services) => return Ok(ControlFlow::Continue(services)),
            Err(OpenError::Store {
                source: StoreError::Locked { .. },
                ..
            }) if tries < LOCKED_TRIES => tries += 1,
            Err(error) => return Err(error.into()),
        }
        import::hand_over(config, socket, command)?;
        if let Some(reply) = ask_gateway(socket, command).await? {
            return Ok(ControlFlow::Break(reply));
        }
    }
}

async fn execute_here(
    config: Config,
    command: Command,
    services: Arc<Services>,
) -> Result<Reply, AppError> {
    import::finish(&services, &config, || ())
        .await
        .map_err(|source| OpenError::Store {
            path: config.store.path.clone(),
            source,
        })?;
    let (post, outbox) = (Arc::clone(&services.post), services.outbox());
    let snapshot = Snapshot::build(Arc::new(config), services).map_err(AppError::Obstacles)?;
    let issuers = Arc::clone(&snapshot.services.issuers);
    // A decision may need the issuers' keys; no other command does.
    if matches!(command, Command::Explain(_)) {
        issuers.adopt();
    }
    let delivery = delivery::run(Arc::clone(&post), outbox, DeliveryScope::Posted);
    let carried_out = async {
        let reply = execute::execute(command, &snapshot).await;
        post.end().await;
        reply
    };
    // A mail that is not sent now is left in the outbox for the gateway.
    let mut ended = pin!(async { tokio::join!(carried_out, delivery).0 });
    let reply = tokio::select! {
        reply = &mut ended => reply,
        () = refresh::keep_fresh(issuers.adopted()) => ended.await,
    };
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    use super::*;
    use crate::model::id::AccountId;

    /// Half of the longest list that fits into one reply.
    const NAME_BYTES: usize = 33 * 1024 * 1024;

    #[tokio::test]
    async fn a_list_of_accounts_may_be_longer_than_a_reply() {
        let dir = tempfile::tempdir().unwrap();
        let path = socket::path_in(dir.path());
        let listener = socket::bind(&path).await.unwrap();
        let first = AccountId::parse("a-11111111").unwrap();
        let names = ["a".repeat(NAME_BYTES), "b".repeat(NAME_BYTES)];
        let gateway = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut line = String::new();
                BufReader::new(&mut stream)
                    .read_line(&mut line)
                    .await
                    .unwrap();
                let reply = match serde_json::from_str(&line).unwrap() {
                    Command::Account(AccountCommand::List) => json!(names),
                    Command::Account(AccountCommand::ListPage { after: None }) => {
                        json!({ "accounts": [names[0]], "next": first })
                    }
                    Command::Account(AccountCommand::ListPage { after: Some(after) }) => {
                        assert_eq!(after, first);
                        json!({ "accounts": [names[1]], "next": null })
                    }
                    command => panic!("{command:?}"),
                };
                let reply = serde_json::to_vec(&Reply::Done(reply)).unwrap();
                // A command that reads no further closes the connection.
                let _ = stream.write_all(&reply).await;
            }
        };
        let command = Command::Account(AccountCommand::List);
        let reply = tokio::select! {
            reply = ask_gateway(&path, &command) => reply.unwrap(),
            () = gateway => None,
        };
        let Some(Reply::Done(accounts)) = reply else {
            panic!("the list is answered");
        };
        assert!(accounts == json!(names), "both pages, in order");
    }
}
