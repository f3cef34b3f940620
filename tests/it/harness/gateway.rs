//! The real binary with a configuration of its own, from start to end.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::harness::http::{self, Connection, Response};
use crate::harness::mailbox::Mailbox;
use crate::harness::people::Caller;
use crate::harness::request::Request;
use crate::harness::{free_port, now, wait_for};

/// Maximum time for a gateway to end after SIGTERM.
const END_S: u64 = 12;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_doorward");

/// The configuration of every test unless it specifies otherwise.
const BASE: &str = r#"
[listen]
address = "127.0.0.1:{port}"
admin_address = "127.0.0.1:{admin}"
public_url = "http://127.0.0.1:{port}"
workers = 2

[limits]
drain_timeout_ms = 5000

[store]
engine = "{engine}"
path = "{dir}/store"

[mail]
directory = "{dir}/mail"
per_address_per_hour = 1000
per_network_per_hour = 1000
"#;

/// A running gateway. Dropping it sends SIGTERM; the test fails if the gateway does not end with success, if it has
/// panicked, or if anything it has written contains a secret named by the test.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    dir: tempfile::TempDir,
    engine: &'static str,
    running: Mutex<Option<Running>>,
    output: Arc<Mutex<Output>>,
    secrets: Mutex<Vec<String>>,
}

struct Running {
    child: Child,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Gateway {
    /// Starts on the memory engine. `extra` is TOML merged into the base: tables are merged, other values replaced.
    pub(crate) fn start(extra: &str) -> Self {
        Self::start_on("memory", extra)
    }

    /// Starts on another engine.
    pub(crate) fn start_on(engine: &'static str, extra: &str) -> Self {
        let gateway = Self::prepare(engine, extra);
        gateway.run();
        gateway
    }

    /// Prepares everything except the process.
    pub(crate) fn prepare(engine: &'static str, extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let gateway = Self {
            address: local(free_port()),
            admin: local(free_port()),
            dir,
            engine,
            running: Mutex::new(None),
            output: Arc::default(),
            secrets: Mutex::default(),
        };
        gateway.configure(extra);
        gateway
    }

    /// Rewrites the configuration; it is read at the next start or reload.
    pub(crate) fn configure(&self, extra: &str) {
        let base = BASE
            .replace("{port}", &self.address.port().to_string())
            .replace("{admin}", &self.admin.port().to_string())
            .replace("{engine}", self.engine)
            .replace("{dir}", self.dir.path().to_str().unwrap());
        let mut config: toml::Table = base.parse().unwrap();
        merge(
            &mut config,
            extra
                .parse()
                .unwrap_or_else(|error| panic!("{error}: {extra}")),
        );
        self.write_config(&config.to_string());
    }

    /// Writes this exact text as the configuration.
    pub(crate) fn write_config(&self, text: &str) {
        std::fs::write(self.config(), text).unwrap();
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("doorward.toml")
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns a command with this gateway's configuration.
    pub(crate) fn command(&self, task: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir(self.dir());
        command.args(task).arg("--config").arg(self.config());
        command
    }

    /// Starts the process and waits until it is ready.
    pub(crate) fn run(&self) {
        self.run_until(|| self.readiness().is_some_and(|answer| answer.status == 200));
    }

    /// Starts the process and waits until it reports that it is not ready.
    pub(crate) fn run_unready(&self) {
        self.run_until(|| self.readiness().is_some_and(|answer| answer.status == 503));
    }

    /// Starts the process where readiness requires this token.
    pub(crate) fn run_with_admin_token(&self, token: &str) {
        self.run_until(|| {
            if std::net::TcpStream::connect(self.admin).is_err() {
                return false;
            }
            let credential = format!("Authorization: Bearer {token}");
            let request = format!("GET /readyz HTTP/1.1\r\nHost: localhost\r\n{credential}\r\nConnection: close\r\n\r\n");
            Connection::open(self.admin).write(request).answer().status == 200
        });
    }

    /// Starts the process with the test's own outputs, and waits until it is ready.
    pub(crate) fn run_onto(&self, stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) {
        let mut command = self.command(&["serve"]);
        let command = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let running = Running {
            child: command.spawn().unwrap(),
            readers: Vec::new(),
        };
        self.wait_for_ready(running, || {
            self.readiness().is_some_and(|answer| answer.status == 200)
        });
    }

    /// Starts the process with a limit of open files, and waits until it is ready.
    pub(crate) fn run_with_files(&self, count: usize) {
        let mut command = Command::new("/bin/sh");
        let limited = format!("ulimit -n {count} && exec \"$0\" serve --config \"$1\"");
        command
            .env_clear()
            .args(["-c", &limited, BINARY])
            .arg(self.config());
        self.wait_for_ready(self.spawn(command), || {
            self.readiness().is_some_and(|answer| answer.status == 200)
        });
    }

    fn run_until(&self, is_ready: impl Fn() -> bool) {
        self.wait_for_ready(self.spawn(self.command(&["serve"])), is_ready);
    }

    fn wait_for_ready(&self, mut running: Running, is_ready: impl Fn() -> bool) {
        wait_for("a gateway that is ready", || {
            if let Some(status) = running.child.try_wait().unwrap() {
                running.join();
                panic!("the gateway ended with {status}: {}", self.stderr());
            }
            is_ready().then_some(())
        });
        *self.running.lock().unwrap() = Some(running);
    }

    fn spawn(&self, mut command: Command) -> Running {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = collect(child.stdout.take().unwrap(), &self.output, |output| {
            &mut output.stdout
        });
        let stderr = collect(child.stderr.take().unwrap(), &self.output, |output| {
            &mut output.stderr
        });
        Running {
            child,
            readers: vec![stdout, stderr],
        }
    }

    /// Returns the answer of `/readyz`; `None` if the admin listener accepts no connection.
    pub(crate) fn readiness(&self) -> Option<Response> {
        std::net::TcpStream::connect(self.admin).ok()?;
        let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        Connection::open(self.admin)
            .write(request)
            .try_answer(false)
    }

    /// Sends a GET to the admin listener.
    pub(crate) fn admin_get(&self, path: &str) -> Response {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.admin
        );
        Connection::open(self.admin).write(request).answer()
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let running = self.running.lock().unwrap();
        let running = running.as_ref().expect("the gateway runs");
        let pid = rustix::process::Pid::from_child(&running.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Reloads the configuration.
    pub(crate) fn reload(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    /// Asks the process to end, and waits until it has.
    pub(crate) fn stop(&self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Waits until the process has ended.
    pub(crate) fn wait(&self) -> ExitStatus {
        let mut running = self
            .running
            .lock()
            .unwrap()
            .take()
            .expect("the gateway runs");
        let start = now();
        loop {
            if let Some(status) = running.child.try_wait().unwrap() {
                running.join();
                return status;
            }
            if END_S < start.elapsed().as_secs() {
                running.kill();
                panic!(
                    "the gateway did not end within {END_S} s: {}",
                    self.stderr()
                );
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Kills the process, as a power cut would.
    pub(crate) fn kill(&self) {
        self.running
            .lock()
            .unwrap()
            .take()
            .expect("the gateway runs")
            .kill();
    }

    /// Ends the process and starts it again.
    pub(crate) fn restart(&self) {
        let status = self.stop();
        assert!(status.success(), "{status}: {}", self.stderr());
        self.run();
    }

    pub(crate) fn is_running(&self) -> bool {
        let mut running = self.running.lock().unwrap();
        running
            .as_mut()
            .is_some_and(|running| running.child.try_wait().unwrap().is_none())
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap().stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap().stderr).into_owned()
    }

    /// Returns the access records so far; every line of standard output must be one or an audit event.
    pub(crate) fn records(&self) -> Vec<Value> {
        let text = self.stdout();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines().map(|line| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
        });
        lines
            .filter(|record| record.get("duration_us").is_some())
            .collect()
    }

    /// Returns the access record of one request.
    pub(crate) fn record(&self, request_id: &str) -> Value {
        wait_for("an access record", || {
            self.records()
                .into_iter()
                .find(|record| record["request_id"] == request_id)
        })
    }

    /// Registers a secret: if the gateway ever writes it, the test fails when the gateway is dropped.
    pub(crate) fn secret(&self, secret: &str) {
        assert!(secret.len() >= 6, "too short to be looked for: {secret:?}");
        self.secrets.lock().unwrap().push(secret.to_owned());
    }

    pub(crate) fn mailbox(&self) -> Mailbox<'_> {
        Mailbox::new(self)
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// Sends bytes and reads every answer; `{host}` is replaced by the gateway's own address.
    pub(crate) fn send(&self, raw: &str) -> Vec<Response> {
        http::send(
            self.address,
            raw.replace("{host}", &self.address.to_string()),
        )
    }

    pub(crate) fn request(&self, method: &str, target: &str) -> Request<'_> {
        Request::new(self, method, target)
    }

    pub(crate) fn get(&self, target: &str) -> Request<'_> {
        self.request("GET", target)
    }

    /// Sends a GET with the caller's credential.
    #[track_caller]
    pub(crate) fn get_by(&self, caller: &Caller, target: &str) -> Response {
        self.get(target).by(caller).send()
    }

    pub(crate) fn post(&self, target: &str) -> Request<'_> {
        self.request("POST", target)
    }

    pub(crate) fn put(&self, target: &str) -> Request<'_> {
        self.request("PUT", target)
    }

    pub(crate) fn delete(&self, target: &str) -> Request<'_> {
        self.request("DELETE", target)
    }
}

impl Running {
    fn join(&mut self) {
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
    }

    fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.join();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let is_failing = std::thread::panicking();
        let is_running = self.running.lock().unwrap().is_some();
        if is_failing {
            if let Some(running) = self.running.lock().unwrap().take() {
                running.kill();
            }
            let text = self.stderr();
            let lines: Vec<_> = text.lines().rev().take(30).collect();
            let lines: Vec<_> = lines.into_iter().rev().collect();
            eprintln!("the gateway's last words:\n{}", lines.join("\n"));
            return;
        }
        if is_running {
            let status = self.stop();
            assert!(
                status.success(),
                "the gateway ended with {status}: {}",
                self.stderr()
            );
        }
        let output = self.output.lock().unwrap();
        let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        let text = String::from_utf8_lossy(&all);
        assert!(
            !text.contains("panicked at"),
            "the gateway panicked: {text}"
        );
        for secret in self.secrets.lock().unwrap().iter() {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert!(line.is_none(), "the gateway wrote a secret: {line:?}");
        }
    }
}

/// Merges one table into another.
fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Collects what a process writes until it ends.
fn collect(
    mut pipe: impl Read + Send + 'static,
    output: &Arc<Mutex<Output>>,
    half: impl Fn(&mut Output) -> &mut Vec<u8> + Send + 'static,
) -> JoinHandle<()> {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        let mut bytes = [0; 8192];
        while let Ok(count @ 1..) = pipe.read(&mut bytes) {
            half(&mut output.lock().unwrap()).extend_from_slice(&bytes[..count]);
        }
    })
}
