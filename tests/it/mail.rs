//! Mails are delivered once the server accepts them, and never over a connection that others can read; no answer waits
//! for them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::people::{address_of, password_of};
use crate::harness::smtp::{MailServer, Taken, Tls};
use crate::harness::{now, wait_for};

/// Longer than a mail takes on a loaded machine; during this time nothing may arrive.
const QUIET: Duration = Duration::from_millis(1500);

fn person(username: &str) -> Value {
    json!({"identity": address_of(username), "username": username, "name": "Somebody"})
}

/// Registers a user; returns the time of the answer.
#[track_caller]
fn register(gateway: &Gateway, username: &str) -> Duration {
    let start = now();
    let body = person(username);
    gateway
        .post("/auth/register")
        .json(&body)
        .send()
        .expect(202);
    start.elapsed()
}

/// Returns the mail to an address, with its token registered as a secret.
#[track_caller]
fn mail_to(gateway: &Gateway, mails: &[Taken], username: &str) -> (Taken, String) {
    let to = address_of(username);
    let found: Vec<_> = mails.iter().filter(|mail| mail.to == to).collect();
    assert_eq!(found.len(), 1, "mails to {to}: {found:?}");
    let token = found[0].mail.token().unwrap();
    gateway.secret(&token);
    (found[0].clone(), token)
}

#[track_caller]
fn wait_for_metric(gateway: &Gateway, name: &str, value: u64) {
    wait_for(&format!("{name} {value}"), || {
        (gateway.metric(name) == value).then_some(())
    });
}

const SENT: &str = "doorward_mails_total{event=\"sent\"}";
const FAILED: &str = "doorward_mails_total{event=\"failed\"}";
const DROPPED: &str = "doorward_mails_total{event=\"dropped\"}";
const QUEUED: &str = "doorward_mails_queued";

#[test]
fn a_mail_goes_out_once_with_all_that_it_needs() {
    let server = MailServer::start(Tls::None);
    let gateway = Gateway::start(&server.config(""));
    register(&gateway, "anna");
    let (found, token) = mail_to(&gateway, &server.wait_for(1), "anna");
    assert_eq!(
        (found.from.as_str(), found.was_encrypted),
        ("door@example.org", false)
    );
    assert_eq!(found.mail.subject, "Confirm your registration");
    let raw = &found.mail.raw;
    for head in [
        "From: Door <door@example.org>\r\n",
        "To: anna@example.org\r\n",
        "Date: ",
        "Message-ID: <",
        "Auto-Submitted: auto-generated\r\n",
        "Content-Type: multipart/alternative;",
        "Content-Type: text/html; charset=utf-8\r\n",
    ] {
        assert!(raw.contains(head), "no {head:?} in {raw}");
    }
    let link = format!("http://{}/auth/confirm?token={token}", gateway.address);
    assert!(found.mail.text.lines().any(|line| line == link), "{raw}");
    let bare = raw.replace("\r\n", "");
    assert!(
        !bare.contains(['\r', '\n']),
        "a line ends otherwise: {raw:?}"
    );
    assert_eq!(
        raw.matches(&token).count(),
        4,
        "three of them in the HTML part"
    );
    gateway
        .set_password(&token, &password_of("anna"))
        .expect(200);
    wait_for_metric(&gateway, QUEUED, 0);
    std::thread::sleep(QUIET);
    assert_eq!(server.taken().len(), 1);
    assert_eq!(gateway.metric(SENT), 1);
    assert_eq!(gateway.degraded(), [""; 0]);
}

#[test]
fn tls_with_a_verified_certificate_and_a_login() {
    for tls in [Tls::Starttls, Tls::Required] {
        let server = MailServer::prepare(tls);
        server.login("door", "open-Sesame-77");
        server.run();
        let login = "smtp_username = \"door\"\nsmtp_password = \"open-Sesame-77\"";
        let gateway = Gateway::start(&server.config(login));
        gateway.secret("open-Sesame-77");
        register(&gateway, "anna");
        let (taken, _) = mail_to(&gateway, &server.wait_for(1), "anna");
        assert!(taken.was_encrypted, "{tls:?}");
        assert_eq!(taken.login.as_deref(), Some("door"), "{tls:?}");
    }
}

/// Waits until a delivery has failed, and checks that the server did not get the mail.
#[track_caller]
fn stays_queued(gateway: &Gateway, server: &MailServer) {
    register(gateway, "anna");
    wait_for("a failed attempt", || {
        (0 < gateway.metric(FAILED)).then_some(())
    });
    assert_eq!(server.taken().len(), 0);
    assert_eq!((gateway.metric(QUEUED), gateway.metric(SENT)), (1, 0));
    assert_eq!(gateway.readiness().unwrap().status, 200);
    assert_eq!(gateway.degraded(), ["mail"]);
}

#[test]
fn a_server_that_cannot_prove_who_it_is_gets_nothing() {
    for tls in [Tls::Starttls, Tls::Required] {
        let server = MailServer::start(tls);
        let other = server.authority("other");
        let right = server.config("");
        let wrong = right.replace(
            &server.authority("ca").display().to_string(),
            &other.display().to_string(),
        );
        let gateway = Gateway::start(&wrong);
        stays_queued(&gateway, &server);
        // The operator fixes the configuration.
        gateway.configure(&right);
        gateway.reload();
        let (taken, _) = mail_to(&gateway, &server.wait_for(1), "anna");
        assert!(taken.was_encrypted);
        wait_for("mail that is no longer degraded", || {
            gateway.degraded().is_empty().then_some(())
        });
        // A certificate of the right authority for another name.
        server.stop();
        server.identity("stranger");
        server.run();
        let gateway = Gateway::start(&right);
        register(&gateway, "anna");
        wait_for("a failed attempt", || {
            (0 < gateway.metric(FAILED)).then_some(())
        });
        assert_eq!(server.taken().len(), 1);
    }
}

#[test]
fn a_server_that_offers_no_starttls_gets_nothing() {
    let server = MailServer::start(Tls::None);
    let config = server.config("").replace("\"none\"", "\"starttls\"");
    let gateway = Gateway::start(&config);
    stays_queued(&gateway, &server);
}

#[test]
fn a_wrong_login_is_no_mail_and_no_secret_in_the_log() {
    let server = MailServer::prepare(Tls::Starttls);
    server.login("door", "open-Sesame-77");
    server.run();
    let login = "smtp_username = \"door\"\nsmtp_password = \"wrong-Sesame-77\"";
    let gateway = Gateway::start(&server.config(login));
    gateway.secret("wrong-Sesame-77");
    stays_queued(&gateway, &server);
    assert!(gateway.stderr().contains("the server answered 535"));
}

#[test]
fn answers_know_nothing_of_a_server_in_trouble() {
    let server = MailServer::start(Tls::None);
    let gateway = Gateway::start(&server.config("smtp_timeout_s = 2"));
    let mut names = 0..;
    let mut times = |count: usize| -> Vec<Duration> {
        let names = names.by_ref().take(count);
        let mut times: Vec<_> = names
            .map(|n| register(&gateway, &format!("anna{n}")))
            .collect();
        times.sort();
        times
    };
    let up = times(5);
    server.wait_for(5);
    server.mode("hang");
    let hanging = times(5);
    server.stop();
    let down = times(5);
    for (trouble, took) in [("hanging", &hanging), ("down", &down)] {
        let (median, usual) = (took[2], up[2]);
        assert!(
            median < usual + Duration::from_millis(80),
            "{trouble}: {took:?}, else {up:?}"
        );
    }
    wait_for("a state that is told", || {
        (gateway.degraded() == ["mail"]).then_some(())
    });
    server.mode("accept");
    server.run();
    let taken = server.wait_for(15);
    for number in 0..15 {
        mail_to(&gateway, &taken, &format!("anna{number}"));
    }
    wait_for_metric(&gateway, QUEUED, 0);
    std::thread::sleep(QUIET);
    assert_eq!(server.taken().len(), 15, "none twice");
    assert_eq!(gateway.metric(SENT), 15);
}

#[test]
fn what_waits_survives_the_process_and_is_sealed() {
    let server = MailServer::prepare(Tls::None);
    let gateway = Gateway::start_on("sled", &server.config(""));
    for name in ["anna", "ben"] {
        register(&gateway, name);
    }
    wait_for("a failed attempt", || {
        (0 < gateway.metric(FAILED)).then_some(())
    });
    gateway.kill();
    let at_rest = bytes_below(&gateway.dir().join("store"));
    server.run();
    gateway.run();
    let mails = server.wait_for(2);
    for name in ["anna", "ben"] {
        let (_, token) = mail_to(&gateway, &mails, name);
        for clear in [token.as_str(), "token=", "Content-Type: multipart"] {
            for form in in_all_forms(clear) {
                let is_there = at_rest
                    .windows(form.len())
                    .any(|part| part == form.as_bytes());
                assert!(!is_there, "{clear} stands in the store as {form}");
            }
        }
        gateway.set_password(&token, &password_of(name)).expect(200);
    }
    let key = gateway.dir().join("store/keys/mail.key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    gateway.restart();
    std::thread::sleep(QUIET);
    assert_eq!(server.taken().len(), 2, "delivered is delivered");
}

/// Returns a text unchanged, and as it looks inside a longer text in base64.
fn in_all_forms(text: &str) -> Vec<String> {
    let inside = |before: usize| {
        let whole = STANDARD.encode([&b"xx"[..before], text.as_bytes()].concat());
        // The characters that depend on the surrounding bytes.
        let begin = [0, 2, 3][before];
        whole[begin..whole.trim_end_matches('=').len() - 1].to_owned()
    };
    let mut forms = vec![text.to_owned()];
    forms.extend((0..3).map(inside));
    forms
}

/// Returns every byte of every file.
fn bytes_below(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes.extend(bytes_below(&path));
        } else if path.is_file() {
            bytes.extend(std::fs::read(&path).unwrap());
        }
    }
    bytes
}

#[test]
fn nothing_is_sent_once_its_token_has_expired() {
    let server = MailServer::prepare(Tls::None);
    let life = "[account]\nconfirm_ttl_s = 2\n";
    let gateway = Gateway::start(&format!("{life}{}", server.config("")));
    register(&gateway, "anna");
    wait_for_metric(&gateway, DROPPED, 1);
    wait_for_metric(&gateway, QUEUED, 0);
    server.run();
    wait_for("a server that is reached", || {
        gateway.degraded().is_empty().then_some(())
    });
    std::thread::sleep(QUIET);
    assert_eq!(server.taken().len(), 0);
}

#[test]
fn a_mail_that_is_not_accepted_at_first_is_sent_later() {
    let server = MailServer::start(Tls::None);
    let gateway = Gateway::start(&server.config(""));
    for (mode, name) in [("later", "anna"), ("never", "ben"), ("drop", "cora")] {
        server.mode(mode);
        let failed = gateway.metric(FAILED);
        register(&gateway, name);
        wait_for("a failed attempt", || {
            (failed < gateway.metric(FAILED)).then_some(())
        });
    }
    server.mode("accept");
    // The server accepted the third mail before it closed the connection: delivery is promised at least once.
    let taken = server.wait_for(4);
    for name in ["anna", "ben"] {
        mail_to(&gateway, &taken, name);
    }
    wait_for_metric(&gateway, QUEUED, 0);
}

#[test]
fn a_refused_recipient_delays_no_other_mail() {
    let server = MailServer::start(Tls::None);
    let gateway = Gateway::start(&server.config(""));
    for number in 0..6 {
        register(&gateway, &format!("never{number}"));
    }
    register(&gateway, "anna");
    mail_to(&gateway, &server.wait_for(1), "anna");
    wait_for_metric(&gateway, QUEUED, 6);
    assert_eq!(gateway.degraded(), [""; 0]);
}

#[test]
fn a_program_receives_mails_like_sendmail() {
    let gateway = Gateway::prepare("memory", "");
    let program = gateway.dir().join("sendmail");
    let out = gateway.dir().join("out");
    std::fs::create_dir(&out).unwrap();
    let script = format!(
        "#!/bin/sh\ncd {}; printf '%s\\n' \"$@\" >args; cat >mail.new; mv mail.new mail\n",
        out.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    gateway.configure(&format!(
        "[mail]\ntransport = \"sendmail\"\nsendmail_command = \"{}\"\nfrom = \"door@example.org\"\n",
        program.display()
    ));
    gateway.run();
    register(&gateway, "anna");
    let mail = wait_for("a mail at the program", || {
        std::fs::read_to_string(out.join("mail")).ok()
    });
    assert!(mail.contains("To: anna@example.org\n") && mail.contains("/auth/confirm?token="));
    let args = std::fs::read_to_string(out.join("args")).unwrap();
    assert_eq!(args, "-i\n-f\ndoor@example.org\n--\nanna@example.org\n");
    wait_for_metric(&gateway, SENT, 1);
}

#[test]
fn a_command_without_a_gateway_leaves_its_mail_for_the_next_one_or_sends_it() {
    let server = MailServer::prepare(Tls::None);
    let gateway = Gateway::prepare("sled", &server.config(""));
    let add = |name: &str| {
        let identity = address_of(name);
        gateway
            .cli(
                &[
                    "account",
                    "add",
                    name,
                    "--identity",
                    &identity,
                    "--name",
                    "N",
                ],
                "",
            )
            .done();
    };
    add("anna");
    server.run();
    add("ben");
    mail_to(&gateway, &server.wait_for(1), "ben");
    gateway.run();
    mail_to(&gateway, &server.wait_for(2), "anna");
    // The files exist when the command ends.
    let files = Gateway::prepare("sled", "");
    let mailbox = files.mailbox();
    let task = [
        "account",
        "add",
        "cora",
        "--identity",
        "cora@example.org",
        "--name",
        "N",
    ];
    files.cli(&task, "").done();
    assert!(mailbox.unread("cora@example.org").is_some());
}

#[test]
fn an_operators_templates_are_used_and_broken_ones_are_reported() {
    let gateway = Gateway::prepare("memory", "");
    let texts = gateway.dir().join("texts");
    std::fs::create_dir(&texts).unwrap();
    let write = |file: &str, text: &str| std::fs::write(texts.join(file), text).unwrap();
    write(
        "confirm_new.txt",
        "Subject: Willkommen\n\nHier geht es weiter:\n\n{{ link }}\n",
    );
    gateway.configure(&format!("[mail]\ntemplates = \"{}\"\n", texts.display()));
    gateway.run();
    let mailbox = gateway.mailbox();
    register(&gateway, "anna");
    let mail = mailbox.next("anna@example.org");
    assert_eq!(mail.subject, "Willkommen");
    assert!(mail.text.starts_with("Hier geht es weiter:"));
    assert!(
        !mail.raw.contains("html"),
        "a built-in part would say something else"
    );
    gateway.secret(&mail.token().unwrap());

    write(
        "confirm_new.txt",
        "Subject: Willkommen\n\nHier geht es nicht weiter.\n",
    );
    let said = gateway.cli(&["check"], "").with(1).all();
    assert!(
        said.contains("mail.templates") && said.contains("confirm_new.txt"),
        "{said}"
    );
    // A reload keeps the queued mails.
    gateway.reload();
    wait_for("a reload that is refused", || {
        gateway.stderr().contains("not reloaded").then_some(())
    });
    register(&gateway, "ben");
    let mail = mailbox.next("ben@example.org");
    gateway.secret(&mail.token().unwrap());
}
