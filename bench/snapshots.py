#!/usr/bin/env python3
"""snapshots.py [--only NAME,..] NAME=BINARY ...: what it costs to save and to restore a large state, for several systems in turn.

Three servers hold 500,000 keys of 256 bytes. `save`: keys are overwritten at a fixed rate at the leader, in rounds: nobody saves; snapshots of the leader
are saved, one after the other without a pause; snapshots of a follower are, with `stale`. Latencies count from the moment a write is
due, so a server that stalls is charged for all who would have come meanwhile. `restore`: an archive is restored into three new servers, while
a few writes a second go on, of which the slowest says for how long nothing else was done.

Values are digits at random, so an archive is about half as large as the state: compression has to work, and cannot win much. Memory is told apart: what a
server has of its own (anonymous) and what is mapped from its files, which the system takes back when it wants. Growth is measured against the most
that the same server had in the rounds without snapshots before.
"""

import argparse
import base64
import collections
import itertools
import json
import multiprocessing
import os
import random
import socket
import statistics
import sys
import tempfile
import threading
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "conformance"))

from harness import Failed, check, eventually  # noqa: E402

from crowd import HEAD_END, Broken, closed_loop, get, paced, put, quantile  # noqa: E402
from fleet import API, Servers, compare, mib, millis  # noqa: E402

# What both systems allow in one transaction.
OPERATIONS = 64
# How often memory is looked at, in seconds.
LOOK = 0.05
# Writes a second while an archive is restored.
TRICKLE = 50
# For what takes all of a state, in seconds.
LONG = 900
ROUNDS = ("nobody saves", "the leader's is saved", "a follower's is saved, stale")


def key(number):
    return f"bench/{number % 1000:03}/{number:07}"


def digits(rng, size):
    return f"{rng.getrandbits(4 * size):0{size}x}".encode()


def transactions(address, keys, size):
    """Requests that set all keys."""
    rng = random.Random(1)
    for first in range(0, keys, OPERATIONS):
        numbers = range(first, min(first + OPERATIONS, keys))
        values = ((number, base64.b64encode(digits(rng, size)).decode()) for number in numbers)
        body = [{"KV": {"Verb": "set", "Key": key(number), "Value": value}} for number, value in values]
        yield put(address, "/v1/txn", json.dumps(body).encode())


def fill(servers, options):
    requests = transactions(servers.address, options.keys, options.bytes)
    cpu = servers.cpu()
    took = closed_loop(servers.address, requests, 8)
    servers.settle()
    return took, servers.cpu() - cpu


# ---- writes, archives and memory ------------------------------------------------------------------------------------------------


class Writers:
    """Overwrites keys at a fixed rate, from a process of its own. A context manager; `latencies` are there behind it."""

    def __init__(self, address, options, rate, seconds):
        self.near, far = multiprocessing.Pipe()
        arguments = (far, address, options, rate, seconds)
        self.process = multiprocessing.Process(target=_overwrite, args=arguments, daemon=True)
        self.latencies = []

    def __enter__(self):
        self.process.start()
        self.near.recv()
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.process.terminate()
            return
        found = self.near.recv()
        self.process.join()
        if isinstance(found, Exception):
            raise found
        self.latencies = found


def _overwrite(pipe, address, options, rate, seconds):
    rng = random.Random()
    requests = (put(address, f"/v1/kv/{key(rng.randrange(options.keys))}", digits(rng, options.bytes)) for _ in itertools.count())
    pipe.send(None)
    try:
        pipe.send(paced(address, requests, rate, seconds))
    except Exception as error:  # whatever it is, the main process tells it
        pipe.send(Broken(repr(error)))


def save(agent, path, out=None):
    """Takes an archive, to `out` if that is given. Returns its size in bytes, and how long it took, in seconds."""
    address = (agent.ip, API)
    room, started, size = memoryview(bytearray(1 << 20)), time.monotonic(), 0
    with socket.create_connection(address, timeout=LONG) as sock:
        # So that its end is that of the connection, and nobody has to look at every byte.
        sock.sendall(get(address, path).replace(b"HTTP/1.1", b"HTTP/1.0"))
        head = b""
        while HEAD_END not in head:
            more = sock.recv(4096)
            check(more, f"{agent.name} ends the connection in the middle of a head: {head!r}")
            head += more
        head, _, rest = head.partition(HEAD_END)
        check(head.split()[1] == b"200", f"{agent.name} makes no snapshot: {head!r} {rest!r}")
        check(b"chunked" not in head.lower(), f"{agent.name} says what HTTP/1.0 does not know: {head!r}")
        rest, end = rest or room[: sock.recv_into(room)], b""
        while rest:
            size += len(rest)
            end = (end + bytes(rest[-4:]))[-4:]
            if out is not None:
                out.write(rest)
            rest = room[: sock.recv_into(room)]
    # What gzip ends with is the length of what is inside: a tar, which comes in blocks. The end of a connection alone would hide that an
    # archive was given up.
    check(len(end) == 4 and int.from_bytes(end, "little") % 512 == 0, f"{agent.name} gave up an archive after {size} bytes")
    return size, time.monotonic() - started


class Saving(threading.Thread):
    """Saves snapshots one after the other until it is stopped; the last one comes to its end. A context manager."""

    def __init__(self, agent, path):
        super().__init__(daemon=True)
        self.agent, self.path = agent, path
        self.sizes, self.times, self.error, self.stop = [], [], None, threading.Event()

    def run(self):
        try:
            while not self.stop.is_set():
                size, took = save(self.agent, self.path)
                self.sizes.append(size)
                self.times.append(took)
        except (OSError, Failed) as error:
            self.error = error

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.join()
        if self.error is not None:
            raise Broken(f"a snapshot could not be saved: {self.error}")


class Memory(threading.Thread):
    """The most memory that each agent has had, of its own and in all, in bytes. A context manager."""

    def __init__(self, agents):
        super().__init__(daemon=True)
        self.agents, self.stop = agents, threading.Event()
        self.own, self.all = collections.Counter(), collections.Counter()

    def run(self):
        while True:
            for agent in self.agents:
                own, all_ = memory(agent.process.pid)
                self.own[agent.name] = max(self.own[agent.name], own)
                self.all[agent.name] = max(self.all[agent.name], all_)
            if self.stop.wait(LOOK):
                return

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.join()


def memory(pid):
    """What a process has of its own, and all that it has, with what is mapped from files; in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in status if line.startswith(("RssAnon", "VmRSS"))}
    return sizes["RssAnon"], sizes["VmRSS"]


# ---- the loads -----------------------------------------------------------------------------------------------------------------


class Round:
    """One round of writes, with whatever goes on meanwhile."""

    def __init__(self, servers, options, saved_from=None, path="/v1/snapshot"):
        agents, cpu = servers.agents, servers.cpu()
        with Memory(agents) as memory_, Writers(servers.address, options, options.rate, options.seconds) as writers:
            self.saving = None
            if saved_from is not None:
                # Saving ends with the writes, or soon after them.
                with Saving(saved_from, path) as self.saving:
                    time.sleep(options.seconds)
            elif options.seconds:
                time.sleep(options.seconds)
        self.cpu, self.latencies = servers.cpu() - cpu, writers.latencies
        self.own, self.all = memory_.own, memory_.all


def saving(binary, options):
    """What writes take, and how much memory servers, while snapshots are saved."""
    figures, what = {}, f"{options.keys} keys of {options.bytes} bytes"
    with Servers(binary, 3) as servers:
        took, cpu = fill(servers, options)
        figures[f"{what}: time to write them"] = f"{took:.1f} s"
        figures[f"{what}: server CPU to write them"] = f"{cpu:.1f} s"
        leader = servers.leader
        follower = next(agent for agent in servers.agents if agent is not leader)
        # What is done once, by connections and by memory that grows to its size, is done before.
        Round(servers, options)
        rounds = {name: [] for name in ROUNDS}
        for _ in range(options.rounds):
            for name, source, path in zip(ROUNDS, (None, leader, follower), ("", "/v1/snapshot", "/v1/snapshot?stale")):
                servers.settle()
                rounds[name].append(Round(servers, options, source, path))
    usual = rounds[ROUNDS[0]]
    for name, some in rounds.items():
        for share in (50, 99):
            figures[f"PUT, {options.rate:g}/s, {name}: p{share}"] = millis(typical(some, share))
        figures[f"PUT, {options.rate:g}/s, {name}: server CPU a second"] = millis(statistics.median(one.cpu for one in some) / options.seconds)
    for name, source in zip(ROUNDS[1:], (leader, follower)):
        some = rounds[name]
        figures[f"{name}: PUT p99 / p99 while nobody saves"] = f"{typical(some, 99) / typical(usual, 99):.2f}"
        saves = [one.saving for one in some]
        figures[f"{name}: snapshots in all"] = str(sum(len(one.times) for one in saves))
        figures[f"{name}: time of one"] = f"{statistics.median(took for one in saves for took in one.times):.2f} s"
        figures[f"{name}: size of one"] = mib(statistics.median(size for one in saves for size in one.sizes))
        for kind, sizes in (("own memory", "own"), ("all memory", "all")):
            before = max(getattr(one, sizes)[source.name] for one in usual[:1])
            peak = max(getattr(one, sizes)[source.name] for one in some)
            figures[f"{name}: {kind} of that server without"] = mib(before)
            figures[f"{name}: {kind} of that server, most"] = mib(peak)
            figures[f"{name}: {kind}, growth"] = f"{(peak / before - 1) * 100:.1f} %"
    return figures


def typical(rounds, share):
    """The median of the rounds: one of them may have met somebody else's load."""
    return statistics.median(quantile(one.latencies, share / 100) for one in rounds)


def restoring(binary, options):
    """How long an archive takes to be restored, what memory it takes, and for how long nothing else is done."""
    figures, what = {}, f"{options.keys} keys of {options.bytes} bytes restored"
    with tempfile.TemporaryFile() as archive:
        with Servers(binary, 3) as servers:
            fill(servers, options)
            size, _ = save(servers.leader, "/v1/snapshot", archive)
        archive.seek(0)
        with Servers(binary, 3) as servers:
            servers.settle()
            seconds, slowest, started = 0.0, [], time.monotonic()
            ended, cpu = threading.Event(), servers.cpu()
            with Memory(servers.agents) as peak:
                thread = threading.Thread(target=trickle, args=(servers, options, ended, slowest), daemon=True)
                thread.start()
                put_archive(servers.leader, archive, size)
                seconds = time.monotonic() - started
                expected = options.keys
                for agent in servers.agents:
                    eventually("all keys are there", lambda agent=agent: len(agent.get("/v1/kv/bench?keys&stale", timeout=LONG)) >= expected)
                everywhere = time.monotonic() - started
                ended.set()
                thread.join()
                servers.settle()
            figures[f"{what}: time"] = f"{seconds:.2f} s"
            figures[f"{what}: readable on all servers"] = f"{everywhere:.2f} s"
            figures[f"{what}: server CPU"] = f"{servers.cpu() - cpu:.1f} s"
            figures[f"{what}: slowest write meanwhile"] = millis(max(slowest))
            for kind, most in (("own", peak.own), ("all", peak.all)):
                figures[f"{what}: {kind} memory of the leader, most"] = mib(most[servers.leader.name])
                at = 0 if kind == "own" else 1
                figures[f"{what}: {kind} memory of the leader then"] = mib(memory(servers.leader.process.pid)[at])
    return figures


def trickle(servers, options, ended, slowest):
    while not ended.is_set():
        requests = (put(servers.address, f"/v1/kv/{key(number)}", b"v" * options.bytes) for number in range(options.keys))
        slowest.append(paced(servers.address, requests, TRICKLE, 1)[-1])


def put_archive(agent, archive, size):
    with socket.create_connection((agent.ip, API), timeout=LONG) as sock:
        sock.sendall(f"PUT /v1/snapshot HTTP/1.1\r\nHost: {agent.ip}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode())
        sock.sendfile(archive)
        answer = b""
        while more := sock.recv(4096):
            answer += more
    check(answer.split()[1] == b"200", f"{agent.name} does not restore the archive: {answer!r}")


LOADS = {"save": saving, "restore": restoring}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="+", metavar="NAME=BINARY", help="for example consul=/usr/bin/consul lictor=target/release/lictor")
    parser.add_argument("--only", default=",".join(LOADS), help=f"of {', '.join(LOADS)}")
    parser.add_argument("--keys", type=int, default=500_000)
    parser.add_argument("--bytes", type=int, default=256, help="of each value")
    parser.add_argument("--rate", type=float, default=300, help="writes a second")
    parser.add_argument("--seconds", type=int, default=20, help="how long a round of writes is")
    parser.add_argument("--rounds", type=int, default=3, help="how many of each kind")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - LOADS.keys():
        parser.error(f"no such load: {', '.join(sorted(unknown))}")
    return compare(LOADS, wanted, options)


if __name__ == "__main__":
    sys.exit(main())
