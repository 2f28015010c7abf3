#!/usr/bin/env python3
"""sessions.py [--only NAME,..] NAME=BINARY ...: what sessions and transactions cost three servers, for several systems in turn.

Sessions: so many of them, with a TTL of ten seconds, each renewed every ten seconds: by connections to the leader, then by connections
to all three servers. Counted are the entries of the log, the processor time of the servers, the renewals' latency, and how many sessions
are lost, which must be none. A system that does not bear it is asked for half as many, and so on; what it bears is the table's first line.

Transactions: keys written one by one, and in transactions of 64, each by so many connections as fast as they are answered. Sessions and
transactions are measured on the same cluster's servers, but not at the same time.

Needs as many file descriptors (`ulimit -Hn`) as there are connections, for clients and server each.
"""

import argparse
import array
import base64
import collections
import heapq
import json
import multiprocessing
import os
import re
import select
import sys
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "conformance"))

from harness import Failed, check, eventually  # noqa: E402

from crowd import Answer, Broken, closed_loop, connect, put, quantile  # noqa: E402
from fleet import API, Servers, compare, count, millis, raise_descriptors, ticks  # noqa: E402

TTL = 10
SESSION = json.dumps({"Name": "bench", "TTL": f"{TTL}s"}).encode()
# A system that needs longer than this for one renewal of a hundred has no time for so many, in seconds.
ON_TIME = TTL / 2
# How long before a renewal that failed, without saying that the session is gone, is tried again.
RETRY = 0.5
# While sessions are created: how many requests of each process are under way at one server, and how late renewals may be, in seconds,
# before creating waits for them.
CREATING = 32
BEHIND = 0.25
OPERATIONS = 64
VALUE = b"v" * 256
ID = re.compile(rb'"ID":\s*"([0-9a-f-]{36})"')


# ---- the clients ---------------------------------------------------------------------------------------------------------------


class Line:
    """A connection, and what is under way on it."""

    __slots__ = ("sock", "place", "answer", "text", "about")

    def __init__(self, address, place):
        self.sock, self.place = connect(address), place
        self.answer = self.text = self.about = None


class Window:
    """What was measured from one moment to another."""

    def __init__(self):
        # From the moment a renewal was due until this process noticed, and from then until it was answered.
        self.late, self.taken = array.array("f"), array.array("f")
        # For each session that is gone: how long ago it was renewed when that was said, at most.
        self.gone = array.array("f")
        self.refused = 0


class Holder:
    """The sessions of one process: creates them, and renews each once in a TTL, at moments that do not depend on the answers."""

    def __init__(self, pipe, addresses, connections):
        self.pipe, self.addresses = pipe, addresses
        self.poll, self.lines = select.epoll(), {}
        # What a place has free, for each of the servers.
        self.free = [collections.deque() for _ in addresses]
        for place, address in enumerate(addresses):
            for _ in range(connections):
                line = Line(address, place)
                self.lines[line.sock.fileno()] = line
                self.free[place].append(line)
                self.poll.register(line.sock.fileno(), select.EPOLLIN)
        self.poll.register(pipe.fileno(), select.EPOLLIN)
        self.places = range(len(addresses))
        # The requests that renew a session, and since when the last was to be sent that did.
        self.sessions, self.renewed, self.due = [], [], []
        # A session that is due waits here for a connection to the server that it is renewed through.
        self.waiting = [collections.deque() for _ in addresses]
        self.to_create = self.creating = 0
        self.create = [put(address, "/v1/session/create", SESSION) for address in addresses]
        self.window = Window()
        self.left = False

    def run(self):
        self.pipe.send(None)
        while not self.left:
            now = time.monotonic()
            self._begin_renewing(now)
            if not (self.due and self.due[0][0] < now - BEHIND) and not any(self.waiting):
                self._begin_creating()
            pause = max(0.0, self.due[0][0] - time.monotonic()) if self.due else 1.0
            for fd, _ in self.poll.poll(min(pause, 1.0)):
                if fd == self.pipe.fileno():
                    self._obey(*self.pipe.recv())
                else:
                    self._hear(self.lines[fd])

    def _begin_creating(self):
        while self.to_create and self.creating < CREATING * len(self.addresses):
            places = [place for place in self.places if self.free[place]]
            if not places:
                return
            line = self.free[places[self.to_create % len(places)]].popleft()
            self.to_create -= 1
            self.creating += 1
            self._ask(line, self.create[line.place], (time.monotonic(),))

    def _begin_renewing(self, now):
        while self.due and self.due[0][0] <= now:
            at, session = heapq.heappop(self.due)
            self.window.late.append(now - at)
            self.waiting[self.places[session % len(self.places)]].append((at, now, session))
        for place in self.places:
            waiting, free = self.waiting[place], self.free[place]
            while waiting and free:
                at, noticed, session = waiting.popleft()
                self._ask(free.popleft(), self.sessions[session][place], (at, noticed, session))

    def _ask(self, line, request, about):
        line.answer, line.text, line.about = Answer(), b"", about
        if line.sock.send(request) != len(request):
            raise Broken("a small request was taken in part")

    def _hear(self, line):
        data = line.sock.recv(1 << 16)
        if not data or line.answer is None:
            raise Broken(f"the server {'said something unasked' if data else 'closed a connection'}")
        if len(line.text) + len(data) < 1 << 12:
            line.text += data
        if not line.answer.take(data):
            return
        status, about = line.answer.status, line.about
        line.answer = None
        self.free[line.place].append(line)
        if len(about) == 1:
            self._created(status, line.text, *about)
        else:
            self._renewed(status, *about)

    def _created(self, status, text, sent):
        self.creating -= 1
        found = ID.search(text)
        if status != 200 or found is None:
            raise Broken(f"a session is not created: {status} {text[-200:]!r}")
        path = f"/v1/session/renew/{found.group(1).decode()}"
        heapq.heappush(self.due, (time.monotonic() + TTL, len(self.sessions)))
        self.sessions.append([put(address, path, b"") for address in self.addresses])
        self.renewed.append(sent)

    def _renewed(self, status, at, noticed, session):
        now = time.monotonic()
        if status == 200:
            self.window.taken.append(now - noticed)
            # It was no sooner than this that it was asked for.
            self.renewed[session] = noticed
            heapq.heappush(self.due, (at + TTL, session))
        elif status == 404:
            self.window.gone.append(now - self.renewed[session])
        else:
            self.window.refused += 1
            heapq.heappush(self.due, (now + RETRY, session))

    def _obey(self, what, argument):
        if what == "create":
            self.to_create = argument
        elif what == "spread":
            self._spread(argument)
        elif what == "look":
            window, self.window = self.window, Window()
            self.pipe.send((len(self.sessions), window.refused, window.gone, window.late, window.taken))
        else:
            self.left = True

    def _spread(self, places):
        """From now on sessions are renewed through these servers, and evenly over the TTL, those first that have waited longest."""
        self.places = places
        self.due += [(at, session) for waiting in self.waiting for at, _, session in waiting]
        for waiting in self.waiting:
            waiting.clear()
        now, order = time.monotonic(), sorted(self.due)
        self.due = [(now + TTL * at / len(order), session) for at, (_, session) in enumerate(order)]


def _hold(pipe, addresses, connections):
    try:
        Holder(pipe, addresses, connections).run()
    except Exception as error:  # whatever it is, the main process tells it
        pipe.send(Broken(repr(error)))


class Look(collections.namedtuple("Look", "created refused gone late taken")):
    """What came of renewals."""

    def check_alive(self):
        """Fails if sessions are gone: as the server's fault, if they had no right to be."""
        if not self.gone:
            return
        early = [age for age in self.gone if age < TTL]
        if early:
            raise Failed(f"{len(early)} sessions ended before their time, the first {early[0]:.1f} s after it was renewed")
        raise Broken(f"{len(self.gone)} of {self.created} sessions were lost: not renewed for {self.gone[0]:.1f} s, or longer")



class Holders:
    """Sessions that are kept alive by a few processes. A context manager."""

    def __init__(self, addresses, connections, processes):
        self.workers = []
        for _ in range(processes):
            near, far = multiprocessing.Pipe()
            each = max(1, connections // processes // len(addresses))
            worker = multiprocessing.Process(target=_hold, args=(far, addresses, each), daemon=True)
            worker.start()
            far.close()
            self.workers.append((worker, near))
        self._gather()

    def _gather(self):
        replies = [pipe.recv() for _, pipe in self.workers]
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def _tell(self, what, argument=None):
        for _, pipe in self.workers:
            pipe.send((what, argument))

    def create(self, sessions, patience):
        """Creates so many, or is Broken if that takes too long. Returns how long it took, in seconds."""
        started = time.monotonic()
        for number, (_, pipe) in enumerate(self.workers):
            pipe.send(("create", sessions // len(self.workers) + (number < sessions % len(self.workers))))
        while (seen := self.look()).created < sessions:
            seen.check_alive()
            if time.monotonic() - started > patience:
                raise Broken(f"{seen.created} of {sessions} sessions were created in {patience} s")
            time.sleep(0.2)
        return time.monotonic() - started

    def spread(self, places):
        """From now on sessions are renewed through these of the servers, evenly over the TTL."""
        self._tell("spread", places)

    def look(self):
        """What came of the renewals since the last look."""
        self._tell("look")
        created, refused, *lists = zip(*self._gather())
        return Look(sum(created), sum(refused), *(sorted(one for part in parts for one in part) for parts in lists))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _, pipe in self.workers:
            try:
                pipe.send(("leave", None))
            except OSError:
                pass
        for worker, _ in self.workers:
            worker.join()


# ---- the loads -----------------------------------------------------------------------------------------------------------------


def sessions(binary, options):
    """Sessions that are renewed on time: as many as asked for, else half as many, and so on, as long as the clients come too late."""
    wanted = options.sessions
    while True:
        try:
            return held(binary, options, wanted)
        except Broken as error:
            print(f"{wanted} sessions: {error}", file=sys.stderr, flush=True)
            wanted //= 2
            if wanted < 100:
                raise


def held(binary, options, wanted):
    figures = {"sessions with a TTL of 10 s": str(wanted)}
    with Servers(binary, 3) as servers:
        servers.settle()
        addresses = [(agent.ip, API) for agent in servers.agents]
        empty, leader = servers.rss(), servers.agents.index(servers.leader)
        with Holders(addresses, options.connections, options.processes) as holders:
            figures["created, per second"] = count(wanted / holders.create(wanted, options.patience))
            for name, places in (("leader", [leader]), ("all servers", range(3))):
                holders.spread(places)
                # Once round, so that all are renewed at the new moments and the servers have done what creation left to do.
                time.sleep(TTL * 1.5)
                figures |= renewals(servers, holders, options.seconds, f"renewed at {name}")
            figures["leader's memory for each"] = f"{(servers.rss() - empty) / wanted:.0f} B"
            there = len(eventually("the sessions are listed", lambda: servers.leader.get("/v1/session/list", timeout=60)))
            check(there >= wanted, f"{wanted - there} of {wanted} sessions are not there any more")
            figures["sessions lost"] = str(wanted - there)
    return figures


def renewals(servers, holders, seconds, what):
    """The figures of a stretch of time."""
    holders.look().check_alive()
    before, started = [used(agent) for agent in servers.agents], time.monotonic()
    index = applied(servers.leader)
    time.sleep(seconds)
    entries = applied(servers.leader) - index
    took = time.monotonic() - started
    cpu = {agent: (used(agent) - was) / took for agent, was in zip(servers.agents, before)}
    seen = holders.look()
    check(servers.leader is servers._leader(), "the leader has lost its place")
    seen.check_alive()
    tail = quantile(seen.taken, 0.99)
    rate = len(seen.taken) / took
    leader = cpu.pop(servers.leader)
    figures = {
        f"{what}: renewals/s": count(rate),
        f"{what}: log entries/s": f"{entries / took:.2f}",
        f"{what}: leader, cores": f"{leader:.3f}",
        f"{what}: leader, CPU per renewal": f"{leader / rate * 1e6:.1f} us" if rate else "",
        f"{what}: each follower, cores": f"{sum(cpu.values()) / len(cpu):.3f}",
        f"{what}: p50": millis(quantile(seen.taken, 0.5)),
        f"{what}: p99": millis(tail),
        f"{what}: clients were late, p99": millis(quantile(seen.late, 0.99)),
        f"{what}: refused, then tried again": str(seen.refused),
    }
    if not tail < ON_TIME:
        raise Broken(f"{what}: one of a hundred renewals takes {tail:.1f} s: {figures}")
    return figures


def used(agent):
    """Seconds of processor time that the agent has used."""
    return sum(ticks(agent.process.pid))


def applied(agent):
    """How far the agent's log is applied."""
    return int(agent.get("/v1/agent/self")["Stats"]["raft"]["applied_index"])


def transactions(binary, options):
    """Keys written one by one, and 64 in a transaction."""
    figures = {}
    with Servers(binary, 3) as servers:
        for connections in (1, 32):
            servers.settle()
            singles = [put(servers.address, f"/v1/kv/bench/{key}", VALUE) for key in range(options.writes * connections)]
            took, cpu = timed(servers, singles, connections)
            what = f"{connections} connections" if connections > 1 else "1 connection"
            figures[f"PUT key, {what}: operations/s"] = count(len(singles) / took)
            figures[f"PUT key, {what}: server CPU per operation"] = f"{cpu / len(singles) * 1e6:.0f} us"
            whole = [put(servers.address, "/v1/txn", transaction(number)) for number in range(options.writes * connections // 4)]
            took, cpu = timed(servers, whole, connections)
            operations = len(whole) * OPERATIONS
            figures[f"transactions of {OPERATIONS}, {what}: operations/s"] = count(operations / took)
            figures[f"transactions of {OPERATIONS}, {what}: server CPU per operation"] = f"{cpu / operations * 1e6:.0f} us"
    return figures


def transaction(number):
    value = base64.b64encode(VALUE).decode()
    keys = range(number * OPERATIONS, (number + 1) * OPERATIONS)
    return json.dumps([{"KV": {"Verb": "set", "Key": f"bench/{key}", "Value": value}} for key in keys]).encode()


def timed(servers, requests, connections):
    """How long these took on the clock, and of the servers' processor time, in seconds."""
    before = servers.cpu()
    took = closed_loop(servers.address, requests, connections)
    return took, servers.cpu() - before


LOADS = {load.__name__: load for load in (sessions, transactions)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="+", metavar="NAME=BINARY", help="for example consul=/usr/bin/consul lictor=target/release/lictor")
    parser.add_argument("--only", default=",".join(LOADS), help=f"of {', '.join(LOADS)}")
    parser.add_argument("--sessions", type=int, default=100_000, help="how many are kept, if the system bears it")
    parser.add_argument("--connections", type=int, default=3_000, help="how many renew them, a third of them at each server")
    parser.add_argument("--processes", type=int, default=2, help="how many hold these connections")
    parser.add_argument("--seconds", type=int, default=60, help="how long renewals are measured")
    parser.add_argument("--patience", type=int, default=300, help="how many seconds creating the sessions may take")
    parser.add_argument("--writes", type=int, default=400, help="how many keys each connection writes one by one")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - LOADS.keys():
        parser.error(f"no such load: {', '.join(sorted(unknown))}")
    if raise_descriptors() < options.connections + 1000:
        parser.error(f"too few file descriptors for {options.connections} connections: raise the hard limit, or use --connections")
    return compare(LOADS, wanted, options)


if __name__ == "__main__":
    sys.exit(main())
