"""Callers that register, log in, refresh, create keys and set memberships at random, and record each answer in a
ledger.
"""

import threading
import time

from rig.http import Unanswered
from rig.ledger import Cell, Key, Person, Session, confirmed, is_done, is_unknown, network, took_over

KINDS = ["register", "reset", "log_in", "log_in", "refresh", "refresh", "refresh", "create_key", "create_key", "rotate_key",
         "revoke_key", "set_member", "set_member", "end_member", "log_out", "disable", "change_password"]
# Writes that require a login, and writes that require an API key.
BY_LOGIN = {"refresh", "create_key", "rotate_key", "revoke_key", "log_out", "change_password"}
ON_KEYS = {"rotate_key", "revoke_key"}
LISTS = 6
SESSIONS_MAX = 4
KEYS_MAX = 6


class Writer:
    """One caller with users of its own. Its methods raise `Unanswered`; the write in flight is then in doubt."""

    def __init__(self, gateway, ledger, tokens, chance, number, kinds=None):
        self.gateway, self.ledger, self.tokens, self.chance = gateway, ledger, tokens, chance
        self.number, self.kinds = number, kinds or KINDS
        self.people, self.registered, self.is_over = [], 0, False
        self.caller = gateway.caller(network(chance))

    def act(self):
        """Performs one random write; a registration while there are few users."""
        ready = [it for it in self.people if it.status.is_sure("active") and not it.password.is_in_doubt()]
        if len(ready) < 2:
            return self.register(None)
        person, kind = self.chance.choice(ready), self.chance.choice(self.kinds)
        if kind in BY_LOGIN and not person.live_sessions():
            kind = "log_in"
        elif kind in ON_KEYS and not person.live_keys():
            kind = "create_key"
        return getattr(self, kind)(person)

    def _note(self, kind, answer):
        self.ledger.count(kind, answer)
        return answer

    def register(self, _person):
        """Registers a user and confirms the address with the mailed token."""
        self.registered += 1
        person = Person(f"p{self.number}-{self.registered}")
        person.tokens_due = 1
        answer = self._note("register", self.caller.post(
            "/auth/register", {"identity": person.address, "username": person.name, "name": "Somebody"}))
        if not is_done(answer):
            return
        with self.ledger.lock:
            self.ledger.people.append(person)
        self.people.append(person)
        self._use_token(person, "confirm", f"F1rst-horse-{self.chance.randrange(10**6):06}")

    def reset(self, person):
        """Requests a mail and sets another password with its token."""
        person.tokens_due += 1
        if is_done(self._note("forgot", self.caller.post("/auth/forgot", {"username": person.name}))):
            self._use_token(person, "reset", f"Res3t-{self.chance.randrange(10**6):06}-x")

    def _use_token(self, person, kind, password):
        token = self.tokens.take(person.address, 10, lambda: self.is_over)
        if token is None:
            return
        person.tokens_due, was_good = person.tokens_due - 1, person.tokens_void == 0
        person.tokens_void = person.tokens_due
        before, sessions = person.password.begin(password), [it.alive.may_be for it in person.sessions]
        person.is_touched, person.token_in_doubt = True, (token, password, was_good)
        if kind == "confirm":
            person.status.may_be = {"pending", "active"}
        for session in person.sessions:
            session.alive.may_be = session.alive.may_be | {False}
        answer = self._note(kind, self.caller.put("/auth/password", {
            "new_password": password, "verify_password": password, "reset_token": token}))
        if is_done(answer):
            confirmed(person, answer, password)
            person.spent.append(token)
        elif is_unknown(answer):
            return
        else:
            person.password.take_back(password, before, answer)
            if kind == "confirm":
                person.status.may_be = {"pending"}
            for session, alive in zip(person.sessions, sessions):
                session.alive.may_be = alive
        person.token_in_doubt = None

    def change_password(self, person):
        """Changes the password with a login, which ends the other sessions."""
        if not (live := person.live_sessions()):
            return
        person.tokens_void = person.tokens_due
        [old], new = person.password.may_be, f"Chang3d-{self.chance.randrange(10**6):06}-x"
        others = [it for it in person.sessions if it is not live[-1]]
        before = [it.alive.may_be for it in others]
        person.is_touched = True
        for session in others:
            session.alive.may_be = session.alive.may_be | {False}
        answer = self._note("change_password", person.password.write(new, lambda: self.caller.put(
            "/auth/password", {"new_password": new, "verify_password": new, "old_password": old}, bearer=live[-1].bearer)))
        for session, alive in zip(others, before):
            if is_done(answer):
                session.alive.may_be = {False}
            elif not is_unknown(answer):
                session.alive.may_be = alive

    def log_in(self, person):
        """Logs in, or logs out if there are enough sessions."""
        if SESSIONS_MAX <= len(person.live_sessions()):
            return self.log_out(person)
        [password], person.is_touched = person.password.may_be, True
        self.caller.network = network(self.chance)
        answer = self._note("log_in", self.caller.post("/auth/login", {"username": person.name, "password": password}))
        if is_done(answer):
            person.sessions.append(Session(answer.json["jwt_token"], answer.json["refresh_token"]))

    def refresh(self, person):
        """Refreshes to get the next pair of tokens."""
        if not (live := person.live_sessions()):
            return
        session, person.is_touched = self.chance.choice(live), True
        session.refreshing_since = time.monotonic()
        answer = self._note("refresh", self.caller.post(
            "/auth/token", form={"grant_type": "refresh_token", "refresh_token": session.refresh}))
        if is_done(answer):
            took_over(session, answer)
        elif is_unknown(answer):
            return
        session.refreshing_since = None

    def log_out(self, person):
        """Ends the oldest session."""
        if live := person.live_sessions():
            person.is_touched = True
            self._note("log_out", live[0].alive.write(
                False, lambda: self.caller.post("/auth/logout", bearer=live[0].bearer)))

    def create_key(self, person):
        """Creates an API key, if there is room."""
        if not (live := person.live_sessions()) or KEYS_MAX <= len(person.keys):
            return
        person.is_touched = True
        answer = self._note("create_key", self.caller.post("/auth/apikeys", {"name": "k"}, bearer=live[-1].bearer))
        if is_done(answer):
            person.keys.append(Key(answer.json["id"], answer.json["apikey"]))

    def rotate_key(self, person):
        """Rotates an API key's secret; the old one ends at once."""
        if not (live := person.live_sessions()) or not (keys := person.live_keys()):
            return
        key, person.is_touched = self.chance.choice(keys), True
        answer = self._note("rotate_key", key.live.write(False, lambda: self.caller.post(
            f"/auth/apikeys/{key.identifier}/rotate", {"overlap_s": 0}, bearer=live[-1].bearer)))
        if is_done(answer):
            key.before.append(key.secret)
            key.secret, key.live.may_be = answer.json["apikey"], {True}

    def revoke_key(self, person):
        """Revokes an API key."""
        if (live := person.live_sessions()) and (keys := person.live_keys()):
            key, person.is_touched = self.chance.choice(keys), True
            self._note("revoke_key", key.live.write(False, lambda: self.caller.send(
                "DELETE", f"/auth/apikeys/{key.identifier}", bearer=live[-1].bearer)))

    def set_member(self, person):
        """Sets a membership, as the administrator."""
        identifier, level = str(self.chance.randrange(LISTS)), self.chance.choice(["invitee", "member", "manager"])
        token, person.is_touched = self.gateway.administrator(), True
        cell = person.members.setdefault(identifier, Cell(None))
        self._note("set_member", cell.write(level, lambda: self.caller.put(
            f"/auth/members/list/{identifier}/{person.uid}", {"level": level}, bearer=token)))

    def end_member(self, person):
        """Ends a membership, as the administrator."""
        there = [it for it, cell in person.members.items() if None not in cell.may_be]
        if there:
            identifier, token, person.is_touched = self.chance.choice(there), self.gateway.administrator(), True
            self._note("end_member", person.members[identifier].write(None, lambda: self.caller.send(
                "DELETE", f"/auth/members/list/{identifier}/{person.uid}", bearer=token)))

    def disable(self, person):
        """Disables an account now and then, as the administrator."""
        if self.chance.random() < 0.6:
            return
        token, person.is_touched = self.gateway.administrator(), True
        before = [it.alive.may_be for it in person.sessions], [it.live.may_be for it in person.keys]
        for cell in [it.alive for it in person.sessions] + [it.live for it in person.keys]:
            cell.may_be = cell.may_be | {False}
        answer = self._note("disable", person.status.write("disabled", lambda: self.caller.send(
            "PATCH", f"/auth/accounts/{person.account}", {"status": "disabled"}, bearer=token)))
        sessions, keys = before
        cells = list(zip([it.alive for it in person.sessions], sessions)) + list(zip([it.live for it in person.keys], keys))
        for cell, may_be in cells:
            if is_done(answer):
                cell.may_be = {False}
            elif not is_unknown(answer):
                cell.may_be = may_be


def write_until_it_is_gone(writers, seconds, at_end):
    """Runs the writers concurrently for some seconds, then calls `at_end` while they run, and waits for them."""
    errors = []

    def run(writer):
        try:
            while not writer.is_over:
                writer.act()
        except Unanswered:
            writer.caller.close()
        except Exception as error:  # a fault of the script must not be mistaken for the gateway's silence
            errors.append(error)

    threads = []
    for writer in writers:
        writer.is_over = False
        threads.append(threading.Thread(target=run, args=(writer,), daemon=True))
        threads[-1].start()
    time.sleep(seconds)
    at_end()
    for writer in writers:
        writer.is_over = True
    for thread in threads:
        thread.join(30)
    if errors:
        raise errors[0]
