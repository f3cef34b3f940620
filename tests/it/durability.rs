//! Acknowledged writes survive a kill, and the next start works.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::gateway::Gateway;
use crate::harness::http::Connection;
use crate::harness::people::{Caller, Key, address_of, password_of};
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;
use crate::harness::wait_for;

const ROUNDS: usize = 10;
const WRITERS: usize = 6;
/// Minimum number of keys that are created or revoked before each kill.
const WRITTEN_A_ROUND: usize = 12;
/// One key of this many is kept, because an account may have fifty.
const KEPT_OF: usize = 16;

/// The writes that the gateway has acknowledged so far.
#[derive(Default)]
struct Acknowledged {
    keys: Mutex<Vec<Key>>,
    revoked: Mutex<Vec<Key>>,
    registered: Mutex<Vec<String>>,
}

impl Acknowledged {
    /// Waits until a registration was acknowledged, at most 20 s.
    fn await_registration(&self) {
        for _ in 0..400 {
            if !self.registered.lock().unwrap().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns the number of keys created or revoked.
    fn count(&self) -> usize {
        self.keys.lock().unwrap().len() + self.revoked.lock().unwrap().len()
    }

    /// Waits until this number is reached, at most 10 s: a busy machine writes little in the time of a round.
    fn await_count(&self, wanted: usize) {
        for _ in 0..500 {
            if wanted <= self.count() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Checks every key beyond the previous ones; returns how many exist now.
    fn check(
        &self,
        gateway: &Gateway,
        (keys_before, revoked_before): (usize, usize),
    ) -> (usize, usize) {
        let (keys, revoked) = (self.keys.lock().unwrap(), self.revoked.lock().unwrap());
        let mut caller = gateway.connect();
        let mut status = |key: &Key| {
            gateway
                .get("/protected/x")
                .by(&key.caller())
                .send_on(&mut caller)
                .status
        };
        for key in &keys[keys_before..] {
            assert_eq!(status(key), 200, "a key that was given out is gone");
        }
        for key in &revoked[revoked_before..] {
            assert_eq!(status(key), 401, "a revoked key is back");
        }
        (keys.len(), revoked.len())
    }
}

#[test]
fn no_acknowledged_write_is_lost_to_a_kill() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_on(
        "sled",
        &format!("[mail]\ntransport = \"file\"\n{}", routes(&upstream)),
    );
    let people: Vec<_> = (0..WRITERS)
        .map(|index| gateway.person(&format!("anna{index}")))
        .collect();
    let done = Acknowledged::default();
    let (number, mut checked) = (AtomicUsize::new(0), (0, 0));
    for round in 0..ROUNDS {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for person in &people {
                let (gateway, done, is_over, number) = (&gateway, &done, &is_over, &number);
                scope.spawn(move || write(gateway, &person.caller(), done, is_over, number));
            }
            std::thread::sleep(Duration::from_millis(60 + 37 * (round as u64 % 5)));
            done.await_count((round + 1) * WRITTEN_A_ROUND);
            if round == ROUNDS - 1 {
                // The answer to a registration is slow: one must arrive before the last kill.
                done.await_registration();
            }
            gateway.kill();
            is_over.store(true, Ordering::SeqCst);
        });
        gateway.run();
        let is_last = round == ROUNDS - 1;
        checked = done.check(&gateway, if is_last { (0, 0) } else { checked });
    }
    assert!(
        ROUNDS * WRITTEN_A_ROUND <= checked.0 + checked.1,
        "hardly anything was written: {checked:?}"
    );
    // An acknowledged registration has a working token.
    let registered = done.registered.lock().unwrap();
    let mailbox = crate::harness::mailbox::Mailbox::all(&gateway);
    for username in registered.iter().take(5) {
        let token = mailbox.token(&address_of(username));
        gateway
            .set_password(&token, &password_of(username))
            .expect(200);
        gateway.login(username);
    }
    assert!(!registered.is_empty());
}

/// Writes until the gateway ends: creates keys, revokes most of them, registers users.
fn write(
    gateway: &Gateway,
    caller: &Caller,
    done: &Acknowledged,
    is_over: &AtomicBool,
    number: &AtomicUsize,
) {
    while !is_over.load(Ordering::SeqCst) {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let Some(key) = try_key(gateway, caller) else {
            return;
        };
        if !number.is_multiple_of(KEPT_OF) {
            let request = format!("DELETE /auth/apikeys/{} HTTP/1.1\r\n", key.id);
            match ask(gateway, caller, &request, "") {
                Some(answer) if answer.status == 204 => done.revoked.lock().unwrap().push(key),
                // Not acknowledged: it may exist or not.
                _ => return,
            }
            continue;
        }
        done.keys.lock().unwrap().push(key);
        // Rarely: its answer is delayed, so that its time reveals nothing.
        let username = format!("person{number}");
        let body = json!({"identity": address_of(&username), "username": username, "name": "P"})
            .to_string();
        match ask(
            gateway,
            &Caller::Anonymous,
            "POST /auth/register HTTP/1.1\r\n",
            &body,
        ) {
            Some(answer) if answer.status == 202 => done.registered.lock().unwrap().push(username),
            _ => return,
        }
    }
}

fn try_key(gateway: &Gateway, caller: &Caller) -> Option<Key> {
    let answer = ask(gateway, caller, "POST /auth/apikeys HTTP/1.1\r\n", "{}")?;
    let is_made = answer.status == 201 && answer.is_whole;
    is_made.then(|| Key {
        id: answer.member("id"),
        text: answer.member("apikey"),
    })
}

/// Sends a request to a gateway that may end at any moment.
fn ask(
    gateway: &Gateway,
    caller: &Caller,
    line: &str,
    body: &str,
) -> Option<crate::harness::http::Response> {
    let stream = std::net::TcpStream::connect(gateway.address).ok()?;
    let mut connection = Connection::over(stream);
    let credential = caller.header().map_or(String::new(), |(name, value)| {
        format!("{name}: {value}\r\n")
    });
    let kind = if body.is_empty() {
        ""
    } else {
        "Content-Type: application/json\r\n"
    };
    connection.write(format!(
        "{line}Host: {}\r\nConnection: close\r\n{credential}{kind}Content-Length: {}\r\n\r\n{body}",
        gateway.address,
        body.len()
    ));
    connection
        .try_answer(false)
        .filter(|answer| answer.is_whole)
}

#[test]
fn everything_is_there_after_a_restart() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_on("sled", &routes(&upstream));
    let (anna, ended) = (gateway.person("anna"), gateway.login("anna"));
    let (key, reset) = (
        gateway.key(&anna, &["reports:read"]),
        gateway.forgot("anna"),
    );
    gateway.member("anna", "4-2", "member");
    gateway
        .post("/auth/logout")
        .bearer(&ended.jwt)
        .send()
        .expect(204);
    let second = gateway
        .refresh(&anna.refresh)
        .expect(200)
        .member("refresh_token");
    gateway.restart();
    gateway.get_by(&anna.caller(), "/member/4-2/x").expect(200);
    gateway.get_by(&key.caller(), "/reports/x").expect(200);
    gateway
        .get_by(&ended.caller(), "/protected/x")
        .refused(401, "session_ended");
    gateway.refresh(&ended.refresh).expect(400);
    let third = gateway.refresh(&second).expect(200).member("refresh_token");
    gateway.restart();
    // The one before the last is outside of any grace period.
    gateway.refresh(&anna.refresh).expect(400);
    gateway.refresh(&third).expect(400);
    gateway
        .set_password(&reset, &password_of("newer"))
        .expect(200);
    gateway.restart();
    gateway
        .set_password(&reset, &password_of("newest"))
        .refused(400, "token_invalid");
    gateway.try_login("anna", &password_of("newer")).expect(200);
}

#[test]
fn no_secret_rests_in_clear() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_on("sled", &routes(&upstream));
    let anna = gateway.person("anna");
    let (key, reset) = (gateway.key(&anna, &[]), gateway.forgot("anna"));
    let second = gateway.refresh(&anna.refresh).expect(200);
    gateway.stop();
    let secrets = [
        anna.password.clone(),
        anna.jwt.clone(),
        anna.refresh.clone(),
        key.text.clone(),
        key.text[13..].to_owned(),
        reset,
        second.member("refresh_token"),
        second.member("access_token"),
    ];
    let mut dirs = vec![gateway.dir().join("store")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            for secret in &secrets {
                let is_there = bytes
                    .windows(secret.len())
                    .any(|window| window == secret.as_bytes());
                assert!(!is_there, "{path:?} holds a secret in clear");
            }
        }
    }
    gateway.run();
}

/// A small file system in memory, mounted on the store's directory; `None`: this user cannot mount one.
struct Mounted(PathBuf);

impl Mounted {
    fn on(path: PathBuf) -> Option<Self> {
        std::fs::create_dir(&path).unwrap();
        let mounted = run(
            "mount",
            &["-t", "tmpfs", "-o", "size=6m,mode=700", "none"],
            &path,
        );
        mounted.then(|| Self(path))
    }

    fn remount(&self, how: &str) {
        let option = format!("remount,{how}");
        assert!(run("mount", &["-o", &option], &self.0), "{how}");
    }

    /// Fills the file system.
    fn fill(&self) {
        let mut ballast = File::create(self.0.join("lost+found")).unwrap();
        while ballast.write_all(&[1; 4096]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("lost+found")).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The gateway that has it open ends later.
        run("umount", &["-l"], &self.0);
    }
}

fn run(command: &str, arguments: &[&str], path: &Path) -> bool {
    let mut command = Command::new(command);
    let status = command.args(arguments).arg(path).status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn a_start_on_an_unwritable_disk_serves_reads_until_it_is_writable() {
    let upstream = Upstream::start();
    for is_full in [true, false] {
        let gateway = Gateway::prepare("sled", &routes(&upstream));
        let Some(disk) = Mounted::on(gateway.dir().join("store")) else {
            eprintln!("left out: only root may mount");
            return;
        };
        gateway.run();
        let anna = gateway.person("anna");
        let key = gateway.key(&anna, &[]);
        assert!(gateway.stop().success());
        if is_full {
            disk.fill();
        } else {
            disk.remount("ro");
        }
        gateway.run_unready();
        assert!(gateway.stderr().contains("the disk cannot be written"));
        let unready = gateway.readiness().unwrap();
        assert!(unready.text().contains("store"), "{unready:?}");
        for caller in [anna.caller(), key.caller()] {
            gateway.get_by(&caller, "/protected/x").expect(200);
        }
        let make = || {
            let request = gateway.post("/auth/apikeys").by(&anna.caller());
            request.json(&json!({"name": "second"})).send()
        };
        make().refused(503, "store_unavailable");
        gateway
            .try_login("anna", &anna.password)
            .refused(503, "store_unavailable");
        gateway.try_login("anna", "no password").expect(401);
        if is_full {
            disk.free();
        } else {
            disk.remount("rw");
        }
        wait_for("a store that takes writes", || {
            (make().status == 201).then_some(())
        });
        wait_for("readiness", || {
            (gateway.readiness()?.status == 200).then_some(())
        });
        gateway.restart();
        gateway.get_by(&key.caller(), "/protected/x").expect(200);
    }
}
