//! The five proxies, each started for real with the configuration in `config/examples`.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::harness::gateway::Gateway;
use crate::harness::people::{Person, password_of};
use crate::harness::request::Request;
use crate::harness::routes::route;
use crate::harness::tools::python;
use crate::harness::upstream::{Exchange, Upstream};
use crate::harness::{free_port, now, wait_for};

/// Maximum time for a proxy to end.
const END_S: u64 = 10;

/// The kind of the proxy in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Traefik,
    Caddy,
    Envoy,
    EnvoyGrpc,
    Haproxy,
}

/// A proxy in front of a service, and the gateway that it asks.
pub(crate) struct Behind {
    pub(crate) kind: Kind,
    pub(crate) gateway: Gateway,
    pub(crate) upstream: Upstream,
    pub(crate) proxy: SocketAddr,
    pub(crate) anna: Person,
    cookie: OnceLock<String>,
    process: Proxy,
}

/// A running proxy. Dropping it ends the proxy, and prints the end of its log if the test fails.
pub(crate) struct Proxy {
    kind: Kind,
    process: Child,
    dir: tempfile::TempDir,
}

/// Returns routes for the tests besides the example's: one for each kind of requirement.
fn more_routes() -> String {
    let role = "{ any_role = [\"list-{id}-member\"] }";
    let event = "{ any_role = [\"event-{id}-member\"] }";
    let mut text = format!(
        "[[role_source]]\nresources = [\"event\"]\nurl = \"http://127.0.0.1:{}/{{uid}}/{{resource}}/{{id}}\"\n",
        free_port()
    );
    for (path, require, more) in [
        ("/optional/**", "\"optional\"", ""),
        ("/lists/{id}/**", role, ""),
        ("/events/{id}/**", event, ""),
        ("/admin/**", "{ any_role = [\"admin\"] }", ""),
        ("/readable/**", "\"public\"", "methods = [\"GET\"]\n"),
        (
            "/elsewhere/**",
            "\"public\"",
            "hosts = [\"elsewhere.example.com\"]\n",
        ),
    ] {
        text.push_str(&route(path, require).replace("\"main\"", "\"app\""));
        text.push_str(more);
    }
    text
}

impl Behind {
    /// Starts the gateway, the service and the proxy.
    pub(crate) fn start(kind: Kind) -> Self {
        Self::start_with(kind, &|text| text)
    }

    /// Starts all of them with a change to the proxy's example.
    pub(crate) fn start_with(kind: Kind, change: &dyn Fn(String) -> String) -> Self {
        let upstream = Upstream::serving(serve);
        let gateway = Gateway::prepare("memory", "");
        let proxy = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let ports = [
            ("8000", proxy.port()),
            ("8080", gateway.address.port()),
            ("9001", upstream.address.port()),
            ("9191", free_port()),
        ];
        let of_gateway = filled("forward-auth.toml", &ports);
        let base = fs::read_to_string(gateway.config()).unwrap();
        gateway.write_config(&merged(&base, &format!("{of_gateway}\n{}", more_routes())));
        gateway.run();
        let anna = gateway.person("anna");
        gateway.member("anna", "42", "member");
        let process = Proxy::start(kind, &ports, change);
        let mut behind = Self {
            kind,
            gateway,
            upstream,
            proxy,
            anna,
            cookie: OnceLock::new(),
            process,
        };
        behind.wait_until_ready();
        behind
    }

    fn wait_until_ready(&mut self) {
        wait_for("a proxy that is ready", || {
            self.process.lives();
            TcpStream::connect(self.proxy).ok()?;
            (self.get("/public/ready").send().status == 200).then_some(())
        });
    }

    pub(crate) fn request(&self, method: &str, target: &str) -> Request<'_> {
        self.gateway.request(method, target).through(self.proxy)
    }

    pub(crate) fn get(&self, target: &str) -> Request<'_> {
        self.request("GET", target)
    }

    /// Returns the origin that callers use.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.proxy)
    }

    /// Returns name and value of the cookie that anna gets from the form, through the proxy.
    pub(crate) fn cookie(&self) -> String {
        self.cookie.get_or_init(|| self.log_in()).clone()
    }

    fn log_in(&self) -> String {
        let password = password_of("anna");
        let password: String = url::form_urlencoded::byte_serialize(password.as_bytes()).collect();
        let answer = self
            .request("POST", "/auth/login")
            .header("Origin", self.origin())
            .form(&[("username", "anna"), ("password", &password)])
            .send()
            .expect(303);
        let cookie = answer.header("set-cookie").unwrap();
        let pair = cookie.split(';').next().unwrap().to_owned();
        self.gateway.secret(pair.split_once('=').unwrap().1);
        pair
    }
}

impl Proxy {
    /// Starts a proxy with its example, on these ports and with this change.
    pub(crate) fn start(
        kind: Kind,
        ports: &[(&str, u16)],
        change: &dyn Fn(String) -> String,
    ) -> Self {
        Self::start_with(kind, ports, change, &[])
    }

    /// Starts it with additional options on its command line.
    pub(crate) fn start_with(
        kind: Kind,
        ports: &[(&str, u16)],
        change: &dyn Fn(String) -> String,
        options: &[&str],
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let process = command(kind, dir.path(), ports, change)
            .args(options)
            .spawn()
            .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        Self { kind, process, dir }
    }

    /// Fails if the proxy has ended.
    pub(crate) fn lives(&mut self) {
        if let Some(status) = self.process.try_wait().unwrap() {
            panic!("{:?} ended with {status}: {}", self.kind, self.log());
        }
    }

    /// Returns everything that the proxy has written.
    fn log(&self) -> String {
        let names = ["out.log", "error.log"];
        let texts = names.map(|name| fs::read_to_string(self.dir.path().join(name)));
        texts.into_iter().flatten().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let start = now();
        while start.elapsed().as_secs() < END_S {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().rev().take(20).collect();
            let lines: Vec<_> = lines.into_iter().rev().collect();
            eprintln!("the last words of {:?}:\n{}", self.kind, lines.join("\n"));
        }
    }
}

/// The service: it answers hello, and echoes bytes after a WebSocket handshake.
fn serve(exchange: &mut Exchange) {
    exchange.body();
    if exchange.seen.header("upgrade").is_none() {
        return exchange.answer("hello");
    }
    exchange.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    let said = exchange.read(4);
    exchange.write(said);
    exchange.close = true;
}

/// Merges the example into the base of all tests. Addresses in the example are the same.
pub(crate) fn merged(base: &str, example: &str) -> String {
    let mut config: toml::Table = base.parse().unwrap();
    let example: toml::Table = example
        .parse()
        .unwrap_or_else(|error| panic!("{error}: {example}"));
    for (key, value) in example {
        match (config.get_mut(&key), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(from)) => into.extend(from),
            (_, value) => {
                config.insert(key, value);
            }
        }
    }
    config.to_string()
}

/// Returns an example with other ports.
pub(crate) fn filled(name: &str, ports: &[(&str, u16)]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("config/examples").join(name);
    let mut text = fs::read_to_string(&path).unwrap();
    for (shown, _) in ports {
        text = text.replace(shown, &format!("<{shown}>"));
    }
    for (shown, port) in ports {
        text = text.replace(&format!("<{shown}>"), &port.to_string());
    }
    text
}

/// Returns the command that starts a proxy with its example.
fn command(
    kind: Kind,
    dir: &Path,
    ports: &[(&str, u16)],
    change: &dyn Fn(String) -> String,
) -> Command {
    let write = |name: &str| {
        let path = dir.join(name);
        fs::write(
            &path,
            change(filled(&format!("forward-auth/{name}"), ports)),
        )
        .unwrap();
        path
    };
    let mut command = match kind {
        Kind::Nginx => nginx(dir, &write("nginx.conf")),
        Kind::Traefik => {
            let mut command = Command::new(python("traefik"));
            let (_, port) = ports[0];
            command
                .arg(format!("--entryPoints.web.address=127.0.0.1:{port}"))
                .arg(format!(
                    "--providers.file.filename={}",
                    write("traefik-dynamic.yml").display()
                ))
                .args([
                    "--global.checkNewVersion=false",
                    "--global.sendAnonymousUsage=false",
                ]);
            command
        }
        Kind::Caddy => {
            let mut command = Command::new(python("caddy"));
            command
                .args(["run", "--adapter", "caddyfile", "--config"])
                .arg(write("Caddyfile"));
            command
        }
        Kind::Envoy => envoy(&write("envoy.yaml")),
        Kind::EnvoyGrpc => envoy(&write("envoy-grpc.yaml")),
        Kind::Haproxy => {
            write("doorward.lua");
            let mut command = Command::new(installed("haproxy"));
            command.arg("-db").arg("-f").arg(write("haproxy.cfg"));
            command
        }
    };
    let log = fs::File::create(dir.join("out.log")).unwrap();
    command
        .current_dir(dir)
        .env("HOME", dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    command
}

fn envoy(example: &Path) -> Command {
    let mut command = Command::new(python("envoy"));
    command
        .args(["--disable-hot-restart", "--concurrency", "1"])
        .args(["--log-level", "warn", "-c"])
        .arg(example);
    command
}

/// Returns the command for nginx with the example included in the right place, in one process, and with all of its
/// files in one folder.
fn nginx(dir: &Path, example: &Path) -> Command {
    let at = dir.display();
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {at}/{name};\n"))
        .concat();
    let main = format!(
        "daemon off;\nmaster_process off;\npid {at}/nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}include {};\n}}\n",
        example.display()
    );
    let path = dir.join("main.conf");
    fs::write(&path, main).unwrap();
    let mut command = Command::new(installed("nginx"));
    command
        .arg("-e")
        .arg(dir.join("error.log"))
        .arg("-c")
        .arg(path);
    command
}

/// Returns the path of a program of the distribution.
fn installed(name: &str) -> PathBuf {
    let mut places = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .into_iter()
        .map(|folder| Path::new(folder).join(name));
    places.find(|path| path.exists()).unwrap_or_else(|| {
        panic!("{name} is not installed: apt-get install {name}, as scripts/test does")
    })
}
