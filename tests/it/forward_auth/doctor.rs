//! `doorward doctor forward-auth`: the printed configuration works unchanged, the probe finds no fault in it, and it
//! finds the known mistakes once they are made.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::forward_auth::browser::{with_tls, write_certificate};
use crate::forward_auth::proxies::{Kind, Proxy, filled, merged};
use crate::harness::cli::Ended;
use crate::harness::gateway::Gateway;
use crate::harness::http::Connection;
use crate::harness::{free_port, wait_for};

const SECRET: &str = "a-secret-of-these-tests";

/// A gateway, and the ports around it.
struct Stage {
    gateway: Gateway,
    key: String,
    echo: SocketAddr,
    proxy: SocketAddr,
}

/// A line of a right configuration, its wrong replacement, and the expected findings; none if the replacement is as
/// good.
struct Mistake {
    line: &'static str,
    instead: &'static str,
    found: &'static [&'static str],
    /// Additional options of the proxy's command line.
    options: &'static [&'static str],
}

const fn mistake(
    line: &'static str,
    instead: &'static str,
    found: &'static [&'static str],
) -> Mistake {
    Mistake {
        line,
        instead,
        found,
        options: &[],
    }
}

impl Stage {
    fn new() -> Self {
        let gateway = Gateway::prepare("memory", "");
        let local = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let (echo, proxy) = (local(), local());
        let ports = [
            ("8000", proxy.port()),
            ("8080", gateway.address.port()),
            ("9001", echo.port()),
            ("9191", free_port()),
        ];
        let example = filled("forward-auth.toml", &ports).replace("change-me-change-me", SECRET);
        let renamed = "[[route]]\npath = \"/renamed/**\"\nupstream = \"app\"\nrequire = \"optional\"\nidentity_headers = { uid = \"Remote-User\" }\n";
        let base = fs::read_to_string(gateway.config()).unwrap();
        gateway.write_config(&merged(&base, &format!("{example}\n{renamed}")));
        gateway.secret(SECRET);
        gateway.run();
        let anna = gateway.person("anna");
        let key = gateway.key(&anna, &[]).text;
        Self {
            gateway,
            key,
            echo,
            proxy,
        }
    }

    /// Returns the configuration printed for a proxy, file by file, filled in as its notes say.
    fn printed(&self, kind: Kind) -> Vec<String> {
        let name = match kind {
            Kind::Nginx => "nginx",
            Kind::Traefik => "traefik",
            Kind::Caddy => "caddy",
            Kind::Envoy => "envoy",
            Kind::EnvoyGrpc => "envoy-grpc",
            Kind::Haproxy => "haproxy",
        };
        let task = ["doctor", "forward-auth", "--proxy", name];
        let printed = self.gateway.cli(&task, "").done();
        assert!(!printed.all().contains(SECRET), "{}", printed.all());
        let text = printed
            .stdout
            .replace("8000", &self.proxy.port().to_string());
        let text = self.with_secret(&text, &printed.stderr);
        match text.split_once("-- ==== doorward.lua") {
            Some((config, lua)) => vec![config.to_owned(), format!("--{lua}")],
            None => vec![text],
        }
    }

    /// Inserts the secret with exactly the printed command.
    fn with_secret(&self, text: &str, notes: &str) -> String {
        let dir = self.gateway.dir();
        let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
        write("SECRET_FILE", &format!("{SECRET}\n"));
        write("PRINTED", text);
        let command = notes.lines().find_map(|note| note.split_once(": umask"));
        let (_, command) = command.unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("umask {command}")]);
        assert!(shell.current_dir(dir).status().unwrap().success());
        fs::read_to_string(dir.join("CONFIGURATION")).unwrap()
    }

    /// Starts the proxy with the printed configuration, changed by a mistake.
    fn proxy(&self, kind: Kind, mistake: Option<&Mistake>) -> Proxy {
        let mut files = self.printed(kind);
        if let Some(mistake) = mistake {
            let line = self.filled(mistake.line);
            let hits = files.iter().filter(|file| file.contains(&line)).count();
            assert_eq!(hits, 1, "{kind:?}: {line} in {files:?}");
            for file in &mut files {
                *file = file.replace(&line, &self.filled(mistake.instead));
            }
        }
        let change = |example: String| {
            let is_lua = example.contains("core.register_action");
            let mut files = files.iter();
            let file = files.find(|file| file.contains("core.register_action") == is_lua);
            file.unwrap().clone()
        };
        let options = mistake.map_or(&[][..], |mistake| mistake.options);
        let ports = [("8000", self.proxy.port())];
        let mut proxy = Proxy::start_with(kind, &ports, &change, options);
        wait_for("a proxy with its configuration", || {
            proxy.lives();
            TcpStream::connect(self.proxy).ok()?;
            let request =
                "GET /public/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            let answer = Connection::open(self.proxy)
                .write(request)
                .try_answer(false)?;
            (answer.status != 404).then_some(())
        });
        proxy
    }

    fn filled(&self, text: &str) -> String {
        text.replace("{echo}", &self.echo.to_string())
    }

    /// Probes with the command's own echo.
    fn run(&self, more: &[&str], stdin: &str) -> Ended {
        let (through, echo) = (format!("http://{}", self.proxy), self.echo.to_string());
        let task = [
            "doctor",
            "forward-auth",
            "--through",
            &through,
            "--echo",
            &echo,
        ];
        self.gateway.cli(&[&task[..], more].concat(), stdin)
    }

    /// Probes with everything that a complete examination needs.
    fn examine(&self, more: &[&str]) -> Ended {
        let log = self.gateway.dir().join("access.log");
        let log_option = ["--access-log", log.to_str().unwrap(), "--apikey", "-"];
        let is_over = AtomicBool::new(false);
        let ended = std::thread::scope(|scope| {
            // Standard output of the gateway as a file, as a service manager would keep it.
            scope.spawn(|| {
                let next = log.with_extension("next");
                while !is_over.load(Ordering::Relaxed) {
                    fs::write(&next, self.gateway.stdout()).unwrap();
                    fs::rename(&next, &log).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
            });
            let ended = self.run(&[&log_option, more].concat(), &self.key);
            is_over.store(true, Ordering::Relaxed);
            ended
        });
        for secret in [SECRET, &self.key] {
            assert!(!ended.all().contains(secret), "{}", ended.all());
        }
        ended
    }
}

/// Returns the codes of the findings.
fn found(ended: &Ended) -> Vec<&str> {
    let lines = ended.stdout.lines();
    lines
        .filter_map(|line| line.strip_prefix("FOUND "))
        .collect()
}

fn finds(kind: Kind, mistakes: &[Mistake], open_failures: &[Mistake]) {
    let stage = Stage::new();
    let proxy = stage.proxy(kind, None);
    let ended = stage.examine(&[]).with(0);
    assert!(ended.stdout.ends_with("nothing found\n"), "{}", ended.all());
    // The routes have everything that the checks need, so only one check is left for another run.
    let skipped = ended
        .stdout
        .lines()
        .filter(|line| line.starts_with("skip "));
    let skipped: Vec<_> = skipped.collect();
    assert!(
        matches!(skipped.as_slice(), [only] if only.contains("--while-down")),
        "{skipped:?}"
    );
    drop(proxy);
    let mut missed = Vec::new();
    let mut see = |mistake: &Mistake, ended: &Ended| {
        let code = if mistake.found.is_empty() { 0 } else { 3 };
        if ended.code != Some(code) || found(ended) != mistake.found {
            missed.push(format!("{:?}: {}", mistake.line, ended.all()));
        }
    };
    for mistake in mistakes {
        let _proxy = stage.proxy(kind, Some(mistake));
        see(mistake, &stage.examine(&[]));
    }
    assert!(stage.gateway.stop().success());
    let proxy = stage.proxy_without_gateway(kind, None);
    // The stand-in for the gateway answers in the protocol that the proxy expects.
    let while_down: &[&str] = match kind {
        Kind::EnvoyGrpc => &["--while-down", "--proxy", "envoy-grpc"],
        _ => &["--while-down"],
    };
    let ended = stage.examine(while_down).with(0);
    assert!(ended.stdout.starts_with("ok    away"), "{}", ended.all());
    drop(proxy);
    for mistake in open_failures {
        let _proxy = stage.proxy_without_gateway(kind, Some(mistake));
        see(mistake, &stage.examine(while_down));
    }
    assert!(missed.is_empty(), "{kind:?}: {}", missed.join("\n"));
}

impl Stage {
    fn proxy_without_gateway(&self, kind: Kind, mistake: Option<&Mistake>) -> Proxy {
        assert!(!self.gateway.is_running());
        self.proxy(kind, mistake)
    }
}

const OF_NGINX: &[Mistake] = &[
    mistake("auth_request /_doorward;", "", &["not_asked"]),
    mistake(
        "auth_request /_doorward;",
        "satisfy any;\n        allow 127.0.0.0/8;\n        deny all;\n        auth_request /_doorward;",
        &["not_asked"],
    ),
    mistake(
        "    location / {\n",
        "    location ~* \\.(css|js)$ {\n        proxy_pass http://app;\n    }\n    location / {\n",
        &["not_asked"],
    ),
    mistake(
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        &[],
    ),
    mistake(
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Forwarded-For \"\";",
        &["client_lost"],
    ),
    mistake(
        "error_page 401 @doorward_unauthorized;",
        "error_page 401 =403 @doorward_forbidden;",
        &["refusal_broken", "login_not_offered"],
    ),
    mistake(
        "        proxy_set_header X-Auth-Scopes $doorward_scopes;\n",
        "",
        &["identity_left"],
    ),
    mistake(
        "        proxy_set_header X-Original-Method $request_method;\n",
        "",
        &["method_missing"],
    ),
    mistake(
        "        proxy_set_header X-Forwarded-Uri \"\";\n",
        "",
        &["description_passed"],
    ),
    mistake(
        "$server_port$request_uri",
        "$server_port$uri",
        &["target_missing"],
    ),
    mistake(
        "proxy_pass http://app;",
        "rewrite ^/public/(.*)$ /other/$1 break;\n        proxy_pass http://app;",
        &["path_mismatch"],
    ),
    mistake(
        "        proxy_set_header X-Doorward-Secret \"a-secret-of-these-tests\";\n",
        "",
        &["forwarder_refused"],
    ),
    mistake(
        "location /auth/verify {",
        "location /auth/other {",
        &["verify_reachable"],
    ),
    mistake(
        "    large_client_header_buffers 4 16k;\n",
        "",
        &["cookie_refused"],
    ),
    mistake(
        "    proxy_buffer_size 64k;\n    proxy_buffers 4 64k;\n",
        "    proxy_buffer_size 4k;\n",
        &["long_answer_lost"],
    ),
    mistake(
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Forwarded-For $http_x_forwarded_for;",
        &["client_believed"],
    ),
    mistake(
        "error_page 401 @doorward_unauthorized;",
        "error_page 401 =200 @doorward_unauthorized;",
        &["refusal_is_success"],
    ),
    mistake(
        "        proxy_set_header Upgrade $doorward_upgrade;\n",
        "",
        &["websocket_lost"],
    ),
    mistake(
        "        proxy_set_header Authorization \"\";\n",
        "",
        &["credential_passed"],
    ),
    mistake(
        "        proxy_set_header X-Api-Key \"\";\n",
        "",
        &["credential_passed"],
    ),
];

#[test]
fn mistakes_of_nginx_are_found() {
    let open_failures = [mistake(
        "proxy_pass http://doorward/auth/verify;",
        "proxy_pass http://doorward/auth/verify;\n        proxy_intercept_errors on;\n        error_page 500 502 503 504 = @open;\n    }\n    location @open {\n        return 204;\n    }\n    location = /unused {",
        &["fails_open"],
    )];
    finds(Kind::Nginx, OF_NGINX, &open_failures);
}

#[test]
fn mistakes_of_traefik_are_found() {
    let mistakes = [
        // Both at the entry point and here: either one alone is compensated by the other.
        Mistake {
            line: "trustForwardHeader: false",
            instead: "trustForwardHeader: true",
            found: &["method_believed", "target_believed", "description_passed"],
            options: &["--entryPoints.web.forwardedHeaders.insecure=true"],
        },
        mistake(
            "[doorward-before, doorward, doorward-after]",
            "[doorward-after]",
            &["not_asked"],
        ),
        mistake(
            "    # Login, pages",
            "    put:\n      entryPoints: [web]\n      rule: Method(`PUT`)\n      priority: 3\n      service: app\n    # Login, pages",
            &["not_asked"],
        ),
        mistake("          - X-Auth-Scopes\n", "", &["identity_left"]),
        mistake(
            "          X-Original-Method: \"\"\n",
            "",
            &["description_passed"],
        ),
        mistake(
            "          X-Doorward-Secret: a-secret-of-these-tests\n",
            "",
            &["forwarder_refused"],
        ),
        mistake(
            "        trustForwardHeader: false\n",
            "        trustForwardHeader: false\n        authRequestHeaders: [X-Doorward-Secret, X-Api-Key, Authorization, Accept, Origin, Sec-Fetch-Mode, Sec-WebSocket-Key, Access-Control-Request-Method]\n",
            // Names in a spelling that only the service reads as an identity are also hidden from the gateway.
            &["identity_forged", "cookie_lost"],
        ),
        mistake(" && !PathPrefix(`/auth/verify`)", "", &["verify_reachable"]),
        mistake("          X-Api-Key: \"\"\n", "", &["credential_passed"]),
    ];
    finds(Kind::Traefik, &mistakes, &[]);
}

#[test]
fn mistakes_of_caddy_are_found() {
    let mistakes = [
        mistake(
            "copy_headers X-Auth-Uid X-Auth-Username X-Auth-Roles",
            "copy_headers X-Auth-Uid X-Auth-Username",
            &["identity_lost"],
        ),
        mistake("request_header -Connection\n", "", &["identity_dropped"]),
        mistake(
            "\t\t\tforward_auth ",
            "\t\t\t@asked method GET POST\n\t\t\tforward_auth @asked ",
            &["not_asked"],
        ),
        mistake(
            "uri /auth/verify\n",
            "uri /auth/verify\n\t\t\t\theader_up X-Forwarded-Method {header.X-Forwarded-Method}\n",
            &["method_missing"],
        ),
        mistake("request_header -X-Original-*", "", &["description_passed"]),
        mistake(
            "\tadmin off\n",
            "\tadmin off\n\tservers {\n\t\ttrusted_proxies static 127.0.0.0/8\n\t}\n",
            &["description_passed"],
        ),
        mistake(
            "header_up X-Doorward-Secret a-secret-of-these-tests",
            "",
            &["forwarder_refused"],
        ),
        mistake(
            "handle /auth/verify* {",
            "handle /auth/other* {",
            &["verify_reachable"],
        ),
        mistake("request_header -X-Api-Key", "", &["credential_passed"]),
    ];
    let open_failures = [mistake(
        "handle /auth/verify* {",
        "handle_errors {\n\t\treverse_proxy {echo}\n\t}\n\thandle /auth/verify* {",
        &["fails_open"],
    )];
    finds(Kind::Caddy, &mistakes, &open_failures);
}

#[test]
fn mistakes_of_envoy_are_found() {
    let mistakes = [
        mistake(
            "- { exact: accept, ignore_case: true }",
            "",
            &["login_not_offered"],
        ),
        mistake(
            "- { exact: cookie, ignore_case: true }",
            "",
            &["cookie_lost"],
        ),
        mistake(
            "- { exact: x-forwarded-for, ignore_case: true }",
            "",
            &["client_lost"],
        ),
        mistake(
            "- { exact: access-control-request-method, ignore_case: true }",
            "",
            &["preflight_blocked"],
        ),
        mistake(
            "                        - match: { prefix: / }\n",
            "                        - match: { safe_regex: { regex: \".*\\\\.css\" } }\n                          route: { cluster: app }\n                          typed_per_filter_config: *unasked\n                        - match: { prefix: / }\n",
            &["not_asked"],
        ),
        mistake(
            "- { exact: x-auth-roles, ignore_case: true }",
            "",
            &["identity_lost"],
        ),
        mistake(
            "x[^a-z0-9](auth|original|doorward)[^a-z0-9].*",
            "x[^a-z0-9]other[^a-z0-9].*",
            &["identity_forged"],
        ),
        mistake(
            "use_remote_address: true",
            "use_remote_address: false",
            &["description_passed", "client_believed"],
        ),
        mistake(
            "- { key: x-doorward-secret, value: a-secret-of-these-tests }",
            "- { key: x-other, value: a-secret-of-these-tests }",
            &["forwarder_refused"],
        ),
        mistake(
            "- match: { prefix: /auth/verify }",
            "- match: { prefix: /auth/other }",
            &["verify_reachable"],
        ),
        mistake(
            "upgrade_type: websocket",
            "upgrade_type: other",
            &["websocket_lost"],
        ),
        mistake(
            "request_headers_to_remove: [authorization, x-api-key]",
            "",
            &["credential_passed"],
        ),
    ];
    let open_failures = [mistake(
        "failure_mode_allow: false",
        "failure_mode_allow: true",
        &["fails_open"],
    )];
    finds(Kind::Envoy, &mistakes, &open_failures);
}

#[test]
fn mistakes_of_envoy_over_grpc_are_found() {
    let mistakes = [
        mistake(
            "- match: { prefix: /auth/verify }",
            "- match: { prefix: /auth/other }",
            &["verify_reachable"],
        ),
        mistake(
            "- { key: x-doorward-secret, value: a-secret-of-these-tests }",
            "- { key: x-other, value: a-secret-of-these-tests }",
            &["forwarder_refused"],
        ),
    ];
    let open_failures = [mistake(
        "failure_mode_allow: false",
        "failure_mode_allow: true",
        &["fails_open"],
    )];
    finds(Kind::EnvoyGrpc, &mistakes, &open_failures);
}

#[test]
fn mistakes_of_haproxy_are_found() {
    let mistakes = [
        mistake(
            "    http-request lua.doorward unless { path_beg /auth/ }\n",
            "",
            &["not_asked"],
        ),
        // A prefix without its slash matches other paths too, and so does a comparison without case.
        mistake(
            "lua.doorward unless { path_beg /auth/ }",
            "lua.doorward unless { path_beg /auth }",
            &["not_asked"],
        ),
        mistake(
            "lua.doorward unless { path_beg /auth/ }",
            "lua.doorward unless { path_beg -i /auth/ }",
            &["not_asked"],
        ),
        mistake(
            "            txn.http:req_set_header(name, value)\n",
            "            txn.http:req_set_header(name, value)\n            if name == \"x-auth-uid\" then txn.http:req_set_header(\"x-user\", value) end\n",
            &["identity_forged"],
        ),
        mistake(
            "    http-request del-header ^x[^a-z0-9](auth|original|doorward)[^a-z0-9] -m reg\n",
            "",
            &["identity_left", "identity_forged"],
        ),
        mistake(
            "headers[\"x-forwarded-method\"] = { txn.sf:method() }",
            "headers[\"x-forwarded-method\"] = sent[\"x-real-method\"]",
            &["question_failed"],
        ),
        mistake(
            "headers[\"x-forwarded-for\"] = { txn.sf:src() }",
            "headers[\"x-forwarded-for\"] = sent[\"x-real-ip\"]",
            &["client_believed"],
        ),
        mistake(
            "headers[\"x-doorward-secret\"] = { SECRET }",
            "",
            &["forwarder_refused"],
        ),
        mistake(
            "tune.bufsize 32768",
            "tune.bufsize 8192",
            &["cookie_refused"],
        ),
        mistake(
            "http-request deny deny_status 404 if { path_beg,url_dec -m beg /auth/verify }",
            "",
            &["verify_reachable"],
        ),
        mistake("[302] = true, [400]", "[400]", &["refusal_broken"]),
    ];
    let open_failures = [mistake(
        "if answer.status ~= 200 then",
        "if answer.status < 500 and answer.status ~= 200 then",
        &["fails_open"],
    )];
    finds(Kind::Haproxy, &mistakes, &open_failures);
}

#[test]
fn a_proxy_that_is_not_listed_and_a_gateway_that_lists_too_many_are_found() {
    let stage = Stage::new();
    let right = fs::read_to_string(stage.gateway.config()).unwrap();
    let listed = "trusted_proxies = [\"127.0.0.1\"]";
    assert!(right.contains(listed), "{right}");
    let _proxy = stage.proxy(Kind::Haproxy, None);
    let nobody = right.replace(listed, "trusted_proxies = []");
    stage
        .gateway
        .write_config(&nobody.replace("grpc_address = ", "login_url = \"\" #"));
    stage.gateway.restart();
    let ended = stage.run(&[], "").with(3);
    assert_eq!(found(&ended), ["forwarder_refused"], "{}", ended.all());
    assert!(
        ended.stdout.contains("trusted_proxies is empty"),
        "{}",
        ended.all()
    );
    // The file is right by now, but the gateway has not reloaded it.
    let all = right.replace(listed, "trusted_proxies = [\"127.0.0.0/8\"]");
    stage
        .gateway
        .write_config(&all.replace("secret = ", "login_url = \"\" #"));
    stage.gateway.restart();
    stage.gateway.write_config(&right);
    let ended = stage.run(&[], "").with(3);
    assert_eq!(found(&ended), ["verify_open"], "{}", ended.all());
}

#[test]
fn a_failed_probe_exits_with_1_and_a_reason() {
    let stage = Stage::new();
    let gateway = format!("http://{}", stage.gateway.address);
    let nobody = format!("http://{}", stage.proxy);
    let cases: [(&[&str], &str); 8] = [
        (&["--through", &nobody], "cannot connect to"),
        (
            &["--through", "app.example.com"],
            "takes the URL of the proxy",
        ),
        (
            &["--through", &format!("{gateway}/x")],
            "takes the URL of the proxy",
        ),
        // Nothing listens where the service should be.
        (&["--through", &gateway], "does not lead to `doorward echo`"),
        (
            &["--through", &gateway, "--open", "/x"],
            "--open needs a path",
        ),
        (
            &["--through", &gateway, "--closed", "/public/x"],
            "--closed needs a path",
        ),
        (
            &["--through", &gateway, "--while-down"],
            "the gateway answers",
        ),
        (
            &[
                "--through",
                &gateway,
                "--echo",
                &stage.gateway.address.to_string(),
            ],
            "cannot listen",
        ),
    ];
    for (options, says) in cases {
        let task = [&["doctor", "forward-auth"], options].concat();
        let ended = stage.gateway.cli(&task, "").with(1);
        assert!(ended.stderr.contains(says), "{options:?}: {}", ended.all());
    }
    for options in [
        &[][..],
        &["--proxy", "apache"],
        &["--proxy", "nginx", "--while-down"],
    ] {
        stage
            .gateway
            .cli(&[&["doctor", "forward-auth"], options].concat(), "")
            .with(2);
    }
}

#[test]
fn a_proxy_that_limits_requests_is_not_diagnosed() {
    let stage = Stage::new();
    let limited = mistake(
        "upstream doorward {",
        "limit_req_zone $binary_remote_addr zone=few:1m rate=10r/s;\nlimit_req zone=few burst=20 nodelay;\nupstream doorward {",
        &[],
    );
    let _proxy = stage.proxy(Kind::Nginx, Some(&limited));
    let ended = stage.run(&["--apikey", "-"], &stage.key).with(1);
    assert!(
        ended.stderr.contains("passed at first and no longer does"),
        "{}",
        ended.all()
    );
}

#[test]
fn a_proxy_is_probed_over_tls_only_with_a_verified_certificate() {
    let stage = Stage::new();
    let port = stage.proxy.port();
    let dir = stage.gateway.dir().to_str().unwrap();
    write_certificate(&stage.gateway, &["localhost"]);
    let [printed] = stage.printed(Kind::Nginx).try_into().unwrap();
    let change = |_| with_tls(Kind::Nginx, &printed, port, dir);
    let mut proxy = Proxy::start(Kind::Nginx, &[("8000", port)], &change);
    wait_for("a proxy", || {
        proxy.lives();
        TcpStream::connect(stage.proxy).ok()
    });
    let (ca, echo) = (format!("{dir}/chain.pem"), stage.echo.to_string());
    let (named, numbered) = (
        format!("https://localhost:{port}"),
        format!("https://127.0.0.1:{port}"),
    );
    let run = |through: &str, more: &[&str]| {
        let task = [
            "doctor",
            "forward-auth",
            "--echo",
            &echo,
            "--through",
            through,
        ];
        stage.gateway.cli(&[&task[..], more].concat(), "")
    };
    run(&named, &["--ca", &ca]).with(0);
    for (through, more) in [(&named, &[][..]), (&numbered, &["--ca", &ca])] {
        let ended = run(through, more).with(1);
        assert!(
            ended.stderr.contains("cannot connect to"),
            "{}",
            ended.all()
        );
    }
}
