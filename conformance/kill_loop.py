#!/usr/bin/env python3
"""Kills servers of a cluster of three again and again while clients write; checks that no acknowledged write is lost.

Each round kills the leader, or two servers, or all three, with SIGKILL, and starts them again. Writers put keys of their own,
one after another, through whichever server answers; in the end every acknowledged key must be there, on every server.
"""

import argparse
import base64
import json
import threading
import time

from harness import Failed, Scene, check, equal, eventually, lictor


class Writer(threading.Thread):
    """Writes number after number, to a key each and to one register."""

    def __init__(self, number, servers, stop):
        super().__init__(daemon=True)
        self.number, self.servers, self.stop = number, servers, stop
        self.acknowledged, self.tried, self.longest_gap = [], 0, 0.0

    def run(self):
        last = time.monotonic()
        while not self.stop.is_set():
            self.tried += 1
            if self.write(self.tried):
                now = time.monotonic()
                self.longest_gap = max(self.longest_gap, now - last)
                last = now
                self.acknowledged.append(self.tried)

    def write(self, number):
        value = base64.b64encode(str(number).encode()).decode()
        keys = (f"register/{self.number}", f"own/{self.number}/{number:07}")
        body = json.dumps([{"KV": {"Verb": "set", "Key": key, "Value": value}} for key in keys]).encode()
        server = self.servers[(self.number + number) % len(self.servers)]
        try:
            return server.call("PUT", "/v1/txn", body, timeout=10)[0] == 200
        except OSError:
            # Nobody knows whether this one took place.
            return False


def kill_loop(binary, rounds, writers):
    with Scene() as scene:
        # A log so short that servers come back to a snapshot now and then.
        servers = scene.cluster(binary, config={"raft_trailing_logs": 100, "log_level": "warn"})
        stop = threading.Event()
        threads = [Writer(number, servers, stop) for number in range(writers)]
        for thread in threads:
            thread.start()
        started = time.monotonic()
        try:
            for round_ in range(rounds):
                before = sum(len(thread.acknowledged) for thread in threads)
                eventually(
                    f"writes go on in round {round_}",
                    lambda before=before: sum(len(thread.acknowledged) for thread in threads) >= before + 100,
                )
                for victim in victims(servers, round_):
                    victim.kill()
                for server in servers:
                    if server.process is None:
                        server.start()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        took = time.monotonic() - started
        for server in servers:
            server.wait_leader()
        verify(servers, threads)
        acknowledged = sum(len(thread.acknowledged) for thread in threads)
        tried = sum(thread.tried for thread in threads)
        gap = max(thread.longest_gap for thread in threads)
        print(
            f"kill loop: {rounds} rounds in {took:.1f} s, {acknowledged} of {tried} writes acknowledged, none lost, "
            f"longest gap between writes of one client {gap:.2f} s"
        )


def victims(servers, round_):
    if round_ % 3 == 0:
        leader = json.loads(servers[0].call("GET", "/v1/status/leader")[2])
        return [server for server in servers if leader == f"{server.ip}:8300"] or [servers[0]]
    if round_ % 3 == 1:
        return [servers[round_ % len(servers)], servers[(round_ + 1) % len(servers)]]
    return list(servers)


def verify(servers, threads):
    status, headers, body = servers[0].call("GET", "/v1/kv/?recurse&consistent", timeout=60)
    equal(status, 200, "everything is read")
    index = headers["X-Consul-Index"]
    found = {entry["Key"]: int(base64.b64decode(entry["Value"])) for entry in json.loads(body)}
    for thread in threads:
        lost = [n for n in thread.acknowledged if found.get(f"own/{thread.number}/{n:07}") != n]
        check(not lost, f"writer {thread.number} lost {len(lost)} acknowledged writes: {lost[:10]}")
        register = found[f"register/{thread.number}"]
        last = thread.acknowledged[-1]
        check(last <= register <= thread.tried, f"the register is {register}, not from {last} to {thread.tried}")
    for server in servers:

        def same(server=server):
            _, headers, other = server.call("GET", "/v1/kv/?recurse&stale", timeout=60)
            return headers["X-Consul-Index"] == index and (other == body or fail(server))

        eventually(f"{server.name} has the same", same)


def fail(server):
    raise Failed(f"{server.name} has something else at the same index")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--writers", type=int, default=6)
    arguments = parser.parse_args()
    kill_loop(lictor(), arguments.rounds, arguments.writers)
