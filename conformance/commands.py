#!/usr/bin/env python3
"""The commands across: Consul's own command line against Lictor, and Lictor's against Consul.

Every command runs four ways, with either binary against either agent, and what is printed and the exit code must be the same:
for the kv commands all four, for those about the agent and its cluster the two that asked the same agent, since what they print
is different for each. Without the real binary (in PATH, or named by $CONSUL), only `lictor` against Lictor is run.
"""

import json
import os
import re
import subprocess
import sys

from harness import PATIENCE, Scene, check, consul, equal, eventually, lictor

# Words that follow `kv`, and standard input.
KV = [
    (["put", "app/a", "one"], None),
    (["put", "-flags=42", "app/b", "two"], None),
    (["put", "app/empty"], None),
    (["put", "-base64", "app/raw", "AAH/"], None),
    (["put", "app/stdin", "-"], "from standard input"),
    (["put", "-cas", "-modify-index=1", "app/a", "x"], None),
    (["put", "-cas", "app/a", "x"], None),
    (["put", "/app/lead", "x"], None),
    (["put"], None),
    (["put", "a", "b", "c"], None),
    (["put", "-acquire", "app/a", "x"], None),
    (["put", "-acquire", "-session=00000000-0000-4000-8000-000000000000", "app/a", "x"], None),
    (["put", "-release", "-session=00000000-0000-4000-8000-000000000000", "app/a", "x"], None),
    (["get", "app/a"], None),
    (["get", "/app/a"], None),
    (["get", "-base64", "app/raw"], None),
    (["get", "app/empty"], None),
    (["get", "-detailed", "app/b"], None),
    (["get", "-detailed", "-recurse", "app/"], None),
    (["get", "-recurse", "app/"], None),
    (["get", "-recurse", "nothing/"], None),
    (["get", "-keys", "app/"], None),
    (["get", "-keys", "-separator=", ""], None),
    (["get", "-keys"], None),
    (["get", "-stale", "app/a"], None),
    (["get", "nothing"], None),
    (["get"], None),
    (["get", "a", "b"], None),
    (["export", "app/"], None),
    (["export"], None),
    (["export", "nothing"], None),
    (["import", "-"], '[{"key": "imp/a", "flags": 7, "value": "eA=="}, {"key": "imp/b", "flags": 0, "value": ""}]'),
    (["import", "["], None),
    (["import", "-"], "[]"),
    (["import"], None),
    (["get", "-detailed", "imp/a"], None),
    (["delete", "app/a"], None),
    (["delete", "app/a"], None),
    (["delete", "-cas", "-modify-index=1", "app/b"], None),
    (["delete", "-cas", "-recurse", "app/b"], None),
    (["delete", "-recurse", "app/"], None),
    (["delete", "-recurse", ""], None),
    (["delete"], None),
    (["export", ""], None),
]

# Commands that ask an agent about itself and its cluster; NODE and IP are its own.
CLUSTER = [
    ["members"],
    ["members", "-detailed"],
    ["members", "-wan"],
    ["members", "-wan", "-detailed"],
    ["members", "-status=^alive$"],
    ["members", "-status=left"],
    ["members", "-status=("],
    ["members", "-segment=x"],
    ["members", "-wan", "-segment=x"],
    ["join"],
    ["join", "IP"],
    ["join", "IP", "IP"],
    ["join", "-wan", "IP"],
    ["join", "127.0.0.1:1"],
    ["join", "127.0.0.1:2", "IP"],
    ["force-leave"],
    ["force-leave", "nobody"],
    ["force-leave", "-prune", "nobody"],
    ["force-leave", "a", "b"],
    ["event"],
    ["event", "-name=deploy"],
    ["event", "-name=deploy", "payload"],
    ["event", "-name=deploy", "-node=NODE", "-service=web", "-tag=v1", "payload"],
    ["event", "-name=deploy", "-node=("],
    ["event", "-name=deploy", "-service=("],
    ["event", "-name=deploy", "-service=web", "-tag=("],
    ["event", "-name=deploy", "-tag=v1"],
    ["event", "-name=deploy", "a", "b"],
    ["info"],
    ["rtt"],
    ["rtt", "NODE"],
    ["rtt", "NODE", "NODE"],
    ["rtt", "nobody"],
    ["rtt", "-wan", "NODE"],
    ["rtt", "-wan", "NODE.dc1", "NODE.dc1"],
    ["operator"],
    ["operator", "bogus"],
    ["operator", "raft"],
    ["operator", "raft", "list-peers"],
    ["operator", "raft", "list-peers", "-stale"],
    ["operator", "raft", "list-peers", "-datacenter=nowhere"],
    ["operator", "raft", "remove-peer"],
    ["operator", "raft", "remove-peer", "-id=nobody"],
    ["operator", "raft", "remove-peer", "-address=IP:1"],
    ["operator", "raft", "remove-peer", "-id=nobody", "-address=IP:1"],
    ["operator", "autopilot"],
    ["operator", "autopilot", "set-config", "-cleanup-dead-servers=false", "-last-contact-threshold=300ms"],
    ["operator", "autopilot", "get-config"],
    ["operator", "autopilot", "set-config", "-min-quorum=3", "-max-trailing-logs=500", "-server-stabilization-time=1h30m"],
    ["operator", "autopilot", "get-config"],
    ["operator", "autopilot", "set-config", "-last-contact-threshold=soon"],
    ["operator", "autopilot", "get-config", "-datacenter=nowhere"],
    [
        *("operator", "autopilot", "set-config", "-cleanup-dead-servers", "-min-quorum=0", "-max-trailing-logs=250"),
        *("-last-contact-threshold=200ms", "-server-stabilization-time=10s"),
    ],
    ["operator", "autopilot", "get-config"],
    ["catalog"],
    ["catalog", "datacenters"],
    ["catalog", "datacenters", "x"],
]

INDEX = re.compile(r"((?:Create|Modify)Index +)\d+")
# What changes from one moment to the next: ids of events, estimates, counters and clocks.
MOMENTS = [
    (re.compile(r"(Event ID: )[0-9a-f-]{36}"), r"\1ID"),
    (re.compile(r"(rtt: )[0-9.]+( ms)"), r"\1N\2"),
    (re.compile(r"^(\t\w+ = )[0-9.a-z]+$", re.MULTILINE), r"\1N"),
]


def run(binary, agent, words, text=""):
    words = [word.replace("NODE", agent.name).replace("IP", agent.ip) for word in words]
    done = subprocess.run(
        [binary, *words],
        input=text or "",
        capture_output=True,
        errors="backslashreplace",
        timeout=60,
        env={"PATH": os.environ.get("PATH", ""), "CONSUL_HTTP_ADDR": f"{agent.ip}:8500"},
    )
    printed = INDEX.sub(r"\1N", done.stdout)
    for moment, instead in MOMENTS:
        printed = moment.sub(instead, printed)
    return done.returncode, printed, neutral(done.stderr)


def neutral(text):
    """An error without the product's name, and without the usage that may follow it, which is the product's own."""
    text = text.replace("Lictor", "Consul").replace("lictor", "consul")
    return re.split(r"\n*Usage:|\nFor additional help", text)[0].rstrip()


class Comparison:
    """Runs commands, and notes what came out otherwise than the first time."""

    def __init__(self):
        self.runs, self.wanted, self.differences = 0, {}, []

    def run(self, key, command, binary, agent, words, text=""):
        found = run(binary, agent, words, text)
        self.runs += 1
        wanted = self.wanted.setdefault(key, found)
        if found != wanted:
            self.differences.append(f"{command} {' '.join(words)} at {agent.name}: {found}, and not {wanted}")


def compare(scene, binaries):
    comparison = Comparison()
    agents = {name: scene.single(binary, 1 + at) for at, (name, binary) in enumerate(binaries.items())}
    for agent in agents.values():
        # A node that has just started has no coordinate yet.
        eventually(
            f"{agent.name} has a coordinate",
            lambda agent=agent: json.loads(agent.call("GET", "/v1/coordinate/nodes")[2]),
        )
    for command, binary in reversed(binaries.items()):
        for name, agent in reversed(agents.items()):
            # With a store of its own each time: the last command empties it.
            for at, (words, text) in enumerate(KV):
                comparison.run(("kv", at), command, binary, agent, ["kv", *words], text)
            for at, words in enumerate(CLUSTER):
                comparison.run((name, at), command, binary, agent, words)
            comparison.run((name, "leave"), command, binary, agent, ["leave"])
            equal(agent.process.wait(PATIENCE), 0, f"the exit code of {agent.name} after it left")
            agent.start()
            agent.wait_leader()
    return comparison


def main():
    binaries = {"lictor": lictor()}
    if consul() is not None:
        binaries["consul"] = consul()
    with Scene() as scene:
        comparison = compare(scene, binaries)
    if "consul" not in binaries:
        equal(comparison.wanted["kv", 0], (0, "Success! Data written to: app/a\n", ""), "lictor kv put")
        equal(comparison.wanted["lictor", "leave"], (0, "Graceful leave complete\n", ""), "lictor leave")
    for difference in comparison.differences:
        print(f"DIFFERS: {difference}")
    check(not comparison.differences, f"{len(comparison.differences)} of {comparison.runs} commands differ")
    commands = len(KV) + len(CLUSTER) + 1
    print(f"commands: {comparison.runs} runs of {commands} commands with {' and '.join(binaries)}, all the same")


if __name__ == "__main__":
    sys.exit(main())
