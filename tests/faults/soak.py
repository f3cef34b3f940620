#!/usr/bin/env python3
"""An hour of everything at once, with random faults, checked against a ledger: scripts/soak runs this.

Callers register, log in, refresh, create and revoke API keys, change memberships and passwords, and send requests with
all of these, with tokens of a foreign issuer and without any, over HTTP, WebSockets, event streams and uploads.
Meanwhile the upstream misbehaves, the issuer and the mail server go down, the configuration is reloaded, the gateway is
killed, and its disk is full. Whatever the gateway acknowledged must be present, and whatever was ended or never issued
must be refused.

In the first half the gateway is killed now and then; the second half is one process, whose memory and descriptors are
compared. The random choices of a seed are the same in each run; their timing is not.
"""

import argparse
import json
import pathlib
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from rig.case import end_by_exit
from rig.disk import WRITE_ENOSPC, Disk
from rig.gateway import Gateway, ROUTES
from rig.http import Unanswered
from rig.ledger import Checker, Ledger, network
from rig.mail import MailServer
from rig.sockets import WebSocket
from rig.upstream import FORBIDDEN, HABITS, KeyServer, Upstream
from rig.tokens import Issuer
from rig.writers import Writer

# Requests per second of one caller, and number of callers: about a tenth of a processor, including the gateway.
ACTS_A_SECOND = 4
CALLERS = 6
PEOPLE_A_CALLER = 15
SAMPLE_EVERY_S = 10
# How long requests may still fail after a fault has ended: connections to an upstream are reopened, a store heals.
AFTERMATH_S = {"upstream": 3, "disk": 12, "kill": 3}
# After the last fault; the pauses between retries grow.
MAILS_MAX_S = 180
MEMORY_GROWTH_MAX = 1.10
DESCRIPTORS_GROWTH_MAX = 10
READS = (["bearer"] * 6 + ["key"] * 6 + ["list"] * 4 + ["foreign"] * 5 + ["public"] * 2 + ["forbidden"] * 6
         + ["websocket"] * 2 + ["events"] + ["upload"])
WRITES = ["reset", "log_in", "log_in", "refresh", "refresh", "refresh", "create_key", "create_key", "rotate_key", "revoke_key",
          "set_member", "set_member", "set_member", "end_member", "log_out", "disable", "change_password", "register"]

MAIL = """
[mail]
transport = "smtp"
smtp_host = "127.0.0.1"
smtp_port = {smtp_port}
smtp_tls = "none"
smtp_timeout_s = 5
per_address_per_hour = 100000
per_network_per_hour = 100000
per_hour = 1000000
"""

SETTINGS = """
[tokens]
access_ttl_s = 7200
[limits]
upstream_read_timeout_ms = 2000
[[issuer]]
name = "corp"
issuer = "https://id.example.com"
audience = ["api"]
jwks_url = "{keys}"
"""


class Faults:
    """The faults that are active now, and those that ended a moment ago."""

    def __init__(self):
        self.lock, self.present, self.past, self.counts = threading.Lock(), set(), {}, Counter()

    def begin(self, name):
        """Records that a fault begins."""
        with self.lock:
            self.present.add(name)
            self.counts[name] += 1

    def end(self, name):
        """Records that a fault has ended."""
        with self.lock:
            self.present.discard(name)
            self.past[name] = time.monotonic()

    def explain(self, since):
        """Returns a fault that may have affected a request begun at `since`; `None` if there was none."""
        with self.lock:
            for name, aftermath in AFTERMATH_S.items():
                struck = [it for it in self.present if it.startswith(name)]
                struck += [it for it, at in self.past.items() if it.startswith(name) and since < at + aftermath]
                if struck:
                    return struck[0]
        return None


class Soaker(Writer):
    """A caller that reads more than it writes, and checks every answer."""

    def __init__(self, soak, number):
        super().__init__(soak.gateway, soak.ledger, soak.mails, random.Random(f"{soak.seed}-{number}"), number, WRITES)
        self.soak, self.sent, self.failed = soak, Counter(), Counter()
        self.ended = []
        self.checker = Checker(soak.ledger, soak.gateway, soak.gateway.caller(), self.chance)

    def run(self):
        """Sends some requests per second until the soak is over."""
        while not self.is_over:
            began = time.monotonic()
            draw = self.chance.random()
            kind = "write" if draw < 0.08 else "check" if draw < 0.12 else self.chance.choice(READS)
            try:
                getattr(self, "do_" + kind)()
                self.sent[kind] += 1
            except Unanswered as error:
                self.fail(kind, str(error), began)
            time.sleep(max(0.0, self.chance.uniform(0.5, 1.5) / ACTS_A_SECOND - (time.monotonic() - began)))

    def fail(self, kind, what, began):
        """Counts a request that failed, under the fault that explains it."""
        # If the machine is too busy to hash a password, the gateway is not at fault.
        cause = self.soak.faults.explain(began) or ("load" if "hashing_busy" in what else "nothing")
        self.failed[f"{cause}: {kind}: {what}"] += 1
        if cause == "nothing":
            self.soak.note(f"failed without a fault: {kind}: {what}")

    def do_write(self):
        """Performs one write; a registration only while there are few users."""
        if len(self.people) < PEOPLE_A_CALLER and self.chance.random() < 0.3:
            return self.register(None)
        before = [key for person in self.people for key in person.keys]
        self.act()
        after = [key for person in self.people for key in person.keys]
        self.ended = (self.ended + [key.secret for key in before if key not in after or key.live.is_sure(False)])[-20:]

    def do_check(self):
        """Compares everything about one user with the ledger."""
        if self.people:
            touched = [it for it in self.people if it.is_touched]
            self.checker.check(self.chance.choice(touched or self.people))

    def person(self):
        """Returns a user who is certainly active and has a live session; `None` if there is none."""
        found = [it for it in self.people if it.status.is_sure("active") and it.live_sessions()]
        return self.chance.choice(found) if found else None

    def judge(self, kind, answer, person, began, uid=None):
        """Checks the answer to an allowed request: it must pass, with the right identity."""
        if answer.status == 200:
            seen = answer.json.get("seen") if isinstance(answer.json, dict) else None
            if seen is not None and uid and not seen.get("x-auth-uid", "").endswith(uid):
                self.ledger.allowed(person, f"{kind} under another name", seen)
        elif answer.status in (401, 403) and person is not None:
            self.ledger.missing(person, f"{kind} refused", answer)
            person.is_touched = True
        else:
            self.fail(kind, repr(answer), began)

    def do_bearer(self):
        """Sends a request with a token of the gateway."""
        if person := self.person():
            began = time.monotonic()
            answer = self.caller.get("/protected/x", bearer=self.chance.choice(person.live_sessions()).bearer)
            self.judge("bearer", answer, person, began, person.uid)

    def do_key(self):
        """Sends a request with an API key."""
        if (person := self.person()) and (keys := person.live_keys()):
            began = time.monotonic()
            answer = self.caller.get("/protected/x", key=self.chance.choice(keys).secret)
            self.judge("key", answer, person, began, person.uid)

    def do_list(self):
        """Sends a request that requires a membership: allowed with it, refused without."""
        if not (person := self.person()) or not person.members:
            return
        identifier, cell = self.chance.choice(sorted(person.members.items()))
        bearer, began = person.live_sessions()[-1].bearer, time.monotonic()
        if cell.may_be <= {"member", "manager"}:
            self.judge("list", self.caller.get(f"/lists/{identifier}/x", bearer=bearer), person, began, person.uid)
        elif cell.may_be <= {None, "invitee"}:
            answer = self.caller.get(f"/lists/{identifier}/x", bearer=bearer, headers={FORBIDDEN: "1"})
            if answer.status == 200:
                what = f"a list without the membership: {cell.may_be}"
                failed = cell.failed & {"member", "manager"}
                self.ledger.undead.append(what) if failed else self.ledger.allowed(person, what, answer)

    def do_foreign(self):
        """Sends a request with a token of the foreign issuer; its keys are cached, whether or not the issuer is up."""
        subject, began = f"ext-{self.chance.randrange(40)}", time.monotonic()
        answer = self.caller.get("/protected/x", bearer=self.soak.issuer.token(subject))
        if answer.status == 401:
            self.soak.note(f"a foreign token was refused: {answer}")
        self.judge("foreign", answer, None, began, subject)

    def do_public(self):
        """Sends a request without a credential where none is required."""
        began = time.monotonic()
        self.judge("public", self.caller.get("/public/x"), None, began)

    def do_forbidden(self):
        """Sends a request that must be refused: no credential, a forged or ended one, or a path without a route."""
        draw, fields, began = self.chance.randrange(5), {FORBIDDEN: "1"}, time.monotonic()
        if draw == 0:
            answer = self.caller.get("/protected/x", headers=fields)
        elif draw == 1:
            answer = self.caller.get("/protected/x", bearer=self.soak.stranger.token("ext-1"), headers=fields)
        elif draw == 2 and self.ended:
            answer = self.caller.get("/protected/x", key=self.chance.choice(self.ended), headers=fields)
        elif draw == 3:
            answer = self.caller.get("/protected/x", headers=fields | {"X-Auth-Uid": "u-00000001", "X_Auth_Roles": "admin"})
        else:
            answer = self.caller.get("/nowhere", headers=fields)
        if answer.status < 400:
            self.soak.note(f"a request passed that must not: {answer}")
        elif 500 <= answer.status:
            self.fail("forbidden", repr(answer), began)

    def do_websocket(self):
        """Opens a WebSocket that echoes three texts."""
        if person := self.person():
            began = time.monotonic()
            try:
                socket = WebSocket(self.gateway.port, "/protected/socket", person.live_sessions()[-1].bearer)
            except OSError as error:
                raise Unanswered(f"websocket: {type(error).__name__}") from error
            if socket.status != 101:
                return self.fail("websocket", str(socket.status), began)
            if not all(socket.echo(f"text {number}") for number in range(3)):
                self.fail("websocket", "closed", began)
            socket.close()

    def do_events(self):
        """Reads an event stream to its end."""
        if person := self.person():
            began = time.monotonic()
            answer = self.caller.get("/protected/events", bearer=person.live_sessions()[-1].bearer)
            if answer.status != 200:
                self.judge("events", answer, person, began)
            elif b"data: 4" not in answer.body and answer.body != b"{}":
                self.fail("events", "cut short and passed off as whole", began)

    def do_upload(self):
        """Sends an upload, whose received length the upstream returns."""
        if person := self.person():
            body, began = self.chance.randbytes(self.chance.randrange(1 << 16, 1 << 20)), time.monotonic()
            answer = self.caller.post("/protected/sum", body, bearer=person.live_sessions()[-1].bearer)
            self.judge("upload", answer, person, began, person.uid)
            if answer.status == 200 and answer.json.get("bytes", len(body)) != len(body):
                self.soak.note("an upload did not come whole")


class Soak:
    """The gateway, everything around it, and the observations."""

    def __init__(self, options, directory):
        self.seed, self.seconds = options.seed, options.minutes * 60
        self.chance = random.Random(f"{options.seed}-faults")
        self.ledger, self.faults, self.notes = Ledger(), Faults(), []
        self.upstream, self.mails = Upstream(), MailServer()
        self.issuer, self.stranger = Issuer("https://id.example.com"), Issuer("https://id.example.com")
        self.keys = KeyServer(self.issuer.key_set())
        self.disk = Disk(directory / "disk", "/store/")
        self.gateway = Gateway(
            options.binary, directory / "gateway", upstream=self.upstream.address,
            more=SETTINGS.replace("{keys}", self.keys.url), mail=MAIL.replace("{smtp_port}", str(self.mails.port)),
            environment=self.disk.environment)
        self.samples, self.starts, self.is_over, self.began = [], [], False, time.monotonic()
        self.is_moving = threading.Lock()

    def note(self, text):
        """Records a violation, with the time since the start."""
        self.notes.append(f"{time.monotonic() - self.began:.0f} s: {text}")

    def sample(self):
        """Records memory and descriptors now and then."""
        while not self.is_over:
            with self.is_moving:
                if self.gateway.is_running():
                    self.samples.append((time.monotonic(), self.gateway.process.pid, self.gateway.memory_kib(),
                                         self.gateway.descriptors(), self.gateway.processor_s()))
            time.sleep(SAMPLE_EVERY_S)

    def strike(self):
        """Runs one fault after the other, with pauses."""
        while not self.is_over:
            if not self.rest(self.chance.uniform(8, 20)):
                return
            is_early = time.monotonic() - self.began < self.seconds / 2
            kinds = ["upstream", "upstream", "issuer", "mail", "reload", "disk"] + ["kill", "kill"] * is_early
            kind = self.chance.choice(kinds)
            name = f"{kind}: {self.chance.choice(HABITS)}" if kind == "upstream" else kind
            self.faults.begin(name)
            try:
                getattr(self, "strike_" + kind)(name)
            finally:
                self.faults.end(name)

    def rest(self, seconds):
        """Waits; returns whether the soak continues."""
        end = time.monotonic() + seconds
        while not self.is_over and time.monotonic() < end:
            time.sleep(0.1)
        return not self.is_over

    def strike_upstream(self, name):
        """Makes the upstream misbehave for some seconds."""
        self.upstream.habit = name.split(": ")[1]
        self.rest(self.chance.uniform(3, 8))
        self.upstream.habit = "good"

    def strike_issuer(self, _name):
        """Makes the foreign issuer answer 500 for half a minute."""
        self.keys.is_away = True
        self.rest(self.chance.uniform(10, 30))
        self.keys.is_away = False

    def strike_mail(self, _name):
        """Takes the mail server down, or makes it hang."""
        if self.chance.random() < 0.5:
            self.mails.go_away()
            self.rest(self.chance.uniform(5, 20))
            self.mails.come_back()
        else:
            self.mails.is_hanging = True
            self.rest(self.chance.uniform(5, 20))
            self.mails.is_hanging = False

    def strike_reload(self, _name):
        """Loads another configuration, or a broken one, three times."""
        for _ in range(3):
            if self.chance.random() < 0.3:
                self.gateway.write_config("[listen\n")
            else:
                path = f"/more{self.chance.randrange(1000)}/**"
                route = f'[[route]]\npath = "{path}"\nupstream = "main"\nrequire = "public"\n'
                self.gateway.configure(routes=ROUTES + route)
            self.gateway.signal(signal.SIGHUP)
            self.rest(0.5)
        self.gateway.configure()
        self.gateway.signal(signal.SIGHUP)
        self.rest(0.5)

    def strike_kill(self, _name):
        """Kills the gateway with SIGKILL and starts it again."""
        with self.is_moving:
            self.gateway.kill()
            self.starts.append(self.gateway.start())

    def strike_disk(self, _name):
        """Fills the disk of the store for some seconds."""
        self.disk.fail(WRITE_ENOSPC)
        self.rest(self.chance.uniform(3, 8))
        self.disk.heal()

    def run(self):
        """Runs all of it; returns whether every promise was kept."""
        first = self.gateway.start()
        self.gateway.add_administrator()
        soakers = [Soaker(self, number) for number in range(CALLERS)]
        threads = [threading.Thread(target=it, daemon=True) for it in [soaker.run for soaker in soakers] + [self.sample]]
        striking = threading.Thread(target=self.strike, daemon=True)
        for thread in [*threads, striking]:
            thread.start()
        while time.monotonic() - self.began < self.seconds and striking.is_alive():
            time.sleep(1)
        if not striking.is_alive():
            self.note("the faults ended early; the reason is above")
        self.is_over = True
        striking.join(60)
        last = self.samples[-1]
        for soaker in soakers:
            soaker.is_over = True
        for thread in threads:
            thread.join(30)
        self.settle(soakers[0])
        return self.tell(soakers, first, last)

    def settle(self, soaker):
        """After the last fault: every mail arrives, and every user is as acknowledged, before and after a kill and a
        stop.
        """
        self.rest_for_store()
        # An acknowledged mail arrives, however long the mail server was down.
        registered, end = {person.address for person in self.ledger.people}, time.monotonic() + MAILS_MAX_S
        while registered - self.mails.addresses and time.monotonic() < end:
            time.sleep(0.5)
        for address in sorted(registered - self.mails.addresses):
            self.note(f"the mail for {address} never came")
        for moment in ("at the end", "after a kill", "after a stop"):
            if moment == "after a kill":
                self.gateway.kill()
                self.starts.append(self.gateway.start())
            elif moment == "after a stop":
                if (code := self.gateway.stop()) != 0:
                    self.note(f"SIGTERM ended it with {code}")
                self.gateway.start()
            soaker.checker.caller.close()
            for person in self.ledger.people:
                try:
                    soaker.checker.check(person, is_thorough=True)
                except Unanswered as error:
                    self.note(f"{moment}: {person.name} cannot be checked: {error}")
        self.gateway.stop()
        done = self.gateway.command("store", "check")
        if done.returncode:
            self.note(f"store check: {done.stdout} {done.stderr}")

    def rest_for_store(self):
        """Waits until the store can be written again, at most 15 s."""
        end = time.monotonic() + 15
        while time.monotonic() < end:
            try:
                self.gateway.token = None
                self.gateway.administrator()
                return
            except Unanswered:
                time.sleep(0.5)
        self.note("the store did not heal within 15 s")

    def flatness(self, last):
        """Compares memory and descriptors of the last process: some minutes after its start, and at the end."""
        own = [it for it in self.samples if it[1] == last[1]]
        settled = [it for it in own if own[0][0] + min(300, (last[0] - own[0][0]) / 3) <= it[0]]
        early, late = settled[:6], settled[-6:]
        middle = lambda rows, column: statistics.median(row[column] for row in rows)
        figures = {
            "seconds": round(last[0] - own[0][0]),
            "processor_share": round((last[4] - own[0][4]) / max(1, last[0] - own[0][0]), 3),
            "memory_mib_early": round(middle(early, 2) / 1024, 1), "memory_mib_late": round(middle(late, 2) / 1024, 1),
            "descriptors_early": middle(early, 3), "descriptors_late": middle(late, 3)}
        # Four MiB do not count as growth: an allocator keeps that much.
        if middle(early, 2) * MEMORY_GROWTH_MAX + 4096 < middle(late, 2):
            self.note(f"memory grows: {figures}")
        if middle(early, 3) + DESCRIPTORS_GROWTH_MAX < middle(late, 3):
            self.note(f"descriptors grow: {figures}")
        return figures

    def tell(self, soakers, first, last):
        """Prints the writes and observations; returns whether every promise was kept."""
        sent, failed = Counter(), Counter()
        for soaker in soakers:
            sent.update(soaker.sent)
            failed.update(soaker.failed)
        if self.upstream.forbidden:
            self.note(f"{self.upstream.forbidden} requests reached the upstream that must not")
        if panics := self.gateway.panics():
            self.note(f"{panics} panics in the log")
        print(json.dumps({
            "seed": self.seed, "minutes": round((time.monotonic() - self.began) / 60, 1),
            "acts": dict(sent), "requests": sum(it.caller.sent + it.checker.caller.sent for it in soakers),
            "requests_at_upstream": self.upstream.requests, "mails": self.mails.mails,
            "people": len(self.ledger.people), "acknowledged": dict(self.ledger.acknowledged),
            "acknowledged_in_all": self.ledger.writes(), "looks": self.ledger.looks,
            "faults": dict(self.faults.counts), "failed_by_cause": dict(failed), "refused_writes": dict(self.ledger.answers),
            "start_s": {"first": round(first, 2), "longest_after_kill": round(max(self.starts), 2)},
            "last_process": self.flatness(last), "panics": panics}, indent=1))
        for title, found in (("acknowledged and lost", self.ledger.lost), ("let in wrongly", self.ledger.wrong),
                             ("refused and in force", self.ledger.undead), ("else", self.notes)):
            print(f"{title}: {len(found)}")
            for text in found[:20]:
                print(f"  {text}")
        return not (self.ledger.lost or self.ledger.wrong or self.ledger.undead or self.notes)


def main():
    end_by_exit()
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=60)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--binary", type=pathlib.Path, default="target/release/doorward")
    options.add_argument("--keep", action="store_true", help="keep the directory")
    options = options.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="doorward-soak-"))
    soak = Soak(options, directory)
    try:
        held = soak.run()
    finally:
        if options.keep:
            print(f"kept: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    print("all held" if held else "NOT OK")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
