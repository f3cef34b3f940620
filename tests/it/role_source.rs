//! Services that own their memberships: queried over HTTP, trusted for the resources they own, and refusing access when
//! they do not answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::http::Response;
use crate::harness::people::{Caller, Person};
use crate::harness::routes::{route, routes};
use crate::harness::upstream::{Exchange, Upstream};
use crate::harness::{at_once, now, wait_for};

const PER_ID: &str = "/m?uid={uid}&resource={resource}&id={id}";

/// The source's current answer.
#[derive(Clone)]
enum Says {
    Json(Value),
    Raw(Vec<u8>),
    Slowly(Duration, Value),
    Nothing,
}

/// A service that owns the memberships of `event`.
struct Source {
    upstream: Upstream,
    says: Arc<Mutex<Says>>,
}

impl Source {
    fn start(says: Says) -> Self {
        let says = Arc::new(Mutex::new(says));
        let shared = Arc::clone(&says);
        let upstream = Upstream::serving(move |exchange| {
            let says = shared.lock().unwrap().clone();
            exchange.close = true;
            match says {
                Says::Json(body) => exchange.answer(&body.to_string()),
                Says::Raw(bytes) => exchange.write(bytes),
                Says::Slowly(time, body) => late(exchange, time, &body),
                Says::Nothing => {}
            }
        });
        Self { upstream, says }
    }

    fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn config(&self, target: &str, ttl_s: u32, stale_max_s: u32) -> String {
        let address = self.upstream.address;
        format!(
            "[[role_source]]\nresources = [\"event\"]\nurl = \"http://{address}{target}\"\nttl_s = {ttl_s}\nstale_max_s = {stale_max_s}\n"
        )
    }
}

fn late(exchange: &mut Exchange, time: Duration, body: &Value) {
    std::thread::sleep(time);
    exchange.answer(&body.to_string());
}

fn role(id: &str, level: &str) -> Value {
    json!({"resource": "event", "id": id, "level": level})
}

fn member() -> Says {
    Says::Json(json!([role("7", "member")]))
}

struct Scene {
    upstream: Upstream,
    source: Source,
    gateway: Gateway,
    anna: Person,
}

fn config(upstream: &Upstream, source: &str) -> String {
    let levels = ["invitee", "member", "manager"].map(|level| {
        let require = format!("{{ any_role = [\"admin\", \"event-{{id}}-{level}\"] }}");
        route(&format!("/event-{level}/{{id}}/**"), &require)
    });
    let fixed = route("/seventh/**", "{ any_role = [\"event-7-member\"] }");
    format!("{source}{}{}{fixed}", routes(upstream), levels.concat())
}

fn scene(says: Says, target: &str, ttl_s: u32, stale_max_s: u32) -> Scene {
    let (upstream, source) = (Upstream::start(), Source::start(says));
    let gateway = Gateway::start(&config(
        &upstream,
        &source.config(target, ttl_s, stale_max_s),
    ));
    let anna = gateway.person("anna");
    Scene {
        upstream,
        source,
        gateway,
        anna,
    }
}

impl Scene {
    fn get(&self, path: &str) -> Response {
        self.gateway.get(path).by(&self.anna.caller()).send()
    }

    fn roles(&self, query: &str) -> Value {
        self.get(&format!("/auth/roles{query}")).expect(200).json()["roles"].clone()
    }

    fn refresh(&self, caller: &Caller, body: &Value) -> Response {
        self.gateway
            .post("/auth/roles/refresh")
            .by(caller)
            .json(body)
            .send()
    }

    /// Returns the number of log lines that contain this text.
    fn lines(&self, text: &str) -> usize {
        self.gateway
            .stderr()
            .lines()
            .filter(|line| line.contains(text))
            .count()
    }
}

#[test]
fn a_source_assigns_roles_on_its_own_resources_when_a_route_requires_them() {
    let scene = scene(member(), PER_ID, 60, 300);
    scene.get("/protected/x").expect(200);
    scene.get("/member/7/x").refused(403, "role_missing");
    scene.get("/reports/x").expect(200);
    assert_eq!(scene.source.upstream.count(), 0, "nobody had to ask");
    scene.get("/event-member/7/x").expect(200);
    let asked = scene.source.upstream.last();
    assert_eq!(
        asked.target,
        format!("/m?uid={}&resource=event&id=7", scene.anna.uid)
    );
    assert_eq!(
        (
            asked.method.as_str(),
            asked.header("authorization"),
            asked.header("cookie")
        ),
        ("GET", None, None)
    );
    assert_eq!(
        scene.upstream.last().header("x-auth-roles"),
        Some("user event-7-invitee event-7-member")
    );
    scene.get("/event-invitee/7/x").expect(200);
    scene.get("/seventh/x").expect(200);
    scene.get("/event-manager/7/x").refused(403, "role_missing");
    assert_eq!(
        scene.source.upstream.count(),
        1,
        "one answer serves all that ask the same"
    );
    // Its answer about 8 contains 7: that is not an answer about 8.
    scene.get("/event-member/8/x").refused(403, "role_missing");
    // A segment that cannot be an id has no members, and is not asked about.
    let before = scene.source.upstream.count();
    for id in ["7%20", "%3F", "7;x", "7%25"] {
        let status = scene.get(&format!("/event-member/{id}/x")).status;
        assert!(matches!(status, 400 | 403), "{id}: {status}");
    }
    assert_eq!(scene.source.upstream.count(), before);
    // Callers that are not recognised cause no question, and each caller has an answer of its own.
    scene
        .gateway
        .get("/event-member/7/x")
        .send()
        .refused(401, "credential_missing");
    scene.source.says(Says::Json(json!({"memberships": []})));
    let ben = scene.gateway.person("ben");
    scene
        .gateway
        .get("/event-member/7/x")
        .by(&ben.caller())
        .send()
        .refused(403, "role_missing");
    scene.get("/event-member/7/x").expect(200);
    let told = scene
        .gateway
        .cli(
            &[
                "explain",
                "GET",
                "/event-member/7/x",
                "--as",
                &scene.anna.uid,
            ],
            "",
        )
        .done();
    assert!(told.stdout.contains("role source"), "{}", told.stdout);
}

#[test]
fn a_hundred_requests_at_once_are_one_question() {
    let scene = scene(
        Says::Slowly(Duration::from_millis(700), json!([role("7", "member")])),
        PER_ID,
        60,
        300,
    );
    let statuses = at_once(100, |_| scene.get("/event-member/7/x").status);
    assert_eq!(statuses, vec![200; 100]);
    assert_eq!(scene.source.upstream.count(), 1);
    let text = scene.gateway.admin_get("/metrics");
    assert!(
        text.text()
            .contains("doorward_role_source_requests_total 1"),
        "{}",
        text.text()
    );
}

#[test]
fn the_last_answer_is_used_for_a_while_then_routes_that_need_it_are_closed() {
    let scene = scene(member(), PER_ID, 1, 2);
    let (root, address) = (
        scene.gateway.administrator("root"),
        scene.source.upstream.address,
    );
    scene.get("/event-member/7/x").expect(200);
    scene.source.says(Says::Nothing);
    let start = now();
    wait_for("a failed question", || {
        scene.get("/event-member/7/x").expect(200);
        (1 < scene.source.upstream.count()).then_some(())
    });
    scene.get("/event-member/7/x").expect(200);
    let before = scene.source.upstream.count();
    let refused = wait_for("the end of the old answer", || {
        let answer = scene.get("/event-member/7/x");
        assert!(matches!(answer.status, 200 | 503), "{}", answer.status);
        (answer.status == 503).then_some(answer)
    });
    assert!(
        Duration::from_millis(2500) < start.elapsed(),
        "{:?}",
        start.elapsed()
    );
    refused.refused(503, "role_source_unavailable");
    assert!(refused.header("retry-after").is_some());
    // Without success, and still about once a second.
    assert!(
        scene.source.upstream.count() - before <= 5,
        "{}",
        scene.source.upstream.count() - before
    );
    scene
        .get("/auth/roles?resource=event&id=7")
        .refused(503, "role_source_unavailable");
    scene
        .get("/event-member/9/x")
        .refused(503, "role_source_unavailable");
    // Only those: requirements that do not need the source still work.
    for path in [
        "/protected/x",
        "/reports/x",
        "/auth/me",
        "/auth/roles",
        "/auth/roles?resource=list",
    ] {
        scene.get(path).expect(200);
    }
    scene.get("/member/7/x").refused(403, "role_missing");
    scene
        .gateway
        .get("/event-member/7/x")
        .by(&root.caller())
        .send()
        .expect(200);
    assert_eq!(scene.gateway.readiness().unwrap().status, 200);
    assert!(1 <= scene.lines("sent an invalid answer") && scene.lines(&address.to_string()) <= 4);
    scene.source.says(member());
    wait_for("the source to be heard again", || {
        (scene.get("/event-member/7/x").status == 200).then_some(())
    });
}

#[test]
fn an_invalid_answer_closes_the_route_and_redirects_are_not_followed() {
    let elsewhere = Upstream::start();
    let scene = scene(Says::Nothing, PER_ID, 60, 300);
    let good = json!([role("1", "member")]).to_string();
    let raw = |head: &str, body: &str| {
        Says::Raw(
            format!(
                "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into(),
        )
    };
    let large = format!(
        "[{}]",
        vec![role("1", "member").to_string(); 30_000].join(",")
    );
    let redirect = format!("302 Found\r\nLocation: http://{}/m", elsewhere.address);
    let cases = [
        ("garbage", raw("200 OK", "<html>")),
        ("null", raw("200 OK", "null")),
        (
            "a number",
            raw(
                "200 OK",
                r#"[{"resource":"event","id":1,"level":"member"}]"#,
            ),
        ),
        ("empty", raw("200 OK", "")),
        ("too large", raw("200 OK", &large)),
        ("a redirect", raw(&redirect, &good)),
        ("an error", raw("500 X", &good)),
        ("unknown", raw("404 X", &good)),
        ("no HTTP", Says::Raw(b"member\r\n\r\n".to_vec())),
        (
            "cut off",
            Says::Raw(format!("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{good}").into()),
        ),
        ("nothing", Says::Nothing),
    ];
    for (index, (what, says)) in cases.into_iter().enumerate() {
        scene.source.says(says);
        let answer = scene.get(&format!("/event-member/{index}x/x"));
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (503, "role_source_unavailable"),
            "{what}"
        );
        answer.refused_as(503);
    }
    assert_eq!(elsewhere.count(), 0);
}

#[test]
fn a_slow_source_times_out_and_delays_no_other_request() {
    let scene = scene(Says::Nothing, PER_ID, 60, 300);
    scene.source.says(Says::Slowly(
        Duration::from_secs(6),
        json!([role("slow", "member")]),
    ));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let start = now();
            scene
                .get("/event-member/slow/x")
                .refused(503, "role_source_unavailable");
            start.elapsed()
        });
        let start = now();
        scene.get("/protected/x").expect(200);
        assert!(
            start.elapsed() < Duration::from_millis(1500),
            "{:?}",
            start.elapsed()
        );
        let waited = waiting.join().unwrap();
        assert!((1..5).contains(&waited.as_secs()), "{waited:?}");
    });
}

#[test]
fn a_source_counts_only_for_its_own_resources_and_the_requested_uid() {
    let scene = scene(Says::Nothing, PER_ID, 1, 0);
    let ben = scene.gateway.person("ben");
    let mut other_uid = role("7", "manager");
    other_uid["uid"] = json!(ben.uid);
    let mut own_uid = role("7", "invitee");
    own_uid["uid"] = json!(scene.anna.uid);
    let list = json!({"resource": "list", "id": "7", "level": "manager"});
    let answer = json!([
        other_uid,
        list,
        role("8", "manager"),
        role("7", "owner"),
        own_uid,
        role("a/b", "manager")
    ]);
    for round in 0..2 {
        scene.source.says(Says::Json(answer.clone()));
        assert_eq!(
            scene.roles("?resource=event&id=7"),
            json!(["event-7-invitee"]),
            "{round}"
        );
        for path in [
            "/event-member/7/x",
            "/event-manager/7/x",
            "/member/7/x",
            "/manager/7/x",
            "/admin/x",
        ] {
            scene.get(path).refused(403, "role_missing");
        }
        scene.source.says(Says::Json(json!([])));
        scene.get("/event-member/8/x").refused(403, "role_missing");
        scene
            .gateway
            .get("/event-manager/7/x")
            .by(&ben.caller())
            .send()
            .refused(403, "role_missing");
        std::thread::sleep(Duration::from_millis(1100));
    }
    for excess in [
        "another uid",
        "another resource",
        "another id, or no id",
        "a level that is not declared",
    ] {
        assert_eq!(
            scene.lines(excess),
            1,
            "{excess}: {}",
            scene.gateway.stderr()
        );
    }
}

#[test]
fn a_refresh_reloads_roles_and_reports_a_change() {
    let scene = scene(member(), PER_ID, 60, 300);
    let anna = scene.anna.caller();
    let on = |resource: &str, force: bool| json!({"resource": resource, "id": "7", "force": force});
    let told = |body: &Value| {
        let answer = scene.refresh(&anna, body).expect(200).json();
        (answer["roles"].clone(), answer["changed"].clone())
    };
    // In the store: the next request sees the change in any case, so only the question remains whether it changed.
    assert_eq!(
        told(&json!({"resource": "list", "id": "7"})),
        (json!([]), json!(false))
    );
    scene.gateway.member("anna", "7", "member");
    let as_member = json!(["list-7-invitee", "list-7-member"]);
    assert_eq!(told(&on("list", false)), (as_member.clone(), json!(true)));
    assert_eq!(told(&on("list", false)), (as_member.clone(), json!(false)));
    scene.gateway.member("anna", "7", "invitee");
    scene.get("/invitee/7/x").expect(200);
    assert_eq!(
        told(&on("list", true)),
        (json!(["list-7-invitee"]), json!(false))
    );
    scene
        .gateway
        .cli(&["member", "remove", "anna", "list", "7"], "")
        .done();
    assert_eq!(told(&on("list", true)), (json!([]), json!(true)));
    // The documented file does not override what follows from the environment.
    scene.get("/event-member/7/x").expect(200);
    let as_member = json!(["event-7-invitee", "event-7-member"]);
    assert_eq!(told(&on("event", false)), (as_member.clone(), json!(false)));
    scene.source.says(Says::Json(json!([role("7", "manager")])));
    assert_eq!(told(&on("event", false)), (as_member, json!(false)));
    scene.get("/event-manager/7/x").refused(403, "role_missing");
    let (roles, changed) = told(&on("event", true));
    assert_eq!((roles.as_array().unwrap().len(), changed), (3, json!(true)));
    scene.get("/event-manager/7/x").expect(200);
    scene.source.says(Says::Json(json!([])));
    assert_eq!(told(&on("event", true)), (json!([]), json!(true)));
    scene.get("/event-invitee/7/x").refused(403, "role_missing");
    assert_eq!(told(&on("event", true)), (json!([]), json!(false)));
    // A forced read has no fallback.
    scene.source.says(Says::Nothing);
    scene
        .refresh(&anna, &on("event", true))
        .refused(503, "role_source_unavailable");
    assert_eq!(told(&on("event", false)), (json!([]), json!(false)));
}

#[test]
fn forced_readings_are_counted_for_each_caller_and_the_rest_is_checked() {
    let scene = scene(member(), PER_ID, 60, 300);
    let (anna, ben) = (scene.anna.caller(), scene.gateway.person("ben"));
    let forced = json!({"resource": "event", "id": "7", "force": true});
    for _ in 0..10 {
        scene.refresh(&anna, &forced).expect(200);
    }
    let before = scene.source.upstream.count();
    let refused = scene.refresh(&anna, &forced);
    refused.refused(429, "rate_limited");
    assert!(refused.header("retry-after").is_some());
    let key = scene.gateway.key(&scene.anna, &[]).caller();
    scene.refresh(&key, &forced).refused(429, "rate_limited");
    assert_eq!(scene.source.upstream.count(), before);
    scene
        .refresh(&anna, &json!({"resource": "event", "id": "7"}))
        .expect(200);
    scene.refresh(&ben.caller(), &forced).expect(200);
    let cases = [
        (json!({}), 400),
        (json!({"resource": "event"}), 400),
        (json!({"id": "7"}), 400),
        (json!({"resource": "event", "id": "7", "x": 1}), 400),
        (json!({"resource": "event", "id": "7", "force": "yes"}), 400),
        (json!({"resource": "venue", "id": "7"}), 422),
        (json!({"resource": "Event", "id": "7"}), 422),
        (json!({"resource": "event", "id": "a/b"}), 422),
        (json!({"resource": "event", "id": ""}), 422),
    ];
    for (body, status) in cases {
        scene.refresh(&anna, &body).refused_as(status);
    }
    scene
        .refresh(&Caller::Anonymous, &forced)
        .refused(401, "credential_missing");
    scene
        .gateway
        .get("/auth/roles/refresh")
        .by(&anna)
        .send()
        .refused_as(405);
}

#[test]
fn the_roles_endpoint_queries_the_source_of_the_requested_resource() {
    let scene = scene(member(), PER_ID, 60, 300);
    let root = scene.gateway.administrator("root");
    scene.gateway.member("anna", "1", "invitee");
    let event = json!(["event-7-invitee", "event-7-member"]);
    assert_eq!(scene.roles("?resource=event&id=7"), event);
    assert_eq!(
        scene.roles("?resource=event"),
        json!([]),
        "this source cannot be asked without an id"
    );
    assert_eq!(scene.roles(""), json!(["user", "list-1-invitee"]));
    let of_anna = format!("/auth/roles?resource=event&id=7&uid={}", scene.anna.uid);
    assert_eq!(
        scene
            .gateway
            .get(&of_anna)
            .by(&root.caller())
            .send()
            .expect(200)
            .json()["roles"],
        event
    );
    let key = scene.gateway.key(&scene.anna, &[]).caller();
    assert_eq!(
        scene
            .gateway
            .get("/auth/roles?resource=event&id=7")
            .by(&key)
            .send()
            .expect(200)
            .json()["roles"],
        event
    );
    // A limited key has only the roles within its limits, from a source as well.
    let limits = json!({"resources": [{"resource": "event", "id": "7", "level": "invitee"}]});
    let made = scene
        .gateway
        .post("/auth/apikeys")
        .by(&scene.anna.caller())
        .json(&limits)
        .send()
        .expect(201);
    let limited = Caller::Key(made.member("apikey"));
    scene.gateway.secret(&made.member("apikey"));
    let wanted = [
        ("/event-invitee/7/x", 200),
        ("/event-member/7/x", 403),
        ("/event-invitee/8/x", 403),
    ];
    for (path, status) in wanted {
        assert_eq!(
            scene.gateway.get(path).by(&limited).send().status,
            status,
            "{path}"
        );
    }
}

#[test]
fn a_source_without_a_place_for_the_id_answers_for_all_of_them() {
    let scene = scene(
        Says::Json(json!([role("7", "member"), role("9", "invitee")])),
        "/all/{resource}/{uid}",
        60,
        300,
    );
    let all = json!(["event-7-invitee", "event-7-member", "event-9-invitee"]);
    assert_eq!(scene.roles("?resource=event"), all);
    assert_eq!(
        scene.roles("?resource=event&id=9"),
        json!(["event-9-invitee"])
    );
    assert_eq!(
        scene.roles(""),
        json!([
            "user",
            "event-7-invitee",
            "event-7-member",
            "event-9-invitee"
        ])
    );
    scene.get("/event-member/7/x").expect(200);
    scene.get("/event-member/9/x").refused(403, "role_missing");
    assert_eq!(scene.source.upstream.count(), 1);
    assert_eq!(
        scene.source.upstream.last().target,
        format!("/all/event/{}", scene.anna.uid)
    );
}

#[test]
fn memberships_have_one_owner() {
    let scene = scene(Says::Json(json!([])), PER_ID, 60, 300);
    let root = scene.gateway.administrator("root");
    // The store accepts no membership for such a resource.
    let target = format!("/auth/members/event/7/{}", scene.anna.uid);
    for request in [
        scene.gateway.put(&target).json(&json!({"level": "member"})),
        scene.gateway.delete(&target),
        scene.gateway.get(&target),
        scene.gateway.get("/auth/members/event/7"),
    ] {
        request.by(&root.caller()).send().refused(404, "not_found");
    }
    assert_eq!(
        scene
            .gateway
            .cli(&["member", "set", "anna", "event", "7", "member"], "")
            .code,
        Some(1)
    );
    // A membership from before the source took over no longer counts.
    let local = format!(
        "[roles]\nresources = [\"list\", \"event\"]\n{}",
        config(&scene.upstream, "")
    );
    scene.gateway.configure(&local);
    scene.gateway.reload();
    wait_for("the store to own them", || {
        (scene
            .gateway
            .cli(&["member", "set", "anna", "event", "7", "member"], "")
            .code
            == Some(0))
        .then_some(())
    });
    scene.get("/event-member/7/x").expect(200);
    scene.gateway.configure(&config(
        &scene.upstream,
        &scene.source.config(PER_ID, 60, 300),
    ));
    scene.gateway.reload();
    wait_for("the source to own them", || {
        (scene.get("/event-member/7/x").status == 403).then_some(())
    });
    assert_eq!(scene.roles(""), json!(["user"]));
    // Two owners of one resource are a configuration error.
    let both = format!(
        "[roles]\nresources = [\"event\"]\n{}",
        config(&scene.upstream, &scene.source.config(PER_ID, 60, 300))
    );
    scene.gateway.configure(&both);
    let told = scene.gateway.cli(&["check"], "").with(1);
    assert!(told.all().contains("roles.resources"), "{}", told.all());
}

#[test]
fn a_reload_forgets_no_answer() {
    let scene = scene(member(), PER_ID, 60, 300);
    scene.get("/event-member/7/x").expect(200);
    scene.source.says(Says::Nothing);
    scene.gateway.reload();
    wait_for("the reload", || {
        (1 <= scene.lines("configuration reloaded")).then_some(())
    });
    scene.get("/event-member/7/x").expect(200);
    assert_eq!(scene.source.upstream.count(), 1);
}
