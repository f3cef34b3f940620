#!/usr/bin/env python3
"""F-22: files of the store are changed, truncated, emptied, deleted, or replaced by older ones.

After each damage the gateway either starts, and then everything is as acknowledged, or it refuses to start with a
reason, and `store check` reports the damage too; a restore of the backup then works. Damage to guess counters alone may
go undetected.
"""

import shutil
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rig import case
from rig.gateway import Gateway, NotStarted
from rig.ledger import network

PASSWORD, NEWER = "Corr3ct-horse", "Newer-0ne-x"
PEOPLE, OLDER = 16, 10
RESTORED_EVERY = 8


class Store:
    """A store with a ledger, copies of it at two moments, and a backup."""

    def __init__(self, run):
        self.run, self.gateway = run, Gateway(run.binary, run.fresh("gateway"))
        self.people = []
        gateway, directory = self.gateway, run.directory
        gateway.start()
        gateway.add_administrator()
        for number in range(OLDER):
            self.add(f"d{number}")
        gateway.stop()
        self.older, self.whole, self.backup = directory / "older", directory / "whole", directory / "backup"
        shutil.copytree(gateway.store, self.older)
        gateway.start()
        for number in range(OLDER, PEOPLE):
            self.add(f"d{number}")
        for person in self.people[:3]:
            # Written after the older copy: replacing the files by that copy undoes this.
            gateway.caller().put("/auth/password", {
                "new_password": NEWER, "verify_password": NEWER, "old_password": PASSWORD, "revoke_keys": True},
                bearer=person["bearer"])
            person["password"], person["revoked"] = NEWER, [person.pop("key"), person["revoked"][0]]
        done = gateway.command("store", "backup", "--to", str(self.backup))
        if done.returncode:
            raise RuntimeError(done.stderr)
        gateway.stop()
        shutil.copytree(gateway.store, self.whole)
        shutil.rmtree(self.whole / "backup", ignore_errors=True)
        self.files = sorted(it.relative_to(self.whole) for it in self.whole.rglob("*")
                            if it.is_file() and it.name not in ("lock", "admin.sock"))

    def add(self, name):
        """Creates a user with one live and one ended session, key and membership."""
        gateway, caller = self.gateway, self.gateway.caller(network(self.run.chance))
        done = gateway.command("account", "add", name, "--identity", f"{name}@example.org", "--name", "D", "--password-stdin",
                               stdin=PASSWORD + "\n")
        if done.returncode:
            raise RuntimeError(done.stderr)
        login, over = (caller.post("/auth/login", {"username": name, "password": PASSWORD}).json for _ in range(2))
        bearer = login["jwt_token"]
        key, revoked = (caller.post("/auth/apikeys", {"name": "k"}, bearer=bearer).json for _ in range(2))
        caller.send("DELETE", f"/auth/apikeys/{revoked['id']}", bearer=bearer)
        caller.post("/auth/logout", bearer=over["jwt_token"])
        root = gateway.administrator()
        for identifier in ("1", "2"):
            caller.put(f"/auth/members/list/{identifier}/{login['uid']}", {"level": "member"}, bearer=root)
        caller.send("DELETE", f"/auth/members/list/2/{login['uid']}", bearer=root)
        self.people.append({"name": name, "password": PASSWORD, "bearer": bearer, "over": over["jwt_token"],
                            "key": key["apikey"], "revoked": [revoked["apikey"]]})

    def put_back(self):
        """Restores the undamaged store."""
        shutil.rmtree(self.gateway.store)
        shutil.copytree(self.whole, self.gateway.store)
        self.gateway.store.chmod(0o700)

    def differences(self):
        """Returns where the running gateway differs from the ledger."""
        found, caller = [], self.gateway.caller()

        def look(what, status, expected):
            if status != expected:
                found.append(f"{what}: {status}")

        for number, person in enumerate(self.people):
            caller.network = network(self.run.chance)
            name = person["name"]
            if number % 4 == 0 or number < 3:
                answer = caller.post("/auth/login", {"username": name, "password": person["password"]})
                look(f"the password of {name}", answer.status, 200)
            if key := person.get("key"):
                look(f"a key and membership of {name}", caller.get("/lists/1/x", key=key).status, 200)
                look(f"an ended membership of {name}", caller.get("/lists/2/x", key=key).status, 403)
            for revoked in person["revoked"]:
                look(f"a revoked key of {name}", caller.get("/protected/x", key=revoked).status, 401)
            look(f"a session of {name}", caller.get("/protected/x", bearer=person["bearer"]).status, 200)
            look(f"an ended session of {name}", caller.get("/protected/x", bearer=person["over"]).status, 401)
        caller.close()
        return found

    def restored_wrongly(self):
        """Returns what is wrong after a restore: passwords must be back, and nothing else may open anything."""
        found, caller = [], self.gateway.caller()
        for person in self.people[::5]:
            caller.network = network(self.run.chance)
            answer = caller.post("/auth/login", {"username": person["name"], "password": person["password"]})
            if answer.status != 200:
                found.append(f"the password of {person['name']}: {answer}")
            for key in [*person["revoked"], *([person["key"]] if "key" in person else [])]:
                if caller.get("/protected/x", key=key).status != 401:
                    found.append(f"a key of {person['name']} works")
        return found


def harm(store, chance):
    """Damages one file at random; returns a description."""
    weights = [30 if it.parts[0] == "db" else 4 for it in store.files]
    [file], kind = chance.choices(store.files, weights), chance.choice(
        ["flip", "flip", "flip", "flips", "zeros", "cut", "cut", "delete", "empty", "junk", "append", "block", "older"])
    path = store.gateway.store / file
    if kind == "delete":
        path.unlink()
        return f"{file}: deleted"
    data = bytearray(path.read_bytes())
    # The content is at the front; sled fills the rest with zeros.
    used = max(1, len(data.rstrip(b"\0")))
    place = chance.randrange(used)
    match kind:
        case "flip":
            data[place] ^= 1 << chance.randrange(8)
        case "flips":
            for _ in range(chance.randrange(2, 60)):
                data[chance.randrange(used)] ^= chance.randrange(1, 256)
        case "zeros":
            length = min(chance.choice([16, 512, 4096]), len(data) - place)
            data[place:place + length] = bytes(length)
        case "cut":
            del data[place:]
        case "empty":
            data.clear()
        case "junk":
            data = bytearray(chance.randbytes(len(data)))
        case "append":
            data += chance.randbytes(chance.randrange(1, 5000))
        case "block":
            other = chance.randrange(used)
            data[place:place + 512] = data[other:other + 512]
        case "older":
            if not (store.older / file).exists():
                return None
            data = bytearray((store.older / file).read_bytes())
    if bytes(data) == path.read_bytes():
        return None
    path.write_bytes(data)
    return f"{file}: {kind} at {place} of {len(data)}"


def whole_parts(store):
    """Damages that are not random: whole parts deleted, or replaced by older ones."""
    place, older = store.gateway.store, store.older

    def take_older(*names):
        for name in names:
            path = place / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            shutil.copytree(older / name, path) if (older / name).is_dir() else shutil.copy(older / name, path)

    return {
        "db/ deleted": lambda: shutil.rmtree(place / "db"),
        "census deleted": lambda: (place / "census").unlink(),
        "db/ of an older moment": lambda: take_older("db"),
        "census of an older moment": lambda: take_older("census"),
        "every file emptied": lambda: [(place / it).write_bytes(b"") for it in store.files],
    }


def judge(store, what, counts, result, number):
    """Starts on a damaged store and checks the outcome."""
    gateway, mark = store.gateway, store.gateway.log_size()
    try:
        gateway.start(30)
    except NotStarted as error:
        if error.code is None:
            gateway.kill()
            counts["hung"] += 1
            return result.expect(False, f"{what}: neither ready nor ended")
        counts["refused"] += 1
        result.expect(error.code == 1 and error.text.strip(), f"{what}: exit {error.code}: {error.text[-200:]}")
        checked = gateway.command("store", "check")
        result.expect(checked.returncode == 1 or "keys/" in what, f"{what}: start refused, but store check finds nothing")
        if number % RESTORED_EVERY == 0:
            restore(store, what, counts, result)
        return True
    found = store.differences()
    gateway.stop()
    told = [line for line in gateway.log(mark).splitlines() if " WARN " in line or " ERROR " in line]
    # A missing or different key file voids what was made with it; that must be reported.
    is_told = bool(found) and "keys/" in what and bool(told)
    counts["harmless" if not found else "voided and said" if is_told else "silent"] += 1
    return result.expect(not found or is_told, f"{what}: started, and says otherwise: {found[:3]}")


def restore(store, what, counts, result):
    """Restores the backup after a refusal."""
    try:
        store.gateway.start(30)
        store.gateway.stop()
        result.expect(False, f"{what}: the second start went through")
    except NotStarted:
        pass
    done = store.gateway.command("store", "restore", str(store.backup))
    if not result.expect(done.returncode == 0, f"{what}: restore: {done.stderr[-200:]}"):
        return
    store.gateway.start()
    found = store.restored_wrongly()
    store.gateway.stop()
    counts["restored"] += 1
    result.expect(not found, f"{what}: restored: {found[:3]}")


def damaged_backups(run, store, result):
    """Every damage of a backup is found, by the check and by the restore."""
    raw, counts = store.backup.read_bytes(), Counter()
    damaged = run.directory / "damaged"
    for _ in range(15 if run.is_short else 100):
        data, place = bytearray(raw), run.chance.randrange(len(raw))
        match run.chance.choice(["flip", "cut", "append", "zeros"]):
            case "flip":
                data[place] ^= 1 << run.chance.randrange(8)
            case "cut":
                del data[place:]
            case "append":
                data += b"x"
            case "zeros":
                data[place:place + 64] = bytes(len(data[place:place + 64]))
        if bytes(data) == raw:
            continue
        damaged.write_bytes(data)
        damaged.chmod(0o600)
        for words in (("check", "--backup", str(damaged)), ("restore", str(damaged))):
            done = store.gateway.command("store", *words)
            counts[words[0], done.returncode] += 1
            result.expect(done.returncode == 1, f"{words[0]} of a damaged backup: {done.returncode}")
    result.figure(f"{sum(counts.values()) // 2} damages, each found by check and restore" if not result.faults else str(counts))


def body(run):
    store, counts = Store(run), Counter()
    with run.case("files of the store are damaged", "it starts and all is there, or it refuses and a restore helps") as result:
        store.put_back()
        store.gateway.start()
        result.expect(not store.differences(), "the ledger is wrong without any damage")
        store.gateway.stop()
        for what, damage in whole_parts(store).items():
            store.put_back()
            damage()
            judge(store, what, counts, result, 0)
        number = 0
        while not run.is_over():
            store.put_back()
            if what := harm(store, run.chance):
                number += 1
                judge(store, what, counts, result, number)
        result.expect(store.gateway.panics() == 0, "a panic")
        result.figure(f"{counts.total() - counts['restored']} damages: " +
                      ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    with run.case("backups are damaged", "check and restore refuse them") as result:
        store.put_back()
        damaged_backups(run, store, result)
        store.gateway.start()
        result.expect(not store.differences(), "the store is not what it was before the refused restores")
        store.gateway.stop()


case.main("F-22", body, seconds=600, seconds_in_gate=45)
