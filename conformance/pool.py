"""Agents that are one data center, as a script sees them: who believes what of whom, who leads, and a table of what was measured."""

import json
import os
import threading
import time

from harness import PATIENCE, Failed, NotYet, check, eventually

KEY = "IN5eLHKxzdBHjYtQpnFu+PRsmh0yJFd7NmMREW9JV4o="
STATES = ["none", "alive", "leaving", "left", "failed"]


class Pool:
    """Servers and client agents of one data center, with one key, who each know one other to join."""

    def __init__(self, scene, binary, servers=3, clients=5, datacenter="dc1", first=1, more=()):
        self.scene, self.binary, self.datacenter, self.first, self.more = scene, binary, datacenter, first, list(more)
        self.expect = servers
        self.servers = [self.add(first + at, server=True) for at in range(servers)]
        eventually("the first server answers", lambda: self.servers[0].call("GET", "/v1/status/leader", timeout=5))
        self.clients = [self.add(first + servers + at, server=False) for at in range(clients)]

    def arguments(self, host, server, known=None):
        """The command line of a member; `known` is the host that it joins."""
        if known is None:
            known = self.first if host != self.first else self.first + 1
        words = ["-datacenter", self.datacenter, "-encrypt", KEY, "-retry-join", self.scene.ip(known)]
        words += ["-data-dir", os.path.join(self.scene.dir, f"data{host}")]
        if server:
            words += ["-server", "-bootstrap-expect", str(self.expect), *self.more]
        return words

    def add(self, host, server, known=None):
        """A new member that has been started."""
        return self.scene.agent(self.binary, host, self.arguments(host, server, known))

    def members(self):
        return self.servers + self.clients

    def running(self):
        return [agent for agent in self.members() if agent.is_running()]

    def settle(self, what, expected, among=None, patience=PATIENCE):
        """Waits until all of `among`, or else all who run, see every member in the state that `expected` says, alive by default. Returns
        how long that took, in seconds."""
        started = time.monotonic()
        for agent in among or self.running():
            eventually(f"{what}: {agent.name} sees it", lambda agent=agent: self.sees(agent, expected), patience)
        return time.monotonic() - started

    def sees(self, agent, expected):
        """Whether the agent sees that; NotYet says what it sees."""
        wanted = {member.name: "alive" for member in self.members()}
        wanted |= {member.name: state for member, state in expected.items()}
        seen = states(agent)
        if seen != wanted:
            wrong = {name: seen.get(name) for name in wanted.keys() | seen.keys() if seen.get(name) != wanted.get(name)}
            raise NotYet(f"it sees {wrong}")
        return True

    def leader(self, among=None):
        """The server that leads, by what all of `among` say; waits for one."""

        def look():
            servers = among or [server for server in self.servers if server.is_running()]
            said = {server.get("/v1/status/leader") for server in servers}
            found = [server for server in servers if said == {f"{server.ip}:8300"}]
            return found[0] if found else None

        return eventually("all servers agree on a leader", look)

    def voters(self, through):
        """The ids of the servers that vote."""
        return {server["ID"] for server in through.get("/v1/operator/raft/configuration")["Servers"] if server["Voter"]}

    def wait_ready(self):
        """Waits until every member answers a read that needs the leader."""
        for agent in self.members():
            agent.wait_leader()
        return self


def states(agent):
    """What the agent believes of everybody it knows."""
    return {member["Name"]: STATES[member["Status"]] for member in agent.get("/v1/agent/members")}


def node_id(agent):
    return agent.get("/v1/agent/self")["Config"]["NodeID"]


def write(agent, key, value, timeout=30):
    """A write that must be acknowledged."""
    status, _, body = agent.call("PUT", f"/v1/kv/{key}", value, timeout)
    check((status, body.strip()) == (200, b"true"), f"{agent.name} does not write {key}: {status} {body!r}")


def write_again(agent, key, value):
    """A write that is tried until it is acknowledged: for when a connection may still lead to somebody who is gone."""

    def look():
        try:
            write(agent, key, value)
        except Failed as error:
            raise NotYet(error) from error
        return True

    eventually(f"{agent.name} writes {key}", look)


def read(agent, key, query=""):
    status, _, body = agent.call("GET", f"/v1/kv/{key}?raw{query}")
    check(status == 200, f"{agent.name} does not read {key}: {status} {body!r}")
    return body


class Steady(threading.Thread):
    """Writes again and again until it is stopped, and knows the longest time without an acknowledgement. A context manager."""

    def __init__(self, agents, key):
        super().__init__(daemon=True)
        self.agents, self.key, self.ended = agents, key, threading.Event()
        self.acknowledged, self.failed, self.longest_gap = 0, 0, 0.0

    def run(self):
        last, turn = time.monotonic(), 0
        while not self.ended.is_set():
            turn += 1
            agents = list(self.agents)
            try:
                write(agents[turn % len(agents)], self.key, str(turn).encode(), timeout=10)
                self.acknowledged += 1
                now = time.monotonic()
                self.longest_gap, last = max(self.longest_gap, now - last), now
            except (OSError, ValueError, Failed):
                self.failed += 1
            time.sleep(0.005)
        self.longest_gap = max(self.longest_gap, time.monotonic() - last)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()


class LeaderWatch(threading.Thread):
    """Asks servers all the time who leads, and knows the longest time in which none of them knew. A context manager."""

    def __init__(self, servers):
        super().__init__(daemon=True)
        self.servers, self.ended, self.longest_gap = servers, threading.Event(), 0.0

    def run(self):
        last = time.monotonic()
        while not self.ended.is_set():
            if any(self.knows(server) for server in list(self.servers)):
                now = time.monotonic()
                self.longest_gap, last = max(self.longest_gap, now - last), now
            time.sleep(0.02)
        self.longest_gap = max(self.longest_gap, time.monotonic() - last)

    @staticmethod
    def knows(server):
        try:
            status, _, body = server.call("GET", "/v1/status/leader", timeout=1)
            return status == 200 and json.loads(body) != ""
        except (OSError, ValueError):
            return False

    __enter__, __exit__ = Steady.__enter__, Steady.__exit__


class Report:
    """What was measured, and what it must not exceed."""

    def __init__(self):
        self.rows, self.failures = [], []

    def note(self, what, value, unit, bound=None):
        """One number. With a bound, it is a failure to exceed it."""
        verdict = "" if bound is None else ("ok" if value <= bound else "MISSED")
        if verdict == "MISSED":
            self.failures.append(f"{what}: {value:.2f} {unit}, and at most {bound} are allowed")
        self.rows.append((what, f"{value:.2f} {unit}", "" if bound is None else f"<= {bound} {unit}", verdict))
        print(f"  {what}: {value:.2f} {unit} {verdict}", flush=True)

    def run(self, name, scenario, *arguments):
        """Runs one scenario; a failure ends it, and none of the others."""
        print(f"{name}:", flush=True)
        try:
            scenario(self, *arguments)
        except (Failed, OSError, ValueError, KeyError) as error:
            self.failures.append(f"{name}: {error}")
            print(f"  FAILED: {error}", flush=True)

    def show(self):
        """Prints the table. Returns the exit code."""
        widths = [max(len(row[at]) for row in self.rows) for at in range(4)] if self.rows else []
        for row in self.rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        for failure in self.failures:
            print(f"FAILED: {failure}")
        print(f"cluster: {len(self.rows)} numbers, {len(self.failures)} failures")
        return 1 if self.failures else 0


