"""The gateway as a process: its configuration, start and end, its commands, and its use of resources."""

import atexit
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time

from rig.http import Caller, Unanswered

ADMINISTRATOR = "root1"
ADMINISTRATOR_PASSWORD = "Adm1n-horse-x"
# An access token lives 900 s.
TOKEN_RENEWED_AFTER_S = 600

BASE = """
[listen]
address = "127.0.0.1:{port}"
admin_address = "127.0.0.1:{admin_port}"
public_url = "http://127.0.0.1:{port}"
# So that a caller may name its client network.
trusted_proxies = ["127.0.0.1/32"]
[store]
path = "{directory}/store"
[account]
notify_logins = false
[roles]
resources = ["list"]
"""

FILE_MAIL = """
[mail]
transport = "file"
directory = "{directory}/mail"
per_address_per_hour = 100000
per_network_per_hour = 100000
per_hour = 1000000
"""

ROUTES = """
[[upstream]]
name = "main"
addresses = ["{upstream}"]
[[route]]
path = "/public/**"
upstream = "main"
require = "public"
[[route]]
path = "/protected/**"
upstream = "main"
require = "authenticated"
[[route]]
path = "/lists/{{id}}/**"
upstream = "main"
require = {{ any_role = ["list-{{id}}-member"] }}
"""


class NotStarted(Exception):
    """The gateway ended before it was ready, or did not become ready in time; the text is the end of its log."""

    def __init__(self, code, text):
        super().__init__(f"exit {code}: {text}" if code is not None else f"not ready in time: {text}")
        self.code, self.text = code, text


def free_ports(count):
    """Returns this many different unused loopback ports."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for it in sockets:
            it.bind(("127.0.0.1", 0))
        return [it.getsockname()[1] for it in sockets]


class Gateway:
    """One gateway with a directory of its own, which outlives its process.

    `more` is inserted before the routes, `mail` replaces mails as files, `routes` replaces the usual routes. In all of
    them `{directory}` and `{upstream}` are filled in. `environment` is added to that of the process and of commands;
    `before` runs in the child before the binary does.
    """

    def __init__(self, binary, directory, *, upstream="builtin:echo", more="", mail=FILE_MAIL, routes=ROUTES,
                 environment=None, before=None, binary_prefix=()):
        self.binary, self.directory = pathlib.Path(binary).resolve(), pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port, self.admin_port = free_ports(2)
        self.environment, self.before, self.prefix = environment or {}, before, list(binary_prefix)
        self.config = self.directory / "doorward.toml"
        self.texts = (BASE, mail, more, routes)
        self.upstream = upstream
        self.configure()
        self.process, self.stdout = None, None
        # The process never outlives the script, whatever fails.
        atexit.register(self.kill)
        self.token, self.token_since = None, 0.0

    def configure(self, more=None, routes=None):
        """Writes the configuration; it takes effect at the next start or reload."""
        base, mail, old_more, old_routes = self.texts
        parts = [base, mail, old_more if more is None else more, old_routes if routes is None else routes]
        text = "".join(parts).format(
            port=self.port, admin_port=self.admin_port, directory=self.directory, upstream=self.upstream)
        self.write_config(text)

    def write_config(self, text):
        """Replaces the configuration with another text, atomically."""
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o600)
        new.replace(self.config)

    @property
    def store(self):
        """The directory of the store."""
        return self.directory / "store"

    @property
    def mail_directory(self):
        """Where mails are written as files."""
        return self.directory / "mail"

    def launch(self):
        """Starts the process without waiting."""
        out = self.stdout if self.stdout is not None else open(self.directory / "out", "ab")
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, self.binary, "serve", "--config", self.config], stdin=subprocess.DEVNULL, stdout=out,
                stderr=log, cwd=self.directory, env=os.environ | self.environment, preexec_fn=self.before)
        if self.stdout is None:
            out.close()

    def start(self, wait_s=60):
        """Starts the process and returns the seconds until it was ready. Raises `NotStarted`."""
        mark, begun = self.log_size(), time.monotonic()
        self.launch()
        while time.monotonic() - begun < wait_s:
            if self.process.poll() is not None:
                raise NotStarted(self.process.returncode, self.log(mark)[-1500:])
            if self.readiness() == 200:
                return time.monotonic() - begun
            time.sleep(0.005)
        raise NotStarted(None, self.log(mark)[-1500:])

    def readiness(self):
        """Returns the status of /readyz; `None` without an answer."""
        return self.admin_status("/readyz")

    def admin_status(self, path, timeout=3):
        """Returns the status of a path of the admin listener; `None` without an answer."""
        caller = Caller(self.admin_port)
        try:
            return caller.get(path, timeout=timeout).status
        except Unanswered:
            return None
        finally:
            caller.close()

    def metrics(self):
        """Returns all metrics as text; empty without an answer."""
        caller = Caller(self.admin_port)
        try:
            return caller.get("/metrics", timeout=5).body.decode()
        except Unanswered:
            return ""
        finally:
            caller.close()

    def is_running(self):
        """Whether the process is running."""
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """Kills the process with SIGKILL."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def signal(self, number):
        """Sends a signal to the process."""
        self.process.send_signal(number)

    def stop(self, wait_s=60):
        """Ends the process with SIGTERM and returns its exit code; `None` if it had to be killed."""
        if not self.is_running():
            return self.process.returncode if self.process else None
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def command(self, *words, stdin="", timeout=120):
        """Runs a command of the binary with this configuration."""
        return subprocess.run([self.binary, *words, "--config", self.config], input=stdin, capture_output=True,
                              text=True, cwd=self.directory, env=os.environ | self.environment, timeout=timeout)

    def caller(self, network=None):
        """Returns a caller with a connection of its own."""
        return Caller(self.port, network)

    def add_administrator(self):
        """Creates the administrator whose token `administrator` returns."""
        done = self.command("account", "add", ADMINISTRATOR, "--identity", f"{ADMINISTRATOR}@example.org", "--name",
                            "Root", "--admin", "--password-stdin", stdin=ADMINISTRATOR_PASSWORD + "\n")
        if done.returncode:
            raise RuntimeError(f"no administrator: {done.stderr}")

    def administrator(self):
        """Returns an access token of the administrator that is usable for some minutes. Raises `Unanswered`."""
        if self.token is None or TOKEN_RENEWED_AFTER_S < time.monotonic() - self.token_since:
            caller = self.caller("10.255.0.1")
            try:
                answer = caller.post("/auth/login", {"username": ADMINISTRATOR, "password": ADMINISTRATOR_PASSWORD})
            finally:
                caller.close()
            if answer.status != 200:
                raise Unanswered(f"the administrator cannot log in: {answer}")
            self.token, self.token_since = answer.json["jwt_token"], time.monotonic()
        return self.token

    def log_size(self):
        """Returns the length of the log in bytes: a mark for `log`."""
        path = self.directory / "log"
        return path.stat().st_size if path.exists() else 0

    def log(self, mark=0):
        """Returns the log (standard error) after a mark."""
        path = self.directory / "log"
        if not path.exists():
            return ""
        with open(path, "rb") as log:
            log.seek(mark)
            return log.read().decode("utf-8", "replace")

    def panics(self):
        """Returns the number of log lines that report a panic."""
        return self.log().count(" panicked at ")

    def memory_kib(self):
        """Returns the resident memory of the process."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0

    def descriptors(self):
        """Returns the number of open descriptors of the process."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def processor_s(self):
        """Returns the processor time of the process so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
