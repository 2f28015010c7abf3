"""Clients that use a data center while something happens to it: each does one thing again and again, and knows what it was told."""

import base64
import json
import random
import threading
import time
from dataclasses import dataclass

from harness import PATIENCE, NotYet, check, equal

# All of them carry the number of the write that made them.
GENERATION = [f"pair/{at:02}" for at in range(16)]
# What a server may say that has nobody to ask, or too much to do: then it is not known what became of a request.
UNKNOWN = (429, 500, 503)


@dataclass
class Change:
    """Something that was asked for, and when; `answered` is None as long as it is not known whether it was done."""

    kind: str
    name: str
    asked: float
    answered: float = None


class Worker(threading.Thread):
    """Does its step again and again until it is stopped. What goes wrong is told by `end`."""

    def __init__(self, agents):
        super().__init__(daemon=True)
        self.agents, self.ended, self.error, self.steps = agents, threading.Event(), None, 0
        self.start()

    def run(self):
        try:
            while not self.ended.is_set():
                self.step()
                self.steps += 1
        except Exception as error:  # whatever it is, the main thread tells it
            self.error = error

    def ask(self, method, path, body=None, timeout=30):
        """Status, headers and body; None if it is not known whether that was done."""
        try:
            status, headers, answer = random.choice(self.agents).call(method, path, body, timeout)
        except OSError:
            return None
        return None if status in UNKNOWN else (status, headers, answer)

    def end(self):
        self.ended.set()
        self.join(PATIENCE)
        check(not self.is_alive(), f"{type(self).__name__} does not end")
        check(self.error is None, f"{type(self).__name__}: {self.error!r}")


def ends(workers):
    for worker in workers:
        worker.ended.set()
    for worker in workers:
        worker.end()


class Creator(Worker):
    """Makes one thing after the other, each with a name of its own, and takes some away again."""

    def __init__(self, agents, place, number):
        self.place, self.number, self.changes = place, number, []
        super().__init__(agents)

    def step(self):
        at = len(self.changes)
        name = f"{self.place}/{self.number}/{at:06}"
        kind = ("key", "key", "service", "key", "session", "delete", "key", "query")[at % 8]
        if kind == "delete":
            # The last but one that was made, so that it is not known already what becomes of it.
            name = [change.name for change in self.changes if change.kind == "key"][-2]
        change = Change(kind, name, time.monotonic())
        self.changes.append(change)
        answer = self.request(kind, name)
        if answer is not None:
            equal(answer[0], 200, f"{kind} {name}: {answer[2][:200]!r}: status")
            change.answered = time.monotonic()

    def request(self, kind, name):
        plain = name.replace("/", "-")
        if kind == "key":
            return self.ask("PUT", f"/v1/kv/{name}", plain.encode() * 8)
        if kind == "delete":
            return self.ask("DELETE", f"/v1/kv/{name}")
        if kind == "service":
            service = {"ID": plain, "Service": f"ext-{self.number}", "Port": 80, "Tags": [plain]}
            check_ = {"CheckID": plain, "Name": "well", "Status": "passing", "ServiceID": plain}
            return self.ask("PUT", "/v1/catalog/register", json.dumps(external() | {"Service": service, "Check": check_}).encode())
        if kind == "session":
            return self.ask("PUT", "/v1/session/create", json.dumps(session(plain)).encode())
        query = {"Name": plain, "Service": {"Service": f"ext-{self.number}", "Tags": [plain]}}
        return self.ask("POST", "/v1/query", json.dumps(query).encode())


def external():
    """A node that no agent speaks for: it outlives the data center in which it was registered."""
    return {"Node": "ext", "Address": "10.0.0.1", "NodeMeta": {"external-node": "true"}}


def session(name, **more):
    return {"Name": name, "Node": "ext", "NodeChecks": [], "LockDelay": "0s", **more}


class Generations(Worker):
    """Writes all keys of a generation at once, again and again."""

    def __init__(self, agents, mark):
        self.mark, self.written = mark, 0
        super().__init__(agents)

    def step(self):
        value = f"{self.mark}{self.written}"
        done = self.ask("PUT", "/v1/txn", transaction((key, value) for key in GENERATION))
        check(done is None or done[0] == 200, f"a generation is not written: {done}")
        self.written += 1
        time.sleep(0.002)


def transaction(pairs):
    return json.dumps([{"KV": {"Verb": "set", "Key": key, "Value": b64(value)}} for key, value in pairs]).encode()


def b64(text):
    return base64.b64encode(text.encode()).decode()


class Looker(Worker):
    """Reads the keys of a generation, in every way there is, and never sees two generations at once, nor an index that goes back."""

    def __init__(self, agents, agent):
        self.agent, self.seen, self.highest = agent, set(), 0
        super().__init__(agents)

    def step(self):
        mode = random.choice(["", "consistent", "stale"])
        try:
            status, headers, body = self.agent.call("GET", f"/v1/kv/pair/?recurse&{mode}")
        except OSError:
            return
        if status in (404, *UNKNOWN):
            return
        equal(status, 200, f"reading a generation: {body[:200]!r}: status")
        entries = json.loads(body)
        values = {entry["Value"] for entry in entries}
        check(len(entries) == len(GENERATION) and len(values) == 1, f"a half is seen: {len(entries)} keys of {values}")
        self.seen |= values
        index = int(headers["X-Consul-Index"])
        check(index >= self.highest, f"{self.agent.name} goes back from index {self.highest} to {index}")
        self.highest = index


class Contender(Worker):
    """Takes a lock with a session of its own, writes under its fence, and lets it go."""

    def __init__(self, agents, key, hold):
        self.key, self.hold, self.id = key, hold, None
        # Fences with when they were asked for and given, and what was written under them: index and fence.
        self.fences, self.taken = [], []
        super().__init__(agents)

    def step(self):
        if self.id is None:
            made = self.ask("PUT", "/v1/session/create", json.dumps(session("contender", TTL="15s")).encode())
            # Before anything is registered, and right after the restore of something else, there may be no such node.
            if made is None or made[0] != 200:
                time.sleep(0.05)
                return
            self.id = json.loads(made[2])["ID"]
        asked = time.monotonic()
        got = self.ask("PUT", f"/v1/kv/{self.key}?acquire={self.id}", self.id.encode())
        if got is None or got[2].strip() != b"true":
            # Somebody else has it, or the session is gone with the state that knew of it.
            renewed = self.id and self.ask("PUT", f"/v1/session/renew/{self.id}")
            if renewed and renewed[0] == 404:
                self.id = None
            time.sleep(0.01)
            return
        fence = self.fence()
        if fence is None:
            return
        self.fences.append((asked, time.monotonic(), fence))
        until = time.monotonic() + self.hold
        while time.monotonic() < until:
            self.write_under(fence)
        self.ask("PUT", f"/v1/kv/{self.key}?release={self.id}", b"")

    def fence(self):
        """The fence of the lock, if it is still this one's."""
        read = self.ask("GET", f"/v1/kv/{self.key}?fence&consistent")
        entry = json.loads(read[2])[0] if read is not None and read[0] == 200 else {}
        return entry["LictorFence"] if entry.get("Session") == self.id else None

    def write_under(self, fence):
        operations = [
            {"KV": {"Verb": "check-fence", "Key": self.key, "Index": fence}},
            {"KV": {"Verb": "set", "Key": f"{self.key}/protected", "Value": b64(str(fence))}},
        ]
        done = self.ask("PUT", "/v1/txn", json.dumps(operations).encode())
        if done is not None and done[0] == 200:
            self.taken.append((json.loads(done[2])["Results"][-1]["KV"]["ModifyIndex"], fence))


class Watcher(Worker):
    """Waits for a change of something, and notes when each answer came, and what was in it."""

    def __init__(self, agent, path):
        self.agent, self.path, self.index, self.answers = agent, path, 0, []
        super().__init__([agent])

    def step(self):
        mark = "&" if "?" in self.path else "?"
        answer = self.ask("GET", f"{self.path}{mark}index={self.index}&wait=5m", timeout=400)
        if answer is None:
            time.sleep(0.1)
            return
        status, headers, body = answer
        check(status in (200, 404), f"{self.path}: {status} {body[:200]!r}")
        index = int(headers["X-Consul-Index"])
        check(index >= self.index, f"{self.path} goes back from index {self.index} to {index}")
        self.index = index
        self.answers.append((time.monotonic(), status, json.loads(body) if status == 200 else None))

    def woke(self, since):
        """What it was told first after that; NotYet if it was told nothing."""
        for at, status, body in self.answers:
            if at > since:
                return at, status, body
        raise NotYet(f"{self.path} is not answered at {self.agent.name}")
