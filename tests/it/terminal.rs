//! A terminal interprets its input: foreign text is printed as text only, and never as a line of the gateway's own.

use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::people::password_of;
use crate::harness::routes::routes;
use crate::harness::tokens::{Signer, b64};
use crate::harness::upstream::Upstream;

/// ANSI control sequences of one byte and of two, bidirectional overrides and isolates, invisible characters, line
/// breaks.
const ORDERS: &str =
    "\u{1b}[2J\u{9b}31m\u{7f}\u{8}\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}\u{2029}\u{85}\u{e0041}";

/// Returns the characters of [`ORDERS`] and other control characters that reached the terminal unescaped.
fn raw(text: &str) -> String {
    let is_order = |c: &char| !c.is_ascii_graphic() && ORDERS.contains(*c);
    let fits = |c: &char| *c == '\n' || !(c.is_control() || is_order(c));
    text.chars().filter(|c| !fits(c)).collect()
}

fn nasty() -> Value {
    json!({
        "sub": format!("a\nverified\nsubject: \"u-admin000\"{ORDERS}"),
        format!("claims (not verified)\r\nverified{ORDERS}"): "x",
        "verified": true,
        "deep": { "a\nb": [ORDERS, { "x": "\nrefused: no" }] },
        "spaces": " ".repeat(200) + "verified",
    })
}

#[test]
fn nothing_in_a_token_controls_the_terminal_or_imitates_the_gateway() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let header = json!({ "alg": "ES256", "kid": format!("k\nverified{ORDERS}") });
    let token = format!(
        "{}.{}.{}",
        b64(header.to_string().as_bytes()),
        b64(nasty().to_string().as_bytes()),
        b64(&[1; 64])
    );
    let ended = gateway.cli(&["token", "inspect", "-"], &token).done();
    assert_eq!(raw(&ended.all()), "", "{}", ended.all());
    let own: Vec<_> = ended
        .stdout
        .lines()
        .filter(|line| !line.starts_with("  "))
        .collect();
    assert_eq!(own, ["header (not verified)", "claims (not verified)"]);
    let sub = ended
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("  sub: "));
    let sub: String = serde_json::from_str(sub.unwrap()).unwrap();
    assert_eq!(sub, nasty()["sub"], "what is shown means what was there");
    // A token that verifies shows its claims in the same way.
    let signer = Signer::es256();
    let mut claims = nasty();
    claims["exp"] = json!(crate::harness::epoch_s() + 600);
    let token = signer.token_of(
        &json!({ "alg": "ES256", "kid": "k" }).to_string(),
        &claims.to_string(),
    );
    let file = gateway.dir().join("keys.json");
    std::fs::write(&file, json!({ "keys": [signer.jwk("k")] }).to_string()).unwrap();
    let task = ["token", "verify", "--jwks", file.to_str().unwrap(), "-"];
    let ended = gateway.cli(&task, &token).done();
    assert_eq!(raw(&ended.all()), "", "{}", ended.all());
    let own = ended.stdout.lines().filter(|line| !line.starts_with("  "));
    assert_eq!(own.collect::<Vec<_>>(), ["verified"]);
    for task in ["inspect", "verify"] {
        let ended = gateway.cli(&["token", task, "-"], &format!("a.{ORDERS}\nverified.c"));
        assert_eq!(raw(&ended.all()), "", "{}", ended.all());
        assert!(
            ended.stdout.lines().all(|line| line != "verified"),
            "{}",
            ended.all()
        );
    }
}

#[test]
fn names_of_people_stay_values_of_their_line() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_on("sled", &routes(&upstream));
    let name = "Eve\u{202e}\u{2066}  is_admin=true  status=active \u{65e5}\u{672c}";
    let task = [
        "account",
        "add",
        "eve",
        "--identity",
        "eve@example.org",
        "--name",
        name,
        "--password-stdin",
    ];
    let made = gateway.cli(&task, &password_of("eve")).done();
    let list = gateway.cli(&["account", "list"], "").done();
    let show = gateway.cli(&["account", "show", "eve"], "").done();
    for ended in [&made, &list, &show] {
        assert_eq!(raw(&ended.all()), "", "{}", ended.all());
    }
    assert!(list.stdout.contains("is_admin=false"), "{}", list.stdout);
    let shown = serde_json::from_str::<String>(&show.value("name")).unwrap();
    assert_eq!(shown, name);
    // In the list it is one quoted value, so no part of it is mistaken for a field.
    let line = list
        .stdout
        .lines()
        .find(|line| line.contains("username=eve"))
        .unwrap();
    let (_, rest) = line.split_once("name=\"").unwrap();
    assert!(rest.contains("\\u202e\\u2066  is_admin=true"), "{line}");
    let exported = gateway.cli(&["store", "export"], "").done();
    assert_eq!(raw(&exported.stdout), "", "{}", exported.stdout);
    let names = exported.stdout.lines().filter_map(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        find(&record, "name").map(str::to_owned)
    });
    assert!(
        names.collect::<Vec<_>>().contains(&name.to_owned()),
        "{}",
        exported.stdout
    );
}

/// Returns a string member of that name, at any depth.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    let fields = value.as_object()?;
    let here = fields.get(name).and_then(Value::as_str);
    here.or_else(|| fields.values().find_map(|inner| find(inner, name)))
}

#[test]
fn errors_that_quote_their_input_quote_it_as_text() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let order = format!("--{ORDERS}\ndoorward: done");
    let url = format!("http://any.test/public/{ORDERS}");
    let name = format!("no{ORDERS}\nbody");
    let cases: [(Vec<&str>, i32); 7] = [
        (vec!["token", "inspect", &order], 2),
        (vec![&order], 2),
        (vec!["explain", "GET", &url], 3),
        (vec!["explain", &name, "/public/x"], 1),
        (vec!["account", "show", &name], 1),
        (vec!["store", "check", "--backup", &name], 1),
        (vec!["doctor", "forward-auth", "--through", &name], 1),
    ];
    for (task, code) in cases {
        let ended = gateway.cli(&task, "").with(code);
        assert_eq!(raw(&ended.all()), "", "{task:?}: {}", ended.all());
        let forged = ended
            .stderr
            .lines()
            .find(|line| *line == "doorward: done" || *line == "body");
        assert_eq!(forged, None, "{task:?}: {}", ended.stderr);
    }
}

#[test]
fn the_echo_answers_with_text() {
    let gateway = Gateway::start(
        "[[upstream]]\nname = \"echo\"\naddresses = [\"builtin:echo\"]\n\
         [[route]]\npath = \"/**\"\nupstream = \"echo\"\nrequire = \"public\"\n",
    );
    let answer = gateway
        .get("/x")
        .header("X-Note", "a\u{9b}2J\u{202e}b")
        .send()
        .expect(200);
    assert_eq!(raw(answer.text()), "", "{}", answer.text());
    assert_eq!(answer.json()["headers"]["x-note"], "a\u{9b}2J\u{202e}b");
}
