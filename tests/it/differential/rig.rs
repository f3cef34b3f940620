//! The two proxies, each in front of a scripted upstream of its own, and how a case runs through one of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::differential::caller::Caller;
use crate::differential::observe::{
    Engine, Observation, describe_answer, describe_sent, malformed_answers, shortened,
};
use crate::differential::reference;
use crate::differential::script::{Case, Round, Step};
use crate::differential::scripted::{PROBE, ScriptedUpstream, Slot};
use crate::differential::wire::{
    Answer, End, Framing, Head, end_of_body, end_of_head, request_framing,
};
use crate::harness::gateway::Gateway;

/// Time after which both proxies give up an upstream that sends nothing.
pub(super) const SILENCE_MS: u64 = 2000;
/// Number of idle upstream connections that both proxies keep: more than there are cases.
pub(super) const IDLE_MAX: usize = 10_000;
/// Number of cases at once.
const AT_ONCE: usize = 24;
/// Pauses before the probes of a case, while one of its connections is neither closed nor used again.
const PROBE_PAUSES_MS: [u64; 6] = [5, 10, 30, 100, 300, 1000];

/// Time in which a proxy puts back a connection whose answer is complete.
const REST_MS: u64 = 25;

/// Returns the address of the upstream of one case. Each case has its own, so that no connection of another is idle.
pub(super) fn slot_address(slot: usize, port: u16) -> SocketAddr {
    let byte = |number: usize| u8::try_from(number % 250 + 1).unwrap();
    let address = Ipv4Addr::new(127, byte(slot / 62_500) + 1, byte(slot / 250), byte(slot));
    SocketAddr::from((address, port))
}

/// Returns the slot that a path belongs to.
pub(super) fn slot_of(path: &str) -> Option<usize> {
    path.strip_prefix("/u")?.split('/').next()?.parse().ok()
}

/// The two proxies.
pub(super) struct Rig {
    runtime: Runtime,
    reference: Arc<Side>,
    doorward: Arc<Side>,
    next_slot: AtomicUsize,
    slots: usize,
    _gateway: Gateway,
}

/// One of the proxies, and its upstream.
struct Side {
    engine: Engine,
    proxy: SocketAddr,
    upstream: ScriptedUpstream,
}

impl Rig {
    /// Starts both proxies, for at most this number of cases.
    pub(super) fn start(slots: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (one, other) = runtime.block_on(async {
            (
                ScriptedUpstream::start().await,
                ScriptedUpstream::start().await,
            )
        });
        let gateway = Gateway::start(&config(slots, other.port));
        let bare = runtime.block_on(reference::start(one.port));
        let side = |engine, proxy, upstream| {
            Arc::new(Side {
                engine,
                proxy,
                upstream,
            })
        };
        Self {
            reference: side(Engine::Reference, bare, one),
            doorward: side(Engine::Doorward, gateway.address, other),
            runtime,
            next_slot: AtomicUsize::new(0),
            slots,
            _gateway: gateway,
        }
    }

    /// Whether there are slots for this number of further cases.
    pub(super) fn has_slots(&self, count: usize) -> bool {
        self.next_slot.load(Ordering::Relaxed) + count <= self.slots
    }

    /// Runs all cases through both proxies, and returns what the reference and what the gateway did.
    pub(super) fn run(&self, cases: &[Case]) -> Vec<[Observation; 2]> {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let runs: Vec<_> = cases
            .iter()
            .map(|case| {
                let slot = self.next_slot.fetch_add(1, Ordering::Relaxed);
                assert!(slot < self.slots, "too many cases");
                let (case, permits) = (case.clone(), Arc::clone(&permits));
                let sides = (Arc::clone(&self.reference), Arc::clone(&self.doorward));
                self.runtime.spawn(async move {
                    let _permit = permits.acquire().await;
                    let (one, other) =
                        tokio::join!(sides.0.run(&case, slot), sides.1.run(&case, slot));
                    [one, other]
                })
            })
            .collect();
        self.runtime.block_on(async {
            let mut seen = Vec::new();
            for run in runs {
                seen.push(run.await.unwrap());
            }
            seen
        })
    }
}

fn config(slots: usize, port: u16) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "[limits]\nupstream_read_timeout_ms = {SILENCE_MS}\nupstream_write_timeout_ms = {SILENCE_MS}\n\
         upstream_idle_max = {IDLE_MAX}\n[listen]\nconnections_per_client_max = 0\n[log]\naccess = false\n"
    );
    for slot in 0..slots {
        let address = slot_address(slot, port);
        writeln!(
            text,
            "[[upstream]]\nname = \"u{slot}\"\naddresses = [\"{address}\"]\n[[route]]\npath = \"/u{slot}/**\"\n\
             upstream = \"u{slot}\"\nrequire = \"public\""
        )
        .unwrap();
    }
    text
}

impl Side {
    async fn run(&self, case: &Case, slot: usize) -> Observation {
        let address = slot_address(slot, self.upstream.port).ip();
        let log = self.upstream.script(address, case.rounds.clone());
        let mut seen = Observation::default();
        let mut kept = None;
        for (index, round) in case.rounds.iter().enumerate() {
            let mut caller = Caller::connect(self.proxy).await;
            let answer = caller.ask(&format!("/u{slot}/x"), &round.request).await;
            let text = describe_answer(answer.as_ref(), self.engine, &named_by_connection(round));
            seen.answer.push_str(&text);
            if self.engine == Engine::Doorward {
                let found = answer.iter().flat_map(malformed_answers);
                seen.violations.extend(found);
            }
            kept = answer
                .as_ref()
                .filter(|answer| may_ask_again(round, answer))
                .map(|_| caller);
            seen.answers.extend(answer);
            rest(round, index, &log).await;
        }
        self.probe(slot, kept, &log, &mut seen).await;
        seen.connections
            .clone_from(&log.connections.lock().unwrap());
        let ends_early = case.rounds.iter().any(|it| it.is_early && it.ends());
        seen.sent =
            describe_sent(&seen.connections, ends_early).replace(&format!("/u{slot}/"), "/u/");
        seen
    }

    /// Sends further requests, which must get their own answers, until each connection of the case is closed or used
    /// again.
    async fn probe(&self, slot: usize, kept: Option<Caller>, log: &Slot, seen: &mut Observation) {
        "not asked".clone_into(&mut seen.caller);
        if let Some(mut caller) = kept {
            let answer = self.ask_probe(&mut caller, slot, "same", seen).await;
            let state = if answer { "kept" } else { "closed" };
            state.clone_into(&mut seen.caller);
        }
        for (index, pause) in PROBE_PAUSES_MS.into_iter().enumerate() {
            sleep(Duration::from_millis(pause)).await;
            if 0 < index && upstream_state(log) != "left open" {
                break;
            }
            let mut caller = Caller::connect(self.proxy).await;
            let id = format!("new{index}");
            if !self.ask_probe(&mut caller, slot, &id, seen).await {
                seen.violations.push(format!("{id}: no answer"));
            }
        }
        upstream_state(log).clone_into(&mut seen.upstream);
    }

    /// Returns whether there was an answer.
    async fn ask_probe(
        &self,
        caller: &mut Caller,
        slot: usize,
        id: &str,
        seen: &mut Observation,
    ) -> bool {
        let id = format!("{id}-{slot}");
        let request = format!("GET /u{slot}/{PROBE}{id} HTTP/1.1\r\nHost: up.test\r\n\r\n");
        let answer = caller.ask("", &[Step::Write(request.into_bytes())]).await;
        let Some(answer) = answer.filter(|it| it.head.is_some() || !it.excess.is_empty()) else {
            return false;
        };
        let status = answer.head.as_ref().map_or(0, Head::status);
        if (status, answer.body.as_slice(), answer.end) != (200, id.as_bytes(), End::Whole) {
            let body = shortened(&answer.body);
            let excess = shortened(&answer.excess);
            seen.violations
                .push(format!("{id} got another answer: {status} {body} {excess}"));
        }
        let excess = caller.excess(Duration::from_millis(1)).await;
        if !excess.is_empty() {
            let excess = shortened(&excess);
            seen.violations
                .push(format!("{id}: more than its answer: {excess}"));
        }
        true
    }
}

/// Waits until the script of a round has ended, and until the proxy has noticed what it did last.
async fn rest(round: &Round, index: usize, log: &Slot) {
    let is_asked = || *log.requests.lock().unwrap() != 0;
    let is_over = || index < log.answered.load(Ordering::Acquire) || !is_asked();
    until(is_over, SILENCE_MS).await;
    sleep(Duration::from_millis(REST_MS)).await;
    if round.acts_afterwards() {
        let is_noticed = || upstream_state(log) != "left open" && all_ended(log);
        until(is_noticed, 10 * REST_MS).await;
    }
}

/// Waits for a condition, or this time.
async fn until(is_so: impl Fn() -> bool, max_ms: u64) {
    for _ in 0..max_ms / 4 {
        if is_so() {
            return;
        }
        sleep(Duration::from_millis(4)).await;
    }
}

fn all_ended(log: &Slot) -> bool {
    let connections = log.connections.lock().unwrap();
    connections.iter().all(|it| it.is_ended)
}

/// Whether another request may follow on the caller's connection: this one and its answer are complete.
fn may_ask_again(round: &Round, answer: &Answer) -> bool {
    let bytes = round.request_bytes();
    let is_whole = end_of_head(&bytes).is_some_and(|end| {
        let framing = request_framing(&bytes[..end]);
        end_of_body(&bytes[end..], framing) == Some(bytes.len() - end)
    });
    let is_open = !matches!(answer.framing, Framing::Close | Framing::Tunnel);
    is_whole && is_open && answer.end == End::Whole && !round.request.contains(&Step::Fin)
}

/// Returns the fields that `Connection` names in the upstream's heads. The gateway removes them, and Pingora passes them
/// on (RFC 9110 section 7.6.1). `Upgrade` has a rule of its own.
pub(super) fn named_by_connection(round: &Round) -> Vec<String> {
    let bytes = round.answer_bytes();
    let lines = bytes.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| String::from_utf8_lossy(line).to_ascii_lowercase());
    let mut named = Vec::new();
    for line in lines {
        if let Some((_, value)) = line
            .split_once(':')
            .filter(|(name, _)| *name == "connection")
        {
            named.extend(value.split(',').map(|it| it.trim().to_owned()));
        }
    }
    let is_kept =
        |it: &String| ["content-length", "transfer-encoding", "upgrade"].contains(&it.as_str());
    named.retain(|it| !is_kept(it));
    named
}

/// Returns what became of the connections that carried requests of the case.
fn upstream_state(log: &Slot) -> &'static str {
    let connections = log.connections.lock().unwrap();
    let carried: Vec<_> = connections
        .iter()
        .filter(|it| !it.requests.is_empty())
        .collect();
    let Some(last) = carried.last() else {
        return "not asked";
    };
    if carried
        .iter()
        .any(|it| 0 < it.probes || 1 < it.requests.len())
    {
        "used again"
    } else if carried.iter().any(|it| !it.is_ended && !it.is_ended_here) {
        "left open"
    } else if last.is_ended_here {
        "ended by the upstream"
    } else {
        "closed"
    }
}
