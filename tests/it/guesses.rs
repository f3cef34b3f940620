//! Guessing passwords ends after five guesses, causing mails ends after a few, and other callers are not affected.

use serde_json::json;

use crate::harness::at_once;
use crate::harness::gateway::Gateway;
use crate::harness::http::Response;
use crate::harness::people::{address_of, changed, password_of};

/// A gateway whose callers choose their client address.
fn gateway(more: &str) -> Gateway {
    Gateway::start(&config(more))
}

fn config(more: &str) -> String {
    format!("[listen]\ntrusted_proxies = [\"127.0.0.1/32\"]\n{more}")
}

const HOME: &str = "192.0.2.1";
const AWAY: &str = "198.51.100.7";

fn login(gateway: &Gateway, from: &str, name: &str, password: &str) -> Response {
    let body = json!({"username": name, "password": password});
    // The hashing pool is bounded: if it was full, the request is repeated.
    loop {
        let answer = gateway
            .post("/auth/login")
            .header("X-Forwarded-For", from)
            .json(&body)
            .send();
        if answer.status != 503 {
            return answer;
        }
        answer.refused(503, "hashing_busy");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn fail(gateway: &Gateway, from: &str, name: &str, times: usize) {
    for _ in 0..times {
        login(gateway, from, name, "wrong").refused(401, "login_refused");
    }
}

/// Returns the waiting time of a refusal in seconds; all of its fields must agree.
#[track_caller]
fn wait_s(answer: &Response) -> u64 {
    answer.refused(429, "login_limited");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(
        answer.header("ratelimit-policy"),
        Some("\"login\";q=5;w=600")
    );
    assert_eq!(
        answer.header("ratelimit"),
        Some(format!("\"login\";r=0;t={wait}").as_str())
    );
    wait
}

#[test]
fn of_two_hundred_guesses_at_once_five_are_looked_at() {
    let gateway = gateway("");
    gateway.person("anna");
    let answers = at_once(200, |index| {
        login(&gateway, HOME, "anna", &format!("wrong {index}")).status
    });
    let count = |status| answers.iter().filter(|it| **it == status).count();
    assert_eq!((count(401), count(429)), (5, 195));
    // The right password is no exception there, and still works elsewhere.
    let here = login(&gateway, HOME, "anna", &password_of("anna"));
    assert!((590..=600).contains(&wait_s(&here)));
    login(&gateway, AWAY, "anna", &password_of("anna")).expect(200);
    let metrics = gateway.admin_get("/metrics");
    assert!(
        metrics
            .text()
            .lines()
            .any(|line| line == "doorward_logins_limited_total 196"),
        "{}",
        metrics.text()
    );
}

#[test]
fn the_operator_ends_a_lockout_from_wherever_it_came() {
    let gateway = gateway("");
    gateway.person("anna");
    gateway.person("bert");
    for name in ["anna", "bert"] {
        fail(&gateway, HOME, name, 5);
        let limited = login(&gateway, HOME, name, &password_of(name));
        let told = limited.json();
        let detail = told["detail"].as_str().unwrap();
        assert!(detail.ends_with("Try again in 10 minutes"), "{detail}");
        wait_s(&limited);
    }
    let task = ["account", "set-password", "anna", "--password-stdin"];
    gateway.cli(&task, "another horse battery").done();
    gateway.secret("another horse battery");
    login(&gateway, HOME, "anna", "another horse battery").expect(200);
    login(&gateway, HOME, &address_of("anna"), "another horse battery").expect(200);
    wait_s(&login(&gateway, HOME, "bert", &password_of("bert")));
    // From now on guesses are counted again.
    fail(&gateway, HOME, "anna", 5);
    wait_s(&login(&gateway, HOME, "anna", "another horse battery"));
}

#[test]
fn names_without_an_account_are_limited_in_the_same_words() {
    let gateway = gateway("");
    gateway.person("anna");
    let mut answers = Vec::new();
    for name in ["anna", "nobody", "nobody@example.org", "not a name", ""] {
        for _ in 0..5 {
            answers.push(login(&gateway, HOME, name, "wrong").neutral());
        }
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    let limited = [
        "anna",
        "ANNA",
        "nobody",
        "nobody@example.org",
        "not a name",
        "",
    ]
    .map(|name| login(&gateway, HOME, name, &password_of("anna")));
    for answer in &limited {
        assert_eq!(answer.neutral(), limited[0].neutral());
        assert!((590..=600).contains(&wait_s(answer)));
    }
}

#[test]
fn guessing_does_not_reveal_that_a_name_and_an_address_are_one_account() {
    let gateway = gateway("");
    let anna = gateway.person("anna");
    fail(&gateway, HOME, "anna", 5);
    // A right password counts as a wrong one, as often as at an unknown address.
    for name in [anna.identity.as_str(), "nobody@example.org"] {
        for _ in 0..5 {
            login(&gateway, HOME, name, &anna.password).refused(401, "login_refused");
        }
        wait_s(&login(&gateway, HOME, name, &anna.password));
    }
    login(&gateway, AWAY, &anna.identity, &anna.password).expect(200);
}

#[test]
fn a_password_change_counts_on_the_same_counters() {
    let gateway = gateway("");
    let anna = gateway.person("anna");
    let change = |old: &str, new: &str| {
        let request = gateway
            .put("/auth/password")
            .by(&anna.caller())
            .header("X-Forwarded-For", HOME);
        request.json(&changed(old, new)).send()
    };
    let new = password_of("newer");
    fail(&gateway, HOME, "anna", 2);
    for _ in 0..3 {
        change("wrong", &new).refused(403, "password_wrong");
        change(&anna.password, "short").refused(422, "password_refused");
    }
    wait_s(&change(&anna.password, &new));
    // The name has guesses left, the account does not.
    login(&gateway, HOME, "anna", &anna.password).refused(401, "login_refused");
    login(&gateway, AWAY, "anna", &anna.password).expect(200);
}

#[test]
fn success_resets_a_name_but_not_the_networks_hundred() {
    let gateway = gateway("");
    gateway.person("anna");
    for round in 0..20 {
        fail(&gateway, HOME, "anna", 4);
        login(&gateway, HOME, "anna", &password_of("anna")).expect(200);
        fail(&gateway, HOME, &format!("nobody{round}"), 1);
    }
    let answer = login(&gateway, HOME, "anna", &password_of("anna"));
    answer.refused(429, "login_limited");
    assert_eq!(
        answer.header("ratelimit-policy"),
        Some("\"login-network\";q=100;w=600")
    );
    // An IPv6 network is the first 64 bits.
    for host in 0..100 {
        fail(
            &gateway,
            &format!("2001:db8::{host:x}"),
            &format!("nobody{host}"),
            1,
        );
    }
    login(&gateway, "2001:db8::ffff", "anna", &password_of("anna")).refused(429, "login_limited");
    login(&gateway, "2001:db8:0:1::1", "anna", &password_of("anna")).expect(200);
}

#[test]
fn a_hundred_in_a_row_from_everywhere_shut_nobody_out_at_home() {
    let gateway = gateway("");
    gateway.person("anna");
    login(&gateway, HOME, "anna", &password_of("anna")).expect(200);
    for network in 0..20 {
        fail(&gateway, &format!("203.0.113.{network}"), "anna", 5);
    }
    login(&gateway, AWAY, "anna", &password_of("anna")).refused(401, "login_refused");
    login(&gateway, HOME, "anna", &password_of("anna")).expect(200);
    login(&gateway, AWAY, "anna", &password_of("anna")).expect(200);
}

#[test]
fn a_window_slides_and_counts_down() {
    let gateway = gateway("[account]\nlockout_attempts = 2\nlockout_s = 3");
    gateway.person("anna");
    fail(&gateway, HOME, "anna", 2);
    let limited = login(&gateway, HOME, "anna", &password_of("anna"));
    assert_eq!(
        limited.header("ratelimit-policy"),
        Some("\"login\";q=2;w=3")
    );
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3).contains(&wait), "{wait}");
    std::thread::sleep(std::time::Duration::from_secs(wait));
    login(&gateway, HOME, "anna", &password_of("anna")).expect(200);
}

#[test]
fn a_restart_forgets_no_guess_and_no_mail() {
    let more = "[mail]\nper_address_per_hour = 2\n[account]\nnotify_logins = false";
    let gateway = Gateway::start_on("sled", &config(more));
    gateway.person("anna");
    let ask = |times: usize| {
        for _ in 0..times {
            gateway
                .post("/auth/forgot")
                .json(&json!({"username": "anna"}))
                .send()
                .expect(202);
        }
        gateway.mailbox().files().len()
    };
    // The first mail was the confirmation.
    assert_eq!(ask(3), 2);
    fail(&gateway, HOME, "anna", 5);
    let before = wait_s(&login(&gateway, HOME, "anna", "wrong"));
    // Once after a clean stop, once after a crash at least a second later.
    gateway.restart();
    let after = wait_s(&login(&gateway, HOME, "anna", "wrong"));
    assert!(after <= before && before < after + 30, "{before} {after}");
    fail(&gateway, AWAY, "anna", 5);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    gateway.kill();
    gateway.run();
    let later = wait_s(&login(&gateway, AWAY, "anna", "wrong"));
    assert!(after < later + 30, "{after} {later}");
    assert!(wait_s(&login(&gateway, HOME, "anna", "wrong")) < after);
    login(&gateway, "203.0.113.1", "anna", &password_of("anna")).expect(200);
    assert_eq!(ask(1), 2);
}

#[test]
fn mails_that_strangers_cause_are_few_and_nobody_sees_which_were_not_sent() {
    let gateway = gateway("[mail]\nper_address_per_hour = 3\nper_network_per_hour = 10");
    gateway.person("anna");
    let forgot = |from: &str, name: &str| {
        let request = gateway.post("/auth/forgot").header("X-Forwarded-For", from);
        request
            .json(&json!({"username": name}))
            .send()
            .expect(202)
            .neutral()
    };
    let sent = forgot(AWAY, "anna");
    for _ in 0..20 {
        assert_eq!(forgot(AWAY, "anna"), sent);
    }
    let mails = |to: &str| {
        let all = gateway.mailbox().files();
        all.iter()
            .filter(|file| std::fs::read_to_string(file).unwrap().contains(to))
            .count()
    };
    assert_eq!(mails("anna@"), 3, "with the one to confirm with");
    let register = |from: &str, name: &str| {
        let body = json!({"identity": address_of(name), "username": name, "name": "Somebody"});
        gateway
            .post("/auth/register")
            .header("X-Forwarded-For", from)
            .json(&body)
            .send()
            .expect(202)
            .neutral()
    };
    let sent = register(HOME, "stranger0");
    for number in 1..15 {
        assert_eq!(register(HOME, &format!("stranger{number}")), sent);
    }
    assert_eq!(mails("stranger"), 10);
    // From other networks registration still works.
    register("203.0.113.5", "ben");
    assert_eq!(mails("ben@"), 1);
    assert_eq!(
        forgot("203.0.113.5", "nobody"),
        forgot("203.0.113.5", "anna")
    );
}

#[test]
fn the_owner_is_told_of_logins_that_may_be_somebody_elses() {
    let gateway = Gateway::start_on("sled", &config("[mail]\nper_address_per_hour = 1"));
    let anna = gateway.person("anna");
    let mailbox = gateway.mailbox();
    let from = |network: &str| login(&gateway, network, "anna", &anna.password).expect(200);
    let told = |words: &str| {
        let mail = mailbox.next(&anna.identity);
        assert_eq!(mail.subject, "A login to your account");
        assert!(mail.text.contains(words), "{}", mail.text);
        mail.text
    };
    // The network of her first login is known. The one mail that strangers may cause was sent, and notices do not
    // count.
    from("127.0.0.1");
    from(HOME);
    told(&format!("\n{HOME}\n\nThis is the first login"));
    from("2001:db8::7");
    told("\n2001:db8::/64\n");
    from("2001:db8::8");
    fail(&gateway, AWAY, "anna", 4);
    fail(&gateway, "203.0.113.1", "anna", 1);
    from(HOME);
    assert!(told("was entered 5 times in a row").contains(HOME));
    gateway.restart();
    from(HOME);
    from("2001:db8::9");
    from(AWAY);
    told(AWAY);
    assert!(mailbox.unread(&anna.identity).is_none());
}

/// A busy morning, and scripts that run in parallel.
#[test]
fn right_passwords_at_the_same_moment_all_get_in() {
    let gateway = Gateway::start("[account]\nhash_threads = 2\n");
    let names: Vec<_> = (0..8).map(|number| format!("person{number}")).collect();
    for name in &names {
        gateway.person(name);
    }
    let statuses = at_once(16, |number| {
        let name = &names[number % names.len()];
        gateway.try_login(name, &password_of(name)).status
    });
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let first = &names[0];
    let statuses = at_once(8, |number| {
        let spelled = if number % 2 == 0 {
            format!("{first} ")
        } else {
            first.to_uppercase()
        };
        gateway.try_login(&spelled, &password_of(first)).status
    });
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    // Concurrent guesses are still limited to five.
    let statuses = at_once(20, |_| gateway.try_login("nobody", "no password").status);
    let seen = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((seen(401), seen(429)), (5, 15), "{statuses:?}");
}

#[test]
fn a_process_that_is_killed_forgets_no_guess_that_was_answered() {
    let gateway = Gateway::start_on("sled", &config(""));
    for round in 0..5 {
        let name = format!("nobody{round}");
        fail(&gateway, AWAY, &name, 4);
        gateway.kill();
        gateway.run();
        fail(&gateway, AWAY, &name, 1);
        wait_s(&login(&gateway, AWAY, &name, "wrong"));
    }
}
