//! The time of an answer reveals nothing about the existence of a name.
//!
//! The work that must not be skipped is a password hash, about ten times as long as the rest of a login: its absence is
//! measurable even on a busy machine.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::now;
use crate::harness::people::{address_of, password_of};
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;

const TRIES: usize = 15;

/// Returns the median time of each request; the requests alternate.
fn medians(gateway: &Gateway, path: &str, status: u16, bodies: &[Value]) -> Vec<Duration> {
    let mut times = vec![Vec::new(); bodies.len()];
    for _ in 0..TRIES {
        for (body, times) in bodies.iter().zip(&mut times) {
            let start = now();
            gateway.post(path).json(body).send().expect(status);
            times.push(start.elapsed());
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[TRIES / 2]
    };
    times.iter_mut().map(median).collect()
}

fn alike(medians: &[Duration]) {
    let (least, most) = (medians.iter().min().unwrap(), medians.iter().max().unwrap());
    assert!(*most < 2 * *least, "told apart by time: {medians:?}");
}

#[test]
fn a_login_takes_as_long_whether_or_not_there_is_an_account() {
    let upstream = Upstream::start();
    // More than are tried: a limited request is refused openly and fast.
    let gateway = Gateway::start(&format!(
        "[account]\nlockout_attempts = 1000\n{}",
        routes(&upstream)
    ));
    gateway.person("anna");
    gateway.register("pending");
    gateway.person("gone");
    gateway.cli(&["account", "disable", "gone"], "").done();
    let login = |name: &str, password: &str| json!({"username": name, "password": password});
    let wrong = "entirely Wrong 9 words";
    alike(&medians(
        &gateway,
        "/auth/login",
        401,
        &[
            login("anna", wrong),
            login("anna@example.org", wrong),
            login("nobody", wrong),
            login("nobody@example.org", wrong),
            login("pending", wrong),
            login("gone", &password_of("gone")),
            login("not a name", wrong),
        ],
    ));
}

#[test]
fn forgetting_and_registering_take_as_long_whether_or_not_there_is_an_account() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    gateway.person("anna");
    let forgot = ["anna", "nobody"].map(|name| json!({"username": name}));
    alike(&medians(&gateway, "/auth/forgot", 202, &forgot));
    let register = [("anna", "other"), ("free", "anna"), ("free", "free")];
    let register = register.map(|(address, name)| {
        json!({"identity": address_of(address), "username": name, "name": "Somebody"})
    });
    alike(&medians(&gateway, "/auth/register", 202, &register));
}

#[test]
fn a_login_takes_as_long_whichever_hash_is_stored() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[account]\nlockout_attempts = 1000\n{}",
        routes(&upstream)
    ));
    gateway.person("anna");
    // The hash of an unknown password; its rounds take several times as long as one of the gateway's hashes.
    let old = "$5$rounds=300000$asaltof16chars..$gP3VQ/6X7UUEW3HkBn2w1/Ptq2jxPyzV/cZKmF/wJvD";
    let lines = [
        json!({"model": "Person", "id": "x-00000001", "name": "B.", "identity": address_of("bert")}),
        json!({"model": "Account", "id": "x-00000002", "uid": "x-00000001", "name": "bert", "password": old}),
    ];
    let file = gateway.dir().join("export.jsonl");
    std::fs::write(&file, lines.map(|line| format!("{line}\n")).concat()).unwrap();
    gateway
        .cli(&["account", "import", file.to_str().unwrap()], "")
        .done();
    let logins = ["anna", "bert", "nobody"]
        .map(|name| json!({"username": name, "password": "entirely Wrong 9 words"}));
    alike(&medians(&gateway, "/auth/login", 401, &logins));
}
