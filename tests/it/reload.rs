//! A new configuration applies to new requests, all of it or nothing.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::harness::gateway::Gateway;
use crate::harness::routes::{route, routes};
use crate::harness::tokens::{AUDIENCE, ISSUER, Signer, claims, key_set};
use crate::harness::upstream::{Exchange, Upstream};
use crate::harness::wait_for;

const SOON: Duration = Duration::from_secs(10);

fn wait_for_line(gateway: &Gateway, line: &str, count: usize) {
    wait_for(line, || {
        (gateway.stderr().matches(line).count() == count).then_some(())
    });
}

#[test]
fn a_reload_applies_new_routes_and_keeps_sessions() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let anna = gateway.person("anna");
    let mut caller = gateway.connect();
    gateway
        .get("/new/x")
        .send_on(&mut caller)
        .refused(404, "no_route");
    gateway.configure(&format!(
        "{}{}",
        routes(&upstream).replace("/public/**", "/gone/**"),
        route("/new/**", "\"authenticated\"")
    ));
    gateway
        .get("/new/x")
        .send_on(&mut caller)
        .refused(404, "no_route");
    gateway.reload();
    wait_for_line(&gateway, "configuration reloaded", 1);
    // Also on a connection that was already open.
    gateway
        .get("/new/x")
        .send_on(&mut caller)
        .refused(401, "credential_missing");
    gateway
        .get("/new/x")
        .by(&anna.caller())
        .send_on(&mut caller)
        .expect(200);
    gateway
        .get("/public/x")
        .send_on(&mut caller)
        .refused(404, "no_route");
}

#[test]
fn a_broken_configuration_changes_nothing_and_is_told() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let anna = gateway.person("anna");
    let good = routes(&upstream);
    let broken = [
        "[listen".to_owned(),
        format!("{good}{}", route("/new/**", "\"nonsense\"")),
        format!("{good}{}", route("/public/**", "\"authenticated\"")),
        format!("{good}{}", route("/auth/x", "\"public\"")),
        format!("{good}[unknown]\nkey = \"a-secret-value-2\"\n"),
        good.replace("upstream = \"main\"", "upstream = \"other\""),
    ];
    for (count, text) in broken.iter().enumerate() {
        if text.starts_with("[listen") {
            gateway.write_config(text);
        } else {
            gateway.configure(text);
        }
        gateway.reload();
        wait_for_line(&gateway, "configuration not reloaded", count + 1);
        gateway.get("/public/x").send().expect(200);
        gateway.get_by(&anna.caller(), "/protected/x").expect(200);
        gateway.get("/new/x").send().refused(404, "no_route");
        assert!(gateway.is_running());
    }
    gateway.secret("a-secret-value-2");
    std::fs::remove_file(gateway.config()).unwrap();
    gateway.reload();
    wait_for_line(&gateway, "configuration not reloaded", broken.len() + 1);
    gateway.configure(&format!("{good}{}", route("/new/**", "\"public\"")));
    gateway.reload();
    wait_for_line(&gateway, "configuration reloaded", 1);
    gateway.get("/new/x").send().expect(200);
}

#[test]
fn a_request_in_flight_ends_by_the_rules_that_it_began_with() {
    let ((go, wait), (tell, told)) = (channel::<()>(), channel::<()>());
    let (wait, tell) = (Mutex::new(wait), Mutex::new(tell));
    let upstream = Upstream::serving(move |exchange: &mut Exchange| {
        if exchange.seen.target.ends_with("slow") {
            tell.lock().unwrap().send(()).unwrap();
            let _ = wait.lock().unwrap().recv_timeout(SOON);
        }
        exchange.answer("hello");
    });
    let gateway = Gateway::start(&routes(&upstream));
    let mut caller = gateway.connect();
    caller.write(format!(
        "GET /public/slow HTTP/1.1\r\nHost: {}\r\n\r\n",
        gateway.address
    ));
    told.recv_timeout(SOON).unwrap();
    gateway.configure(&routes(&upstream).replace("/public/**", "/gone/**"));
    gateway.reload();
    wait_for_line(&gateway, "configuration reloaded", 1);
    gateway.get("/public/x").send().refused(404, "no_route");
    go.send(()).unwrap();
    assert_eq!(caller.answer().text(), "hello");
}

#[test]
fn reloads_under_load_fail_no_request() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let anna = gateway.person("anna");
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut caller = gateway.connect();
                    let mut count = 0;
                    while !is_over.load(std::sync::atomic::Ordering::SeqCst) {
                        gateway
                            .get("/protected/x")
                            .by(&anna.caller())
                            .send_on(&mut caller)
                            .expect(200);
                        gateway
                            .get("/protected/x")
                            .send_on(&mut caller)
                            .refused(401, "credential_missing");
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for round in 1..=10 {
            gateway.configure(&format!(
                "{}{}",
                routes(&upstream),
                route(&format!("/round{round}/**"), "\"public\"")
            ));
            gateway.reload();
            wait_for_line(&gateway, "configuration reloaded", round);
        }
        is_over.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(
            callers
                .into_iter()
                .map(|caller| caller.join().unwrap())
                .sum::<usize>()
                > 10
        );
    });
}

/// Returns an issuer whose keys are in a file of the gateway's directory.
fn issuer(gateway: &Gateway, more: &str) -> String {
    let file = gateway.dir().join("keys.json");
    format!(
        "[[issuer]]\nname = \"corp\"\nissuer = \"{ISSUER}\"\naudience = [\"{AUDIENCE}\"]\njwks_file = \"{}\"\nroles_claim = \"groups\"\n{more}\n",
        file.display()
    )
}

#[test]
fn whoever_was_recognised_before_is_judged_by_the_new_rules() {
    let upstream = Upstream::start();
    let gateway = Gateway::prepare("memory", "");
    let (old, new) = (Signer::es256(), Signer::es256());
    key_set(gateway.dir(), "keys.json", &[old.jwk("k")]);
    let generous = format!(
        "{}{}",
        issuer(&gateway, "roles_allow = [\"admin\"]"),
        routes(&upstream)
    );
    gateway.configure(&generous);
    gateway.run();
    let anna = gateway.person("anna");
    gateway.member("anna", "42", "secret");
    let token = old.token("k", &claims(&json!({"groups": ["admin"]})));
    let statuses = || {
        let path = |path, token: &str| gateway.get(path).bearer(token).send().status;
        [
            path("/admin/x", &token),
            path("/protected/x", &token),
            path("/secret/42/x", &anna.jwt),
            path("/member/42/x", &anna.jwt),
        ]
    };
    assert_eq!(statuses(), [200, 200, 200, 200]);
    let strict = format!("{}{}", issuer(&gateway, ""), routes(&upstream));
    // The issuer may no longer assign the role admin.
    gateway.configure(&strict);
    gateway.reload();
    wait_for_line(&gateway, "configuration reloaded", 1);
    assert_eq!(statuses(), [403, 200, 200, 200]);
    // The issuer has another key.
    key_set(gateway.dir(), "keys.json", &[new.jwk("k")]);
    gateway.reload();
    wait_for_line(&gateway, "configuration reloaded", 2);
    assert_eq!(statuses(), [401, 401, 200, 200]);
    // A level is no longer declared: it yields nothing, not even the levels below it.
    let levels = "[roles]\nlevels = [\"public\", \"invitee\", \"member\", \"manager\"]\n";
    let without = routes(&upstream).replace("list-{id}-secret", "admin");
    gateway.configure(&format!("{levels}{without}"));
    gateway.reload();
    wait_for_line(&gateway, "configuration reloaded", 3);
    assert_eq!(statuses(), [401, 401, 403, 403]);
}

#[test]
fn another_issuer_of_our_own_tokens_is_said_to_void_them_and_does() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let anna = gateway.person("anna");
    gateway.get_by(&anna.caller(), "/protected/x").expect(200);
    for (count, key) in ["issuer", "audience"].into_iter().enumerate() {
        let person = gateway.login("anna");
        gateway.configure(&format!(
            "[tokens]\n{key} = \"https://another.example.com\"\n{}",
            routes(&upstream)
        ));
        gateway.reload();
        wait_for_line(&gateway, "configuration reloaded", count + 1);
        gateway
            .get_by(&person.caller(), "/protected/x")
            .refused(401, "bearer_invalid");
        let line = gateway.stderr();
        let line = line.lines().rfind(|line| line.contains("access token"));
        assert!(
            line.is_some_and(|line| line.contains(&format!("tokens.{key}"))),
            "{line:?}"
        );
        let again = gateway.login("anna");
        gateway.get_by(&again.caller(), "/protected/x").expect(200);
    }
    // The command reports the same, and the parts it could not change.
    gateway.configure(&format!(
        "[tokens]\nissuer = \"https://a.example.com\"\n[limits]\nhead_bytes_max = 9000\n{}",
        routes(&upstream)
    ));
    let ended = gateway.cli(&["reload"], "").done();
    assert_eq!(ended.value("reloaded"), "true");
    assert_eq!(ended.value("needs_restart"), "limits.head_bytes_max");
    assert!(ended.value("tokens.issuer").contains("refused from now on"));
    wait_for_line(&gateway, "configuration reloaded", 3);
    gateway.write_config("[unknown]\n");
    let ended = gateway.cli(&["reload"], "").with(1);
    assert!(ended.stderr.contains("unknown"), "{}", ended.stderr);
    gateway.configure(&format!(
        "[tokens]\nissuer = \"https://a.example.com\"\n{}",
        routes(&upstream)
    ));
    // A reload that changes neither does not mention it.
    let before = gateway.stderr().matches("access token").count();
    gateway.cli(&["reload"], "").done();
    wait_for_line(&gateway, "configuration reloaded", 4);
    assert_eq!(gateway.stderr().matches("access token").count(), before);
    gateway.stop();
    gateway.cli(&["reload"], "").with(1);
    gateway.run();
}

#[test]
fn each_reload_is_in_the_audit_trail() {
    let gateway = Gateway::start("");
    gateway.cli(&["reload"], "").done();
    gateway.configure("[listen]\nworkers = 0\n");
    gateway.reload();
    let told = || -> Vec<(String, String)> {
        let text = gateway.stdout();
        let events = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let events = events.filter(|event: &serde_json::Value| event["audit"] == "reload");
        let told = |event: serde_json::Value| {
            [&event["actor"], &event["outcome"]].map(ToString::to_string)
        };
        events.map(|event| told(event).into()).collect()
    };
    wait_for("two events", || (told().len() == 2).then_some(()));
    let expected = [("cli", "ok"), ("signal", "configuration_refused")];
    let expected = expected.map(|(actor, outcome)| (format!("{actor:?}"), format!("{outcome:?}")));
    assert_eq!(told(), expected);
}

/// Starts a gateway whose configuration is a pipe, and waits until it handles signals: it blocks there until the
/// returned text is written.
fn starting(gateway: &Gateway) -> (Child, String) {
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    std::fs::remove_file(gateway.config()).unwrap();
    let made = Command::new("mkfifo").arg(gateway.config()).status();
    assert!(made.unwrap().success());
    let mut command = gateway.command(&["serve"]);
    let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    wait_for("a process that listens to signals", || {
        let text = std::fs::read_to_string(&status).unwrap();
        let caught = text
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))
            .unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        let wanted = [Signal::HUP, Signal::INT, Signal::TERM];
        let is_caught = |signal: &Signal| caught & (1 << (signal.as_raw() - 1)) != 0;
        wanted.iter().all(is_caught).then_some(())
    });
    (child, text)
}

#[test]
fn a_signal_during_the_start_is_heeded_once_it_serves() {
    let gateway = Gateway::prepare("memory", "");
    let (mut child, text) = starting(&gateway);
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::HUP).unwrap();
    std::fs::write(gateway.config(), &text).unwrap();
    wait_for("a gateway that is ready", || {
        (gateway.readiness()?.status == 200).then_some(())
    });
    // The reload reads it again.
    std::fs::write(gateway.config(), &text).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    let mut log = String::new();
    child.stderr.unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(log.matches("configuration reloaded").count(), 1, "{log}");
}

#[test]
fn sigterm_during_the_start_ends_it_well() {
    let gateway = Gateway::prepare("memory", "");
    let (mut child, text) = starting(&gateway);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    std::fs::write(gateway.config(), &text).unwrap();
    assert!(child.wait().unwrap().success());
}
