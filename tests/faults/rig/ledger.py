"""What the gateway has acknowledged, and whether it still says so.

Each fact is a `Cell`: the values that it may have. A write in flight adds a value, its acknowledgement leaves that one
alone, its refusal takes it back, and a crash in between leaves both until one of them is seen.
"""

import threading
import time
from collections import Counter

from rig.http import Unanswered

# Within 10 s a refresh token that was spent gives the same successor, so a crash costs nobody the session.
GRACE_S = 8


class Cell:
    """One fact, as far as its writer knows it."""

    def __init__(self, value):
        self.may_be = {value}
        # What was refused because something failed: it must not be in force.
        self.failed = set()
        # How many writes were begun.
        self.writes = 0

    def write(self, value, ask):
        """Calls `ask` for the answer to a write of `value`, and keeps what it means. Raises `Unanswered`."""
        before = self.begin(value)
        answer = ask()
        if is_done(answer):
            self.may_be = {value}
        elif not is_unknown(answer):
            self.take_back(value, before, answer)
        return answer

    def begin(self, value):
        """Keeps that a write of `value` is in flight, and gives what was so before."""
        before, self.may_be = self.may_be, self.may_be | {value}
        self.writes += 1
        return before

    def take_back(self, value, before, answer):
        """Keeps that a write of `value` was refused."""
        self.may_be = before
        if 500 <= answer.status:
            self.failed.add(value)

    def observe(self, value):
        """Whether the fact may have this value; from now on it has."""
        fits, self.may_be = value in self.may_be, {value}
        return fits

    def is_sure(self, value):
        """Whether the fact has this value and no other."""
        return self.may_be == {value}

    def is_in_doubt(self):
        """Whether a write was neither acknowledged nor refused."""
        return len(self.may_be) != 1


def is_done(answer):
    """Whether the answer acknowledges a write."""
    return answer.status in (200, 201, 202, 204)


def is_unknown(answer):
    """Whether the answer says that the outcome is not known."""
    return answer.code == "write_unknown"


class Session:
    """A login: its present tokens and those that were spent, with the times of that."""

    def __init__(self, bearer, refresh):
        self.bearer, self.refresh, self.alive = bearer, refresh, Cell(True)
        self.refreshing_since, self.spent = None, []


class Key:
    """An API key: the present secret, whether it opens anything, and the secrets before it."""

    def __init__(self, identifier, secret):
        self.identifier, self.secret, self.live, self.before = identifier, secret, Cell(True), []


class Person:
    """An account and all that was acknowledged of it."""

    def __init__(self, name):
        self.name, self.address = name, f"{name}@example.org"
        self.uid, self.account = None, None
        self.password, self.status = Cell(None), Cell("pending")
        self.sessions, self.keys, self.members, self.spent = [], [], {}, []
        self.token_in_doubt = None
        # Mailed tokens that were not taken yet, and how many of those that come next may be void: a password that is set
        # voids all.
        self.tokens_due, self.tokens_void = 0, 0
        self.is_touched = True

    def live_sessions(self):
        """Sessions that are surely alive and whose tokens are known."""
        return [it for it in self.sessions if it.alive.is_sure(True) and it.refreshing_since is None]

    def live_keys(self):
        """API keys that surely work."""
        return [it for it in self.keys if it.live.is_sure(True)]


class Ledger:
    """All people, what was acknowledged by kind, and what the gateway said otherwise.

    `lost` has what was acknowledged and is not there, `wrong` what is let in though it was ended, spent or never given,
    `undead` what is in force although its write was refused because something had failed.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.people, self.acknowledged, self.answers = [], Counter(), Counter()
        self.lost, self.wrong, self.undead, self.looks = [], [], [], 0

    def count(self, kind, answer):
        """Notes an answer to a write of this kind."""
        with self.lock:
            if is_done(answer):
                self.acknowledged[kind] += 1
            else:
                self.answers[f"{kind}: {answer}"] += 1

    def writes(self):
        """How many writes were acknowledged."""
        return self.acknowledged.total()

    def judge(self, person, what, cell, value, is_open):
        """Compares a fact with the value that was seen; `is_open` says whether that value lets somebody in."""
        expected = cell.may_be
        if cell.observe(value):
            return
        seen = f"{value} in place of {sorted(map(str, expected))}"
        if value in cell.failed:
            with self.lock:
                self.undead.append(f"{what}: a write that was refused with 5xx is in force ({person.name}: {seen})")
        elif is_open:
            self.allowed(person, what, seen)
        else:
            self.missing(person, what, seen)

    def missing(self, person, what, seen):
        """Notes that something acknowledged is not there."""
        with self.lock:
            self.lost.append(f"{what} ({person.name}: {seen})")

    def allowed(self, person, what, seen):
        """Notes that something is in force that was ended, spent or refused."""
        with self.lock:
            self.wrong.append(f"{what} ({person.name}: {seen})")


class Checker:
    """Looks whether the gateway says of a person what the ledger does."""

    def __init__(self, ledger, gateway, caller, chance):
        self.ledger, self.gateway, self.caller, self.chance = ledger, gateway, caller, chance

    def check(self, person, is_thorough=False):
        """Looks at all of a person. Raises `Unanswered`; then what was not seen stays in doubt."""
        self.ledger.looks += 1
        self.caller.network = network(self.chance)
        # First what is good for some seconds only.
        for session in [it for it in person.sessions if it.refreshing_since is not None]:
            self._refresh_in_doubt(person, session)
        if person.token_in_doubt:
            self._token_in_doubt(person)
        if person.status.is_in_doubt() or person.password.is_in_doubt() or person.uid is None or is_thorough:
            self._password(person)
        for session in list(person.sessions):
            self._session(person, session, is_thorough)
        for key in list(person.keys):
            self._key(person, key)
        # Who is disabled has memberships still, and no roles.
        if person.members and person.status.is_sure("active"):
            self._members(person)
        for token in person.spent[-2:] if is_thorough else []:
            self._spent_token(person, token)
        person.is_touched = False

    def _opens(self, **credential):
        answer = self.caller.get("/protected/x", **credential)
        if answer.status not in (200, 401):
            raise Unanswered(f"neither allowed nor refused: {answer}")
        return answer.status == 200

    def _refresh_in_doubt(self, person, session):
        answer = self.caller.post("/auth/token", form={"grant_type": "refresh_token", "refresh_token": session.refresh})
        if answer.status == 200:
            took_over(session, answer)
        elif GRACE_S < time.monotonic() - session.refreshing_since or not session.alive.is_sure(True):
            person.sessions.remove(session)
        elif answer.status < 500:
            self.ledger.missing(person, "a session whose refresh was in flight", answer)
            person.sessions.remove(session)
        else:
            raise Unanswered(str(answer))
        session.refreshing_since = None

    def _token_in_doubt(self, person):
        """A password was being set with a mailed token: it is used up and the password set, or it is still good."""
        token, wanted, was_good = person.token_in_doubt
        other = f"D0ubt-{self.chance.randrange(10**6):06}-x"
        answer = self.caller.put(
            "/auth/password", {"new_password": other, "verify_password": other, "reset_token": token})
        if answer.status == 200:
            confirmed(person, answer, other)
        elif answer.code == "token_invalid" and not was_good:
            # Used up, or void before: the passwords are tried.
            pass
        elif answer.code == "token_invalid":
            person.password.may_be, person.status.may_be = {wanted}, {"active"}
            for session in person.sessions:
                session.alive.may_be = {False}
        else:
            raise Unanswered(str(answer))
        person.spent.append(token)
        person.token_in_doubt = None

    def _password(self, person):
        passwords = sorted(it for it in person.password.may_be if it)
        if person.status.may_be == {"pending"} or not passwords:
            return
        for password in passwords:
            answer = self.caller.post("/auth/login", {"username": person.name, "password": password})
            if answer.status == 200:
                self.ledger.judge(person, "the account's status", person.status, "active", True)
                person.password.observe(password)
                found = answer.json
                person.uid, person.account = found["uid"], found["account_id"]
                person.sessions.append(Session(found["jwt_token"], found["refresh_token"]))
                return
            if answer.status != 401:
                raise Unanswered(f"a login: {answer}")
        if "disabled" in person.status.may_be:
            person.status.observe("disabled")
        elif "pending" in person.status.may_be:
            person.status.observe("pending")
        else:
            self.ledger.missing(person, "the password", answer)
            person.status.observe("lost")

    def _session(self, person, session, is_thorough):
        opens = self._opens(bearer=session.bearer)
        self.ledger.judge(person, "a session", session.alive, opens, opens)
        if not opens or person.status.may_be != {"active"}:
            if is_thorough:
                answer = self.caller.post(
                    "/auth/token", form={"grant_type": "refresh_token", "refresh_token": session.refresh})
                if answer.status == 200:
                    self.ledger.allowed(person, "a refresh token of an ended session", answer)
            person.sessions.remove(session)
            return
        old = [token for since, token in session.spent if GRACE_S + 4 < time.monotonic() - since]
        if old and self.chance.random() < 0.2:
            # That it comes again ends the session.
            answer = self.caller.post("/auth/token", form={"grant_type": "refresh_token", "refresh_token": old[-1]})
            if answer.status == 200:
                self.ledger.allowed(person, "a spent refresh token", answer)
            person.sessions.remove(session)

    def _key(self, person, key):
        opens = self._opens(key=key.secret)
        self.ledger.judge(person, "an API key", key.live, opens, opens)
        for secret in key.before[-2:]:
            if self._opens(key=secret):
                self.ledger.allowed(person, "an API key's secret before its rotation", key.identifier)
        if not opens:
            person.keys.remove(key)

    def _members(self, person):
        answer = self.caller.get(f"/auth/roles?uid={person.uid}", bearer=self.gateway.administrator())
        if answer.status != 200:
            raise Unanswered(f"roles: {answer}")
        roles = set(answer.json["roles"])
        for identifier, cell in person.members.items():
            levels = [it for it in ("manager", "member", "invitee") if f"list-{identifier}-{it}" in roles]
            level = levels[0] if levels else None
            self.ledger.judge(person, f"a membership of {identifier}", cell, level, level is not None)

    def _spent_token(self, person, token):
        answer = self.caller.put("/auth/password", {
            "new_password": "Sp3nt-token-x", "verify_password": "Sp3nt-token-x", "reset_token": token})
        if answer.status == 200:
            self.ledger.allowed(person, "a one-time token that was used", answer)


def confirmed(person, answer, password):
    """Keeps what the answer to a password set by token means: the account is active and all its sessions have ended."""
    person.password.may_be, person.status.may_be = {password}, {"active"}
    person.uid, person.account = answer.json["uid"], answer.json["account_id"]
    for session in person.sessions:
        session.alive.may_be = {False}


def took_over(session, answer):
    """Keeps the successor of a refresh token."""
    session.spent.append((time.monotonic(), session.refresh))
    session.bearer, session.refresh = answer.json["access_token"], answer.json["refresh_token"]


def network(chance):
    """A client network of 10.0.0.0/8, so that no limit per network is met."""
    return f"10.{chance.randrange(1, 250)}.{chance.randrange(250)}.{chance.randrange(1, 250)}"
