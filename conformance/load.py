"""Many events, many agents, many requests: what they cost."""

import http.client
import json
import os
import socket
import statistics
import threading
import time

from harness import NotYet, Scene, check, equal, eventually
from pool import Pool, states, write

EVENTS = 1000
# How many events an agent lists.
KEPT = 256
# An agent lists its last 256 events, so whoever is to see them all must not let more than that happen between two looks.
WAVE = 200
REQUESTS = 2000
# How long an idle pool is watched.
IDLE = 20


class Listener(threading.Thread):
    """Follows an agent's list of events by blocking queries, and notes each event when it first sees it."""

    def __init__(self, agent, ended):
        super().__init__(daemon=True)
        self.agent, self.ended, self.seen, self.repeated, self.error = agent, ended, {}, 0, None

    def run(self):
        index = "0"
        try:
            while not self.ended.is_set():
                path = f"/v1/event/list?name=storm&index={index}&wait=1s"
                status, headers, body = self.agent.call("GET", path)
                check(status == 200, f"{self.agent.name} lists no events: {status} {body!r}")
                index = headers["X-Consul-Index"]
                listed = [(event["ID"], event["LTime"]) for event in json.loads(body)]
                self.repeated += len(listed) - len(dict(listed))
                for event, time_ in listed:
                    self.seen.setdefault(event, time_)
        except Exception as error:  # whatever it is, the main thread tells it
            self.error = error

    def has(self, fired):
        """Whether it has seen all of them, or cannot go on; NotYet says how many are missing."""
        missing = len(fired - self.seen.keys())
        if missing and self.error is None:
            raise NotYet(f"{missing} are missing")
        return True


def storm(report, binary):
    with Scene() as scene:
        pool = Pool(scene, binary)
        pool.settle("the pool forms", {})
        pool.wait_ready()
        waves(report, pool)
        burst(report, pool)


def waves(report, pool):
    """All events, a wave of them at a time: every agent sees each once, in order."""
    ended, fired = threading.Event(), set()
    listeners = [Listener(agent, ended) for agent in pool.members()]
    for listener in listeners:
        listener.start()
    started = time.monotonic()
    try:
        for _ in range(EVENTS // WAVE):
            fired |= fire(pool.members(), "storm", WAVE)
            for listener in listeners:
                eventually(f"{listener.agent.name} has all events", lambda listener=listener: listener.has(fired))
    finally:
        ended.set()
        for listener in listeners:
            listener.join()
    report.note(f"{EVENTS} events in waves of {WAVE} reach every agent", time.monotonic() - started, "s")
    for listener in listeners:
        check(listener.error is None, f"{listener.agent.name}: {listener.error}")
        equal(listener.seen.keys() - fired, set(), f"events at {listener.agent.name} that nobody fired")
        equal(listener.repeated, 0, f"events delivered more than once to {listener.agent.name}")
    late = max(late_ones(list(listener.seen.values())) for listener in listeners)
    report.note(f"{EVENTS} events in waves: most that came after later ones, at one agent", late, "events", 0)


def burst(report, pool):
    """All events at once: in the end every agent lists the same last ones, in the same order."""
    started = time.monotonic()
    fired = fire(pool.members(), "burst", EVENTS)
    report.note(f"{EVENTS} events are fired at once", time.monotonic() - started, "s")

    def agree():
        lists = [[(event["LTime"], event["ID"]) for event in agent.get("/v1/event/list?name=burst")] for agent in pool.members()]
        for agent, listed in zip(pool.members(), lists):
            if listed != lists[0]:
                raise NotYet(f"{agent.name} does not list what {pool.members()[0].name} does")
        # Before the first have come, all lists are equal, too.
        if len(lists[0]) < min(EVENTS, KEPT):
            raise NotYet(f"the agents list {len(lists[0])} events only")
        return lists[0]

    last = eventually("all agents list the same events", agree)
    report.note(f"{EVENTS} events at once: every agent lists the same last {len(last)}", time.monotonic() - started, "s")
    check({event for _, event in last} <= fired, "events that nobody fired")
    equal(len(set(last)), min(EVENTS, KEPT), "events that are listed once")
    equal(late_ones([time_ for time_, _ in last]), 0, "events that came after later ones")


def late_ones(times):
    """How many of these Lamport times are less than one before them."""
    latest, late = 0, 0
    for time_ in times:
        late += time_ < latest
        latest = max(latest, time_)
    return late


def fire(agents, name, events):
    """Fires events of this name, at all agents at once. Returns their ids."""
    fired, lock = set(), threading.Lock()

    def some(at):
        for number in range(at, events, len(agents)):
            status, _, body = agents[at].call("PUT", f"/v1/event/fire/{name}", str(number).encode())
            check(status == 200, f"{agents[at].name} fires no event: {status} {body!r}")
            with lock:
                fired.add(json.loads(body)["ID"])

    threads = [threading.Thread(target=some, args=(at,)) for at in range(len(agents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(len(fired), events, "events fired")
    return fired


def hundred(report, binary):
    with Scene() as scene:
        started = time.monotonic()
        pool = Pool(scene, binary, clients=97)
        pool.settle("a hundred form a pool", {})
        report.note("a hundred agents: all alive, everywhere", time.monotonic() - started, "s")
        time.sleep(IDLE)
        before = {agent.name: processor_time(agent) for agent in pool.members()}
        time.sleep(IDLE)
        used = {agent.name: 100 * (processor_time(agent) - before[agent.name]) / IDLE for agent in pool.members()}
        for kind, agents in (("client", pool.clients), ("server", pool.servers)):
            memory = [resident(agent) for agent in agents]
            shares = [used[agent.name] for agent in agents]
            # Only client agents have bounds.
            bounds = (20, 1) if agents is pool.clients else (None, None)
            report.note(f"a hundred agents: resident memory of a {kind}, median", statistics.median(memory), "MB")
            report.note(f"a hundred agents: resident memory of a {kind}, largest", max(memory), "MB", bounds[0])
            report.note(f"a hundred agents: an idle {kind}, mean", statistics.mean(shares), "% of a core")
            report.note(f"a hundred agents: an idle {kind}, busiest", max(shares), "% of a core", bounds[1])
        victim = pool.clients[50]
        others = [agent for agent in pool.members() if agent is not victim]
        started = time.monotonic()
        victim.kill()
        noticed = when_failed(others, victim.name, started)
        report.note("a hundred agents: one is killed: failed at the first", min(noticed), "s")
        report.note("a hundred agents: one is killed: failed at the median", statistics.median(noticed), "s")
        report.note("a hundred agents: one is killed: failed everywhere", max(noticed), "s", 5)
        for agent in others:
            dead = [name for name, state in states(agent).items() if state != "alive"]
            equal(dead, [victim.name], f"whom {agent.name} takes for dead")


def when_failed(agents, name, since, patience=60):
    """For each agent, after how many seconds it took the member for failed; looks at each about four times a second."""
    waiting, noticed = list(agents), []
    while waiting:
        round_ = time.monotonic()
        check(round_ - since < patience, f"{len(waiting)} agents do not see that {name} is dead after {patience} s")
        for agent in list(waiting):
            if states(agent)[name] == "failed":
                waiting.remove(agent)
                noticed.append(time.monotonic() - since)
        time.sleep(max(0.0, round_ + 0.25 - time.monotonic()))
    return noticed


def processor_time(agent):
    """Seconds that the process has used."""
    with open(f"/proc/{agent.process.pid}/stat", encoding="ascii", errors="replace") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(agent):
    """Megabytes."""
    with open(f"/proc/{agent.process.pid}/status", encoding="ascii", errors="replace") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024 / 1e6


class Caller:
    """A connection that is kept, and how long requests on it take."""

    def __init__(self, agent):
        self.connection = http.client.HTTPConnection(agent.url.removeprefix("http://"), timeout=30)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.took = {}

    def call(self, method, path, body, times):
        for _ in range(times):
            started = time.perf_counter()
            self.connection.request(method, path, body)
            answer = self.connection.getresponse()
            content = answer.read()
            self.took.setdefault((method, path), []).append(time.perf_counter() - started)
            check(answer.status == 200, f"{method} {path}: {answer.status} {content!r}")


def forwarding(report, binary):
    """A request through a client agent, against the same request to the servers themselves."""
    with Scene() as scene:
        pool = Pool(scene, binary, clients=1).wait_ready()
        pool.settle("the pool forms", {})
        write(pool.clients[0], "bench", b"x" * 100)
        direct = [Caller(server) for server in pool.servers]
        through = Caller(pool.clients[0])
        kinds = [("GET", "/v1/kv/bench", None), ("GET", "/v1/kv/bench?stale", None), ("PUT", "/v1/kv/bench", b"y" * 100)]
        # In turns, so that whatever else the machine does falls on all alike.
        turns = 20
        for _ in range(turns):
            for kind in kinds:
                for caller in direct:
                    caller.call(*kind, REQUESTS // turns // len(direct))
                through.call(*kind, REQUESTS // turns)
        for method, path, _ in kinds:
            servers = statistics.median(took for caller in direct for took in caller.took[method, path])
            client = statistics.median(through.took[method, path])
            report.note(f"{method} {path}: p50 at the servers", servers * 1e6, "us")
            report.note(f"{method} {path}: p50 through a client agent", client * 1e6, "us")
            report.note(f"{method} {path}: through a client agent, against directly", client / servers, "times", 1.5)
