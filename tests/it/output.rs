//! Readers of the gateway's output that stop, are slow or have no space left: lines are lost and counted, but no
//! request fails.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::people::password_of;
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;
use crate::harness::{free_port, now, wait_for};

/// Maximum length of a path that its record contains completely.
const LONG: usize = 1000;
/// Number of records with such paths that fill a pipe of 64 KiB and one write of the gateway.
const PIPEFUL: usize = 120;
/// Number of records that fill the queue as well.
const FLOOD: usize = 5000;
/// Far longer than anything takes that does not wait.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The other end of an output; nothing is read until the test asks for it.
struct Pipe(PipeReader);

impl Pipe {
    fn open() -> (Self, PipeWriter) {
        let (reader, writer) = pipe().unwrap();
        (Self(reader), writer)
    }

    /// Reads everything as fast as possible, on a thread of its own.
    fn read(mut self) -> Reading {
        let text = Arc::new(Mutex::new(Vec::new()));
        let so_far = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            loop {
                match self.0.read(&mut piece).unwrap() {
                    0 => break,
                    count => so_far.lock().unwrap().extend_from_slice(&piece[..count]),
                }
            }
        });
        Reading { text, reader }
    }

    /// Reads one piece per message on the channel, and all of the rest once the channel is closed.
    fn read_in_pieces(mut self, bytes: usize) -> (Sender<()>, JoinHandle<String>) {
        let (go, words) = channel();
        let reader = std::thread::spawn(move || {
            let (mut text, mut piece) = (Vec::new(), vec![0; bytes]);
            while let Ok(()) = words.recv() {
                let count = self.0.read(&mut piece).unwrap();
                text.extend_from_slice(&piece[..count]);
            }
            self.0.read_to_end(&mut text).unwrap();
            String::from_utf8(text).unwrap()
        });
        (go, reader)
    }
}

/// The output that has been read while the gateway is running.
struct Reading {
    text: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Reading {
    fn text(&self) -> String {
        String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
    }

    fn wait_for(&self, words: &str) {
        wait_for(words, || self.text().contains(words).then_some(()));
    }

    /// Returns everything, once the gateway has ended.
    fn finish(self) -> String {
        self.reader.join().unwrap();
        String::from_utf8(std::mem::take(&mut *self.text.lock().unwrap())).unwrap()
    }
}

/// Sends requests that are answered at once, each with a long record.
fn fill(gateway: &Gateway, requests: usize) {
    let mut connection = gateway.connect();
    let target = format!("/public/{}", "x".repeat(LONG));
    for _ in 0..requests {
        let answer = gateway.get(&target).send_on(&mut connection);
        assert_eq!(answer.status, 200);
    }
}

/// Returns the value of a metric in `/metrics`.
fn metric(gateway: &Gateway, name: &str) -> u64 {
    let answer = gateway.admin_get("/metrics").expect(200);
    let line = answer
        .text()
        .lines()
        .find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name}"))
        .trim()
        .parse()
        .unwrap()
}

fn lines(gateway: &Gateway, fate: &str, stream: &str) -> u64 {
    metric(
        gateway,
        &format!("doorward_lines_{fate}_total{{stream=\"{stream}\"}}"),
    )
}

fn is_degraded(gateway: &Gateway, output: &str) -> bool {
    let answer = gateway.admin_get("/readyz").expect(200);
    let degraded = answer.json()["degraded"].clone();
    degraded.as_array().unwrap().contains(&json!(output))
}

fn wait_until_degraded(gateway: &Gateway, output: &str) {
    wait_for("an output that is degraded", || {
        is_degraded(gateway, output).then_some(())
    });
}

/// Ends a gateway without waiting for a reader.
fn end_at_once(gateway: &Gateway) {
    let begin = now();
    assert!(gateway.stop().success());
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
}

/// Parses a text as whole JSON lines; anything else in it fails the test.
fn records(text: &str) -> Vec<Value> {
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    text.lines().map(parse).collect()
}

fn with_field<'r>(records: &'r [Value], field: &'r str) -> impl Iterator<Item = &'r Value> {
    records
        .iter()
        .filter(move |record| record.get(field).is_some())
}

/// Lines of the access log: the number that is present and the number reported as lost.
fn accounted(records: &[Value]) -> (u64, u64) {
    let there = with_field(records, "duration_us").count() as u64;
    let lost = with_field(records, "lost").filter(|note| note["stream"] == "access");
    (there, lost.map(|note| note["lost"].as_u64().unwrap()).sum())
}

/// Expects normal service while outputs are blocked.
fn expect_service(gateway: &Gateway) {
    let begin = now();
    for _ in 0..4 {
        gateway.try_login("nobody", "no password").expect(401);
    }
    gateway.get("/public/x").send().expect(200);
    assert_eq!(gateway.get("/gone/x").send().status, 502);
    assert_eq!(gateway.admin_get("/healthz").status, 200);
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
}

/// A configuration with an upstream that is down and a verbose log, so that requests cause log lines.
fn talkative(upstream: &Upstream) -> String {
    format!(
        "{}[[upstream]]\nname = \"gone\"\naddresses = [\"127.0.0.1:{}\"]\n\
         [[route]]\npath = \"/gone/**\"\nupstream = \"gone\"\nrequire = \"public\"\n\
         [log]\nlevel = \"debug\"\n",
        routes(upstream),
        free_port()
    )
}

#[test]
fn blocked_readers_stop_nothing() {
    // The blocked outputs: standard output, standard error, both, both as one pipe.
    for (out, err, is_one) in [
        (true, false, false),
        (false, true, false),
        (true, true, false),
        (true, true, true),
    ] {
        let upstream = Upstream::start();
        let gateway = Gateway::prepare("memory", &talkative(&upstream));
        let null = || File::options().write(true).open("/dev/null").unwrap();
        let (out_pipe, out_end) = Pipe::open();
        let (err_pipe, err_end) = Pipe::open();
        match (out, err, is_one) {
            (_, _, true) => gateway.run_onto(out_end.try_clone().unwrap(), out_end),
            (true, true, _) => gateway.run_onto(out_end, err_end),
            (true, false, _) => gateway.run_onto(out_end, null()),
            (false, _, _) => gateway.run_onto(null(), err_end),
        }
        fill(&gateway, PIPEFUL);
        if err && !is_one {
            let mut connection = gateway.connect();
            wait_for("a full pipe of standard error", || {
                for _ in 0..50 {
                    let refused = gateway.get("/protected/x").bearer("eyJh.eyJh.xxxx");
                    refused.send_on(&mut connection).expect(401);
                }
                is_degraded(&gateway, "output:stderr").then_some(())
            });
        }
        if out {
            wait_until_degraded(&gateway, "output:stdout");
        }
        expect_service(&gateway);
        end_at_once(&gateway);
        // The other ends stay open until here.
        drop((out_pipe, err_pipe));
    }
}

#[test]
fn lost_lines_are_counted_and_reported_once_the_reader_is_back() {
    let upstream = Upstream::start();
    let gateway = Gateway::prepare("memory", &routes(&upstream));
    let (pipe, end) = Pipe::open();
    let (log, log_end) = Pipe::open();
    let log = log.read();
    gateway.run_onto(end, log_end);
    fill(&gateway, FLOOD);
    let made = FLOOD as u64;
    let lost = || lines(&gateway, "lost", "access");
    assert!(0 < lost(), "the queue has a bound");
    assert!(is_degraded(&gateway, "output:stdout"));
    log.wait_for("lines are lost");
    let text = pipe.read();
    // The record of the last request may be lost after its answer.
    let lost_before = wait_for("all that waited to be written", || {
        let lost = lost();
        (lines(&gateway, "written", "access") + lost == made).then_some(lost)
    });
    wait_for("an output that is read again", || {
        (!is_degraded(&gateway, "output:stdout")).then_some(())
    });
    assert_eq!(lost(), lost_before, "none is lost any more");
    log.wait_for("output can be written again");
    fill(&gateway, 1);
    end_at_once(&gateway);
    let records = records(&text.finish());
    assert_eq!(accounted(&records), (made - lost_before + 1, lost_before));
}

#[test]
fn a_slow_reader_slows_no_request_and_gets_whole_lines() {
    let upstream = Upstream::start();
    let gateway = Gateway::prepare("memory", &routes(&upstream));
    let (pipe, end) = Pipe::open();
    // Both outputs are the same: lines of the log must not appear inside of records.
    gateway.run_onto(end.try_clone().unwrap(), end);
    let (go, text) = pipe.read_in_pieces(20_000);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| fill(&gateway, FLOOD / 2));
        }
        for _ in 0..20 {
            go.send(()).unwrap();
            gateway.try_login("nobody", "no password");
        }
    });
    drop(go);
    assert_eq!(gateway.get("/public/last").send().status, 200);
    end_at_once(&gateway);
    let text = text.join().unwrap();
    let json: String = text
        .lines()
        .filter(|line| line.starts_with('{'))
        .flat_map(|line| [line, "\n"])
        .collect();
    for line in text.lines().filter(|line| !line.starts_with('{')) {
        // Pingora writes a line too when it accepts a kept connection at the moment it closes.
        let is_whole = ["doorward", "pingora"]
            .iter()
            .any(|from| line.contains(from));
        assert!(line.starts_with("20") && is_whole, "{line:?}");
    }
    let records = records(&json);
    let (there, lost) = accounted(&records);
    let logins = with_field(&records, "duration_us")
        .filter(|it| it["path"] == "/auth/login")
        .count();
    assert!(logins <= 20);
    assert_eq!(there + lost, (FLOOD + 20 + 1) as u64);
    let events = with_field(&records, "audit").count();
    assert_eq!(events, 20, "records take no room of events");
}

#[test]
fn a_full_disk_stops_nothing_and_is_seen() {
    let upstream = Upstream::start();
    let gateway = Gateway::prepare("memory", &talkative(&upstream));
    let full = || File::options().write(true).open("/dev/full").unwrap();
    gateway.run_onto(full(), full());
    expect_service(&gateway);
    fill(&gateway, 20);
    // Both are one file, and therefore one output.
    assert!(is_degraded(&gateway, "output:stdout"));
    wait_for("all lost lines to be counted", || {
        let access = lines(&gateway, "lost", "access") == 26;
        let refusals = lines(&gateway, "lost", "audit_refusals") == 4;
        (access && refusals && 0 < lines(&gateway, "lost", "log")).then_some(())
    });
    assert_eq!(lines(&gateway, "written", "access"), 0);
    end_at_once(&gateway);
}

/// A gateway with a stored account, anna, that requires its audit trail; it is not running.
fn demanding(upstream: &Upstream) -> (Gateway, String) {
    let gateway = Gateway::start_on("sled", &routes(upstream));
    let anna = gateway.person("anna");
    assert!(gateway.stop().success());
    gateway.configure(&format!("{}[audit]\nrequired = true\n", routes(upstream)));
    (gateway, anna.uid)
}

/// Expects that changes by each kind of caller are refused within a second and not made, while requests that change
/// nothing succeed.
fn expect_refusals(gateway: &Gateway) {
    let begin = now();
    gateway
        .try_login("anna", &password_of("anna"))
        .refused(503, "audit_unavailable");
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    // The answer must not reveal which names exist.
    for name in ["anna", "nobody"] {
        let asked = gateway
            .post("/auth/forgot")
            .json(&json!({"username": name}));
        asked.send().refused(503, "audit_unavailable");
    }
    for name in ["anna", "berta"] {
        let person =
            json!({"username": name, "identity": format!("{name}@example.org"), "name": "N"});
        let registered = gateway.post("/auth/register").json(&person).send();
        registered.refused(503, "audit_unavailable");
    }
    let added = gateway.cli(
        &[
            "account",
            "add",
            "carla",
            "--identity",
            "carla@example.org",
            "--name",
            "C",
        ],
        "",
    );
    assert_eq!(added.code, Some(1), "{}", added.all());
    // The answer must not reveal which password is right, and guesses must not go unrecorded.
    for (name, password) in [
        ("anna", "a wrong password"),
        ("nobody", "a wrong password"),
        ("anna", password_of("anna").as_str()),
    ] {
        let answer = gateway.try_login(name, password);
        answer.refused(503, "audit_unavailable");
    }
    assert_eq!(gateway.get("/public/x").send().status, 200);
}

#[test]
fn without_its_trail_nothing_is_done_where_it_is_required() {
    let upstream = Upstream::start();
    let (gateway, uid) = demanding(&upstream);
    let full = File::options().write(true).open("/dev/full").unwrap();
    gateway.run_onto(full, File::options().write(true).open("/dev/null").unwrap());
    expect_refusals(&gateway);
    end_at_once(&gateway);

    let (pipe, end) = Pipe::open();
    gateway.run_onto(end, File::options().write(true).open("/dev/null").unwrap());
    fill(&gateway, PIPEFUL);
    expect_refusals(&gateway);
    let text = pipe.read();
    wait_for("a trail that is read again", || {
        (!is_degraded(&gateway, "output:stdout")).then_some(())
    });
    let login = gateway
        .try_login("anna", &password_of("anna"))
        .expect(200)
        .json();
    let sessions = gateway
        .get("/auth/sessions")
        .bearer(login["jwt_token"].as_str().unwrap());
    let sessions = sessions.send().expect(200).json();
    let sessions = sessions["items"].as_array().unwrap();
    assert_eq!(
        sessions.len(),
        2,
        "that of the start, and this one: {sessions:?}"
    );
    end_at_once(&gateway);
    let records = records(&text.finish());
    let told: Vec<_> = with_field(&records, "audit")
        .filter(|it| it["subject"] == uid)
        .map(|it| {
            (
                it["audit"].as_str().unwrap(),
                it["outcome"].as_str().unwrap(),
            )
        })
        .filter(|(_, outcome)| *outcome != "login_refused")
        .collect();
    // A line of a refused change may already have been on its way when the change was refused.
    assert!(
        told.ends_with(&[("log_in", "begun"), ("log_in", "ok")]),
        "{told:?}"
    );
    assert_eq!(
        told.iter().filter(|(_, outcome)| *outcome == "ok").count(),
        1,
        "{told:?}"
    );
}

#[test]
fn records_of_strangers_do_not_keep_a_required_trail_from_a_slow_reader() {
    let upstream = Upstream::start();
    let (gateway, _) = demanding(&upstream);
    let (mut pipe, end) = Pipe::open();
    gateway.run_onto(end, File::options().write(true).open("/dev/null").unwrap());
    // 60 kB/s; the records of the flood are many times that.
    std::thread::spawn(move || {
        let mut piece = [0; 3000];
        while pipe.0.read(&mut piece).is_ok_and(|count| 0 < count) {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                fill(&gateway, 50);
            }
        });
        wait_for("records to be lost", || {
            (0 < lines(&gateway, "lost", "access")).then_some(())
        });
        let answers = [(); 5].map(|()| gateway.try_login("anna", &password_of("anna")).status);
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(answers, [200; 5]);
    });
    gateway.signal(Signal::KILL);
    gateway.wait();
}

#[test]
fn a_trail_that_is_required_must_be_let_through_by_the_log_level() {
    let upstream = Upstream::start();
    let more = "[audit]\nrequired = true\n[log]\nlevel = \"info,audit=off\"\n";
    let gateway = Gateway::prepare("memory", &format!("{}{more}", routes(&upstream)));
    let checked = gateway.cli(&["check"], "");
    assert_eq!(checked.code, Some(1));
    assert!(
        checked.all().contains("log.level: expected"),
        "{}",
        checked.all()
    );
}

#[test]
fn a_second_signal_ends_a_gateway_with_a_blocked_reader() {
    let upstream = Upstream::start();
    let gateway = Gateway::prepare("memory", &routes(&upstream));
    let (pipe, end) = Pipe::open();
    gateway.run_onto(end.try_clone().unwrap(), end);
    fill(&gateway, PIPEFUL);
    // A request in flight keeps the drain running.
    let mut open = gateway.connect();
    open.write("GET /public/x HTTP/1.1\r\nHost: localhost\r\n");
    gateway.signal(Signal::TERM);
    gateway.signal(Signal::TERM);
    let begin = now();
    gateway.wait();
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    drop(pipe);
}

#[test]
fn a_fault_that_every_request_meets_is_a_few_lines_of_the_log_and_their_number() {
    const REQUESTS: usize = 400;
    let upstream = Upstream::start();
    let quiet = talkative(&upstream).replace("\"debug\"", "\"info\"");
    let gateway = Gateway::prepare("memory", &quiet);
    let begin = now();
    gateway.run();
    for _ in 0..REQUESTS {
        gateway.get("/gone/x").send().expect(502);
    }
    end_at_once(&gateway);
    let seconds = usize::try_from(begin.elapsed().as_secs()).unwrap();
    let text = gateway.stderr();
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.contains(" WARN ") && line.contains("an upstream failed"))
        .collect();
    assert!(lines.len() <= 2 * (seconds + 2), "{}", lines.len());
    let counted = |line: &&str| -> Option<usize> {
        let (_, number) = line.strip_suffix(" more like it")?.rsplit_once("… and ")?;
        number.parse().ok()
    };
    let told: usize = lines.iter().map(|line| counted(line).unwrap_or(1)).sum();
    assert_eq!(told, REQUESTS, "{lines:?}");
    // The access log contains each of them.
    assert_eq!(
        with_field(&gateway.records(), "duration_us").count(),
        REQUESTS
    );
}
