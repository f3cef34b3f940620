"""The facts that the gateway has acknowledged, compared with what it says now.

Each fact is a `Cell`: the set of values that it may have. A write in flight adds a value, its acknowledgement removes
all others, its refusal removes it again, and a crash in between leaves both until one of them is seen.
"""

import threading
import time
from collections import Counter

from rig.http import Unanswered

# Within 10 s a spent refresh token yields the same successor again, so a crash ends no session.
GRACE_S = 8


class Cell:
    """One fact, as far as its writer knows it."""

    def __init__(self, value):
        self.may_be = {value}
        # Values whose write was refused because of a failure: they must not be in force.
        self.failed = set()
        # The number of writes begun.
        self.writes = 0

    def write(self, value, ask):
        """Calls `ask` for the answer to a write of `value`, and records the result. Raises `Unanswered`."""
        before = self.begin(value)
        answer = ask()
        if is_done(answer):
            self.may_be = {value}
        elif not is_unknown(answer):
            self.take_back(value, before, answer)
        return answer

    def begin(self, value):
        """Records that a write of `value` is in flight, and returns the previous values."""
        before, self.may_be = self.may_be, self.may_be | {value}
        self.writes += 1
        return before

    def take_back(self, value, before, answer):
        """Records that a write of `value` was refused."""
        self.may_be = before
        if 500 <= answer.status:
            self.failed.add(value)

    def observe(self, value):
        """Whether the fact may have this value; if so, it has it from now on."""
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
    """Whether the answer says that the outcome is unknown."""
    return answer.code == "write_unknown"


class Session:
    """A login: its current tokens, and the spent ones with the times of their use."""

    def __init__(self, bearer, refresh):
        self.bearer, self.refresh, self.alive = bearer, refresh, Cell(True)
        self.refreshing_since, self.spent = None, []


class Key:
    """An API key: the current secret, whether the key is accepted, and the previous secrets."""

    def __init__(self, identifier, secret):
        self.identifier, self.secret, self.live, self.before = identifier, secret, Cell(True), []


class Person:
    """An account and everything acknowledged about it."""

    def __init__(self, name):
        self.name, self.address = name, f"{name}@example.org"
        self.uid, self.account = None, None
        self.password, self.status = Cell(None), Cell("pending")
        self.sessions, self.keys, self.members, self.spent = [], [], {}, []
        self.token_in_doubt = None
        # Mailed tokens that were not read yet, and how many of the next ones may be void: setting a password voids all.
        self.tokens_due, self.tokens_void = 0, 0
        self.is_touched = True

    def live_sessions(self):
        """Sessions that are certainly alive and whose tokens are known."""
        return [it for it in self.sessions if it.alive.is_sure(True) and it.refreshing_since is None]

    def live_keys(self):
        """API keys that are certainly accepted."""
        return [it for it in self.keys if it.live.is_sure(True)]


class Ledger:
    """All users, the number of acknowledgements by kind, and the differences found.

    `lost` contains what was acknowledged and is missing, `wrong` what is accepted though it was ended, spent or never
    issued, `undead` what is in force although its write was refused because of a failure.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.people, self.acknowledged, self.answers = [], Counter(), Counter()
        self.lost, self.wrong, self.undead, self.looks = [], [], [], 0

    def count(self, kind, answer):
        """Records an answer to a write of this kind."""
        with self.lock:
            if is_done(answer):
                self.acknowledged[kind] += 1
            else:
                self.answers[f"{kind}: {answer}"] += 1

    def writes(self):
        """Returns the number of acknowledged writes."""
        return self.acknowledged.total()

    def judge(self, person, what, cell, value, is_open):
        """Compares a fact with the observed value; `is_open` says whether that value grants access."""
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
        """Records that something acknowledged is missing."""
        with self.lock:
            self.lost.append(f"{what} ({person.name}: {seen})")

    def allowed(self, person, what, seen):
        """Records that something is in force that was ended, spent or refused."""
        with self.lock:
            self.wrong.append(f"{what} ({person.name}: {seen})")


class Checker:
    """Checks whether the gateway agrees with the ledger about a user."""

    def __init__(self, ledger, gateway, caller, chance):
        self.ledger, self.gateway, self.caller, self.chance = ledger, gateway, caller, chance

    def check(self, person, is_thorough=False):
        """Checks everything about a user. Raises `Unanswered`; anything not checked by then stays in doubt."""
        self.ledger.looks += 1
        self.caller.network = network(self.chance)
        # First the facts that can be checked only for some seconds.
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
        # A disabled account keeps its memberships, but has no roles.
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
        """A password was being set with a mailed token: either the token is used up and the password set, or the token
        still works.
        """
        token, wanted, was_good = person.token_in_doubt
        other = f"D0ubt-{self.chance.randrange(10**6):06}-x"
        answer = self.caller.put(
            "/auth/password", {"new_password": other, "verify_password": other, "reset_token": token})
        if answer.status == 200:
            confirmed(person, answer, other)
        elif answer.code == "token_invalid" and not was_good:
            # Used up now, or void before: the passwords are tried.
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
            # A repeated use ends the session.
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
    """Records the answer to a password set by token: the account is active and all its sessions have ended."""
    person.password.may_be, person.status.may_be = {password}, {"active"}
    person.uid, person.account = answer.json["uid"], answer.json["account_id"]
    for session in person.sessions:
        session.alive.may_be = {False}


def took_over(session, answer):
    """Records the successor of a refresh token."""
    session.spent.append((time.monotonic(), session.refresh))
    session.bearer, session.refresh = answer.json["access_token"], answer.json["refresh_token"]


def network(chance):
    """Returns a client network of 10.0.0.0/8, so that no limit per network is reached."""
    return f"10.{chance.randrange(1, 250)}.{chance.randrange(250)}.{chance.randrange(1, 250)}"
