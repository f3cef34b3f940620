//! The life of a gateway, from the first open file to the last answered request.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::app::signals::Signals;
use crate::app::{clock, counting, reload};
use crate::config::Config;
use crate::edge::admin::{Admin, Component, Degraded};
use crate::edge::budget::Budget;
use crate::edge::drain::DrainLimits;
use crate::edge::echo;
use crate::edge::grpc::GrpcAcceptor;
use crate::edge::listen::{self, Acceptor};
use crate::edge::memory::{self, MemoryLimit, Pressure};
use crate::issuer::refresh;
use crate::mail::delivery::{self, DeliveryScope};
use crate::model::clock::Timestamp;
use crate::model::route::{Upstream, UpstreamAddress};
use crate::operator::control::Reply;
use crate::operator::{AppError, backup, import, place, socket};
use crate::proxy::Gateway;
use crate::proxy::in_flight::InFlight;
use crate::snapshot::services::StoreAccess;
use crate::snapshot::{Current, Services, Snapshot, services};
use crate::store::Store;
use crate::telemetry::output::Output;
use crate::upstream::pool::Pool;
use crate::web::Endpoints;

/// Interval of checking whether the store can write.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Interval of checking the outputs.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long uses of API keys are collected for one write.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// Maximum number of uses in one write.
const NOTES_MAX: usize = 512;
/// Extension of systemd's start timeout per finished step of an import, in microseconds: half a minute.
const STEP_WAIT_US: u32 = 30_000_000;

/// Opens everything, serves until a signal, then drains. A signal received during the start takes effect once the
/// gateway serves.
pub(super) async fn run(
    path: &Path,
    config: Config,
    output: Arc<Output>,
    signals: Signals,
) -> Result<(), AppError> {
    let services = open(&config, output).await?;
    let config = Arc::new(config);
    let snapshot =
        Snapshot::build(Arc::clone(&config), Arc::clone(&services)).map_err(AppError::Obstacles)?;
    let current = Arc::new(Current::new(snapshot));

    // Everything is bound before anything is served, so that a failed start has answered no request.
    let listeners = listen::bind(&config.listen.addresses)?;
    let admin_listener = listen::bind_one(config.listen.admin_address)?;
    let grpc_listener = config.forward_auth.grpc_address.map(listen::bind_one);
    let grpc_listener = grpc_listener.transpose()?;
    let mut tasks = JoinSet::new();
    let echo = start_echo(&config, &mut tasks)?;
    let (reloads, mut wishes) = mpsc::channel(1);
    start_socket(&config, &current, reloads, &mut tasks).await?;

    let budget = Budget::of(&config);
    let in_flight = InFlight::new(budget.requests, budget.network_requests);
    let pool = open_pool(&config, &budget, &mut tasks);
    let gateway = Gateway::new(
        Arc::clone(&current),
        Arc::new(Endpoints::new(&config.listen.auth_prefix)),
        echo,
        pool,
        Arc::clone(&in_flight),
    );
    let door = Arc::new(Acceptor::new(
        gateway,
        Arc::clone(&current),
        &config,
        &budget,
    ));
    let pressure = watch_memory(&door, in_flight, &services, &config, &mut tasks);
    services.issuers.adopt();
    tasks.spawn(refresh::keep_fresh(services.issuers.adopted()));
    let is_ready = Arc::new(AtomicBool::new(true));
    let admin = Admin::new(
        Arc::clone(&services.metrics),
        components(&services, &is_ready, pressure, &mut tasks).await,
        degraded(&current),
        config.listen.admin_token.as_ref(),
    );
    tasks.spawn(Arc::new(admin).serve(admin_listener, budget.admin_connections));
    run_maintenance(&services, &config, &mut tasks);
    let (end_counting, ended) = tokio::sync::oneshot::channel();
    let counting = tokio::spawn(counting::keep_on(Arc::clone(&services), ended));
    let (post, outbox) = (Arc::clone(&services.post), services.outbox());
    let delivery = tokio::spawn(delivery::run(post, outbox, DeliveryScope::All));
    let question_door = open_to_questions(&current, &budget, grpc_listener, &mut tasks);
    for listener in listeners {
        let door = Arc::clone(&door);
        tasks.spawn(async move { door.serve(listener).await });
    }
    announce_ready(&config);

    until_end(&signals, path, &current, &mut wishes).await;
    drop(wishes);
    is_ready.store(false, Ordering::Release);
    notify_systemd(&[sd_notify::NotifyState::Stopping]);
    let limits = DrainLimits::of(&current.load().config.limits);
    let cut = drain(&door, &question_door, limits, &signals).await;
    tasks.shutdown().await;
    drop(end_counting);
    let _ = counting.await;
    services.post.end().await;
    // The delivery limits its own shutdown; a panic in it was logged.
    let _ = delivery.await;
    let _ = std::fs::remove_file(socket::path_in(&config.store.path));
    if cut == 0 {
        Ok(())
    } else {
        Err(AppError::DrainCut(cut))
    }
}

/// Creates the pool of connections to upstreams, and removes from it what has closed or is too old.
fn open_pool(config: &Config, budget: &Budget, tasks: &mut JoinSet<()>) -> Arc<Pool> {
    let pool = Arc::new(Pool::new(config.listen.workers, budget.upstream_idle));
    tasks.spawn(Arc::clone(&pool).keep_clean());
    pool
}

/// Drains both listeners until all requests have ended, the time is over, or another signal arrives. Returns the number
/// of connections with requests still in flight; streams do not count, since they were ended.
async fn drain(
    door: &Acceptor,
    question_door: &GrpcAcceptor,
    limits: DrainLimits,
    signals: &Signals,
) -> usize {
    tracing::info!("draining: no new connections; requests in flight are finished");
    tokio::select! {
        _ = async { tokio::join!(door.drain(limits), question_door.drain(limits.all)) } => {}
        () = signals.end() => {}
    }
    door.busy() + question_door.busy()
}

/// Starts the memory watch if memory is limited.
fn watch_memory(
    door: &Acceptor,
    in_flight: Arc<InFlight>,
    services: &Services,
    config: &Config,
    tasks: &mut JoinSet<()>,
) -> Arc<Pressure> {
    let (pressure, open) = (Arc::clone(&door.pressure), Arc::clone(&door.open));
    if let Some(memory) = MemoryLimit::of(config) {
        let metrics = Arc::clone(&services.metrics);
        tasks.spawn(memory.watch(Arc::clone(&pressure), open, in_flight, metrics));
    }
    pressure
}

/// Starts the periodic tasks of a serving gateway.
fn run_maintenance(services: &Arc<Services>, config: &Config, tasks: &mut JoinSet<()>) {
    tasks.spawn(clock::watch_clock(Arc::clone(services)));
    tasks.spawn(watch_output(Arc::clone(&services.output)));
    tasks.spawn(memory::give_back());
    if let Some(every) = config.store.backup_every {
        tasks.spawn(backup::keep_on(Arc::clone(services), every));
    }
    tasks.spawn(note_key_use(Arc::clone(services)));
    tasks.spawn(Arc::clone(&services.session_uses).write_to(Arc::clone(&services.store)));
}

async fn open(config: &Config, output: Arc<Output>) -> Result<Arc<Services>, AppError> {
    // Checked before anything is opened or created.
    let obstacles = crate::snapshot::obstacles(config);
    if !obstacles.is_empty() {
        return Err(AppError::Obstacles(obstacles));
    }
    let is_new = place::is_bare(&config.store);
    let services = services::open(config, StoreAccess::Made, output).await?;
    log_store(config, &services, is_new).await;
    let extend = || notify_systemd(&[sd_notify::NotifyState::ExtendTimeoutUsec(STEP_WAIT_US)]);
    let unusable = |source| services::OpenError::Store {
        path: config.store.path.clone(),
        source,
    };
    import::finish(&services, config, extend)
        .await
        .map_err(unusable)?;
    counting::restore(&services).await.map_err(unusable)?;
    Ok(services)
}

/// Logs which store was opened: from outside, a start with the wrong store looks like any other.
async fn log_store(config: &Config, services: &Services, is_new: bool) {
    let path = place::absolute(&config.store.path);
    let Some(files) = &services.key_files else {
        tracing::info!(
            engine = "memory",
            "store opened in memory: its records are lost when the process ends"
        );
        return;
    };
    let path = path.display();
    if is_new {
        tracing::warn!(
            %path,
            "no store was found, so an empty one was created: if one should exist, stop the gateway and find it; \
             store.create = \"never\" refuses such a start"
        );
    }
    let made = files.made().await.ok().flatten();
    let counted = files.counted();
    tracing::info!(
        %path,
        engine = "sled",
        made = made.map_or_else(|| "unknown".to_owned(), Timestamp::to_rfc3339),
        accounts = counted.accounts,
        records = counted.records,
        "store opened"
    );
}

fn open_to_questions(
    current: &Arc<Current>,
    budget: &Budget,
    listener: Option<TcpListener>,
    tasks: &mut JoinSet<()>,
) -> Arc<GrpcAcceptor> {
    let door = Arc::new(GrpcAcceptor::new(Arc::clone(current), budget));
    if let Some(listener) = listener {
        let door = Arc::clone(&door);
        tasks.spawn(async move { door.serve(listener).await });
    }
    door
}

/// Starts the built-in echo on its own loopback port, if an upstream uses it.
fn start_echo(config: &Config, tasks: &mut JoinSet<()>) -> Result<Option<SocketAddr>, AppError> {
    let wants_echo =
        |upstream: &Upstream| upstream.addresses.contains(&UpstreamAddress::BuiltinEcho);
    if !config.upstreams.iter().any(wants_echo) {
        return Ok(None);
    }
    let listener = listen::bind_one(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = echo::local_address(&listener)?;
    tasks.spawn(echo::serve(listener, config.account.api_key_header.clone()));
    Ok(Some(address))
}

/// Binds `admin.sock`. With records in memory nothing locks the directory, so another gateway may own the socket, and
/// on a disk that accepts no writes none can be created: the gateway then runs without it.
async fn start_socket(
    config: &Config,
    current: &Arc<Current>,
    reloads: socket::Reloads,
    tasks: &mut JoinSet<()>,
) -> Result<(), AppError> {
    let path = socket::path_in(&config.store.path);
    let is_in_memory = config.store.engine == crate::config::StoreEngine::Memory;
    match socket::bind(&path).await {
        Ok(listener) => {
            tasks.spawn(socket::serve(listener, Arc::clone(current), reloads));
            Ok(())
        }
        Err(error) if error.is_of_the_disk() || (is_in_memory && error.is_taken()) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the command line cannot reach this gateway"
            );
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn components(
    services: &Arc<Services>,
    is_ready: &Arc<AtomicBool>,
    pressure: Arc<Pressure>,
    tasks: &mut JoinSet<()>,
) -> Vec<Component> {
    let can_write = Arc::new(AtomicBool::new(true));
    check_store(&services.store, &can_write).await;
    tasks.spawn(probe_store(Arc::clone(services), Arc::clone(&can_write)));
    let is_serving = Arc::clone(is_ready);
    let post = Arc::clone(&services.post);
    vec![
        Component {
            name: "store",
            is_vital: true,
            is_ready: Box::new(move || can_write.load(Ordering::Acquire)),
        },
        Component {
            name: "listeners",
            is_vital: true,
            is_ready: Box::new(move || is_serving.load(Ordering::Acquire)),
        },
        Component {
            name: "memory",
            is_vital: true,
            is_ready: Box::new(move || pressure.takes_connections()),
        },
        Component {
            name: "mail",
            is_vital: false,
            is_ready: Box::new(move || post.is_reached()),
        },
    ]
}

/// Returns the names of the current configuration's foreign issuers that cannot be reached, and of the outputs that are
/// not read.
fn degraded(current: &Arc<Current>) -> Degraded {
    let current = Arc::clone(current);
    Box::new(move || {
        let snapshot = current.load();
        let services = &snapshot.services;
        let issuers = services.issuers.iter().filter(|i| i.is_degraded());
        let issuers = issuers.map(|i| format!("issuer:{}", i.name()));
        let outputs = services.output.jammed();
        let outputs = outputs.map(|name| format!("output:{name}"));
        issuers.chain(outputs).collect()
    })
}

/// Logs when an output stops accepting lines and when it accepts them again, and how many lines were counted instead of
/// written.
async fn watch_output(output: Arc<Output>) {
    let mut before: Vec<&str> = Vec::new();
    loop {
        let now: Vec<&str> = output.jammed().collect();
        for name in now.iter().filter(|name| !before.contains(name)) {
            tracing::error!(
                output = name,
                "output is not read or cannot be written: lines are lost"
            );
        }
        for name in before.iter().filter(|name| !now.contains(name)) {
            tracing::info!(output = name, "output can be written again");
        }
        before = now;
        output.report_folded();
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

async fn probe_store(services: Arc<Services>, can_write: Arc<AtomicBool>) {
    loop {
        tokio::time::sleep(PROBE_EVERY).await;
        check_store(&services.store, &can_write).await;
    }
}

/// Checks whether the store can write, and logs when that has changed.
async fn check_store(store: &Arc<dyn Store>, can_write: &AtomicBool) {
    let probed = store.ready().await;
    let could_write = can_write.swap(probed.is_ok(), Ordering::AcqRel);
    match probed {
        Err(error) if could_write => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the store cannot be written"
            );
        }
        Ok(()) if !could_write => tracing::info!("the store can be written again"),
        _ => {}
    }
}

/// Stores when API keys were last used. A failed write is lost: the times are only information for the owners.
async fn note_key_use(services: Arc<Services>) {
    let Some(mut notes) = services.key_use.take_notes() else {
        return;
    };
    let mut uses = Vec::new();
    while 0 < notes.recv_many(&mut uses, NOTES_MAX).await {
        if let Err(error) = services
            .store
            .note_keys_used(std::mem::take(&mut uses))
            .await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot record when API keys were last used"
            );
        }
        tokio::time::sleep(NOTE_EVERY).await;
    }
}

/// Reloads at each SIGHUP and each reload command, until SIGTERM or SIGINT.
async fn until_end(
    signals: &Signals,
    path: &Path,
    current: &Current,
    wishes: &mut mpsc::Receiver<oneshot::Sender<Reply>>,
) {
    let reload = async |actor| {
        notify_systemd(&[sd_notify::NotifyState::Reloading]);
        let reply = reload::reload(path, current, actor).await;
        notify_systemd(&[sd_notify::NotifyState::Ready]);
        reply
    };
    loop {
        tokio::select! {
            () = signals.end() => return,
            // The outcome is in the log.
            () = signals.hangup() => drop(reload(reload::BY_SIGNAL).await),
            // A caller that has disconnected needs no answer.
            Some(caller) = wishes.recv() => drop(caller.send(reload(reload::BY_COMMAND).await)),
        }
    }
}

fn announce_ready(config: &Config) {
    let listen = &config.listen;
    tracing::info!(
        addresses = ?listen.addresses,
        admin_address = %listen.admin_address,
        grpc_address = config.forward_auth.grpc_address.map(tracing::field::display),
        public_url = listen.public_url.text,
        "ready"
    );
    notify_systemd(&[sd_notify::NotifyState::Ready]);
}

/// Without systemd this does nothing.
fn notify_systemd(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot notify systemd"
        );
    }
}
